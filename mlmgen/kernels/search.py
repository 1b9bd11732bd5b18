r"""BFGS over the parameters of one multilevel fit, boundaries included.

psi = (theta, rho, beta): the entries of the relative covariance factors themselves, rho with phi = 2 sinh^2(rho / 2),
and under ML the fixed effects. A standard deviation of zero is an interior stationary point; a singular
covariance is one whose factor has columns of zeros. See ``optimize`` for the same in the models of two intercepts.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import cholesky
from mlmgen.kernels.families import copy, dot
from mlmgen.kernels.information import block_information, invert
from mlmgen.kernels.joint import objective_gradient
from mlmgen.kernels.laplace import FINE, LONGEST_STEP
from mlmgen.kernels.optimize import (
    ARMIJO,
    BOUNDARY,
    CONVERGED,
    DIVERGED_SD,
    LARGEST_RHO,
    LARGEST_SD,
    MAX_EVALUATIONS,
    NEAR_ZERO,
    NOT_CONVERGED,
    NOT_FINITE,
    PREDICTED_DECREASE,
    RESTART,
    ROUNDING,
    SLACK,
    STOP_SHORT,
    phi_of,
    rho_of,
)
from mlmgen.kernels.policy import inlined_kernel, kernel
from mlmgen.kernels.quadrature import quadrature
from mlmgen.kernels.rows import GAUSSIAN
from mlmgen.kernels.tree import factor_tree, scale_columns

# Relative step of differences of the gradient.
DIFFERENCE = 1e-3
# Step of the quadrature's central differences: rounding of the sums and the cubic term balance.
QUADRATURE_DIFFERENCE = 1e-4


class Terms(NamedTuple):
    """Where the random terms are in psi: theta of term t starts at first[t], lower triangle by rows, size[t] effects.

    column : (terms,) first scaled column of the term; reach : (M,) largest absolute value of each cell-level function.
    x, log_w : nodes of the quadrature and the logs of their weights; none for Laplace.
    """

    first: np.ndarray
    size: np.ndarray
    column: np.ndarray
    reach: np.ndarray
    x: np.ndarray
    log_w: np.ndarray


class Quest(NamedTuple):
    """Scratch of the optimizer, vectors (n,) and matrices (n, n) with n = T + 1 + p."""

    psi: np.ndarray
    gradient: np.ndarray
    trial: np.ndarray
    trial_gradient: np.ndarray
    step: np.ndarray
    change: np.ndarray
    scratch: np.ndarray
    inverse: np.ndarray
    hessian: np.ndarray
    active: np.ndarray
    block: np.ndarray


def quest_space(n: int, q: int) -> Quest:
    """Allocate the optimizer's scratch of one thread for n parameters and blocks of up to q effects."""
    vectors = [np.zeros(n) for _ in range(7)]
    return Quest(*vectors, np.zeros((n, n)), np.zeros((n, n)), np.zeros(n, np.bool_), np.zeros((2, q, q)))


@kernel
def set_parameters(tree, wk, psi, restricted):
    """Scale the columns and, under ML, hold beta."""
    scale_columns(tree, wk, psi)
    if not restricted:
        for f in range(tree.X.shape[0]):
            wk.b[tree.crossed + f] = psi[tree.rows.shape[0] + 1 + f]


@kernel
def _quadrature_gradient(tree, terms, rows, wk, psi, active, out):
    """Return minus the log-likelihood by quadrature; its gradient by central differences."""
    T = tree.rows.shape[0]
    for a in range(out.shape[0]):
        out[a] = 0.0
        if not active[a]:
            continue
        x = psi[a]
        psi[a] = x + QUADRATURE_DIFFERENCE
        set_parameters(tree, wk, psi, False)
        high = quadrature(tree, rows, wk, terms.reach, terms.x, terms.log_w, phi_of(psi[T]))
        psi[a] = x - QUADRATURE_DIFFERENCE
        set_parameters(tree, wk, psi, False)
        low = quadrature(tree, rows, wk, terms.reach, terms.x, terms.log_w, phi_of(psi[T]))
        psi[a] = x
        out[a] = (low - high) / (2.0 * QUADRATURE_DIFFERENCE)
    set_parameters(tree, wk, psi, False)
    return -quadrature(tree, rows, wk, terms.reach, terms.x, terms.log_w, phi_of(psi[T]))


