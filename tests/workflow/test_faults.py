"""What is lost when something breaks: jobs and runs that are killed, full disks, files that are damaged or foreign.

``MLMGEN_FAULTS=benchmarks/faults/README.md pytest tests/workflow/test_faults.py`` writes what happened as a table.
"""

import contextlib
import hashlib
import json
import os
import random
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

from mlmgen import describe, io
from mlmgen.errors import UserError
from mlmgen.types import Effects, GeneFits
from tests.workflow.conftest import ROOT, SNAKEMAKE, Study, configuration, run

RESULTS = "results/small"
TARGETS = ("tables",)
NOT_RESULTS = ("logs", "benchmarks", "run.json")  # times and hosts
CONFIG = {"cell_types": ["Monocytes"], "methods": ["glmm"]}
FLIPPED = {"stim_vs_ctrl": "condition[ctrl] - condition[stim]"}
SHARD, OTHER = "fits/glmm/Monocytes/1-of-2.npz", "fits/glmm/Monocytes/2-of-2.npz"
LONGEST = 240  # seconds that a run may take on a busy machine
HEADER = """# What breaks, and what happens then

Written by `MLMGEN_FAULTS=benchmarks/faults/README.md pytest tests/workflow/test_faults.py`, which asserts every row:
one cell type of the demo in two shards, on one machine. "The same bytes" compares all results with those of a run
that nothing disturbed. No fault leaves a table that looks complete and is wrong: `mlmgen describe` of the folder either
names what is missing or changed, or the tables are those of a complete run, whose configuration they carry.

| what | when | what happened |
|---|---|---|
"""


@pytest.fixture(scope="module")
def matrix():
    """Rows of the table: what, when, what happened."""
    rows = []
    yield rows
    if path := os.environ.get("MLMGEN_FAULTS"):
        io.write_text(path, HEADER + "".join(f"| {' | '.join(row)} |\n" for row in rows))


def results(folder: Path) -> dict[str, str]:
    """Checksums of all results but what holds times, and without what killed jobs have left under temporary names."""
    root = folder / RESULTS
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in NOT_RESULTS and ".tmp/" not in f"{path}/"
    }


def tables(folder: Path) -> dict[str, str]:
    """Checksums of what the job `tables` writes."""
    own = {name: digest for name, digest in results(folder).items() if "/" not in name}
    return {name: digest for name, digest in own.items() if not name.startswith(("contrasts.", "design.", "report."))}


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> Study:
    """The study, run to the end once."""
    made = Study(tmp_path_factory.mktemp("undisturbed"), configuration(data) | CONFIG, TARGETS)
    finished = made.snakemake()
    assert finished.returncode == 0, finished.stdout
    return made


@pytest.fixture
def copy(undisturbed, tmp_path) -> Study:
    """A copy of the completed study, with Snakemake's memory of it."""
    shutil.copytree(undisturbed.folder, tmp_path / "copy", symlinks=True)
    return Study(tmp_path / "copy", undisturbed.config, TARGETS)


@pytest.fixture
def empty(undisturbed, tmp_path) -> Study:
    return Study(tmp_path, undisturbed.config, TARGETS)


class Running:
    """A run in a session of its own, as from another terminal."""

    def __init__(self, study: Study, *arguments: str, **changes):
        command = [
            *SNAKEMAKE,
            *study.targets,
            "-s",
            str(ROOT / "Snakefile"),
            "--directory",
            str(study.folder),
            *arguments,
        ]
        command += ["--configfile", str(study.folder / study.write(**changes))]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MAKE", "SNAKEMAKE"))}
        self.output = study.folder / "output.txt"
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait_for(self, condition) -> bool:
        """Wait until something is there; False where the run ended before."""
        until = time.monotonic() + LONGEST
        while not (found := condition()) and not self.ended():
            assert time.monotonic() < until, self.output.read_text()
            time.sleep(0.01)
        return bool(found)

    def job(self, stage: str) -> psutil.Process | None:
        """The process of a stage that runs now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    command = process.cmdline()
                    if len(command) > 2 and command[1].endswith("/mlmgen") and command[2] == stage:
                        return process
        return None

    def finish(self) -> int:
        return self.process.wait(LONGEST)

    def clean(self) -> None:
        """End what a killed main process has left running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def done(study: Study) -> int:
    """Count the jobs that have ended."""
    return len(list((study.folder / RESULTS / "benchmarks").rglob("*.tsv")))


