"""`mlmgen run`, `mlmgen check` and `mlmgen init` as people type them, on the small simulated study."""

import contextlib
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from mlmgen import checking, jobs
from tests.workflow.conftest import run

MLMGEN = [sys.executable, "-m", "mlmgen"]
pytestmark = pytest.mark.slow


def mlmgen(folder: Path, *arguments: str):
    """Run the program in a folder; all its output is in stdout."""
    return run([*MLMGEN, *arguments], cwd=folder)


def started(folder: Path, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen([*MLMGEN, *arguments], cwd=folder, **options)


def working_in(folder: Path) -> list[str]:
    """Return the commands of processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += [shlex.join(process.cmdline())] * (process.cwd() == str(folder))
    return found


def until(condition, seconds: float = 120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def path_of_a_user(data, tmp_path_factory):
    """Init, check and run in a fresh folder; return the folder and what was printed."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(data, folder / "small.h5ad")
    printed = {}
    for command in (["init", "small.h5ad"], ["check", "config.yaml"], ["run", "config.yaml", "--cores", "2"]):
        finished = mlmgen(folder, *command)
        assert finished.returncode == 0, finished.stdout
        printed[command[0]] = finished.stdout
    return folder, printed


def test_three_commands_lead_to_results(path_of_a_user):
    folder, printed = path_of_a_user
    assert (folder / "results/small/effects.parquet").exists()
    assert "Discoveries at padj < 0.05" in printed["run"]
    assert re.search(r"^mlmgen: done in ", printed["run"], re.MULTILINE)
    assert "tables: results/small/" in printed["run"]
    assert "\r" not in printed["run"]
    assert "\033" not in printed["run"]
    assert "rule fit:" not in printed["run"]
    log = (folder / "results/small/logs/run.log").read_text()
    assert log.startswith("$ snakemake --snakefile ")
    assert "rule fit:" in log


def test_what_check_plans_is_what_the_workflow_does(path_of_a_user):
    """The jobs of each rule as `check` counts them and as Snakemake plans them."""
    folder, printed = path_of_a_user
    here = os.getcwd()
    os.chdir(folder)
    try:
        counted = jobs.counts(checking.planned("config.yaml", 2).jobs)
    finally:
        os.chdir(here)
    log = mlmgen(folder, "run", "config.yaml", "--dry-run", "--", "--forceall").stdout
    planned = dict(re.findall(r"(\w+) (\d+)", log.partition("about ")[2].partition(": ")[2]))
    assert {rule: int(number) for rule, number in planned.items()} == counted
    text = " ".join(printed["check"].split())
    assert all(f"{rule} {number}" in text for rule, number in counted.items())


def test_again_there_is_nothing_to_do(path_of_a_user):
    folder, _ = path_of_a_user
    before = (folder / "results/small/effects.parquet").stat().st_mtime_ns
    for more in ([], ["--dry-run"]):
        finished = mlmgen(folder, "run", "config.yaml", *more)
        assert finished.returncode == 0
        assert "nothing to do: the results are complete and up to date" in finished.stdout
    assert (folder / "results/small/effects.parquet").stat().st_mtime_ns == before


def test_what_a_change_redoes_is_said(path_of_a_user):
    folder, _ = path_of_a_user
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "other.yaml").write_text(yaml.safe_dump(config | {"fdr": "weighted"}))
    finished = mlmgen(folder, "run", "other.yaml", "--dry-run")
    assert finished.returncode == 0
    assert "tables.fdr was bh and is weighted" in finished.stdout
    planned = finished.stdout.partition("would run ")[2]
    assert "tables 1" in planned
    assert "fit" not in planned


def test_a_config_that_is_wrong_ends_with_one_line_and_2(data, tmp_path):
    shutil.copy(data, tmp_path / "small.h5ad")
    config = {"input": "small.h5ad", "donor": "donor", "formula": "~ condition + (1 | donor)"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config | {"contrasts": {"x": "condition[stm]"}}))
    finished = mlmgen(tmp_path, "run", "a.yaml")
    assert finished.returncode == 2
    errors = [line for line in finished.stdout.splitlines() if line.startswith("mlmgen: error: ")]
    assert len(errors) == 1
    assert "there is no coefficient or mean 'condition[stm]'" in errors[0]
    assert "Traceback" not in finished.stdout
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(config | {"donr": "x"}))
    finished = mlmgen(tmp_path, "run", "b.yaml")
    assert finished.returncode == 2
    assert finished.stdout.count("\n") == 1


