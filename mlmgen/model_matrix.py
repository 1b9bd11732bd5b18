"""The columns of a design: formulaic's matrices of the fixed effects, of the random slopes, and the offsets."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from formulaic import ModelSpec

from mlmgen.cell_means import cell_means
from mlmgen.errors import UserError
from mlmgen.evaluation import INTERCEPT, column_names, evaluate, frame
from mlmgen.formula import WHERE, Formula, computed_variables, fixed_variables, offset_variables
from mlmgen.obs_columns import Variable, cross

__all__ = ["INTERCEPT", "Columns", "ModelMatrix", "model_matrix", "offset"]


@dataclass(frozen=True)
class Columns:
    """Columns that formulaic makes, with one row for each distinct combination of the variables.

    Attributes
    ----------
    names : tuple of str, length p
    X : (U, p) float64
    variables : tuple of tuple of str, length p
        The variables behind each column.
    spec : ModelSpec
        formulaic's, which evaluates the same columns on other data.
    """

    names: tuple[str, ...]
    X: np.ndarray
    variables: tuple[tuple[str, ...], ...]
    spec: ModelSpec


@dataclass(frozen=True)
class ModelMatrix(Columns):
    """The fixed effects and the random slopes of n cells.

    Attributes
    ----------
    names, X, variables, spec
        Of the fixed effects, see `Columns`.
    row : (n,) int64
        Row of ``X`` of each cell.
    means : dict of str to (p,) float64
        Cell-means rows, see ``Design.means``.
    slopes : tuple of Columns
        The effects of each random term of the formula, on the same rows.
    """

    row: np.ndarray
    means: dict[str, np.ndarray]
    slopes: tuple[Columns, ...]


def model_matrix(formula: Formula, found: Mapping[str, Variable], n: int) -> ModelMatrix:
    """Evaluate the fixed effects and the random slopes with formulaic.

    Parameters
    ----------
    formula : Formula
    found : mapping of str to Variable
        Their variables.
    n : int
        Number of cells.

    Raises
    ------
    UserError
        Where formulaic cannot evaluate a term, or a value is not finite.
    """
    row, first = _distinct(found, n)
    effects = [formula.fixed, *(part.effects for part in formula.random)]
    fixed, *slopes = (_columns(text, found, row, first) for text in effects)
    own = {name: found[name] for name in fixed_variables(formula)}
    means = cell_means(formula, own, fixed.spec)
    return ModelMatrix(fixed.names, fixed.X, fixed.variables, fixed.spec, row, means, tuple(slopes))


def offset(formula: Formula, found: Mapping[str, Variable], n: int) -> np.ndarray:
    """Return the sum of the offsets of each cell, (n,) float64.

    Parameters
    ----------
    formula : Formula
    found : mapping of str to Variable
        Their variables.
    n : int
        Number of cells.

    Raises
    ------
    UserError
        Where an offset is no number, or not finite.
    """
    total = np.zeros(n)
    own = {name: found[name] for name in offset_variables(formula)}
    row, first = _distinct(own, n)
    for expression in formula.offsets:
        name = f"offset({expression})".replace("`", "")
        factors = [variable.name for variable in own.values() if variable.is_factor and variable.name in expression]
        columns = None if factors else _columns(f"0 + I({expression})", own, row, first, name)
        if factors or columns.X.shape[1] != 1:
            seen = f"{factors[0]} is a factor" if factors else f"it has {columns.X.shape[1]} columns"
            raise UserError(f"{name} is not one number for each cell: {seen}", WHERE, "Give a numeric column.")
        total += columns.X[row, 0]
    return total


def _distinct(found: Mapping[str, Variable], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Number the combinations of the variables; return the number of each cell and the first cell of each."""
    codes = [variable.codes for variable in found.values()]
    return cross(*codes) if codes else (np.zeros(n, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _columns(fixed: str, found: Mapping[str, Variable], row: np.ndarray, first: np.ndarray, name: str = "") -> Columns:
    # center(), bs() and the like look at all cells: give them all, in an order that the input's does not affect.
    cells = first[np.sort(row)] if computed_variables(fixed) else first
    matrix, spec = evaluate(fixed, frame(found, cells))
    starts = np.r_[0, np.cumsum(np.bincount(row))[:-1]] if cells.size > first.size else slice(None)
    X = matrix[starts] + 0.0
    names, variables = column_names(spec, found)
    _refuse_not_finite(X, (name,) * len(names) if name else names, row)
    return Columns(names, X, variables, spec)


def _refuse_not_finite(X: np.ndarray, names: tuple[str, ...], row: np.ndarray) -> None:
    bad = ~np.isfinite(X)
    if bad.any():
        j = int(np.flatnonzero(bad.any(axis=0))[0])
        cells = int(bad[:, j][row].sum())
        do = "Use a transformation that is defined for all values of the column, such as log(x + 1)."
        raise UserError(f"{names[j]} is not a finite number in {cells} of {row.size} cells", WHERE, do)
