"""Positive cubature: a weighted subset of the cells that stands for all of them, once per fit.

With cell-level covariates the linear predictor varies within a pattern, eta = t + s_0 + s_1 f_1 + ...,
and the all-cells part of a likelihood is sum_c g(eta_c), g smooth. In every pattern it is carried by
some of its cells with positive weights that reproduce all polynomial moments of (t, f_1, ...) up to a
total degree; no more cells are needed than there are moments (Tchakaloff 1957). They are found by
Caratheodory elimination on clusters of cells, so that the cost is linear in the cells (Litterer and
Lyons 2012, Annals of Applied Probability 22:1301; Tchernychova 2015, thesis, Oxford).
"""

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, comb, log

import numpy as np

TOLERANCE = 1e-4  # Error of estimates, in standard errors, up to which a cubature is taken.
# Degree to begin with, by the number of coordinates: 45 moments for 2, 165 for 3, 210 for 4, 126 for 5.
FIRST_DEGREE, FIRST_DEGREE_MANY = {1: 8, 2: 8, 3: 8, 4: 6}, 4
# Measured: a degree more divides the error by 3 to 7. Of 3 coordinates, 12 is the highest with few enough moments.
HIGHEST_DEGREE, GAIN_PER_DEGREE = 16, 5.0
# Shares of the cells from which on all cells are kept: they cost little more and have no error.
LARGEST_FIRST_SHARE, LARGEST_SHARE = 0.5, 0.25
# The degree is found on one of so many patterns, where there are twice as many, and the monomials that span
# all of a pattern on so many of its cells.
TRIAL, TRIAL_CELLS = 8, 10_000
# The cost of a pattern grows with the cube of its moments: 0.3 s with 500.
MOST_MOMENTS = 500
# Directions of coordinates, and moments, that vary by less relative to the largest are rounding. A mean that is
# missed by more than MOMENT_ERROR is not (rounding: 1e-15).
DIRECTION_TOLERANCE, MOMENT_TOLERANCE, MOMENT_ERROR = 1e-10, 1e-13, 1e-11
BLOCK_BYTES = 2**26  # Memory of the moments that are worked on at once.

# Plausible genes: mean count per cell, dispersion, standard deviation of covariates' effects within patterns.
MEANS, DISPERSIONS, LARGEST_SD = (1e-3, 30.0), (1e-3, 5.0), 0.7
DRAWS, SEED = 48, 1


@dataclass(frozen=True)
class Cubature:
    """The cells that stand for all.

    Attributes
    ----------
    index : (N,) int64, increasing; weight : (N,) float64, positive
        Their rows, and how many cells each stands for.
    degree : int
        Total degree of the moments that are reproduced; 0 where every cell is kept.
    error : float
        Largest error of an estimate in units of its standard error, over plausible genes.
    """

    index: np.ndarray
    weight: np.ndarray
    degree: int
    error: float


@contextmanager
def one_thread():
    """Keep BLAS to one thread: more change the last bits, thus the cells kept, and cost more than they save."""
    # Before the limit, which holds for the libraries that are loaded.
    import scipy.linalg  # noqa: F401

    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield


@one_thread()
def choose(
    pattern: np.ndarray,
    log_size: np.ndarray,
    functions: np.ndarray,
    tolerance: float = TOLERANCE,
    exact: bool = False,
    means: tuple[float, float] = MEANS,
) -> Cubature:
    """Return the cubature of a degree that meets a tolerance, or all cells.

    Parameters
    ----------
    pattern : (n,) int, non-decreasing
    log_size : (n,) float64
        Natural log of the size factors.
    functions : (n, m) float64
        Cell-level covariates.
    tolerance : float
        Largest ``error``, in standard errors.
    exact : bool
        Keep all cells.
    means : tuple of two floats
        Range of plausible mean counts per cell.
    """
    n = pattern.size
    everything = Cubature(np.arange(n), np.ones(n), 0, 0.0)
    d = _unit_directions(_centred_within(pattern, np.column_stack([log_size, functions]))).shape[1]
    degree = FIRST_DEGREE.get(d, FIRST_DEGREE_MANY)
    cells = np.diff(_starts(pattern))
    nodes = np.minimum(cells, comb(d + degree, degree)).sum()
    if exact or tolerance <= 0 or nodes >= LARGEST_FIRST_SHARE * n:
        return everything
    if cells.size >= 2 * TRIAL:
        rows = np.repeat(np.arange(cells.size) % TRIAL == 0, cells)
        degree = _ascend(pattern[rows], log_size[rows], functions[rows], tolerance, means, d, degree).degree
    found = _ascend(pattern, log_size, functions, tolerance, means, d, degree)
    return found if found.error <= tolerance else everything


