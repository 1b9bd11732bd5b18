"""The null audit of one cell type and method: permuted labels, refitted genes, and injected effects.

Under labels that are exchanged as the design allows (`mlmgen.exchange`) no contrast has an effect, whatever the data
are like: the share of p-values below 0.05 should be 5 %. Known effects are then injected into a tenth of the genes
(`mlmgen.thinning`), which tells the false discovery proportion and the power among the noise of these data.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from mlmgen import design as designs
from mlmgen import exchange as exchanges
from mlmgen import fitting, inference, moderate, pseudobulk, thinning
from mlmgen.design_parts import read_parts
from mlmgen.design_rank import why_not_samples
from mlmgen.errors import UserError
from mlmgen.exchange import Exchange
from mlmgen.formula import Formula
from mlmgen.model_matrix import model_matrix
from mlmgen.types import Contrast, Counts, Design, GeneFits

MOST_GENES = 2000
WARM_UP = 4  # genes, which load the compiled code before a time is taken
NO_DESIGN = "no permutation has a design that can be estimated"
NO_GENES = "no gene passes the filters"
ONLY_MEANS = "cells of a sample differ in it, and pseudobulk sees its mean in each sample, which no permutation changes"


class Study(NamedTuple):
    """The cells of one cell type, n of them, and the genes that are audited.

    Attributes
    ----------
    cell_type : str
    genes : tuple of str, length G
    X : (n, G) CSC of int
    obs : DataFrame
        n rows, with ``size_factor``.
    formula : Formula
    donor : str
    sample : str or None
    reference : dict
        Reference levels.
    coefficients : tuple of str
        Of the design with the labels as they are, on which the contrasts are.
    """

    cell_type: str
    genes: tuple[str, ...]
    X: sparse.csc_matrix
    obs: pd.DataFrame
    formula: Formula
    donor: str
    sample: str | None
    reference: dict
    coefficients: tuple[str, ...]


class Plan(NamedTuple):
    """What an audit does for one contrast.

    Attributes
    ----------
    contrast : Contrast
    exchange : Exchange or None
        What changes places.
    splits : int
        Permutations to make: as many as are wanted, or all there are.
    reason : str
        Why there are none; empty where there are.
    """

    contrast: Contrast
    exchange: Exchange | None
    splits: int
    reason: str


class Model(NamedTuple):
    """How genes are fitted, as in the run that is audited.

    Attributes
    ----------
    level : {"cells", "samples"}
    family, method, integration, nodes, likelihood
        As for `mlmgen.fitting.fit_shard`.
    response : callable
        From counts and design to what is fitted.
    """

    level: str
    family: str
    method: str
    integration: str
    nodes: int
    likelihood: str
    response: Callable[[Counts, Design], Counts]


@dataclasses.dataclass(frozen=True)
class Audit:
    """P-values of C contrasts under S splits for G genes; unused splits and failed fits are NaN.

    Attributes
    ----------
    genes : tuple of str, length G
    contrasts : tuple of str, length C
    permuted : tuple of str, length C
        The variable whose labels are exchanged; empty where nothing can be.
    exchanged : tuple of str, length C
        How: ``between donors``, ``within donors``, ... as `mlmgen.exchange.Exchange.kind`.
    reasons : tuple of str, length C
        Why a contrast is not audited; empty where it is.
    splits, distinct : (C,) float64
        Splits used, and those there are.
    log2fc : (C,) float64
        Injected, log2.
    log_pvalue : (C, S, G) float64
        Natural log, under the null.
    injected : (C, S, G) int8
        1 for genes that went up, -1 down, 0 for the others.
    injected_log_pvalue : (C, S, G) float64
        With the injected effects.
    """

    genes: tuple[str, ...]
    contrasts: tuple[str, ...]
    permuted: tuple[str, ...]
    exchanged: tuple[str, ...]
    reasons: tuple[str, ...]
    splits: np.ndarray
    distinct: np.ndarray
    log2fc: np.ndarray
    log_pvalue: np.ndarray
    injected: np.ndarray
    injected_log_pvalue: np.ndarray


class _Split(NamedTuple):
    log_pvalue: np.ndarray
    injected: np.ndarray
    injected_log_pvalue: np.ndarray
    log2fc: float


def every_kth(total: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
    """Choose `MOST_GENES` genes evenly in the order of total count.

    Parameters
    ----------
    total : (G,) float64
        Total count of each gene.
    genes : tuple of str, length G
        Names, which order genes of the same total.

    Returns
    -------
    (at most `MOST_GENES`,) int64
        Places of the genes, increasing.
    """
    order = np.lexsort((np.array(genes, dtype=object).astype(str), total))
    number = min(len(genes), MOST_GENES)
    return np.sort(order[np.arange(number) * len(genes) // max(number, 1)])


def plans(study: Study, level: str, contrasts: tuple[Contrast, ...], number: int) -> tuple[Plan, ...]:
    """Find what changes places for each contrast, and how often.

    Parameters
    ----------
    study : Study
    level : {"cells", "samples"}
    contrasts : tuple of Contrast
        On the coefficients of the study.
    number : int
        Splits that are wanted for each.
    """
    if not study.genes:
        return tuple(Plan(contrast, None, 0, NO_GENES) for contrast in contrasts)
    parts = read_parts(study.obs, study.formula, study.donor, study.sample, study.reference, study.cell_type)
    matrix = model_matrix(study.formula, parts.variables, parts.n)
    planned = []
    for contrast in contrasts:
        exchange, reason = exchanges.find(parts, matrix, study.formula, contrast, study.obs)
        if exchange and level == "samples" and exchange.kind == exchanges.BETWEEN_CELLS:
            exchange, reason = None, ONLY_MEANS
        splits = int(min(number, exchanges.number_of_splits(exchange))) if exchange else 0
        planned.append(Plan(contrast, exchange, splits, reason))
    return tuple(planned)


def audit(
    study: Study,
    model: Model,
    planned: tuple[Plan, ...],
    seed: int,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Refit all genes under permuted labels, as they are and with injected effects.

    Parameters
    ----------
    study : Study
    model : Model
    planned : tuple of Plan
        From `plans`.
    seed : int
        With the names of cell type and contrast it decides which splits and genes are drawn, the same for both
        methods.
    threads : int
        Results do not depend on it.
    progress : callable, optional
        Called with the number of genes after each split.
    """
    each = [_splits(study, model, plan, seed, threads, progress) for plan in planned]
    S, G = max(map(len, each), default=0), len(study.genes)
    shape = (len(each), S, G)
    arrays = {"log_pvalue": np.full(shape, np.nan), "injected_log_pvalue": np.full(shape, np.nan)}
    arrays["injected"] = np.zeros(shape, dtype=np.int8)
    for c, splits in enumerate(each):
        for s, split in enumerate(splits):
            for name, array in arrays.items():
                array[c, s] = getattr(split, name)
    exchanged = [plan.exchange for plan in planned]
    return Audit(
        genes=study.genes,
        contrasts=tuple(plan.contrast.name for plan in planned),
        permuted=tuple(", ".join(one.columns) if one else "" for one in exchanged),
        exchanged=tuple(one.kind if one else "" for one in exchanged),
        reasons=tuple(plan.reason or NO_DESIGN * (not made) for plan, made in zip(planned, each, strict=True)),
        splits=np.array([float(len(splits)) for splits in each]),
        distinct=np.array([exchanges.number_of_splits(one) if one else 0.0 for one in exchanged]),
        log2fc=np.array([splits[0].log2fc if splits else np.nan for splits in each]),
        **arrays,
    )


