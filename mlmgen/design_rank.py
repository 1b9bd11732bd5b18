"""Whether the columns of a design can be told apart, in cells and in the sums of samples."""

import itertools

import numpy as np

from mlmgen.dependence import dependencies, group_means
from mlmgen.design_parts import Grouping, Parts
from mlmgen.errors import UserError, listing
from mlmgen.formula import WHERE
from mlmgen.groups import determines, same_groups
from mlmgen.model_matrix import INTERCEPT, ModelMatrix
from mlmgen.obs_columns import Variable, cross
from mlmgen.types import Design

# A number with a value for every second cell determines every other variable, and explains nothing.
LARGEST_SHARE_OF_VALUES = 0.5


def refuse_dependent_columns(matrix: ModelMatrix, parts: Parts, where: str) -> None:
    """Raise a UserError that names the dependent columns and the confounded variables."""
    found = dependencies(matrix.X)
    if not found:
        return
    names = [matrix.names[j] for j, _ in found]
    why = dict.fromkeys(_why_dependent(matrix, parts, j, involved) for j, involved in found)
    word = "column" if len(names) == 1 else "columns"
    what = f"the design is rank-deficient, {word} {listing(names)} cannot be told apart from the others"
    used = dict.fromkeys(v for j, involved in found for k in (j, *involved) for v in matrix.variables[k])
    if len(used) < 2:
        raise UserError(f"{what}: {'; '.join(why)}", f"{WHERE}, obs of {where}", f"Take {names[0]} out of the formula.")
    interact = any(len(matrix.variables[k]) > 1 for j, involved in found for k in (j, *involved))
    do = f"Take one of {listing(used)}{' (or their interaction)' * interact} out of the formula"
    together = any("always change together" in reason for reason in why)
    batch = not together and any(parts.fixed[name].is_factor for name in used)
    advice = "a batch can be a random intercept" if batch else "these data cannot tell their effects apart"
    do = f"{do}; {advice}."
    raise UserError(f"{what}: {'; '.join(why)}", f"{WHERE}, obs of {where}", do)


def _why_dependent(matrix: ModelMatrix, parts: Parts, column: int, involved: tuple[int, ...]) -> str:
    """Explain one dependency in terms of the obs columns."""
    columns = (column, *involved)
    names = list(dict.fromkeys(name for k in columns for name in matrix.variables[k]))
    pairs = [(a, b) for a in names for b in names if a != b]
    for a, b in pairs if involved else ():
        few = parts.fixed[a].is_factor or parts.fixed[a].codes.max() + 1 <= LARGEST_SHARE_OF_VALUES * parts.n
        if few and determines(parts.fixed[a].codes, parts.fixed[b].codes):
            return _confounded(parts.fixed[a], parts.fixed[b])
    for a, b in pairs:
        interact = any({a, b} <= set(matrix.variables[k]) for k in columns)
        empty = _empty_combination(parts.fixed[a], parts.fixed[b]) if interact else ""
        if empty:
            return empty
    if [matrix.names[k] for k in involved] == [INTERCEPT]:
        return f"{matrix.names[column]} is the same in all cells"
    others = listing(matrix.names[k] for k in involved)
    return f"{matrix.names[column]} is a combination of {others}" if others else f"{matrix.names[column]} is always 0"


def _confounded(a: Variable, b: Variable) -> str:
    """Say that ``a`` determines ``b``, with examples."""
    first = cross(a.codes, b.codes)[1]
    pairs = listing((f"{_value(a, i)} with {_value(b, i)}" for i in first), 6)
    if determines(b.codes, a.codes):
        return f"{a.name} and {b.name} always change together ({pairs})"
    return f"every {'level' if a.is_factor else 'value'} of {a.name} occurs with only one of {b.name} ({pairs})"


def _empty_combination(a: Variable, b: Variable) -> str:
    """Name a combination of levels that no cell has; empty if there is none."""
    if not (a.is_factor and b.is_factor):
        return ""
    first = cross(a.codes, b.codes)[1]
    seen = set(zip(a.codes[first].tolist(), b.codes[first].tolist(), strict=True))
    combinations = itertools.product(range(len(a.levels)), range(len(b.levels)))
    missing = next((pair for pair in combinations if pair not in seen), None)
    return f"no cells have {a.name} = {a.levels[missing[0]]} with {b.name} = {b.levels[missing[1]]}" if missing else ""


def _value(variable: Variable, cell: int) -> str:
    return variable.levels[variable.codes[cell]] if variable.is_factor else f"{variable.values[cell]:g}"


def refuse_saturated(matrix: ModelMatrix, parts: Parts, random: tuple[Grouping, ...], where: str) -> None:
    """Raise a UserError where nothing is left to estimate the variation between donors or samples from.

    Parameters
    ----------
    random : tuple of Grouping
        The grouping factors that have a random intercept.
    """
    units: list[Grouping] = [parts.sample]
    if any(same_groups(group.codes, parts.donor.codes) for group in random):
        units.append(parts.donor)
    for unit in units:
        first = cross(unit.codes, matrix.row)[1]
        rows, groups = matrix.X[matrix.row[first]], unit.codes[first]
        constant = [j for j in range(rows.shape[1]) if _constant_within(groups, rows[:, j])]
        between = rows[np.unique(groups, return_index=True)[1]][:, constant]
        rank = len(constant) - len(dependencies(between))
        if rank >= len(unit.levels):
            what = f"{rank} coefficients for {len(unit.levels)} values of {unit.name}"
            do = "Take variables out of the formula, or add donors."
            reason = "nothing is left to estimate the variation between them"
            raise UserError(f"{what}: {reason}", f"{WHERE}, obs of {where}", do)


def _constant_within(groups: np.ndarray, values: np.ndarray) -> bool:
    return determines(groups, np.unique(values, return_inverse=True)[1].astype(np.int64))


def refuse_dependent_samples(matrix: ModelMatrix, parts: Parts, where: str) -> None:
    """Raise a UserError where pseudobulk, which sees the mean of each sample, cannot tell the columns apart."""
    pairs, first = cross(parts.sample.codes, matrix.row)
    cells = np.bincount(pairs).astype(np.float64)
    means = group_means(matrix.X[matrix.row[first]], parts.sample.codes[first], cells)
    why = _why_not_samples(means, matrix.names)
    if why:
        do = "Leave pseudobulk out of methods, set sample to an obs column with more samples, or simplify the formula."
        raise UserError(why, f"{WHERE}, obs of {where}", do)


def why_not_samples(samples: Design) -> str:
    """Say why the sums of samples cannot be fitted; empty if they can.

    Parameters
    ----------
    samples : Design
        What `mlmgen.design.for_samples` returns.
    """
    return _why_not_samples(samples.X, samples.coefficients)


def _why_not_samples(means: np.ndarray, names: tuple[str, ...]) -> str:
    samples, p = means.shape
    zero = [name for name, column in zip(names, means.T, strict=True) if not column.any()]
    found = zero or [names[j] for j, _ in dependencies(means)]
    if samples <= p:
        left = "nothing is left to estimate the variation between them"
        return f"pseudobulk has {samples} samples for {p} coefficients: {left}"
    if found:
        why = "average to 0 in every sample" if zero else "cannot be told apart from the others there"
        why = why.replace("average ", "averages ") if len(found) == 1 else why
        return f"pseudobulk sees only the mean of each sample, and {listing(found)} {why}"
    return ""