def _ascend(pattern, log_size, functions, tolerance: float, means, d: int, degree: int) -> Cubature:
    """Return the cubature of the first degree that meets the tolerance, or the last that is worth its nodes."""
    while True:
        index, weight = cubature(pattern, np.column_stack([log_size, functions]), degree)
        error = check(pattern, log_size, functions, index, weight, means)
        nodes = np.diff(_starts(pattern[index])).max()
        higher = _next_degree(degree, d, error / tolerance, index.size / pattern.size, nodes)
        if error <= tolerance or higher == degree:
            return Cubature(index, weight, degree, error)
        degree = higher


def _next_degree(degree: int, d: int, excess: float, share: float, nodes: int) -> int:
    """Return the degree that should lower the error by ``excess``, or the highest that is worth its nodes.

    ``share`` of all cells and ``nodes`` of one pattern is what the present degree keeps.
    """
    most = min(LARGEST_SHARE / share, MOST_MOMENTS / nodes) * comb(d + degree, degree)
    steps = ceil(log(excess) / log(GAIN_PER_DEGREE)) if 1 < excess < np.inf else 1
    wanted = min(degree + steps, HIGHEST_DEGREE)
    return max((k for k in range(degree + 1, wanted + 1) if comb(d + k, k) <= most), default=degree)


def check(
    pattern: np.ndarray,
    log_size: np.ndarray,
    functions: np.ndarray,
    index: np.ndarray,
    weight: np.ndarray,
    means: tuple[float, float] = MEANS,
) -> float:
    """Return the largest error of a cubature over plausible genes, in standard errors.

    At random means, dispersions and slopes the sums over all cells are compared with those over the
    cubature, with F = (1, covariates centred within patterns), mu = exp(eta), r = 1 / (1 + phi mu) and
    the expected information L L' = sum mu r F F':

        |L^-1 (error of the score sum mu r F)|                   estimates, in standard errors
        |L^-1 (error of the weights sum mu r^2 F F') L^-T| / 2   standard errors, relative

    ``index`` and ``weight`` (N,) are the cubature, the other arguments are those of ``choose``.
    """
    slopes = _unit_directions(_centred_within(pattern, functions))
    F = np.column_stack([np.ones(pattern.size), slopes])
    F_nodes, worst, rng = F[index], 0.0, np.random.default_rng(SEED)
    for _ in range(DRAWS):
        mean, phi = np.exp([rng.uniform(*np.log(span)) for span in (means, DISPERSIONS)])
        direction = rng.normal(size=slopes.shape[1])
        direction *= LARGEST_SD * rng.uniform() / max(np.linalg.norm(direction), 1e-300)
        eta = log_size + slopes @ direction
        mu = np.exp(eta - eta.max())
        mu *= mean / mu.mean()
        r = 1.0 / (1.0 + phi * mu)
        cells, nodes = F.T * (mu * r), F_nodes.T * (weight * (mu * r)[index])
        score = nodes.sum(axis=1) - cells.sum(axis=1)
        weights = (nodes * r[index]) @ F_nodes - (cells * r) @ F
        worst = max(worst, _in_standard_errors(cells @ F, score, weights))
    return worst


def _in_standard_errors(information: np.ndarray, score: np.ndarray, weights: np.ndarray) -> float:
    """Return the larger of the two errors of ``check``; infinite where there is no information."""
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(information))
    except np.linalg.LinAlgError:
        return np.inf
    return float(max(np.linalg.norm(inverse @ score), np.linalg.norm(inverse @ weights @ inverse.T) / 2))


def _centred_within(pattern: np.ndarray, columns: np.ndarray) -> np.ndarray:
    start = _starts(pattern)
    cells = np.diff(start)
    # A column less its first value is exactly 0 where it is constant.
    shifted = columns - np.repeat(columns[start[:-1]], cells, axis=0)
    return shifted - np.repeat(np.add.reduceat(shifted, start[:-1], axis=0) / cells[:, None], cells, axis=0)


def _starts(pattern: np.ndarray) -> np.ndarray:
    return np.r_[np.flatnonzero(np.r_[True, np.diff(pattern) != 0]), pattern.size]