@kernel
def evaluate_at(tree, terms, rows, wk, restricted, psi, active, out):
    """Return minus the log-likelihood at psi and its gradient, zero for parameters that are not active."""
    T = tree.rows.shape[0]
    if terms.x.shape[0] > 0:
        return _quadrature_gradient(tree, terms, rows, wk, psi, active, out)
    set_parameters(tree, wk, psi, restricted)
    value = objective_gradient(tree, rows, wk, terms.reach, phi_of(psi[T]), restricted, FINE, out)
    out[T] *= math.sinh(psi[T])
    for a in range(out.shape[0]):
        out[a] = -out[a] if active[a] else 0.0
    if not value > -1e300:
        wk.v[:] = 0.0
        wk.b[: tree.crossed] = 0.0
        if restricted:
            wk.b[:] = 0.0
    return -value


@inlined_kernel
def start_inverse(tree, terms, rows, wk, search, restricted):
    """Start the inverse Hessian; return the evaluations used.

    Tree terms by expected information, rho and crossed terms by a difference of the gradient, beta by the
    inverse of the Schur complement of the joint mode, which ``search.hessian`` must hold on entry (ML).
    """
    T, n = tree.rows.shape[0], search.psi.shape[0]
    inverse, hessian = search.inverse, search.hessian
    inverse[:] = 0.0
    if not restricted:
        for a in range(T + 1, n):
            copy(hessian[a, T + 1 :], inverse[a, T + 1 :])
    hessian[:] = 0.0
    evaluations = 0
    for t in range(terms.first.shape[0]):
        if terms.column[t] < tree.level.shape[0]:
            block_information(tree, wk, search, terms, t, search.psi)
    for a in range(T + 1):
        if search.active[a] and (a == T or tree.cols[a] >= tree.level.shape[0]):
            h = DIFFERENCE * (1.0 + abs(search.psi[a]))
            for i in range(n):
                search.trial[i] = search.psi[i]
            search.trial[a] += h
            evaluate_at(tree, terms, rows, wk, restricted, search.trial, search.active, search.trial_gradient)
            hessian[a, a] = max((search.trial_gradient[a] - search.gradient[a]) / h, 1e-3)
            evaluations += 1
    for a in range(T + 1):
        x, slope = search.psi[a], search.gradient[a]
        diagonal = a == T or tree.rows[a] == tree.cols[a]
        if not search.active[a]:
            for i in range(T + 1):
                hessian[a, i] = hessian[i, a] = 0.0
            hessian[a, a] = 1.0
        elif diagonal and x != 0.0:
            hessian[a, a] = max(hessian[a, a], STOP_SHORT * slope / x)
        hessian[a, a] = max(hessian[a, a], 1e-3) * (1.0 + 1e-8)
    if not cholesky(hessian[: T + 1, : T + 1]) > -1e300:
        hessian[:] = 0.0
        for a in range(T + 1):
            hessian[a, a] = 1.0
    invert(hessian[: T + 1, : T + 1], inverse[: T + 1, : T + 1])
    for a in range(T + 1):
        if not search.active[a]:
            inverse[a, a] = 0.0
    return evaluations


@kernel
def _multiply(A, x, out):
    for i in range(x.shape[0]):
        out[i] = dot(A[i], x)


@kernel
def _update_inverse(search):
    """Apply the BFGS update for (step, change); skip it where the curvature is not positive."""
    s, y, A, u = search.step, search.change, search.inverse, search.scratch
    curvature = dot(s, y)
    if not curvature > 1e-14:
        return
    _multiply(A, y, u)
    scale = (1.0 + dot(y, u) / curvature) / curvature
    for i in range(s.shape[0]):
        for j in range(s.shape[0]):
            A[i, j] += scale * s[i] * s[j] - (u[i] * s[j] + s[i] * u[j]) / curvature


