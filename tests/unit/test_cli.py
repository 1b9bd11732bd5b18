"""The command line: arguments, exit codes, and what is set before heavy imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlmgen import cli
from mlmgen.errors import UserError


@pytest.fixture
def called(monkeypatch):
    """Replace the import of stages by a recorder of their arguments; the environment is restored."""
    calls = []

    class Module:
        def __getattr__(self, name):
            return lambda **given: calls.append((name, given))

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Module())
    monkeypatch.setattr(cli, "prepare_environment", lambda threads: None)
    return calls


def test_fit_gets_its_arguments(called):
    cli.main(
        ["fit", "--counts", "a.h5ad", "--method", "glmm", "--shard", "3-of-16", "--output", "o.npz"]
        + ["--settings", '{"family":"nb"}', "--threads", "4"]
    )
    assert called == [
        (
            "fit",
            {
                "counts": "a.h5ad",
                "method": "glmm",
                "shard": (3, 16),
                "output": "o.npz",
                "settings": {"family": "nb"},
                "threads": 4,
            },
        )
    ]


def test_contrasts_get_the_methods_to_come(called):
    files = ["--input", "i.h5ad", "--cells", "c.npz", "--prepared", "a.h5ad", "b.h5ad", "--output", "o.json"]
    cli.main(["contrasts", *files, "--methods", "glmm", "pseudobulk"])
    ((name, arguments),) = called
    assert name == "contrasts"
    assert arguments["prepared"] == ["a.h5ad", "b.h5ad"]
    assert arguments["methods"] == ["glmm", "pseudobulk"]


def test_prepare_gets_all_cell_types_and_its_memory(called):
    files = ["--input", "a.h5ad", "--split", "s.h5", "--cells", "c.npz", "--output", "b.h5ad", "--pseudobulk", "p.h5ad"]
    cli.main(["prepare", *files])
    assert (called[0][1]["cell_types"], called[0][1]["memory"]) == ("all", 2000)
    cli.main(["prepare", *files, "--cell-types", '["B", "T/NK"]', "--memory", "3500"])
    assert (called[1][1]["cell_types"], called[1][1]["memory"]) == (["B", "T/NK"], 3500)


@pytest.mark.parametrize("shard", ["0-of-3", "4-of-3", "3", "a-of-b", "-1-of-3"])
def test_shards_that_do_not_exist_are_refused(shard, called, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit", "--counts", "a", "--method", "glmm", f"--shard={shard}", "--output", "o", "--settings", "{}"])
    assert stop.value.code == 2
    assert "is not a shard such as 3-of-16" in capsys.readouterr().err


def test_every_stage_has_a_subcommand():
    (commands,) = (action for action in cli.parser()._actions if hasattr(action, "choices") and action.choices)
    assert list(commands.choices) == list(cli.STAGES)


def test_user_errors_are_one_line_and_exit_2(monkeypatch, capsys, tmp_path):
    class Module:
        def fit(**given):
            raise UserError("3 genes have\nnegative counts", "data.h5ad, X", "Give raw counts.")

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Module)
    monkeypatch.setattr(cli, "prepare_environment", lambda threads: None)
    log = tmp_path / "fit.log"
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit", "--counts", "a", "--method", "glmm", "--output", "o", "--settings", "{}", "--log", str(log)])
    assert stop.value.code == 2
    expected = "mlmgen: error: 3 genes have negative counts (in data.h5ad, X). Give raw counts.\n"
    assert capsys.readouterr().err == expected
    assert (
        log.read_text() == f"$ mlmgen fit --counts a --method glmm --output o --settings '{{}}' --log {log}\n{expected}"
    )


def test_bugs_keep_their_traceback_also_in_the_log(tmp_path):
    log = tmp_path / "fit.log"
    code = (
        "import mlmgen.cli as cli, types;"
        "module = types.SimpleNamespace(fit=lambda **given: 1 / 0);"
        "cli.importlib = types.SimpleNamespace(import_module=lambda name: module);"
        "arguments = 'fit --counts a --method glmm --output o --settings {} --log'.split();"
        f"cli.main([*arguments, {str(log)!r}])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ZeroDivisionError" in run.stderr
    assert "ZeroDivisionError" in log.read_text()


def test_threads_are_set_before_numpy_is_imported(monkeypatch):
    for name in ("NUMBA_NUM_THREADS", *cli.ONE_THREAD):
        monkeypatch.setenv(name, "7")
    cli.prepare_environment(3)
    assert os.environ["NUMBA_NUM_THREADS"] == "3"
    assert {os.environ[name] for name in cli.ONE_THREAD} == {"1"}


def test_help_is_light():
    code = "import sys, mlmgen.cli; mlmgen.cli.parser(); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_console_command_and_the_module_agree():
    for command in (["mlmgen"], ["python", "-m", "mlmgen"]):
        program = [str(Path(sys.executable).parent / command[0]), *command[1:], "--version"]
        run = subprocess.run(program, capture_output=True, text=True, check=True)
        assert run.stdout.startswith("mlmgen ")
