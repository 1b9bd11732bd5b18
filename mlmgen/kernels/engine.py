"""The loops over genes: fit by REML, profile on the variance grid. One thread each, no allocation inside."""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import Structure, backward, factor, forward, workspace
from mlmgen.kernels.families import Gene, score_and_weight
from mlmgen.kernels.gather import LONG, NODES, gather
from mlmgen.kernels.grid import STRETCHES, axes, profile_gene, stretch
from mlmgen.kernels.optimize import (
    DIVERGED_SD,
    RESTART,
    bfgs,
    drop_from_inverse,
    objective,
    phi_of,
    reml_fit,
    rho_of,
    search_space,
)
from mlmgen.kernels.policy import inlined_kernel, kernel
from mlmgen.kernels.start import separated, starting_values
from mlmgen.status import Status

SEPARATED, NOT_FINITE = int(Status.SEPARATED), int(Status.NOT_FINITE)
DIVERGED = int(Status.DIVERGED)
CONVERGED, BOUNDARY = int(Status.CONVERGED), int(Status.BOUNDARY)
# Predicted decrease at which a fit without one variance stops: 1e-3 of its p-value.
BOUNDARY_TOLERANCE = 1e-3
# Step of the differences of the gradient, relative to 0.1 + psi: their error is of this order.
DIFFERENCE = 3e-4


class GeneWork(NamedTuple):
    """Scratch of one thread for one gene after another.

    ``small`` and ``small_gene`` are the gene at a fixed phi on fewer nodes, the two weights of a node
    merged into one (``small.cells`` = cells + phi counts, ``small_gene.counts`` = 0).
    """

    gene: Gene
    small: Structure
    small_gene: Gene
    moments: np.ndarray
    x: np.ndarray
    scratch: np.ndarray
    first: np.ndarray
    at: np.ndarray
    inverse: np.ndarray
    guess_beta: np.ndarray
    guess_v: np.ndarray
    guess_u: np.ndarray
    hessian: np.ndarray
    shifts: np.ndarray


class FitResult(NamedTuple):
    """Arrays that ``fit_genes`` fills, gene axis first.

    beta, se : (G, p); psi : (G, 3) variances (top, sub, phi); loglik, status, evaluations : (G,);
    covariance : (G, p, p) of beta, uncertainty of the variances included; V : (G, 3, 3) covariance of (sigmas, rho);
    without : (G, 3) log-likelihood with one variance at zero; box : (G, 3, 2) ends of the grid's axes;
    profile : (G, K).
    """

    beta: np.ndarray
    se: np.ndarray
    covariance: np.ndarray
    V: np.ndarray
    psi: np.ndarray
    loglik: np.ndarray
    status: np.ndarray
    evaluations: np.ndarray
    without: np.ndarray
    box: np.ndarray
    profile: np.ndarray


def fit_work(compressed, longest: int):
    """Allocate the scratch of one thread for genes of at most ``longest`` nonzeros: (GeneWork, Work, Search)."""
    structure = compressed.structure
    (K, P), R = structure.size.shape, compressed.size_reduced.shape[0]
    gene = Gene(np.zeros((K, P)), np.zeros(P), np.zeros(LONG + 4), np.zeros(longest + 1), np.zeros(4))
    small = structure._replace(size=compressed.size_reduced, cells=np.zeros((R, P)))
    small_gene = Gene(np.zeros((R, P)), gene.total, np.zeros(1), np.zeros(1), np.zeros(4))
    threes, wk = [np.zeros(3) for _ in range(3)], workspace(structure)
    guesses = [np.zeros_like(x) for x in (wk.beta, wk.v, wk.u)]
    work = GeneWork(
        gene, small, small_gene, np.zeros((NODES, P)), np.zeros(longest + 1), *threes, np.zeros((3, 3)), *guesses,
        np.zeros((3, 3)), np.zeros((3, structure.X.shape[0])),
    )  # fmt: skip
    return work, wk, search_space()


@kernel
def set_ridge(st, ridge, value):
    """Set the prior precisions of the coefficients for this gene."""
    for i in range(st.ridge.shape[0]):
        st.ridge[i] = value * ridge[i]


