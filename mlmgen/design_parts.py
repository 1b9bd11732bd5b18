"""The parts of a design before the model matrix: the donor, the samples, the variables, the random groups."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlmgen.errors import UserError, listing
from mlmgen.formula import Formula, categorical_variables, fixed_variables, variables
from mlmgen.obs_columns import Variable, cross, crossed_names, factor, read, require


@dataclass(frozen=True)
class Grouping:
    """Groups of n cells.

    Attributes
    ----------
    name : str
    levels : tuple of str
    codes : (n,) int64
    """

    name: str
    levels: tuple[str, ...]
    codes: np.ndarray


@dataclass(frozen=True)
class Parts:
    """What obs and the formula say about n cells.

    Attributes
    ----------
    n : int
    donor : Grouping
    sample : Grouping
        Ordered by donor, then by the levels of the sample.
    fixed : dict of str to Variable
        The variables of the fixed effects.
    terms : tuple of Grouping
        The random intercepts in the order of the formula.
    within : tuple of str
        Variables of the fixed effects that vary within donors.
    """

    n: int
    donor: Grouping
    sample: Grouping
    fixed: dict[str, Variable]
    terms: tuple[Grouping, ...]
    within: tuple[str, ...]


def read_parts(
    obs: pd.DataFrame,
    formula: Formula,
    donor: str,
    sample: str | None = None,
    reference: Mapping | None = None,
    where: str = "the input",
) -> Parts:
    """Read the columns that a design needs; arguments are those of `mlmgen.design.build`.

    Raises
    ------
    UserError
        Where a column is missing or has missing values, or a sample belongs to several donors.
    """
    require(obs, [donor], f"configuration key donor, file {where}")
    require(obs, [sample] if sample else [], f"configuration key sample, file {where}")
    require(obs, variables(formula), f"configuration key formula, file {where}", formula.text)
    if len(obs) == 0:
        raise UserError("there are no cells", where, "Choose cell types that have cells.")
    replicate = factor(obs, donor, where)
    donors = Grouping(donor, replicate.levels, replicate.codes)
    fixed = read(obs, fixed_variables(formula), (*categorical_variables(formula), donor), reference, where)
    columns = dict.fromkeys(column for group in formula.random for column in group)
    factors = {column: replicate if column == donor else factor(obs, column, where) for column in columns}
    terms = tuple(_crossed(":".join(group), [factors[column] for column in group]) for group in formula.random)
    within = tuple(name for name, variable in fixed.items() if not determines(donors.codes, variable.codes))
    samples = _given_samples(obs, donors, sample, where) if sample else _samples(replicate, fixed, within)
    return Parts(len(obs), donors, samples, fixed, terms, within)


def determines(outer: np.ndarray, inner: np.ndarray) -> bool:
    """Tell whether each level of ``outer`` occurs with one level of ``inner`` only; both (n,) int64 codes."""
    return cross(outer, inner)[1].size == np.count_nonzero(np.bincount(outer))


def same_groups(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether two codings put the cells in the same groups."""
    return determines(first, second) and determines(second, first)


def useful_terms(parts: Parts) -> tuple[tuple[Grouping, ...], tuple[tuple[Grouping, str], ...]]:
    """Split the random intercepts into those that can be estimated and the others with the reason.

    A term that has one group, or the groups of another term, has no variance of its own.
    """
    ranked = sorted(parts.terms, key=lambda term: term.name != parts.donor.name)
    kept: list[Grouping] = []
    left_out = []
    for term in ranked:
        twin = next((other.name for other in kept if same_groups(term.codes, other.codes)), "")
        if len(term.levels) < 2:
            left_out.append((term, f"all cells belong to one group, {term.levels[0]}"))
        elif twin:
            left_out.append((term, f"it has the same groups as {twin}"))
        else:
            kept.append(term)
    names = {term.name for term in kept}
    return tuple(term for term in parts.terms if term.name in names), tuple(left_out)


def quoted(name: str) -> str:
    """Write a column as a formula needs it: in backticks where it is not a plain name."""
    return name if re.fullmatch(r"\w[\w.]*", name) else f"`{name}`"


def _crossed(name: str, factors: list[Variable]) -> Grouping:
    codes, first = cross(*(variable.codes for variable in factors))
    return Grouping(name, crossed_names([(v.levels, v.codes[first]) for v in factors]), codes)


def _samples(donor: Variable, fixed: Mapping[str, Variable], within: tuple[str, ...]) -> Grouping:
    """Cross the donor with the factors that vary within donors; numbers make no samples."""
    factors = [fixed[name] for name in within if fixed[name].is_factor]
    return _crossed(":".join([donor.name, *(variable.name for variable in factors)]), [donor, *factors])


def _given_samples(obs: pd.DataFrame, donors: Grouping, sample: str, where: str) -> Grouping:
    found = factor(obs, sample, where)
    if not determines(found.codes, donors.codes):
        first = cross(found.codes, donors.codes)[1]
        shared = np.flatnonzero(np.bincount(found.codes[first]) > 1)
        several = [donors.levels[d] for d in donors.codes[first][found.codes[first] == shared[0]]]
        what = f"{shared.size} samples hold cells of more than one {donors.name}, such as {found.levels[shared[0]]}"
        do = f"Use a column whose samples lie within one {donors.name}, or sample: null."
        raise UserError(f"{what} ({listing(several)})", f"{where}, obs['{sample}']", do)
    codes, first = cross(donors.codes, found.codes)
    return Grouping(sample, tuple(found.levels[code] for code in found.codes[first]), codes)
