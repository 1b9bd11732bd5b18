r"""The Laplace approximation of a gene's marginal likelihood, restricted (REML) and not (ML).

With b = (beta, v, u) at the maximum of J and H = -J'' there (``arrowhead``):

    REML:  L = J(b) - log |H| / 2 + (p / 2) log 2 pi         beta integrated out
    ML:    L(beta) = J(v(beta)) - log |H_vv| / 2

Both carry every constant of the likelihood.
"""

import numpy as np

from mlmgen.kernels.arrowhead import (
    direction,
    factor,
    group_sums,
    half_trace_sub,
    half_trace_top,
    leverages,
    log_det_random,
    random_leverages,
    solve,
    weighted_product,
)
from mlmgen.kernels.families import all_derivatives, dot, likelihood_and_weight, score_and_weight, score_weight_slope
from mlmgen.kernels.policy import inner_kernel, kernel

LOG_2PI = 1.8378770664093453
MAX_NEWTON = 60
MAX_ML_STEPS = 12
# Newton stops after the step at which the decrement r'd fell below this; convergence being quadratic, the
# error left in the solution is of this order (in standard errors). Fits and their gradients need FINE;
# COARSE, per effect, leaves 1e-4 (at most 1e-2) in a log-likelihood of the variance grid.
FINE = 1e-8
COARSE = 2e-3
# Close enough to the joint mode for the steps to the ML maximum, which also move the effects.
NEARBY = 1.0
# Longest step of a linear predictor: exp grows by e^4 at most, so that weights stay representable.
LONGEST_STEP = 4.0


@inner_kernel
def _gradient(st, wk, score, sd_top, sd_sub):
    """Write the gradient of J by (beta, v, u) into r for a per-pattern score."""
    group_sums(st, score, wk.by_sub, wk.by_top)
    for i in range(st.X.shape[0]):
        wk.r_beta[i] = dot(score, st.X[i]) - st.ridge[i] * wk.beta[i]
    for d in range(wk.h.shape[0]):
        wk.r_v[d] = sd_top * wk.by_top[d] - wk.v[d]
    for s in range(wk.k.shape[0]):
        wk.r_u[s] = sd_sub * wk.by_sub[s] - wk.u[s]


@inner_kernel
def _slope_along(wk):
    """Return r'd, the derivative of J along the step, for r as just written."""
    return dot(wk.r_beta, wk.d_beta) + dot(wk.r_v, wk.d_v) + dot(wk.r_u, wk.d_u)


@inner_kernel
def _move(wk, t):
    for i in range(wk.beta.shape[0]):
        wk.beta[i] += t * wk.d_beta[i]
    for d in range(wk.v.shape[0]):
        wk.v[d] += t * wk.d_v[d]
    for s in range(wk.u.shape[0]):
        wk.u[s] += t * wk.d_u[s]
    for q in range(wk.sums.eta.shape[0]):
        wk.sums.eta[q] += t * wk.d_eta[q]


@inner_kernel
def _largest(x):
    m = 0.0
    for i in range(x.shape[0]):
        m = max(m, abs(x[i]))
    return m


@kernel
def newton(st, gene, wk, sd_top, sd_sub, phi, tolerance):
    """Maximize J over (beta, v, u) from the current point; return the number of passes, negative on failure.

    J is concave: a step is accepted once its slope at the new point is above minus half of the slope
    at the old one, which needs no value of J.
    """
    if sd_sub == 0.0:
        wk.u[:] = 0.0
        wk.d_u[:] = 0.0
    direction(st, wk.beta, wk.v, wk.u, sd_top, sd_sub, wk.sums.eta)
    score_and_weight(st.size, st.cells, gene, phi, wk.sums)
    for iteration in range(1, MAX_NEWTON):
        log_det_s = factor(st, wk, sd_top, sd_sub)
        _gradient(st, wk, wk.sums.g, sd_top, sd_sub)
        solve(st, wk, sd_top, sd_sub)
        decrement = _slope_along(wk)
        if not (decrement < 1e300 and log_det_s > -1e300):
            return -iteration
        direction(st, wk.d_beta, wk.d_v, wk.d_u, sd_top, sd_sub, wk.d_eta)
        t = min(1.0, LONGEST_STEP / max(_largest(wk.d_eta), 1e-300))
        _move(wk, t)
        if decrement < tolerance:
            return iteration
        _shorten(st, gene, wk, sd_top, sd_sub, phi, t, decrement)
    return -MAX_NEWTON


