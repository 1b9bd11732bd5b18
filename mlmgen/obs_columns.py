"""Read obs columns as factors or numbers, and cross factors, by integer codes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlmgen.errors import UserError, listing, nearest
from mlmgen.names import text

SHOWN_ROWS = 3
# Codes are counted rather than sorted where their table is at most so many times as long as the column.
LARGEST_TABLE = 8


@dataclass(frozen=True)
class Variable:
    """One obs column of n cells.

    Attributes
    ----------
    name : str
    levels : tuple of str
        Of a factor, those that occur: the reference first, the others in natural order or in the order asked for.
        Empty for numbers.
    categories : tuple
        The levels as formulaic sees them: numbers where a numeric column is a factor by ``C()``.
    codes : (n,) int64
        Level of each cell; for numbers the rank among the distinct values.
    values : (n,) float64
        Of a numeric column, otherwise empty.
    missing_reference : str
        The reference level that was asked for but does not occur; empty if it does.
    """

    name: str
    levels: tuple[str, ...]
    categories: tuple
    codes: np.ndarray
    values: np.ndarray
    missing_reference: str = ""

    @property
    def is_factor(self) -> bool:
        """Whether the column is categorical."""
        return len(self.levels) > 0


def natural_key(name: str) -> tuple:
    """Return the key that sorts ``D2`` before ``D10``."""
    pieces = re.split(r"([0-9]+)", name)
    return [int(p) if i % 2 else p.casefold() for i, p in enumerate(pieces)], name


def require(obs: pd.DataFrame, names: Sequence[str], where: str, formula: str = "") -> None:
    """Check that the columns are there, once each.

    Raises
    ------
    UserError
        Naming the missing columns and those that exist.
    """
    missing = [name for name in dict.fromkeys(names) if name not in obs.columns]
    if missing:
        name = missing[0]
        odd = [c for c in map(str, obs.columns) if c in formula and not c.isidentifier() and f"`{c}`" not in formula]
        backticks = f"If you mean the column {odd[0]}, write `{odd[0]}` in backticks. " if odd else ""
        do = f"{backticks or nearest(name, obs.columns)}The obs columns are: {listing(obs.columns, 40)}."
        raise UserError(f"there is no obs column {' nor '.join(map(repr, missing))}", where, do)
    for name in names:
        if list(obs.columns).count(name) > 1:
            raise UserError(f"two obs columns are called {name!r}", where, "Rename one of them.")


def factor(obs: pd.DataFrame, name: str, where: str, reference: object = None) -> Variable:
    """Read a column as a factor.

    Parameters
    ----------
    obs : DataFrame
        n cells.
    name : str
    where : str
        The file, for messages.
    reference : object, optional
        The level to put first, or a tuple of levels in their order, of which those that do not occur are skipped;
        the others follow in natural order.

    Raises
    ------
    UserError
        Where values are missing.
    """
    column = obs[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, raw = column.cat.codes.to_numpy(np.int64), list(column.cat.categories)
    else:
        codes, raw = pd.factorize(column, use_na_sentinel=True)
        codes, raw = codes.astype(np.int64), list(raw)
    codes, raw = _used(codes, raw)
    texts = [text(value) for value in raw]
    empty = np.array([level.strip() == "" for level in texts] + [True])
    _refuse_missing(obs, name, empty[codes], where)
    distinct = dict(zip(texts, raw, strict=True))
    categories = {level: level for level in distinct}
    order = sorted(distinct, key=natural_key)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        order = sorted(distinct, key=distinct.get)
        categories = {level: int(value) if float(value).is_integer() else value for level, value in distinct.items()}
    wanted = [] if reference is None else [text(level) for level in _in_front(reference)]
    order = list(dict.fromkeys([*(level for level in wanted if level in distinct), *order]))
    position = {level: i for i, level in enumerate(order)}
    new = np.array([position[level] for level in texts], dtype=np.int64)[codes]
    absent = wanted[0] if wanted and wanted[0] not in distinct else ""
    return Variable(name, tuple(order), tuple(categories[t] for t in order), new, np.empty(0), absent)


def _in_front(reference: object) -> tuple:
    """Return the levels that a reference puts first: itself, or all of a tuple."""
    return reference if isinstance(reference, tuple) else (reference,)


def number(obs: pd.DataFrame, name: str, where: str) -> Variable:
    """Read a numeric column as numbers.

    Raises
    ------
    UserError
        Where values are missing or infinite, or the column is not numeric.
    """
    column = obs[name]
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        do = "Store it as numbers, text or categories."
        raise UserError(f"obs column {name!r} has the type {column.dtype}, which a model cannot use", where, do)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse_missing(obs, name, np.isnan(values), where)
    if not np.isfinite(values).all():
        do = "Correct the values or leave these cells out."
        raise UserError(f"{int(np.isinf(values).sum())} cells have an infinite {name}", f"{where}, obs['{name}']", do)
    return numbers(name, values)


def is_factor_column(column: pd.Series) -> bool:
    """Tell whether a column is categorical by its type: categories, text or true/false."""
    types = pd.api.types
    return (
        isinstance(column.dtype, pd.CategoricalDtype)
        or types.is_bool_dtype(column.dtype)
        or types.is_object_dtype(column.dtype)
        or types.is_string_dtype(column.dtype)
    )


def read(
    obs: pd.DataFrame, names: Sequence[str], categorical: Sequence[str], reference: Mapping | None, where: str
) -> dict[str, Variable]:
    """Read variables as factors or numbers.

    Parameters
    ----------
    obs : DataFrame
    names : sequence of str
    categorical : sequence of str
        Numeric columns among them that are factors all the same.
    reference : mapping, optional
        By column, as for `factor`.
    where : str
    """
    reference = reference or {}
    found = {}
    for name in names:
        if name in categorical or is_factor_column(obs[name]):
            found[name] = factor(obs, name, where, reference.get(name))
        else:
            found[name] = number(obs, name, where)
    return found


def split(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split numbers into the mean of their group and what they differ from it.

    Parameters
    ----------
    values : (n,) float64
    codes : (n,) int64
        Group of each cell, from 0 without gaps.

    Returns
    -------
    between : (n,) float64
        The mean over the cells of the group, in the units of the values.
    within : (n,) float64
        ``values - between``, exactly 0 in groups where the values do not vary.
    """
    # Sorted, so that the last bits do not depend on the order of the cells.
    order = np.lexsort((values, codes))
    ordered, cells = values[order], np.bincount(codes)
    start = np.cumsum(cells) - cells
    low, high = ordered[start], ordered[start + cells - 1]
    mean = np.where(low == high, low, np.add.reduceat(ordered, start) / cells)
    return mean[codes], values - mean[codes]


