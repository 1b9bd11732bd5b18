r"""Tests of contrasts of any model, integrated over its variance grid.

As in ``mixture``, but from the joint modes of beta and the effects instead of the ML maximum: at fixed variances

    r_k = sign(c'beta_k) sqrt(2 [F(full) - F(c'beta = 0)]),   F = J - log |H_vv| / 2 at the joint mode
    u_k = c'beta_k sqrt(|S_full| / |S_null|)

The two differ by a term of second order in the step from one mode to the other, which full and null model share.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import forward
from mlmgen.kernels.elementary import log_chi_square_tail, log_normal_tail
from mlmgen.kernels.families import copy
from mlmgen.kernels.joint import is_cut_off, likelihood, maximize, residual_variance
from mlmgen.kernels.mixture import ENOUGH, FAINT, LOG_2, TOLERANCE, corrected_root, order_points, summarize
from mlmgen.kernels.model_grid import place, reset
from mlmgen.kernels.model_rows import ModelWork, gather_rows, start_model
from mlmgen.kernels.optimize import phi_of
from mlmgen.kernels.policy import inlined_kernel, kernel
from mlmgen.kernels.rows import log_likelihood
from mlmgen.kernels.search import set_parameters
from mlmgen.kernels.tree import Tree, factor_tree


class ModelTests(NamedTuple):
    """Contrasts of r rows each, in the model's scaled coefficients, and the columns of their null models.

    rank : r; weights : (C, p) the contrasts, or the first rows of joint ones; X : (C, p - r, M, P) columns times
    ``basis``; basis : (C, p, p - r) directions in which all rows are 0; norm : (C,) log c'c.
    """

    rank: int
    weights: np.ndarray
    X: np.ndarray
    basis: np.ndarray
    norm: np.ndarray


class PointWork(NamedTuple):
    """Scratch of one thread: order (K,); value, log_det, weight (K,) of the full fits; estimate, variance (K, C).

    ``null`` is the work of the model without the contrast, ``trial`` (T + 1 + p,) its psi.
    """

    null: ModelWork
    order: np.ndarray
    value: np.ndarray
    log_det: np.ndarray
    weight: np.ndarray
    estimate: np.ndarray
    variance: np.ndarray
    unit: np.ndarray
    trial: np.ndarray


@kernel
def value_at(tree, terms, rows, wk, psi):
    """Return F at the joint mode for psi, log |S| of beta and the residual variance; NaN where it failed."""
    T, crossed = tree.rows.shape[0], tree.crossed
    set_parameters(tree, wk, psi, True)
    phi = phi_of(psi[T])
    passes = maximize(tree, rows, wk, terms.reach, phi, True, TOLERANCE)
    if passes < 0:
        reset(tree, wk)
        passes = maximize(tree, rows, wk, terms.reach, phi, True, TOLERANCE)
    value = log_likelihood(rows, phi, wk.s, wk.G, wk.W)
    log_det = factor_tree(tree, wk, True)
    if passes < 0 or not (log_det > -1e300) or is_cut_off(rows, wk, terms.reach):
        return np.nan, np.nan, np.nan
    of_beta = 0.0
    for a in range(crossed, crossed + tree.X.shape[0]):
        of_beta += 2.0 * math.log(wk.S[a, a])
    scale = residual_variance(tree, rows, wk, value, True)
    value = likelihood(tree, rows, wk, value, log_det - of_beta, False)
    return value, of_beta - tree.X.shape[0] * math.log(scale), scale


@kernel
def record(tree, wk, tests, scale, points, n):
    """Write estimate and conditional variance of every contrast at the n-th visited point."""
    first, p = tree.crossed, tree.X.shape[0]
    for c in range(tests.weights.shape[0]):
        estimate, variance = 0.0, 0.0
        for i in range(p):
            estimate += tests.weights[c, i] * wk.b[first + i]
            points.unit[i] = tests.weights[c, i]
        forward(wk.S[first : first + p, first : first + p], points.unit[:p])
        for i in range(p):
            variance += points.unit[i] * points.unit[i]
        points.estimate[n, c] = estimate
        points.variance[n, c] = variance * scale


@kernel
def start_null(tree, wk, null_tree, null, basis):
    """Start the null model from the full one: nuisance = basis' beta, the effects as they are."""
    for r in range(wk.v.shape[0]):
        copy(wk.v[r], null.v[r])
    for a in range(tree.crossed):
        null.b[a] = wk.b[a]
    for j in range(null_tree.X.shape[0]):
        total = 0.0
        for i in range(tree.X.shape[0]):
            total += basis[i, j] * wk.b[tree.crossed + i]
        null.b[null_tree.crossed + j] = total


