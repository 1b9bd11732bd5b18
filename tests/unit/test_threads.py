"""No job has more threads than it is given, whatever the libraries would start on their own."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlmgen import cli
from tests.unit.stages_run import Run
from tests.unit.test_stages import study

# Threads that the stage starts itself: split reads ahead while it sorts, and takes the checksum of the input meanwhile.
OWN = {"split": 2}
# What Arrow's allocator returns memory with, asleep nearly always; pandas loads it.
ASLEEP = "jemalloc_bg_thd"


def most_threads(command: list[str], environment: dict[str, str]) -> int:
    """Run a process and return the largest number of threads that it had in two looks one after the other.

    A thread gets its name after its start, so that a single look may take Arrow's for another.
    """
    most = before = 0
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            now = sum(name != ASLEEP for name in names(process.pid))
            most, before = max(most, min(before, now)), now
            time.sleep(0.002)
        assert process.returncode == 0, process.stderr.read()
    return most


def names(pid: int) -> list[str]:
    """The names of a process's threads; those that have just ended are left out."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            found.append(task.read_text().strip())
    return found


def commands(run: Run, path: str) -> dict[str, list[str]]:
    """The arguments of every stage for one cell type, in order."""
    folder, slug = run.folder, Path(path).stem
    split = [str(folder / "split" / f"{Path(p).stem}.h5") for p in run.paths("split")]
    fits, moderated, tests = (f"{folder}/{kind}/glmm/{slug}" for kind in ("fits", "moderated", "tests"))
    chosen = {
        "split": ["--input", run.input, "--output", *split, "--cells", run.cells],
        "prepare": ["--input", run.input, "--split", split[1], "--cells", run.cells, "--output", path]
        + ["--pseudobulk", folder / "pseudobulk" / f"{slug}.h5ad"],
        "contrasts": ["--input", run.input, "--cells", run.cells, "--prepared", path]
        + ["--output", folder / "contrasts.json", "--design", folder / "design", "--methods", "glmm"],
        "fit": ["--counts", path, "--method", "glmm", "--output", f"{fits}/1-of-1.npz"],
        "moderate": ["--counts", path, "--fits", f"{fits}/1-of-1.npz", "--output", f"{moderated}.npz"],
        "test": ["--counts", path, "--fits", f"{fits}/1-of-1.npz", "--moderated", f"{moderated}.npz"]
        + ["--output", f"{tests}/1-of-1.npz"],
        "stability": ["--counts", path, "--method", "glmm", "--methods", "glmm", "--shards", 1, "--results", folder]
        + ["--output", f"{folder}/stability/glmm/{slug}.npz"],
        "audit": ["--prepared", path, "--method", "glmm", "--output", f"{folder}/audit/glmm/{slug}.npz"]
        + ["--fit", json.dumps(run.settings("fit"))],
        "tables": ["--prepared", path, "--contrasts", folder / "contrasts.json", "--input", run.input]
        + ["--methods", "glmm", "--shards", 1, "--results", folder],
    }
    return {
        stage: [stage, *map(str, given), "--settings", json.dumps(run.settings(stage))]
        for stage, given in chosen.items()
    }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are looked up in /proc")
def test_no_stage_has_more_threads_than_it_is_given(tmp_path):
    """On a machine with many cores libraries start a thread for each; here every stage is told to take one."""
    run = Run(tmp_path, study(), methods=["glmm"], audit_splits=2, name="threads")
    path = run.paths("prepared")[1]
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    environment = {name: value for name, value in environment.items() if name not in cli.ONE_THREAD}
    for stage, given in commands(run, path).items():
        most = most_threads([sys.executable, "-m", "mlmgen", *given], environment)
        assert 1 <= most <= 1 + OWN.get(stage, 0), stage
