r"""The negative binomial likelihood of a gene in compressed form, and its derivatives.

Letters (DESIGN of the compression is in ARCHITECTURE.md): K nodes a pattern, P patterns. A node
stands for cells with size factor ``size``; it carries the weight ``cells`` (all cells: the same for
every gene) and the weight ``counts`` (this gene's counts). With mu = exp(eta) size, a = phi mu:

    log-likelihood = sum_j N_{y>j} log(1 + phi j) + sum_p Y_p eta_p - sum (counts + cells / phi) log(1 + a) + constant

Arrays are laid out (K, P), the pattern fastest, so that inner loops have no reduction.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.elementary import exp, log1p_with_reciprocal
from mlmgen.kernels.policy import inner_kernel, kernel, summing_kernel

# Below this a = phi mu the series replaces (log(1+a) - a/(1+a)) / a^2, which cancels.
SMALL = 1e-4


class Gene(NamedTuple):
    """One gene's data in compressed form; reused for every gene of a thread.

    Attributes
    ----------
    counts : (K, P) weights of the nodes; total : (P,) counts of each pattern.
    more : (J,) number of cells with a count above j; large : (n,) counts above J.
    numbers : (4,) J, number of large counts, constant of the log-likelihood, total count.
    """

    counts: np.ndarray
    total: np.ndarray
    more: np.ndarray
    large: np.ndarray
    numbers: np.ndarray


class Sums(NamedTuple):
    """Per-pattern sums of a pass, each (P,): score g, weight w = -dg/deta, dw/deta, and derivatives by phi."""

    eta: np.ndarray
    mean: np.ndarray
    g: np.ndarray
    w: np.ndarray
    dw: np.ndarray
    value: np.ndarray
    value_phi: np.ndarray
    g_phi: np.ndarray
    w_phi: np.ndarray


@summing_kernel
def total_of(x):
    """Return the sum of an array."""
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i]
    return s


@summing_kernel
def dot(x, y):
    """Return the inner product of two arrays."""
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i] * y[i]
    return s


@inner_kernel
def copy(x, out):
    """Copy a vector (an assignment of slices would allocate)."""
    for i in range(x.shape[0]):
        out[i] = x[i]


@inner_kernel
def exponentiate(eta, mean):
    """Write exp(eta) into ``mean``."""
    for p in range(eta.shape[0]):
        mean[p] = exp(eta[p])


@inner_kernel
def score_and_weight(size, cells, gene, phi, sums):
    """Fill g and w at ``sums.eta``: no logarithm, one division a node."""
    P = size.shape[1]
    exponentiate(sums.eta, sums.mean)
    mean, g, w = sums.mean, sums.g, sums.w
    for p in range(P):
        g[p] = gene.total[p]
        w[p] = 0.0
    for i in range(size.shape[0]):
        size_i, cells_i, counts_i = size[i], cells[i], gene.counts[i]
        for p in range(P):
            mu = mean[p] * size_i[p]
            r = 1.0 / (1.0 + phi * mu)
            s = (counts_i[p] * phi + cells_i[p]) * mu * r
            g[p] -= s
            w[p] += s * r


@inner_kernel
def score_weight_slope(size, cells, gene, phi, sums):
    """Fill g, w and dw = dw/deta at ``sums.eta``."""
    P = size.shape[1]
    exponentiate(sums.eta, sums.mean)
    mean, g, w, dw = sums.mean, sums.g, sums.w, sums.dw
    for p in range(P):
        g[p] = gene.total[p]
        w[p] = 0.0
        dw[p] = 0.0
    for i in range(size.shape[0]):
        size_i, cells_i, counts_i = size[i], cells[i], gene.counts[i]
        for p in range(P):
            mu = mean[p] * size_i[p]
            r = 1.0 / (1.0 + phi * mu)
            s = (counts_i[p] * phi + cells_i[p]) * mu * r
            q = s * r
            g[p] -= s
            w[p] += q
            dw[p] += q * (2.0 * r - 1.0)


@inner_kernel
def likelihood_and_weight(size, cells, gene, phi, sums):
    """Fill w at ``sums.eta`` and return the log-likelihood with all constants."""
    P = size.shape[1]
    exponentiate(sums.eta, sums.mean)
    mean, value, w = sums.mean, sums.value, sums.w
    for p in range(P):
        value[p] = gene.total[p] * sums.eta[p]
        w[p] = 0.0
    # phi = 0 is the Poisson limit: log(1 + a) / phi -> mu.
    poisson = 1.0 if phi == 0.0 else 0.0
    inverse = 0.0 if phi == 0.0 else 1.0 / phi
    for i in range(size.shape[0]):
        size_i, cells_i, counts_i = size[i], cells[i], gene.counts[i]
        for p in range(P):
            mu = mean[p] * size_i[p]
            a = phi * mu
            r = 1.0 / (1.0 + a)
            c = counts_i[p] * phi + cells_i[p]
            value[p] -= c * (log1p_with_reciprocal(a, r) * inverse + poisson * mu)
            w[p] += c * mu * r * r
    return total_of(value) + gene.numbers[2] + histogram(gene, phi)[0]


@inner_kernel
def all_derivatives(size, cells, gene, phi, sums):
    """Fill every sum at ``sums.eta``; return the log-likelihood and its derivative by phi (eta fixed)."""
    P = size.shape[1]
    exponentiate(sums.eta, sums.mean)
    mean, g, w, dw = sums.mean, sums.g, sums.w, sums.dw
    value, value_phi, g_phi, w_phi = sums.value, sums.value_phi, sums.g_phi, sums.w_phi
    for p in range(P):
        g[p] = gene.total[p]
        value[p] = gene.total[p] * sums.eta[p]
        w[p] = dw[p] = value_phi[p] = g_phi[p] = w_phi[p] = 0.0
    # phi = 0 is the Poisson limit: log(1 + a) / phi -> mu.
    poisson = 1.0 if phi == 0.0 else 0.0
    inverse = 0.0 if phi == 0.0 else 1.0 / phi
    inverse_2 = inverse * inverse
    for i in range(size.shape[0]):
        size_i, cells_i, counts_i = size[i], cells[i], gene.counts[i]
        for p in range(P):
            mu = mean[p] * size_i[p]
            a = phi * mu
            r = 1.0 / (1.0 + a)
            log1p_a = log1p_with_reciprocal(a, r)
            n, y = cells_i[p], counts_i[p]
            value[p] -= (y * phi + n) * (log1p_a * inverse + poisson * mu)
            s = (y * phi + n) * mu * r
            q = s * r
            g[p] -= s
            w[p] += q
            dw[p] += q * (2.0 * r - 1.0)
            curve = (log1p_a - a * r) * inverse_2
            series = mu * mu * (0.5 - a * (2.0 / 3.0 - a * (0.75 - 0.8 * a)))
            value_phi[p] += n * (series if a < SMALL else curve) - y * mu * r
            mu_r2 = mu * r * r
            g_phi[p] += mu_r2 * (n * mu - y)
            w_phi[p] += mu_r2 * (y * (2.0 * r - 1.0) - 2.0 * n * mu * r)
    h, h_phi = histogram(gene, phi)
    return total_of(value) + gene.numbers[2] + h, total_of(value_phi) + h_phi


@kernel
def histogram(gene, phi):
    """Return sum_c sum_{j=1}^{y_c - 1} log(1 + phi j) and its derivative by phi.

    Counts up to J through their histogram; the rest of larger counts by Euler-Maclaurin from J
    (J >= 16: the first neglected term is below 1e-11 a cell).
    """
    J, large = int(gene.numbers[0]), int(gene.numbers[1])
    value, slope = _histogram_sum(gene.more, J, phi)
    for i in range(large):
        tail, tail_phi = _tail(float(J), gene.large[i], phi)
        value += tail
        slope += tail_phi
    return value, slope


@summing_kernel
def _histogram_sum(more, J, phi):
    value = 0.0
    slope = 0.0
    for j in range(J):
        a = phi * j
        r = 1.0 / (1.0 + a)
        value += more[j] * log1p_with_reciprocal(a, r)
        slope += more[j] * j * r
    return value, slope


@kernel
def _tail(low, high, phi):
    """Return sum_{j=low}^{high-1} log(1 + phi j) and its derivative by phi (Euler-Maclaurin)."""
    if phi == 0.0:
        return 0.0, 0.5 * (high * (high - 1.0) - low * (low - 1.0))
    v1, d1 = _antiderivative(high, phi)
    v0, d0 = _antiderivative(low, phi)
    u, t = 1.0 / (1.0 + phi * high), 1.0 / (1.0 + phi * low)
    f1, f0 = phi * u, phi * t
    value = v1 - v0 + 0.5 * (math.log1p(phi * low) - math.log1p(phi * high))
    value += (f1 - f0) / 12.0 - (f1**3 - f0**3) / 360.0 + (f1**5 - f0**5) / 1260.0
    slope = d1 - d0 + 0.5 * (low * t - high * u)
    slope += (u * u - t * t) / 12.0 - (f1 * f1 * u * u - f0 * f0 * t * t) / 120.0
    slope += (f1**4 * u * u - f0**4 * t * t) / 252.0
    return value, slope


@kernel
def _antiderivative(x, phi):
    """Return int_0^x log(1 + phi t) dt and int_0^x t / (1 + phi t) dt."""
    u = phi * x
    log1p_u = math.log1p(u)
    value = (log1p_u / phi - x) + x * log1p_u
    if u < 1e-3:
        return value, x * x * (0.5 - u * (1.0 / 3.0 - u * (0.25 - u * (0.2 - u / 6.0))))
    return value, (u - log1p_u) / (phi * phi)
