"""From responses and a formula to a model without estimates: donor, references, what is refused and warned of."""

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlmgen import design as designs
from mlmgen.design_checks import refuse_constant_variables, refuse_useless_terms
from mlmgen.design_parts import Parts, read_parts
from mlmgen.design_rank import refuse_dependent_columns, refuse_saturated
from mlmgen.design_terms import Term, intercepts, random_terms
from mlmgen.design_warnings import flat_slopes, many_variances, warnings_of
from mlmgen.errors import UserError, listing, nearest
from mlmgen.formula import Formula, categorical_variables, fixed_variables, parse, slope_variables, variables
from mlmgen.groups import determines
from mlmgen.model_matrix import model_matrix
from mlmgen.names import text
from mlmgen.notebook.model import FittedModel, Options, in_order
from mlmgen.notebook.responses import COUNT_FAMILIES, Responses
from mlmgen.obs_columns import is_factor_column, natural_key, require
from mlmgen.random_terms import quoted
from mlmgen.types import Design

# obs column for rows that are their own replicates, in a data frame without random terms.
ROW = "row"


def designed(responses: Responses, donor: str | None, reference: Mapping | None, options: Options) -> FittedModel:
    """Build the design of a model and sort its responses; there are no estimates yet.

    Parameters
    ----------
    responses : Responses
    donor : str, optional
        Column of the replicate; without it the coarsest factor of the first random term.
    reference : mapping, optional
        Reference levels; other Categorical columns keep their own order.
    options : Options

    Raises
    ------
    UserError
        For any problem of the data or the formula.
    """
    formula = parse(responses.formula)
    table, donor = _with_donor(responses, formula, donor)
    _refuse_as_variables(responses, formula)
    reference = references(table, formula, reference, responses.where)
    _review(table, formula, donor, reference, responses)
    design, order = designs.build(table, formula, donor, None, reference, responses.size_factor, responses.where)
    _refuse_residual_groups(design, options.family)
    used = [name for name in table.columns if name in {donor, *variables(formula)}]
    reasons, counts = why_not_fitted(responses, options.family), in_order(responses, order)
    responses = dataclasses.replace(responses, table=table[used], values=None)
    return FittedModel(formula, responses, donor, reference, design, order, counts, None, None, reasons, options)


def references(table: pd.DataFrame, formula: Formula, reference: Mapping | None, where: str) -> dict[str, tuple]:
    """Return the levels of each column that come first: those given, then those of a Categorical in its order.

    Parameters
    ----------
    table : DataFrame
    formula : Formula
    reference : mapping of column to level or list of levels, optional
    where : str
        For messages.

    Raises
    ------
    UserError
        Where a reference names no factor of the formula, or a level that does not occur.
    """
    used = dict.fromkeys((*fixed_variables(formula), *slope_variables(formula)))
    columns = [name for name in used if name in table.columns]
    if reference is not None and not isinstance(reference, Mapping):
        do = "Give a mapping of columns to levels, as in reference={'condition': 'ctrl'}."
        raise UserError(f"the reference is {reference!r}", "argument reference", do)
    found = {
        name: tuple(table[name].cat.remove_unused_categories().cat.categories)
        for name in columns
        if isinstance(table[name].dtype, pd.CategoricalDtype)
    }
    for name, given in (reference or {}).items():
        place = f"{where}, argument reference[{name!r}]"
        if name not in used:
            do = f"{nearest(name, used)}The fixed effects and slopes use: {listing(used) or 'no column'}."
            raise UserError(f"there is a reference level for {name!r}, which is not in the fixed effects", place, do)
        wanted = tuple(given) if isinstance(given, list | tuple) else (given,)
        if name in columns:
            _refuse_unknown_levels(table[name], wanted, name in categorical_variables(formula), place)
        own = {text(level) for level in wanted}
        found[name] = (*wanted, *(level for level in found.get(name, ()) if text(level) not in own))
    return found


def why_not_fitted(responses: Responses, family: str) -> tuple[str, ...]:
    """Return for each response why it cannot be fitted; empty where it can, length G."""
    values = responses.values
    nonzero = np.diff(values.indptr)
    constant = np.zeros(nonzero.size, dtype=bool)
    if family not in COUNT_FAMILIES:
        low, high = (f(axis=0).toarray().ravel() for f in (values.min, values.max))
        constant = low == high
    word = "it is positive in every row" if family == "bernoulli" else "it is constant"
    return tuple(
        "it is 0 in every row" if n == 0 else word if same else "" for n, same in zip(nonzero, constant, strict=True)
    )