@kernel
def _limit(search, T, moving):
    """Shorten a step that would leave the range in which the first ``moving`` parameters can sensibly move at once."""
    t = 1.0
    for i in range(moving):
        limit = 1.0 + 0.5 * abs(search.psi[i]) if i <= T else LONGEST_STEP
        if abs(search.step[i]) * t > limit:
            t = limit / abs(search.step[i])
    for i in range(search.step.shape[0]):
        search.step[i] *= t


@inlined_kernel
def _line_search(tree, terms, rows, wk, search, restricted, value, slope):
    """Backtrack to sufficient decrease; return (value there, fraction of the step, 0 on failure, evaluations)."""
    t, evaluations, T = 1.0, 0, tree.rows.shape[0]
    slack = SLACK * (1.0 + abs(value)) + ROUNDING * rows.gene.numbers[3]
    while evaluations < 30:
        for i in range(search.psi.shape[0]):
            search.trial[i] = search.psi[i] + t * search.step[i]
        search.trial[T] = min(max(search.trial[T], -LARGEST_RHO), LARGEST_RHO)
        if rows.kind != GAUSSIAN:
            for i in range(T):
                search.trial[i] = min(max(search.trial[i], -LARGEST_SD), LARGEST_SD)
        trial = evaluate_at(tree, terms, rows, wk, restricted, search.trial, search.active, search.trial_gradient)
        evaluations += 1
        if trial <= value + ARMIJO * t * slope + slack:
            return trial, t, evaluations
        quadratic = -0.5 * slope * t * t / (trial - value - slope * t)
        t = min(max(quadratic, 0.1 * t), 0.5 * t) if trial < 1e300 else 0.2 * t
    return value, 0.0, evaluations


@kernel
def ran_off(psi, T):
    """Tell whether some variance ran off to a size that no data of counts can mean."""
    found = False
    for a in range(T):
        found = found or abs(psi[a]) >= DIVERGED_SD
    return found


@kernel
def _hold_at_bound(search, T):
    """Hold the entries of covariance factors that the likelihood pushes beyond their bound."""
    for a in range(T):
        if search.active[a] and abs(search.psi[a]) >= LARGEST_SD and search.psi[a] * search.gradient[a] < 0.0:
            search.active[a] = False
            search.gradient[a] = 0.0
            for i in range(search.psi.shape[0]):
                search.inverse[a, i] = search.inverse[i, a] = 0.0


@kernel
def descend(tree, terms, rows, wk, search, restricted, tolerance):
    """Minimize over the active parameters from ``search.psi``; return (value, evaluations, status)."""
    T = tree.rows.shape[0]
    value = evaluate_at(tree, terms, rows, wk, restricted, search.psi, search.active, search.gradient)
    if not value < 1e300:
        return value, 1, NOT_FINITE
    evaluations, slope = 1 + start_inverse(tree, terms, rows, wk, search, restricted), -np.inf
    # Predicted decrease that rounding, or a valley too flat to follow to its end, may leave.
    short = 1e-6 + 100.0 * ROUNDING * rows.gene.numbers[3]
    while evaluations < MAX_EVALUATIONS:
        _multiply(search.inverse, search.gradient, search.step)
        for i in range(search.step.shape[0]):
            search.step[i] = -search.step[i]
        _limit(search, T, T + 1 if rows.kind == GAUSSIAN else search.psi.shape[0])
        slope = dot(search.step, search.gradient)
        if -slope < tolerance:
            return value, evaluations, CONVERGED
        value_new, t, used = _line_search(tree, terms, rows, wk, search, restricted, value, slope)
        evaluations += used
        if t == 0.0:
            return value, evaluations, CONVERGED if -slope < short else NOT_CONVERGED
        for i in range(search.step.shape[0]):
            search.step[i] = search.trial[i] - search.psi[i]
            search.change[i] = search.trial_gradient[i] - search.gradient[i]
            search.psi[i] = search.trial[i]
            search.gradient[i] = search.trial_gradient[i]
        value = value_new
        _update_inverse(search)
        if rows.kind != GAUSSIAN:
            _hold_at_bound(search, T)
    return value, evaluations, CONVERGED if -slope < short else NOT_CONVERGED


