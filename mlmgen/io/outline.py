"""The size and shape of an input without its counts: what the numbers of jobs and their memory are estimated from."""

import os
from typing import NamedTuple

import numpy as np

from mlmgen.io import layout, store
from mlmgen.io.store import Array, Group
from mlmgen.names import text


class Column(NamedTuple):
    """A column of obs as codes.

    Attributes
    ----------
    codes : (n,) int64
        Place of each cell's value among the different ones, 0 for a missing value.
    number : int
        Different values, a missing one included.
    numeric : bool
        Whether the values are numbers, other than true and false.
    """

    codes: np.ndarray
    number: int
    numeric: bool


class Outline(NamedTuple):
    """An input.

    Attributes
    ----------
    genes : int
    stored : (n,) float64
        Stored counts of each cell; of a dense matrix and of one by genes each cell has the same number.
    columns : dict of str to Column
        The columns asked for that obs has.
    """

    genes: int
    stored: np.ndarray
    columns: dict[str, Column]


def outline(path: str | os.PathLike, counts: str, mentioned) -> Outline:
    """Read the outline of an input.

    Parameters
    ----------
    path : path-like
    counts : str
        ``X``, ``raw`` or ``layers/<name>``.
    mentioned : callable
        From the names of the columns of obs to those that are wanted.

    Raises
    ------
    UserError
        If the file or the counts are missing or damaged.
    """
    with layout.opened(path) as file:
        n, genes = layout.checked_shape(file, counts)
        obs, wanted = file["obs"], mentioned(layout.columns(file["obs"]))
        found = {name: _column(obs[name], file) for name in wanted}
        columns = {name: column for name, column in found.items() if column is not None and len(column.codes) == n}
        return Outline(genes, _stored(layout.matrix(file, counts), n, genes), columns)


def labels(path: str | os.PathLike, column: str) -> dict[str, int]:
    """Return the code that `outline` gives each value of a column of obs, values as text."""
    with layout.opened(path) as file:
        stored = file["obs"][column]
        if not store.is_array(stored) and "categories" in stored:
            return {name: code for code, name in enumerate(store.strings(stored["categories"]), 1)}
        if store.is_array(stored) and "categories" in stored.attrs:
            return {name: code for code, name in enumerate(store.strings(file[stored.attrs["categories"]]), 1)}
        return {text(value): code for code, value in enumerate(_different(_values(stored)), 1)}


def _stored(matrix: Group | Array, n: int, genes: int) -> np.ndarray:
    """Return how many counts each cell has stored, (n,) float64."""
    if store.is_array(matrix):
        return np.full(n, float(genes))
    pointers = matrix["indptr"]
    if pointers.shape == (n + 1,) and not str(matrix.attrs.get("encoding-type", "")).startswith("csc"):
        return np.diff(pointers[:].astype(np.int64)).astype(float)
    return np.full(n, matrix["data"].shape[0] / max(n, 1))


def _column(stored: Group | Array, file: Group) -> Column | None:
    """Return a column as codes; None for one that is not text, numbers or categories."""
    if not store.is_array(stored) and "codes" in stored:
        return _categories(stored["codes"], stored["categories"])
    if store.is_array(stored) and "categories" in stored.attrs:
        return _categories(stored, file[stored.attrs["categories"]])
    values = _values(stored)
    if values is None or values.ndim != 1:
        return None
    different = _different(values)
    if values.dtype.kind == "O":
        place = {value: code for code, value in enumerate(different, 1)}
        return Column(np.fromiter((place[v] for v in values), np.int64, len(values)), len(different) + 1, False)
    codes = np.searchsorted(different, values) + 1
    codes[codes > len(different)] = 0  # not a number
    return Column(codes, len(different) + 1, values.dtype.kind in "iuf")


def _categories(codes: Array, categories: Array) -> Column:
    return Column(codes[:].astype(np.int64) + 1, categories.shape[0] + 1, False)


def _values(stored: Group | Array) -> np.ndarray | None:
    """Return the values of a column that is not categorical: text as object, else as stored."""
    if not store.is_array(stored):
        if "values" not in stored:
            return None
        stored = stored["values"]
    return store.strings(stored) if store.is_text(stored) else stored[:]


def _different(values: np.ndarray) -> list:
    """Return the different values, sorted, without NaN."""
    if values.dtype.kind == "O":
        return sorted(set(values))
    different = np.unique(values)
    return different[np.isfinite(different)] if different.dtype.kind == "f" else different
