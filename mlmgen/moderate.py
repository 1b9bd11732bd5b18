r"""Each gene's posterior of its variances, given the prior that the genes of a cell type share (`variance_prior`).

A component that is not on the grid keeps its estimate v. Its interval is exp(log v +- 1.96 s), s the standard error of
log v; of a covariance v +- 1.96 s; of the dispersion phi = 2 sinh^2(rho / 2) from rho +- 1.96 s, cut at zero.
"""

import re

import numpy as np
from scipy.special import ndtri

from mlmgen.design_rows import DISPERSION
from mlmgen.status import Status
from mlmgen.types import GeneFits, Moderated
from mlmgen.variance_prior import REFINE, Hyper, grid_points, marginal, prior_mass, refined, sampling, shared_priors

INTERVAL = (0.025, 0.975)
# Two hyperparameters are learned across genes: sound from a few dozen up. The tests of fewer genes are t tests.
FEW_GENES = 30
# Genes whose refined grids are in memory at once.
BLOCK = 2000


def moderate(fits: GeneFits, log_total: np.ndarray) -> Moderated:
    """Estimate the priors and return the posterior of every gene.

    Parameters
    ----------
    fits : GeneFits
        All genes of a cell type and method. Without a variance grid, or with fewer than `FEW_GENES` fitted genes,
        there is no prior: K = 0, and what was estimated stays.
    log_total : (G,) float64
        Natural log of each gene's total count.
    """
    axes = axes_of(fits)
    fitted = on_grid(fits)
    if not axes or fitted.sum() < FEW_GENES:
        return unmoderated(fits)
    learns = fitted & np.isin(fits.status, (int(Status.CONVERGED), int(Status.BOUNDARY)))
    learns = learns if learns.any() else fitted
    z = log_total - np.mean(log_total[fitted])
    low, high, shape = fits.grid_low[:, axes], fits.grid_high[:, axes], tuple(fits.grid_shape[axes])
    hypers = shared_priors(fits.grid_loglik[learns], low[learns], high[learns], shape, z[learns])
    return posterior(fits, dict(zip(axes, hypers, strict=True)), z)


def on_grid(fits: GeneFits) -> np.ndarray:
    """Return which genes have a likelihood on the variance grid, and so may be moderated, (G,) bool."""
    return np.isfinite(fits.grid_loglik).any(axis=1)


def axes_of(fits: GeneFits) -> list[int]:
    """Return the places of the components that are on the variance grid."""
    return [int(v) for v in np.flatnonzero(fits.grid_shape > 1)]


def unmoderated(fits: GeneFits) -> Moderated:
    """Return the variances as they were estimated, with the intervals of their standard errors."""
    low, high = intervals(fits)
    V, nothing = len(fits.components), np.zeros((len(fits.genes), 0))
    return Moderated(nothing, fits.variance.copy(), low, high, np.full((V, 3), np.nan))