@kernel
def refactor(terms, t, drop, psi, block):
    """Write the factor of term t's covariance without effect ``drop`` (-1: all stay); zero pivots give zero columns."""
    first, q = terms.first[t], terms.size[t]
    cov, out = block[0], block[1]
    for i in range(q):
        for j in range(i + 1):
            value = 0.0
            for m in range(j + 1):
                value += psi[first + i * (i + 1) // 2 + m] * psi[first + j * (j + 1) // 2 + m]
            cov[i, j] = 0.0 if i == drop or j == drop else value
    for j in range(q):
        pivot = cov[j, j]
        for m in range(j):
            pivot -= out[j, m] * out[j, m]
        root = math.sqrt(pivot) if pivot > NEAR_ZERO else 0.0
        out[j, j] = root
        for i in range(j + 1, q):
            value = cov[i, j]
            for m in range(j):
                value -= out[i, m] * out[j, m]
            out[i, j] = value / root if root > 0.0 else 0.0
    for i in range(q):
        for j in range(i + 1):
            psi[first + i * (i + 1) // 2 + j] = out[i, j]


@kernel
def deactivate_zeros(terms, t, drop, psi, active):
    """Hold the columns without a pivot, and the dropped effect's row, at zero."""
    first, q = terms.first[t], terms.size[t]
    for i in range(q):
        for j in range(i + 1):
            if psi[first + j * (j + 1) // 2 + j] == 0.0 or i == drop or j == drop:
                active[first + i * (i + 1) // 2 + j] = False


@inlined_kernel
def _rises_from_zero(tree, terms, rows, wk, search, restricted, a):
    """Return whether the likelihood rises from parameter a = 0, by its slope at ``NEAR_ZERO``."""
    T = tree.rows.shape[0]
    for j in range(search.psi.shape[0]):
        search.trial[j] = search.psi[j]
    search.trial[a] = rho_of(NEAR_ZERO) if a == T else math.sqrt(NEAR_ZERO)
    evaluate_at(tree, terms, rows, wk, restricted, search.trial, search.active, search.trial_gradient)
    return search.trial_gradient[a] < 0.0


@kernel
def keep_beta_information(tree, wk, search):
    """Put the conditional covariance of beta at the current weights into ``search.hessian`` for ``start_inverse``."""
    T, p, first = tree.rows.shape[0], tree.X.shape[0], tree.crossed
    if factor_tree(tree, wk, True) > -1e300:
        invert(wk.S[first : first + p, first : first + p], search.hessian[T + 1 :, T + 1 :])
    else:
        search.hessian[:] = 0.0
        for f in range(p):
            search.hessian[T + 1 + f, T + 1 + f] = 1e-2


@inlined_kernel
def settle(tree, terms, rows, wk, search, restricted):
    """Fit the active parameters; return (log-likelihood, evaluations, status).

    A factor's diagonal that ends near zero is set to zero unless the likelihood rises from there, and the
    rest is fitted again: variances of zero and correlations of one are ordinary outcomes.
    """
    T = tree.rows.shape[0]
    value, evaluations, status = descend(tree, terms, rows, wk, search, restricted, PREDICTED_DECREASE)
    for a in range(T + 1):
        diagonal = a == T or tree.rows[a] == tree.cols[a]
        x = abs(search.psi[a])
        variance = phi_of(x) if a == T else x * x
        if not (diagonal and search.active[a] and variance < NEAR_ZERO) or status == NOT_FINITE:
            continue
        evaluations += 1
        if _rises_from_zero(tree, terms, rows, wk, search, restricted, a):
            search.psi[a] = rho_of(RESTART) if a == T else math.sqrt(RESTART)
        else:
            search.psi[a] = 0.0
            search.active[a] = False
            for t in range(terms.first.shape[0]):
                q = terms.size[t]
                if a != T and terms.first[t] <= a < terms.first[t] + q * (q + 1) // 2:
                    refactor(terms, t, -1, search.psi, search.block)
                    deactivate_zeros(terms, t, -1, search.psi, search.active)
        if not restricted:
            keep_beta_information(tree, wk, search)
        value, more, status = descend(tree, terms, rows, wk, search, restricted, PREDICTED_DECREASE)
        evaluations += more
        if status == CONVERGED and not search.active[a]:
            status = BOUNDARY
    search.psi[T] = abs(search.psi[T])
    return -value, evaluations, status