@one_thread()
def cubature(pattern: np.ndarray, coordinates: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return some of the cells, with weights that keep the polynomial moments of every pattern.

    Parameters
    ----------
    pattern : (n,) int
        Pattern of each cell, non-decreasing.
    coordinates : (n, d) float64
    degree : int
        Total degree of the moments, in the d coordinates.

    Returns
    -------
    index : (N,) int64
        Rows kept, increasing; all rows of a pattern that has no more of them than moments.
    weight : (N,) float64
        Positive; they sum to the number of cells in every pattern.
    """
    index, weight = [], []
    for low, high in pairwise(_starts(pattern)):
        kept, weight_kept = _thin_pattern(coordinates[low:high], degree)
        index.append(low + kept)
        weight.append(weight_kept)
    return np.concatenate(index), np.concatenate(weight)


def _unit_directions(columns: np.ndarray) -> np.ndarray:
    """Return an orthogonal basis, of variance 1 and mean 0, of the centred columns."""
    centred = _centred_within(np.zeros(len(columns)), columns)
    spread = np.sqrt(np.mean(centred**2, axis=0))
    centred = centred[:, spread > 0] / spread[spread > 0]
    if centred.shape[1] == 0:
        return centred
    singular, axes = np.linalg.svd(np.linalg.qr(centred, mode="r"), full_matrices=False)[1:]
    kept = singular > DIRECTION_TOLERANCE * singular[0]
    return centred @ (axes[kept] / singular[kept, None]).T * np.sqrt(len(columns))


def _thin_pattern(coordinates: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells kept of one pattern and their weights; coordinates are turned and scaled to [-1, 1]."""
    x = _unit_directions(coordinates)
    low, high = x.min(axis=0), x.max(axis=0)
    x, every = (2.0 * x - low - high) / (high - low), exponents(x.shape[1], degree)
    index, weight = _thin_blocks(x, _spanning(x, degree), quick=True)
    missing = _moments(x, every, np.ones(len(x))) - _moments(x[index], every, weight)
    if np.abs(missing).max() > MOMENT_ERROR * len(x):
        return _thin_blocks(x, every, quick=False)
    return index, weight


def _thin_blocks(x: np.ndarray, powers: np.ndarray, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Thin blocks of cells until they are one, and that one to the rank of the moments."""
    index, weight = np.arange(len(x)), np.ones(len(x))
    while index.size > len(powers):
        pieces = _blocks(index.size, len(powers))
        thinned = [_thin(polynomials(x[index[piece]], powers), weight[piece], quick) for piece in pieces]
        kept = np.concatenate([piece[k] for piece, (k, _) in zip(pieces, thinned, strict=True)])
        index, weight = index[kept], np.concatenate([w for _, w in thinned])
        if len(pieces) == 1:
            break
    return index, weight


def _blocks(n: int, moments: int) -> list[np.ndarray]:
    return np.array_split(np.arange(n), ceil(n / max(4 * moments, BLOCK_BYTES // (8 * moments))))


def _moments(x: np.ndarray, powers: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return sum(polynomials(x[piece], powers) @ weight[piece] for piece in _blocks(len(x), len(powers)))


def _spanning(x: np.ndarray, degree: int) -> np.ndarray:
    """Return exponents of monomials that span all up to a degree, (moments, d).

    Those are fewer than all where coordinates are functions of one another (x and its square, a spline), and
    are then found degree by degree: those of the next are products of a coordinate and one of the last.
    """
    x = x[:: ceil(len(x) / TRIAL_CELLS)]
    d, each = x.shape[1], np.ones(len(x))
    quadratic = exponents(d, min(degree, 2))
    if len(x) <= len(quadratic) or len(_independent(polynomials(x, quadratic), each)) == len(quadratic):
        return exponents(d, degree)
    powers = exponents(d, 0)
    for total in range(1, degree + 1):
        last = powers[powers.sum(axis=1) == total - 1]
        products = (last[:, None] + np.eye(d, dtype=np.int64)).reshape(-1, d)
        powers = np.concatenate([powers, np.unique(products, axis=0)])
        powers = powers[_independent(polynomials(x, powers), each)]
    return powers


def exponents(d: int, degree: int) -> np.ndarray:
    """Return the exponents of all monomials of d variables up to a total degree, lowest first, (moments, d)."""
    found = [()]
    for _ in range(d):
        found = [(*head, j) for head in found for j in range(degree + 1 - sum(head))]
    return np.array(sorted(found, key=lambda power: (sum(power), power)), dtype=np.int64).reshape(len(found), d)


def polynomials(x: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Return Chebyshev polynomials of (n, d) points in [-1, 1], multiplied as ``exponents`` say, (moments, n)."""
    n, d = x.shape
    T = np.ones((powers.max(initial=0) + 1, d, n))
    for j in range(1, len(T)):
        T[j] = x.T if j == 1 else 2.0 * x.T * T[j - 1] - T[j - 2]
    values = np.ones((len(powers), n))
    for value, power in zip(values, powers, strict=True):
        for axis in np.flatnonzero(power):
            value *= T[power[axis], axis]
    return values


def _thin(values: np.ndarray, weight: np.ndarray, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return some of the points, at most the rank of ``values``, with weights that keep sum_c weight_c values_c.

    The points are put into clusters, twice as many as moments; those are thinned to as many as moments by
    their means, and the points of the others go. That halves the points, and is repeated.
    """
    values = values[_independent(values, weight, quick)]
    index = np.arange(weight.size)
    while index.size > len(values):
        means, in_cluster, cluster = _clusters(values, weight)
        weight = weight * (_eliminate(means, in_cluster) / in_cluster)[cluster]
        kept = np.flatnonzero(weight > 0)
        index, weight, values = index[kept], weight[kept], values[:, kept]
    return index, weight


def _independent(values: np.ndarray, weight: np.ndarray, quick: bool = True) -> np.ndarray:
    """Return rows of ``values`` that span all of them, the first row first.

    Quickly on clusters of points: that may miss one on which few points differ, if they share a cluster.
    """
    from scipy.linalg import qr

    means, in_cluster = _clusters(values, weight)[:2] if quick else (values, weight)
    weighted = (means * np.sqrt(in_cluster)).T
    size = np.linalg.norm(weighted, axis=0)
    size[size == 0] = 1.0
    # The longest column, the constant, is the first pivot: weights sum to the number of cells.
    size[0] /= 2.0
    R, order = qr(np.linalg.qr(weighted / size, mode="r"), mode="r", pivoting=True, check_finite=False)
    return order[: np.count_nonzero(np.abs(np.diag(R)) > MOMENT_TOLERANCE)]


def _clusters(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means and weights of clusters, at most twice as many as moments, and the cluster of each point."""
    k, N = values.shape
    M = min(N, 2 * k)
    cluster = np.arange(N) % M
    rows = -(-N // M)
    padded = np.zeros((k, rows * M))
    np.multiply(values, weight, out=padded[:, :N])
    in_cluster = np.bincount(cluster, weight, M)
    return padded.reshape(k, rows, M).sum(axis=1) / in_cluster, in_cluster, cluster


def _eliminate(means: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return weights (M,), at most k of them positive, that keep the k sums of ``means`` (k, M).

    k points are a basis, which row pivoting makes a good one; the others are written in it, and one by
    one either give all of their weight to the basis or replace the first of its points that has none left.
    """
    from scipy.linalg import blas, lapack

    k, M = means.shape
    lu, swaps, _ = lapack.dgetrf(np.asfortranarray(means.T))
    order = np.arange(M)
    for i, j in enumerate(swaps):
        order[i], order[j] = order[j], order[i]
    table = np.ascontiguousarray(blas.dtrsm(1.0, lu[:k], lu[k:], side=1, lower=1, diag=1))
    member, basis = order[:k].copy(), weight[order[:k]]
    for j, (point, row) in enumerate(zip(order[k:], table, strict=True)):
        out, step = _ratio_test(basis, row, weight[point])
        basis += step * row
        if out < 0:
            continue
        member[out], basis[out] = point, weight[point] - step
        rest = table[j + 1 :].T
        if rest.size:
            change = row.copy()
            change[out] -= 1.0
            blas.dger(-1.0 / row[out], change, rest[out].copy(), a=rest, overwrite_a=1)
    result = np.zeros(M)
    result[member] = np.maximum(basis, 0.0)
    return result


def _ratio_test(basis: np.ndarray, row: np.ndarray, weight: float) -> tuple[int, float]:
    """Return the point of the basis that runs out first and the weight taken until then; -1 if it can take all.

    Where it cannot, it may also give weight: the larger pivot of the two keeps rounding errors small.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = basis / row
    taken = np.where(row < 0, -ratio, np.inf)
    out = int(taken.argmin())
    if taken[out] >= weight:
        return -1, weight
    given = np.where(row > 0, ratio, np.inf)
    other = int(given.argmin())
    return (out, taken[out]) if row[other] <= -row[out] else (other, -given[other])
