"""Intervals of variances that have no prior, with and without a variance grid."""

import dataclasses

import numpy as np
import pytest

from mlmgen import moderate
from mlmgen.status import Status
from mlmgen.types import GeneFits
from mlmgen.variance_prior import Hyper
from tests.unit.notebook.fitted_cases import fits

SLOPES = ("donor: (Intercept)", "donor: age", "donor: (Intercept), age", "residual")


def estimates(components, variance, se, **more) -> GeneFits:
    """Genes with one coefficient."""
    genes = tuple(f"g{i}" for i in range(len(variance)))
    made = fits(genes, ["(Intercept)"], components, np.zeros((len(genes), 1)), variance, np.zeros(len(genes)))
    return dataclasses.replace(made, variance_se=np.asarray(se, dtype=float), **more)


def test_without_a_grid_variances_stay_with_the_intervals_of_their_standard_errors():
    found = estimates(
        SLOPES, [[0.5, 0.2, -0.1, 2.0], [0.0, 0.3, 0.0, 1.0]], [[0.4, 0.1, 0.05, 0.2], [np.nan, 0.1, np.nan, 0.2]]
    )
    moderated = moderate.moderate(found, np.zeros(2))
    assert moderated.weights.shape == (2, 0)
    np.testing.assert_array_equal(moderated.variance, found.variance)
    z = 1.959963984540054
    low = [0.5 * np.exp(-z * 0.4), 0.2 * np.exp(-z * 0.1), -0.1 - z * 0.05, 2.0 * np.exp(-z * 0.2)]
    high = [0.5 * np.exp(z * 0.4), 0.2 * np.exp(z * 0.1), -0.1 + z * 0.05, 2.0 * np.exp(z * 0.2)]
    np.testing.assert_allclose(moderated.ci_low[0], low)
    np.testing.assert_allclose(moderated.ci_high[0], high)
    assert (
        np.isnan(moderated.ci_low[1]).tolist() == np.isnan(moderated.ci_high[1]).tolist() == [True, False, True, False]
    )
    assert np.isnan(moderated.prior).all()


def test_a_hopeless_variance_has_an_interval_from_zero_to_infinity():
    moderated = moderate.moderate(estimates(("donor",), [[0.1]], [[1e4]]), np.zeros(1))
    assert (moderated.ci_low[0, 0], moderated.ci_high[0, 0]) == (0.0, np.inf)


@pytest.fixture
def on_grid() -> GeneFits:
    """Genes with a donor variance on a grid and a dispersion beside it; the last one is filtered."""
    G, K = 40, 24
    rng = np.random.default_rng(3)
    center = rng.normal(-2.0, 0.5, (G, 1))
    points = np.linspace(-7.0, 2.0, K)
    status = np.zeros(G, dtype=np.int8)
    status[-1] = Status.FILTERED
    variance = np.column_stack([np.exp(center[:, 0]), np.full(G, 0.5)])
    se = np.column_stack([np.full(G, 0.3), np.full(G, 0.2)])
    loglik = -0.5 * ((points - center) / 0.6) ** 2
    for values in (variance, se, loglik):
        values[-1] = np.nan
    grid = {
        "grid_shape": np.array([K, 1]),
        "grid_low": np.tile([-7.0, np.nan], (G, 1)),
        "grid_high": np.tile([2.0, np.nan], (G, 1)),
        "grid_unit": np.zeros((G, 2)),
        "grid_loglik": loglik,
    }
    return estimates(("donor", "dispersion"), variance, se, status=status, **grid)


def test_a_component_beside_the_grid_has_the_interval_of_its_standard_error(on_grid):
    moderated = moderate.moderate(on_grid, np.zeros(len(on_grid.genes)))
    rho, z = 2 * np.arcsinh(0.5), 1.959963984540054
    np.testing.assert_allclose(moderated.ci_low[:-1, 1], 2 * np.sinh((rho - z * 0.2) / 2) ** 2)
    np.testing.assert_allclose(moderated.ci_high[:-1, 1], 2 * np.sinh((rho + z * 0.2) / 2) ** 2)
    np.testing.assert_array_equal(moderated.variance[:, 1], on_grid.variance[:, 1])
    assert np.isnan(moderated.ci_low[-1]).all()
    assert np.isnan(moderated.prior[1]).all()


def test_a_component_on_the_grid_has_its_posterior_interval(on_grid):
    moderated = moderate.moderate(on_grid, np.zeros(len(on_grid.genes)))
    wald = moderate.intervals(on_grid)
    assert (moderated.ci_low[:-1, 0] != wald[0][:-1, 0]).all()
    assert (moderated.ci_low[:-1, 0] < moderated.variance[:-1, 0]).all()
    assert (moderated.variance[:-1, 0] < moderated.ci_high[:-1, 0]).all()


def test_an_interval_of_the_dispersion_ends_at_zero():
    low, high = moderate.intervals(estimates(("dispersion",), [[0.5], [0.0]], [[2.0], [np.nan]]))
    assert (low[0, 0], np.isnan(low[1, 0])) == (0.0, True)
    assert high[0, 0] > 0.5


def test_few_genes_have_no_prior(on_grid):
    few = {"status": on_grid.status.copy(), "grid_loglik": on_grid.grid_loglik.copy()}
    few["grid_loglik"][moderate.FEW_GENES - 1 :] = np.nan
    moderated = moderate.moderate(dataclasses.replace(on_grid, **few), np.zeros(len(on_grid.genes)))
    assert moderated.weights.shape == (len(on_grid.genes), 0)
    np.testing.assert_array_equal(moderated.variance, on_grid.variance)
    assert np.isnan(moderated.prior).all()


