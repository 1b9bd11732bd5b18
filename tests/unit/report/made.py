"""A small run that never took place, for the tests of its report."""

from pathlib import Path

import pandas as pd

from benchmarks.report import synthetic
from benchmarks.report.synthetic import Size
from mlmgen import findings, io
from mlmgen.report import payload

SMALL = Size(3, 2, 200, tested=0.7, donors=6)


def written(folder: Path, size: Size = SMALL, **tables) -> Path:
    """Write a run; a keyword names a table and takes a function that changes it, or None to delete it."""
    synthetic.write(folder, size)
    for name, change in tables.items():
        path = folder / f"{name}.parquet"
        if change is None:
            forget(folder, name)
        else:
            change(pd.read_parquet(path)).to_parquet(path)
    return folder


def forget(folder: Path, name: str) -> None:
    """Delete a table, and what the provenance says of it."""
    (folder / f"{name}.parquet").unlink(missing_ok=True)
    said = io.read_json(folder / "provenance.json")
    said["files"].pop(f"{name}.parquet", None)
    io.write_json(folder / "provenance.json", {key: value for key, value in said.items() if key != "sha256"})


def changed(folder: Path, name: str, change) -> None:
    """Change a JSON file of the run."""
    said = {key: value for key, value in io.read_json(folder / name).items() if key != "sha256"}
    change(said)
    io.write_json(folder / name, said)


def source(folder: Path, size: Size = SMALL) -> payload.Source:
    """What the report is made from, the donors simulated."""
    stories = synthetic.stories(size, folder)
    return payload.Source(findings.read(folder), synthetic.cells(size), stories, synthetic.diagnostics(size))


def bare(folder: Path) -> payload.Source:
    """What the report of tables alone is made from."""
    return payload.source(findings.read(folder))
