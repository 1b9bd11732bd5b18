"""The variance grid of any model: which variances are its axes, and the restricted likelihood at its points."""

from typing import NamedTuple

import numpy as np

from mlmgen.kernels.model_grid import Axes, profile_models
from mlmgen.kernels.optimize import rho_of
from mlmgen.levels import Model, model_work
from mlmgen.status import Status
from mlmgen.threads import CHUNK, in_chunks
from mlmgen.types import Counts, Design, GeneFits

# Points of each axis by the number of components on the variance grid; the last is between replicates.
AXES = {0: (), 1: (24,), 2: (7, 9), 3: (4, 5, 7)}
# Correlations of a term are shrunk together until none is larger: at one, a variance could not grow on its own.
LARGEST_CORRELATION = 0.9


class GridPlan(NamedTuple):
    """The axes of a design's grid, and of each (up to three) the component and the number of groups.

    component : tuple of int, places in ``GeneFits.variance``; groups : (3,) float64.
    """

    axes: Axes
    component: tuple[int, ...]
    groups: np.ndarray


def plan(design: Design, model: Model) -> GridPlan | None:
    """Choose the axes of a design: its variances where there are up to three, else the terms, else the finest three.

    The axis of a term stands for its first effect; the others keep their proportion to it. None without random terms.
    """
    terms = range(len(design.terms))
    effects = [(t, e) for t in terms for e in range(len(design.terms[t].effects))]
    chosen = effects if len(effects) <= 3 else [(t, -1) for t in terms]
    if not chosen:
        return None
    number = {t: np.unique(design.terms[t].codes).size for t in terms}

    def order(axis):
        # By groups, then by names: the order of the terms in the formula does not matter.
        term = design.terms[axis[0]]
        return number[axis[0]], term.name, term.effects[max(axis[1], 0)]

    chosen = sorted(chosen, key=order)[-3:]
    shape, first, effect, size, column, groups = np.ones((6, 3), dtype=np.int64)
    for a, (t, e) in enumerate(chosen):
        shape[a] = AXES[len(chosen)][a]
        first[a], size[a], effect[a] = model.terms.first[t], model.terms.size[t], e
        column[a], groups[a] = model.columns[t][max(e, 0)], number[t]
    starts = np.r_[0, np.cumsum([len(t.effects) * (len(t.effects) + 1) // 2 for t in design.terms])]
    component = tuple(int(starts[t]) + max(e, 0) for t, e in chosen)
    axes = Axes(shape, first, effect, size, column, np.maximum(groups - 2.0, 1.0))
    return GridPlan(axes, component, groups.astype(float))


def parameters_of(design: Design, model: Model, fits: GeneFits, family: str) -> tuple[np.ndarray, np.ndarray]:
    """Return psi (G, T + 1) in the kernels' units and the residual variance (G,), 1 for counts, of fitted genes.

    Correlations are at most `LARGEST_CORRELATION`.
    """
    G = len(fits.genes)
    scale = fits.variance[:, -1] if family == "gaussian" else np.ones(G)
    psi = np.zeros((G, model.tree.rows.size + 1))
    place = 0
    for t, term in enumerate(design.terms):
        q, z = len(term.effects), model.z_scale[model.columns[t]]
        sigma = np.zeros((G, q, q))
        lower = np.tril_indices(q, -1)
        sigma[:, np.arange(q), np.arange(q)] = fits.variance[:, place : place + q]
        sigma[:, *lower] = sigma[:, *lower[::-1]] = fits.variance[:, place + q : place + q + lower[0].size]
        place += q + lower[0].size
        factor = lower_factors(shrunk(sigma) * np.outer(z, z) / scale[:, None, None])
        first = model.terms.first[t]
        psi[:, first : first + q * (q + 1) // 2] = factor[:, *np.tril_indices(q)]
    if family == "nb":
        psi[:, -1] = 2.0 * np.arcsinh(np.sqrt(0.5 * fits.variance[:, -1]))
    elif family == "bernoulli":
        psi[:, -1] = rho_of(1.0)
    return psi, scale


def shrunk(sigma: np.ndarray) -> np.ndarray:
    """Return covariances (G, q, q) with their correlations shrunk to `LARGEST_CORRELATION` at most."""
    sd = np.sqrt(np.maximum(np.einsum("gii->gi", sigma), 1e-300))
    correlation = sigma / (sd[:, :, None] * sd[:, None, :])
    off = ~np.eye(sigma.shape[1], dtype=bool)
    largest = np.abs(correlation[:, off]).max(axis=1, initial=0.0)
    factor = np.minimum(1.0, LARGEST_CORRELATION / np.maximum(largest, 1e-300))
    return np.where(off, sigma * factor[:, None, None], sigma)


def lower_factors(sigma: np.ndarray) -> np.ndarray:
    """Return lower Cholesky factors of covariances (G, q, q), singular ones too: zero pivots give zero columns."""
    T = np.zeros_like(sigma)
    for j in range(sigma.shape[1]):
        pivot = sigma[:, j, j] - (T[:, j, :j] ** 2).sum(axis=1)
        some = pivot > 1e-12 * np.maximum(sigma[:, j, j], 1e-300)
        root = np.sqrt(np.where(some, pivot, 1.0))
        T[:, j, j] = np.where(some, root, 0.0)
        rest = sigma[:, j + 1 :, j] - np.einsum("gik,gk->gi", T[:, j + 1 :, :j], T[:, j, :j])
        T[:, j + 1 :, j] = np.where(some[:, None], rest / root[:, None], 0.0)
    return T


def ridges(model: Model, fits: GeneFits) -> np.ndarray:
    """Return the prior precisions of the coefficients of every gene, (G, p): 0 but for separated ones."""
    return np.where((fits.status == Status.SEPARATED)[:, None], model.ridge, 0.0)


class Profile(NamedTuple):
    """Log variances at the ends of the axes, (G, 3, 2), and restricted log-likelihoods, (G, K), last axis fastest."""

    box: np.ndarray
    loglik: np.ndarray


def empty_profile(G: int, plan: GridPlan) -> Profile:
    """Return a profile without numbers."""
    return Profile(np.full((G, 3, 2), np.nan), np.full((G, int(plan.axes.shape.prod())), np.nan))


def profile(model: Model, plan: GridPlan, counts: Counts, keep, ridge, psi, threads: int, out: Profile) -> None:
    """Fill the profiles of the kept genes, which have psi (G, T + 1) and prior precisions ``ridge`` (G, p)."""
    G, data = len(counts.genes), (counts.start, counts.rows, counts.values)

    def run(work, first):
        last = min(first + CHUNK, G)
        profile_models(
            model.layout, model.terms, plan.axes, plan.groups, data, keep, first, last, ridge, psi, work, out.box,
            out.loglik,
        )  # fmt: skip
        return last - first

    longest = int(np.diff(counts.start).max(initial=0))
    in_chunks(run, lambda: model_work(model, longest), range(0, G, CHUNK), threads, None)


def with_grid(fits: GeneFits, plan: GridPlan, found: Profile, unit: np.ndarray) -> GeneFits:
    """Return fits with their grids, axes in the order of the components; ``unit`` (G, V) as in `GeneFits`."""
    from dataclasses import replace

    n = len(plan.component)
    order = np.argsort(plan.component)
    shape, low, high = np.ones(len(fits.components), np.int64), *np.full((2, *fits.variance.shape), np.nan)
    for a, v in enumerate(plan.component):
        shape[v], low[:, v], high[:, v] = plan.axes.shape[a], found.box[:, a, 0], found.box[:, a, 1]
    grid = found.loglik.reshape(-1, *plan.axes.shape[:n]).transpose(0, *(1 + order))
    grid = np.ascontiguousarray(grid).reshape(found.loglik.shape)
    return replace(fits, grid_shape=shape, grid_low=low, grid_high=high, grid_loglik=grid, grid_unit=unit)


def units(design: Design, model: Model, plan: GridPlan, fits: GeneFits, scale: np.ndarray) -> np.ndarray:
    """Return the log of what a variance of 1 on the grid is in natural units, (G, V).

    An axis of a whole term is the largest of its scaled variances; the first effect that it stands for keeps its
    fitted proportion to that.
    """
    unit, place = np.zeros(fits.variance.shape), 0
    whole = {v for a, v in enumerate(plan.component) if plan.axes.effect[a] < 0}
    for t, term in enumerate(design.terms):
        q = len(term.effects)
        squares = model.z_scale[model.columns[t]] ** 2
        unit[:, place : place + q] = np.log(scale)[:, None] - np.log(squares)
        if place in whole and q > 1:
            scaled = fits.variance[:, place : place + q] * squares
            share = scaled[:, 0] / np.maximum(scaled.max(axis=1), 1e-300)
            unit[:, place] += np.log(np.maximum(share, 1e-300))
        place += q * (q + 1) // 2
    return unit
