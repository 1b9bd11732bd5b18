"""The fixed effects of a design: formulaic's model matrix, cell-means rows, and linear dependence."""

import itertools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from formulaic import Formula as FixedEffects
from formulaic import ModelSpec
from formulaic.errors import DataMismatchWarning

from mlmgen.errors import UserError
from mlmgen.formula import WHERE, Formula, computed_variables, term_variables
from mlmgen.obs_columns import Variable, cross

INTERCEPT = "(Intercept)"
# A column is dependent where what the columns before it leave of it is this small beside it.
DEPENDENT = 1e-8
# Coefficients of a dependency below this are rounding.
INVOLVED = 1e-6
# Crossed cell-means rows of factors that interact are left out beyond this number.
MOST_CROSSED_MEANS = 2000


@dataclass(frozen=True)
class ModelMatrix:
    """The fixed effects of n cells, with one row for each distinct combination of the variables.

    Attributes
    ----------
    names : tuple of str, length p
    X : (U, p) float64
    row : (n,) int64
        Row of ``X`` of each cell.
    means : dict of str to (p,) float64
        Cell-means rows, see ``Design.means``.
    variables : tuple of tuple of str, length p
        The obs columns behind each column of ``X``.
    """

    names: tuple[str, ...]
    X: np.ndarray
    row: np.ndarray
    means: dict[str, np.ndarray]
    variables: tuple[tuple[str, ...], ...]


def model_matrix(formula: Formula, found: Mapping[str, Variable], n: int) -> ModelMatrix:
    """Evaluate the fixed effects with formulaic.

    Parameters
    ----------
    formula : Formula
    found : mapping of str to Variable
        The variables of the fixed effects.
    n : int
        Number of cells.

    Raises
    ------
    UserError
        Where formulaic cannot evaluate a term, or a value is not finite.
    """
    codes = [variable.codes for variable in found.values()]
    row, first = cross(*codes) if codes else (np.zeros(n, dtype=np.int64), np.zeros(1, dtype=np.int64))
    # center(), bs() and the like look at all cells: give them all, in an order that the input's does not affect.
    cells = first[np.sort(row)] if computed_variables(formula) else first
    matrix, spec = _evaluate(FixedEffects(formula.fixed), _frame(found, {k: v.codes[cells] for k, v in found.items()}))
    starts = np.r_[0, np.cumsum(np.bincount(row))[:-1]] if cells.size > first.size else slice(None)
    X = matrix[starts] + 0.0
    names, variables = _names(spec, found)
    _refuse_not_finite(X, names, row)
    return ModelMatrix(names, X, row, _means(formula, found, spec), variables)