def posterior(fits: GeneFits, priors: dict[int, Hyper], z: np.ndarray) -> Moderated:
    """Return the posterior of every gene that has a grid.

    Parameters
    ----------
    fits : GeneFits
    priors : dict of int to Hyper
        Of the components on the grid, by place; the prior of one that is left out is flat.
    z : (G,) float64
        Centered log total count.
    """
    start = unmoderated(fits)
    out = Moderated(np.full(fits.grid_loglik.shape, np.nan), start.variance, start.ci_low, start.ci_high, start.prior)
    genes = np.flatnonzero(on_grid(fits))
    # The table of the prior mass spans the genes' z: the same for every block.
    span = (z[genes].min(initial=0.0), z[genes].max(initial=0.0))
    for block in np.array_split(genes, max(1, -(-len(genes) // BLOCK))):
        if block.size:
            _fill(out, fits, block, priors, z, span)
    for v, hyper in priors.items():
        out.prior[v] = [np.dot(hyper.weight, x) for x in (hyper.mean, hyper.slope, hyper.spread)]
    return out


def _fill(out: Moderated, fits: GeneFits, genes, priors, z, span) -> None:
    """Write the posteriors of some genes."""
    axes = axes_of(fits)
    shape = tuple(fits.grid_shape[axes])
    tensor = refined(fits.grid_loglik[genes], shape)
    points, masses = [], []
    for axis, v in enumerate(axes):
        points.append(grid_points(fits.grid_low[genes, v], fits.grid_high[genes, v], tensor.shape[1 + axis]))
        flat = np.ones_like(points[axis])
        masses.append(prior_mass(priors[v], points[axis], z[genes], span) if v in priors else flat)
        tensor *= masses[axis].reshape(len(genes), *[-1 if a == axis else 1 for a in range(len(axes))])
    tensor /= tensor.reshape(len(genes), -1).sum(axis=1).reshape(-1, *[1] * len(axes))
    ones = [np.ones_like(mass) for mass in masses]
    for axis, v in enumerate(axes):
        mass, unit = marginal(tensor, ones, axis), fits.grid_unit[genes, v]
        out.variance[genes, v] = (mass * np.exp(points[axis] + unit[:, None])).sum(axis=1)
        out.ci_low[genes, v], out.ci_high[genes, v] = (np.exp(quantile(points[axis], mass, q) + unit) for q in INTERVAL)
    _scale_terms(out, fits, genes, axes)
    _scale_covariances(out, fits, genes)
    for axis, n in enumerate(shape):
        tensor = np.moveaxis(np.tensordot(tensor, sampling(n, REFINE[len(shape)]), (1 + axis, 0)), -1, 1 + axis)
    weights = tensor.reshape(len(genes), -1)
    out.weights[genes] = weights / weights.sum(axis=1, keepdims=True)


def _scale_terms(out: Moderated, fits: GeneFits, genes, axes) -> None:
    """Scale the other variances of a term with the one that stands for all, where an axis is a whole term."""
    for pair in covariances(fits.components).values():
        of_axis, other = sorted(pair, key=lambda v: v not in axes)
        if of_axis in axes and other not in axes:
            fitted, share = fits.variance[np.ix_(genes, (of_axis, other))].T, np.full(len(genes), np.nan)
            np.divide(fitted[1], fitted[0], out=share, where=fitted[0] > 0)
            known = np.isfinite(share)
            for values in (out.variance, out.ci_low, out.ci_high):
                values[genes[known], other] = values[genes[known], of_axis] * share[known]


def _scale_covariances(out: Moderated, fits: GeneFits, genes) -> None:
    """Keep the fitted correlations of the effects of a term beside their moderated variances."""
    for v, pair in covariances(fits.components).items():
        of_pair = fits.variance[np.ix_(genes, pair)]
        ratio = np.divide(out.variance[np.ix_(genes, pair)], of_pair, out=np.zeros_like(of_pair), where=of_pair > 0)
        scale = np.sqrt(ratio.prod(axis=1))
        for values in (out.variance, out.ci_low, out.ci_high):
            values[genes, v] *= scale


def intervals(fits: GeneFits, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals of the components from their standard errors, (G, V) each; NaN where there are none."""
    spread = ndtri(0.5 + 0.5 * level) * fits.variance_se
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = fits.variance * np.exp(-spread), fits.variance * np.exp(spread)
        for v in covariances(fits.components):
            low[:, v], high[:, v] = fits.variance[:, v] - spread[:, v], fits.variance[:, v] + spread[:, v]
        if DISPERSION in fits.components:
            v = fits.components.index(DISPERSION)
            rho = 2.0 * np.arcsinh(np.sqrt(0.5 * fits.variance[:, v]))
            low[:, v] = 2.0 * np.sinh(0.5 * np.maximum(rho - spread[:, v], 0.0)) ** 2
            high[:, v] = 2.0 * np.sinh(0.5 * (rho + spread[:, v])) ** 2
    return low, high


def covariances(components: tuple[str, ...]) -> dict[int, tuple[int, int]]:
    """Return the places of the covariances, ``donor: a, b``, and of the variances ``donor: a`` and ``donor: b``."""
    place, found = {name: v for v, name in enumerate(components)}, {}
    for name in components:
        # An effect may hold a colon itself, as in condition[T.a: b].
        for start in (match.end() for match in re.finditer(": ", name)):
            for other in components:
                pair = f"{name}, {other[start:]}"
                if other.startswith(name[:start]) and pair in place:
                    found[place[pair]] = (place[name], place[other])
    return found


def quantile(points, mass, q: float) -> np.ndarray:
    """Return the q-quantile of each row's mass spread evenly over the cells around the points, (G,)."""
    step = (points[:, 1] - points[:, 0])[:, None]
    cumulative = np.cumsum(mass, axis=1)
    cell = np.minimum((cumulative < q).sum(axis=1), points.shape[1] - 1)
    row = np.arange(len(points))
    before = cumulative[row, cell] - mass[row, cell]
    inside = (q - before) / np.maximum(mass[row, cell], 1e-300)
    return points[row, cell] + (np.clip(inside, 0.0, 1.0) - 0.5) * step[:, 0]
