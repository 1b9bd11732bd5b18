"""The Laplace approximations of a count model with random intercepts, from the definition.

Spherical random effects v ~ N(0, I), eta = log_size + X beta + sum over terms of sd * v[group],
b = (beta, v), J(b) = log-likelihood - v'v / 2, H = -J''. Dense matrices, one row per cell.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from tests.reference.designs import Cells

# Below this dispersion lgamma(y + 1/phi) - lgamma(1/phi) loses more than 1e-9 a cell; the finite sum does not.
SMALL_PHI = 1e-5
NEWTON_STEPS = 200


class Mode(NamedTuple):
    """The maximum of J over the free part of b: its place, its value, and minus its second derivative."""

    beta: np.ndarray
    v: np.ndarray
    value: float
    H: np.ndarray


class Fit(NamedTuple):
    """REML estimates: standard deviations of the terms, dispersion, the joint mode's beta, log-likelihood."""

    sd: np.ndarray
    phi: float
    beta: np.ndarray
    loglik: float


def nb_log_density(y, mu, phi):
    """Return log f(y) of each cell: Var(y) = mu + phi mu^2, Poisson at phi = 0."""
    y, mu = np.broadcast_arrays(np.asarray(y, dtype=float), np.asarray(mu, dtype=float))
    if phi == 0:
        return stats.poisson.logpmf(y, mu)
    if phi >= SMALL_PHI:
        return stats.nbinom.logpmf(y, 1 / phi, 1 / (1 + phi * mu))
    rising = np.array([np.log1p(phi * np.arange(1, int(count))).sum() for count in y])
    return rising + stats.poisson.logpmf(y, mu) + mu - (y + 1 / phi) * np.log1p(phi * mu)


def design_matrix(cells: Cells, sd) -> np.ndarray:
    """Return [X, Z Lambda] with one row per cell; levels without cells have columns of zeros."""
    columns = [cells.X]
    for scale, codes in zip(sd, cells.groups, strict=True):
        columns.append(scale * np.eye(codes.max() + 1)[codes])
    return np.hstack(columns)


def _joint(cells, matrix, b, phi):
    p = cells.X.shape[1]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mu = np.exp(cells.log_size + matrix @ b)
        value = nb_log_density(cells.y, mu, phi).sum() - b[p:] @ b[p:] / 2
    return (value if np.isfinite(value) else -np.inf), mu


def mode(cells: Cells, sd, phi: float, beta=None) -> Mode:
    """Maximize J over (beta, v), or over v alone where ``beta`` is given, by damped Newton steps."""
    matrix = design_matrix(cells, sd)
    p = cells.X.shape[1]
    prior = np.concatenate([np.zeros(p), np.ones(matrix.shape[1] - p)])
    b = np.zeros(matrix.shape[1])
    if beta is None:
        rate = np.log(max(cells.y.sum(), 0.5) / np.exp(cells.log_size).sum())
        b[:p] = np.linalg.lstsq(cells.X, np.full(len(cells.y), rate))[0]
        free = np.arange(len(b))
    else:
        b[:p] = beta
        free = np.arange(p, len(b))
    value, mu = _joint(cells, matrix, b, phi)
    for _ in range(NEWTON_STEPS):
        r = 1 / (1 + phi * mu)
        gradient = matrix.T @ ((cells.y - mu) * r) - prior * b
        H = matrix.T @ ((mu * (1 + phi * cells.y) * r**2)[:, None] * matrix) + np.diag(prior)
        step = np.zeros(len(b))
        step[free] = np.linalg.solve(H[np.ix_(free, free)], gradient[free]) if len(free) else 0
        if gradient @ step < 1e-18 * (1 + abs(value)):
            break
        scale = 1.0
        trial, trial_mu = _joint(cells, matrix, b + step, phi)
        # The slack admits the last steps, whose gain is below the rounding of the sum.
        while trial < value - 1e-11 * (1 + abs(value)) and scale > 1e-10:
            scale /= 2
            trial, trial_mu = _joint(cells, matrix, b + scale * step, phi)
        b, value, mu = b + scale * step, trial, trial_mu
    return Mode(b[:p], b[p:], value, H)


def laplace_reml(cells: Cells, sd, phi: float) -> float:
    """REML-Laplace: beta and v integrated out, J - log|H| / 2 + p/2 log 2 pi."""
    at = mode(cells, sd, phi)
    return at.value - np.linalg.slogdet(at.H)[1] / 2 + cells.X.shape[1] / 2 * np.log(2 * np.pi)


def laplace_ml(cells: Cells, beta, sd, phi: float) -> float:
    """ML-Laplace at a given beta: v integrated out, J - log|H_vv| / 2."""
    at = mode(cells, sd, phi, beta=beta)
    p = cells.X.shape[1]
    return at.value - np.linalg.slogdet(at.H[p:, p:])[1] / 2


def covariance(cells: Cells, sd, phi: float) -> np.ndarray:
    """Return the (p, p) covariance of beta given the variances: that block of H^-1."""
    p = cells.X.shape[1]
    return np.linalg.inv(mode(cells, sd, phi).H)[:p, :p]


def maximize_ml(cells: Cells, sd, phi: float) -> tuple[np.ndarray, float]:
    """Maximize the ML-Laplace value over beta at fixed variances, starting at the joint mode."""
    start = mode(cells, sd, phi).beta
    if not any(sd):
        return start, laplace_ml(cells, start, sd, phi)
    # In units of the standard errors the problem is well scaled for finite differences.
    scale = np.linalg.cholesky(covariance(cells, sd, phi))
    result = optimize.minimize(
        lambda z: -laplace_ml(cells, start + scale @ z, sd, phi),
        np.zeros(len(start)),
        jac="3-point",
        method="BFGS",
        options={"gtol": 1e-6},
    )
    return start + scale @ result.x, -result.fun


def fit_reml(cells: Cells, family: str = "nb", hold=None) -> Fit:
    """Maximize the REML-Laplace value over standard deviations and log dispersion.

    ``hold`` gives a fixed value per term, or None where it is free; 0 is a value like any other.
    """
    hold = [None] * len(cells.groups) if hold is None else hold
    free = [i for i, value in enumerate(hold) if value is None]

    def unpack(psi):
        sd = np.array([0.0 if value is None else value for value in hold])
        sd[free] = psi[: len(free)]
        return sd, (float(np.exp(np.clip(psi[-1], -25, 8))) if family == "nb" else 0.0)

    def objective(psi):
        value = laplace_reml(cells, *unpack(psi))
        return -value if np.isfinite(value) else 1e10

    best = None
    for start in (0.3, 0.03):
        psi = np.concatenate([np.full(len(free), start), [-1.0] if family == "nb" else []])
        if not len(psi):
            best = psi
            break
        rough = optimize.minimize(objective, psi, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7})
        fine = optimize.minimize(objective, rough.x, method="BFGS", jac="3-point", options={"gtol": 1e-6})
        candidate = min((rough, fine), key=lambda result: result.fun)
        if best is None or candidate.fun < best.fun:
            best = candidate
    sd, phi = unpack(best.x if hasattr(best, "x") else best)
    return Fit(np.abs(sd), phi, mode(cells, sd, phi).beta, laplace_reml(cells, sd, phi))