def dependencies(X: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
    """Find the columns that are combinations of columns before them.

    Parameters
    ----------
    X : (U, p) float64

    Returns
    -------
    list of (column, the earlier columns that it is made of)
        Empty where X has full rank; a column of zeros is made of none.
    """
    scale = np.linalg.norm(X, axis=0)
    unit = X / np.where(scale > 0, scale, 1.0)
    basis: list[np.ndarray] = []
    kept: list[int] = []
    found = []
    for j in range(X.shape[1]):
        rest = unit[:, j].copy()
        for _ in range(2):  # twice is enough (Kahan)
            for q in basis:
                rest -= (q @ rest) * q
        size = np.linalg.norm(rest)
        if size > DEPENDENT:
            basis.append(rest / size)
            kept.append(j)
        else:
            weights = np.linalg.lstsq(unit[:, kept], unit[:, j], rcond=None)[0] if kept else np.empty(0)
            found.append((j, tuple(k for k, w in zip(kept, weights, strict=True) if abs(w) > INVOLVED)))
    return found


def _evaluate(fixed: FixedEffects | ModelSpec, frame: pd.DataFrame) -> tuple[np.ndarray, ModelSpec]:
    """Run formulaic; numbers that are not finite are found afterwards."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DataMismatchWarning)
            matrix = fixed.get_model_matrix(frame, context={}, na_action="ignore", output="pandas")
    except Exception as error:  # whatever a term's expression may raise
        reason = " ".join(str(error).split())
        do = "Correct the term; numbers take log(), center(), bs() and the like, text and categories are factors."
        raise UserError(f"the formula cannot be evaluated: {reason}", WHERE, do) from error
    return matrix.to_numpy(dtype=np.float64), matrix.model_spec


def _frame(found: Mapping[str, Variable], codes: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Build the table that formulaic sees; numbers are given by the rank of their value."""
    columns = {}
    for name, variable in found.items():
        if variable.is_factor:
            columns[name] = pd.Categorical.from_codes(codes[name], categories=list(variable.categories))
        else:
            columns[name] = np.unique(variable.values)[codes[name]]
    size = len(next(iter(codes.values()))) if codes else 1
    return pd.DataFrame(columns, index=range(size))


def _names(spec: ModelSpec, found: Mapping[str, Variable]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the names of the columns and the obs columns behind each."""
    factors = [
        (factor.expr, found[name]) for factor, used in spec.factor_variables.items() for name in used & set(found)
    ]
    names, variables = [], []
    for term in spec.structure:
        used = {name for part in term.scoped_terms for factor in part.factors for name in factor.factor.variables}
        for name in term.columns:
            variables.append(tuple(v for v in found if v in used))
            names.append(INTERCEPT if name == "Intercept" and not used else _with_baseline(name, factors))
    return tuple(names), tuple(variables)


def _with_baseline(name: str, factors: list[tuple[str, Variable]]) -> str:
    """Name the level compared with where it is not the reference that was asked for: ``batch[T.3 vs 2]``."""
    for expression, variable in factors:
        if variable.missing_reference:
            for level in variable.levels[1:]:
                plain = re.escape(f"{expression}[T.{level}]")
                full = f"{expression}[T.{level} vs {variable.levels[0]}]"
                name = re.sub(f"(^|:){plain}(?=:|$)", lambda match, full=full: match[1] + full, name)
    return name


def _refuse_not_finite(X: np.ndarray, names: tuple[str, ...], row: np.ndarray) -> None:
    bad = ~np.isfinite(X)
    if bad.any():
        j = int(np.flatnonzero(bad.any(axis=0))[0])
        cells = int(bad[:, j][row].sum())
        do = "Use a transformation that is defined for all values of the column, such as log(x + 1)."
        raise UserError(f"{names[j]} is not a finite number in {cells} of {row.size} cells", WHERE, do)


def _means(formula: Formula, found: Mapping[str, Variable], spec: ModelSpec) -> dict[str, np.ndarray]:
    """Evaluate the model at each level of each factor, and at each combination of factors that interact."""
    factors = [name for name, variable in found.items() if variable.is_factor]
    groups = [(name,) for name in factors]
    for term in term_variables(formula):
        group = tuple(name for name in term if name in factors)
        size = np.prod([len(found[name].levels) for name in group])
        if len(group) > 1 and group not in groups and size <= MOST_CROSSED_MEANS:
            groups.append(group)
    points = [
        dict(zip(group, levels, strict=True))
        for group in groups
        for levels in itertools.product(*(range(len(found[name].levels)) for name in group))
    ]
    if not points:
        return {}
    names = [":".join(f"{name}[{found[name].levels[code]}]" for name, code in point.items()) for point in points]
    rows = _evaluate(spec, _points_frame(formula, found, points))[0] + 0.0
    return {name: row for name, row in zip(names, rows, strict=True) if np.isfinite(row).all()}


def _points_frame(formula: Formula, found: Mapping[str, Variable], points: list[dict]) -> pd.DataFrame:
    """Build a table with the factors of each point at its levels and all others at their reference.

    Numbers are at 0, or at their mean where the formula transforms them: log(age) has no value at 0, and
    center(age) says that the mean is meant.
    """
    computed = computed_variables(formula)
    columns = {}
    for name, variable in found.items():
        if variable.is_factor:
            codes = np.array([point.get(name, 0) for point in points])
            columns[name] = pd.Categorical.from_codes(codes, categories=list(variable.categories))
        else:
            # Sorted, so that the last bits do not depend on the order of the cells.
            columns[name] = np.full(len(points), np.mean(np.sort(variable.values)) if name in computed else 0.0)
    return pd.DataFrame(columns)
