"""Problems of obs and formula that stop a run or a cell type."""

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mlmgen.design_parts import Grouping, Parts, determines, quoted, read_parts, same_groups, useful_terms
from mlmgen.design_warnings import warnings_of
from mlmgen.errors import UserError, listing, nearest
from mlmgen.formula import Formula, categorical_variables, fixed_variables, term_variables
from mlmgen.model_matrix import ModelMatrix, dependencies, model_matrix
from mlmgen.obs_columns import Variable, cross, factor, read, require

FORMULA = "configuration key formula"
# A column with a value for every second cell names cells, not donors.
LARGEST_SHARE_OF_LEVELS = 0.5
MOST_TERMS = 2
FEWEST_DONORS_PER_ARM = 2  # the schema's minimum


def check(
    obs: pd.DataFrame,
    formula: Formula,
    donor: str,
    sample: str | None = None,
    reference: Mapping | None = None,
    min_donors_per_arm: int = 2,
    also: Sequence[str] = (),
    where: str = "the input",
    methods: Sequence[str] = (),
) -> tuple[str, ...]:
    """Check all cells of the data, before they are split by cell type.

    Parameters
    ----------
    obs, formula, donor, sample, reference, where
        As in `mlmgen.design.build`; obs holds the cells of all chosen cell types.
    min_donors_per_arm : int
        Donors that every level of a factor of the fixed effects must have.
    also : sequence of str
        Further obs columns that must exist and have no missing values, such as the cell type.
    methods : sequence of str
        ``glmm`` among them needs a random intercept whose groups lie within donors.

    Returns
    -------
    tuple of str
        Warnings.

    Raises
    ------
    UserError
        On the first problem that would make results meaningless.
    """
    require(obs, also, f"obs of {where}")
    for name in also:
        factor(obs, name, where)
    parts = read_parts(obs, formula, donor, sample, reference, where)
    _check_donor(parts, where)
    _check_reference(parts, reference or {})
    _check_variables(parts, where)
    _check_terms(parts, where)
    _check_nesting(parts, where)
    matrix = model_matrix(formula, parts.fixed, parts.n)
    refuse_dependent_columns(matrix, parts, where)
    if "glmm" in methods:
        _check_replicate(parts, where)
    _check_arms(parts, min_donors_per_arm, where)
    _refuse_saturated(matrix, parts, where)
    return warnings_of(parts)


def review(
    obs: pd.DataFrame,
    formula: Formula,
    donor: str,
    sample: str | None = None,
    reference: Mapping | None = None,
    min_donors_per_arm: int = 2,
    where: str = "the input",
) -> tuple[str, tuple[str, ...]]:
    """Tell whether the cells of one cell type can be fitted, in data that passed `check`.

    Returns
    -------
    reason : str
        Why the cell type has to be skipped; empty if it need not.
    warnings : tuple of str
    """
    if len(obs) == 0:
        return "it has no cells", ()
    parts = read_parts(obs, formula, donor, sample, reference, where)
    reason = _too_few_donors(parts, min_donors_per_arm) or _lost_reference(parts, formula)
    if reason:
        return reason, ()
    try:
        _check_variables(parts, where)
        matrix = model_matrix(formula, parts.fixed, parts.n)
        refuse_dependent_columns(matrix, parts, where)
        _refuse_saturated(matrix, parts, where)
    except UserError as error:
        return error.what, ()
    short = [
        f"{name} = {level} has {count} {donor}{'s' * (count != 1)} here: effects of it rest on few replicates"
        for name, level, count in _arms(parts)
        if count < min_donors_per_arm
    ]
    absent = [
        f"{v.name} = {v.missing_reference} does not occur here: the level compared with is {v.levels[0]}"
        for v in parts.fixed.values()
        if v.missing_reference
    ]
    left_out = [f"the random intercept (1 | {term.name}) is left out: {why}" for term, why in useful_terms(parts)[1]]
    return "", (*short, *absent, *left_out)


def references(obs: pd.DataFrame, formula: Formula, reference: Mapping | None = None) -> dict[str, str]:
    """Return the reference level of each factor of the fixed effects in all cells of the data.

    Passed on to `mlmgen.design.build`, they keep the meaning of a coefficient the same in every cell type.
    """
    fixed = read(obs, fixed_variables(formula), categorical_variables(formula), reference, "the input")
    return {name: variable.levels[0] for name, variable in fixed.items() if variable.is_factor}


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
    do = f"Take one of {listing(used)} (or their interaction) out of the formula"
    together = any("always change together" in reason for reason in why)
    advice = "these data cannot tell their effects apart" if together else "a batch can be a random intercept"
    do = f"{do}; {advice}."
    raise UserError(f"{what}: {'; '.join(why)}", f"{FORMULA}, obs of {where}", do)


