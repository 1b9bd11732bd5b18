"""A fitted model with the data behind it: what the tables, tests and predictions of the Python API start from."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from mlmgen import design as designs
from mlmgen import fitting as engine
from mlmgen import moderate
from mlmgen.counts import gene_major
from mlmgen.design_checks import refuse_constant_variables, refuse_useless_terms
from mlmgen.design_parts import Parts, determines, read_parts
from mlmgen.design_rank import refuse_dependent_columns, refuse_saturated
from mlmgen.design_terms import Term, intercepts, random_terms
from mlmgen.design_warnings import flat_slopes, many_variances, warnings_of
from mlmgen.errors import UserError, listing, nearest
from mlmgen.formula import Formula, categorical_variables, fixed_variables, parse, slope_variables, variables
from mlmgen.model_matrix import model_matrix
from mlmgen.names import text
from mlmgen.obs_columns import is_factor_column, natural_key, require
from mlmgen.random_terms import quoted
from mlmgen.responses import COUNT_FAMILIES, Responses
from mlmgen.status import HELP, Status
from mlmgen.types import Counts, Design, GeneFits, Moderated

METHODS, INTEGRATIONS, LIKELIHOODS = ("reml", "ml"), ("laplace", "agq"), ("compressed", "exact")
# The prior of the variances has two hyperparameters that are learned across responses: sound from a few dozen up.
RESPONSES_TO_MODERATE = 30
# Of a `GeneFits`, what has no gene axis, and the names of the genes.
SHARED = ("genes", "coefficients", "components", "method", "grid_shape")
# obs column for rows that are their own replicates, in a data frame without random terms.
ROW = "row"


@dataclass(frozen=True)
class Options:
    """How a model is fitted; see `mlmgen.api.fit`."""

    family: str
    method: str
    integration: str
    nodes: int
    likelihood: str
    threads: int


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model fitted to one or many responses.

    Attributes
    ----------
    formula : Formula
    responses : Responses
        Without values; the table has the columns that the model uses, rows in the order of the data.
    donor : str
        Column of the replicate.
    reference : dict of str to tuple
        Levels by column, those that come first in their order; see `references`.
    design : Design
        Rows sorted by donor and pattern.
    order : (n,) int64
        Row of the data of each row of the design.
    counts : Counts
        The responses in the order of the design.
    estimates : GeneFits
        Natural logarithms, or the units of a gaussian response.
    moderated : Moderated or None
        Where responses are many and the model has a variance grid.
    reasons : tuple of str, length G
        Why a response was not fitted; empty for the others.
    options : Options
    whole : bool
        Whether these are all responses that were fitted, not a choice of them.
    """

    formula: Formula
    responses: Responses
    donor: str
    reference: dict
    design: Design
    order: np.ndarray
    counts: Counts
    estimates: GeneFits
    moderated: Moderated | None
    reasons: tuple[str, ...]
    options: Options
    whole: bool = True


def check_options(options: Options) -> None:
    """Raise a UserError for an option that does not exist."""
    allowed = {"method": METHODS, "integration": INTEGRATIONS, "likelihood": LIKELIHOODS}
    for name, values in allowed.items():
        value = getattr(options, name)
        if value not in values:
            do = f"{nearest(value, values)}Use {' or '.join(values)}."
            raise UserError(f"there is no {name} {value!r}", f"argument {name}", do)
    if options.integration == "agq" and options.method != "ml":
        do = "Set method to ml, or integration to laplace."
        raise UserError("adaptive quadrature (agq) is for maximum likelihood", "argument integration", do)


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


def fitted(model: FittedModel, progress: Callable[[int], None] | None = None) -> FittedModel:
    """Fit the responses of a model and moderate their variances where there are enough of them.

    Parameters
    ----------
    model : FittedModel
        Estimates that it has are replaced.
    progress : callable, optional
        Called with the number of responses just done.
    """
    o, keep = model.options, _can_be_fitted(model)
    estimates = engine.fit_shard(
        model.counts, model.design, keep, o.family, "cells", o.threads, progress,
        method=o.method, integration=o.integration, nodes=o.nodes, likelihood=o.likelihood,
        grid=uses_grid(model),
    )  # fmt: skip
    moderated = (
        moderate.moderate(estimates, np.log(np.maximum(totals(model.counts), 1.0)))
        if engine.has_grid(estimates)
        else None
    )
    return dataclasses.replace(model, estimates=estimates, moderated=moderated)


