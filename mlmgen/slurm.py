"""What must hold of a SLURM cluster before jobs go to it: that finished jobs can be told from lost ones."""

import re
import subprocess

from mlmgen.errors import UserError

ACCOUNTING = "accounting_storage/slurmdbd"
SECONDS_FOR_AN_ANSWER = 20
# The executor plugin asks with sacct after all where SLURM forgets a job before the third check.
CHECKS_REMEMBERED = 3


def configuration() -> str:
    """Ask SLURM for its configuration, as text; empty where it does not answer, which submitting will show."""
    command = ["scontrol", "show", "config"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_FOR_AN_ANSWER, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def check_states(status_command: str | None, seconds: int, config: str) -> None:
    """Refuse to start where the states of jobs cannot be asked for: the run would wait for ever.

    Parameters
    ----------
    status_command : str or None
        Of the executor plugin: ``sacct`` or ``squeue``.
    seconds : int
        Until the executor plugin first asks for the state of a job.
    config : str
        What ``scontrol show config`` prints.

    Raises
    ------
    UserError
        Where SLURM keeps no accounting and is asked for it.
    """
    storage = setting("AccountingStorageType", config)
    if storage in (None, ACCOUNTING):
        return
    what = f"SLURM keeps no accounting here (AccountingStorageType is {storage})"
    if status_command != "squeue":
        raise UserError(
            f"{what}, so {status_command or 'sacct'} will never tell that a job ended and the run would wait for ever",
            "option slurm-status-command, of the profile or the command line",
            "Set it to squeue",
        )
    remembered = setting("MinJobAge", config)
    kept = int(re.match(r"\d*", remembered or "")[0] or 0)
    if kept < CHECKS_REMEMBERED * seconds:
        raise UserError(
            f"{what} and forgets finished jobs after {kept} seconds (MinJobAge), before it is asked for them",
            "option slurm-init-seconds-before-status-checks, of the profile or the command line",
            f"Set it to {max(1, kept // CHECKS_REMEMBERED)} instead of {seconds}",
        )


def setting(name: str, config: str) -> str | None:
    """Return one value of SLURM's configuration; None where it is not there."""
    found = re.search(rf"^{name}\s*=\s*(.*?)\s*$", config, re.MULTILINE)
    return found[1] if found else None
