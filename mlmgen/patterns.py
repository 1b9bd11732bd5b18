"""The rows of a design as patterns, and the cell-level functions that vary within them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlmgen.design_parts import Parts
from mlmgen.design_terms import Term
from mlmgen.model_matrix import ModelMatrix
from mlmgen.obs_columns import Variable, cross

# Numbers that leave fewer rows a pattern are cell-level functions: a pattern may carry as many nodes (kernels/gather).
FEWEST_ROWS = 14
# A column is a function times a constant of the pattern where it differs from that by less, relative to the pattern.
SAME = 1e-12
# Decimal digits of such a constant; what a ratio has beyond is rounding.
DIGITS = 14
LARGEST_EXACT_POWER = 22  # of ten, in float64


@dataclass(frozen=True)
class Patterns:
    """n cells as P patterns.

    Attributes
    ----------
    pattern : (n,) int64
        Pattern of each cell.
    first : (P,) int64
        A cell of each pattern.
    coefficients : (P, c) float64
        Of the columns of the fixed effects and then those of the random terms in each pattern.
    basis : (c,) int32
        Function of each column, counted from 1; 0 for none.
    functions : (n, M - 1) float64
    names : tuple of str, length M - 1
    """

    pattern: np.ndarray
    first: np.ndarray
    coefficients: np.ndarray
    basis: np.ndarray
    functions: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """A column of the design: values of the U rows of the model matrix, and what it is made of."""

    name: str
    values: np.ndarray
    variables: tuple[str, ...]


@dataclass(frozen=True)
class _Blocks:
    """Cells in the order of blocks.

    ``cell`` (n,) indices, ``block`` (n,) and ``row`` (n,) of them, ``start`` (B,) of each block, ``least`` (B,) the
    first row of the model matrix in each block.
    """

    cell: np.ndarray
    block: np.ndarray
    row: np.ndarray
    start: np.ndarray
    least: np.ndarray


@dataclass(frozen=True)
class _Function:
    """A cell-level function in the order of blocks: its values, and the place of the largest in each block.

    ``free`` (B,) are the blocks where it is 0 and no column uses it; columns of the same ``numbers`` may fill them.
    """

    name: str
    values: np.ndarray
    largest: np.ndarray
    free: np.ndarray
    numbers: tuple[str, ...]


def patterns(parts: Parts, matrix: ModelMatrix, terms: Sequence[Term]) -> Patterns:
    """Find the patterns of cells, and what varies within them.

    Cells of one donor, sample, level of each factor and group of each random term form a block. A column that
    varies within blocks splits them where that leaves `FEWEST_ROWS` cells a block on average; otherwise it is a
    cell-level function, or one that another column has, times a constant of the block.

    Parameters
    ----------
    parts : Parts
        n cells.
    matrix : ModelMatrix
    terms : sequence of Term
        Those that are kept.
    """
    columns = [_Column(*column) for column in zip(matrix.names, matrix.X.T, matrix.variables, strict=True)]
    for term in terms:
        columns += [_Column(*column) for column in zip(term.effects, term.Z.T, term.variables, strict=True)]
    block, varying = _split(parts, matrix.row, columns, terms)
    blocks = _in_order(block, matrix.row)
    coefficients = np.stack([column.values[blocks.least] for column in columns], axis=1)
    functions, basis = _functions(parts.variables, blocks, columns, varying, coefficients)
    values = np.empty((parts.n, len(functions)))
    for k, function in enumerate(functions):
        values[blocks.cell, k] = function.values
    rank = _ranks(coefficients, blocks.least)[block]
    pattern, first = cross(parts.donor.codes, parts.sample.codes, rank, *(term.group.codes for term in terms))
    names = tuple(function.name for function in functions)
    return Patterns(pattern, first, coefficients[block[first]], basis, values, names)


def _split(
    parts: Parts, row: np.ndarray, columns: Sequence[_Column], terms: Sequence[Term]
) -> tuple[np.ndarray, list[int]]:
    """Number the blocks of n cells, and return the columns that vary within them."""
    factors = [variable.codes for variable in parts.variables.values() if variable.is_factor]
    block, first = cross(parts.donor.codes, parts.sample.codes, *factors, *(term.group.codes for term in terms))
    most = parts.n // FEWEST_ROWS
    whole, first_of_whole = cross(block, row)
    if len(first_of_whole) <= max(most, len(first)):
        return whole, []
    varying = [j for j, column in enumerate(columns) if _varies(column, parts.variables, row, block, first)]
    left = {j: _count(block, columns[j].values, row, most) for j in varying}
    for j in sorted((j for j in varying if left[j]), key=left.get):
        finer, starts = cross(block, np.unique(columns[j].values, return_inverse=True)[1][row])
        if len(starts) <= most:
            block = finer
            varying.remove(j)
    return block, varying


def _varies(
    column: _Column, variables: dict[str, Variable], row: np.ndarray, block: np.ndarray, first: np.ndarray
) -> bool:
    """Tell whether a column varies within blocks."""
    numbers = [variables[name].codes for name in column.variables if not variables[name].is_factor]
    if all((codes == codes[first][block]).all() for codes in numbers):
        return False
    values = column.values[row]
    return bool((values != values[first][block]).any())


def _count(block: np.ndarray, values: np.ndarray, row: np.ndarray, most: int) -> int:
    """Count the blocks that a column would leave; 0 where they are more than ``most``."""
    if np.unique(values[:: FEWEST_ROWS // 2]).size > most:  # a part of the rows shows it sooner
        return 0
    count = len(cross(block, np.unique(values, return_inverse=True)[1][row])[1])
    return count if count <= most else 0


def _in_order(block: np.ndarray, row: np.ndarray) -> _Blocks:
    cell = np.argsort(block, kind="stable")
    ordered = block[cell]
    start = np.flatnonzero(np.r_[True, np.diff(ordered) > 0])
    return _Blocks(cell, ordered, row[cell], start, np.minimum.reduceat(row[cell], start))


def _functions(
    variables: dict[str, Variable],
    blocks: _Blocks,
    columns: Sequence[_Column],
    varying: Sequence[int],
    coefficients: np.ndarray,
) -> tuple[list[_Function], np.ndarray]:
    """Find the functions of the columns that vary within blocks, and set the columns' coefficients (B, c)."""
    functions: list[_Function] = []
    basis = np.zeros(len(columns), dtype=np.int32)
    for j in varying:
        values = columns[j].values[blocks.row]
        numbers = tuple(name for name in columns[j].variables if not variables[name].is_factor)
        basis[j], coefficients[:, j] = _shared(values, numbers, functions, blocks)
        if basis[j] == 0:
            functions.append(_new(columns[j], values, numbers, variables, blocks))
            basis[j], coefficients[:, j] = len(functions), _ratio(values, functions[-1], blocks)[0]
    return functions, basis