def default_donor(formula: Formula) -> str | None:
    """Return the coarsest factor of the first random term, None without random terms."""
    return formula.random[0].groups[0] if formula.random else None


def _refuse_unknown_levels(column: pd.Series, wanted: tuple, declared: bool, place: str) -> None:
    """Raise a UserError for reference levels that a column does not have, and for numbers, which have none."""
    if not (declared or is_factor_column(column)):
        do = f"Write C({column.name}) in the formula to use it as a factor, or leave out its reference."
        raise UserError(f"{column.name!r} is a number and has no reference level", place, do)
    levels = sorted({text(value) for value in column.dropna().unique()}, key=natural_key)
    for level in wanted:
        if text(level) not in levels:
            do = f"{nearest(text(level), levels)}Its levels are: {listing(levels)}."
            raise UserError(f"the reference level {level!r} does not occur in {column.name!r}", place, do)


def _with_donor(responses: Responses, formula: Formula, donor: str | None) -> tuple[pd.DataFrame, str]:
    """Return the table and the name of the donor's column, which is added where every row is its own replicate."""
    table = responses.table
    require(table, variables(formula), f"argument formula, {responses.where}", formula.text)
    donor = donor or default_donor(formula)
    if donor is not None:
        return table, donor
    if responses.kind == "gene":
        do = "Give donor='<obs column>', or add a random term such as (1 | donor)."
        raise UserError("the formula has no random term and no donor is given", "argument donor", do)
    name = next(name for name in (ROW, f"mlmgen_{ROW}", f"mlmgen_{ROW}_") if name not in table.columns)
    return table.assign(**{name: np.arange(1, len(table) + 1).astype(str)}), name


def _refuse_as_variables(responses: Responses, formula: Formula) -> None:
    """Refuse a response that also explains."""
    if responses.kind == "response":
        for name in responses.names:
            if name in variables(formula):
                do = "Take it out of one side of the formula."
                raise UserError(f"{name!r} is both the response and a variable", "argument formula", do)


def _review(table: pd.DataFrame, formula: Formula, donor: str, reference: Mapping, responses: Responses) -> None:
    """Refuse what cannot be estimated; warn of what makes tests of genes too bold, and of idle variances."""
    where = responses.where
    parts = read_parts(table, formula, donor, None, reference, where)
    refuse_constant_variables(parts.variables, parts.n, where)
    matrix = model_matrix(formula, parts.variables, parts.n)
    refuse_dependent_columns(matrix, parts, where)
    terms = random_terms(formula, parts, matrix)
    refuse_useless_terms(terms, parts, matrix, where)
    refuse_saturated(matrix, parts, intercepts(terms), where)
    if responses.kind == "gene":
        found = (*warnings_of(parts, terms, matrix), *_cells_as_replicates(parts, terms))
    else:
        found = (*flat_slopes(parts, terms, matrix), *many_variances(terms))
    for message in found:
        warnings.warn(message, stacklevel=4)


def _cells_as_replicates(parts: Parts, terms: tuple[Term, ...]) -> list[str]:
    """Warn of variables that differ between donors where no random effect does."""
    between = [name for name in parts.fixed if name not in parts.within and name != parts.donor.name]
    if not between or any(determines(group.codes, parts.donor.codes) for group in intercepts(terms)):
        return []
    donor = parts.donor.name
    return [
        f"no random intercept separates the {len(parts.donor.levels):,} donors of {donor!r}: the {parts.n:,} cells "
        f"count as replicates, and p-values of {listing(between)} will be far too small; add (1 | {quoted(donor)})"
    ]


def _refuse_residual_groups(design: Design, family: str) -> None:
    """Refuse groups of single rows, whose variance a gaussian model cannot tell from the residual's."""
    for term in design.terms:
        if family == "gaussian" and len(term.levels) == design.pattern.size:
            what = f"the random term of {term.name} has a group for each of the {design.pattern.size:,} rows"
            do = "Take it out of the formula, or use columns that group rows."
            raise UserError(what, "argument formula", do)
