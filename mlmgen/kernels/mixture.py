r"""Tests of contrasts, integrated over the variance grid.

At each grid point k, with all variances fixed, the signed root of the ML-Laplace likelihood ratio

    r_k = sign(c'beta_k) sqrt(2 [L_k(full) - L_k(c'beta = 0)]),   r*_k = r_k + log(u_k / r_k) / r_k
    u_k = c'beta_k sqrt(|S_full| / |S_null|)

is corrected (r*, Barndorff-Nielsen) and p = sum_k pi_k 2 Phi(-|r*_k|). Points are visited by falling
weight until what is left cannot change p by more than ``ENOUGH``. Contrasts of several rows r are tested
by p = sum_k pi_k P(chi2_r > likelihood ratio).
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import Structure, Work, forward
from mlmgen.kernels.elementary import log_chi_square_tail, log_normal_tail
from mlmgen.kernels.gather import gather
from mlmgen.kernels.grid import merge_weights, point, shrink_to
from mlmgen.kernels.laplace import ml_maximum
from mlmgen.kernels.optimize import rho_of
from mlmgen.kernels.policy import inner_kernel, kernel
from mlmgen.kernels.start import separated, starting_values

# Relative weight left out of a p-value.
ENOUGH = 1e-3
# Squared step (in standard errors) after which a maximization stops; the likelihood is then good to 1e-5.
TOLERANCE = 1e-3
# Where r* is not used: its correction divides by r, or is too large to be an expansion.
SMALLEST_ROOT, LARGEST_CORRECTION = 0.3, 1.5
# Prior precision that keeps a likelihood-ratio fit of a separated gene from running off; costs 1e-4 of log-likelihood.
FAINT = 1e-6
LOG_2 = math.log(2.0)
NORMAL_975 = 1.959963984540054


class TestWork(NamedTuple):
    """Scratch of one thread for the tests of one gene.

    order : (K,) points by falling weight; value, log_det : (K,) full fits; estimate, variance : (K, C).
    null : Work of the model without the contrast; ridge, null_ridge : precisions in use.
    """

    null: Work
    order: np.ndarray
    value: np.ndarray
    log_det: np.ndarray
    weight: np.ndarray
    estimate: np.ndarray
    variance: np.ndarray
    full_at: np.ndarray
    null_at: np.ndarray
    at: np.ndarray
    psi: np.ndarray
    null_ridge: np.ndarray


class Contrasts(NamedTuple):
    """Contrasts of r rows each and the designs without them.

    rank : r; weights : (C, p) the contrasts, or the first rows of joint ones; designs : (C, p - r, P), X times
    ``basis``; basis : (C, p, p - r) orthonormal directions in which all rows are 0; norm : (C,) log c'c.
    """

    rank: int
    weights: np.ndarray
    designs: np.ndarray
    basis: np.ndarray
    norm: np.ndarray


@kernel
def order_points(weights, order):
    """Write the points by falling weight; return how many have any."""
    n = weights.shape[0]
    for k in range(n):
        order[k] = k
    for i in range(1, n):
        k = order[i]
        j = i
        while j > 0 and weights[order[j - 1]] < weights[k]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = k
    count = 0
    while count < n and weights[order[count]] > 0.0:
        count += 1
    return count


@inner_kernel
def set_all(x, value):
    """Set every element of an array."""
    for i in range(x.shape[0]):
        x[i] = value


@kernel
def fit_at(st, gene, wk, at, before):
    """Maximize the ML-Laplace likelihood at variances ``at``, starting from the solution at ``before``."""
    shrink_to(wk.v, wk.Omega, before[0], at[0])
    shrink_to(wk.u, wk.omega, before[1], at[1])
    value, log_det = ml_maximum(st, gene, wk, at[0], at[1], at[2], TOLERANCE)
    if not value > -1e300:
        set_all(wk.beta, 0.0)
        set_all(wk.v, 0.0)
        set_all(wk.u, 0.0)
        value, log_det = ml_maximum(st, gene, wk, at[0], at[1], at[2], TOLERANCE)
    for i in range(3):
        before[i] = at[i]
    return value, log_det


@inner_kernel
def record_effects(wk, contrasts, tw, n):
    """Write estimate and conditional variance of every contrast at the n-th visited point."""
    for c in range(contrasts.weights.shape[0]):
        estimate, variance = 0.0, 0.0
        for i in range(wk.beta.shape[0]):
            estimate += contrasts.weights[c, i] * wk.beta[i]
            wk.x_hat[i] = contrasts.weights[c, i]
        forward(wk.L, wk.x_hat)
        for i in range(wk.beta.shape[0]):
            variance += wk.x_hat[i] * wk.x_hat[i]
        tw.estimate[n, c] = estimate
        tw.variance[n, c] = variance


@inner_kernel
def corrected_root(ratio, estimate, log_det_change):
    """Return |r*| from the likelihood ratio (2 x difference), the estimate and log |S_full| / |S_null|."""
    r = math.sqrt(max(ratio, 0.0))
    if r < SMALLEST_ROOT:
        return r
    correction = math.log(max(abs(estimate), 1e-300)) + 0.5 * log_det_change - math.log(r)
    if not abs(correction) <= LARGEST_CORRECTION:
        return r
    return max(r + correction / r, 0.0)


@kernel
def start_null(wk, null, basis):
    """Start the null model from the full one: nuisance = basis' beta."""
    for j in range(null.beta.shape[0]):
        total = 0.0
        for i in range(wk.beta.shape[0]):
            total += basis[i, j] * wk.beta[i]
        null.beta[j] = total
    for d in range(wk.v.shape[0]):
        null.v[d] = wk.v[d]
        null.Omega[d] = wk.Omega[d]
    for s in range(wk.u.shape[0]):
        null.u[s] = wk.u[s]
        null.omega[s] = wk.omega[s]


