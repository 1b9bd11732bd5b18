"""What Snakemake measured of each job: `benchmarks/<rule>/... .tsv`."""

import csv
import os
from pathlib import Path
from typing import NamedTuple


class Measured(NamedTuple):
    """Time and memory of one job."""

    rule: str
    seconds: float
    """Wall time."""
    memory: float | None
    """Most resident memory in MB; None for a job that was too short to see."""
    ended: float
    """Seconds since 1970."""


def read_benchmarks(folder: str | os.PathLike) -> list[Measured]:
    """Read the last measurement of every job, those of earlier runs included; unreadable files are left out."""
    found = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        try:
            with open(path, newline="", encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines, delimiter="\t"))
            seconds, memory = float(rows[-1]["s"]), _number(rows[-1]["max_rss"])
            found.append(Measured(rule, seconds, memory, path.stat().st_mtime))
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "-" or "NA"
        return None
