r"""BFGS over the variance parameters of one gene.

psi = (sigma_top, sigma_sub, rho): standard deviations themselves and rho with phi = 2 sinh^2(rho / 2),
all unbounded and even. A variance of zero is then an interior stationary point, reached at the speed
of any other optimum, and for large phi rho is log(2 phi). d phi / d rho = sinh rho.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.laplace import reml_gradient
from mlmgen.kernels.policy import inlined_kernel, inner_kernel, kernel
from mlmgen.status import Status

CONVERGED, BOUNDARY = int(Status.CONVERGED), int(Status.BOUNDARY)
NOT_CONVERGED, NOT_FINITE = int(Status.NOT_CONVERGED), int(Status.NOT_FINITE)
MAX_EVALUATIONS = 150
# Predicted decrease of the objective at which to stop; phi is then good to 1e-5 of its standard error.
PREDICTED_DECREASE = 1e-10
# Slack of the Armijo condition, relative to 1 + |value|: rounding of the likelihood's sums.
SLACK = 1e-11
ARMIJO = 1e-4
# Largest |rho|: phi = 1e4, far above any dispersion of counts that pass the filters.
LARGEST_RHO = 9.9
# Largest standard deviation of a random effect of counts, and the one from which its variance (25 on the natural log
# scale) is reported as run off: so it may with too few counts, the effect with it.
LARGEST_SD, DIVERGED_SD = 50.0, 5.0
# Rounding of the sums of a log-likelihood of counts, relative to the total count.
ROUNDING = 1e-14
# Variances below this are compared with zero itself at the end; their fits start again from RESTART if the
# likelihood rises from zero.
NEAR_ZERO = 1e-5
RESTART = 0.05
# A first step towards zero stops short of it: zero is stationary, whatever the likelihood does beside it.
STOP_SHORT = 1.25


class Search(NamedTuple):
    """Scratch of the optimizer, each (3,) but for the inverse Hessian (3, 3)."""

    psi: np.ndarray
    gradient: np.ndarray
    trial: np.ndarray
    trial_gradient: np.ndarray
    step: np.ndarray
    change: np.ndarray
    inverse: np.ndarray
    active: np.ndarray
    raw: np.ndarray


def search_space() -> Search:
    """Allocate the optimizer's scratch of one thread."""
    return Search(*(np.zeros(3) for _ in range(6)), np.zeros((3, 3)), np.zeros(3, np.bool_), np.zeros(3))


@inner_kernel
def phi_of(rho):
    """Return the dispersion at the working parameter."""
    half = math.sinh(0.5 * rho)
    return 2.0 * half * half


@inner_kernel
def rho_of(phi):
    """Return the non-negative working parameter of a dispersion."""
    return 2.0 * math.asinh(math.sqrt(0.5 * phi))


@kernel
def objective(st, gene, wk, psi, active, raw, gradient):
    """Return minus the REML log-likelihood at psi and write its gradient (zero for inactive parameters)."""
    value, _ = reml_gradient(st, gene, wk, psi[0], psi[1], phi_of(psi[2]), raw)
    raw[2] *= math.sinh(psi[2])
    for i in range(3):
        gradient[i] = -raw[i] if active[i] else 0.0
    return -value


@inlined_kernel
def _initial_inverse(st, wk, search):
    """Start the inverse Hessian from the expected information of the standard deviations.

    I(sigma_top) = 2 sigma^2 sum_d (Omega_d / h_d)^2, and where the gradient points to zero a little over
    gradient / sigma, the curvature of an even function that falls from zero.
    """
    top = 0.0
    for d in range(wk.h.shape[0]):
        ratio = wk.Omega[d] / wk.h[d]
        top += ratio * ratio
    sub = 0.0
    for s in range(wk.k.shape[0]):
        ratio = wk.k[s] * wk.omega[s]
        sub += ratio * ratio
    search.inverse[:] = 0.0
    for i in range(3):
        if not search.active[i]:
            continue
        information = 1.0
        x, slope = search.psi[i], search.gradient[i]
        if i == 0:
            information = 2.0 * x * x * top
        elif i == 1:
            information = 2.0 * x * x * sub
        if x != 0.0:
            information = max(information, STOP_SHORT * slope / x)
        search.inverse[i, i] = 1.0 / max(information, 1e-3)


@inlined_kernel
def _curvature_of_rho(st, gene, wk, search):
    """Replace rho's starting curvature by a difference of the gradient along rho."""
    h = 1e-3 * (1.0 + abs(search.psi[2]))
    for i in range(3):
        search.trial[i] = search.psi[i]
    search.trial[2] += h
    objective(st, gene, wk, search.trial, search.active, search.raw, search.trial_gradient)
    curvature = (search.trial_gradient[2] - search.gradient[2]) / h
    if search.psi[2] != 0.0:
        curvature = max(curvature, STOP_SHORT * search.gradient[2] / search.psi[2])
    if curvature > 1e-3:
        search.inverse[2, 2] = 1.0 / curvature


@inner_kernel
def _multiply(A, x, out):
    for i in range(3):
        out[i] = A[i, 0] * x[0] + A[i, 1] * x[1] + A[i, 2] * x[2]


@inner_kernel
def _inner(x, y):
    return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]


@inner_kernel
def _update_inverse(search, scratch):
    """Apply the BFGS update for (step, change); skip it where the curvature is not positive."""
    s, y, A = search.step, search.change, search.inverse
    curvature = _inner(s, y)
    if not curvature > 1e-14:
        return
    _multiply(A, y, scratch)
    scale = (1.0 + _inner(y, scratch) / curvature) / curvature
    for i in range(3):
        for j in range(3):
            A[i, j] += scale * s[i] * s[j] - (scratch[i] * s[j] + s[i] * scratch[j]) / curvature


