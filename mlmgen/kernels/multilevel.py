"""The loop over genes for any multilevel model: fit, curvature, boundaries. One thread each, no allocation inside."""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import add_up
from mlmgen.kernels.families import copy
from mlmgen.kernels.information import invert
from mlmgen.kernels.joint import maximize, residual_variance
from mlmgen.kernels.laplace import FINE
from mlmgen.kernels.model_rows import NB, NORMAL, gather_rows, start_model
from mlmgen.kernels.optimize import BOUNDARY, NOT_CONVERGED, NOT_FINITE, RESTART, phi_of, rho_of
from mlmgen.kernels.policy import inlined_kernel, kernel
from mlmgen.kernels.rows import CELLS, differentiate, evaluate
from mlmgen.kernels.search import (
    deactivate_zeros,
    descend,
    evaluate_at,
    keep_beta_information,
    ran_off,
    refactor,
    set_parameters,
    settle,
)
from mlmgen.kernels.start import separated
from mlmgen.kernels.tree import factor_tree
from mlmgen.status import Status

SEPARATED, DIVERGED = int(Status.SEPARATED), int(Status.DIVERGED)
# Predicted decrease at which a fit without one variance stops. It starts with an approximate Hessian, so that what
# is really left can be a thousand times more: 1e-3 of its p-value.
BOUNDARY_TOLERANCE = 1e-6
# Relative steps of the one-sided differences of the gradient: exact ones, and the quadrature's, which are rougher.
DIFFERENCE, QUADRATURE_HESSIAN = 3e-4, 3e-3
# Part of a parameter's curvature left by the others below which the likelihood does not determine it.
FLAT = 1e-5
# The same for coefficients, which may be as collinear as an intercept and a calendar year.
ROUNDING = 1e-14


NOT_A_FIT = (np.nan, 0, NOT_FINITE)


class ModelResult(NamedTuple):
    """Arrays that ``fit_models`` fills, gene axis first.

    beta, se : (G, p); psi : (G, T + 1) theta and rho; scale : (G,) residual variance; loglik, status,
    evaluations : (G,); without : (G, T + 1) log-likelihood without the effect of a diagonal theta, or with phi = 0;
    covariance : (G, p, p) of beta; sensitivity : (G, T + 1, p, p); V : (G, T + 1, T + 1) covariance of (theta, rho);
    d_scale : (G, T + 1) derivative of the log residual variance.
    """

    beta: np.ndarray
    se: np.ndarray
    psi: np.ndarray
    scale: np.ndarray
    loglik: np.ndarray
    status: np.ndarray
    evaluations: np.ndarray
    without: np.ndarray
    covariance: np.ndarray
    sensitivity: np.ndarray
    V: np.ndarray
    d_scale: np.ndarray


@inlined_kernel
def fit_model(layout, tree, terms, rows, work):
    """Fit one gathered gene; return (log-likelihood, evaluations, status), the solution in ``work``."""
    wk, search, T = work.wk, work.search, tree.rows.shape[0]
    start_model(layout, tree, rows, work, search.psi)
    for a in range(search.psi.shape[0]):
        search.active[a] = a < T or (a == T and layout.family == NB) or (a > T and not layout.restricted)
    if not layout.restricted:
        set_parameters(tree, wk, search.psi, True)
        if maximize(tree, rows, wk, terms.reach, phi_of(search.psi[T]), True, 1e-4) < 0:
            start_model(layout, tree, rows, work, search.psi)
        for f in range(tree.X.shape[0]):
            search.psi[T + 1 + f] = wk.b[tree.crossed + f]
        keep_beta_information(tree, wk, search)
    return settle(tree, terms, rows, wk, search, layout.restricted)