def test_a_job_that_fails_is_quoted(data, tmp_path):
    """Values that are no counts are found by the job that reads them all."""
    import anndata

    made = anndata.read_h5ad(data)
    made.X = made.X.astype(float).tocsr()
    made.X.data[-1] = 0.5
    made.write_h5ad(tmp_path / "small.h5ad")
    config = {"input": "small.h5ad", "donor": "donor", "formula": "~ condition + (1 | donor)"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    finished = mlmgen(tmp_path, "run", "a.yaml", "--cores", "1")
    assert finished.returncode == 2
    assert "a job of split failed (log: results/small/logs/split.log)" in finished.stdout
    errors = [line for line in finished.stdout.splitlines() if line.startswith("mlmgen: error: ")]
    assert len(errors) == 1
    assert "rule split" not in finished.stdout


def test_until_stops_and_the_rest_goes_on(data, tmp_path):
    shutil.copy(data, tmp_path / "small.h5ad")
    assert mlmgen(tmp_path, "init", "small.h5ad").returncode == 0
    finished = mlmgen(tmp_path, "run", "config.yaml", "--until", "split")
    assert finished.returncode == 0, finished.stdout
    assert (tmp_path / "results/small/split/cells.npz").exists()
    assert not (tmp_path / "results/small/prepared").exists()
    assert "split" not in mlmgen(tmp_path, "run", "config.yaml", "--dry-run").stdout.partition("would run")[2]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_cleanly_and_goes_on(sent, data, tmp_path):
    shutil.copy(data, tmp_path / "small.h5ad")
    assert mlmgen(tmp_path, "init", "small.h5ad").returncode == 0
    process = started(tmp_path, "run", "config.yaml", stderr=subprocess.PIPE, text=True)
    until((tmp_path / "results/small/split/cells.npz").exists)
    assert len(working_in(tmp_path)) >= 2
    process.send_signal(sent)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "stopped. What is done is kept; `mlmgen run config.yaml` goes on from there" in printed
    assert "Traceback" not in printed
    assert "failed" not in printed
    assert working_in(tmp_path) == []
    finished = mlmgen(tmp_path, "run", "config.yaml", "--dry-run")
    assert finished.returncode == 0, finished.stdout  # not locked
    assert "would run" in finished.stdout


def test_two_runs_with_the_same_results_do_not_meet(data, tmp_path):
    shutil.copy(data, tmp_path / "small.h5ad")
    assert mlmgen(tmp_path, "init", "small.h5ad").returncode == 0
    log = tmp_path / "results/small/logs/run.log"
    process = started(tmp_path, "run", "config.yaml", stderr=subprocess.DEVNULL)
    until(lambda: log.exists() and "rule split" in log.read_text())
    second = mlmgen(tmp_path, "run", "config.yaml")
    assert second.returncode == 2
    assert "mlmgen: error: a run with these results goes on" in second.stdout
    assert log.read_text().startswith("$ snakemake")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


def test_a_dry_run_leaves_nothing_behind(data, tmp_path):
    shutil.copy(data, tmp_path / "small.h5ad")
    assert mlmgen(tmp_path, "init", "small.h5ad").returncode == 0
    finished = mlmgen(tmp_path, "run", "config.yaml", "--dry-run")
    assert finished.returncode == 0, finished.stdout
    assert "would run" in finished.stdout
    assert not (tmp_path / "results").exists()


def test_a_terminal_shows_one_line_and_colours(path_of_a_user):
    """Through a terminal of 80 columns: the report of a run that has something to do."""
    folder, _ = path_of_a_user
    (folder / "results/small/summary.txt").unlink()
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ |= {"TERM": "xterm"}
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [*MLMGEN, "run", "config.yaml"])
    printed = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not part:
            break
        printed += part
    _, status = os.waitpid(process, 0)
    text = printed.decode()
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert "\r\033[K[" in text
    assert "of 2 jobs" in text or "of 3 jobs" in text or "of 1 jobs" in text
    assert "\033[1mresults/small\033[0m" in text
