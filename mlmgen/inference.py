"""Tests of contrasts: fits and posterior weights in, an ``Effects`` out. Moderated where there is a variance grid."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri_exp

from mlmgen.compress import Compressed, compress, for_family
from mlmgen.fitting import active_parameters, grid_shape, has_own_engine, separated_ridge, thread_work
from mlmgen.kernels.arrowhead import Work, workspace
from mlmgen.kernels.mixture import Contrasts, TestWork, test_genes
from mlmgen.model_tests import test_any
from mlmgen.multilevel import DISPERSION, responses
from mlmgen.threads import CHUNK, in_chunks
from mlmgen.types import Contrast, Counts, Design, Effects, GeneFits, Moderated
from mlmgen.wald import chi_square_quantile, wald


class EngineVariances(NamedTuple):
    """A shard's variances in the engine's order (top, sub, phi): psi (G, 3), box (G, 3, 2), weights (G, K)."""

    psi: np.ndarray
    box: np.ndarray
    weights: np.ndarray


def test(
    counts: Counts,
    design: Design,
    fits: GeneFits,
    moderated: Moderated | None,
    contrasts: tuple[Contrast, ...],
    family: str = "nb",
    level: str = "cells",
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
    likelihood: str = "compressed",
) -> Effects:
    """Test every contrast of every fitted gene.

    Parameters
    ----------
    counts, design, family, level, threads, progress, likelihood
        As for ``fitting.fit_shard``.
    fits, moderated
        Of the same genes. Without posterior weights (K = 0) the tests are t and F tests, `mlmgen.wald`.
    contrasts : tuple of Contrast
    """
    family = "nb" if level == "samples" else family
    if moderated is None or not moderated.weights.shape[1]:
        return wald(fits, design, contrasts)
    effects = np.full((len(counts.genes), len(contrasts), 4), np.nan)
    log_p = np.full(effects.shape[:2], np.nan)
    ranks = np.array([len(contrast.weights) for contrast in contrasts])
    for rank in np.unique(ranks):
        of_rank = np.flatnonzero(ranks == rank)
        together, report = [contrasts[c] for c in of_rank], progress if rank == ranks.max() else None
        if has_own_engine(design, family, level, fits.method, likelihood):
            found = test_nested(counts, design, fits, moderated, together, family, level, threads, report)
        else:
            found = test_any(counts, design, fits, moderated, together, family, likelihood, threads, report)
        effects[:, of_rank], log_p[:, of_rank] = found
    return _effects(contrasts, ranks, effects, log_p)


def test_nested(counts, design, fits, moderated, contrasts, family, level, threads, progress):
    """Test contrasts of one rank with the engine of nested intercepts, as ``model_tests.test_any``."""
    packed, counts = for_family(compress(design), family), responses(counts, design, family)
    shape = grid_shape(active_parameters(packed, family, level), level)
    engine, bundle = engine_variances(packed, fits, moderated), contrast_designs(packed, contrasts)
    return _run(packed, counts, fits, engine, shape, bundle, level == "samples", threads, progress)


def _run(packed, counts, fits, engine, shape, bundle, samples: bool, threads: int, progress):
    """Run ``test_genes`` over chunks of genes on the threads; return the effects (G, C, 4) and log p (G, C)."""
    G, C = len(counts.genes), len(bundle.weights)
    effects, log_p = np.full((G, C, 4), np.nan), np.full((G, C), np.nan)
    fitted = np.isfinite(fits.loglik) & np.isfinite(engine.weights).all(axis=1)
    ridge, data = separated_ridge(packed), (counts.start, counts.rows, counts.values)
    longest = int(np.diff(counts.start).max(initial=0))

    def run(work, first):
        last = min(first + CHUNK, G)
        gene_work, own, wk, test_work = work
        test_genes(
            own, data, fitted, first, last, engine, shape, bundle, samples, ridge, (gene_work, wk, test_work),
            effects, log_p,
        )  # fmt: skip
        return last - first

    def make_work():
        (gene_work, wk, _), own = thread_work(packed, longest)
        return gene_work, own, wk, contrast_work(packed, engine.weights.shape[1], C, bundle.rank)

    in_chunks(run, make_work, range(0, G, CHUNK), threads, progress)
    return effects, log_p


def _effects(contrasts, ranks, effects, log_p) -> Effects:
    """Name the columns; a joint test has no effect of its own."""
    effects[:, ranks > 1] = np.nan
    sign = np.where(effects[..., 0] < 0, -1.0, 1.0)
    statistic = -sign * ndtri_exp(log_p - np.log(2.0))
    for c in np.flatnonzero(ranks > 1):
        statistic[:, c] = chi_square_quantile(log_p[:, c], int(ranks[c]))
    return Effects(
        contrasts=tuple(c.name for c in contrasts),
        estimate=effects[..., 0],
        std_error=effects[..., 1],
        ci_low=effects[..., 2],
        ci_high=effects[..., 3],
        log_pvalue=log_p,
        statistic=statistic,
        df=np.full(log_p.shape, np.nan),
    )


def engine_variances(packed: Compressed, fits: GeneFits, moderated: Moderated) -> EngineVariances:
    """Put variances, grid and weights in the engine's order; components that are not estimated are zero."""
    G = len(fits.genes)
    psi, box = np.zeros((G, 3)), np.full((G, 3, 2), np.nan)
    psi[:, 2] = packed.fixed_phi
    columns = engine_columns(packed, fits.components)
    for v, column in enumerate(columns):
        psi[:, column] = fits.variance[:, v]
        box[:, column, 0], box[:, column, 1] = fits.grid_low[:, v], fits.grid_high[:, v]
    weights = moderated.weights.reshape(G, *fits.grid_shape)
    weights = np.ascontiguousarray(weights.transpose(0, *(1 + np.argsort(columns)))).reshape(G, -1)
    return EngineVariances(psi, box, weights)


def engine_columns(packed: Compressed, components: tuple[str, ...]) -> list[int]:
    """Return the engine's position (0 top, 1 sub, 2 phi) of each component."""
    positions = {packed.top: 0, packed.sub: 1}
    return [2 if name == DISPERSION else positions[v] for v, name in enumerate(components)]


def contrast_designs(packed: Compressed, contrasts: list[Contrast]) -> Contrasts:
    """Build for contrasts of one rank the designs of their null models: X times a basis of what they leave free."""
    weights = np.array([c.weights for c in contrasts], dtype=np.float64)
    C, r, p = weights.shape
    basis = np.empty((C, p, p - r))
    for c in range(C):
        basis[c] = np.linalg.svd(weights[c])[2][r:].T
    designs = np.ascontiguousarray(np.einsum("cij,ip->cjp", basis, packed.structure.X))
    first = np.ascontiguousarray(weights[:, 0])
    return Contrasts(int(r), first, designs, basis, np.log((first**2).sum(axis=1)))


def contrast_work(packed: Compressed, K: int, C: int, rank: int = 1) -> TestWork:
    """Allocate a thread's scratch for the tests."""
    st = packed.structure
    null: Work = workspace(st._replace(X=st.X[rank:]))
    vectors = [np.zeros(K, np.int64), np.zeros(K), np.zeros(K), np.zeros(K), np.zeros((K, C)), np.zeros((K, C))]
    return TestWork(null, *vectors, *(np.zeros(3) for _ in range(4)), np.zeros(st.X.shape[0] - rank))
