r"""The arrowhead matrix of fixed effects and up to two nested random intercepts.

    eta_p = x_p' beta + sigma_top v_top(p) + sigma_sub u_sub(p),    v, u ~ N(0, I)

``top`` is the coarse grouping (the donor), ``sub`` the one nested in it (the sample). A standard
deviation of 0 is an ordinary point. The negative Hessian H of J = log-likelihood - (v'v + u'u) / 2 by
(beta, v, u) is an arrowhead. With w the weights, omega_s = sum w, xi_s = sum w x over a sub:

    u eliminated:  k_s = 1 / (1 + sigma_sub^2 omega_s),  Omega_d = sum_s k_s omega_s,  Xi_d = sum_s k_s xi_s
    v eliminated:  h_d = 1 + sigma_top^2 Omega_d
    Schur complement  S = sum w x x' - sum_s sigma_sub^2 k_s xi_s xi_s' - sum_d (sigma_top^2 / h_d) Xi_d Xi_d'
    log |H| = sum_s log(1 + sigma_sub^2 omega_s) + sum_d log h_d + log |S|

Cost is linear in the number of patterns; nothing here allocates or calls a library.
Random slopes and crossed factors add columns to the blocks and to the border; the callers see only
``Structure``, ``Work`` and the functions' arguments.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.elementary import log1p_with_reciprocal
from mlmgen.kernels.families import Sums, dot, total_of
from mlmgen.kernels.policy import inner_kernel, summing_kernel


class Structure(NamedTuple):
    """What all genes of a fit share.

    size, cells : (K, P) nodes; X : (p, P); ridge : (p,) prior precisions of beta.
    top : (P,) uint32 group of each pattern; sub : (P,) uint32 and parent : (S,) uint32 the nested group of
    each pattern and the top of each sub. With one random intercept S = 0 and ``sub`` is empty.
    """

    size: np.ndarray
    cells: np.ndarray
    X: np.ndarray
    ridge: np.ndarray
    top: np.ndarray
    sub: np.ndarray
    parent: np.ndarray


class Work(NamedTuple):
    """Scratch arrays of one thread. beta (p,), v (D,), u (S,) hold the current solution."""

    sums: Sums
    beta: np.ndarray
    v: np.ndarray
    u: np.ndarray
    r_beta: np.ndarray
    r_v: np.ndarray
    r_u: np.ndarray
    d_beta: np.ndarray
    d_v: np.ndarray
    d_u: np.ndarray
    d_eta: np.ndarray
    omega: np.ndarray
    k: np.ndarray
    xi: np.ndarray
    Omega: np.ndarray
    h: np.ndarray
    Xi: np.ndarray
    L: np.ndarray
    by_pattern: np.ndarray
    by_pattern_2: np.ndarray
    by_sub: np.ndarray
    by_top: np.ndarray
    leverage: np.ndarray
    X_hat: np.ndarray
    x_hat: np.ndarray


def workspace(structure: Structure) -> Work:
    """Allocate the scratch arrays of one thread."""
    p, P = structure.X.shape
    S, D = structure.parent.size, int(structure.top.max()) + 1
    shapes = [p, D, S, p, D, S, p, D, S, P, S, S, (p, S), D, D, (p, D), (p, p), P, P, S, D, P, (p, P), p]
    return Work(Sums(*(np.zeros(P) for _ in Sums._fields)), *(np.zeros(shape) for shape in shapes))


@inner_kernel
def direction(st, beta, v, u, sd_top, sd_sub, out):
    """Write the change of eta along (beta, v, u)."""
    P = out.shape[0]
    for q in range(P):
        out[q] = sd_top * v[st.top[q]]
    if u.shape[0] > 0:
        for q in range(P):
            out[q] += sd_sub * u[st.sub[q]]
    for i in range(st.X.shape[0]):
        x, b = st.X[i], beta[i]
        for q in range(P):
            out[q] += b * x[q]


@inner_kernel
def add_up(groups, x, out):
    """Sum an array over the groups of its elements."""
    for d in range(out.shape[0]):
        out[d] = 0.0
    for q in range(groups.shape[0]):
        out[groups[q]] += x[q]


@inner_kernel
def group_sums(st, x, by_sub, by_top):
    """Sum a per-pattern array over the subs (where there are any) and over the tops."""
    add_up(st.top, x, by_top)
    add_up(st.sub, x, by_sub)


@summing_kernel
def weighted_product(scale, x, y):
    """Return the sum of scale x y."""
    total = 0.0
    for i in range(x.shape[0]):
        total += scale[i] * x[i] * y[i]
    return total


@inner_kernel
def cholesky(A):
    """Factor a symmetric matrix in its lower triangle; return log |A|, NaN where it is not positive definite."""
    log_det = 0.0
    for j in range(A.shape[0]):
        pivot = A[j, j]
        for m in range(j):
            pivot -= A[j, m] * A[j, m]
        if not pivot > 0.0:
            return np.nan
        root = math.sqrt(pivot)
        log_det += math.log(pivot)
        A[j, j] = root
        for i in range(j + 1, A.shape[0]):
            value = A[i, j]
            for m in range(j):
                value -= A[i, m] * A[j, m]
            A[i, j] = value / root
    return log_det


@inner_kernel
def forward(L, x):
    """Solve L y = x in place."""
    for i in range(x.shape[0]):
        value = x[i]
        for m in range(i):
            value -= L[i, m] * x[m]
        x[i] = value / L[i, i]


@inner_kernel
def backward(L, x):
    """Solve L' y = x in place."""
    n = x.shape[0]
    for reverse in range(n):
        i = n - 1 - reverse
        value = x[i]
        for m in range(i + 1, n):
            value -= L[m, i] * x[m]
        x[i] = value / L[i, i]


