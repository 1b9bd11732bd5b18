"""Any mixed model of one gene from the definition: any random terms, four families, REML, ML and quadrature.

Effects of group l of a term: u_l = T v_l with v_l ~ N(0, I), so that cov(u_l) = T T'. Then
eta = offset + X beta + Z Lambda v, b = (beta, v), J(b) = log-likelihood - v'v / 2, H = -J''.
Dense matrices, one row per cell. Parameters of the variances: psi = (entries of each lower-triangular T row by
row, log phi), where phi is the dispersion of nb and the residual variance of gaussian.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize, special, stats

from mlmgen.types import Counts, Design
from tests.reference.laplace import SMALL_PHI

LOG_2PI = np.log(2 * np.pi)
NEWTON_STEPS = 200
# Families whose phi is estimated.
DISPERSED = ("nb", "gaussian")
# Range of log phi that the optimizer may visit: below, nb is Poisson to rounding.
LOG_PHI = (-25.0, 15.0)
# Central differences of a log-likelihood of 1e3 with a rounding of 1e-12: errors near 1e-8 and 1e-6.
GRADIENT_STEP = 1e-4
HESSIAN_STEP = 4e-3


class Rows(NamedTuple):
    """One gene's data and random structure.

    ``y``, ``offset`` (n,), ``X`` (n, p), ``Z`` (n, Q) unscaled, ``terms``: for each term a (levels, q) array
    with the columns of Z of each group, ``family``: nb, poisson, bernoulli or gaussian.
    """

    y: np.ndarray
    offset: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    terms: tuple[np.ndarray, ...]
    family: str


class Mode(NamedTuple):
    """The maximum of J over the free part of b: its place, its value, and minus its second derivative."""

    beta: np.ndarray
    v: np.ndarray
    value: float
    H: np.ndarray


class Fit(NamedTuple):
    """Estimates: T of each term, phi (0 for families without), beta, log-likelihood."""

    factors: tuple[np.ndarray, ...]
    phi: float
    beta: np.ndarray
    loglik: float


def expand(design: Design, counts: Counts, gene: int, family: str) -> Rows:
    """Unpack one gene of a shard: every cell with its own rows of X and Z.

    The size factor multiplies the mean of counts; a gaussian response is transformed already and has only the
    formula's offset.
    """
    n, pattern = len(design.pattern), design.pattern
    y = np.zeros(n)
    chosen = slice(counts.start[gene], counts.start[gene + 1])
    y[counts.rows[chosen]] = counts.values[chosen]
    functions = np.column_stack([np.ones(n), design.functions])
    X = design.X[pattern] * functions[:, design.basis]
    columns, terms, first = [np.empty((n, 0))], [], 0
    for term in design.terms:
        levels, q = len(term.levels), len(term.effects)
        member = term.codes[pattern][:, None] == np.arange(levels)
        effects = (term.Z[:, pattern] * functions.T[term.basis]).T
        columns.append((member[:, :, None] * effects[:, None, :]).reshape(n, levels * q))
        terms.append(first + np.arange(levels * q).reshape(levels, q))
        first += levels * q
    offset = design.offset if family == "gaussian" else design.log_size
    return Rows(y, offset, X, np.hstack(columns), tuple(terms), family)


def component_names(name: str, effects) -> list[list[str]]:
    """Return the (q, q) names that a term's variances and covariances have among ``GeneFits.components``."""
    if tuple(effects) == ("(Intercept)",):
        return [[name]]
    q = range(len(effects))
    pairs = [[(effects[min(i, j)], effects[max(i, j)]) for j in q] for i in q]
    return [[f"{name}: {a}" if i == j else f"{name}: {a}, {b}" for j, (a, b) in enumerate(pairs[i])] for i in q]


def parameters(design: Design, components, variances) -> tuple[tuple[np.ndarray, ...], float]:
    """Turn a gene's row of ``GeneFits.variance`` into the T of each term and phi."""
    named = dict(zip(components, variances, strict=True))
    factors = [factor([[named[c] for c in row] for row in component_names(t.name, t.effects)]) for t in design.terms]
    return tuple(factors), float(named.get("dispersion", named.get("residual", 0.0)))


