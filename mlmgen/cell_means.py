"""Rows of cell-means notation: the linear predictor at the levels of factors."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from formulaic import ModelSpec

from mlmgen.dependence import mean_of
from mlmgen.evaluation import evaluate
from mlmgen.formula import Formula, computed_variables, term_variables
from mlmgen.obs_columns import Variable

# Crossed cell-means rows of factors that interact are left out beyond this number.
MOST_CROSSED_MEANS = 2000
# Rows that averaged means may take the average of; factors of more combinations have plain means alone.
MOST_AVERAGED = 100_000


def cell_means(formula: Formula, found: Mapping[str, Variable], spec: ModelSpec) -> dict[str, np.ndarray]:
    """Evaluate the model at each level of each factor, and at each combination of factors that interact.

    Parameters
    ----------
    formula : Formula
    found : mapping of str to Variable
        The variables of the fixed effects.
    spec : ModelSpec
        formulaic's, of the fixed effects.

    Returns
    -------
    dict of str to (p,) float64
        ``condition[stim]``: other factors at their reference, numbers at 0, or at their mean where the formula
        transforms them: log(age) has no value at 0, and center(age) says that the mean is meant.
        ``mean(condition[stim])``: averaged over the levels of the other factors with equal weights, numbers at
        their mean over cells.
    """
    factors = {name: variable.levels for name, variable in found.items() if variable.is_factor}
    groups = _groups(formula, factors)
    if not groups:
        return {}
    # Sorted, so that the last bits do not depend on the order of the cells.
    mean = {name: mean_of(np.sort(v.values)) for name, v in found.items() if not v.is_factor}
    computed = computed_variables(formula.fixed)
    plain = {name: value if name in computed else 0.0 for name, value in mean.items()}
    means, averaged = {}, {}
    for group in groups:
        points = list(itertools.product(*(range(len(factors[name])) for name in group)))
        at = {name: np.array(codes) for name, codes in zip(group, zip(*points, strict=True), strict=True)}
        names = [_name(factors, group, point) for point in points]
        means |= zip(names, _rows(found, spec, at, plain, len(points)), strict=True)
        averaged |= zip(
            (f"mean({name})" for name in names), _averages(found, spec, at, mean, len(points)), strict=False
        )
    return {name: row for name, row in (means | averaged).items() if np.isfinite(row).all()}


def _groups(formula: Formula, factors: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return each factor, and each set of factors that interact."""
    groups = [(name,) for name in factors]
    for term in term_variables(formula):
        group = tuple(name for name in term if name in factors)
        size = np.prod([len(factors[name]) for name in group])
        if len(group) > 1 and group not in groups and size <= MOST_CROSSED_MEANS:
            groups.append(group)
    return groups


def _name(factors: Mapping[str, tuple[str, ...]], group: tuple[str, ...], point: tuple[int, ...]) -> str:
    return ":".join(f"{name}[{factors[name][code]}]" for name, code in zip(group, point, strict=True))


def _rows(
    found: Mapping[str, Variable], spec: ModelSpec, at: Mapping[str, np.ndarray], numbers: Mapping[str, float], n: int
) -> np.ndarray:
    """Evaluate the model at codes of factors, others at their reference, and at fixed numbers: (n, p)."""
    columns = {}
    for name, variable in found.items():
        if variable.is_factor:
            codes = at.get(name, np.zeros(n, dtype=np.int64))
            columns[name] = pd.Categorical.from_codes(codes, categories=list(variable.categories))
        else:
            columns[name] = np.full(n, numbers[name])
    return evaluate(spec, pd.DataFrame(columns))[0] + 0.0


def _averages(
    found: Mapping[str, Variable], spec: ModelSpec, at: Mapping[str, np.ndarray], mean: Mapping[str, float], n: int
) -> np.ndarray:
    """Average the model over all combinations of the factors that are not held: (n, p), or (0, p) if too many."""
    others = {name: len(v.levels) for name, v in found.items() if v.is_factor and name not in at}
    size = int(np.prod(list(others.values()), dtype=np.int64))
    if n * size > MOST_AVERAGED:
        return np.empty((0, 0))
    grid = np.indices(tuple(others.values())).reshape(len(others), size)
    everywhere = {name: np.tile(codes, n) for name, codes in zip(others, grid, strict=True)}
    held = {name: np.repeat(codes, size) for name, codes in at.items()}
    rows = _rows(found, spec, held | everywhere, mean, n * size)
    return rows.reshape(n, size, -1).mean(axis=1)