@kernel
def conditional_covariance(layout, tree, rows, work, phi, out):
    """Write the covariance of beta given the variances, from the weights in ``wk``; return the residual variance."""
    wk, first, p = work.wk, tree.crossed, tree.X.shape[0]
    scale = 1.0
    if layout.family == NORMAL:
        value, _ = differentiate(rows, phi, wk.s, wk.G, wk.W)
        scale = residual_variance(tree, rows, wk, value, layout.restricted)
    if not factor_tree(tree, wk, True) > -1e300:
        out[:] = np.nan
        return scale
    invert(wk.S[first : first + p, first : first + p], out)
    for i in range(p):
        for j in range(p):
            out[i, j] *= scale
    return scale


@inlined_kernel
def _differences(layout, tree, terms, rows, work, beta, scale, d_scale):
    """Fill ``search.hessian`` and the derivatives of beta, its covariance and the log residual variance by psi.

    By one-sided differences from the optimum (``beta``, ``scale``, covariance in the last slot of ``work.slopes``).
    """
    wk, search, slopes, T, p = work.wk, work.search, work.slopes, tree.rows.shape[0], tree.X.shape[0]
    relative = DIFFERENCE if terms.x.shape[0] == 0 else QUADRATURE_HESSIAN
    for a in range(search.psi.shape[0]):
        for i in range(search.psi.shape[0]):
            search.hessian[a, i] = 1.0 if i == a else 0.0
            search.trial[i] = search.psi[i]
        if not search.active[a]:
            continue
        h = relative * (0.1 + abs(search.psi[a]))
        if a > T:
            h = relative * math.sqrt(slopes[T + 1, a - T - 1, a - T - 1])
        search.trial[a] += h
        evaluate_at(tree, terms, rows, wk, layout.restricted, search.trial, search.active, search.trial_gradient)
        for i in range(search.psi.shape[0]):
            if search.active[i]:
                search.hessian[a, i] = (search.trial_gradient[i] - search.gradient[i]) / h
        if a <= T:
            for i in range(p):
                work.shifts[a, i] = (wk.b[tree.crossed + i] - beta[i]) / h
            changed = conditional_covariance(layout, tree, rows, work, phi_of(search.trial[T]), work.small)
            d_scale[a] = math.log(changed / scale) / h
            for i in range(p):
                for j in range(p):
                    slopes[a, i, j] = (work.small[i, j] - slopes[T + 1, i, j]) / h


@kernel
def factor_held(H, search, T):
    """Factor the Hessian, holding (inactive) the covariance parameters along which the likelihood is flat."""
    n = H.shape[0]
    kept = search.inverse
    for a in range(n):
        copy(H[a], kept[a])
    while True:
        flat = -1
        for j in range(n):
            pivot = H[j, j]
            whole = max(abs(kept[j, j]), 1e-300)
            for m in range(j):
                pivot -= H[j, m] * H[j, m]
            if not pivot > (FLAT if j <= T else ROUNDING) * whole:
                flat = j
                break
            H[j, j] = math.sqrt(pivot)
            for i in range(j + 1, n):
                value = H[i, j]
                for m in range(j):
                    value -= H[i, m] * H[j, m]
                H[i, j] = value / H[j, j]
        if flat < 0:
            return
        search.active[flat] = False
        for i in range(n):
            kept[flat, i] = kept[i, flat] = 1.0 if i == flat else 0.0
        for a in range(n):
            copy(kept[a], H[a])