def factor(covariance) -> np.ndarray:
    """Return the lower-triangular T with T T' = covariance, which may be singular."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=float))
    triangle = np.linalg.qr((vectors * np.sqrt(np.maximum(values, 0))).T, mode="r").T
    return triangle * np.where(np.diag(triangle) < 0, -1.0, 1.0)


def log_density(rows: Rows, eta, phi: float) -> np.ndarray:
    """Return log f(y | eta) of each row, every constant included."""
    if rows.family == "gaussian":
        return stats.norm.logpdf(rows.y, eta, np.sqrt(phi))
    if rows.family == "bernoulli":
        return (rows.y > 0) * eta - np.logaddexp(0, eta)
    return count_log_density(rows.y, eta, phi if rows.family == "nb" else 0.0)


def count_log_density(y, eta, phi: float) -> np.ndarray:
    """Return log f(y) of counts with mean e^eta: Var = mu + phi mu^2; finite also where the mean underflows."""
    mu = np.exp(eta)
    if phi == 0:
        return y * eta - mu - special.gammaln(y + 1)
    # log prod_{j < y} (1 + phi j), which below SMALL_PHI loses digits as a difference of lgamma.
    if phi >= SMALL_PHI:
        rising = special.gammaln(y + 1 / phi) - special.gammaln(1 / phi) + y * np.log(phi)
    else:
        rising = np.array([np.log1p(phi * np.arange(1, int(count))).sum() for count in y.ravel()]).reshape(y.shape)
    return rising + y * eta - (y + 1 / phi) * np.log1p(phi * mu) - special.gammaln(y + 1)


def score_and_weight(rows: Rows, eta, phi: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and minus the second derivative of each row's log density in eta."""
    if rows.family == "gaussian":
        return (rows.y - eta) / phi, np.full(len(eta), 1 / phi)
    if rows.family == "bernoulli":
        probability = special.expit(eta)
        return (rows.y > 0) - probability, probability * special.expit(-eta)
    phi = phi if rows.family == "nb" else 0.0
    mu = np.exp(eta)
    r = 1 / (1 + phi * mu)
    return (rows.y - mu) * r, mu * (1 + phi * rows.y) * r**2


def relative_factor(rows: Rows, factors) -> np.ndarray:
    """Return Lambda (Q, Q): the T of each term at the columns of each of its groups."""
    Lambda = np.zeros((rows.Z.shape[1],) * 2)
    for columns, T in zip(rows.terms, factors, strict=True):
        for group in columns:
            Lambda[np.ix_(group, group)] = T
    return Lambda


def _log_joint(rows, matrix, b, phi):
    p = rows.X.shape[1]
    eta = rows.offset + matrix @ b
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value = log_density(rows, eta, phi).sum() - b[p:] @ b[p:] / 2
    return (value if np.isfinite(value) else -np.inf), eta


def _start(rows) -> np.ndarray:
    """Return coefficients of a constant mean, as far as the columns of X can give one."""
    if rows.family == "gaussian":
        return np.linalg.lstsq(rows.X, rows.y - rows.offset)[0]
    if rows.family == "bernoulli":
        share = np.clip((rows.y > 0).mean(), 0.01, 0.99)
        level = special.logit(share) - rows.offset.mean()
    else:
        level = np.log(max(rows.y.sum(), 0.5) / np.exp(rows.offset).sum())
    return np.linalg.lstsq(rows.X, np.full(len(rows.y), level))[0]