@inner_kernel
def factor(st, wk, sd_top, sd_sub):
    """Eliminate the random effects and factor S; return log |S|."""
    p, P, S, D = st.X.shape[0], st.X.shape[1], wk.k.shape[0], wk.h.shape[0]
    w, wx = wk.sums.w, wk.by_pattern
    var_top, var_sub = sd_top * sd_top, sd_sub * sd_sub
    if S > 0:
        add_up(st.sub, w, wk.omega)
        for s in range(S):
            wk.k[s] = 1.0 / (1.0 + var_sub * wk.omega[s])
            wk.by_sub[s] = wk.k[s] * wk.omega[s]
        add_up(st.parent, wk.by_sub, wk.Omega)
        for s in range(S):
            wk.by_sub[s] = var_sub * wk.k[s]
    else:
        add_up(st.top, w, wk.Omega)
    for d in range(D):
        wk.h[d] = 1.0 + var_top * wk.Omega[d]
        wk.by_top[d] = var_top / wk.h[d]
    for i in range(p):
        x, xi, Xi = st.X[i], wk.xi[i], wk.Xi[i]
        for q in range(P):
            wx[q] = w[q] * x[q]
        if S > 0:
            add_up(st.sub, wx, xi)
            Xi[:] = 0.0
            for s in range(S):
                Xi[st.parent[s]] += wk.k[s] * xi[s]
        else:
            add_up(st.top, wx, Xi)
        for j in range(i + 1):
            value = dot(wx, st.X[j]) - weighted_product(wk.by_top, Xi, wk.Xi[j])
            if S > 0:
                value -= weighted_product(wk.by_sub, xi, wk.xi[j])
            wk.L[i, j] = value
        wk.L[i, i] += st.ridge[i]
    return cholesky(wk.L)


@inner_kernel
def log_det_random(wk):
    """Return log |H_vv| from the current factors."""
    total = 0.0
    if wk.k.shape[0] > 0:
        for s in range(wk.k.shape[0]):
            wk.by_sub[s] = log1p_with_reciprocal(1.0 / wk.k[s] - 1.0, wk.k[s])
        total = total_of(wk.by_sub)
    for d in range(wk.h.shape[0]):
        wk.by_top[d] = log1p_with_reciprocal(wk.h[d] - 1.0, 1.0 / wk.h[d])
    return total + total_of(wk.by_top)


@inner_kernel
def solve(st, wk, sd_top, sd_sub):
    """Solve H d = r with the current factors, d = (d_beta, d_v, d_u)."""
    p, S, D = st.X.shape[0], wk.k.shape[0], wk.h.shape[0]
    coupling = sd_top * sd_sub
    for d in range(D):
        wk.d_v[d] = wk.r_v[d]
    if S > 0:
        for s in range(S):
            wk.by_sub[s] = wk.k[s] * wk.r_u[s]
            wk.d_v[st.parent[s]] -= coupling * wk.omega[s] * wk.by_sub[s]
    for d in range(D):
        wk.d_v[d] /= wk.h[d]
    for i in range(p):
        wk.d_beta[i] = wk.r_beta[i] - sd_top * dot(wk.d_v, wk.Xi[i])
        if S > 0:
            wk.d_beta[i] -= sd_sub * dot(wk.by_sub, wk.xi[i])
    forward(wk.L, wk.d_beta)
    backward(wk.L, wk.d_beta)
    for i in range(p):
        b, Xi = sd_top * wk.d_beta[i], wk.Xi[i]
        for d in range(D):
            wk.d_v[d] -= b * Xi[d] / wk.h[d]
    if S > 0:
        for s in range(S):
            wk.d_u[s] = wk.r_u[s] - coupling * wk.omega[s] * wk.d_v[st.parent[s]]
        for i in range(p):
            b, xi = sd_sub * wk.d_beta[i], wk.xi[i]
            for s in range(S):
                wk.d_u[s] -= b * xi[s]
        for s in range(S):
            wk.d_u[s] *= wk.k[s]


