r"""The prior that the genes of a cell type share over a variance.

The log variance of gene g has the prior N(m + slope z_g, s^2), z_g the centered log total count. The
hyperparameters (m, slope, s) are averaged over a lattice with a weak hyperprior, not maximized: sound
from a few dozen genes up. beta is integrated out of the REML likelihood, so true effects do not
leak into the prior. Several components are weighed in turn, each with the others integrated out.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr

# Lattice of the hyperparameters, log variance (natural log).
MEANS, SPREADS = (-7.0, 0.0, 22), (0.2, 2.2, 8)
# Weak hyperprior: mean ~ N(-3, 2.5), log spread ~ N(log 0.8, 0.6), slope ~ N(0, 0.3).
MEAN_PRIOR, LOG_SPREAD_PRIOR, SLOPE_PRIOR = (-3.0, 2.5), (np.log(0.8), 0.6), (0.0, 0.3)
# The slope on log total count needs this many genes: on real nulls of 450 genes, tests of genes with few counts were
# liberal without it (.065 at .05) and even over all counts with it.
GENES_FOR_SLOPE = 100
SLOPES = (-0.8, 0.8, 9)
# Common bins of log variance on which all genes' likelihoods are compared with the priors.
BINS = np.linspace(np.log(1e-4), np.log(9.0), 61)
# Points per grid interval to which a gene's log-likelihood is interpolated, by the number of axes.
REFINE = {1: 4, 2: 4, 3: 2}
# Log-likelihoods further below the largest are as good as this: splines would ring about them.
DEEP = 30.0
# Groups of genes with similar total count that share the prior's location while the lattice is weighed.
GROUPS = 20
# Genes that the lattice is weighed with: more would not change it, evenly spaced in total count.
GENES_FOR_LATTICE = 2000
# Points of each hyperparameter on the second lattice, within three standard deviations and within limits: narrower
# priors than the bins are wide cannot be told apart.
FINE, MEAN_LIMITS, SPREAD_LIMITS = 9, (-8.0, 0.5), (0.15, 3.0)
# Lattice points below this part of the largest weight are left out.
NEGLIGIBLE = 1e-3
# Points in z and in log variance at which the averaged prior's distribution function is tabulated.
TABLE = (21, 121)
# Rounds of the components, each prior weighed with the others of the round before integrated out, until no mean or log
# spread moves by more.
ROUNDS, SETTLED = 20, 0.03


class Hyper(NamedTuple):
    """Hyperparameters with their posterior weights, each (H,)."""

    mean: np.ndarray
    slope: np.ndarray
    spread: np.ndarray
    weight: np.ndarray


def shared_priors(loglik, low, high, shape, z) -> list[Hyper]:
    """Return the hyperparameters of every axis.

    Parameters
    ----------
    loglik : (G, K) float64
        Of genes that inform the prior, on grids of ``shape``.
    low, high : (G, axes) float64
        Log variances at the ends of each axis.
    shape : tuple of int
    z : (G,) float64
        Centered log total count.
    """
    chosen = np.argsort(z, kind="stable")[:: max(1, -(-len(z) // GENES_FOR_LATTICE))]
    likelihood, z = refined(loglik[chosen], shape), z[chosen]
    points = [grid_points(low[chosen, a], high[chosen, a], n) for a, n in enumerate(likelihood.shape[1:])]
    masses = [np.full(p.shape, 1.0 / p.shape[1]) for p in points]
    hypers: list[Hyper | None] = [None] * len(points)
    for _ in range(ROUNDS if len(points) > 1 else 1):
        last = centers(hypers)
        likelihoods = [marginal(likelihood, without(masses, axis), axis) for axis in range(len(points))]
        hypers = [hyperparameters(*x, z, hyper) for *x, hyper in zip(likelihoods, points, hypers, strict=True)]
        if np.abs(centers(hypers) - last).max() < SETTLED:
            break
        masses = [prior_mass(hyper, x, z) for hyper, x in zip(hypers, points, strict=True)]
    return hypers


def centers(hypers: list[Hyper | None]) -> np.ndarray:
    """Return the average mean and log spread of each axis, infinite before there are any."""
    return np.array([[h.weight @ h.mean, h.weight @ np.log(h.spread)] if h else [np.inf] * 2 for h in hypers])


def without(masses: list[np.ndarray], axis: int) -> list[np.ndarray]:
    """Return the masses with those of one axis replaced by ones."""
    return [np.ones_like(mass) if a == axis else mass for a, mass in enumerate(masses)]


def marginal(tensor, masses, axis: int) -> np.ndarray:
    """Return the sum of a tensor (G, n, ...) times masses [(G, n), ...] over all axes but one, (G, n of that axis)."""
    letters = "abc"[: len(masses)]
    return np.einsum(f"g{letters},{','.join('g' + x for x in letters)}->g{letters[axis]}", tensor, *masses)


def refined(loglik: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate log-likelihoods (G, K) along every axis; return likelihoods (G, n, ...).

    By cubic splines; linearly for three axes, where the points are so few that splines overshoot.
    """
    top = np.nanmax(loglik, axis=1, keepdims=True)
    surface = np.maximum(np.nan_to_num(loglik - top, nan=-DEEP), -DEEP).reshape(-1, *shape)
    for axis, n in enumerate(shape):
        rule = spline(n, REFINE[len(shape)], 3 if len(shape) < 3 else 1)
        surface = np.moveaxis(np.tensordot(surface, rule, (1 + axis, 1)), -1, 1 + axis)
    return np.exp(surface)


