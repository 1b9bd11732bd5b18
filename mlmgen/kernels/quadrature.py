r"""Adaptive Gauss-Hermite quadrature of a random intercept: the integral over each group itself.

With v^_n the mode and h_n the curvature of group n, and nodes x_m with weights omega_m,

    L = sum_n log sum_m omega_m exp(x_m^2) sqrt(2 / h_n) exp(l_n(v_nm) - v_nm^2 / 2) / sqrt(2 pi),
    v_nm = v^_n + x_m sqrt(2 / h_n)        (Liu and Pierce 1994; Pinheiro and Bates 1995)

One node is Laplace.
"""

import math

import numpy as np

from mlmgen.kernels.families import copy, histogram, likelihood_and_weight
from mlmgen.kernels.joint import is_cut_off, maximize
from mlmgen.kernels.laplace import FINE
from mlmgen.kernels.policy import kernel
from mlmgen.kernels.rows import evaluate
from mlmgen.kernels.tree import factor_tree, predict

LOG_PI = 1.1447298858494002


@kernel
def quadrature(tree, rows, wk, reach, x, log_w, phi):
    """Return the log-likelihood at beta and the scaled columns in ``wk``, NaN on failure; the mode stays in ``wk``.

    x, log_w : Gauss-Hermite nodes and the logs of their weights. The tree has one column, no border, one function.
    """
    N = tree.nodes[0]
    passes = maximize(tree, rows, wk, reach, phi, False, FINE)
    evaluate(rows, phi, wk.s, wk.G, wk.W)
    if passes < 0 or not factor_tree(tree, wk, False) > -1e300 or is_cut_off(rows, wk, reach):
        return np.nan
    v, mode, best, total, width = wk.v[0], wk.r_v[0], wk.d_v[0], wk.L[0, 0], wk.zeta[0]
    node = tree.node[0]
    # The factor's pivot is sqrt(h); its row then holds the running sum, relative to the largest term ``best``.
    for n in range(N):
        mode[n] = v[n]
        width[n] = math.sqrt(2.0) / total[n]
        total[n], best[n] = 0.0, -np.inf
    for m in range(x.shape[0]):
        for n in range(N):
            v[n] = mode[n] + x[m] * width[n]
        predict(tree, wk, wk.v, wk.b, wk.s)
        copy(wk.s[0], rows.sums.eta)
        likelihood_and_weight(rows.size, rows.cells, rows.gene, phi, rows.sums)
        term = wk.d_s[0]
        for n in range(N):
            term[n] = log_w[m] + x[m] * x[m] - 0.5 * v[n] * v[n]
        for q in range(node.shape[0]):
            term[node[q]] += rows.sums.value[q]
        for n in range(N):
            high = max(best[n], term[n])
            total[n] = total[n] * math.exp(best[n] - high) + math.exp(term[n] - high)
            best[n] = high
    value = rows.gene.numbers[2] + histogram(rows.gene, phi)[0]
    for n in range(N):
        value += best[n] + math.log(total[n]) + math.log(width[n]) - 0.5 * (LOG_PI + math.log(2.0))
        v[n] = mode[n]
    # The sums of the last node are not those of the mode, which the callers read.
    predict(tree, wk, wk.v, wk.b, wk.s)
    evaluate(rows, phi, wk.s, wk.G, wk.W)
    return value