def _check_donor(parts: Parts, where: str) -> None:
    name, levels = parts.donor.name, parts.donor.levels
    place, do = f"{where}, obs['{name}']", "Set donor to the obs column of the person, animal or other replicate."
    if len(levels) < 2:
        raise UserError(f"donor column {name!r} is constant: all {parts.n:,} cells belong to {levels[0]}", place, do)
    if len(levels) == parts.n:
        raise UserError(f"donor column {name!r} is unique per cell: {parts.n:,} values in {parts.n:,} cells", place, do)
    if len(levels) > LARGEST_SHARE_OF_LEVELS * parts.n:
        what = f"donor column {name!r} is nearly unique per cell: {len(levels):,} values in {parts.n:,} cells"
        raise UserError(what, place, do)


def _check_reference(parts: Parts, reference: Mapping) -> None:
    for name, level in reference.items():
        place = f"configuration key reference.{name}"
        variable = parts.fixed.get(name)
        if variable is None:
            do = f"{nearest(name, parts.fixed)}The formula's fixed effects use: {listing(parts.fixed) or 'no column'}."
            raise UserError(f"there is a reference level for {name!r}, which is not in the fixed effects", place, do)
        if not variable.is_factor:
            do = f"Write C({name}) in the formula to use it as a factor, or leave out its reference."
            raise UserError(f"{name!r} is a number and has no reference level", place, do)
        if variable.missing_reference:
            quotes = "" if isinstance(level, str) else "Put the level in quotes, or YAML reads it as a number. "
            do = f"{nearest(level, variable.levels)}{quotes}Its levels are: {listing(variable.levels)}."
            raise UserError(f"the reference level {level!r} does not occur in {name!r}", place, do)


def _check_variables(parts: Parts, where: str) -> None:
    for name, variable in parts.fixed.items():
        if variable.codes.max() == 0:
            value = variable.levels[0] if variable.is_factor else f"{variable.values[0]:g}"
            do = f"Take {name} out of the formula, or choose cells in which it varies."
            what = f"{name!r} is constant: it is {value} in all {parts.n:,} cells"
            raise UserError(what, f"{where}, obs['{name}']", do)


def _check_terms(parts: Parts, where: str) -> None:
    for term in parts.terms:
        written = f"(1 | {term.name})"
        if term.name in parts.fixed and parts.fixed[term.name].is_factor:
            do = f"Keep {term.name} in the fixed effects or as {written}, not both."
            raise UserError(f"{term.name!r} is both a fixed effect and a random intercept", FORMULA, do)
        if len(term.levels) == parts.n:
            what = f"the random intercept {written} has a group for each of the {parts.n:,} cells"
            raise UserError(what, f"{FORMULA}, obs of {where}", "Use columns that group cells, such as the donor.")
    for term, why in useful_terms(parts)[1]:
        do = f"Take (1 | {term.name}) out of the formula."
        raise UserError(f"the random intercept (1 | {term.name}) cannot be estimated: {why}", f"{FORMULA}, {where}", do)


def _check_nesting(parts: Parts, where: str) -> None:
    """Refuse what the engine cannot fit yet: crossed random intercepts and more than two."""
    names = listing(f"(1 | {term.name})" for term in parts.terms)
    if len(parts.terms) > MOST_TERMS:
        do = f"Use one, or two of which one is nested in the other: at most {MOST_TERMS} are supported so far."
        raise UserError(f"the formula has {len(parts.terms)} random intercepts: {names}", f"{FORMULA}, {where}", do)
    if len(parts.terms) == MOST_TERMS:
        first, second = (term.codes for term in parts.terms)
        if not (determines(first, second) or determines(second, first)):
            do = (
                f"Use one of them, or two nested ones such as (1 | {quoted(parts.donor.name)}) and its samples: "
                "crossed random intercepts are not supported so far."
            )
            raise UserError(f"the random intercepts {names} are crossed", f"{FORMULA}, obs of {where}", do)


def _check_replicate(parts: Parts, where: str) -> None:
    """Refuse a cell-level model without donors: its replicates would be the cells."""
    if any(determines(term.codes, parts.donor.codes) for term in parts.terms):
        return
    donor = quoted(parts.donor.name)
    terms = listing(f"(1 | {term.name})" for term in parts.terms)
    seen = f"the formula's random intercepts, {terms}, do not separate" if terms else "no random intercept separates"
    what = (
        f"{seen} the {len(parts.donor.levels):,} donors of {parts.donor.name!r}: "
        f"the glmm would take the {parts.n:,} cells for the replicates and call far too much significant"
    )
    change = f"Write (1 | {donor}) for {donor}" if parts.donor.name in parts.fixed else f"Add (1 | {donor})"
    do = f"{change} in the formula, or leave glmm out of methods."
    raise UserError(what, f"{FORMULA}, obs of {where}", do)


