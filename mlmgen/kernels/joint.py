r"""The Laplace likelihood of a multilevel model and its gradient, for any tree of random effects.

psi = (entries theta of the relative covariance factors T, rho of phi, beta). With b the effects at the
maximum of J, H = -J'' there, h_c = z_c'H^-1 z_c and

    kappa = h dw/deta / 2,   alpha = H^-1 Z~'kappa,   zeta = Z~ alpha,   E = g - kappa + w zeta

the gradient of L = J - log |H| / 2 is

    by theta_ij:  sum_c z_ci (E_c v_j - g_c alpha_j - w_c (H^-1 z_c)_j)      (v_j, alpha_j of the cell's group)
    by beta (ML): sum_c x_c E_c
    by phi:       dl/dphi - sum h dw/dphi / 2 - sum zeta dg/dphi

Under REML beta is among the effects (H and its inverse include it), under ML it is held at psi. A gaussian
likelihood has unit residual variance inside and its scale is profiled: with m = n - p (REML) or n (ML),
L = -(log |H| + m (1 + log(2 pi r^2 / m))) / 2, r^2 the penalized residual sum of squares.
"""

import math

import numpy as np

from mlmgen.kernels.families import dot
from mlmgen.kernels.laplace import LOG_2PI, LONGEST_STEP, MAX_NEWTON
from mlmgen.kernels.policy import kernel
from mlmgen.kernels.rows import (
    GAUSSIAN,
    differentiate,
    evaluate,
    leverage_sums,
    log_likelihood,
)
from mlmgen.kernels.tree import (
    factor_tree,
    gather_effects,
    predict,
    solve_path,
    solve_tree,
    start_paths,
)

# Largest linear predictor of counts; ``exp`` is exact to 600, which leaves room for size factors.
LARGEST_PREDICTOR = 500.0


@kernel
def subtract_prior(tree, wk, restricted):
    """Subtract the priors' part of the gradient of J from (r_v, r_b)."""
    for j in range(wk.v.shape[0]):
        N = tree.nodes[tree.level[j]]
        r, v = wk.r_v[j, :N], wk.v[j, :N]
        for n in range(N):
            r[n] -= v[n]
    for a in range(tree.crossed):
        wk.r_b[a] -= wk.b[a]
    if restricted:
        for f in range(tree.X.shape[0]):
            wk.r_b[tree.crossed + f] -= tree.ridge[f] * wk.b[tree.crossed + f]


@kernel
def penalty(tree, wk):
    """Return v'v + b'b + beta' ridge beta."""
    total = 0.0
    for j in range(wk.v.shape[0]):
        v = wk.v[j, : tree.nodes[tree.level[j]]]
        total += dot(v, v)
    for a in range(tree.crossed):
        total += wk.b[a] * wk.b[a]
    for f in range(tree.X.shape[0]):
        total += tree.ridge[f] * wk.b[tree.crossed + f] * wk.b[tree.crossed + f]
    return total


@kernel
def _slope_along(tree, wk):
    """Return r'd, the derivative of J along the step."""
    total = dot(wk.r_b, wk.d_b)
    for j in range(wk.v.shape[0]):
        N = tree.nodes[tree.level[j]]
        total += dot(wk.r_v[j, :N], wk.d_v[j, :N])
    return total


@kernel
def _move(tree, wk, t):
    for j in range(wk.v.shape[0]):
        v, d = wk.v[j], wk.d_v[j]
        for n in range(tree.nodes[tree.level[j]]):
            v[n] += t * d[n]
    for a in range(wk.b.shape[0]):
        wk.b[a] += t * wk.d_b[a]
    for k in range(wk.s.shape[0]):
        s, d = wk.s[k], wk.d_s[k]
        for q in range(s.shape[0]):
            s[q] += t * d[q]


@kernel
def _longest(d_s, reach):
    """Return a bound of the largest change of a linear predictor."""
    longest = 0.0
    for q in range(d_s.shape[1]):
        total = 0.0
        for k in range(d_s.shape[0]):
            total += reach[k] * abs(d_s[k, q])
        longest = max(longest, total)
    return longest


@kernel
def is_cut_off(rows, wk, reach):
    """Return whether a linear predictor is so large that ``elementary.exp`` cuts it off and the likelihood is wrong."""
    return rows.kind != GAUSSIAN and not _longest(wk.s, reach) < LARGEST_PREDICTOR


