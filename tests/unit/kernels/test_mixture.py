"""The pieces of the mixed test against numpy, scipy and the twins."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

# The module itself: its functions test_genes and test_contrast are not tests.
from mlmgen.kernels import mixture
from tests.reference import moderation

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1)), min_size=1, max_size=70)


@given(WEIGHTS)
def test_points_are_visited_by_falling_weight(weights):
    weights = np.array(weights)
    order = np.full(len(weights), -1)
    count = mixture.order_points(weights, order)
    assert sorted(order) == list(range(len(weights)))
    assert count == (weights > 0).sum()
    assert order.tolist() == np.argsort(-weights, kind="stable").tolist()


def components(seed: int, n: int):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(n))
    return weights, rng.normal(1, 2, n), rng.uniform(0.1, 3, n)


@pytest.mark.parametrize("n", [1, 2, 24])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_summary_of_a_mixture(n, scale):
    # Weights need not sum to one: p-values stop before the last points.
    for seed in range(10):
        weights, mean, sd = components(seed, n)
        out = np.empty(4)
        mixture.summarize(mean, sd**2, scale * weights, n, out)
        assert out[:2] == pytest.approx(moderation.mixture_moments(weights, mean, sd), rel=1e-10)
        assert out[2:] == pytest.approx(moderation.mixture_interval(weights, mean, sd), abs=1e-6)
        assert stats.norm.cdf(out[2:, None], mean, sd) @ weights == pytest.approx([0.025, 0.975], abs=1e-7)


def test_one_component_is_normal():
    out = np.empty(4)
    mixture.summarize(np.array([0.7]), np.array([0.04]), np.array([1.0]), 1, out)
    assert out == pytest.approx([0.7, 0.2, *stats.norm.interval(0.95, 0.7, 0.2)], abs=1e-8)


def test_points_without_weight_do_not_count():
    out, same = np.empty(4), np.empty(4)
    weights, mean, sd = components(1, 3)
    mixture.summarize(mean, sd**2, weights, 3, out)
    padded = [np.insert(x, 1, extra) for x, extra in ((mean, 1e6), (sd**2, 1e6), (weights, 0.0))]
    mixture.summarize(*padded, 4, same)
    assert same == pytest.approx(out, abs=1e-7)


@pytest.mark.parametrize("q", [1e-6, 0.01, 0.3, 0.5, 0.9])
def test_distribution_function_and_quantile(q):
    weights, mean, sd = components(3, 5)
    found = mixture.mixture_quantile(q, mean, sd**2, weights, 5, 0.0, 5.0)
    cdf, density = mixture.mixture_cdf(found, mean, sd**2, weights, 5)
    assert cdf == pytest.approx(stats.norm.cdf(found, mean, sd) @ weights, abs=1e-14)
    assert density == pytest.approx(stats.norm.pdf(found, mean, sd) @ weights, rel=1e-12)
    assert cdf == pytest.approx(q, abs=2e-8)


def test_quantile_where_newton_goes_in_circles():
    mean, sd = np.array([-0.05, 2.05, 2.61, -1.89, 3.03]), np.array([2.37, 2.55, 1.71, 2.83, 0.15])
    weights = np.array([0.42, 0.26, 0.05, 0.01, 0.26])
    found = mixture.mixture_quantile(0.75, mean, sd**2, weights, 5, 0.0, 5.0)
    assert stats.norm.cdf(found, mean, sd) @ weights == pytest.approx(0.75, abs=2e-8)


def test_quantile_of_a_mixture_with_a_gap():
    # The density between the two is nothing: Newton's steps alone would run away.
    weights, mean, sd = np.array([0.5, 0.5]), np.array([-10.0, 10.0]), np.array([0.1, 0.1])
    out = np.empty(4)
    mixture.summarize(mean, sd**2, weights, 2, out)
    assert out[2:] == pytest.approx(moderation.mixture_interval(weights, mean, sd), abs=1e-5)


@given(st.floats(0, 100), st.floats(-50, 50), st.floats(-6, 6))
def test_corrected_root_is_the_twins(ratio, estimate, change):
    r, u = np.sqrt(ratio), estimate * np.exp(change / 2)
    assume(abs(r - moderation.SMALL_R) > 1e-9)
    assume(r == 0 or u == 0 or abs(abs(np.log(abs(u) / r)) - moderation.LARGE_CORRECTION) > 1e-9)
    found = mixture.corrected_root(ratio, estimate, change)
    assert found == pytest.approx(moderation.r_star(r, u), abs=1e-9)


def test_corrected_root_by_hand():
    # r = 2, u = 2 e^0.4: 2 + 0.4 / 2. Rounding below zero counts as zero, a missing determinant as no correction.
    assert mixture.corrected_root(4.0, -2.0, 0.8) == pytest.approx(2.2)
    assert mixture.corrected_root(-1e-12, 0.0, 0.0) == 0
    assert mixture.corrected_root(4.0, 2.0, np.nan) == 2
