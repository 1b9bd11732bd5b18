"""The moderated test in plain numpy, one gene and one lattice point at a time."""

import numpy as np
from scipy import linalg, optimize, special, stats

from tests.reference.designs import Cells
from tests.reference.laplace import covariance, laplace_reml, maximize_ml

# The lattice of the log-normal prior: mean of log variance, standard deviation, and the weak hyperprior on both.
PRIOR_MEANS = np.linspace(-7, 0, 22)
PRIOR_SDS = np.geomspace(0.2, 2.2, 8)
HYPER_MEAN, HYPER_MEAN_SD = -3.0, 2.5
HYPER_LOG_SD, HYPER_LOG_SD_SD = np.log(0.8), 0.6
# r* replaces r only where it is trustworthy.
SMALL_R, LARGE_CORRECTION = 0.3, 1.5


def log_prior_on_grid(grid, mean: float, sd: float) -> np.ndarray:
    """Return the log of the log-normal prior on the points of a log-spaced grid; the prior sums to 1."""
    log_density = -(((np.log(grid) - mean) / sd) ** 2) / 2
    return log_density - special.logsumexp(log_density)


def prior_lattice(grid_loglik, grid, shift=None, means=PRIOR_MEANS, sds=PRIOR_SDS) -> np.ndarray:
    """Return the posterior weight of each (mean, sd) of the prior, given all genes.

    Parameters
    ----------
    grid_loglik : (G, K)
    grid : (K,) variances
    shift : (G,) what is added to the prior's mean of each gene (the trend), default 0

    Returns
    -------
    (means, sds) weights, summing to 1
    """
    shift = np.zeros(len(grid_loglik)) if shift is None else shift
    log_weight = np.empty((len(means), len(sds)))
    for i, mean in enumerate(means):
        for j, sd in enumerate(sds):
            total = stats.norm.logpdf(mean, HYPER_MEAN, HYPER_MEAN_SD)
            total += stats.norm.logpdf(np.log(sd), HYPER_LOG_SD, HYPER_LOG_SD_SD)
            for loglik, moved in zip(grid_loglik, shift, strict=True):
                total += special.logsumexp(loglik + log_prior_on_grid(grid, mean + moved, sd))
            log_weight[i, j] = total
    return np.exp(log_weight - special.logsumexp(log_weight))


def posterior(loglik, grid, lattice, shift: float = 0.0, means=PRIOR_MEANS, sds=PRIOR_SDS) -> np.ndarray:
    """Return one gene's (K,) posterior over the grid, averaged over the prior's hyperparameters."""
    total = np.zeros(len(grid))
    for i, mean in enumerate(means):
        for j, sd in enumerate(sds):
            given = loglik + log_prior_on_grid(grid, mean + shift, sd)
            total += lattice[i, j] * np.exp(given - special.logsumexp(given))
    return total


def signed_root(full: float, null: float, sign: float) -> float:
    """Return r, the signed root of the likelihood ratio; rounding below 0 counts as 0."""
    return np.sign(sign) * np.sqrt(2 * max(full - null, 0.0))


def r_star(r: float, u: float) -> float:
    """Return the size of r*: |r| + log(u / r) / |r|, never negative, |r| itself where r* is not trusted."""
    r = abs(r)
    if r < SMALL_R or u == 0 or not np.isfinite(u):
        return r
    log_ratio = np.log(abs(u) / r)
    if abs(log_ratio) > LARGE_CORRECTION:
        return r
    return max(r + log_ratio / r, 0.0)


def mixture_log_pvalue(weights, z) -> float:
    """Return log of sum over k of weights 2 Phi(-|z|)."""
    return special.logsumexp(np.log(2) + stats.norm.logsf(np.abs(z)), b=weights)


def mixture_interval(weights, estimates, std_errors, level=0.95) -> tuple[float, float]:
    """Return the quantiles of a mixture of normals by root finding."""

    def quantile(q):
        low, high = np.min(estimates - 12 * std_errors), np.max(estimates + 12 * std_errors)
        return optimize.brentq(lambda x: weights @ stats.norm.cdf(x, estimates, std_errors) - q, low, high, xtol=1e-13)

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


def mixture_moments(weights, estimates, std_errors) -> tuple[float, float]:
    """Return mean and standard deviation of a mixture of normals: the law of total variance."""
    mean = weights @ estimates
    return mean, np.sqrt(weights @ (std_errors**2 + (estimates - mean) ** 2))


def grid_test(cells: Cells, contrast, sd, phi: float) -> dict[str, float]:
    """Test c'beta = 0 at fixed variances: r, u, |r*|, the ML estimate and its standard error.

    u = b sqrt(|S_full| / |S_null|), b = c'beta / |c|, S the information on beta with v integrated
    out (log|S| = 2 (ML - REML) but for the constant), the null model having the model matrix X N
    with N an orthonormal basis of the complement of c.
    """
    c = np.asarray(contrast, dtype=float)
    null = cells._replace(X=cells.X @ linalg.null_space(c[None, :]))
    beta, full_ml = maximize_ml(cells, sd, phi)
    _, null_ml = maximize_ml(null, sd, phi)
    constant = np.log(2 * np.pi) / 2
    full_gap = full_ml - (laplace_reml(cells, sd, phi) - cells.X.shape[1] * constant)
    null_gap = null_ml - (laplace_reml(null, sd, phi) - null.X.shape[1] * constant)
    r = signed_root(full_ml, null_ml, c @ beta)
    u = c @ beta / np.linalg.norm(c) * np.exp(full_gap - null_gap)
    return {
        "r": r,
        "u": u,
        "r_star": r_star(r, u),
        "estimate": c @ beta,
        "std_error": np.sqrt(c @ covariance(cells, sd, phi) @ c),
    }


def moderated_test(cells: Cells, contrast, points, weights) -> dict[str, float]:
    """Mix the tests at the points (sd, phi) of the grid with a gene's posterior weights."""
    each = [grid_test(cells, contrast, sd, phi) for sd, phi in points]
    weights = np.asarray(weights, dtype=float)
    estimates = np.array([one["estimate"] for one in each])
    std_errors = np.array([one["std_error"] for one in each])
    mean, spread = mixture_moments(weights, estimates, std_errors)
    low, high = mixture_interval(weights, estimates, std_errors)
    return {
        "log_pvalue": mixture_log_pvalue(weights, np.array([one["r_star"] for one in each])),
        "log_pvalue_lr": mixture_log_pvalue(weights, np.array([one["r"] for one in each])),
        "estimate": mean,
        "std_error": spread,
        "ci_low": low,
        "ci_high": high,
    }
