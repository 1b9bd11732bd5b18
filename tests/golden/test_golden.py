"""mlmgen against glmmTMB on small simulated sets; README.md names programs, versions and calls."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlmgen import fitting, inference, moderate
from mlmgen.types import Contrast
from tests.golden import agreement
from tests.golden.make_golden import design_of
from tests.reference import designs, laplace

HERE = Path(__file__).parent
# set, random terms, age in the formula, family, level
SETS = {
    "unpaired-nb": ("cells_unpaired", ["donor"], True, "nb", "cells"),
    "unpaired-poisson": ("cells_unpaired", ["donor"], True, "poisson", "cells"),
    "paired-nb": ("cells_paired", ["donor", "sample"], False, "nb", "cells"),
    "paired-poisson": ("cells_paired", ["donor", "sample"], False, "poisson", "cells"),
    "samples-unpaired": ("samples_unpaired", [], True, "nb", "samples"),
    "samples-paired": ("samples_paired", ["donor"], False, "nb", "samples"),
}
FAMILIES = {"nb": "nbinom2", "poisson": "poisson"}


def read(name, terms, age):
    obs = pd.read_csv(HERE / "inputs" / f"{name}_obs.csv")
    Y = pd.read_csv(HERE / "inputs" / f"{name}_counts.csv")
    design, order = design_of(obs, terms, age)
    return design, designs.counts(Y.to_numpy()[order], Y.columns)


@pytest.fixture(scope="module", params=list(SETS))
def fitted(request):
    name, terms, age, family, level = SETS[request.param]
    design, counts = read(name, terms, age)
    fits = fitting.fit_shard(counts, design, np.ones(len(counts.genes), bool), family, level, 1, None)
    table = pd.read_csv(HERE / "expected" / f"{name}__glmmTMB__{FAMILIES[family]}__REML.csv")
    return design, counts, fits, agreement.expected(table), family


def test_agrees_with_glmmtmb(fitted, record_property):
    design, counts, fits, golden, _ = fitted
    verdict = agreement.compare(fits, design, counts, golden)
    record_property("better", verdict.better)
    print("optimum better than glmmTMB's:", verdict.better)
    assert not verdict.wrong
    # glmmTMB stops at variance 0 on one or two genes of a set; more would hide a fault.
    assert len(verdict.compared) >= 9
    assert len(verdict.better) <= 2


def test_loglik_is_the_twins_at_the_same_variances(fitted):
    design, counts, fits, _, _ = fitted
    own = [agreement.own_loglik(design, counts, fits, g) for g in range(len(fits.genes))]
    assert fits.loglik == pytest.approx(own, abs=1e-5)


def test_standard_errors_condition_on_the_variances(fitted):
    design, counts, fits, _, _ = fitted
    for g in range(len(fits.genes)):
        cells = designs.cells(design, counts, g)
        covariance = laplace.covariance(cells, *agreement.deviations(design, fits, fits.variance[g]))
        assert fits.std_error[g] == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-5)


def test_variance_pvalues_are_the_boundary_likelihood_ratio(fitted):
    design, counts, fits, _, family = fitted
    for g in (0, 1, 6):
        cells = designs.cells(design, counts, g)
        full = laplace.fit_reml(cells, family).loglik
        for v, name in enumerate(fits.components):
            hold = [0.0 if term.name == name else None for term in design.terms]
            without = laplace.fit_reml(cells, "poisson" if name == "dispersion" else family, hold).loglik
            ratio = max(2 * (full - without), 0.0)
            # Near a ratio of 0 the p-value is 1 or 1/2 by a hair; the fit without the variance may stop 1 % of p early.
            if ratio > 1e-4:
                assert fits.variance_pvalue[g, v] == pytest.approx(stats.chi2.sf(ratio, 1) / 2, rel=2e-2)
            else:
                assert fits.variance_pvalue[g, v] > 0.49


def test_grid_holds_the_twins_likelihoods(fitted):
    design, counts, fits, _, _ = fitted
    for g in (1, 2, 6):
        cells = designs.cells(design, counts, g)
        points = agreement.grid_variances(fits, g)
        assert len(points) == fits.grid_loglik.shape[1]
        for k in np.linspace(0, len(points) - 1, 5).astype(int):
            expected = laplace.laplace_reml(cells, *agreement.deviations(design, fits, points[k]))
            assert fits.grid_loglik[g, k] == pytest.approx(expected, abs=5e-3)


def test_pseudobulk_ranks_genes_as_edger_and_limma_do():
    design, counts = read("samples_many", [], False)
    theirs = pd.read_csv(HERE / "expected" / "samples_many__edgeR_limma.csv")
    assert list(theirs.gene) == list(counts.genes)
    fits = fitting.fit_shard(counts, design, np.ones(len(counts.genes), bool), "nb", "samples", 1, None)
    totals = np.array([counts.values[a:b].sum() for a, b in zip(counts.start[:-1], counts.start[1:], strict=True)])
    moderated = moderate.moderate(fits, np.log(totals))
    contrast = Contrast("stim", "condition[T.stim]", np.array([[0.0, 1.0]]))
    effects = inference.test(counts, design, fits, moderated, (contrast,), "nb", "samples", 1, None)
    log_pvalue = effects.log_pvalue[:, 0]
    for program in ("edger", "limma"):
        other = np.log(theirs[f"{program}_pvalue"].to_numpy())
        assert stats.spearmanr(log_pvalue, other).statistic > 0.97
        # The same evidence on the whole, not only the same order.
        assert np.median(log_pvalue - other) == pytest.approx(0, abs=0.15)
        log2fc = theirs[f"{program}_log2fc"].to_numpy()
        assert np.median(np.abs(effects.estimate[:, 0] / np.log(2) - log2fc)) < 0.05