def _arms(parts: Parts) -> list[tuple[str, str, int]]:
    """Return each level of each factor of the fixed effects with its number of donors."""
    arms = []
    for name, variable in parts.fixed.items():
        if variable.is_factor and name != parts.donor.name:
            first = cross(variable.codes, parts.donor.codes)[1]
            counts = np.bincount(variable.codes[first], minlength=len(variable.levels))
            arms += [(name, level, int(count)) for level, count in zip(variable.levels, counts, strict=True)]
    return arms


def _check_arms(parts: Parts, least: int, where: str) -> None:
    short = [(name, level, count) for name, level, count in _arms(parts) if count < least]
    if not short:
        return
    name = short[0][0]
    levels = [f"{level} ({count})" for arm, level, count in short if arm == name]
    what = f"fewer than {least} donors in {len(levels)} of the {len(parts.fixed[name].levels)} levels of {name!r}"
    numeric = all(isinstance(c, str) and re.fullmatch(r"-?[0-9.]+", c) for c in parts.fixed[name].categories)
    hint = f"{name} is stored as text or categories: store it as numbers if it is a quantity. " if numeric else ""
    # two levels are the comparison itself, never a batch to be averaged over
    batch = f"use a random intercept (1 | {quoted(name)}) for a batch" if len(parts.fixed[name].levels) > 2 else ""
    lower = "lower filters.min_donors_per_arm" if least > FEWEST_DONORS_PER_ARM else ""
    choices = [text for text in ("merge levels", "leave these cells out", "add donors", batch, lower) if text]
    do = f"{', '.join(choices[:-1])} or {choices[-1]}."
    raise UserError(f"{what}: {listing(levels)}", f"{where}, obs['{name}']", hint + do[:1].upper() + do[1:])


def _too_few_donors(parts: Parts, least: int) -> str:
    """Say why the donors of a cell type do not allow a comparison; empty if they do."""
    donors = len(parts.donor.levels)
    if donors < 2:
        return f"all its cells belong to one {parts.donor.name}, {parts.donor.levels[0]}"
    arms = _arms(parts)
    for name in dict.fromkeys(arm for arm, _, _ in arms):
        counts = {level: count for arm, level, count in arms if arm == name}
        if sum(count >= least for count in counts.values()) < 2:
            seen = listing(f"{level}: {count}" for level, count in counts.items())
            return f"fewer than two levels of {name} have {least} donors ({seen})"
    return ""


def _lost_reference(parts: Parts, formula: Formula) -> str:
    """Say which factor of an interaction has lost its reference, which would change what coefficients mean."""
    interacting = {name for term in term_variables(formula) if len(term) > 1 for name in term}
    for variable in parts.fixed.values():
        if variable.missing_reference and variable.name in interacting:
            return f"{variable.name} = {variable.missing_reference}, the reference level, does not occur"
    return ""


def _why_dependent(matrix: ModelMatrix, parts: Parts, column: int, involved: tuple[int, ...]) -> str:
    """Explain one dependency in terms of the obs columns."""
    columns = (column, *involved)
    names = list(dict.fromkeys(name for k in columns for name in matrix.variables[k]))
    pairs = [(a, b) for a in names for b in names if a != b]
    for a, b in pairs if involved else ():
        if determines(parts.fixed[a].codes, parts.fixed[b].codes):
            return _confounded(parts.fixed[a], parts.fixed[b])
    for a, b in pairs:
        interact = any({a, b} <= set(matrix.variables[k]) for k in columns)
        empty = _empty_combination(parts.fixed[a], parts.fixed[b]) if interact else ""
        if empty:
            return empty
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


def _refuse_saturated(matrix: ModelMatrix, parts: Parts, where: str) -> None:
    """Refuse a design that leaves nothing to estimate the variation between donors or samples from."""
    units: list[Grouping] = [parts.sample]
    if any(same_groups(term.codes, parts.donor.codes) for term in parts.terms):
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
            raise UserError(f"{what}: {reason}", f"{FORMULA}, obs of {where}", do)


def _constant_within(groups: np.ndarray, values: np.ndarray) -> bool:
    return determines(groups, np.unique(values, return_inverse=True)[1].astype(np.int64))
