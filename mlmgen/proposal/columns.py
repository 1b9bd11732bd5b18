"""The columns of obs as they are: factors, numbers, ids; and how two of them lie in each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlmgen import io
from mlmgen.errors import UserError
from mlmgen.names import text
from mlmgen.obs_columns import natural_key

MOST_CELLS = 200_000  # that relations of columns are judged on
ID_SHARE = 0.5  # different values a cell, from which a text names cells
MOST_LEVELS = 1000  # that are kept as text of a column of numbers
MOST_NUMBERS = 100  # different whole numbers of a column that could still be labels
DIGITS = re.compile(r"[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class Column:
    """A column of obs.

    Attributes
    ----------
    name : str
    kind : str
        ``factor``, ``number``, ``constant``, ``id`` (nearly every cell has a value of its own) or ``empty``.
    levels : tuple of str
        The different values as text, in natural order; of numbers in their order, empty where there are many.
    codes : (n,) int64
        Level of each cell, -1 for a missing value.
    cells : (levels,) int64
        Cells of each level.
    values : (n,) float64
        Of numbers; else empty.
    missing : int
        Cells without a value.
    """

    name: str
    kind: str
    levels: tuple[str, ...]
    codes: np.ndarray
    cells: np.ndarray
    values: np.ndarray
    missing: int

    @property
    def could_be_labels(self) -> bool:
        """Whether the values could name donors, conditions or cell types: text, or a few whole numbers."""
        if self.kind == "factor":
            return len(self.levels) <= max(len(self.codes) // 5, 2)
        few = 0 < len(self.levels) <= min(MOST_NUMBERS, len(self.codes) // 20)
        return self.kind == "number" and few and all("." not in level and "e" not in level for level in self.levels)

    @property
    def numbered(self) -> bool:
        """Whether the levels are bare numbers, as of clusters."""
        return all(DIGITS.fullmatch(level) for level in self.levels)


def read(path: str) -> tuple[dict[str, Column], pd.DataFrame]:
    """Read every column of obs.

    Parameters
    ----------
    path : str
        An .h5ad file or zarr store.

    Returns
    -------
    columns : dict of str to Column
        In the order of the file.
    obs : DataFrame
        What was read; columns that cannot be read are left out.
    """
    names = io.obs_columns(path)
    try:
        obs = io.read_obs(path, dict.fromkeys(names, "obs"))
    except UserError:
        readable = [name for name in names if _reads(path, name)]
        obs = io.read_obs(path, dict.fromkeys(readable, "obs"))
    return {name: column(name, obs[name]) for name in obs.columns}, obs


def _reads(path: str, name: str) -> bool:
    try:
        io.read_obs(path, {name: "obs"})
    except UserError:
        return False
    return True


def column(name: str, values: pd.Series) -> Column:
    """Look at one column."""
    types = pd.api.types
    is_number = types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype)
    if is_number and not types.is_complex_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        numbers[~np.isfinite(numbers)] = np.nan
        codes, found = pd.factorize(numbers, sort=True)
        levels = [text(value) for value in found.tolist()] if len(found) <= MOST_LEVELS else []
        return _column(name, "number", levels, codes.astype(np.int64), len(found), numbers)
    labelled = values.astype("category")
    number = len(labelled.cat.categories)
    if number > max(ID_SHARE * len(values), MOST_LEVELS):  # names of cells, whatever they say
        return _column(name, "id", [], labelled.cat.codes.to_numpy(np.int64), number, np.empty(0))
    labels = np.array([text(value).strip() for value in labelled.cat.categories.tolist()] + [""], dtype=object)
    of_cell = labels[labelled.cat.codes.to_numpy()]
    codes, found = pd.factorize(pd.Series(of_cell).replace("", None), sort=False)
    order = sorted(range(len(found)), key=lambda i: natural_key(found[i]))
    place = np.empty(len(found) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(found)), -1
    kind = "id" if len(found) > ID_SHARE * max(len(values), 1) and len(found) > 2 else "factor"
    return _column(name, kind, [found[i] for i in order], place[codes], len(found), np.empty(0))


def _column(name: str, kind: str, levels: Sequence[str], codes: np.ndarray, number: int, values: np.ndarray) -> Column:
    kind = {0: "empty", 1: "constant"}.get(number, kind)
    cells = np.bincount(codes[codes >= 0], minlength=number)
    return Column(name, kind, tuple(levels), codes, cells, values, int((codes < 0).sum()))


def thinned(columns: dict[str, Column]) -> dict[str, np.ndarray]:
    """Return the codes of each column from 1, 0 for a missing value, of at most `MOST_CELLS` cells."""
    n = len(next(iter(columns.values())).codes) if columns else 0
    rows = slice(None)
    if n > MOST_CELLS:
        rows = np.sort(np.random.default_rng(0).choice(n, MOST_CELLS, replace=False))
    return {name: column.codes[rows] + 1 for name, column in columns.items()}


def known(*codings: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return codings of `thinned` for the cells that have a value in each of them."""
    kept = np.logical_and.reduce([coding > 0 for coding in codings])
    return codings if kept.all() else tuple(coding[kept] for coding in codings)


def combinations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the values of two codings of `thinned` that occur together, (2, combinations), in their order."""
    return np.unique(np.stack(known(first, second)), axis=1)


def pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Count the different values of the second coding in each group of the first, (groups that occur,) int64.

    Both are of `thinned`; cells without a value in one of them are not counted.
    """
    first, second = known(first, second)
    width = int(second.max(initial=0)) + 1
    both = np.unique(first * width + second)
    return np.unique(both // width, return_counts=True)[1]


def connected(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether the groups of two codings hang together, so that ``first + second`` has no dependent columns."""
    from scipy import sparse

    a, b = (np.unique(coding, return_inverse=True)[1] for coding in combinations(first, second))
    if not a.size:
        return False
    number = int(a.max()) + int(b.max()) + 2
    edges = sparse.coo_array((np.ones(a.size), (a, b + a.max() + 1)), shape=(number, number))
    return sparse.csgraph.connected_components(edges, directed=False)[0] == 1


def crossing(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of the groups of the first coding that have several values of the second, 0 where nested."""
    found = pairs(first, second)
    return float((found > 1).mean()) if found.size else 0.0


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cross two codings, codes from 0 without gaps."""
    return np.unique(first * (int(second.max(initial=0)) + 1) + second, return_inverse=True)[1].astype(np.int64)