def uses_grid(model: FittedModel) -> bool:
    """Tell whether a model will be fitted on the variance grid, and so moderated."""
    o, many = model.options, int(_can_be_fitted(model).sum()) >= RESPONSES_TO_MODERATE
    return many and engine.can_have_grid(model.design, o.family, "cells", o.method, o.likelihood)


def refitted(model: FittedModel, method: str, progress=None) -> FittedModel:
    """Return the model fitted by another method, ``reml`` or ``ml``."""
    if model.options.method == method:
        return model
    options = dataclasses.replace(model.options, method=method)
    check_options(options)
    return fitted(dataclasses.replace(model, options=options), progress)


def chosen(model: FittedModel, names: Sequence[str]) -> FittedModel:
    """Return the model of some of its responses, as they were fitted beside the others.

    Raises
    ------
    UserError
        Where a name is unknown.
    """
    places = positions(model, names)
    counts, estimates, moderated = model.counts, model.estimates, model.moderated
    spans = [slice(counts.start[g], counts.start[g + 1]) for g in places]
    start = np.r_[0, np.cumsum([span.stop - span.start for span in spans])].astype(np.int64)
    rows, values = (np.concatenate([array[span] for span in spans]) for array in (counts.rows, counts.values))
    own = tuple(model.responses.names[g] for g in places)
    per_gene = {
        field.name: getattr(estimates, field.name)[places]
        for field in dataclasses.fields(GeneFits)
        if field.name not in SHARED
    }
    if moderated is not None:
        posterior = {name: getattr(moderated, name)[places] for name in ("weights", "variance", "ci_low", "ci_high")}
        moderated = dataclasses.replace(moderated, **posterior)
    return dataclasses.replace(
        model,
        responses=dataclasses.replace(model.responses, names=own),
        counts=Counts(own, start, rows, values),
        estimates=dataclasses.replace(estimates, **per_gene, genes=own),
        moderated=moderated,
        reasons=tuple(model.reasons[g] for g in places),
        whole=False,
    )


def positions(model: FittedModel, names: Sequence[str]) -> list[int]:
    """Return the places of responses by name."""
    place = {name: i for i, name in enumerate(model.responses.names)}
    kind = model.responses.kind
    for name in names:
        if name not in place:
            do = f"{nearest(name, place)}The {kind}s are: {listing(place)}."
            raise UserError(f"there is no {kind} {name!r} in the fit", "argument responses", do)
    return [place[name] for name in names]


def totals(counts: Counts) -> np.ndarray:
    """Return the sum of each response over the rows, (G,) float64."""
    gene = np.repeat(np.arange(len(counts.genes)), np.diff(counts.start))
    return np.bincount(gene, counts.values, len(counts.genes))


def in_order(responses: Responses, order: np.ndarray) -> Counts:
    """Return the responses as `Counts` on the rows of a design."""
    values = gene_major(responses.values.tocsr(), order)
    values.sort_indices()
    start, rows = values.indptr.astype(np.int64), values.indices.astype(np.int32)
    return Counts(responses.names, start, rows, values.data.astype(np.float64))


def in_data_order(model: FittedModel) -> sparse.csc_matrix:
    """Return the responses of a model with rows in the order of the data, (n, G)."""
    counts, n = model.counts, model.design.pattern.size
    values = (counts.values, model.order[counts.rows], counts.start)
    return sparse.csc_matrix(values, shape=(n, len(counts.genes)))


def _can_be_fitted(model: FittedModel) -> np.ndarray:
    return np.array([not reason for reason in model.reasons], dtype=bool)


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


def sentences(model: FittedModel) -> list[str]:
    """Return for each response why it was not fitted, or the help of a status that is not plain convergence."""
    status = [Status(value) for value in model.estimates.status]
    texts = {value: "" if value == Status.CONVERGED else HELP[value] for value in Status}
    return [why or texts[value] for why, value in zip(model.reasons, status, strict=True)]


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


def default_donor(formula: Formula) -> str | None:
    """Return the coarsest factor of the first random term, None without random terms."""
    return formula.random[0].groups[0] if formula.random else None


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
