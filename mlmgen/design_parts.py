"""The parts of a design before the model matrix: the donor, the samples, the variables, the random groups."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlmgen.errors import UserError, listing
from mlmgen.evaluation import evaluate, frame
from mlmgen.expressions import WITHIN, Split
from mlmgen.formula import (
    Formula,
    categorical_variables,
    fixed_variables,
    offset_variables,
    slope_variables,
    split_variables,
    variables,
)
from mlmgen.groups import determines
from mlmgen.obs_columns import (
    Variable,
    cross,
    crossed_names,
    factor,
    is_factor_column,
    number,
    numbers,
    read,
    require,
    split,
)


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
    slopes : dict of str to Variable
        Those that only the random slopes have.
    offsets : dict of str to Variable
        The variables of the offsets.
    groups : tuple of Grouping
        The grouping factor of each random term of the formula.
    within : tuple of str
        Variables of the fixed effects that vary within donors.
    """

    n: int
    donor: Grouping
    sample: Grouping
    fixed: dict[str, Variable]
    slopes: dict[str, Variable]
    offsets: dict[str, Variable]
    groups: tuple[Grouping, ...]
    within: tuple[str, ...]

    @property
    def variables(self) -> dict[str, Variable]:
        """Of the fixed effects and the random slopes."""
        return self.fixed | self.slopes


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
    found = _variables(obs, formula, donors, reference, where)
    fixed = {name: found[name] for name in fixed_variables(formula)}
    slopes = {name: found[name] for name in slope_variables(formula) if name not in fixed}
    offsets = {name: found[name] for name in offset_variables(formula)}
    columns = dict.fromkeys(column for part in formula.random for column in part.groups)
    factors = {column: replicate if column == donor else factor(obs, column, where) for column in columns}
    groups = tuple(_crossed(part.name, [factors[column] for column in part.groups]) for part in formula.random)
    within = tuple(name for name, variable in fixed.items() if not determines(donors.codes, variable.codes))
    samples = _given_samples(obs, donors, sample, where) if sample else _samples(replicate, fixed, within)
    return Parts(len(obs), donors, samples, fixed, slopes, offsets, groups, within)


def _variables(
    obs: pd.DataFrame, formula: Formula, donors: Grouping, reference: Mapping | None, where: str
) -> dict[str, Variable]:
    """Read the variables of all parts of the formula, and make those of ``within()`` and ``between()``."""
    splits = split_variables(formula)
    used = dict.fromkeys((*fixed_variables(formula), *slope_variables(formula), *offset_variables(formula)))
    plain = [name for name in used if name not in splits]
    found = read(obs, plain, (*categorical_variables(formula), donors.name), reference, where)
    return found | {name: _split(obs, splits[name], donors, where) for name in used if name in splits}


def _split(obs: pd.DataFrame, wanted: Split, donors: Grouping, where: str) -> Variable:
    """Split a covariate into the means of donors, or of the groups of another column, and the rest."""
    for column in wanted.columns:
        if is_factor_column(obs[column]):
            what = f"{wanted.name} needs a number, but obs column {column!r} holds text, categories or true/false"
            raise UserError(what, f"configuration key formula, {where}", "Store it as numbers, or leave it out.")
    sources = {column: number(obs, column, where) for column in wanted.columns}
    # In an order that the input's does not affect: center() and the like look at all cells.
    order = np.argsort(cross(*(variable.codes for variable in sources.values()))[0], kind="stable")
    found = evaluate(f"0 + I({wanted.expression})", frame(sources, order))[0]
    if found.shape[1] != 1 or not np.isfinite(found).all():
        what = f"{wanted.name} needs one finite number for each cell, which {wanted.expression} is not"
        do = "Use a transformation that is defined for all values of the column, such as log(x + 1)."
        raise UserError(what, f"configuration key formula, {where}", do)
    values = np.empty(len(obs))
    values[order] = found[:, 0]
    codes = factor(obs, wanted.group, where).codes if wanted.group else donors.codes
    between, within = split(values, codes)
    return numbers(wanted.name, within if wanted.kind == WITHIN else between)


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