@inlined_kernel
def _curvature(layout, tree, terms, rows, work, g, result):
    """Fill standard errors, covariances and sensitivities of a fit from differences of its gradient."""
    search, T, p = work.search, tree.rows.shape[0], tree.X.shape[0]
    n, C, H = search.psi.shape[0], result.covariance[g], work.search.hessian
    work.slopes[:] = 0.0
    work.shifts[:] = 0.0
    evaluate(rows, phi_of(search.psi[T]), work.wk.s, work.wk.G, work.wk.W)
    result.scale[g] = conditional_covariance(layout, tree, rows, work, phi_of(search.psi[T]), C)
    for i in range(p):
        result.se[g, i] = math.sqrt(C[i, i])
        copy(C[i], work.slopes[T + 1, i])
    for a in range(T + 1):
        result.d_scale[g, a] = 0.0
    _differences(layout, tree, terms, rows, work, result.beta[g], result.scale[g], result.d_scale[g])
    for a in range(n):
        for b in range(a):
            H[a, b] = H[b, a] = 0.5 * (H[a, b] + H[b, a])
    factor_held(H, search, T)
    invert(H, search.inverse)
    for a in range(n):
        if not search.active[a]:
            search.inverse[a, a] = 0.0
    for a in range(T + 1):
        copy(search.inverse[a, : T + 1], result.V[g, a])
    if layout.restricted:
        for a in range(T + 1):
            for b in range(T + 1):
                for i in range(p):
                    for j in range(p):
                        C[i, j] += search.inverse[a, b] * work.shifts[a, i] * work.shifts[b, j]
    elif search.active[T + 1 :].all():
        for i in range(p):
            copy(search.inverse[T + 1 + i, T + 1 :], C[i])
    _sensitivities(layout, search, T, work.slopes, result.sensitivity[g], rows)


@kernel
def _sensitivities(layout, search, T, slopes, out, rows):
    """Write sum_a R[a, d] dC/dpsi_a, R R' the covariance of (theta, rho); slot T is the residual's in gaussian fits."""
    V = search.hessian[: T + 1, : T + 1]
    for a in range(T + 1):
        for b in range(a + 1):
            V[a, b] = search.inverse[a, b]
        V[a, a] += 1e-300
    for j in range(T + 1):
        pivot = V[j, j]
        for m in range(j):
            pivot -= V[j, m] * V[j, m]
        root = math.sqrt(pivot) if pivot > 1e-14 else 0.0
        V[j, j] = root
        for i in range(j + 1, T + 1):
            value = V[i, j]
            for m in range(j):
                value -= V[i, m] * V[j, m]
            V[i, j] = value / root if root > 0.0 else 0.0
    out[:] = 0.0
    for d in range(T + 1):
        for a in range(d, T + 1):
            if V[a, d] != 0.0:
                for i in range(out.shape[1]):
                    for j in range(out.shape[2]):
                        out[d, i, j] += V[a, d] * slopes[a, i, j]
    if layout.family == NORMAL:
        m = rows.moments.numbers[1] - (out.shape[1] if layout.restricted else 0)
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                out[T, i, j] = math.sqrt(2.0 / m) * slopes[T + 1, i, j]


