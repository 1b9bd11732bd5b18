"""A fitted model with the data behind it: what tables, tests and predictions start from."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mlmgen.counts import gene_major
from mlmgen.errors import UserError, listing, nearest
from mlmgen.formula import Formula
from mlmgen.notebook.responses import Responses
from mlmgen.status import HELP, Status
from mlmgen.types import Counts, Design, GeneFits, Moderated

METHODS, INTEGRATIONS, LIKELIHOODS = ("reml", "ml"), ("laplace", "agq"), ("compressed", "exact")
# Of a `GeneFits`, what has no gene axis, and the names of the genes.
SHARED = ("genes", "coefficients", "components", "method", "grid_shape")


@dataclass(frozen=True)
class Options:
    """How a model is fitted; see `mlmgen.notebook.api.fit`."""

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


def sentences(model: FittedModel) -> list[str]:
    """Return for each response why it was not fitted, or the help of a status that is not plain convergence."""
    status = [Status(value) for value in model.estimates.status]
    texts = {value: "" if value == Status.CONVERGED else HELP[value] for value in Status}
    return [why or texts[value] for why, value in zip(model.reasons, status, strict=True)]


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
