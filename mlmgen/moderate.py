r"""The prior that the genes of a cell type share over a variance, and each gene's posterior.

The log variance of gene g has the prior N(m + slope z_g, s^2), z_g the centered log total count. The
hyperparameters (m, slope, s) are averaged over a lattice with a weak hyperprior, not maximized: sound
from a few dozen genes up. beta is integrated out of the REML likelihood, so true effects do not
leak into the prior. Two components are moderated in turn, each with the other integrated out.

A component that is not on the grid keeps its estimate v. Its interval is exp(log v +- 1.96 s), s the standard error of
log v; of a covariance v +- 1.96 s.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from mlmgen.status import Status
from mlmgen.types import GeneFits, Moderated

# Lattice of the hyperparameters, log variance (natural log).
MEANS, SPREADS = (-7.0, 0.0, 22), (0.2, 2.2, 8)
# Weak hyperprior: mean ~ N(-3, 2.5), log spread ~ N(log 0.8, 0.6), slope ~ N(0, 0.3).
MEAN_PRIOR, LOG_SPREAD_PRIOR, SLOPE_PRIOR = (-3.0, 2.5), (np.log(0.8), 0.6), (0.0, 0.3)
# The slope on log total count needs this many genes.
GENES_FOR_SLOPE = 500
SLOPES = (-0.8, 0.8, 9)
# Common bins of log variance on which all genes' likelihoods are compared with the priors.
BINS = np.linspace(np.log(1e-4), np.log(9.0), 61)
# Points per grid interval when a gene's likelihood is poured into the bins.
REFINE = 8
# Groups of genes with similar total count that share the prior's location while the lattice is weighed.
GROUPS = 20
# Genes that the lattice is weighed with: more would not change it, evenly spaced in total count.
GENES_FOR_LATTICE = 4000
# Lattice points below this part of the largest weight are left out.
NEGLIGIBLE = 1e-3
# Points in z and in log variance at which the averaged prior's distribution function is tabulated.
TABLE = (21, 121)
# Turns of the two components: each prior is weighed with the other one integrated out.
ROUNDS = 3
INTERVAL = (0.025, 0.975)


class Hyper(NamedTuple):
    """Hyperparameters with their posterior weights, each (H,)."""

    mean: np.ndarray
    slope: np.ndarray
    spread: np.ndarray
    weight: np.ndarray


def moderate(fits: GeneFits, log_total: np.ndarray) -> Moderated:
    """Estimate the priors and return the posterior of every gene.

    Parameters
    ----------
    fits : GeneFits
        All genes of a cell type and method. Without a variance grid there is no prior: K = 0, and what was
        estimated stays.
    log_total : (G,) float64
        Natural log of each gene's total count.
    """
    V = len(fits.components)
    axes = [int(v) for v in np.flatnonzero(fits.grid_shape > 1)]
    fitted = np.isfinite(fits.grid_loglik).any(axis=1)
    weights = np.full(fits.grid_loglik.shape, np.nan)
    mean, (low, high) = fits.variance.copy(), intervals(fits)
    prior = np.full((V, 3), np.nan)
    if not axes:
        weights[fitted] = 1.0
    elif fitted.any():
        loglik = fits.grid_loglik[fitted]
        likelihood = np.exp(loglik - np.nanmax(loglik, axis=1, keepdims=True))
        likelihood = np.nan_to_num(likelihood).reshape(-1, *fits.grid_shape[axes])
        points = [grid_points(fits.grid_low[fitted, v], fits.grid_high[fitted, v], fits.grid_shape[v]) for v in axes]
        learns = np.isin(fits.status[fitted], (int(Status.CONVERGED), int(Status.BOUNDARY)))
        z = log_total[fitted] - np.mean(log_total[fitted])
        masses, hypers = shared_priors(likelihood, points, z, learns)
        posterior = likelihood
        for axis, mass in enumerate(masses):
            posterior = posterior * _along(mass, axis, len(masses))
        posterior /= posterior.reshape(len(z), -1).sum(axis=1).reshape(-1, *[1] * len(axes))
        weights[fitted] = posterior.reshape(len(z), -1)
        for axis, v in enumerate(axes):
            marginal = posterior.sum(axis=tuple(1 + a for a in range(len(axes)) if a != axis))
            mean[fitted, v] = (marginal * np.exp(points[axis])).sum(axis=1)
            low[fitted, v], high[fitted, v] = (np.exp(quantile(points[axis], marginal, q)) for q in INTERVAL)
            prior[v] = [
                np.dot(hypers[axis].weight, x) for x in (hypers[axis].mean, hypers[axis].slope, hypers[axis].spread)
            ]
    return Moderated(weights=weights, variance=mean, ci_low=low, ci_high=high, prior=prior)


def intervals(fits: GeneFits) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % intervals of the components from their standard errors, (G, V) each; NaN at the boundary."""
    spread = ndtri(INTERVAL[1]) * fits.variance_se
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = fits.variance * np.exp(-spread), fits.variance * np.exp(spread)
    for v in covariances(fits.components):
        low[:, v], high[:, v] = fits.variance[:, v] - spread[:, v], fits.variance[:, v] + spread[:, v]
    return low, high