@kernel
def test_contrast(st, gene, wk, tw, contrasts, c, psi, box, shape, pi, count, done):
    """Return (log p, points with a full fit): visit points by falling weight until p is settled."""
    null_st = Structure(st.size, st.cells, contrasts.designs[c], tw.null_ridge, st.top, st.sub, st.parent)
    log_p, used, left = -np.inf, 0.0, 1.0
    for n in range(count):
        k = tw.order[n]
        point(k, psi, box, shape, tw.at)
        if n >= done:
            tw.value[n], tw.log_det[n] = fit_at(st, gene, wk, tw.at, tw.full_at)
            tw.weight[n] = pi[k] if tw.value[n] > -1e300 else 0.0
            record_effects(wk, contrasts, tw, n)
            done = n + 1
        if n == 0:
            start_null(wk, tw.null, contrasts.basis[c])
            for i in range(3):
                tw.null_at[i] = tw.full_at[i]
        left -= pi[k]
        if tw.weight[n] == 0.0:
            continue
        value, log_det = fit_at(null_st, gene, tw.null, tw.at, tw.null_at)
        if not value > -1e300:
            continue
        ratio = 2.0 * (tw.value[n] - value)
        if contrasts.rank == 1:
            change = tw.log_det[n] - contrasts.norm[c] - log_det
            term = LOG_2 + log_normal_tail(corrected_root(ratio, tw.estimate[n, c], change))
        else:
            term = log_chi_square_tail(ratio, contrasts.rank)
        term += math.log(pi[k])
        high = max(log_p, term)
        log_p = high + math.log(math.exp(log_p - high) + math.exp(term - high))
        used += pi[k]
        if left <= 0.0 or math.log(left) < log_p + math.log(ENOUGH):
            break
    if used == 0.0:
        return np.nan, done
    return min(log_p - math.log(used), 0.0), done


@kernel
def mixture_cdf(x, mean, variance, weight, n):
    """Return P(X <= x) and the density of a mixture of n normals (weights need not sum to 1)."""
    total, cdf, density = 0.0, 0.0, 0.0
    for k in range(n):
        if weight[k] > 0.0:
            sd = math.sqrt(variance[k])
            z = (x - mean[k]) / sd
            cdf += weight[k] * 0.5 * math.erfc(-z * math.sqrt(0.5))
            density += weight[k] * math.exp(-0.5 * z * z) / sd
            total += weight[k]
    return cdf / total, density / (total * 2.5066282746310002)