def expected_seconds(study: Study, model: Model, planned: tuple[Plan, ...], threads: int = 1) -> float:
    """Estimate how long `audit` takes by fitting and testing once with labels as they are.

    Parameters
    ----------
    study, model, planned, threads
        As for `audit`.
    """
    made = [plan for plan in planned if plan.splits]
    if not made:
        return 0.0
    _tried(study, model, made[0], WARM_UP, threads)
    return sum(plan.splits for plan in made) * _tried(study, model, made[0], len(study.genes), threads)


def _tried(study: Study, model: Model, plan: Plan, number: int, threads: int) -> float:
    """Return the seconds that the labels as they are take for the first genes."""
    first = study._replace(genes=study.genes[:number], X=study.X[:, :number])
    started = time.perf_counter()
    laid = _laid_out(first, first.obs, model.level)
    if laid is not None:
        _split(first, model, plan.contrast, laid, (0,), threads)
    return time.perf_counter() - started


def _splits(study, model, plan: Plan, seed, threads, progress) -> list[_Split]:
    """Audit one contrast."""
    found, seeds = [], (seed, thinning.key(study.cell_type), thinning.key(plan.contrast.name))
    drawn = exchanges.splits(plan.exchange, plan.splits, seeds) if plan.exchange else ()
    for split in itertools.islice(drawn, exchanges.DRAWS * plan.splits):
        laid = _laid_out(study, exchanges.permuted(study.obs, plan.exchange, split), model.level)
        if laid is None:
            continue
        found.append(_split(study, model, plan.contrast, laid, (*seeds, len(found)), threads))
        if progress:
            progress(len(study.genes))
        if len(found) == plan.splits:
            break
    return found