def covariances(components: tuple[str, ...]) -> list[int]:
    """Return the places of the covariances: ``donor: a, b`` where there are ``donor: a`` and ``donor: b``."""
    pairs = set()
    for name in components:
        # An effect may hold a colon itself, as in condition[T.a: b].
        for place in (match.start() for match in re.finditer(": ", name)):
            others = [other[place + 2 :] for other in components if other.startswith(name[: place + 2])]
            pairs |= {f"{name}, {other}" for other in others}
    return [v for v, name in enumerate(components) if name in pairs]


def grid_points(low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """Return the log variances on one axis of each gene's grid, (G, count)."""
    return low[:, None] + (high - low)[:, None] * (np.arange(count) / (count - 1.0))


def shared_priors(likelihood, points, z, learns) -> tuple[list[np.ndarray], list[Hyper]]:
    """Return for each axis the prior mass on every gene's points and the hyperparameters.

    Parameters
    ----------
    likelihood : (G, n) or (G, n, m)
    points : list of (G, n) log variances
    z : (G,) centered log total count
    learns : (G,) bool, genes that inform the prior
    """
    learns = np.flatnonzero(learns) if learns.any() else np.arange(len(z))
    by_total = learns[np.argsort(z[learns], kind="stable")]
    learns = by_total[:: max(1, -(-len(by_total) // GENES_FOR_LATTICE))]
    flat = [np.full(p.shape, 1.0 / p.shape[1]) for p in points]
    masses, hypers = flat, [None] * len(points)
    for _ in range(ROUNDS if len(points) > 1 else 1):
        for axis in range(len(points)):
            marginal = likelihood
            for other in range(len(points)):
                if other != axis:
                    marginal = (marginal * _along(masses[other], other, len(points))).sum(axis=1 + other, keepdims=True)
            marginal = marginal.reshape(points[axis].shape)
            hypers[axis] = hyperparameters(marginal[learns], points[axis][learns], z[learns])
            masses[axis] = prior_mass(hypers[axis], points[axis], z)
    return masses, hypers


def _along(mass, axis: int, dimensions: int):
    return mass.reshape(len(mass), *[-1 if a == axis else 1 for a in range(dimensions)])


def hyperparameters(likelihood, points, z) -> Hyper:
    """Weigh the lattice by the marginal likelihood of all genes: coarsely first, then around where the weight is."""
    binned = pour(likelihood, points)
    slopes = np.linspace(*SLOPES) if len(z) >= GENES_FOR_SLOPE else np.zeros(1)
    hyper = _weigh(binned, z, np.linspace(*MEANS), slopes, np.geomspace(*SPREADS))
    ranges = []
    for values, step in (
        (hyper.mean, 0.34),
        (hyper.slope, 0.2 if len(slopes) > 1 else 0.0),
        (np.log(hyper.spread), 0.35),
    ):
        center = np.dot(hyper.weight, values)
        spread = 3.0 * np.sqrt(np.dot(hyper.weight, (values - center) ** 2))
        ranges.append(center + np.linspace(-1.0, 1.0, 13) * max(spread, step) if step else np.zeros(1))
    return _weigh(binned, z, ranges[0], ranges[1], np.exp(ranges[2]))


def pour(likelihood, points) -> np.ndarray:
    """Return each gene's likelihood on the common bins, (G, bins).

    Log-linear between the gene's points, constant below the first (a variance that small changes
    nothing), zero above the last.
    """
    G, n = points.shape
    fraction = np.arange(REFINE * (n - 1) + 1) / REFINE
    left = np.minimum(fraction.astype(int), n - 2)
    t = fraction - left
    logs = np.log(np.maximum(likelihood, 1e-300))
    fine = np.exp(logs[:, left] * (1 - t) + logs[:, left + 1] * t)
    x = points[:, left] * (1 - t) + points[:, left + 1] * t
    width = BINS[1] - BINS[0]
    place = np.clip((x - BINS[0]) / width, 0, len(BINS) - 1.000001)
    bin_left = place.astype(int)
    part = place - bin_left
    mass = fine * (x[:, 1] - x[:, 0])[:, None] / width
    mass[:, 0] *= 0.5
    flat = (np.arange(G)[:, None] * len(BINS) + bin_left).ravel()
    out = np.bincount(flat, (mass * (1 - part)).ravel(), G * len(BINS))
    out += np.bincount(flat + 1, (mass * part).ravel(), G * len(BINS))
    out = out.reshape(G, len(BINS))
    first = np.ceil((points[:, :1] - BINS[0]) / width - 1e-9)
    below = np.arange(len(BINS)) < first
    out = np.where(below, np.maximum(out, likelihood[:, :1]), out)
    return np.maximum(out, 1e-300)


def _weigh(binned, z, means, slopes, spreads) -> Hyper:
    """Return the lattice with weights proportional to hyperprior x marginal likelihood."""
    mean, slope, spread = (a.ravel() for a in np.meshgrid(means, slopes, spreads, indexing="ij"))
    edges = np.r_[-np.inf, 0.5 * (BINS[1:] + BINS[:-1]), np.inf]
    score = (
        -0.5 * ((mean - MEAN_PRIOR[0]) / MEAN_PRIOR[1]) ** 2 - 0.5 * ((slope - SLOPE_PRIOR[0]) / SLOPE_PRIOR[1]) ** 2
    )
    score -= 0.5 * ((np.log(spread) - LOG_SPREAD_PRIOR[0]) / LOG_SPREAD_PRIOR[1]) ** 2
    for members in np.array_split(np.argsort(z, kind="stable"), GROUPS if len(slopes) > 1 else 1):
        location = mean + slope * (z[members].mean() if len(slopes) > 1 else 0.0)
        mass = np.diff(ndtr((edges[:, None] - location) / spread), axis=0)
        score += np.log(binned[members] @ mass + 1e-300).sum(axis=0)
    weight = np.exp(score - logsumexp(score))
    kept = weight > NEGLIGIBLE * weight.max()
    return Hyper(mean[kept], slope[kept], spread[kept], weight[kept] / weight[kept].sum())


def prior_mass(hyper: Hyper, points, z) -> np.ndarray:
    """Return the averaged prior's mass in the cell around each of a gene's points, (G, n); the ends take the tails.

    The distribution function is tabulated over (z, log variance) and interpolated: it is smooth, and the
    lattice has hundreds of points.
    """
    edges = 0.5 * (points[:, 1:] + points[:, :-1])
    z_grid = np.linspace(z.min(), max(z.max(), z.min() + 1e-6), TABLE[0] if hyper.slope.any() else 2)
    x_grid = np.linspace(BINS[0], BINS[-1], TABLE[1])
    table = np.zeros((len(z_grid), len(x_grid)))
    for mean, slope, spread, weight in zip(*hyper, strict=True):
        table += weight * ndtr((x_grid - (mean + slope * z_grid)[:, None]) / spread)
    i, s = _place(z, z_grid)
    j, t = _place(edges, x_grid)
    i, s = i[:, None], s[:, None]
    cdf = (1 - s) * ((1 - t) * table[i, j] + t * table[i, j + 1])
    cdf += s * ((1 - t) * table[i + 1, j] + t * table[i + 1, j + 1])
    ends = np.zeros((len(points), 1)), np.ones((len(points), 1))
    return np.diff(np.concatenate([ends[0], cdf, ends[1]], axis=1), axis=1)


def _place(x, grid):
    """Return the interval of an even grid in which each x lies, and how far along, clipped to the grid."""
    place = np.clip((x - grid[0]) / (grid[1] - grid[0]), 0.0, len(grid) - 1.000001)
    return place.astype(int), place - place.astype(int)


def quantile(points, mass, q: float) -> np.ndarray:
    """Return the q-quantile of each row's mass spread evenly over the cells around the points, (G,)."""
    step = (points[:, 1] - points[:, 0])[:, None]
    cumulative = np.cumsum(mass, axis=1)
    cell = np.minimum((cumulative < q).sum(axis=1), points.shape[1] - 1)
    row = np.arange(len(points))
    before = cumulative[row, cell] - mass[row, cell]
    inside = (q - before) / np.maximum(mass[row, cell], 1e-300)
    return points[row, cell] + (np.clip(inside, 0.0, 1.0) - 0.5) * step[:, 0]