@kernel
def standard_errors(wk, se):
    """Write the square roots of the diagonal of S^-1 from its Cholesky factor in ``wk.L``."""
    p = se.shape[0]
    for i in range(p):
        total = 0.0
        for j in range(p):
            wk.x_hat[j] = 1.0 if j == i else 0.0
        for r in range(i, p):
            value = wk.x_hat[r]
            for m in range(i, r):
                value -= wk.L[r, m] * wk.x_hat[m]
            wk.x_hat[r] = value / wk.L[r, r]
            total += wk.x_hat[r] * wk.x_hat[r]
        se[i] = math.sqrt(total)


@kernel
def _invert_3(A, out):
    """Write the inverse of a symmetric 3 x 3 matrix; return its determinant."""
    a, b, c = A[0, 0], 0.5 * (A[0, 1] + A[1, 0]), 0.5 * (A[0, 2] + A[2, 0])
    d, e, f = A[1, 1], 0.5 * (A[1, 2] + A[2, 1]), A[2, 2]
    det = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    out[0, 0], out[1, 1], out[2, 2] = (d * f - e * e) / det, (a * f - c * c) / det, (a * d - b * b) / det
    out[0, 1] = out[1, 0] = (c * e - b * f) / det
    out[0, 2] = out[2, 0] = (b * e - c * d) / det
    out[1, 2] = out[2, 1] = (b * c - a * e) / det
    return det


@inlined_kernel
def curvature(st, gene, wk, search, gw, covariance, V):
    """Write the covariance of the estimates: of (sigma_top, sigma_sub, rho), and of beta with its uncertainty.

    cov(beta) = S^-1 + (dbeta/dpsi) V (dbeta/dpsi)', V the inverse of the Hessian, both by one-sided differences
    from the optimum; variances at zero are held. NaN where the Hessian is not positive definite.
    """
    p = wk.beta.shape[0]
    for i in range(p):
        for j in range(p):
            wk.x_hat[j] = 1.0 if j == i else 0.0
        forward(wk.L, wk.x_hat)
        backward(wk.L, wk.x_hat)
        for j in range(p):
            covariance[i, j] = wk.x_hat[j]
    for a in range(3):
        for i in range(p):
            gw.shifts[a, i] = 0.0
        for i in range(3):
            gw.hessian[a, i] = 1.0 if i == a else 0.0
        if not (search.active[a] and search.psi[a] > 0.0):
            continue
        h = DIFFERENCE * (0.1 + search.psi[a])
        for i in range(3):
            search.trial[i] = search.psi[i]
        search.trial[a] += h
        for i in range(p):
            gw.guess_beta[i] = wk.beta[i]
        objective(st, gene, wk, search.trial, search.active, search.raw, search.trial_gradient)
        for i in range(3):
            if search.active[i] and search.psi[i] > 0.0:
                gw.hessian[a, i] = (search.trial_gradient[i] - search.gradient[i]) / h
        for i in range(p):
            gw.shifts[a, i] = (wk.beta[i] - gw.guess_beta[i]) / h
            wk.beta[i] = gw.guess_beta[i]
    det = _invert_3(gw.hessian, V)
    definite = det > 0.0 and gw.hessian[0, 0] > 0.0 and gw.hessian[1, 1] > 0.0 and gw.hessian[2, 2] > 0.0
    if not definite:
        V[:] = np.nan
        covariance[:] = np.nan
        return
    for a in range(3):
        if not (search.active[a] and search.psi[a] > 0.0):
            V[a, a] = 0.0
        for b in range(3):
            for i in range(p):
                for j in range(p):
                    covariance[i, j] += V[a, b] * gw.shifts[a, i] * gw.shifts[b, j]