@inner_kernel
def _shorten(st, gene, wk, sd_top, sd_sub, phi, t, slope):
    """Refresh g and w after a step of length t; step back while the step overshot the maximum along it."""
    for _ in range(20):
        score_and_weight(st.size, st.cells, gene, phi, wk.sums)
        _gradient(st, wk, wk.sums.g, sd_top, sd_sub)
        if _slope_along(wk) > -0.5 * slope:
            return
        _move(wk, -0.5 * t)
        t *= 0.5


@kernel
def reml(st, gene, wk, sd_top, sd_sub, phi, tolerance):
    """Return the REML-Laplace log-likelihood with all constants; NaN where Newton failed."""
    passes = newton(st, gene, wk, sd_top, sd_sub, phi, tolerance)
    value = likelihood_and_weight(st.size, st.cells, gene, phi, wk.sums) + penalty(st, wk)
    log_det_s = factor(st, wk, sd_top, sd_sub)
    if passes < 0:
        return np.nan
    return value - 0.5 * (log_det_random(wk) + log_det_s) + 0.5 * LOG_2PI * st.X.shape[0]


@inner_kernel
def penalty(st, wk):
    """Return -(v'v + u'u + beta' ridge beta) / 2."""
    return -0.5 * (dot(wk.v, wk.v) + dot(wk.u, wk.u) + weighted_product(st.ridge, wk.beta, wk.beta))


@kernel
def reml_gradient(st, gene, wk, sd_top, sd_sub, phi, out):
    """Return the REML-Laplace log-likelihood and the passes; write its gradient by (sigma_top, sigma_sub, phi).

    dL/dpsi = dJ/dpsi - 1/2 tr(H^-1 dH/dpsi), where dH/dpsi includes the change of the weights through
    b(psi); that part needs one solve: with kappa = leverage dw/deta / 2, H alpha = Z~' kappa.
    """
    passes = newton(st, gene, wk, sd_top, sd_sub, phi, FINE)
    value, value_phi = all_derivatives(st.size, st.cells, gene, phi, wk.sums)
    log_det_s = factor(st, wk, sd_top, sd_sub)
    log_det = log_det_random(wk)
    if passes < 0 or not (log_det_s > -1e300):
        out[:] = np.nan
        return np.nan, passes
    value += penalty(st, wk) - 0.5 * (log_det + log_det_s) + 0.5 * LOG_2PI * st.X.shape[0]
    leverages(st, wk, sd_top, sd_sub)
    kappa, zeta = wk.by_pattern, wk.by_pattern_2
    for q in range(kappa.shape[0]):
        kappa[q] = 0.5 * wk.leverage[q] * wk.sums.dw[q]
    group_sums(st, kappa, wk.by_sub, wk.by_top)
    top_term, sub_term = -dot(wk.by_top, wk.v), -dot(wk.by_sub, wk.u)
    for i in range(st.X.shape[0]):
        wk.r_beta[i] = dot(kappa, st.X[i])
    for d in range(wk.h.shape[0]):
        wk.r_v[d] = sd_top * wk.by_top[d]
    for s in range(wk.k.shape[0]):
        wk.r_u[s] = sd_sub * wk.by_sub[s]
    solve(st, wk, sd_top, sd_sub)
    direction(st, wk.d_beta, wk.d_v, wk.d_u, sd_top, sd_sub, zeta)
    out[2] = value_phi - 0.5 * dot(wk.leverage, wk.sums.w_phi) - dot(zeta, wk.sums.g_phi)
    group_sums(st, wk.sums.g, wk.by_sub, wk.by_top)
    top_term += dot(wk.by_top, wk.v) - dot(wk.by_top, wk.d_v)
    sub_term += dot(wk.by_sub, wk.u) - dot(wk.by_sub, wk.d_u)
    for q in range(zeta.shape[0]):
        zeta[q] *= wk.sums.w[q]
    group_sums(st, zeta, wk.by_sub, wk.by_top)
    out[0] = top_term + dot(wk.by_top, wk.v) - half_trace_top(st, wk, sd_top)
    out[1] = sub_term + dot(wk.by_sub, wk.u) - half_trace_sub(st, wk, sd_top, sd_sub)
    return value, passes


