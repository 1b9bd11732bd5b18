"""The workflow through a real SLURM, two nodes on this machine: the bytes of a local run, also when jobs are killed.

tests/workflow/slurm/start.sh starts it where slurm-wlm and munge are installed and the tests run as root.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, Study, configuration
from tests.workflow.test_real_studies import DATA, STUDIES
from tests.workflow.test_workflow import digests

HERE = Path(__file__).parent / "slurm"
PROFILE = ["--workflow-profile", str(ROOT / "profiles" / "slurm")]
# The profile waits as is polite on a cluster; here a job takes seconds.
IMPATIENT = ["--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"]
IMPATIENT += ["--slurm-no-account", "--latency-wait", "20"]
SECONDS_FOR_A_JOB = 120

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> None:
    """A SLURM of this machine's own, ended after the tests."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([HERE / "start.sh", folder], capture_output=True, text=True, check=False)
    if started.returncode == 3:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    try:
        yield
    finally:
        subprocess.run([HERE / "stop.sh", folder], check=True, timeout=60)


def tables(folder: Path) -> dict[str, str]:
    """Checksums of all results."""
    return digests(folder / "results" / "small")


class Submitted:
    """A run of the workflow whose jobs go to SLURM.

    Attributes
    ----------
    folder : Path
        Its working directory.
    """

    def __init__(self, folder: Path, config: dict, with_mlmgen: bool = False):
        self.folder = folder
        written = str(folder / Study(folder, config).write())
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--nocolor"]
        command += ["--configfile", written]
        if with_mlmgen:
            command = [sys.executable, "-m", "mlmgen", "run", written, "--"]
        command += [*PROFILE, *IMPATIENT]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "MAKE", "SNAKEMAKE"))}
        with open(folder / "output", "w") as output:
            self.process = subprocess.Popen(command, cwd=folder, env=clean, stdout=output, stderr=subprocess.STDOUT)

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def completed(self, seconds: float = 900) -> dict[str, str]:
        """Wait for the end; return the checksums of all results."""
        try:
            returned = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise
        assert returned == 0, self.output()
        return tables(self.folder)

    def end(self) -> None:
        """Stop it, where a test failed; its jobs end with the cluster."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def fit_of(self, shards: set[str]) -> tuple[int, str]:
        """Wait until the fit of one of some shards runs; return the id of its process, and which."""
        for _ in polls(SECONDS_FOR_A_JOB):
            for path in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = set((path / "cmdline").read_bytes().decode(errors="replace").split("\0"))
                    if "fit" in words and words & shards and (path / "cwd").readlink() == self.folder:
                        return int(path.name), *(words & shards)
            assert self.process.poll() is None, self.output()
        raise AssertionError(f"no fit of {shards} ran within {SECONDS_FOR_A_JOB} seconds\n{self.output()}")

    def jobs(self, rule: str) -> list[tuple[int, str, str, int]]:
        """Return SLURM's id, state, wildcards and MB of the jobs of a rule, also of ended ones, in order."""
        command = ["squeue", "--states=all", "--noheader", "--format=%i|%T|%k|%m|%Z"]
        rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found = [row.split("|") for row in rows]
        return sorted(
            (int(job), state, comment, int(megabytes.removesuffix("M")))
            for job, state, comment, megabytes, folder in found
            if folder == str(self.folder) and re.match(rf"rule_{rule}(_wildcards|$)", comment)
        )


def polls(seconds: float):
    """Come back often until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)


@pytest.fixture(scope="module")
def config(data) -> dict:
    """One cell type and method of the small study, two shards; jobs that fit on any machine."""
    return configuration(data) | {"cell_types": ["B cells"], "methods": ["glmm"], "stability": False, "memory": 1}


@pytest.fixture(scope="module")
def local(config, tmp_path_factory) -> dict[str, str]:
    """The checksums of a run on this machine, without SLURM; kernels are compiled here."""
    study = Study(tmp_path_factory.mktemp("local"), config)
    finished = study.snakemake()
    assert finished.returncode == 0, finished.stdout
    return tables(study.folder)


@pytest.fixture(scope="module")
def runs(cluster, local, config, tmp_path_factory) -> tuple[Submitted, Submitted]:
    """Two runs at the same time, of `mlmgen run` and of Snakemake; of that a process and a job are killed that fit."""
    left_alone = Submitted(tmp_path_factory.mktemp("alone"), config, with_mlmgen=True)
    disturbed = Submitted(tmp_path_factory.mktemp("disturbed"), config)
    try:
        process, first = disturbed.fit_of({"1-of-2", "2-of-2"})
        os.kill(process, signal.SIGKILL)
        _, second = disturbed.fit_of({"1-of-2", "2-of-2"} - {first})
        (job,) = [job for job, _, shard, _ in disturbed.jobs("fit") if shard.endswith(second)]
        subprocess.run(["scancel", str(job)], check=True)
        yield left_alone, disturbed
    finally:
        left_alone.end()
        disturbed.end()


def test_the_cluster_gives_the_same_bytes_as_this_machine(runs, local):
    assert runs[0].completed() == local
    assert len(local) > 10


def test_killed_jobs_are_repeated_with_more_memory_and_give_the_same_bytes(runs, local):
    assert runs[1].completed() == local
    ended = set()
    for shard in ("1-of-2", "2-of-2"):
        (_, first, _, before), (_, second, _, after) = [job for job in runs[1].jobs("fit") if job[2].endswith(shard)]
        assert second == "COMPLETED"
        assert after > before
        ended.add(first)
    assert ended == {"FAILED", "CANCELLED"}


def test_every_job_went_to_the_cluster_on_its_own(runs, config, tmp_path):
    runs[0].completed()
    planned = Study(tmp_path, config).planned()
    for rule, number in planned.items():
        assert len(runs[0].jobs(rule)) == number, rule


def test_a_run_that_would_wait_for_ever_does_not_start(cluster, config, tmp_path):
    study = Study(tmp_path, config)
    finished = study.snakemake(*PROFILE, "--slurm-status-command", "sacct")
    assert finished.returncode == 2, finished.stdout
    *_, last = finished.stdout.splitlines()
    assert last.startswith("mlmgen: error: SLURM keeps no accounting here")
    assert last.endswith("Set it to squeue")
    assert not (tmp_path / "results").exists()


@pytest.mark.shared
@pytest.mark.skipif("MLMGEN_LONG" not in os.environ, reason="a hundred jobs take ten minutes; set MLMGEN_LONG=1")
def test_a_real_study_gives_the_same_bytes(cluster, tmp_path_factory):
    path = DATA / "kang18_pbmc.h5ad"
    if not path.is_file():
        pytest.skip(f"needs {path.name} of the shared data")
    config = {"name": "small", "input": str(path.resolve()), "donor": "donor"} | STUDIES["kang18_pbmc"]
    study = Study(tmp_path_factory.mktemp("local"), config)
    finished = study.snakemake()
    assert finished.returncode == 0, finished.stdout
    submitted = Submitted(tmp_path_factory.mktemp("kang"), config)
    try:
        assert submitted.completed(3600) == tables(study.folder)
    finally:
        submitted.end()