def mode(rows: Rows, factors, phi: float, beta=None) -> Mode:
    """Maximize J over (beta, v), or over v alone where ``beta`` is given, by damped Newton steps."""
    matrix = np.hstack([rows.X, rows.Z @ relative_factor(rows, factors)])
    p, size = rows.X.shape[1], matrix.shape[1]
    prior = np.r_[np.zeros(p), np.ones(size - p)]
    b = np.r_[_start(rows) if beta is None else beta, np.zeros(size - p)]
    free = np.arange(0 if beta is None else p, size)
    value, eta = _log_joint(rows, matrix, b, phi)
    for _ in range(NEWTON_STEPS):
        score, weight = score_and_weight(rows, eta, phi)
        gradient = matrix.T @ score - prior * b
        H = matrix.T @ (weight[:, None] * matrix) + np.diag(prior)
        step = np.zeros(size)
        step[free] = np.linalg.solve(H[np.ix_(free, free)], gradient[free])
        if not gradient @ step > 1e-18 * (1 + abs(value)):
            break
        scale = 1.0
        trial, trial_eta = _log_joint(rows, matrix, b + step, phi)
        # The slack admits the last steps, whose gain is below the rounding of the sum.
        while trial < value - 1e-11 * (1 + abs(value)) and scale > 1e-10:
            scale /= 2
            trial, trial_eta = _log_joint(rows, matrix, b + scale * step, phi)
        b, value, eta = b + scale * step, trial, trial_eta
    return Mode(b[:p], b[p:], value, H)


def laplace_reml(rows: Rows, factors, phi: float) -> float:
    """REML-Laplace: beta and v integrated out, J - log|H| / 2 + p/2 log 2 pi."""
    at = mode(rows, factors, phi)
    return at.value - np.linalg.slogdet(at.H)[1] / 2 + rows.X.shape[1] / 2 * LOG_2PI


def laplace_ml(rows: Rows, beta, factors, phi: float) -> float:
    """ML-Laplace at a given beta: v integrated out, J - log|H_vv| / 2."""
    at = mode(rows, factors, phi, beta=beta)
    p = rows.X.shape[1]
    return at.value - np.linalg.slogdet(at.H[p:, p:])[1] / 2


def agq_ml(rows: Rows, beta, factors, phi: float, nodes: int = 9) -> float:
    """ML at a given beta by adaptive Gauss-Hermite quadrature; one random term with one effect a group."""
    ((columns,), (T,)) = rows.terms, factors
    if columns.shape[1] != 1:
        raise ValueError("quadrature is for one effect a group")
    x, w = np.polynomial.hermite.hermgauss(nodes)
    at = mode(rows, factors, phi, beta=beta)
    width = 1 / np.sqrt(np.diag(at.H)[rows.X.shape[1] :])
    fixed = rows.offset + rows.X @ np.asarray(beta)
    total = 0.0
    for group in columns[:, 0]:
        z = rows.Z[:, group] * T[0, 0]
        # The group's rows: the others do not depend on its effect.
        mine = rows.Z[:, group] != 0
        own = rows._replace(y=rows.y[mine])
        v = at.v[group] + np.sqrt(2) * width[group] * x
        joint = np.array([log_density(own, fixed[mine] + z[mine] * point, phi).sum() for point in v])
        joint -= v * v / 2 + LOG_2PI / 2
        total += special.logsumexp(joint + x * x, b=np.sqrt(2) * width[group] * w)
    # Rows that no group multiplies (a slope where its covariate is 0).
    rest = (rows.Z[:, columns[:, 0]] == 0).all(axis=1)
    return total + log_density(rows._replace(y=rows.y[rest]), fixed[rest], phi).sum()


def profiled_gaussian(rows: Rows, relative, method: str) -> tuple[float, float, np.ndarray]:
    """Maximize the gaussian likelihood over the residual variance (and beta) at relative factors.

    ``relative``: T / residual standard deviation. Returns log-likelihood, residual variance, beta.
    """
    n, p = rows.X.shape
    ZL = rows.Z @ relative_factor(rows, relative)
    V = np.eye(n) + ZL @ ZL.T
    inverse = np.linalg.inv(V)
    information = rows.X.T @ inverse @ rows.X
    beta = np.linalg.solve(information, rows.X.T @ inverse @ (rows.y - rows.offset))
    residual = rows.y - rows.offset - rows.X @ beta
    df = n - p if method == "reml" else n
    sigma2 = residual @ inverse @ residual / df
    loglik = -df / 2 * (LOG_2PI + np.log(sigma2) + 1) - np.linalg.slogdet(V)[1] / 2
    if method == "reml":
        loglik -= np.linalg.slogdet(information)[1] / 2
    return loglik, sigma2, beta


