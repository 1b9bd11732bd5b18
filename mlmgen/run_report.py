"""What one run of the workflow says beside its results: what it redoes, and when, where and how long it ran.

Times and hosts are in ``run.json``, never in the results: the same input and configuration give the same bytes.
"""

import datetime
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from mlmgen import __version__, config, io, provenance
from mlmgen.errors import UserError

RUN, PROVENANCE = "run.json", "provenance.json"
# Where one file of each stage is found.
RECORDS = {
    "fit": "fits/*/*/*.npz",
    "moderate": "moderated/*/*.npz",
    "test": "tests/*/*/*.npz",
    "stability": "stability/*/*.npz",
    "audit": "audit/*/*.npz",
}


def news(folder: str | os.PathLike, settings: dict) -> list[str]:
    """Say what differs from the results that are there: one line for each changed setting or method version.

    Parameters
    ----------
    folder : path-like
        The run's folder, which may not exist.
    settings : dict
        From `mlmgen.config.load`.

    Returns
    -------
    list of str
        Empty for a first run and where nothing has changed.
    """
    before, release = earlier(Path(folder))
    stages = (one for one in config.METHOD_VERSIONS if one not in ("stability", "audit") or settings[one])
    now = {stage: json.loads(config.stage(settings, stage)) for stage in stages}
    del now["tables"]["name"]  # it decides nothing
    lines = list(provenance.changes(before, now))
    if release not in ("", __version__):
        lines.insert(0, f"the results there are of mlmgen {release}, this is {__version__}")
    return lines


def earlier(folder: Path) -> tuple[dict[str, dict], str]:
    """Return the settings by stage, and mlmgen's version, of the results in a folder; of complete ones, or of parts.

    Of parts, those written last decide: others may be of cell types that are no longer analysed.
    """
    try:
        found = io.read_json(folder / PROVENANCE)
        return found["config"], found["versions"]["mlmgen"]
    except (UserError, KeyError):
        pass
    settings, release = {}, ""
    newest = (_newest(folder, pattern) for pattern in RECORDS.values())
    for _, meta in sorted(filter(None, newest), key=lambda one: one[0]):
        settings, release = settings | meta["settings"], meta["versions"]["mlmgen"]
    return settings, release


def _newest(folder: Path, pattern: str) -> tuple[int, dict] | None:
    """Return when the newest record that can be read was written, in ns, and what it says; None without any."""
    written = {path: path.stat().st_mtime_ns for path in sorted(folder.glob(pattern))}
    for path in sorted(written, key=written.__getitem__, reverse=True):
        try:
            meta = io.read_record_meta(path)
        except UserError:
            continue
        if meta.keys() >= {"settings", "versions"}:
            return written[path], meta
    return None


def finish(folder: str | os.PathLike, given: dict, started: float, cores: int | None = None) -> None:
    """Write ``run.json`` after a run that succeeded and delete what killed jobs have left, unless nothing ran.

    Parameters
    ----------
    folder : path-like
        The run's folder.
    given : dict
        The configuration as the user wrote it.
    started : float
        When the workflow began, in seconds since 1970.
    cores : int, optional
        That Snakemake was given.
    """
    folder = Path(folder)
    io.delete_leftovers(folder, started)
    jobs = io.read_benchmarks(folder / "benchmarks")
    if not any(job.ended >= started for job in jobs):
        return
    ended = max(job.ended for job in jobs)
    found = {
        "run": _run(folder),
        "started": _time(started),
        "finished": _time(ended),
        "seconds": round(ended - started, 1),
        "command": sys.argv,
        "cores": cores,
        "host": host(),
        "versions": provenance.versions(),
        "jobs": sum(job.ended >= started for job in jobs),
        "rules": dict(by_rule(jobs)),
        "config": json.loads(json.dumps(given, default=str)),  # YAML has dates
    }
    io.write_json(folder / RUN, found)


def _run(folder: Path) -> str:
    try:
        return io.read_json(folder / PROVENANCE).get("run", "")
    except UserError:
        return ""


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def by_rule(jobs: list) -> Iterator[tuple[str, dict]]:
    """Sum the measurements of each rule, slowest first: jobs, seconds in all and of the longest, MB of the largest."""
    rules = {job.rule: [other for other in jobs if other.rule == job.rule] for job in jobs}
    for rule, of_rule in sorted(rules.items(), key=lambda item: -sum(job.seconds for job in item[1])):
        yield (
            rule,
            {
                "jobs": len(of_rule),
                "seconds": round(sum(job.seconds for job in of_rule), 1),
                "longest": round(max(job.seconds for job in of_rule), 1),
                "memory_mb": max((job.memory for job in of_rule if job.memory is not None), default=None),
            },
        )


def host() -> dict[str, object]:
    """Describe the machine: byte identity holds on one kind of CPU, for which numba compiles."""
    return {"name": platform.node(), "cpu": _cpu(), "cpus": os.cpu_count(), "system": platform.platform()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
