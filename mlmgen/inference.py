"""Moderated tests of contrasts: fits and posterior weights in, an ``Effects`` out."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri_exp

from mlmgen.compress import Compressed, compress
from mlmgen.fit import CHUNK, DISPERSION, active_parameters, grid_shape, in_chunks, separated_ridge, thread_work
from mlmgen.kernels.arrowhead import Work, workspace
from mlmgen.kernels.mixture import Contrasts, TestWork, test_genes
from mlmgen.types import Contrast, Counts, Design, Effects, GeneFits, Moderated


class EngineVariances(NamedTuple):
    """A shard's variances in the engine's order (top, sub, phi): psi (G, 3), box (G, 3, 2), weights (G, K)."""

    psi: np.ndarray
    box: np.ndarray
    weights: np.ndarray


def test(
    counts: Counts,
    design: Design,
    fits: GeneFits,
    moderated: Moderated,
    contrasts: tuple[Contrast, ...],
    family: str = "nb",
    level: str = "cells",
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Effects:
    """Test every contrast of every fitted gene.

    Parameters
    ----------
    counts, design, family, level, threads, progress
        As for ``fit.fit_shard``.
    fits, moderated
        Of the same genes.
    contrasts : tuple of Contrast
    """
    packed = compress(design)
    shape = grid_shape(active_parameters(packed, family, level), level)
    engine = engine_variances(packed, fits, moderated)
    G, C = len(counts.genes), len(contrasts)
    effects, log_p = np.full((G, C, 4), np.nan), np.full((G, C), np.nan)
    fitted = np.isfinite(fits.loglik) & np.isfinite(engine.weights).all(axis=1)
    bundle, ridge = contrast_designs(packed, contrasts), separated_ridge(packed)
    data = (counts.start, counts.rows, counts.values)
    longest = int(np.diff(counts.start).max(initial=0))

    def run(work, first):
        last = min(first + CHUNK, G)
        gene_work, own, wk, test_work = work
        test_genes(
            own, data, fitted, first, last, engine, shape, bundle, level == "samples", ridge,
            (gene_work, wk, test_work), effects, log_p,
        )  # fmt: skip
        return last - first

    def make_work():
        (gene_work, wk, _), own = thread_work(packed, longest)
        return gene_work, own, wk, contrast_work(packed, engine.weights.shape[1], C)

    in_chunks(run, make_work, range(0, G, CHUNK), threads, progress)
    sign = np.where(effects[..., 0] < 0, -1.0, 1.0)
    return Effects(
        contrasts=tuple(c.name for c in contrasts),
        estimate=effects[..., 0],
        std_error=effects[..., 1],
        ci_low=effects[..., 2],
        ci_high=effects[..., 3],
        log_pvalue=log_p,
        statistic=-sign * ndtri_exp(log_p - np.log(2.0)),
    )


def engine_variances(packed: Compressed, fits: GeneFits, moderated: Moderated) -> EngineVariances:
    """Put variances, grid and weights in the engine's order; components that are not estimated are zero."""
    G = len(fits.genes)
    psi, box = np.zeros((G, 3)), np.full((G, 3, 2), np.nan)
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


def contrast_designs(packed: Compressed, contrasts: tuple[Contrast, ...]) -> Contrasts:
    """Build for every contrast the design of its null model: X times a basis of the directions with c'beta = 0."""
    weights = np.array([c.weights for c in contrasts], dtype=np.float64).reshape(len(contrasts), -1)
    bases = []
    for c in weights:
        _, _, vt = np.linalg.svd(c[None, :])
        bases.append(np.ascontiguousarray(vt[1:].T))
    basis = np.array(bases).reshape(len(contrasts), weights.shape[1], weights.shape[1] - 1)
    designs = np.ascontiguousarray(np.einsum("cij,ip->cjp", basis, packed.structure.X))
    return Contrasts(weights, designs, basis, np.log((weights**2).sum(axis=1)))


def contrast_work(packed: Compressed, K: int, C: int) -> TestWork:
    """Allocate a thread's scratch for the tests."""
    st = packed.structure
    null: Work = workspace(st._replace(X=st.X[1:]))
    vectors = [np.zeros(K, np.int64), np.zeros(K), np.zeros(K), np.zeros(K), np.zeros((K, C)), np.zeros((K, C))]
    return TestWork(null, *vectors, *(np.zeros(3) for _ in range(4)), np.zeros(st.X.shape[0] - 1))