def two_axes(G=5) -> GeneFits:
    """Genes with a quadratic log-likelihood in two correlated log variances, on grids of 7 x 9 points."""
    rng = np.random.default_rng(7)
    center = rng.normal(-3.0, 0.7, (G, 2))
    low, high = center - 4.0, center + 3.0
    x, y = (moderate.grid_points(low[:, a], high[:, a], n) for a, n in enumerate((7, 9)))
    loglik = quadratic(x[:, :, None] - center[:, :1, None], y[:, None, :] - center[:, 1:, None])
    grid = {"grid_shape": np.array([7, 9]), "grid_low": low, "grid_high": high, "grid_loglik": loglik.reshape(G, -1)}
    return estimates(("donor", "sample"), np.exp(center), np.full((G, 2), 0.3), **grid)


def quadratic(x, y):
    return -0.35 * (x**2 + 0.6 * x * y + y**2)


def test_the_posterior_on_two_axes_is_that_of_a_fine_grid():
    # Twin: the same prior and likelihood on 1,401 x 1,401 points.
    found, prior = two_axes(), Hyper(*(np.array([x]) for x in (-2.5, 0.0, 0.8, 1.0)))
    posterior = moderate.posterior(found, {0: prior, 1: prior}, np.zeros(5))
    np.testing.assert_allclose(posterior.weights.sum(axis=1), 1.0)
    for g in range(5):
        x, y = (np.linspace(found.grid_low[g, a], found.grid_high[g, a], 1401) for a in range(2))
        center = np.log(found.variance[g])
        logs = quadratic((x - center[0])[:, None], y - center[1])
        logs = logs - 0.5 * ((x[:, None] + 2.5) ** 2 + (y + 2.5) ** 2) / 0.64
        mass = np.exp(logs - logs.max())
        mass = mass.sum(axis=1) / mass.sum()
        assert posterior.variance[g, 0] == pytest.approx((mass * np.exp(x)).sum(), rel=0.01)
        ends = np.interp([0.025, 0.975], np.cumsum(mass), x)
        np.testing.assert_allclose(np.log([posterior.ci_low[g, 0], posterior.ci_high[g, 0]]), ends, atol=0.05)
        coarse = moderate.grid_points(found.grid_low[g : g + 1, 0], found.grid_high[g : g + 1, 0], 7)[0]
        weights = posterior.weights[g].reshape(7, 9).sum(axis=1)
        for curve in (lambda t: t, lambda t: t**2, np.exp):
            assert weights @ curve(coarse) == pytest.approx((mass * curve(x)).sum(), rel=0.01)


def test_where_an_axis_is_a_whole_term_its_variances_stay_in_proportion():
    found = two_axes()
    names = ("donor: (Intercept)", "donor: age", "donor: (Intercept), age", "sample")
    center = found.variance
    variance = np.column_stack([center[:, 0], 0.5 * center[:, 0], 0.2 * center[:, 0], center[:, 1]])
    variance[4, 0] = 0.0
    wide = {
        "grid_shape": np.array([7, 1, 1, 9]),
        "grid_low": np.insert(found.grid_low, [1, 1], np.nan, axis=1),
        "grid_high": np.insert(found.grid_high, [1, 1], np.nan, axis=1),
        "grid_unit": np.zeros((5, 4)),
        "grid_loglik": found.grid_loglik,
    }
    prior = Hyper(*(np.array([x]) for x in (-2.5, 0.0, 0.8, 1.0)))
    posterior = moderate.posterior(
        estimates(names, variance, np.full((5, 4), 0.3), **wide), {0: prior, 3: prior}, np.zeros(5)
    )
    for part in (posterior.variance, posterior.ci_low, posterior.ci_high):
        np.testing.assert_allclose(part[:4, 1], 0.5 * part[:4, 0])
    np.testing.assert_allclose(posterior.variance[:4, 2], 0.2 * posterior.variance[:4, 0])
    assert posterior.variance[4, 1] == variance[4, 1]


def test_blocks_of_genes_do_not_matter(on_grid, monkeypatch):
    whole = moderate.moderate(on_grid, np.linspace(0, 1, len(on_grid.genes)))
    monkeypatch.setattr(moderate, "BLOCK", 7)
    blocks = moderate.moderate(on_grid, np.linspace(0, 1, len(on_grid.genes)))
    np.testing.assert_allclose(whole.weights, blocks.weights, atol=1e-12)


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        (("donor", "donor:condition", "dispersion"), {}),
        (SLOPES, {2: (0, 1)}),
        (("a: x", "a: y", "a: z", "a: x, y", "a: x, z", "a: y, z", "b: x", "b: y"), {3: (0, 1), 4: (0, 2), 5: (1, 2)}),
        (("a: (Intercept)", "a: bs(t, df=2)[1]", "a: (Intercept), bs(t, df=2)[1]", "residual"), {2: (0, 1)}),
        (("a: (Intercept)", "a: arm[T.b: c]", "a: (Intercept), arm[T.b: c]"), {2: (0, 1)}),
        ((), {}),
    ],
)
def test_covariances_are_known_by_their_names(components, expected):
    assert moderate.covariances(components) == expected