@inner_kernel
def random_leverages(st, wk, sd_top, sd_sub, out):
    """Write the conditional variance of each pattern's eta given beta, sigma_sub^2 k + sigma_top^2 k^2 / h."""
    var_top, var_sub = sd_top * sd_top, sd_sub * sd_sub
    if wk.k.shape[0] == 0:
        for q in range(out.shape[0]):
            out[q] = var_top / wk.h[st.top[q]]
    else:
        for q in range(out.shape[0]):
            k = wk.k[st.sub[q]]
            out[q] = var_sub * k + var_top * k * k / wk.h[st.top[q]]


@inner_kernel
def leverages(st, wk, sd_top, sd_sub):
    """Write z_p' H^-1 z_p, the conditional variance of each pattern's eta, from the current factors."""
    p, P = st.X.shape
    var_top, var_sub = sd_top * sd_top, sd_sub * sd_sub
    random_leverages(st, wk, sd_top, sd_sub, wk.leverage)
    for i in range(p):
        row, x, Xi, xi = wk.X_hat[i], st.X[i], wk.Xi[i], wk.xi[i]
        if wk.k.shape[0] == 0:
            for q in range(P):
                d = st.top[q]
                row[q] = x[q] - var_top / wk.h[d] * Xi[d]
        else:
            for q in range(P):
                d, s = st.top[q], st.sub[q]
                row[q] = x[q] - wk.k[s] * (var_sub * xi[s] + var_top / wk.h[d] * Xi[d])
        _forward_row(wk, i, P)
        for q in range(P):
            wk.leverage[q] += row[q] * row[q]


@inner_kernel
def half_trace_top(st, wk, sd_top):
    """Return half the explicit derivative of log |H| by sigma_top."""
    p, D = st.X.shape[0], wk.h.shape[0]
    for d in range(D):
        wk.by_top[d] = 0.0
    for i in range(p):
        row = wk.X_hat[i, :D]
        for d in range(D):
            row[d] = wk.Xi[i, d]
        _forward_row(wk, i, D)
        for d in range(D):
            wk.by_top[d] += row[d] * row[d]
    for d in range(D):
        wk.by_top[d] = (wk.Omega[d] - wk.by_top[d] / wk.h[d]) / wk.h[d]
    return sd_top * total_of(wk.by_top)


@inner_kernel
def half_trace_sub(st, wk, sd_top, sd_sub):
    """Return half the explicit derivative of log |H| by sigma_sub.

    ``form`` is the quadratic form of (sigma_top omega_s, xi_s) in the inverse of the (v, beta) system.
    """
    p, S = st.X.shape[0], wk.k.shape[0]
    var_top = sd_top * sd_top
    for s in range(S):
        wk.by_sub[s] = var_top * wk.omega[s] * wk.omega[s] / wk.h[st.parent[s]]
    for i in range(p):
        row = wk.X_hat[i, :S]
        for s in range(S):
            d = st.parent[s]
            row[s] = wk.xi[i, s] - var_top * wk.omega[s] / wk.h[d] * wk.Xi[i, d]
        _forward_row(wk, i, S)
        for s in range(S):
            wk.by_sub[s] += row[s] * row[s]
    for s in range(S):
        wk.by_sub[s] = wk.k[s] * (wk.omega[s] - wk.k[s] * wk.by_sub[s])
    return sd_sub * total_of(wk.by_sub)


@inner_kernel
def _forward_row(wk, i, n):
    """Finish row i of L^-1 A, the rows before it done, for the first n columns of ``X_hat``."""
    row = wk.X_hat[i, :n]
    for m in range(i):
        factor_im, other = wk.L[i, m], wk.X_hat[m, :n]
        for q in range(n):
            row[q] -= factor_im * other[q]
    inverse = 1.0 / wk.L[i, i]
    for q in range(n):
        row[q] *= inverse
