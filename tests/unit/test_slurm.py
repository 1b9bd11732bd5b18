"""What is said of a SLURM cluster before a run."""

import pytest

from mlmgen import slurm
from mlmgen.errors import UserError

CONFIG = """Configuration data as of 2026-01-01T12:00:00
AccountingStorageHost   = localhost
AccountingStorageType   = {storage}
AccountingStorageUser   = N/A
MinJobAge               = {age}
"""


def config(storage: str = "accounting_storage/none", age: str = "300 sec") -> str:
    return CONFIG.format(storage=storage, age=age)


@pytest.mark.parametrize("storage", ["accounting_storage/none", "(null)"])
@pytest.mark.parametrize("status_command", ["sacct", None])
def test_sacct_without_accounting_is_refused(storage, status_command):
    with pytest.raises(UserError, match=r"would wait for ever.*slurm-status-command.*squeue") as error:
        slurm.check_states(status_command, 20, config(storage))
    assert storage in str(error.value)


def test_squeue_without_accounting_needs_jobs_to_be_remembered():
    slurm.check_states("squeue", 20, config())
    slurm.check_states("squeue", 20, config(age="60 sec"))
    with pytest.raises(UserError, match=r"after 30 seconds.*Set it to 10 instead of 20"):
        slurm.check_states("squeue", 20, config(age="30 sec"))


def test_accounting_serves_both():
    for status_command in ("sacct", "squeue", None):
        slurm.check_states(status_command, 40, config("accounting_storage/slurmdbd", "2 sec"))


def test_nothing_is_said_where_slurm_does_not_answer(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert slurm.configuration() == ""
    slurm.check_states("sacct", 40, slurm.configuration())
