"""Intervals of variances that have no prior, with and without a variance grid."""

import dataclasses

import numpy as np
import pytest

from mlmgen import moderate
from mlmgen.status import Status
from mlmgen.types import GeneFits
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
        "grid_loglik": loglik,
    }
    return estimates(("donor", "dispersion"), variance, se, status=status, **grid)


def test_a_component_beside_the_grid_has_the_interval_of_its_standard_error(on_grid):
    moderated = moderate.moderate(on_grid, np.zeros(len(on_grid.genes)))
    z = 1.959963984540054
    np.testing.assert_allclose(moderated.ci_low[:-1, 1], 0.5 * np.exp(-z * 0.2))
    np.testing.assert_allclose(moderated.ci_high[:-1, 1], 0.5 * np.exp(z * 0.2))
    np.testing.assert_array_equal(moderated.variance[:, 1], on_grid.variance[:, 1])
    assert np.isnan(moderated.ci_low[-1]).all()
    assert np.isnan(moderated.prior[1]).all()


def test_a_component_on_the_grid_has_its_posterior_interval(on_grid):
    moderated = moderate.moderate(on_grid, np.zeros(len(on_grid.genes)))
    wald = moderate.intervals(on_grid)
    assert (moderated.ci_low[:-1, 0] != wald[0][:-1, 0]).all()
    assert (moderated.ci_low[:-1, 0] < moderated.variance[:-1, 0]).all()
    assert (moderated.variance[:-1, 0] < moderated.ci_high[:-1, 0]).all()


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        (("donor", "donor:condition", "dispersion"), []),
        (SLOPES, [2]),
        (("a: x", "a: y", "a: z", "a: x, y", "a: x, z", "a: y, z", "b: x", "b: y"), [3, 4, 5]),
        (("a: (Intercept)", "a: bs(t, df=2)[1]", "a: (Intercept), bs(t, df=2)[1]", "residual"), [2]),
        (("a: (Intercept)", "a: arm[T.b: c]", "a: (Intercept), arm[T.b: c]"), [2]),
        ((), []),
    ],
)
def test_covariances_are_known_by_their_names(components, expected):
    assert moderate.covariances(components) == expected