@kernel
def ml_maximum(st, gene, wk, sd_top, sd_sub, phi, tolerance):
    """Maximize the ML-Laplace log-likelihood over beta at fixed variances.

    L(beta) = J(beta, v(beta)) - log |H_vv| / 2. Newton steps with H and the gradient of L, in which
    the adjoint H_vv alpha = Z' kappa carries the change of log |H_vv|; the curvature of log |H_vv| is
    neglected, so convergence is linear at a rate of one over the counts.

    Returns the value with all constants and log |S|; NaN where it failed.
    """
    random = sd_top != 0.0 or sd_sub != 0.0
    if newton(st, gene, wk, sd_top, sd_sub, phi, NEARBY if random else tolerance) < 0:
        return np.nan, np.nan
    if random:
        for _ in range(MAX_ML_STEPS):
            if _ml_step(st, gene, wk, sd_top, sd_sub, phi) < tolerance:
                break
    value = likelihood_and_weight(st.size, st.cells, gene, phi, wk.sums) + penalty(st, wk)
    log_det_s = factor(st, wk, sd_top, sd_sub)
    return value - 0.5 * log_det_random(wk), log_det_s


@inner_kernel
def _ml_step(st, gene, wk, sd_top, sd_sub, phi):
    """Take one step of ``ml_maximum``; return its decrement."""
    score_weight_slope(st.size, st.cells, gene, phi, wk.sums)
    factor(st, wk, sd_top, sd_sub)
    var_sub = sd_sub * sd_sub
    kappa = wk.by_pattern
    random_leverages(st, wk, sd_top, sd_sub, kappa)
    for q in range(kappa.shape[0]):
        kappa[q] *= 0.5 * wk.sums.dw[q]
    group_sums(st, kappa, wk.by_sub, wk.by_top)
    # alpha_top: the eta-change of the top effects in H_vv alpha = (sigma_top kappa_d, sigma_sub kappa_s).
    for s in range(wk.k.shape[0]):
        wk.by_top[st.parent[s]] -= var_sub * wk.k[s] * wk.omega[s] * wk.by_sub[s]
    for d in range(wk.h.shape[0]):
        wk.by_top[d] *= sd_top * sd_top / wk.h[d]
    for q in range(kappa.shape[0]):
        kappa[q] -= wk.by_top[st.top[q]] * wk.sums.w[q]
    if wk.k.shape[0] > 0:
        for q in range(kappa.shape[0]):
            s = st.sub[q]
            kappa[q] -= var_sub * wk.k[s] * (wk.by_sub[s] - wk.by_top[st.top[q]] * wk.omega[s]) * wk.sums.w[q]
    _gradient(st, wk, wk.sums.g, sd_top, sd_sub)
    for i in range(st.X.shape[0]):
        wk.r_beta[i] -= dot(kappa, st.X[i])
    solve(st, wk, sd_top, sd_sub)
    decrement = _slope_along(wk)
    direction(st, wk.d_beta, wk.d_v, wk.d_u, sd_top, sd_sub, wk.d_eta)
    _move(wk, min(1.0, LONGEST_STEP / max(_largest(wk.d_eta), 1e-300)))
    return decrement