@inlined_kernel
def without_each(st, gene, wk, search, scratch, kept, inverse, active, loglik, out):
    """Write the REML log-likelihood with each variance at zero, the others fitted (``loglik`` where it is zero)."""
    for j in range(3):
        kept[j] = search.psi[j]
        for i in range(3):
            inverse[i, j] = search.inverse[i, j]
    for i in range(3):
        if kept[i] == 0.0 or not active[i]:
            out[i] = loglik
            continue
        for j in range(3):
            search.psi[j] = kept[j] if j != i else 0.0
            search.active[j] = active[j] and kept[j] > 0.0 and j != i
            for m in range(3):
                search.inverse[j, m] = inverse[j, m]
        drop_from_inverse(search.inverse, i)
        value, _, _ = bfgs(st, gene, wk, search, scratch, False, BOUNDARY_TOLERANCE)
        out[i] = -value
        # A variance at zero may take over from the one that is gone.
        reopened = False
        for j in range(3):
            if active[j] and j != i and kept[j] == 0.0:
                reopened = True
                search.active[j] = True
                half = 0.5 * kept[i] if i < 2 else 0.0
                search.psi[j] = rho_of(RESTART) if j == 2 else max(half, math.sqrt(RESTART))
        if reopened:
            value, _, _ = bfgs(st, gene, wk, search, scratch, True, BOUNDARY_TOLERANCE)
            out[i] = max(out[i], -value)
    for j in range(3):
        search.psi[j] = kept[j]


@inlined_kernel
def fit_one(st, gene, exposure, exposure_2, wk, search, scratch, active, samples, psi_start, fixed_phi):
    """Fit one gathered gene from data-based starts; return (log-likelihood, evaluations, status)."""
    starting_values(st, gene, exposure, exposure_2, wk, psi_start, samples)
    for i in range(3):
        search.active[i] = active[i]
        search.psi[i] = psi_start[i] if active[i] else 0.0
    search.psi[2] = rho_of(psi_start[2] if active[2] else fixed_phi)
    return reml_fit(st, gene, wk, search, scratch)


@kernel
def fit_genes(compressed, start, rows, values, keep, first, last, active, samples, ridge, shape, work, result):
    """Fit genes ``first`` to ``last``: REML estimates, then boundary likelihoods and the grid where asked.

    ``active`` (3,) says which of (sigma_top, sigma_sub, phi) are estimated, ``shape`` (3,) the points of
    their axes on the grid; a profile without columns leaves out everything after the fit (for timing).
    """
    gw, wk, search = work
    st, gene = compressed.structure, gw.gene
    for g in range(first, last):
        if not keep[g]:
            continue
        a, b = start[g], start[g + 1]
        gather(rows[a:b], values[a:b], compressed.cells, compressed, gene, gw.moments, gw.x)
        runs_off = separated(st.X, gene.total, compressed.most, (wk.L, wk.r_beta, wk.x_hat, wk.by_pattern))
        set_ridge(st, ridge, 1.0 if runs_off else 0.0)
        loglik, evaluations, status = fit_one(
            st, gene, compressed.exposure, compressed.exposure_2, wk, search, gw.scratch, active, samples, gw.first,
            compressed.fixed_phi,
        )  # fmt: skip
        result.evaluations[g] = evaluations
        if not loglik > -1e300:
            result.status[g] = NOT_FINITE
            continue
        result.loglik[g] = loglik
        if status <= BOUNDARY and max(search.psi[0], search.psi[1]) >= DIVERGED_SD:
            status = DIVERGED
        result.status[g] = SEPARATED if runs_off and status <= BOUNDARY else status
        result.psi[g, 0] = search.psi[0] * search.psi[0]
        result.psi[g, 1] = search.psi[1] * search.psi[1]
        result.psi[g, 2] = phi_of(search.psi[2])
        score_and_weight(st.size, st.cells, gene, result.psi[g, 2], wk.sums)
        factor(st, wk, search.psi[0], search.psi[1])
        standard_errors(wk, result.se[g])
        for i in range(wk.beta.shape[0]):
            result.beta[g, i] = wk.beta[i]
        curvature(st, gene, wk, search, gw, result.covariance[g], result.V[g])
        if result.profile.shape[1] > 0:
            box, profile = result.box[g], result.profile[g]
            axes(st, gene, wk, search.psi, shape, box, gw.first)
            profile_gene(compressed, gw, wk, search.psi, box, shape, profile)
            for _ in range(STRETCHES):
                if not stretch(box, shape, gw.first, profile):
                    break
                profile_gene(compressed, gw, wk, search.psi, box, shape, profile)
            without_each(st, gene, wk, search, gw.scratch, gw.first, gw.inverse, active, loglik, result.without[g])