@kernel
def _gradient(tree, wk, restricted):
    gather_effects(tree, wk, wk.G, wk.r_v, wk.r_b, restricted)
    subtract_prior(tree, wk, restricted)


@kernel
def maximize(tree, rows, wk, reach, phi, restricted, tolerance):
    """Maximize J over the effects from the current point; return the passes, negative on failure.

    J is concave: a step is accepted once its slope at the new point is above minus half of that at the
    old one, which needs no value of J.
    """
    predict(tree, wk, wk.v, wk.b, wk.s)
    evaluate(rows, phi, wk.s, wk.G, wk.W)
    for iteration in range(1, MAX_NEWTON):
        log_det = factor_tree(tree, wk, restricted)
        _gradient(tree, wk, restricted)
        solve_tree(tree, wk, restricted)
        decrement = _slope_along(tree, wk)
        if not (decrement < 1e300 and log_det > -1e300):
            return -iteration
        predict(tree, wk, wk.d_v, wk.d_b, wk.d_s)
        t = 1.0
        if rows.kind != GAUSSIAN:
            t = min(1.0, LONGEST_STEP / max(_longest(wk.d_s, reach), 1e-300))
        _move(tree, wk, t)
        if decrement < tolerance or rows.kind == GAUSSIAN:
            return iteration
        for _ in range(20):
            evaluate(rows, phi, wk.s, wk.G, wk.W)
            _gradient(tree, wk, restricted)
            if _slope_along(tree, wk) > -0.5 * decrement:
                break
            _move(tree, wk, -0.5 * t)
            t *= 0.5
    return -MAX_NEWTON


@kernel
def likelihood(tree, rows, wk, value, log_det, restricted):
    """Return the Laplace log-likelihood with all constants; ``value`` is that of the rows at the maximum."""
    p = tree.X.shape[0] if restricted else 0
    if rows.kind == GAUSSIAN:
        m = rows.moments.numbers[1] - p
        return -0.5 * (log_det + m * (1.0 + LOG_2PI + math.log(residual_variance(tree, rows, wk, value, restricted))))
    return value - 0.5 * (penalty(tree, wk) + log_det) + 0.5 * p * LOG_2PI


@kernel
def residual_variance(tree, rows, wk, value, restricted):
    """Return the profiled residual variance of a gaussian response; 1 for counts."""
    if rows.kind != GAUSSIAN:
        return 1.0
    m = rows.moments.numbers[1] - (tree.X.shape[0] if restricted else 0)
    return max(penalty(tree, wk) - value, 1e-300) / m


@kernel
def _leverages(tree, rows, wk, restricted):
    """Write Q = Z~ H^-1 Z~' of every pattern, as ``leverage_sums`` reads it, from the paths in ``wk.A``."""
    R, C, M = tree.level.shape[0], tree.border.shape[0], wk.A.shape[0]
    p, first = (tree.X.shape[0] if restricted else 0), R + tree.crossed
    for k in range(M):
        for m in range(k + 1):
            out = rows.leverage[rows.pair[k, m]]
            for q in range(out.shape[0]):
                out[q] = 0.0
            for j in range(R):
                z, a = wk.Zs[j, k], wk.A[m, j]
                for q in range(out.shape[0]):
                    out[q] += z[q] * a[q]
            for c in range(C):
                z, place = wk.Zs[R + c, k], tree.border[c]
                for q in range(out.shape[0]):
                    out[q] += z[q] * wk.A[m, R + place[q], q]
            for f in range(p):
                x, a = tree.X[f, k], wk.A[m, first + f]
                for q in range(out.shape[0]):
                    out[q] += x[q] * a[q]
            if m < k:
                for q in range(out.shape[0]):
                    out[q] *= 2.0


@kernel
def _add_weighted(W, x, out):
    """Add W x to ``out``, all by pattern."""
    for k in range(out.shape[0]):
        target = out[k]
        for m in range(out.shape[0]):
            w, other = W[k, m], x[m]
            for q in range(target.shape[0]):
                target[q] += w[q] * other[q]


