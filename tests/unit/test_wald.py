"""Wald tests: tails, degrees of freedom, joint tests."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from mlmgen import fitting, inference, moderate, simulate, wald
from mlmgen.types import Contrast
from tests.reference import designs


def one_way(donors_per_arm: int = 5, rows: int = 6, seed: int = 3):
    """A balanced gaussian random-intercept data set: two arms of donors."""
    rng = np.random.default_rng(seed)
    n = 2 * donors_per_arm * rows
    donor = np.repeat([f"D{i:02d}" for i in range(2 * donors_per_arm)], rows)
    arm = np.repeat([0.0, 1.0], n // 2)
    X = np.column_stack([np.ones(n), arm])
    design, order = designs.build(donor, X, ["(Intercept)", "arm"], {"donor": donor}, np.ones(n))
    y = 2.0 + 0.4 * arm + np.repeat(rng.normal(size=2 * donors_per_arm), rows) + rng.normal(size=n)
    return design, y[order], designs.counts(y[order, None], ["y"])


def effect(*rows) -> Contrast:
    return Contrast("c", "", np.array(rows, dtype=float))


@pytest.mark.parametrize("df", [1.0, 2.5, 7.0, 40.0, 3000.0])
@pytest.mark.parametrize("r", [1.0, 2.0, 5.0])
def test_tail_of_f_is_scipys(df, r):
    F = np.array([0.0, 1e-3, 0.7, 4.0, 30.0, 1e3])
    expected = stats.f.logsf(F, r, df)
    fits = np.isfinite(expected) & (expected > -600)
    assert wald.log_f_tail(F, r, np.full(6, df))[fits] == pytest.approx(expected[fits], rel=1e-9, abs=1e-12)


def test_tail_of_f_goes_on_where_the_incomplete_beta_function_is_zero():
    # P(t_df > t) ~ const t^-df: the log falls by df log 2 when t doubles.
    t = 10.0 ** np.arange(8, 12)
    log_p = wald.log_f_tail(t**2, 1.0, np.full(4, 60.0))
    assert (log_p < -745).all()
    assert np.diff(log_p) == pytest.approx(np.full(3, -60.0 * np.log(10.0)), rel=1e-9)


def test_balanced_donor_means_are_a_t_test():
    design, y, counts = one_way()
    fits = fitting.fit_shard(counts, design, np.ones(1, bool), "gaussian", grid=False)
    found = inference.test(counts, design, fits, None, (effect([0, 1]),), "gaussian")
    means = y.reshape(10, 6).mean(axis=1)
    expected = stats.ttest_ind(means[5:], means[:5])
    assert found.df[0, 0] == pytest.approx(8.0, abs=0.02)
    assert np.exp(found.log_pvalue[0, 0]) == pytest.approx(expected.pvalue, rel=2e-3)
    assert found.estimate[0, 0] == pytest.approx(means[5:].mean() - means[:5].mean(), abs=1e-8)
    low, high = expected.confidence_interval(0.95)
    assert [found.ci_low[0, 0], found.ci_high[0, 0]] == pytest.approx([low, high], abs=2e-3)


def test_degrees_of_freedom_never_exceed_the_replicates():
    # Without donor variance Satterthwaite's formula sees only the rows.
    design, _, _ = one_way()
    flat = np.random.default_rng(8).normal(size=60)
    flat -= np.repeat(flat.reshape(10, 6).mean(axis=1), 6)
    counts = designs.counts(flat[:, None], ["y"])
    fits = fitting.fit_shard(counts, design, np.ones(1, bool), "gaussian", grid=False)
    assert fits.variance[0, 0] == 0
    found = inference.test(counts, design, fits, None, (effect([0, 1]), effect([1, 0])), "gaussian")
    assert (found.df == 8.0).all()


@pytest.fixture(scope="module")
def three_arms():
    """Counts of 30 genes in three arms of four donors, fitted on the grid and without it."""
    rng = np.random.default_rng(5)
    donor = np.repeat([f"D{i:02d}" for i in range(12)], 30)
    arm = np.repeat(np.arange(3), 120)
    X = np.column_stack([np.ones(360), arm == 1, arm == 2]).astype(float)
    design, _ = designs.build(donor, X, ["(Intercept)", "b", "c"], {"donor": donor}, np.ones(360))
    beta = np.column_stack([np.zeros(30), np.linspace(0, 1.5, 30), np.zeros(30)])
    counts = simulate.counts(design, beta, np.full((30, 1), 0.3), np.full(30, 0.3), rng)
    keep = np.ones(30, bool)
    with_grid = fitting.fit_shard(counts, design, keep)
    moderated = moderate.moderate(
        with_grid, np.log(np.bincount(np.repeat(np.arange(30), np.diff(counts.start)), counts.values))
    )
    return design, counts, with_grid, moderated, fitting.fit_shard(counts, design, keep, grid=False)


ROWS = ([0, 1, 0], [0, 0, 1])


def joint(three_arms, rows, grid: bool):
    design, counts, with_grid, moderated, plain = three_arms
    fits = with_grid if grid else plain
    return inference.test(counts, design, fits, moderated if grid else None, (effect(*rows),))


@pytest.mark.parametrize("grid", [True, False])
def test_joint_tests_do_not_depend_on_how_the_rows_are_written(three_arms, grid):
    one = joint(three_arms, ROWS, grid)
    other = joint(three_arms, ([0, 2, 0], [0, 1, -1]), grid)
    assert other.log_pvalue == pytest.approx(one.log_pvalue, rel=2e-4, abs=1e-5)
    assert np.isnan(one.estimate).all()
    assert np.isnan(one.ci_low).all()
    assert (one.statistic >= 0).all()


@pytest.mark.parametrize("grid", [True, False])
def test_joint_tests_find_the_larger_effects(three_arms, grid):
    p = np.exp(joint(three_arms, ROWS, grid).log_pvalue[:, 0])
    assert np.median(p[:6]) > 0.05
    assert np.median(p[-6:]) < 0.01


def test_joint_statistic_is_the_chi_square_quantile(three_arms):
    found = joint(three_arms, ROWS, True)
    assert stats.chi2.logsf(found.statistic, 2) == pytest.approx(found.log_pvalue, rel=1e-8, abs=1e-9)


def test_single_and_joint_tests_stand_beside_each_other(three_arms):
    design, counts, with_grid, moderated, _ = three_arms
    contrasts = (effect(ROWS[0]), effect(*ROWS), effect(ROWS[1]))
    together = inference.test(counts, design, with_grid, moderated, contrasts)
    for c, contrast in enumerate(contrasts):
        alone = inference.test(counts, design, with_grid, moderated, (contrast,))
        # The fits start from each other's solutions, so that they agree to their tolerance.
        assert together.log_pvalue[:, c] == pytest.approx(alone.log_pvalue[:, 0], rel=1e-3, abs=1e-4)
        assert together.estimate[:, c] == pytest.approx(alone.estimate[:, 0], abs=1e-4, nan_ok=True)


def test_joint_test_of_a_moderated_fit_mixes_chi_square_tails(three_arms):
    # With all weight on one grid point p is the chi-square tail of the likelihood ratio of the two ML fits there.
    design, counts, with_grid, moderated, _ = three_arms
    from tests.reference import laplace

    gene = 12
    point = int(np.argmax(moderated.weights[gene]))
    weights = np.zeros_like(moderated.weights)
    weights[:, point] = 1.0
    found = inference.test(counts, design, with_grid, dataclasses.replace(moderated, weights=weights), (effect(*ROWS),))
    donor = with_grid.components.index("donor")
    axis = np.linspace(with_grid.grid_low[gene, donor], with_grid.grid_high[gene, donor], with_grid.grid_shape[donor])
    sd, phi = [np.sqrt(np.exp(axis[point]))], with_grid.variance[gene, with_grid.components.index("dispersion")]
    cells = designs.cells(design, counts, gene)
    full = laplace.maximize_ml(cells, sd, phi)[1]
    null = laplace.maximize_ml(cells._replace(X=cells.X[:, :1]), sd, phi)[1]
    assert found.log_pvalue[gene, 0] == pytest.approx(stats.chi2.logsf(2 * (full - null), 2), abs=2e-3)


@pytest.mark.parametrize("grid", [True, False])
def test_genes_without_a_fit_have_no_numbers(grid):
    design, _, counts = one_way()
    contrasts = (effect([0, 1]), effect([1, 0], [0, 1]))
    fits = fitting.fit_shard(counts, design, np.zeros(1, bool), "gaussian", grid=grid)
    found = inference.test(counts, design, fits, moderate.moderate(fits, np.zeros(1)), contrasts, "gaussian")
    for name in ("estimate", "std_error", "log_pvalue", "statistic", "df"):
        assert np.isnan(getattr(found, name)).all(), name


def test_degrees_of_freedom_of_a_runaway_variance_are_the_most_possible():
    assert wald.satterthwaite(np.array([1.4e73]), np.zeros((1, 4)), 12.0) == 12.0
    assert wald.satterthwaite(np.array([1.4e173]), np.full((1, 1), 1.4e173), 12.0) == 2.0