@inner_kernel
def _limit(search):
    """Shorten a step that would leave the range in which psi can sensibly move at once."""
    t = 1.0
    for i in range(3):
        limit = 1.0 + 0.5 * abs(search.psi[i])
        if abs(search.step[i]) * t > limit:
            t = limit / abs(search.step[i])
    for i in range(3):
        search.step[i] *= t


@inlined_kernel
def _line_search(st, gene, wk, search, value, slope):
    """Backtrack to sufficient decrease; return (value there, fraction of the step, 0 on failure, evaluations)."""
    t = 1.0
    evaluations = 0
    slack = SLACK * (1.0 + abs(value)) + ROUNDING * gene.numbers[3]
    while evaluations < 30:
        for i in range(3):
            search.trial[i] = search.psi[i] + t * search.step[i]
        for i in range(2):
            search.trial[i] = min(max(search.trial[i], -LARGEST_SD), LARGEST_SD)
        search.trial[2] = min(max(search.trial[2], -LARGEST_RHO), LARGEST_RHO)
        trial = objective(st, gene, wk, search.trial, search.active, search.raw, search.trial_gradient)
        evaluations += 1
        if trial <= value + ARMIJO * t * slope + slack:
            return trial, t, evaluations
        if not trial < 1e300:
            wk.beta[:] = 0.0
            wk.v[:] = 0.0
            wk.u[:] = 0.0
        quadratic = -0.5 * slope * t * t / (trial - value - slope * t)
        t = min(max(quadratic, 0.1 * t), 0.5 * t) if trial < 1e300 else 0.2 * t
    return value, 0.0, evaluations


@kernel
def drop_from_inverse(inverse, i):
    """Turn the inverse Hessian into that of the problem without parameter i."""
    for a in range(3):
        for b in range(3):
            if a != i and b != i and inverse[i, i] > 0.0:
                inverse[a, b] -= inverse[a, i] * inverse[i, b] / inverse[i, i]
    for a in range(3):
        inverse[a, i] = inverse[i, a] = 0.0


@kernel
def bfgs(st, gene, wk, search, scratch, fresh, tolerance):
    """Minimize over the active parameters from ``search.psi``; return (value, evaluations, status).

    ``fresh`` asks for a starting inverse Hessian from the data; otherwise ``search.inverse`` is one.
    """
    value = objective(st, gene, wk, search.psi, search.active, search.raw, search.gradient)
    evaluations = 1
    if not value < 1e300:
        return value, evaluations, NOT_FINITE
    if fresh:
        _initial_inverse(st, wk, search)
    if fresh and search.active[2]:
        _curvature_of_rho(st, gene, wk, search)
        evaluations += 1
    while evaluations < MAX_EVALUATIONS:
        _multiply(search.inverse, search.gradient, search.step)
        for i in range(3):
            search.step[i] = -search.step[i]
        _limit(search)
        slope = _inner(search.step, search.gradient)
        if -slope < tolerance:
            return value, evaluations, CONVERGED
        value_new, t, used = _line_search(st, gene, wk, search, value, slope)
        evaluations += used
        if t == 0.0:
            short = 1e-6 + 100.0 * ROUNDING * gene.numbers[3]
            return value, evaluations, CONVERGED if -slope < short else NOT_CONVERGED
        for i in range(3):
            search.step[i] = search.trial[i] - search.psi[i]
            search.change[i] = search.trial_gradient[i] - search.gradient[i]
            search.psi[i] = search.trial[i]
            search.gradient[i] = search.trial_gradient[i]
        value = value_new
        _update_inverse(search, scratch)
        for i in range(2):
            if search.active[i] and abs(search.psi[i]) >= LARGEST_SD and search.psi[i] * search.gradient[i] < 0.0:
                search.active[i] = False
                search.gradient[i] = 0.0
                drop_from_inverse(search.inverse, i)
    return value, evaluations, NOT_CONVERGED


@inlined_kernel
def _rises_from_zero(st, gene, wk, search, i):
    """Return whether the likelihood rises from a variance of zero, by its slope at ``NEAR_ZERO``."""
    for j in range(3):
        search.trial[j] = search.psi[j]
    search.trial[i] = rho_of(NEAR_ZERO) if i == 2 else math.sqrt(NEAR_ZERO)
    objective(st, gene, wk, search.trial, search.active, search.raw, search.trial_gradient)
    return search.trial_gradient[i] < 0.0


@inlined_kernel
def reml_fit(st, gene, wk, search, scratch):
    """Fit the active variance parameters by REML; return (log-likelihood, evaluations, status).

    A variance that ends near zero is set to zero unless the likelihood rises from there, and the rest
    is fitted again; the solution stays in ``search.psi`` (non-negative) and ``wk``.
    """
    value, evaluations, status = bfgs(st, gene, wk, search, scratch, True, PREDICTED_DECREASE)
    for i in range(3):
        x = abs(search.psi[i])
        variance = phi_of(x) if i == 2 else x * x
        if not search.active[i] or not variance < NEAR_ZERO or status == NOT_FINITE:
            continue
        evaluations += 1
        if _rises_from_zero(st, gene, wk, search, i):
            search.psi[i] = rho_of(RESTART) if i == 2 else math.sqrt(RESTART)
            value, more, status = bfgs(st, gene, wk, search, scratch, True, PREDICTED_DECREASE)
        else:
            search.psi[i] = 0.0
            search.active[i] = False
            drop_from_inverse(search.inverse, i)
            value, more, status_zero = bfgs(st, gene, wk, search, scratch, False, PREDICTED_DECREASE)
            status = BOUNDARY if status_zero == CONVERGED else status_zero
        evaluations += more
    for i in range(3):
        search.psi[i] = abs(search.psi[i])
    return -value, evaluations, status
