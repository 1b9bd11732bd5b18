"""The donors of a run: their cells in each cell type, their covariates, and their samples, from the prepared files."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen import formula, io
from mlmgen.findings import Findings
from mlmgen.report.packing import rounded

if TYPE_CHECKING:
    import pandas as pd

NONE = np.zeros(0, dtype=np.int64)
FEW = re.compile(r"donors with fewer than (?P<least>\d+) cells are left out: (?P<donors>.*)")
ONE = re.compile(r"(?P<donor>.+?) \((?P<cells>[\d,]+)\)(?:, |$)")
MOST_SAMPLES = 2000


class Cells(NamedTuple):
    """The cells of one cell type: ``obs`` as prepared (None for one that is skipped), and what was said about it."""

    t: int
    obs: "pd.DataFrame | None"
    warnings: tuple[str, ...]


def read(findings: Findings) -> tuple[Cells, ...]:
    """Read what matters of obs of every prepared file; empty where one is not there, as where only tables were copied.

    Raises
    ------
    UserError
        Where a file is damaged.
    """
    donor, text = findings.config["prepare"]["donor"], findings.provenance["formula"]
    paths = [findings.folder / "prepared" / f"{one['slug']}.h5ad" for one in findings.provenance["cell_types"].values()]
    if not all(path.is_file() for path in paths):
        return ()
    found = []
    for t, path in enumerate(paths):
        meta = io.read_meta(path)
        obs = None if meta["skipped"] else io.read_prepared_cells(path, NONE)[1].reset_index(drop=True)
        if obs is not None:
            wanted = dict.fromkeys([donor, "sample", *formula.variables(formula.parse(text))])
            obs = obs[[name for name in wanted if name in obs]]
        found.append(Cells(t, obs, tuple(meta["warnings"])))
    return tuple(found)


def section(cells: tuple[Cells, ...], donor: str, text: str) -> dict:
    """Return donors, their cells, covariates and samples for the page.

    Parameters
    ----------
    cells : tuple of Cells
        From `read`.
    donor : str
        obs column of the donor.
    text : str
        The formula, whose variables are the covariates.
    """
    fitted = [one for one in cells if one.obs is not None]
    left = [one for own in cells for one in _left_out(own)]
    names = {str(value) for own in fitted for value in own.obs[donor].unique()} | {one["donor"] for one in left}
    donors = sorted(names, key=natural)
    place = {name: d for d, name in enumerate(donors)}
    n_cells: list[list[int | None]] = [[0] * len(cells) for _ in donors]
    for own in cells:
        if own.obs is None:
            for row in n_cells:
                row[own.t] = None
            continue
        for name, n in own.obs[donor].astype(str).value_counts().items():
            n_cells[place[name]][own.t] = int(n)
    for one in left:
        n_cells[place[one["donor"]]][one["t"]] = None
    variables = [name for name in formula.variables(formula.parse(text)) if name != donor]
    covariates = _covariates([own.obs for own in fitted], donor, donors, variables)
    samples = _samples([own.obs for own in fitted], donor, variables)
    return {"donors": donors, "cells": n_cells, "left_out": left, "covariates": covariates, "samples": samples}


def natural(text: str) -> list:
    """Return a key that sorts D2 before D10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)]


def _left_out(own: Cells) -> list[dict]:
    """Return the donors that had too few cells of a cell type, as its warnings name them."""
    found = []
    for warning in own.warnings:
        if match := FEW.fullmatch(warning):
            why = f"fewer than {match['least']} cells"
            for one in ONE.finditer(match["donors"]):
                n = int(one["cells"].replace(",", ""))
                found.append({"donor": one["donor"], "t": own.t, "n_cells": n, "why": why})
    return found


def _covariates(parts: list["pd.DataFrame"], donor: str, donors: list[str], variables: Iterable[str]) -> dict:
    """Return one row per donor: levels joined by commas, a number or its range."""
    import pandas as pd

    columns, rows = [], [[] for _ in donors]
    for name in variables:
        own = [part[[donor, name]].astype({donor: str}) for part in parts if name in part]
        if not own:
            continue
        table = pd.concat([one.astype({name: object}) for one in own], ignore_index=True).dropna()
        numeric = all(pd.api.types.is_numeric_dtype(one[name].dtype) for one in own)
        numeric = numeric and not all(pd.api.types.is_bool_dtype(one[name].dtype) for one in own)
        groups = {key: _values(group, numeric) for key, group in table.groupby(donor, sort=False)[name]}
        varies = any(isinstance(value, list) for value in groups.values())
        kind = {"name": name, "kind": "number" if numeric else "factor"}
        columns.append(kind | {"varies": "within donors" if varies else "between donors"})
        for row, key in zip(rows, donors, strict=True):
            value = groups.get(key)
            row.append(", ".join(value) if isinstance(value, list) and not numeric else value)
    return {"columns": columns, "rows": rows}


def _values(values: "pd.Series", numeric: bool):
    """Return the only value, or the levels, or the range of a number."""
    if numeric:
        low, high = rounded([values.min(), values.max()], 4)
        return low if low == high else [low, high]
    levels = sorted({str(value) for value in values.unique()}, key=natural)
    return levels[0] if len(levels) == 1 else levels


def _samples(parts: list["pd.DataFrame"], donor: str, variables: list[str]) -> dict | None:
    """Return one row per sample with the variables that are constant in all samples; None for very many samples."""
    import pandas as pd

    names = [name for name in variables if parts and all(name in part for part in parts)]
    if not parts:
        return None
    kept = [part[[*dict.fromkeys([donor, "sample", *names])]].astype(object) for part in parts]
    table = pd.concat(kept, ignore_index=True)
    constant = [name for name in names if (table.groupby("sample", sort=False)[name].nunique(dropna=False) == 1).all()]
    columns = [*dict.fromkeys([donor, "sample", *constant])]
    sizes = table["sample"].value_counts(sort=False)
    if len(sizes) > MOST_SAMPLES:
        return None
    one = table.drop_duplicates("sample")[columns]
    rows = [
        [*(_plain(value) for value in row), int(sizes[row[columns.index("sample")]])]
        for row in one.itertuples(index=False)
    ]
    rows.sort(key=lambda row: [natural(str(row[0])), natural(str(row[1]))])
    return {"columns": [*columns, "n_cells"], "rows": rows}


def _plain(value) -> str | float | int | None:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
    return rounded([value], 4)[0] if number else str(value)