def normal_loglik(rows: Rows, factors, phi: float, beta=None) -> float:
    """Multivariate normal log density of y at beta; without beta that density integrated over beta (REML)."""
    n, p = rows.X.shape
    ZL = rows.Z @ relative_factor(rows, factors)
    V = phi * np.eye(n) + ZL @ ZL.T
    centre = np.zeros(p) if beta is None else np.asarray(beta)
    mean = rows.offset + rows.X @ centre
    if beta is not None:
        return stats.multivariate_normal.logpdf(rows.y, mean, V)
    information = rows.X.T @ np.linalg.solve(V, rows.X)
    centre = np.linalg.solve(information, rows.X.T @ np.linalg.solve(V, rows.y - rows.offset))
    height = stats.multivariate_normal.logpdf(rows.y, rows.offset + rows.X @ centre, V)
    return height - np.linalg.slogdet(information)[1] / 2 + p / 2 * LOG_2PI


def gradient(function, x, step: float = GRADIENT_STEP) -> np.ndarray:
    """Differentiate a scalar or vector function by central differences: one row per coordinate of x."""
    x = np.asarray(x, dtype=float)
    shifts = step * np.eye(len(x))
    return np.array([(function(x + h) - function(x - h)) / (2 * step) for h in shifts])


def hessian(function, x, step: float = HESSIAN_STEP) -> np.ndarray:
    """Second derivatives of a scalar function by central differences at two steps, extrapolated."""
    x = np.asarray(x, dtype=float)

    def second(h):
        e = h * np.eye(len(x))
        H = np.empty((len(x),) * 2)
        for i in range(len(x)):
            for j in range(i + 1):
                corners = [a * b * function(x + a * e[i] + b * e[j]) for a in (1, -1) for b in (1, -1)]
                H[i, j] = H[j, i] = sum(corners) / (4 * h * h)
        return H

    return (4 * second(step / 2) - second(step)) / 3


def pack(rows: Rows, factors, phi: float) -> np.ndarray:
    """Return psi: the lower triangle of each T row by row, then log phi for the families that have it."""
    entries = [T[np.tril_indices(len(T))] for T in map(np.asarray, factors)]
    return np.concatenate([*entries, [np.log(phi)] if rows.family in DISPERSED else []])