def nothing_looks_complete_and_is_wrong(folder: Path, *complete: dict[str, str]) -> str:
    """Check what is there after a fault; return in words what the tables are.

    Every file under its final name has the bytes of one of the complete runs, and `describe` says it where the tables
    are not one set.
    """
    if not (folder / RESULTS).is_dir():
        return "nothing is there yet"
    found = results(folder)
    for name, digest in found.items():
        assert any(one.get(name) == digest for one in complete), f"{name} is of no complete run"
    try:
        said = describe.described(folder / RESULTS)
    except UserError:  # nothing of mlmgen yet
        assert not tables(folder)
        return "no table"
    if said["kind"] == "run" and all(one["state"] == "complete" for one in said["files"].values()):
        present = {name: found[name] for name in (*said["files"], "provenance.json")}
        assert any(present.items() <= one.items() for one in complete)
        return "the tables are those of a complete run"
    assert said["warnings"]
    return "no table" if not tables(folder) else "`describe` says that the tables are not complete"


def resumed(study: Study, undisturbed: Study, *arguments: str, **changes) -> None:
    """Run to the end, which has to give the bytes of the undisturbed run and leave no temporary file."""
    finished = study.snakemake(*arguments, **changes)
    assert finished.returncode == 0, finished.stdout
    assert results(study.folder) == results(undisturbed.folder)
    assert not list((study.folder / RESULTS).rglob("*.tmp"))


# ---- killed


def test_jobs_killed_in_every_stage(empty, undisturbed, matrix):
    """One run, in which the first job of each stage is killed in turn."""
    chance, complete = random.Random(1), results(undisturbed.folder)
    for stage in ("split", "prepare", "fit", "moderate", "test", "stability", "tables"):
        started, delay = Running(empty), chance.uniform(0, 0.4)
        jobs = []
        assert started.wait_for(lambda s=started, j=jobs, w=stage: (p := s.job(w)) and (j.append(p) or True)), (
            started.output.read_text()
        )
        time.sleep(delay)
        jobs[0].kill()
        assert started.finish() == 1, started.output.read_text()
        assert "Traceback" not in started.output.read_text()
        state = nothing_looks_complete_and_is_wrong(empty.folder, complete)
        matrix.append((f"SIGKILL of a job `{stage}`", "0 to 0.4 s after its start", f"the run ends with 1; {state}"))
    resumed(empty, undisturbed)
    matrix.append(
        ("resuming after all of these", "", "the same bytes as the undisturbed run, no temporary file is left")
    )


def test_the_run_killed_at_random_times(empty, undisturbed, matrix):
    """The main process is killed, its jobs go on; the next run starts at once, beside them."""
    chance, complete, at = random.Random(2), results(undisturbed.folder), []
    runs = []
    for n in sorted(chance.sample(range(1, 9), 3)):
        started = Running(empty, *(["--nolock"] if runs else []))
        runs.append(started)
        assert started.wait_for(lambda n=n: done(empty) >= n)
        time.sleep(chance.uniform(0, 0.7))
        started.process.kill()
        started.finish()
        state = nothing_looks_complete_and_is_wrong(empty.folder, complete)
        at.append(done(empty))
        matrix.append(("SIGKILL of the main process, jobs go on", f"{at[-1]} jobs had ended", state))
    locked = empty.snakemake()
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout
    assert empty.snakemake("--unlock").returncode == 0
    resumed(empty, undisturbed)
    for started in runs:
        started.clean()
    happened = "refused while the folder is locked; after `snakemake --unlock` the same bytes as the undisturbed run"
    matrix.append(("resuming after all of these, beside the jobs that go on", "", happened))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_run_is_asked_to_stop(empty, undisturbed, matrix, name):
    chance, complete = random.Random(name), results(undisturbed.folder)
    started = Running(empty)
    assert started.wait_for(lambda: done(empty) >= chance.randint(1, 5))
    time.sleep(chance.uniform(0, 1.0))
    if name == "SIGINT":  # Ctrl-C reaches all processes of the terminal
        os.killpg(started.process.pid, signal.SIGINT)
    else:
        started.process.terminate()
    assert started.finish() != 0
    started.clean()
    state = nothing_looks_complete_and_is_wrong(empty.folder, complete)
    resumed(empty, undisturbed)
    matrix.append((f"{name} of the run", "at a random time", f"{state}; resumed without unlocking, the same bytes"))


@pytest.fixture(scope="module")
def flipped(undisturbed, tmp_path_factory) -> Study:
    """The same study with the contrast the other way round, in a folder of its own."""
    folder = tmp_path_factory.mktemp("flipped") / "copy"
    shutil.copytree(undisturbed.folder, folder, symlinks=True)
    made = Study(folder, undisturbed.config | {"contrasts": FLIPPED}, TARGETS)
    finished = made.snakemake()
    assert finished.returncode == 0, finished.stdout
    return made