def numbers(name: str, values: np.ndarray) -> Variable:
    """Return finite numbers as a variable."""
    codes = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return Variable(name, (), (), codes, values + 0.0)


def cross(*codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each combination of several codes a number, in lexicographic order.

    Parameters
    ----------
    codes : (n,) int64 each, at least one, not negative

    Returns
    -------
    combined : (n,) int64
        From 0 without gaps.
    first : (combinations,) int64
        The first row of each combination.
    """
    combined, first = _renumber(codes[0])
    for more in codes[1:]:
        combined, first = _renumber(combined * (int(more.max(initial=0)) + 1) + more)
    return combined, first


def _renumber(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Close the gaps of codes; return them and the first row of each."""
    largest = int(codes.max(initial=-1))
    if largest > LARGEST_TABLE * max(codes.size, 1):
        _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
        return codes, first
    table = np.full(largest + 1, -1, dtype=np.int64)
    table[codes[::-1]] = np.arange(codes.size - 1, -1, -1)
    used = table >= 0
    return (np.cumsum(used) - 1)[codes], table[used]


def crossed_names(parts: Sequence[tuple[Sequence[str], np.ndarray]]) -> tuple[str, ...]:
    """Join the levels of crossed factors by ``:``; a colon inside a level is escaped where names would collide.

    Parameters
    ----------
    parts : sequence of (levels, codes)
        The levels of each factor and, for each combination, the code of its level.
    """
    columns = [[levels[code] for code in codes] for levels, codes in parts]
    names = [":".join(row) for row in zip(*columns, strict=True)]
    if len(set(names)) < len(names):
        escaped = [[name.replace("\\", "\\\\").replace(":", "\\:") for name in column] for column in columns]
        names = [":".join(row) for row in zip(*escaped, strict=True)]
    return tuple(names)


def _used(codes: np.ndarray, raw: list) -> tuple[np.ndarray, list]:
    """Drop levels that no cell has; missing stays -1."""
    counts = np.bincount(codes[codes >= 0], minlength=len(raw))
    keep = np.flatnonzero(counts)
    renumber = np.full(len(raw) + 1, -1, dtype=np.int64)
    renumber[keep] = np.arange(keep.size)
    return renumber[codes], [raw[i] for i in keep]


def _refuse_missing(obs: pd.DataFrame, name: str, missing: np.ndarray, where: str) -> None:
    if not missing.any():
        return
    rows = listing(obs.index[np.flatnonzero(missing)[:SHOWN_ROWS]])
    cells = f"{int(missing.sum()):,} of {missing.size:,} cells, first in {rows}"
    what = f"obs column {name!r} is missing (NaN or empty) in {cells}"
    raise UserError(what, f"{where}, obs['{name}']", "Fill in the values or leave these cells out of the file.")
