"""Moderated tests of contrasts in any model that the general engine fits."""

import numpy as np

from mlmgen.kernels.model_tests import ModelTests, PointWork, test_models
from mlmgen.levels import Model, model_work
from mlmgen.multilevel import models_of_tiers, responses, standardize
from mlmgen.threads import CHUNK, in_chunks
from mlmgen.types import Contrast, Counts, Design, GeneFits, Moderated
from mlmgen.variance_grid import GridPlan, parameters_of, plan, ridges


def test_any(
    counts: Counts,
    design: Design,
    fits: GeneFits,
    moderated: Moderated,
    contrasts: list[Contrast],
    family: str,
    likelihood: str,
    threads: int,
    progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Test contrasts of one rank; return mean, standard error and interval (G, C, 4) and log p (G, C)."""
    G, C = len(counts.genes), len(contrasts)
    counts, unit = responses(counts, design, family), np.ones(G)
    if family == "gaussian":
        counts, unit = standardize(counts, design.pattern.size)
    fitted = np.isfinite(fits.loglik) & np.isfinite(moderated.weights).all(axis=1)
    tiers = models_of_tiers(counts, design, fitted, family, "reml", likelihood)
    chosen = plan(design, tiers[-1][0])
    psi, _ = parameters_of(design, tiers[-1][0], fits, family)
    variances = (psi, boxes(chosen, fits), in_axis_order(chosen, fits, moderated.weights))
    effects, log_p = np.full((G, C, 4), np.nan), np.full((G, C), np.nan)
    for model, genes in tiers:
        _run(model, chosen, counts, genes, ridges(model, fits), variances, contrasts, threads, progress, effects, log_p)
    return effects * unit[:, None, None], log_p


def boxes(chosen: GridPlan, fits: GeneFits) -> np.ndarray:
    """Return the ends of the axes, (G, 3, 2)."""
    box = np.full((len(fits.genes), 3, 2), np.nan)
    for a, v in enumerate(chosen.component):
        box[:, a, 0], box[:, a, 1] = fits.grid_low[:, v], fits.grid_high[:, v]
    return box


def in_axis_order(chosen: GridPlan, fits: GeneFits, weights: np.ndarray) -> np.ndarray:
    """Transpose weights (G, K) from the order of the components to that of the axes."""
    order = np.argsort(chosen.component)
    grid = weights.reshape(-1, *fits.grid_shape[np.array(chosen.component)[order]])
    return np.ascontiguousarray(grid.transpose(0, *(1 + np.argsort(order)))).reshape(weights.shape)


def null_models(model: Model, contrasts: list[Contrast]) -> ModelTests:
    """Build for contrasts of one rank the fixed columns of their null models."""
    weights = np.array([c.weights for c in contrasts], dtype=np.float64) / model.x_scale
    C, r, p = weights.shape
    basis = np.array([np.linalg.svd(rows)[2][r:].T for rows in weights]).reshape(C, p, p - r)
    X = np.ascontiguousarray(np.einsum("cij,ikp->cjkp", basis, model.tree.X))
    first = np.ascontiguousarray(weights[:, 0])
    return ModelTests(int(r), first, X, basis, np.log((first**2).sum(axis=1)))


def null_model(model: Model, tests: ModelTests) -> Model:
    """Return the model with the columns of the first contrast's null model; those of the others have its shape."""
    tree = model.tree._replace(X=tests.X[0], ridge=np.zeros(tests.X.shape[1]))
    return model._replace(tree=tree, ridge=tree.ridge)


def _run(model, chosen, counts, genes, ridge, variances, contrasts, threads, progress, effects, log_p) -> None:
    tests, data = null_models(model, contrasts), (counts.start, counts.rows, counts.values)
    null, G, longest = null_model(model, tests), len(counts.genes), int(np.diff(counts.start).max(initial=0))

    def make_work():
        K, C = variances[2].shape[1], len(contrasts)
        work, of_null = model_work(model, longest), model_work(null, longest)
        sizes = (np.zeros(K) for _ in range(3))
        order, wide = np.zeros(K, np.int64), (np.zeros((K, C)) for _ in range(2))
        trial = np.zeros(model.tree.rows.size + 1)
        return work, PointWork(of_null, order, *sizes, *wide, np.zeros(model.tree.X.shape[0]), trial)

    def run(work, first):
        last = min(first + CHUNK, G)
        test_models(
            model.layout, null.layout, model.terms, chosen.axes, data, genes, first, last, ridge, variances, tests,
            *work, effects, log_p,
        )  # fmt: skip
        return int(genes[first:last].sum())

    in_chunks(run, make_work, range(0, G, CHUNK), threads, progress)
