"""Results on disk: one file per setting and data set, so that a study can be stopped, resumed and extended."""

import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.calibration.simulated import DataSet, totals

VERSIONS = "versions.json"
HERE = Path(__file__).parent
# The code that results depend on, beside the programs themselves.
CODE = {
    "ours": (*sorted((HERE.parents[1] / "mlmgen").rglob("*.py")), HERE / "ours.py"),
    "others": (HERE / "others.py",),
}


def path(folder: Path, setting: str, number: int) -> Path:
    """Return the file of one data set."""
    return folder / re.sub(r"[^A-Za-z0-9.%]+", "_", setting) / f"{number:04d}.parquet"


def read(folder: Path, setting: str) -> dict[int, pd.DataFrame]:
    """Return the tables of a setting by the number of the data set."""
    return {int(file.stem): pd.read_parquet(file) for file in sorted(path(folder, setting, 0).parent.glob("*.parquet"))}


def read_one(folder: Path, setting: str, number: int) -> pd.DataFrame | None:
    """Return the table of a data set, or None where nothing was run."""
    file = path(folder, setting, number)
    return pd.read_parquet(file) if file.exists() else None


def programs(table: pd.DataFrame | None) -> set[str]:
    """Return the programs whose results a table has."""
    return (
        set() if table is None else {name.removesuffix("|log_p") for name in table.columns if name.endswith("|log_p")}
    )


@cache
def code(whose: str) -> str:
    """Return a digest of the code behind the results of ``ours`` or ``others``."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in CODE[whose])).hexdigest()[:12]


def is_of(table: pd.DataFrame | None, program: str, digest: str) -> bool:
    """Tell whether a table has results of a program by this code."""
    name = f"{program}|code"
    return table is not None and name in table and (table[name] == digest).all()


def truth(data: DataSet) -> pd.DataFrame:
    """Return the table of a data set before any program: total count and what is true, a row a gene."""
    columns = {"gene": data.counts.genes, "total": totals(data.counts), "effect": data.effect, "true phi": data.phi}
    return pd.DataFrame(columns | {f"true v{v}": x for v, x in enumerate(data.variance.T)})


def add(table: pd.DataFrame, program: str, found: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return the table with the columns of a program, those of an earlier run replaced."""
    table = table[[name for name in table.columns if not name.startswith(f"{program}|")]]
    return table.assign(**{f"{program}|{name}": values for name, values in found.items()})


def write(folder: Path, setting: str, number: int, table: pd.DataFrame) -> None:
    """Write the table of a data set under a temporary name and rename it."""
    file = path(folder, setting, number)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".writing")
    table.to_parquet(temporary, index=False)
    os.replace(temporary, file)


def versions(folder: Path) -> dict[str, str]:
    """Return the version of each program that was run."""
    file = folder / VERSIONS
    return json.loads(file.read_text()) if file.exists() else {}


def note_version(folder: Path, program: str, version: str) -> None:
    """Keep the version of a program with the results."""
    known = versions(folder)
    if known.get(program) != version:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / VERSIONS).write_text(json.dumps(known | {program: version}, indent=1, sort_keys=True) + "\n")
