"""What a design can find: the precision of its contrasts for a typical gene, before any fit.

On the log scale the counts of a typical gene carry the information W = mu / (1 + phi mu) a cell (negative
binomial, mu the mean count times the cell's relative size factor). With random effects of covariance G on the
columns Z, a cell's working response has covariance V = W^-1 + Z G Z', and a contrast c of the coefficients the
variance

    v = c' (X' V^-1 X)^-1 c,        X' V^-1 X = X'WX - X'WZ (Z'WZ + G^-1)^-1 Z'WX      (Woodbury)

where all sums over cells are sums over patterns, with the second moments of the cell-level functions in each.
Of v the replicate's random effect contributes v_r = l' Z G_r Z' l, with l = V^-1 X (X' V^-1 X)^-1 c; by the
same identity G^-1 (Z' W Z + G^-1)^-1 Z'WX = Z' V^-1 X, so that one solve gives both.

The test behaves as a t test: v is estimated with the replicates' d degrees of freedom, and moderation adds what
the other genes say about v_r. A prior worth d_0 observations of v_r is worth d_0 (v / v_r)^2 of v, because the rest
of v, counting noise, is known. The power at an effect delta is that of a noncentral t with d + d_0 (v / v_r)^2 degrees
of freedom and noncentrality delta / sqrt(v).
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse, stats
from scipy.sparse.linalg import splu

from mlmgen.arms import columns_of
from mlmgen.dependence import spans
from mlmgen.replicates import INTERCEPT, Replicate
from mlmgen.types import Design, RandomTerm

# Of a typical gene, natural log squared: the median of donor variances over genes and data sets is about exp(-3);
# donors' responses to a condition vary half as much.
DONOR_VARIANCE, RESPONSE_VARIANCE, DISPERSION = 0.06, 0.03, 0.4
LEVEL, POWER = 0.001, 0.8
# Of the prior of log variances with standard deviation 0.8 across genes: 2 trigamma^-1(0.8^2).
PRIOR_DF = 4.0
LOG2 = float(np.log(2.0))
# Makes a random effect as good as a fixed one.
FREE = 1e6
MOST_DF = 1e4  # a t distribution with as many is normal
LARGEST_SEARCHED = 1e4  # standard errors of a detectable effect; 816 for one degree of freedom
# Quantiles of an estimated variance that a power is averaged over: scipy's noncentral t has gaps.
QUANTILES = (np.arange(400) + 0.5) / 400


class Information(NamedTuple):
    """What the cells say about the coefficients of a typical gene.

    Attributes
    ----------
    fixed : (p, p) float64
        X' V^-1 X, of the scaled columns.
    effects : (q, p) float64
        Predictions of the random effects per coefficient, (Z' W Z + G^-1)^-1 Z'WX.
    precision : sparse (q, q)
        G^-1.
    of_term : tuple of slice
        The random effects of each term.
    scale : (p,) float64
        A coefficient of the scaled columns over this is one of the design's.
    """

    fixed: np.ndarray
    effects: np.ndarray
    precision: sparse.csc_matrix
    of_term: tuple[slice, ...]
    scale: np.ndarray


class Power(NamedTuple):
    """What a contrast can find.

    Attributes
    ----------
    std_error : float
        Natural log.
    df : float
        Degrees of freedom of the replicates.
    df_moderated : float
        With what the prior across genes adds.
    log2fc : float
        Smallest log2 fold change that is found with power `POWER` at `LEVEL`.
    of_twofold : float
        Power for a log2 fold change of 1.
    """

    std_error: float
    df: float
    df_moderated: float
    log2fc: float
    of_twofold: float


def information(design: Design, mean_count: float, free: str = "") -> Information:
    """Return the information about the coefficients for a typical gene; see the module for the formulas.

    Parameters
    ----------
    design : Design
    mean_count : float
        Counts per cell.
    free : str
        A grouping factor whose effects are held free instead of random.
    """
    moments, scale = _moments(design, mean_count)
    X, of_functions = _columns(design.X.T, design.basis, scale)
    W = sparse.block_diag(list(moments), format="csr")
    fixed = (X.T @ W @ X).toarray()
    if not design.terms:
        nothing = sparse.csc_matrix((0, 0))
        return Information(fixed, np.zeros((0, len(fixed))), nothing, (), of_functions)
    Z, precision, of_term = _random_effects(design, scale, free)
    cross = (Z.T @ W @ X).toarray()
    effects = splu(sparse.csc_matrix(Z.T @ W @ Z + precision)).solve(cross)
    return Information(fixed - cross.T @ effects, effects, precision, of_term, of_functions)


def variance(found: Information, weights: np.ndarray, columns: np.ndarray | None = None) -> float:
    """Return the variance of a contrast, natural log squared.

    Parameters
    ----------
    found : Information
    weights : (p,) float64
    columns : (p,) bool, optional
        The only coefficients of the model; all if not given.
    """
    used = np.ones(len(weights), dtype=bool) if columns is None else columns
    c = (weights / found.scale)[used]
    return float(c @ np.linalg.solve(found.fixed[np.ix_(used, used)], c))


def shares(found: Information, weights: np.ndarray) -> np.ndarray:
    """Return the part of a contrast's variance that each random term contributes, (terms,) float64."""
    u = found.effects @ np.linalg.solve(found.fixed, weights / found.scale)
    weighed = u * (found.precision @ u)
    return np.array([weighed[own].sum() for own in found.of_term])


def confounding(design: Design, found: Information, weights: np.ndarray, columns: np.ndarray | None = None) -> float:
    """Return the share of the information about a contrast that the other variables take away, 0 to 1.

    It is R^2 of the contrast's column on theirs where the contrast is one column, at the level of its replicates:
    1 - v_own / v, with v_own the variance where the formula had the contrast's own variables alone.

    Parameters
    ----------
    design : Design
    found : Information
        Of the design.
    weights : (p,) float64
    columns : (p,) bool, optional
        The only coefficients of the model, those of the contrast among them; all if not given.
    """
    own = variance(found, weights, columns_of(design, weights[None]))
    return float(np.clip(1.0 - own / variance(found, weights, columns), 0.0, 1.0))


def power(design: Design, found: Information, weights: np.ndarray, replicate: Replicate, mean_count: float) -> Power:
    """Return what a contrast can find.

    Where the replicates are nested, as samples in donors, and the contrast is only partly made within the outer groups,
    the degrees of freedom lie between those with and without a mean for each outer group, by the share
    of the information that comes from within them.

    Parameters
    ----------
    design : Design
        With every random term that a contrast needs.
    found : Information
        Of the design and `mean_count`.
    weights : (p,) float64
    replicate : Replicate
        Of the contrast.
    mean_count : float
    """
    v, df = variance(found, weights), replicate.df
    if replicate.inside:
        within = v / max(variance(information(design, mean_count, replicate.inside), weights), v)
        df += within * (replicate.df_inside - replicate.df)
    names = np.array([term.name == replicate.name for term in design.terms], dtype=bool)
    of_replicate = float(shares(found, weights)[names].sum()) if names.any() else 0.0
    prior = PRIOR_DF if design.terms else 0.0
    moderated = min(df + prior * (v / of_replicate) ** 2, MOST_DF) if of_replicate > 0.0 else MOST_DF
    se = float(np.sqrt(v))
    return Power(se, df, moderated, detectable(se, moderated), power_of(LOG2, se, moderated))


def power_of(effect: float, std_error: float, df: float) -> float:
    """Return the power of a two-sided t test at `LEVEL` for an effect in the units of its standard error."""
    shift = abs(effect) / std_error
    critical = stats.t.isf(LEVEL / 2.0, df) * np.sqrt(stats.chi2.ppf(QUANTILES, df) / df)
    return float((stats.norm.sf(critical - shift) + stats.norm.sf(critical + shift)).mean())


def detectable(std_error: float, df: float) -> float:
    """Return the log2 fold change that is found with power `POWER` at `LEVEL`; the standard error is natural log."""
    return optimize.brentq(lambda shift: power_of(shift, 1.0, df) - POWER, 0.0, LARGEST_SEARCHED) * std_error / LOG2


def _moments(design: Design, mean_count: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted second moments of (1, functions) in each pattern, (P, M, M), and the scale of each, (M,)."""
    size = np.exp(design.log_size - design.log_size.max())
    mean = mean_count * size / size.mean()
    weight = mean / (1.0 + DISPERSION * mean)
    functions = np.vstack([np.ones(design.pattern.size), design.functions.T])
    scale = np.sqrt((functions**2).mean(axis=1))
    scale = np.where(scale > 0.0, scale, 1.0)
    functions /= scale[:, None]
    P = len(design.X)
    moments = [[np.bincount(design.pattern, weight * f * g, P) for g in functions] for f in functions]
    return np.moveaxis(np.array(moments), 2, 0), scale


def _columns(coefficients: np.ndarray, basis: np.ndarray, scale: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Lay columns out over patterns x functions, each of root mean square 1: the matrix (P M, k), what they were."""
    (k, P), M = coefficients.shape, len(scale)
    size = np.sqrt((coefficients**2).mean(axis=1))
    size = np.where(size > 0.0, size, 1.0)
    rows = np.arange(P) * M + np.asarray(basis)[:, None]
    of_column = np.repeat(np.arange(k), P)
    laid = sparse.csr_matrix(((coefficients / size[:, None]).ravel(), (rows.ravel(), of_column)), shape=(P * M, k))
    return laid, size * scale[np.asarray(basis)]


def _random_effects(
    design: Design, scale: np.ndarray, free: str
) -> tuple[sparse.csr_matrix, sparse.csc_matrix, tuple[slice, ...]]:
    """Lay the random effects out over patterns x functions, (P M, q), with their precision and each term's place."""
    M, P = len(scale), len(design.X)
    columns, precisions, places, start = [], [], [], 0
    for term in design.terms:
        groups, codes = np.unique(term.codes, return_inverse=True)
        N, q = groups.size, len(term.effects)
        rows = np.arange(P) * M + term.basis[:, None]
        places_of = codes * q + np.arange(q)[:, None]
        values = (term.Z * scale[term.basis][:, None]).ravel()
        columns.append(sparse.csr_matrix((values, (rows.ravel(), places_of.ravel())), shape=(P * M, N * q)))
        G = assumed_covariance(design, term) * (FREE if term.name == free else 1.0)
        precisions.append(sparse.kron(sparse.eye(N), np.linalg.inv(G)))
        places.append(slice(start, start := start + N * q))
    return sparse.hstack(columns, format="csr"), sparse.block_diag(precisions, format="csc"), tuple(places)


def assumed_covariance(design: Design, term: RandomTerm) -> np.ndarray:
    """Return the covariance of a term's effects in a typical gene, (q, q), natural log squared.

    Donors vary by `DONOR_VARIANCE`, whatever lies within donors or crosses them by `RESPONSE_VARIANCE`. A random
    slope of a factor is the difference of two such responses; of a number, such a difference lies between one
    standard deviation below its mean and one above.
    """
    of_donor = np.unique(term.codes).size == np.unique(np.stack([term.codes, design.donor.codes]), axis=1).shape[1]
    of_donor &= np.unique(term.codes).size == np.unique(design.donor.codes).size
    level = DONOR_VARIANCE if of_donor else RESPONSE_VARIANCE
    if INTERCEPT not in term.effects and spans(term.Z[term.basis == 0].T, np.ones((len(design.X), 1))):
        return level * np.ones((len(term.effects),) * 2) + RESPONSE_VARIANCE * np.eye(len(term.effects))
    diagonal = [
        level if name == INTERCEPT else 2.0 * RESPONSE_VARIANCE / _spread(design, z, basis)
        for name, z, basis in zip(term.effects, term.Z, term.basis, strict=True)
    ]
    return np.diag(diagonal)


def _spread(design: Design, z: np.ndarray, basis: int) -> float:
    """Return the square of the range that a difference of two responses is for: 1 for a factor's column."""
    if basis == 0 and np.isin(z, (0.0, 1.0)).all():
        return 1.0
    values = z[design.pattern] * (design.functions[:, basis - 1] if basis else 1.0)
    return max(float((2.0 * values.std()) ** 2), np.finfo(float).tiny)