def _laid_out(study: Study, obs: pd.DataFrame, level: str):
    """Build the design of permuted labels and the order of its cells; None where it cannot be estimated."""
    size = obs["size_factor"].to_numpy()
    try:
        design, order = designs.build(
            obs, study.formula, study.donor, study.sample, study.reference, size, study.cell_type
        )
    except UserError:  # columns that the permuted labels make dependent
        return None
    if design.coefficients != study.coefficients:
        return None
    return None if level == "samples" and why_not_samples(designs.for_samples(design)) else (design, order)


def _split(study, model, contrast, laid, seed, threads) -> _Split:
    """Fit and test all genes under one split, as they are and with injected effects."""
    rows = _rows(study.X, study.genes, model, laid)
    null = _fitted(rows, model, threads)
    log_pvalue = _tested(null, study.X, contrast, model, rows, threads)
    sign = thinning.chosen(study.genes, seed)
    added, log2fc = _added(laid, contrast)
    changed = np.flatnonzero(sign)
    names = tuple(study.genes[g] for g in changed)
    thinned = thinning.thin(study.X[:, changed], names, sign[changed], added, seed)
    refitted = _fitted(_rows(thinned, names, model, laid), model, threads)
    X, fits = _with_columns(study.X, thinned, changed), _with_fits(null, refitted, changed)
    rows = _rows(X, study.genes, model, laid)
    return _Split(log_pvalue, sign, _tested(fits, X, contrast, model, rows, threads), log2fc)


def _added(laid: tuple[Design, np.ndarray], contrast: Contrast) -> tuple[np.ndarray, float]:
    """Return the effect to inject in the order of the study's cells, and its log2 fold change."""
    design, order = laid
    in_order, log2fc = thinning.effect(design, contrast)
    added = np.empty_like(in_order)
    added[order] = in_order
    return added, log2fc


def _rows(X: sparse.csc_matrix, genes: tuple[str, ...], model: Model, laid) -> tuple[Counts, Design]:
    """Bring counts into the order of a design, summed per sample where samples are fitted."""
    design, order = laid
    place = np.empty(len(order), dtype=X.indices.dtype)
    place[order] = np.arange(len(order))
    ordered = sparse.csc_matrix((X.data.copy(), place[X.indices], X.indptr.copy()), shape=X.shape)
    ordered.sort_indices()
    if model.level == "samples":
        ordered, design = pseudobulk.aggregate(ordered, design), designs.for_samples(design)
    start, rows = ordered.indptr.astype(np.int64), ordered.indices.astype(np.int32)
    counts = Counts(tuple(genes), start, rows, ordered.data.astype(np.float64))
    return model.response(counts, design), design


def _fitted(rows: tuple[Counts, Design], model: Model, threads: int) -> GeneFits:
    counts, design = rows
    return fitting.fit_shard(
        counts, design, np.ones(len(counts.genes), dtype=bool), model.family, model.level, threads,
        method=model.method, integration=model.integration, nodes=model.nodes, likelihood=model.likelihood,
    )  # fmt: skip


def _tested(fits: GeneFits, X: sparse.csc_matrix, contrast, model: Model, rows, threads: int) -> np.ndarray:
    """Moderate and test one contrast; return the natural log of the p-values, (G,)."""
    counts, design = rows
    total = np.diff(X.indptr) if model.family == "bernoulli" else np.asarray(X.sum(axis=0)).ravel()
    moderated = moderate.moderate(fits, np.log(np.maximum(total.astype(float), 1.0)))
    effects = inference.test(
        counts, design, fits, moderated, (contrast,), model.family, model.level, threads, likelihood=model.likelihood
    )
    return effects.log_pvalue[:, 0]


def _with_columns(X: sparse.csc_matrix, changed: sparse.csc_matrix, columns: np.ndarray) -> sparse.csc_matrix:
    others = np.setdiff1d(np.arange(X.shape[1]), columns)
    joined = sparse.hstack([X[:, others], changed], format="csc")
    return joined[:, np.argsort(np.concatenate([others, columns]), kind="stable")]


def _with_fits(fits: GeneFits, changed: GeneFits, genes: np.ndarray) -> GeneFits:
    """Return fits with those of some genes replaced: a gene's fit does not depend on the others."""
    replaced = {}
    for field in dataclasses.fields(fits):
        value = getattr(fits, field.name)
        if isinstance(value, np.ndarray) and field.name != "grid_shape":
            replaced[field.name] = value.copy()
            replaced[field.name][genes] = getattr(changed, field.name)
    return dataclasses.replace(fits, **replaced)