def unpack(rows: Rows, psi) -> tuple[tuple[np.ndarray, ...], float]:
    """Return the T of each term and phi."""
    factors, psi = [], np.asarray(psi, dtype=float)
    for columns in rows.terms:
        q = columns.shape[1]
        T = np.zeros((q, q))
        T[np.tril_indices(q)], psi = np.split(psi, [q * (q + 1) // 2])
        factors.append(T)
    return tuple(factors), (float(np.exp(np.clip(psi[0], *LOG_PHI))) if rows.family in DISPERSED else 0.0)


def unit(rows: Rows) -> float:
    """Return a natural unit of the entries of T: the standard deviation of a gaussian response, else 1."""
    return float(np.std(rows.y)) if rows.family == "gaussian" else 1.0


def units(rows: Rows) -> np.ndarray:
    """Return the units of psi; that of log phi is 1."""
    entries = sum(columns.shape[1] * (columns.shape[1] + 1) // 2 for columns in rows.terms)
    return np.r_[np.full(entries, unit(rows)), np.ones(int(rows.family in DISPERSED))]


def loglik_reml(rows: Rows):
    """Return the REML-Laplace log-likelihood as a function of psi."""
    return lambda psi: laplace_reml(rows, *unpack(rows, psi))


def loglik_ml(rows: Rows, integration: str = "laplace", nodes: int = 9):
    """Return the ML log-likelihood as a function of (beta, psi)."""
    p = rows.X.shape[1]
    if integration == "agq":
        return lambda x: agq_ml(rows, x[:p], *unpack(rows, x[p:]), nodes)
    return lambda x: laplace_ml(rows, x[:p], *unpack(rows, x[p:]))


def _maximize(function, x, scale) -> np.ndarray:
    """Maximize by BFGS; ``scale`` (d, d) maps to coordinates of like curvature."""

    def objective(z):
        value = function(x + scale @ z)
        return -value if np.isfinite(value) else 1e10

    # The last steps gain less than the rounding of the value; the message is then one of lost precision.
    result = optimize.minimize(
        objective, np.zeros(len(x)), jac=lambda z: gradient(objective, z), options={"gtol": 1e-6}
    )
    return x + scale @ result.x


def fit(rows: Rows, method: str = "reml", integration: str = "laplace", nodes: int = 9, starts=(0.4, 0.05)) -> Fit:
    """Maximize over psi (reml) or over (beta, psi) (ml) from each start: T = that multiple of the identity."""
    p = rows.X.shape[1]
    function = loglik_reml(rows) if method == "reml" else loglik_ml(rows, integration, nodes)
    found = []
    for start in starts:
        factors = [start * unit(rows) * np.eye(columns.shape[1]) for columns in rows.terms]
        psi, scale = pack(rows, factors, 0.5 * unit(rows) ** 2), 0.2 * np.diag(units(rows))
        if method == "ml":
            at = mode(rows, factors, unpack(rows, psi)[1])
            psi = np.r_[at.beta, psi]
            scale = linalg.block_diag(np.linalg.cholesky(np.linalg.inv(at.H)[:p, :p]), scale)
        best = _maximize(function, psi, scale) if len(psi) else psi
        found.append((function(best), best))
    loglik, best = max(found, key=lambda pair: pair[0])
    factors, phi = unpack(rows, best[p:] if method == "ml" else best)
    beta = best[:p] if method == "ml" else mode(rows, factors, phi).beta
    return Fit(factors, phi, beta, loglik)


def conditional_covariance(rows: Rows, factors, phi: float, beta=None) -> np.ndarray:
    """Return the (p, p) covariance of beta given the variances: that block of H^-1 at the joint mode, or at beta."""
    p = rows.X.shape[1]
    return np.linalg.inv(mode(rows, factors, phi, beta).H)[:p, :p]


def full_covariance(rows: Rows, at: Fit, method: str = "reml", step: float = HESSIAN_STEP) -> np.ndarray:
    """Return the (p, p) covariance of beta with the uncertainty of the variances.

    REML: S^-1 + (dbeta/dpsi) V_psi (dbeta/dpsi)', V_psi the inverse of minus the Hessian of the REML
    log-likelihood. ML: the block of beta of the inverse of minus the Hessian in (beta, psi).
    """
    p, psi, scale = rows.X.shape[1], pack(rows, at.factors, at.phi), units(rows)
    if method == "ml":
        # Beta in units of its standard errors, so that one step suits all coordinates.
        root = np.linalg.cholesky(conditional_covariance(rows, at.factors, at.phi, at.beta))
        function = loglik_ml(rows)
        H = hessian(
            lambda x: function(np.r_[at.beta + root @ x[:p], psi + scale * x[p:]]), np.zeros(p + len(psi)), step
        )
        return root @ np.linalg.inv(-H)[:p, :p] @ root.T
    function, zero = loglik_reml(rows), np.zeros(len(psi))
    slope = gradient(lambda x: mode(rows, *unpack(rows, psi + scale * x)).beta, zero)
    V = np.linalg.inv(-hessian(lambda x: function(psi + scale * x), zero, step))
    return conditional_covariance(rows, at.factors, at.phi) + slope.T @ V @ slope
