"""Fit and test genes again without each donor in turn.

The prior of the variances stays that of all genes and all donors, and so do the size factors: what changes are the
donor's own counts.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from mlmgen.dependence import group_means
from mlmgen.fitting import fit_shard
from mlmgen.inference import test
from mlmgen.moderate import axes_of, posterior
from mlmgen.replicates import separates_donors
from mlmgen.stability import LeftOut
from mlmgen.types import Contrast, Counts, Design, Effects, GeneFits, Moderated
from mlmgen.variance_prior import Hyper
from mlmgen.without_donor import Rest, columns_of, remaining_contrast, saturated, without_donor

# Donors that are left out for a gene: beyond, those that a log-linear regression of the sample sums says matter most.
MOST_DONORS = 8


def leave_out(
    counts: Counts,
    design: Design,
    fitted: np.ndarray,
    prior: dict[str, np.ndarray] | None,
    z: np.ndarray,
    contrasts: tuple[Contrast, ...],
    hit: np.ndarray,
    family: str = "nb",
    level: str = "cells",
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
    **options,
) -> LeftOut:
    """Fit and test genes without each donor.

    Parameters
    ----------
    counts : Counts
        H genes.
    design : Design
    fitted : (H,) bool
        Genes that have a fit to all donors.
    prior : dict of str to (3,) float64, or None
        Mean, slope and standard deviation of the log variance of each component; None where the tests are not
        moderated.
    z : (H,) float64
        Log total count of each gene less the mean over all fitted genes of the cell type.
    contrasts : tuple of Contrast
    hit : (H, C) bool
    family, level, threads, progress, options
        As for `mlmgen.fitting.fit_shard`.
    """
    H, C, D = len(counts.genes), len(contrasts), len(design.donor.levels)
    dropped = farthest(counts, design, contrasts) & (fitted & hit.any(axis=1))[:, None]
    estimable, estimate = np.zeros((C, D), dtype=bool), np.full((H, C, D), np.nan)
    log_pvalue = estimate.copy()
    for d, donor in enumerate(design.donor.levels):
        rest = without_donor(design, counts, donor)
        kept = [remaining_contrast(contrast, rest) for contrast in contrasts] if replicated(rest, design) else []
        tested = np.flatnonzero([contrast is not None for contrast in kept])
        estimable[tested, d] = True
        if not tested.size:
            continue
        found = _refit(
            rest, tuple(kept[c] for c in tested), dropped[:, d], prior, z, family, level, threads, progress,
            options,
        )  # fmt: skip
        estimate[:, tested, d], log_pvalue[:, tested, d] = found.estimate, found.log_pvalue
    names = tuple(contrast.name for contrast in contrasts)
    return LeftOut(counts.genes, names, design.donor.levels, hit, dropped, estimable, estimate, log_pvalue)


def replicated(rest: Rest, design: Design) -> bool:
    """Tell whether donors, or samples of donors, are still the replicates: not where one donor is left."""
    several = np.unique(rest.design.donor.codes).size > 1 or len(design.donor.levels) == 1
    return several and not saturated(rest.design) and separates_donors(rest.design) >= separates_donors(design)


def _refit(rest: Rest, contrasts, dropped, prior, z, family, level, threads, progress, options) -> Effects:
    """Fit, weigh and test the genes of one leave-one-out."""
    keep = dropped & varies(rest, "nb" if level == "samples" else family)
    fits = fit_shard(
        rest.counts, rest.design, keep, family, level, threads, progress, grid=prior is not None, **options
    )
    reweighed = reweigh(fits, prior or {}, z)
    likelihood = options.get("likelihood", "compressed")
    found = test(rest.counts, rest.design, fits, reweighed, contrasts, family, level, threads, likelihood=likelihood)
    # Of a gene whose counts are all of the donor that is left out nothing remains: p is 1.
    nothing = (dropped & ~keep)[:, None]
    log_pvalue, estimate = np.where(nothing, 0.0, found.log_pvalue), np.where(nothing, 0.0, found.estimate)
    return dataclasses.replace(found, log_pvalue=log_pvalue, estimate=estimate)


def varies(rest: Rest, family: str) -> np.ndarray:
    """Tell which genes have anything left to fit, (H,) bool: a count, and for detection also a cell without."""
    cells = np.diff(rest.counts.start)
    return (cells > 0) & ((cells < rest.design.pattern.size) | (family != "bernoulli"))


def reweigh(fits: GeneFits, prior: dict[str, np.ndarray], z: np.ndarray) -> Moderated:
    """Return the posterior weights of fits under a prior that is given, not learned.

    Parameters
    ----------
    fits : GeneFits
    prior : dict of str to (3,) float64
        Mean, slope and standard deviation of the log variance of each component; one that has none leaves the
        likelihood as it is.
    z : (G,) float64
        Centered log total count.

    Returns
    -------
    Moderated
        Without a grid there are no weights.
    """
    priors = {}
    for v in axes_of(fits):
        given = prior.get(fits.components[v])
        if given is not None and np.isfinite(given).all():
            priors[v] = Hyper(*given[:, None], np.ones(1))
    return posterior(fits, priors, z)


def farthest(counts: Counts, design: Design, contrasts: tuple[Contrast, ...]) -> np.ndarray:
    """Return which donors to leave out for each gene, (H, D) bool: all, or the `MOST_DONORS` that matter most.

    With X the samples' design and e the residuals of the log rates on it, leaving out donor d changes the estimate of
    the contrast c by about the sum over the donor's samples of c'(X'X)^-1 x e / (1 - h), h the leverages.
    """
    H, D = len(counts.genes), len(design.donor.levels)
    if D <= MOST_DONORS or not contrasts:
        return np.ones((H, D), dtype=bool)
    S, sample = len(design.sample.levels), design.sample.codes[design.pattern]
    donor = design.donor.codes[np.unique(design.sample.codes, return_index=True)[1]]
    columns = columns_of(design, design.X, design.basis)
    of_cells = columns if len(columns) == sample.size else columns[design.pattern]
    X = group_means(of_cells, sample, np.ones(sample.size))
    gene = np.repeat(np.arange(H), np.diff(counts.start))
    sums = np.bincount(gene * S + sample[counts.rows], counts.values, H * S).reshape(H, S)
    rate = np.log((sums + 0.5) / np.bincount(sample, np.exp(design.log_size), S))
    inverse = np.linalg.pinv(X)
    leverage = np.einsum("sp,ps->s", X, inverse)
    residual = rate - rate @ (X @ inverse).T
    scaled = residual / np.maximum(1.0 - leverage, 0.1)
    change = np.zeros((H, D))
    for row in np.concatenate([contrast.weights for contrast in contrasts]):
        parts = scaled * (row @ inverse)
        of_donor = np.stack([np.bincount(donor, values, D) for values in parts])
        change = np.maximum(change, np.abs(of_donor) / np.linalg.norm(row @ inverse))
    chosen = np.zeros((H, D), dtype=bool)
    np.put_along_axis(chosen, np.argsort(-change, axis=1, kind="stable")[:, :MOST_DONORS], True, axis=1)
    return chosen