@kernel
def mixture_quantile(q, mean, variance, weight, n, start, scale):
    """Solve cdf(x) = q by Newton's method, bisecting where a step left more than half of the miss."""
    low, high = start - 40.0 * scale, start + 40.0 * scale
    x, last = start, 1.0
    for _ in range(200):
        cdf, density = mixture_cdf(x, mean, variance, weight, n)
        if cdf > q:
            high = x
        else:
            low = x
        miss = q - cdf
        if abs(miss) < 1e-8 or high - low < 1e-9 * scale:
            break
        newton = x + miss / max(density, 1e-300)
        x = newton if abs(miss) < 0.5 * last and low < newton < high else 0.5 * (low + high)
        last = abs(miss)
    return x


@kernel
def summarize(mean, variance, weight, n, out):
    """Write mean, standard error (law of total variance) and the 95 % interval of a mixture of n normals."""
    total, m, second = 0.0, 0.0, 0.0
    for k in range(n):
        total += weight[k]
        m += weight[k] * mean[k]
    m /= total
    for k in range(n):
        second += weight[k] * (variance[k] + (mean[k] - m) * (mean[k] - m))
    se = math.sqrt(second / total)
    out[0], out[1] = m, se
    if not (se > 0.0 and se < 1e300):
        out[2] = out[3] = np.nan
        return
    out[2] = mixture_quantile(0.025, mean, variance, weight, n, m - NORMAL_975 * se, se)
    out[3] = mixture_quantile(0.975, mean, variance, weight, n, m + NORMAL_975 * se, se)


@kernel
def _start(compressed, gw, wk, tw, fit_psi, samples):
    """Start the full model from the data at the gene's variances; write psi = (sd_top, sd_sub, rho)."""
    starting_values(compressed.structure, gw.gene, compressed.exposure, compressed.exposure_2, wk, tw.psi, samples)
    tw.psi[0], tw.psi[1], tw.psi[2] = math.sqrt(fit_psi[0]), math.sqrt(fit_psi[1]), rho_of(fit_psi[2])
    set_all(tw.full_at, 0.0)


@kernel
def test_genes(
    compressed, data, fitted, first, last, variances, shape, contrasts, samples, ridge, work, effects, log_p
):
    """Test every contrast of genes ``first`` to ``last``; effects (G, C, 4) = mean, se, low, high; log_p (G, C).

    ``data`` = (start, rows, values) of the counts; ``variances`` = (psi, box, weights) of the genes.
    """
    gw, wk, tw = work
    start, rows, values = data
    psi, box, pi = variances
    C = contrasts.weights.shape[0]
    for g in range(first, last):
        if not fitted[g]:
            continue
        a, b = start[g], start[g + 1]
        gather(rows[a:b], values[a:b], compressed.cells, compressed, gw.gene, gw.moments, gw.x)
        scratch = (wk.L, wk.r_beta, wk.x_hat, wk.by_pattern)
        runs_off = separated(compressed.structure.X, gw.gene.total, compressed.most, scratch)
        st, gene = compressed.structure, gw.gene
        if shape[2] == 1:
            merge_weights(compressed, gw, psi[g, 2])
            st, gene = gw.small, gw.small_gene
        set_all(st.ridge, FAINT if runs_off else 0.0)
        set_all(tw.null_ridge, FAINT if runs_off else 0.0)
        _start(compressed, gw, wk, tw, psi[g], samples)
        count, done = order_points(pi[g], tw.order), 0
        for c in range(C):
            log_p[g, c], done = test_contrast(st, gene, wk, tw, contrasts, c, tw.psi, box[g], shape, pi[g], count, done)
        if runs_off:
            _start(compressed, gw, wk, tw, psi[g], samples)
            for i in range(ridge.shape[0]):
                st.ridge[i] = ridge[i]
            for n in range(done):
                point(tw.order[n], tw.psi, box[g], shape, tw.at)
                value, _ = fit_at(st, gene, wk, tw.at, tw.full_at)
                tw.weight[n] = pi[g, tw.order[n]] if value > -1e300 else 0.0
                record_effects(wk, contrasts, tw, n)
        for c in range(C):
            if log_p[g, c] <= 0.0:
                summarize(tw.estimate[:, c], tw.variance[:, c], tw.weight, done, effects[g, c])
