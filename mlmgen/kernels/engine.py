"""The loops over genes: fit by REML, profile on the variance grid. One thread each, no allocation inside."""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import Structure, factor, workspace
from mlmgen.kernels.families import Gene, score_and_weight
from mlmgen.kernels.gather import LONG, NODES, gather
from mlmgen.kernels.grid import STRETCHES, axes, profile_gene, stretch
from mlmgen.kernels.optimize import bfgs, drop_from_inverse, phi_of, reml_fit, rho_of, search_space
from mlmgen.kernels.policy import kernel
from mlmgen.kernels.start import separated, starting_values
from mlmgen.status import Status

SEPARATED, NOT_FINITE = int(Status.SEPARATED), int(Status.NOT_FINITE)
CONVERGED, BOUNDARY = int(Status.CONVERGED), int(Status.BOUNDARY)
# Predicted decrease at which a fit without one variance stops: 1e-3 of its p-value.
BOUNDARY_TOLERANCE = 1e-3


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


class FitResult(NamedTuple):
    """Arrays that ``fit_genes`` fills, gene axis first.

    beta, se : (G, p); psi : (G, 3) variances (top, sub, phi); loglik, status, evaluations : (G,);
    without : (G, 3) log-likelihood with one variance at zero; box : (G, 3, 2) ends of the grid's axes;
    profile : (G, K).
    """

    beta: np.ndarray
    se: np.ndarray
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
        gene, small, small_gene, np.zeros((NODES, P)), np.zeros(longest + 1), *threes, np.zeros((3, 3)), *guesses
    )
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
def without_each(st, gene, wk, search, scratch, kept, inverse, loglik, out):
    """Write the REML log-likelihood with each variance at zero, the others fitted (``loglik`` where it is zero)."""
    for j in range(3):
        kept[j] = search.psi[j]
        for i in range(3):
            inverse[i, j] = search.inverse[i, j]
    for i in range(3):
        if kept[i] == 0.0:
            out[i] = loglik
            continue
        for j in range(3):
            search.psi[j] = kept[j] if j != i else 0.0
            search.active[j] = kept[j] > 0.0 and j != i
            for m in range(3):
                search.inverse[j, m] = inverse[j, m]
        drop_from_inverse(search.inverse, i)
        value, _, _ = bfgs(st, gene, wk, search, scratch, False, BOUNDARY_TOLERANCE)
        out[i] = -value
    for j in range(3):
        search.psi[j] = kept[j]


@kernel
def fit_one(st, gene, exposure, exposure_2, wk, search, scratch, active, samples, psi_start):
    """Fit one gathered gene from data-based starts; return (log-likelihood, evaluations, status)."""
    starting_values(st, gene, exposure, exposure_2, wk, psi_start, samples)
    for i in range(3):
        search.active[i] = active[i]
        search.psi[i] = psi_start[i] if active[i] else 0.0
    if active[2]:
        search.psi[2] = rho_of(psi_start[2])
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
        runs_off = separated(st, gene, wk)
        set_ridge(st, ridge, 1.0 if runs_off else 0.0)
        loglik, evaluations, status = fit_one(
            st, gene, compressed.exposure, compressed.exposure_2, wk, search, gw.scratch, active, samples, gw.first
        )
        result.evaluations[g] = evaluations
        if not loglik > -1e300:
            result.status[g] = NOT_FINITE
            continue
        result.loglik[g] = loglik
        result.status[g] = SEPARATED if runs_off and status <= BOUNDARY else status
        result.psi[g, 0] = search.psi[0] * search.psi[0]
        result.psi[g, 1] = search.psi[1] * search.psi[1]
        result.psi[g, 2] = phi_of(search.psi[2])
        score_and_weight(st.size, st.cells, gene, result.psi[g, 2], wk.sums)
        factor(st, wk, search.psi[0], search.psi[1])
        standard_errors(wk, result.se[g])
        for i in range(wk.beta.shape[0]):
            result.beta[g, i] = wk.beta[i]
        if result.profile.shape[1] > 0:
            box, profile = result.box[g], result.profile[g]
            axes(st, gene, wk, search.psi, shape, box, gw.first)
            profile_gene(compressed, gw, wk, search.psi, box, shape, profile)
            for _ in range(STRETCHES):
                if not stretch(box, shape, gw.first, profile):
                    break
                profile_gene(compressed, gw, wk, search.psi, box, shape, profile)
            without_each(st, gene, wk, search, gw.scratch, gw.first, gw.inverse, loglik, result.without[g])