@kernel
def _part_of_column(tree, wk, j, E, out):
    """Write E v_j - g alpha_j - w (H^-1 z)_j for scaled column j, (M, P)."""
    R, M = tree.level.shape[0], E.shape[0]
    for k in range(M):
        target = out[k]
        for q in range(target.shape[0]):
            target[q] = 0.0
        for m in range(M):
            w = wk.W[k, m]
            if j < R:
                a = wk.A[m, j]
                for q in range(target.shape[0]):
                    target[q] -= w[q] * a[q]
            else:
                place = tree.border[j - R]
                for q in range(target.shape[0]):
                    target[q] -= w[q] * wk.A[m, R + place[q], q]
        e, g = E[k], wk.G[k]
        if j < R:
            node, v, alpha = tree.node[tree.level[j]], wk.v[j], wk.d_v[j]
            for q in range(target.shape[0]):
                target[q] += e[q] * v[node[q]] - g[q] * alpha[node[q]]
        else:
            place = tree.border[j - R]
            for q in range(target.shape[0]):
                target[q] += e[q] * wk.b[place[q]] - g[q] * wk.d_b[place[q]]


@kernel
def _adjoint(tree, rows, wk, restricted):
    """Solve for alpha into (d_v, d_b) and write E = g - kappa + w zeta into ``wk.d_s``; return sum h dw/dphi."""
    for k in range(wk.A.shape[0]):
        solve_path(tree.level, tree.node, wk, wk.S.shape[0] if restricted else tree.crossed, wk.A[k])
    kappa, E = wk.WZ, wk.d_s
    if rows.kind != GAUSSIAN:
        _leverages(tree, rows, wk, restricted)
    trace = leverage_sums(rows, kappa)
    gather_effects(tree, wk, kappa, wk.r_v, wk.r_b, restricted)
    solve_tree(tree, wk, restricted)
    predict(tree, wk, wk.d_v, wk.d_b, wk.zeta)
    for k in range(E.shape[0]):
        e, g, x = E[k], wk.G[k], kappa[k]
        for q in range(e.shape[0]):
            e[q] = g[q] - x[q]
    _add_weighted(wk.W, wk.zeta, E)
    return trace


@kernel
def objective_gradient(tree, rows, wk, reach, phi, restricted, tolerance, out):
    """Return the Laplace log-likelihood and write its gradient by (theta, phi, beta) into ``out``; NaN on failure."""
    T, p, R = tree.rows.shape[0], tree.X.shape[0], tree.level.shape[0]
    passes = maximize(tree, rows, wk, reach, phi, restricted, tolerance)
    value, value_phi = differentiate(rows, phi, wk.s, wk.G, wk.W)
    log_det = factor_tree(tree, wk, restricted)
    if passes < 0 or not (log_det > -1e300) or is_cut_off(rows, wk, reach):
        out[:] = np.nan
        return np.nan
    start_paths(tree, wk, restricted)
    trace = _adjoint(tree, rows, wk, restricted)
    scale = residual_variance(tree, rows, wk, value, restricted)
    if rows.kind == GAUSSIAN:
        for k in range(wk.d_s.shape[0]):
            for q in range(wk.d_s.shape[1]):
                wk.d_s[k, q] /= scale
    out[T] = value_phi - 0.5 * trace
    for k in range(wk.s.shape[0]):
        out[T] -= dot(wk.zeta[k], rows.g_phi[k])
    for f in range(p):
        out[T + 1 + f] = 0.0
        if not restricted:
            out[T + 1 + f] = -tree.ridge[f] * wk.b[tree.crossed + f]
            for k in range(wk.s.shape[0]):
                out[T + 1 + f] += dot(tree.X[f, k], wk.d_s[k])
    for j in range(R + tree.border.shape[0]):
        _part_of_column(tree, wk, j, wk.d_s, wk.WZ)
        for a in range(T):
            if tree.cols[a] == j:
                out[a] = 0.0
                for k in range(wk.s.shape[0]):
                    out[a] += dot(tree.Z[tree.rows[a], k], wk.WZ[k])
    return likelihood(tree, rows, wk, value, log_det, restricted)


@kernel
def objective_value(tree, rows, wk, reach, phi, restricted, tolerance):
    """Return the Laplace log-likelihood; NaN on failure."""
    passes = maximize(tree, rows, wk, reach, phi, restricted, tolerance)
    value = log_likelihood(rows, phi, wk.s, wk.G, wk.W)
    log_det = factor_tree(tree, wk, restricted)
    if passes < 0 or not (log_det > -1e300) or is_cut_off(rows, wk, reach):
        return np.nan
    return likelihood(tree, rows, wk, value, log_det, restricted)
