"""Fits without random effects, and multiple testing, against statsmodels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from mlmgen import fitting, simulate, tables
from mlmgen.status import Status
from mlmgen.types import Counts, Design
from tests.golden import agreement
from tests.reference import designs

GENES = 40
# Largest difference in standard errors; both sides stop at gradients far smaller.
SAME = 1e-5


def glm(y: np.ndarray, X: np.ndarray, log_size: np.ndarray, phi: float):
    family = sm.families.NegativeBinomial(alpha=phi) if phi > 0 else sm.families.Poisson()
    return sm.GLM(y, X, family=family, offset=log_size).fit(tol=1e-12, maxiter=200)


def agrees(design: Design, counts: Counts, fits, g: int):
    """Coefficients, standard errors and the REML log-likelihood of a gene at its own dispersion."""
    cells = designs.cells(design, counts, g)
    _, phi = agreement.deviations(design, fits, fits.variance[g])
    theirs = glm(cells.y, cells.X, cells.log_size, phi)
    information = -theirs.model.hessian(theirs.params, scale=1.0, observed=True)
    std_error = np.sqrt(np.diag(np.linalg.inv(information)))
    assert fits.beta[g] == pytest.approx(theirs.params, abs=SAME * std_error.min())
    assert fits.std_error[g] == pytest.approx(std_error, rel=1e-5)
    # Beta integrated out: minus half the log determinant, p/2 log 2 pi.
    p = len(theirs.params)
    reml = theirs.llf - np.linalg.slogdet(information)[1] / 2 + p / 2 * np.log(2 * np.pi)
    assert fits.loglik[g] == pytest.approx(reml, abs=1e-5)


def experiment(n_donors: int, donor_sd: float) -> tuple[Design, Counts]:
    """Cells of donors in two arms, unequal size factors, half of the genes with an effect."""
    rng = np.random.default_rng(43)
    donor = np.repeat(np.arange(n_donors), 40)
    label = np.array([f"D{i:02d}" for i in range(n_donors)])[donor]
    X = np.column_stack([np.ones(len(donor)), donor >= n_donors / 2, rng.normal(0, 1, n_donors)[donor]])
    design, _ = designs.build(
        label, X, ["(Intercept)", "arm", "age"], {"donor": label}, np.exp(rng.normal(0, 0.4, len(donor)))
    )
    beta = np.column_stack([rng.normal(0, 1, GENES), np.repeat([0.0, 0.8], GENES // 2), np.zeros(GENES)])
    counts = simulate.counts(design, beta, np.full((GENES, 1), donor_sd), np.geomspace(0.05, 2, GENES), rng)
    return design, counts


def test_cells_without_random_terms():
    design, counts = experiment(8, 0.0)
    design = replace(design, terms=())
    fits = fitting.fit_shard(counts, design, np.ones(GENES, bool), "nb", "cells", 1, None)
    assert (fits.variance[:, 0] > 0).sum() > GENES / 2
    for g in range(GENES):
        agrees(design, counts, fits, g)


def test_cells_with_a_donor_variance_at_zero():
    design, counts = experiment(8, 0.0)
    fits = fitting.fit_shard(counts, design, np.ones(GENES, bool), "nb", "cells", 1, None)
    at_zero = np.flatnonzero((fits.status == Status.BOUNDARY) & (fits.variance[:, 0] == 0))
    assert len(at_zero) > 5
    for g in at_zero:
        agrees(design, counts, fits, g)


def test_poisson_cells():
    design, counts = experiment(8, 0.0)
    design = replace(design, terms=())
    fits = fitting.fit_shard(counts, design, np.ones(GENES, bool), "poisson", "cells", 1, None)
    for g in range(GENES):
        agrees(design, counts, fits, g)


@pytest.fixture(scope="module")
def sums():
    """One row a donor: sums of its cells, and the fit of their dispersion."""
    design, cells = experiment(14, 0.4)
    P = len(design.X)
    Y = np.zeros((P, GENES))
    for g in range(GENES):
        chosen = slice(cells.start[g], cells.start[g + 1])
        np.add.at(Y[:, g], design.pattern[cells.rows[chosen]], cells.values[chosen])
    label = np.array(design.donor.levels)[design.donor.codes]
    size = np.bincount(design.pattern, np.exp(design.log_size))
    summed, order = designs.build(label, design.X, design.coefficients, {}, size)
    counts = designs.counts(Y[order], cells.genes)
    return summed, counts, fitting.fit_shard(counts, summed, np.ones(GENES, bool), "nb", "samples", 1, None)


def test_pseudobulk(sums):
    design, counts, fits = sums
    for g in range(GENES):
        agrees(design, counts, fits, g)


def test_pseudobulk_is_stationary_for_the_discrete_model(sums):
    # A second implementation there, with its own likelihood and its own score.
    design, counts, fits = sums
    for g in range(GENES):
        cells = designs.cells(design, counts, g)
        phi = fits.variance[g, 0]
        if phi == 0:
            continue
        # With the dispersion itself as parameter: NegativeBinomial takes its log until it is fitted.
        model = sm.NegativeBinomialP(cells.y, cells.X, offset=cells.log_size)
        score = model.score(np.append(fits.beta[g], phi))[: len(fits.beta[g])]
        assert np.abs(score * fits.std_error[g]).max() < 1e-6
        theirs = glm(cells.y, cells.X, cells.log_size, phi)
        assert model.loglike(np.append(fits.beta[g], phi)) == pytest.approx(theirs.llf, abs=1e-6)


def test_adjusted_pvalues_of_the_tables():
    rng = np.random.default_rng(44)
    groups = np.repeat(["B cells", "T cells", "NK cells"], (50, 120, 1))
    pvalue = np.concatenate([rng.random(50) ** 3, np.round(rng.random(120), 2), [0.04]])
    pvalue[[3, 77]] = np.nan
    table = pd.DataFrame({"cell_type": groups, "method": "glmm", "pvalue": pvalue})
    found, expected = tables.adjusted(table, ["cell_type", "method"]), np.full(len(table), np.nan)
    for name in np.unique(groups):
        tested = (groups == name) & np.isfinite(pvalue)
        expected[tested] = multipletests(pvalue[tested], method="fdr_bh")[1]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    tested = np.isfinite(pvalue)
    expected[tested] = multipletests(pvalue[tested], method="fdr_bh")[1]
    np.testing.assert_allclose(tables.adjusted(table, ["method"]), expected, rtol=1e-13)