@kernel
def _reopen(layout, tree, terms, work, dropped, e, a):
    """Free the variances that are held, which may take over from effect e of term ``dropped``; tell whether any is.

    From zero they start at half the standard deviation that is gone (parameter a; phi for the last term).
    """
    search, T, found = work.search, tree.rows.shape[0], False
    gone = 0.0
    for b in range(a - e, a + 1):
        gone += work.kept[0, b] * work.kept[0, b] if a < T else 0.0
    start = max(0.5 * math.sqrt(gone), math.sqrt(RESTART))
    for t in range(terms.first.shape[0]):
        for j in range(terms.size[t]):
            diagonal = terms.first[t] + j * (j + 1) // 2 + j
            if (t == dropped and j == e) or search.active[diagonal]:
                continue
            found = True
            if search.psi[diagonal] == 0.0:
                search.psi[diagonal] = start
            for i in range(j, terms.size[t]):
                search.active[terms.first[t] + i * (i + 1) // 2 + j] = t != dropped or i != e
    if layout.family == NB and a != T and search.psi[T] == 0.0:
        found, search.active[T], search.psi[T] = True, True, rho_of(RESTART)
    return found


@inlined_kernel
def _without_each(layout, tree, terms, rows, work, loglik, out):
    """Write the log-likelihood without each effect, its covariances gone with it, and with phi = 0."""
    wk, search, T = work.wk, work.search, tree.rows.shape[0]
    n = search.psi.shape[0]
    for t in range(terms.first.shape[0] + 1):
        effects = terms.size[t] if t < terms.first.shape[0] else 1
        for e in range(effects):
            a = terms.first[t] + e * (e + 1) // 2 + e if t < terms.first.shape[0] else T
            for i in range(n):
                search.psi[i] = work.kept[0, i]
                search.active[i] = work.kept[1, i] > 0.0
            row_is_zero = True
            if t < terms.first.shape[0]:
                for m in range(e + 1):
                    row_is_zero = row_is_zero and search.psi[terms.first[t] + e * (e + 1) // 2 + m] == 0.0
            elif layout.family != NB:
                continue
            else:
                row_is_zero = search.psi[T] == 0.0
            if row_is_zero:
                out[a] = loglik
                continue
            if t < terms.first.shape[0]:
                refactor(terms, t, e, search.psi, search.block)
                deactivate_zeros(terms, t, e, search.psi, search.active)
            else:
                search.psi[T] = 0.0
                search.active[T] = False
            if not layout.restricted:
                keep_beta_information(tree, wk, search)
            value, _, _ = descend(tree, terms, rows, wk, search, layout.restricted, BOUNDARY_TOLERANCE)
            out[a] = -value
            if _reopen(layout, tree, terms, work, t, e, a):
                if not layout.restricted:
                    keep_beta_information(tree, wk, search)
                value, _, _ = descend(tree, terms, rows, wk, search, layout.restricted, BOUNDARY_TOLERANCE)
                out[a] = max(out[a], -value)
    for i in range(n):
        search.psi[i] = work.kept[0, i]
        search.active[i] = work.kept[1, i] > 0.0


@kernel
def fit_models(layout, terms, start, index, values, keep, first, last, ridge, work, result):
    """Fit genes ``first`` to ``last``; likelihoods without each variance where ``without`` has columns."""
    tree, wk, rows, search = work.tree, work.wk, work.rows, work.search
    T = tree.rows.shape[0]
    for g in range(first, last):
        if not keep[g]:
            continue
        a, b = start[g], start[g + 1]
        gather_rows(layout, rows, work, index[a:b], values[a:b])
        runs_off = False
        if layout.family != NORMAL:
            add_up(layout.row, rows.total[0], work.by_row)
            scratch = (work.small, work.beta, work.used, work.rates[1])
            runs_off = separated(layout.X_row, work.by_row, layout.most, scratch)
        for f in range(ridge.shape[0]):
            tree.ridge[f] = ridge[f] if runs_off else 0.0
        loglik, evaluations, status = NOT_A_FIT
        # A second pass where the first was lost: separated along a cell-level function, which means do not show.
        for attempt in range(2):
            if attempt == 1:
                lost = not loglik > -1e300 or (rows.kind == CELLS and status == NOT_CONVERGED)
                if runs_off or layout.family == NORMAL or not lost:
                    break
                runs_off = True
                for f in range(ridge.shape[0]):
                    tree.ridge[f] = ridge[f]
            loglik, more, status = fit_model(layout, tree, terms, rows, work)
            evaluations += more
        result.evaluations[g] = evaluations
        if not loglik > -1e300:
            result.status[g] = NOT_FINITE
            continue
        result.loglik[g] = loglik
        if status <= BOUNDARY and layout.family != NORMAL and ran_off(search.psi, T):
            status = DIVERGED
        result.status[g] = SEPARATED if runs_off and status <= BOUNDARY else status
        for i in range(search.psi.shape[0]):
            work.kept[0, i], work.kept[1, i] = search.psi[i], 1.0 if search.active[i] else 0.0
        set_parameters(tree, wk, search.psi, layout.restricted)
        maximize(tree, rows, wk, terms.reach, phi_of(search.psi[T]), layout.restricted, FINE)
        for f in range(ridge.shape[0]):
            result.beta[g, f] = wk.b[tree.crossed + f]
        for i in range(T + 1):
            result.psi[g, i] = search.psi[i]
        _curvature(layout, tree, terms, rows, work, g, result)
        if result.without.shape[1] > 0:
            _without_each(layout, tree, terms, rows, work, loglik, result.without[g])
