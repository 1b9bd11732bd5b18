"""Tests of contrasts at fixed variances from joint modes, and points of a variance grid, in numpy for one gene.

At the maximum of J over (beta, v), with H = -J'', H_vv its block of the random effects, S = H_bb - H_bv H_vv^-1 H_vb:

    F = J - log|H_vv| / 2,   r^2 = 2 (F(full) - F(null)),   u = c'beta / |c| sqrt(|S_full| / |S_null|)

A gaussian response has factors relative to its residual standard deviation, which is profiled: with V = I + ZL (ZL)',
r^2 the generalized residual sum of squares and n rows, F = -(log|V| + n (1 + log(2 pi r^2 / n))) / 2 and
S = X'V^-1 X (n - p) / r^2.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, special, stats

from tests.reference import moderation
from tests.reference.multilevel import LOG_2PI, Rows, mode, relative_factor


class Joint(NamedTuple):
    """F at the joint mode, beta there, and the information S on beta."""

    value: float
    beta: np.ndarray
    information: np.ndarray


def stretched(covariance: np.ndarray, effect: int, variance: float) -> np.ndarray:
    """Return a covariance matrix with another variance of one effect, correlations kept.

    ``effect`` -1 is the whole matrix in proportion, so that its largest variance is ``variance``. Effects without
    variance get it and stay uncorrelated.
    """
    q = len(covariance)
    chosen = np.arange(q) if effect < 0 else np.array([effect])
    largest = np.diag(covariance)[chosen].max()
    if largest == 0:
        return covariance + np.diag(np.isin(np.arange(q), chosen) * variance)
    scale = np.ones(q)
    scale[chosen] = np.sqrt(variance / largest)
    return covariance * np.outer(scale, scale)


def joint(rows: Rows, factors, phi: float) -> Joint:
    """Return F, beta and S of counts at factors and phi; of a gaussian response at relative factors."""
    p, n = rows.X.shape[1], len(rows.y)
    if rows.family == "gaussian":
        ZL = rows.Z @ relative_factor(rows, factors)
        V = np.eye(n) + ZL @ ZL.T
        information = rows.X.T @ np.linalg.solve(V, rows.X)
        beta = np.linalg.solve(information, rows.X.T @ np.linalg.solve(V, rows.y - rows.offset))
        residual = rows.y - rows.offset - rows.X @ beta
        square = residual @ np.linalg.solve(V, residual)
        value = -(np.linalg.slogdet(V)[1] + n * (1 + LOG_2PI + np.log(square / n))) / 2
        return Joint(value, beta, information * (n - p) / square)
    at = mode(rows, factors, phi)
    of_v = at.H[p:, p:]
    information = at.H[:p, :p] - at.H[:p, p:] @ np.linalg.solve(of_v, at.H[p:, :p])
    return Joint(at.value - np.linalg.slogdet(of_v)[1] / 2, at.beta, information)


def joint_test(rows: Rows, W, factors, phi: float) -> dict[str, float]:
    """Test W beta = 0 at fixed variances: r* of one row, the chi-square tail of the likelihood ratio of several."""
    W = np.atleast_2d(np.asarray(W, dtype=float))
    full = joint(rows, factors, phi)
    null = joint(rows._replace(X=rows.X @ linalg.null_space(W)), factors, phi)
    ratio, c = 2 * max(full.value - null.value, 0.0), W[0]
    estimate, error = c @ full.beta, np.sqrt(c @ np.linalg.solve(full.information, c))
    if len(W) > 1:
        return {"log_pvalue": stats.chi2.logsf(ratio, len(W))}
    change = np.linalg.slogdet(full.information)[1] - np.linalg.slogdet(null.information)[1]
    u = estimate / np.linalg.norm(c) * np.exp(change / 2)
    log_p = np.log(2) + stats.norm.logsf(moderation.r_star(np.sqrt(ratio), u))
    return {"log_pvalue": log_p, "estimate": estimate, "std_error": error}


def mixed(tests: list[dict[str, float]], weights) -> dict[str, float]:
    """Mix the tests at several points of a grid, whose weights sum to 1."""
    weights = np.asarray(weights, dtype=float)
    columns = {name: np.array([one[name] for one in tests]) for name in tests[0]}
    out = {"log_pvalue": float(special.logsumexp(columns.pop("log_pvalue"), b=weights))}
    if columns:
        out |= dict(zip(columns, moderation.mixture_moments(weights, *columns.values()), strict=True))
    return out
