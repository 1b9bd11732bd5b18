"""Fit all genes of a shard: counts and a design in, a ``GeneFits`` out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.special import chdtrc

from mlmgen.compress import SEPARATED_SD, Compressed, compress
from mlmgen.kernels.engine import FitResult, fit_genes, fit_work
from mlmgen.status import Status
from mlmgen.types import Counts, Design, GeneFits

# Points of each axis by the number of components on the variance grid; the last is between replicates.
AXES = {0: (), 1: (24,), 2: (7, 9), 3: (4, 5, 7)}
# Genes a compiled call works on before it reports progress.
CHUNK = 64
DISPERSION = "dispersion"


def fit_shard(
    counts: Counts,
    design: Design,
    keep: np.ndarray,
    family: str = "nb",
    level: str = "cells",
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> GeneFits:
    """Fit every kept gene by REML-Laplace and profile it on the variance grid.

    Parameters
    ----------
    counts : Counts
        G genes on the rows of ``design``.
    design : Design
        Of the cells, or of the samples (``design.for_samples``).
    keep : (G,) bool
        Genes that passed the filters; the others get the status ``FILTERED``.
    family : {"nb", "poisson"}
        Of the cells. Sums over samples are always negative binomial: their dispersion is the
        variance between replicates.
    level : {"cells", "samples"}
        Which rows the design has.
    threads : int
        Results do not depend on it.
    progress : callable, optional
        Called with the number of genes just done.
    """
    packed = compress(design)
    active = active_parameters(packed, family, level)
    shape = grid_shape(active, level)
    result = run_fits(packed, counts, keep, active, shape, level == "samples", threads, progress)
    return _gene_fits(counts, design, packed, active, shape, result)


def active_parameters(packed: Compressed, family: str, level: str) -> np.ndarray:
    """Return which of (sigma_top, sigma_sub, phi) are estimated, (3,) bool."""
    return np.array([packed.top >= 0, packed.sub >= 0, family == "nb" or level == "samples"])


def grid_shape(active: np.ndarray, level: str) -> np.ndarray:
    """Return the points of each axis of the variance grid, (3,) int64; 1 where a component stays at its estimate.

    The random intercepts are on the grid; for samples so is the dispersion, which is then the variance
    between replicates. The last component on the grid is the one between replicates and has most points.
    """
    shape = np.ones(3, dtype=np.int64)
    axes = np.flatnonzero(active & np.array([True, True, level == "samples"]))
    shape[axes] = AXES[axes.size]
    return shape


def run_fits(packed, counts, keep, active, shape, samples, threads, progress, profile: bool = True) -> FitResult:
    """Run ``fit_genes`` over chunks of genes on the threads."""
    G, p = len(counts.genes), packed.structure.X.shape[0]
    longest = int(np.diff(counts.start).max(initial=0))
    shapes = {"beta": (G, p), "se": (G, p), "psi": (G, 3), "loglik": (G,), "without": (G, 3), "box": (G, 3, 2)}
    shapes["profile"] = (G, int(shape.prod()) if profile else 0)
    result = FitResult(
        status=np.full(G, int(Status.FILTERED), np.int8),
        evaluations=np.zeros(G, np.int32),
        **{name: np.full(size, np.nan) for name, size in shapes.items()},
    )
    ridge = separated_ridge(packed)

    def run(work_packed, first):
        last = min(first + CHUNK, G)
        fit_genes(
            work_packed[1], counts.start, counts.rows, counts.values, keep, first, last, active, samples, ridge, shape,
            work_packed[0], result,
        )  # fmt: skip
        return last - first

    in_chunks(run, lambda: thread_work(packed, longest), range(0, G, CHUNK), threads, progress)
    return result


def separated_ridge(packed: Compressed) -> np.ndarray:
    """Return the prior precisions of the coefficients of a separated gene: none for an intercept, (p,)."""
    constant = np.ptp(packed.structure.X, axis=1) == 0.0
    return np.where(constant, 0.0, SEPARATED_SD**-2)


def thread_work(packed: Compressed, longest: int):
    """Allocate a thread's work and a compressed design with a ridge array of its own, which the thread may write."""
    own = packed._replace(structure=packed.structure._replace(ridge=packed.structure.ridge.copy()))
    return fit_work(own, longest), own


def in_chunks(run, make_work, firsts, threads: int, progress) -> None:
    """Call ``run(work, first)`` for each chunk, each thread with its own work; report genes done."""
    if threads <= 1:
        work = make_work()
        for first in firsts:
            done = run(work, first)
            if progress:
                progress(done)
        return
    idle = [make_work() for _ in range(threads)]

    def on_thread(first):
        work = idle.pop()
        try:
            return run(work, first)
        finally:
            idle.append(work)

    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(on_thread, firsts):
            if progress:
                progress(done)


def _gene_fits(counts, design, packed, active, shape, result) -> GeneFits:
    """Put the engine's (top, sub, phi) in the order of the formula's terms."""
    columns, components = [], []
    for position, term in enumerate(design.terms):
        columns.append(0 if position == packed.top else 1)
        components.append(term.name)
    if active[2]:
        columns.append(2)
        components.append(DISPERSION)
    ratio = 2.0 * np.maximum(result.loglik[:, None] - result.without[:, columns], 0.0)
    pvalue = np.where(ratio > 0.0, 0.5 * chdtrc(1.0, ratio), 1.0)
    pvalue[np.isnan(ratio)] = np.nan
    return GeneFits(
        genes=tuple(counts.genes),
        coefficients=design.coefficients,
        components=tuple(components),
        beta=result.beta,
        std_error=result.se,
        variance=result.psi[:, columns],
        variance_pvalue=pvalue,
        loglik=result.loglik,
        status=result.status,
        n_iter=result.evaluations,
        grid_shape=shape[columns],
        grid_low=result.box[:, columns, 0],
        grid_high=result.box[:, columns, 1],
        grid_loglik=_in_order(result.profile, shape, columns),
    )


def _in_order(profile, shape, columns):
    """Transpose the grid from the engine's order of components to that of the formula."""
    missing = [v for v in range(3) if v not in columns]
    grid = profile.reshape(-1, *shape).transpose(0, *(1 + v for v in [*columns, *missing]))
    return np.ascontiguousarray(grid).reshape(profile.shape)


def concatenate(shards: list[GeneFits]) -> GeneFits:
    """Join the shards of one cell type and method in the order given."""
    first = shards[0]
    joined = {name: np.concatenate([getattr(s, name) for s in shards]) for name in _PER_GENE}
    genes = tuple(gene for s in shards for gene in s.genes)
    shared = {name: getattr(first, name) for name in ("coefficients", "components", "grid_shape")}
    return GeneFits(genes=genes, **shared, **joined)


_PER_GENE = ("beta", "std_error", "variance", "variance_pvalue", "loglik", "status", "n_iter")
_PER_GENE += ("grid_low", "grid_high", "grid_loglik")