@cache
def spline(n: int, refine: int, degree: int) -> np.ndarray:
    """Return the matrix from values at n even points to those of their spline at refine (n - 1) + 1 points."""
    places = np.arange(refine * (n - 1) + 1) / refine
    # a fifth of the imports of a fit, which does not need it
    from scipy.interpolate import make_interp_spline

    return make_interp_spline(np.arange(n), np.eye(n), degree)(places)


@cache
def sampling(n: int, refine: int) -> np.ndarray:
    """Return the matrix (refined points, n) from masses on the refined points to weights of the trapezoidal rule.

    Between the points nothing is lost: the rule is exact to many digits for smooth peaks, where sharing their mass
    among neighbours would widen them (tests of two components became conservative, .045 for .050). The ends keep the
    tails that they hold.
    """
    out = np.zeros((refine * (n - 1) + 1, n))
    out[np.arange(n) * refine, np.arange(n)] = refine
    out[[0, -1], [0, -1]] = 1.0
    out[[1, -2], [0, -1]] += 0.5 * (refine - 1)
    return out


def grid_points(low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """Return the log variances on one axis of each gene's grid, (G, count)."""
    return low[:, None] + (high - low)[:, None] * (np.arange(count) / (count - 1.0))


def hyperparameters(likelihood, points, z, about: Hyper | None = None) -> Hyper:
    """Weigh a lattice by the marginal likelihood of all genes: coarsely first, then about where the weight is."""
    binned = pour(likelihood, points)
    slopes = np.linspace(*SLOPES) if len(z) >= GENES_FOR_SLOPE else np.zeros(1)
    hyper = about or _weigh(binned, z, np.linspace(*MEANS), slopes, np.geomspace(*SPREADS))
    ranges = []
    for values, step, limits in (
        (hyper.mean, 0.34, MEAN_LIMITS),
        (hyper.slope, 0.2 if len(slopes) > 1 else 0.0, SLOPES[:2]),
        (np.log(hyper.spread), 0.35, np.log(SPREAD_LIMITS)),
    ):
        center = np.dot(hyper.weight, values)
        reach = max(step, 3.0 * np.sqrt(np.dot(hyper.weight, (values - center) ** 2))) if step else 0.0
        low, high = np.clip([center - reach, center + reach], *limits)
        ranges.append(np.linspace(low, high, FINE if step else 1))
    return _weigh(binned, z, ranges[0], ranges[1], np.exp(ranges[2]))


def pour(likelihood, points) -> np.ndarray:
    """Return each gene's likelihood on the common bins, (G, bins).

    Constant below the gene's first point (a variance that small changes nothing), zero above the last.
    """
    G = len(points)
    width = BINS[1] - BINS[0]
    place = np.clip((points - BINS[0]) / width, 0, len(BINS) - 1.000001)
    bin_left = place.astype(int)
    part = place - bin_left
    mass = likelihood * (points[:, 1] - points[:, 0])[:, None] / width
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


def prior_mass(hyper: Hyper, points, z, span: tuple[float, float] | None = None) -> np.ndarray:
    """Return the averaged prior's mass about each of a gene's even points, (G, n); the ends take the tails.

    Density and distribution function are tabulated over (z, log variance), z in ``span`` (its own by default), and
    interpolated: they are smooth, and the lattice has hundreds of points.
    """
    low, high = span or (z.min(), z.max())
    z_grid = np.linspace(low, max(high, low + 1e-6), TABLE[0] if hyper.slope.any() else 2)
    x_grid = np.linspace(BINS[0], BINS[-1], TABLE[1])
    density, below = np.zeros((2, len(z_grid), len(x_grid)))
    for mean, slope, spread, weight in zip(*hyper, strict=True):
        x = (x_grid - (mean + slope * z_grid)[:, None]) / spread
        density += weight / (spread * np.sqrt(2.0 * np.pi)) * np.exp(-0.5 * x * x)
        below += weight * ndtr(x)
    step = points[:, 1:2] - points[:, :1]
    mass = _interpolated(density, z, z_grid, points, x_grid) * step
    mass[:, :1] = _interpolated(below, z, z_grid, points[:, :1] + 0.5 * step, x_grid)
    mass[:, -1:] = 1.0 - _interpolated(below, z, z_grid, points[:, -1:] - 0.5 * step, x_grid)
    return mass


def _interpolated(table, z, z_grid, x, x_grid):
    """Interpolate a table linearly at z (G,) and x (G, n)."""
    (i, s), (j, t) = _place(z[:, None], z_grid), _place(x, x_grid)
    flat, place = table.ravel(), i * len(x_grid) + j
    low = (1.0 - t) * flat[place] + t * flat[place + 1]
    place += len(x_grid)
    return (1.0 - s) * low + s * ((1.0 - t) * flat[place] + t * flat[place + 1])


def _place(x, grid):
    """Return the interval of an even grid in which each x lies, and how far along, clipped to the grid."""
    place = np.clip((x - grid[0]) / (grid[1] - grid[0]), 0.0, len(grid) - 1.000001)
    return place.astype(int), place - place.astype(int)