@inlined_kernel
def test_model(tree, terms, rows, work, points, tests, c, axes, psi, box, pi, count, done):
    """Return (log p, points with a full fit): visit points by falling weight until p is settled."""
    null, t = points.null, points.null.tree
    null_tree = Tree(t.Z, tests.X[c], t.level, t.node, t.up, t.nodes, t.border, t.crossed, t.rows, t.cols, t.ridge)
    log_p, used, left = -np.inf, 0.0, 1.0
    for n in range(count):
        k = points.order[n]
        place(axes, psi, box, k, points.trial)
        if n >= done:
            points.value[n], points.log_det[n], scale = value_at(tree, terms, rows, work.wk, points.trial)
            points.weight[n] = pi[k] if points.value[n] > -1e300 else 0.0
            record(tree, work.wk, tests, scale, points, n)
            done = n + 1
        if n == 0:
            start_null(tree, work.wk, null_tree, null.wk, tests.basis[c])
        left -= pi[k]
        if points.weight[n] == 0.0:
            continue
        value, log_det, _ = value_at(null_tree, terms, null.rows, null.wk, points.trial)
        if not value > -1e300:
            continue
        ratio = 2.0 * (points.value[n] - value)
        if tests.rank == 1:
            change = points.log_det[n] - tests.norm[c] - log_det
            term = LOG_2 + log_normal_tail(corrected_root(ratio, points.estimate[n, c], change))
        else:
            term = log_chi_square_tail(ratio, tests.rank)
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
def test_models(
    layout, null_layout, terms, axes, data, keep, first, last, ridge, variances, tests, work, points, out, log_p
):
    """Test every contrast of genes ``first`` to ``last``; out (G, C, 4) = mean, se, low, high; log_p (G, C).

    data : (start, index, values) of the counts; variances : (psi (G, T + 1), box (G, 3, 2), weights (G, K));
    ridge : (G, p) prior precisions of separated genes' coefficients, 0 for the others.
    """
    start, index, values = data
    psi, box, pi = variances
    tree, wk, rows, null = work.tree, work.wk, work.rows, points.null
    for g in range(first, last):
        if not keep[g]:
            continue
        a, b = start[g], start[g + 1]
        gather_rows(layout, rows, work, index[a:b], values[a:b])
        gather_rows(null_layout, null.rows, null, index[a:b], values[a:b])
        runs_off = False
        for i in range(ridge.shape[1]):
            runs_off = runs_off or ridge[g, i] > 0.0
        tree.ridge[:] = FAINT if runs_off else 0.0
        null.tree.ridge[:] = FAINT if runs_off else 0.0
        start_model(layout, tree, rows, work, work.search.psi)
        count, done = order_points(pi[g], points.order), 0
        for c in range(tests.weights.shape[0]):
            log_p[g, c], done = test_model(
                tree, terms, rows, work, points, tests, c, axes, psi[g], box[g], pi[g], count, done
            )  # fmt: skip
        if runs_off:
            copy(ridge[g], tree.ridge)
            start_model(layout, tree, rows, work, work.search.psi)
            for n in range(done):
                place(axes, psi[g], box[g], points.order[n], points.trial)
                value, _, scale = value_at(tree, terms, rows, wk, points.trial)
                points.weight[n] = pi[g, points.order[n]] if value > -1e300 else 0.0
                record(tree, wk, tests, scale, points, n)
        for c in range(tests.weights.shape[0]):
            if log_p[g, c] <= 0.0:
                summarize(points.estimate[:, c], points.variance[:, c], points.weight, done, out[g, c])
