"""Measure a run of the workflow from outside: time and memory by rule, Snakemake's own share, the input's reading.

    python -m benchmarks.scale.run --input million.h5ad --folder FOLDER [--cores 2] [--config KEY=VALUE ...]

The results of an earlier run in the folder are deleted. Nothing else should run meanwhile.
"""

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import h5py
import psutil

ROOT = Path(__file__).resolve().parents[2]
NAME = "scale"
# What is asked of each data set that `generate` writes.
CONFIG = {
    "name": NAME,
    "donor": "donor",
    "formula": "~ condition + (1 | donor)",
    "contrasts": {"stim_vs_ctrl": "condition[stim] - condition[ctrl]"},
}
SECONDS_BETWEEN_SAMPLES = 0.1
BLOCK = 1 << 24  # values that plain reading takes at a time
LIBRARIES = ("mlmgen", "snakemake", "h5py", "numpy", "numba")


class Job(NamedTuple):
    """A job as its benchmark file tells: rule, seconds since the epoch, CPU seconds and peak memory in MB."""

    rule: str
    start: float
    end: float
    cpu: float
    megabytes: float


class Run(NamedTuple):
    """A run: wall and CPU seconds with all children, jobs, largest process and largest sum of them in MB."""

    wall: float
    cpu: float
    jobs: tuple[Job, ...]
    largest: float
    together: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--input", type=Path, required=True, metavar="FILE")
    arguments.add_argument("--folder", type=Path, required=True, metavar="FOLDER")
    arguments.add_argument("--cores", type=int, default=2, metavar="N")
    arguments.add_argument("--config", nargs="*", default=(), metavar="KEY=VALUE", help="more of the configuration")
    chosen = arguments.parse_args()
    reading = read(chosen.input)
    measured = run(chosen.input, chosen.folder, chosen.cores, chosen.config)
    print(report(chosen.input, measured, reading, chosen.cores))


def read(path: Path) -> float:
    """Return the seconds that reading the counts once takes, block by block, with nothing done to them.

    The file is read into the system's cache before, as far as that holds it.
    """
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass
    started = time.monotonic()
    with h5py.File(path) as file:
        for name in ("data", "indices"):
            stored = file["X"][name]
            for start in range(0, stored.shape[0], BLOCK):
                stored[start : start + BLOCK]
    return time.monotonic() - started


def run(path: Path, folder: Path, cores: int, config: Sequence[str] = ()) -> Run:
    """Run the workflow on an input in a folder of its own and measure it."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("results", ".snakemake"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"input": str(path.resolve())}))
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", str(cores)]
    command += ["--configfile", "config.yaml", *(["--config", *config] if config else [])]
    before, started = os.times(), time.time()
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        memory = _Memory(process.pid)
        memory.start()
        code = process.wait()
        memory.stop()
    wall, after = time.time() - started, os.times()
    if code:
        sys.exit(f"the run failed with exit code {code}: {folder / 'log.txt'}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall, cpu, jobs(folder / "results" / NAME / "benchmarks"), memory.largest / 1e6, memory.together / 1e6)


class _Memory(threading.Thread):
    """Samples the resident memory of a process with its descendants, bytes."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.process, self.done = psutil.Process(pid), threading.Event()
        self.largest = self.together = 0

    def run(self) -> None:
        while not self.done.wait(SECONDS_BETWEEN_SAMPLES):
            sizes = []
            for process in self._processes():
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.Error:  # it has just ended
                    continue
            self.largest = max([self.largest, *sizes])
            self.together = max(self.together, sum(sizes))

    def _processes(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.Error:
            return []

    def stop(self) -> None:
        self.done.set()
        self.join()


def jobs(folder: Path) -> tuple[Job, ...]:
    """Read the benchmark files below a folder, each written when its job ended, in order of their ends."""
    found = []
    for path in folder.rglob("*.tsv"):
        with open(path, encoding="utf-8") as lines:
            (row,) = csv.DictReader(lines, delimiter="\t")
        rule, end = path.relative_to(folder).parts[0].removesuffix(".tsv"), path.stat().st_mtime
        found.append(Job(rule, end - float(row["s"]), end, number(row["cpu_time"]), number(row["max_rss"])))
    return tuple(sorted(found, key=lambda job: job.end))


def number(text: str) -> float:
    """Read a number of a benchmark file; jobs too short to be looked at have none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def covered(of: Sequence[Job]) -> float:
    """Return the seconds in which at least one of some jobs runs."""
    total, until = 0.0, 0.0
    for job in sorted(of, key=lambda job: job.start):
        total += max(0.0, job.end - max(job.start, until))
        until = max(until, job.end)
    return total


def report(path: Path, measured: Run, reading: float, cores: int) -> str:
    """Word what was measured as Markdown."""
    with h5py.File(path) as file:
        n, genes = file["X"].attrs["shape"]
        nonzeros = file["X/data"].shape[0]
    wall, of_jobs = measured.wall, measured.jobs
    busy, cpu = covered(of_jobs), sum(job.cpu for job in of_jobs)
    preparing = covered([job for job in of_jobs if job.rule in ("split", "size_factors", "prepare")])
    used = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    lines = [
        f"{date.today()}, Python {platform.python_version()}, {used}; {processor()}, {cores} cores used of "
        f"{os.cpu_count()}, {psutil.virtual_memory().total / 1e9:.0f} GB.",
        f"{n:,} cells x {genes:,} genes, {nonzeros:,} counts that are not zero, {path.stat().st_size / 1e9:.2f} GB.",
        "",
        "| | |",
        "|---|---|",
        f"| wall time | {wall:.0f} s |",
        f"| largest process | {measured.largest / 1000:.2f} GB |",
        f"| all processes at once, Snakemake's included | {measured.together / 1000:.2f} GB |",
        f"| reading X/data and X/indices once, nothing done | {reading:.1f} s |",
        f"| split and prepare | {preparing:.0f} s, {preparing / reading:.1f} times the reading |",
        f"| no job running: Snakemake's own time | {wall - busy:.1f} s, {(wall - busy) / wall:.1%} |",
        f"| CPU time, all processes | {measured.cpu:.0f} s, {measured.cpu / (wall * cores):.0%} of the cores |",
        f"| CPU time, jobs as sampled | {cpu:.0f} s, {cpu / (wall * cores):.0%} of the cores |",
        "",
        "| rule | jobs | seconds, sum | seconds, longest | at least one running, s | CPU s | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for rule in dict.fromkeys(job.rule for job in of_jobs):
        mine = [job for job in of_jobs if job.rule == rule]
        seconds = [job.end - job.start for job in mine]
        lines.append(
            f"| {rule} | {len(mine)} | {sum(seconds):.1f} | {max(seconds):.1f} | {covered(mine):.1f} | "
            f"{sum(job.cpu for job in mine):.1f} | {max(job.megabytes for job in mine):.0f} |"
        )
    return "\n".join(lines)


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
