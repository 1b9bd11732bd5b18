"""Problems of obs and formula that stop a run or a cell type."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mlmgen.design_parts import Parts, read_parts
from mlmgen.design_rank import refuse_dependent_columns, refuse_dependent_samples, refuse_saturated
from mlmgen.design_terms import Term, estimable_terms, intercepts, random_terms, useful_terms
from mlmgen.design_warnings import flat_slopes, warnings_of
from mlmgen.errors import UserError, listing, nearest
from mlmgen.expressions import split_source
from mlmgen.formula import (
    WHERE,
    Formula,
    categorical_variables,
    fixed_variables,
    slope_variables,
    split_variables,
    term_variables,
)
from mlmgen.groups import determines
from mlmgen.model_matrix import ModelMatrix, model_matrix, offset
from mlmgen.obs_columns import Variable, cross, factor, read, require
from mlmgen.random_terms import quoted

# A column with a value for every second cell names cells, not donors.
LARGEST_SHARE_OF_LEVELS = 0.5
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
        ``glmm`` among them needs a random intercept whose groups lie within donors; ``pseudobulk`` needs columns
        whose means in samples can be told apart.

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
    refuse_constant_variables(parts.variables, parts.n, where)
    matrix = model_matrix(formula, parts.variables, parts.n)
    refuse_dependent_columns(matrix, parts, where)
    terms = random_terms(formula, parts, matrix)
    _check_terms(terms, parts, matrix, where)
    offset(formula, parts.offsets, parts.n)
    if "glmm" in methods:
        _check_replicate(terms, parts, where)
    _check_arms(parts, min_donors_per_arm, where)
    refuse_saturated(matrix, parts, intercepts(terms), where)
    if "pseudobulk" in methods:
        refuse_dependent_samples(matrix, parts, where)
    return warnings_of(parts, terms, matrix)


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
        refuse_constant_variables(parts.fixed, parts.n, where)
        matrix = model_matrix(formula, parts.variables, parts.n)
        refuse_dependent_columns(matrix, parts, where)
        terms, left_out = estimable_terms(formula, parts, matrix)
        refuse_saturated(matrix, parts, intercepts(terms), where)
    except UserError as error:
        return error.what, ()
    short = [
        f"{name} = {level} has {count} {donor}{'s' * (count != 1)} here: effects of it rest on few replicates"
        for name, level, count in _arms(parts)
        if count < min_donors_per_arm
    ]
    absent = [
        f"{v.name} = {v.missing_reference} does not occur here: the level compared with is {v.levels[0]}"
        for v in parts.variables.values()
        if v.missing_reference
    ]
    dropped = [f"{what} is left out: {why}" for what, why in left_out]
    return "", (*short, *absent, *dropped, *flat_slopes(parts, terms, matrix))


def references(obs: pd.DataFrame, formula: Formula, reference: Mapping | None = None) -> dict[str, str]:
    """Return the reference level of each factor of the fixed effects and the slopes in all cells of the data.

    Passed on to `mlmgen.design.build`, they keep the meaning of a coefficient the same in every cell type.
    """
    names = dict.fromkeys((*fixed_variables(formula), *slope_variables(formula)))
    columns = [name for name in names if name not in split_variables(formula)]
    found = read(obs, columns, categorical_variables(formula), reference, "the input")
    return {name: variable.levels[0] for name, variable in found.items() if variable.is_factor}


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
        variable = parts.variables.get(name)
        if variable is None:
            used = parts.variables
            do = f"{nearest(name, used)}The formula's fixed effects and slopes use: {listing(used) or 'no column'}."
            raise UserError(f"there is a reference level for {name!r}, which is not in the fixed effects", place, do)
        if not variable.is_factor:
            do = f"Write C({name}) in the formula to use it as a factor, or leave out its reference."
            raise UserError(f"{name!r} is a number and has no reference level", place, do)
        if variable.missing_reference:
            quotes = "" if isinstance(level, str) else "Put the level in quotes, or YAML reads it as a number. "
            do = f"{nearest(level, variable.levels)}{quotes}Its levels are: {listing(variable.levels)}."
            raise UserError(f"the reference level {level!r} does not occur in {name!r}", place, do)


def refuse_constant_variables(variables: Mapping[str, Variable], n: int, where: str) -> None:
    """Raise a UserError for a variable that is the same in all n cells."""
    for name, variable in variables.items():
        if variable.codes.max() > 0:
            continue
        value = variable.levels[0] if variable.is_factor else f"{variable.values[0]:g}"
        source = split_source(name)
        if source != name:
            what = f"{source} does not vary {name.partition('(')[0]} groups: {name} is {value} in all {n:,} cells"
            raise UserError(what, f"{WHERE}, {where}", f"Write {source} for {name}, or take it out of the formula.")
        do = f"Take {name} out of the formula, or choose cells in which it varies."
        what = f"{name!r} is constant: it is {value} in all {n:,} cells"
        raise UserError(what, f"{where}, obs['{name}']", do)


def _check_terms(terms: tuple[Term, ...], parts: Parts, matrix: ModelMatrix, where: str) -> None:
    for term in terms:
        if len(term.group.levels) == parts.n:
            what = f"the {term.kind} {term.text} has a group for each of the {parts.n:,} cells"
            raise UserError(what, f"{WHERE}, obs of {where}", "Use columns that group cells, such as the donor.")
    refuse_useless_terms(terms, parts, matrix, where)


def refuse_useless_terms(terms: tuple[Term, ...], parts: Parts, matrix: ModelMatrix, where: str) -> None:
    """Raise a UserError for a random term whose variance cannot be told from something else in the formula."""
    for group in intercepts(terms):
        if group.name in parts.fixed and parts.fixed[group.name].is_factor:
            do = f"Keep {group.name} in the fixed effects or as (1 | {group.name}), not both."
            raise UserError(f"{group.name!r} is both a fixed effect and a random intercept", WHERE, do)
    for term, why in useful_terms(terms, parts, matrix)[1]:
        do = f"Take {term.text} out of the formula."
        raise UserError(f"the {term.kind} {term.text} cannot be estimated: {why}", f"{WHERE}, {where}", do)


def _check_replicate(terms: tuple[Term, ...], parts: Parts, where: str) -> None:
    """Refuse a cell-level model without donors: its replicates would be the cells."""
    if any(determines(group.codes, parts.donor.codes) for group in intercepts(terms)):
        return
    donor = quoted(parts.donor.name)
    texts = listing(dict.fromkeys(term.text for term in terms))
    kind = "random intercepts" if all(term.is_intercept for term in terms) else "random terms"
    seen = f"the formula's {kind}, {texts}, do not separate" if texts else "no random intercept separates"
    what = (
        f"{seen} the {len(parts.donor.levels):,} donors of {parts.donor.name!r}: "
        f"the glmm would take the {parts.n:,} cells for the replicates and call far too much significant"
    )
    factors = [name for name in parts.within if parts.fixed[name].is_factor and name != parts.donor.name]
    needed = " + ".join([f"(1 | {donor})", *(f"(1 | {donor}:{quoted(name)})" for name in factors)])
    change = f"Write {needed} for {donor}" if parts.donor.name in parts.fixed else f"Add {needed}"
    do = f"{change} in the formula, or leave glmm out of methods."
    raise UserError(what, f"{WHERE}, obs of {where}", do)


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