def _shared(
    values: np.ndarray, numbers: tuple[str, ...], functions: list[_Function], blocks: _Blocks
) -> tuple[int, np.ndarray | float]:
    """Find a function that a column is constants of the blocks times; where a factor kept it free, fill it.

    Returns
    -------
    place : int
        Among the functions, counted from 1; 0 if there is none.
    coefficients : (B,) float64
    """
    for k, function in enumerate(functions):
        ratio, fits = _ratio(values, function, blocks)
        if fits.all():
            return k + 1, ratio
        if function.numbers == numbers and function.free[~fits].all():
            fill = ~fits[blocks.block]
            filled = np.where(fill, values, function.values)
            free = function.free & fits
            functions[k] = _Function(function.name, filled, _largest(filled, blocks), free, numbers)
            return k + 1, np.where(fits, ratio, 1.0)
    return 0, 0.0


def _new(
    column: _Column, values: np.ndarray, numbers: tuple[str, ...], variables: dict[str, Variable], blocks: _Blocks
) -> _Function:
    """Make a function for a column: the variable itself where it is proportional to it, otherwise the column."""
    nowhere = np.zeros(len(blocks.start), dtype=bool)
    for name in numbers:
        plain = variables[name].values[blocks.cell]
        function = _Function(name, plain, _largest(plain, blocks), nowhere, numbers)
        if _ratio(values, function, blocks)[1].all():
            return function
    largest = _largest(values, blocks)
    name = column.name
    for variable in column.variables:
        for level in variables[variable].levels:
            name = name.replace(f"{variable}[{level}]:", "").replace(f":{variable}[{level}]", "")
    return _Function(name, values, largest, values[largest] == 0, numbers)


def _largest(values: np.ndarray, blocks: _Blocks) -> np.ndarray:
    """Return the place of the largest absolute value of each block, (B,)."""
    size = np.abs(values)
    places = np.flatnonzero(size == np.maximum.reduceat(size, blocks.start)[blocks.block])
    return places[np.searchsorted(places, blocks.start)]


def _ratio(values: np.ndarray, function: _Function, blocks: _Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Divide a column by a function in each block: the ratio, and whether it is constant in the block."""
    top = function.values[function.largest]
    ratio = np.divide(values[function.largest], top, out=np.zeros(len(top)), where=top != 0)
    ratio = _rounded(ratio)
    if not function.free.any() and (ratio[top != 0] == 1.0).all():
        ratio[:] = 1.0  # also where a donor has zeros alone
    missed = np.abs(values - ratio[blocks.block] * function.values)
    size = np.maximum.reduceat(np.abs(values), blocks.start)
    return ratio, np.maximum.reduceat(missed, blocks.start) <= SAME * size


def _rounded(ratio: np.ndarray) -> np.ndarray:
    """Round to `DIGITS` significant digits, so that constants are equal in blocks where they are the same."""
    with np.errstate(divide="ignore"):
        power = DIGITS - 1 - np.floor(np.log10(np.abs(ratio)))
    exact = (ratio != 0) & (power >= 0) & (power <= LARGEST_EXACT_POWER)
    scale = 10.0 ** np.where(exact, power, 0.0)
    return np.where(exact, np.round(ratio * scale) / scale, ratio)


def _ranks(coefficients: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Number the distinct rows of blocks by the first row of the model matrix that has them, (B,)."""
    order = np.lexsort(coefficients.T[::-1])
    new = np.r_[True, (np.diff(coefficients[order], axis=0) != 0).any(axis=1)]
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    earliest = np.minimum.reduceat(least[order], np.flatnonzero(new))
    rank = np.empty(len(earliest), dtype=np.int64)
    rank[np.argsort(earliest, kind="stable")] = np.arange(len(earliest))
    return rank[group]