def test_a_changed_contrast_killed_half_way_leaves_the_earlier_tables(copy, undisturbed, flipped, matrix):
    before, after = results(undisturbed.folder), results(flipped.folder)
    assert before["effects.parquet"] != after["effects.parquet"]
    for stage in ("test", "tables"):
        started = Running(copy, contrasts=FLIPPED)
        jobs = []
        assert started.wait_for(lambda s=started, j=jobs, w=stage: (p := s.job(w)) and (j.append(p) or True))
        time.sleep(0.2)
        jobs[0].kill()
        assert started.finish() == 1, started.output.read_text()
        state = nothing_looks_complete_and_is_wrong(copy.folder, before, after)
        kept = {} if stage == "tables" else tables(undisturbed.folder)  # Snakemake deletes what a job is to write
        assert tables(copy.folder) == kept
        when = "0.2 s after its start, with tables of another contrast there"
        matrix.append((f"SIGKILL of a job `{stage}`", when, f"{state}: the earlier ones" if kept else state))
    resumed(copy, flipped, contrasts=FLIPPED)
    matrix.append(("resuming after these", "", "the same bytes as the undisturbed run of the new contrast"))


# ---- full disks


def mounted(place: Path, size: int, *options: str) -> bool:
    """Make a disk of so many bytes, or change the size of one; False without the right to."""
    mount = ["mount", "-o", ",".join([*options, f"size={size}"])]
    mount += [str(place)] if options else ["-t", "tmpfs", "tmpfs", str(place)]
    return os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_full_disk(empty, undisturbed, matrix, share):
    place, needed = empty.folder / RESULTS, undisturbed.folder / RESULTS
    place.mkdir(parents=True)
    size = int(share * sum(path.stat().st_size + 4096 for path in needed.rglob("*")))
    if not mounted(place, size):
        pytest.skip("needs the right to mount a small disk")
    try:
        finished = empty.snakemake()
        assert finished.returncode != 0
        assert "No space left on device" in finished.stdout, finished.stdout
        state = nothing_looks_complete_and_is_wrong(empty.folder, results(undisturbed.folder))
        errors = [line for line in finished.stdout.splitlines() if line.startswith("mlmgen: error: ")]
        assert mounted(place, 64_000_000, "remount")
        resumed(empty, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    said = f"`{errors[-1].removeprefix('mlmgen: error: ')}`" if errors else "the system's error"
    happened = f"the run ends with {said}; {state}; resumed with more room, the same bytes"
    matrix.append((f"full disk, with room for {share:.0%} of the results", "while they are written", happened))


# ---- damaged and foreign files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.Random(str(path.name)).randrange(len(content))] ^= 16
    path.write_bytes(content)


def changed(path: Path, cls: type, change) -> None:
    record, meta = io.read_record(path, cls)
    change(meta)
    io.write_record(path, record, meta)


def of_another_config(path: Path) -> None:
    """Fit the shard with another family, as a run of another folder would have."""
    meta = io.read_record_meta(path)
    before = {stage: value for stage, value in meta["settings"].items() if stage != "fit"}
    settings = meta["settings"]["fit"] | {"family": "poisson", "before": before}
    counts = path.parents[3] / "prepared" / f"{path.parent.name}.h5ad"
    command = [sys.executable, "-m", "mlmgen", "fit", "--counts", str(counts), "--method", "glmm"]
    command += ["--shard", path.stem, "--output", str(path), "--settings", json.dumps(settings)]
    finished = run(command)
    assert finished.returncode == 0, finished.stdout


def of_another_input(path: Path) -> None:
    changed(path, Effects, lambda meta: meta.update(input="0" * 64))


def of_other_genes(path: Path) -> None:
    changed(path, GeneFits, lambda meta: meta["genes"].update(names="0" * 64))


def of_another_shard(path: Path) -> None:
    shutil.copy(path.with_name("2-of-2.npz"), path)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


TEST, MODERATED = SHARD.replace("fits", "tests"), "moderated/glmm/Monocytes.npz"
PREPARED = "prepared/Monocytes.h5ad"
REFUSED = {
    "a shard of fits is cut in the middle": (cut, SHARD, "the file is damaged or not mlmgen's"),
    "a bit of a shard of fits is flipped": (flip, SHARD, "the file is damaged or not mlmgen's"),
    "a shard of fits is empty": (emptied, SHARD, "it is empty"),
    "a shard of fits with another family is copied in": (of_another_config, SHARD, "fit.family is poisson there"),
    "a shard of fits of other genes is copied in": (of_other_genes, SHARD, "its genes are not those of this run"),
    "shard 2 of the fits is copied over shard 1": (of_another_shard, SHARD, "shard is 2 of 2 there and 1 of 2"),
    "a shard of tests of an earlier input is copied in": (
        of_another_input,
        TEST,
        "checksum 000000000000..., that of this run ",
    ),
    "a bit of the moderated variances is flipped": (flip, MODERATED, "the file is damaged or not mlmgen's"),
    "a prepared file is cut in the middle": (cut, PREPARED, "the file is damaged or not mlmgen's"),
    "a bit of a prepared file is flipped": (flip, PREPARED, "the file is damaged or not mlmgen's"),
    "a bit of the split counts is flipped": (flip, "split/Monocytes.h5", "the file is damaged or not mlmgen's"),
    "the resolved contrasts are cut": (cut, "contrasts.json", "this is not a JSON file"),
}
MENDED = {"a shard of fits with another family is copied in", "a bit of a prepared file is flipped"}


@pytest.mark.parametrize("what", REFUSED)
def test_damaged_and_foreign_files_are_refused_by_name(copy, undisturbed, matrix, what):
    fault, name, message = REFUSED[what]
    path = copy.folder / RESULTS / name
    before = tables(copy.folder)
    fault(path)
    finished = copy.snakemake()
    assert finished.returncode == 1, finished.stdout
    *_, error = (line for line in finished.stdout.splitlines() if line.startswith("mlmgen: error: "))
    assert message in error
    assert f"{RESULTS}/{name}" in error
    assert "Traceback" not in finished.stdout
    kept = before if name != "contrasts.json" else {}  # the job `tables` itself fails
    assert tables(copy.folder) == kept
    left = "the tables are unchanged" if kept == before else "there is no table"
    happened = f"the run ends with 1: `{error.removeprefix('mlmgen: error: ')}`; {left}"
    if what in MENDED:
        listed = re.search(r"rm -r (.*)$", error)
        for one in shlex.split(listed[1]) if listed else [str(path)]:
            (copy.folder / one).unlink()
        assert copy.planned() == {}  # the tables are there, and right
        resumed(copy, undisturbed, "--forcerun", "tables")
        happened += "; after deleting the file as it says, the same bytes"
    matrix.append((what, "after a complete run", happened.replace("|", "\\|")))


GONE = (
    ([OTHER], {"fit": 1, "moderate": 1, "test": 2, "stability": 1, "tables": 1}),
    ([MODERATED, TEST], {"moderate": 1, "test": 2, "stability": 1, "tables": 1}),
)


@pytest.mark.parametrize(("names", "expected"), GONE, ids=["shard", "moderated"])
def test_files_that_are_gone_are_made_again_when_they_are_needed(copy, undisturbed, matrix, names, expected):
    for name in names:
        (copy.folder / RESULTS / name).unlink()
    assert copy.planned() == {}
    assert describe.described(copy.folder / RESULTS)["warnings"] == []
    assert copy.planned("--forcerun", "tables") == expected
    resumed(copy, undisturbed, "--forcerun", "tables")
    happened = (
        "nothing is done, the tables are complete without; where the tables are made again, so is it, the same bytes"
    )
    matrix.append((f"{' and '.join(names)} deleted", "after a complete run", happened))


def test_a_table_that_is_gone_is_made_again(copy, undisturbed, matrix):
    (copy.folder / RESULTS / "effects.parquet").unlink()
    said = describe.described(copy.folder / RESULTS)["warnings"]
    assert any("effects.parquet is missing: run the workflow again" in one for one in said)
    assert copy.planned() == {"tables": 1}
    resumed(copy, undisturbed)
    happened = "`mlmgen describe` names it; the next run makes the tables again, the same bytes"
    matrix.append(("effects.parquet deleted", "after a complete run", happened))


def test_a_table_that_was_damaged_is_said(copy, matrix):
    for fault, name in ((cut, "effects.parquet"), (flip, "fits.tsv.gz")):
        fault(copy.folder / RESULTS / name)
        finished = run([sys.executable, "-m", "mlmgen", "describe", str(copy.folder / RESULTS)])
        assert finished.returncode == 0
        assert "incomplete results" in finished.stdout
        assert f"{name} is not the file that was written with the others" in finished.stdout
        matrix.append(
            (f"{name} damaged", "after a complete run", "`mlmgen describe` names it; delete it and run again")
        )
