"""Adaptive shrinkage against a direct EM, closed forms and what it must not change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlmgen import fdr, shrinkage
from tests.reference.shrinkage import expected_effects, mixture

finite = st.floats(-5.0, 5.0)


def genes(G: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True effects of a tenth of the genes, estimates and standard errors."""
    rng = np.random.default_rng(seed)
    truth = np.where(rng.uniform(size=G) < 0.1, rng.normal(0.0, 1.0, G), 0.0)
    error = rng.lognormal(-1.0, 0.5, G)
    return truth, truth + error * rng.normal(size=G), error


def test_the_twin_agrees(monkeypatch):
    monkeypatch.setattr(shrinkage, "TOLERANCE", 1e-9)
    monkeypatch.setattr(shrinkage, "MOST_ROUNDS", 20000)
    _, estimate, error = genes(80, 1)
    sds = shrinkage.mixture_sds(estimate, error)
    weight = shrinkage.mixture_weights(shrinkage.log_likelihoods(estimate, error, sds))
    expected = mixture(estimate, error, sds, shrinkage.NULL_GENES)
    assert weight.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(weight, expected, atol=1e-4)
    found = shrinkage.shrink(estimate, error, estimate / error)
    np.testing.assert_allclose(found, expected_effects(estimate, error, sds, expected), atol=2e-4)


def test_few_genes_take_the_fixed_alternative():
    estimate, error = np.array([1.0, -0.2, 0.0]), np.array([0.5, 0.1, 0.3])
    found = shrinkage.shrink(estimate, error, np.where(estimate == 0, 0.0, estimate / error))
    densities = [0.95 * stats.norm.pdf(1.0, 0, 0.5)]
    densities += [0.025 * stats.norm.pdf(1.0, 0, np.hypot(0.5, sd)) for sd in (0.4, 0.8)]
    kept = np.array([0.0, 0.16 / 0.41, 0.64 / 0.89])
    assert found[0] == pytest.approx(np.dot(densities, kept) / np.sum(densities))
    assert found[2] == 0.0
    assert (fdr.NULL_SHARE, *fdr.EFFECT_SHARES) == (0.95, 0.025, 0.025)


def test_shrunken_effects_are_nearer_to_the_truth():
    truth, estimate, error = genes(2000, 2)
    found = shrinkage.shrink(estimate, error, estimate / error)
    assert np.mean((found - truth) ** 2) < 0.3 * np.mean((estimate - truth) ** 2)
    assert np.abs(found[np.abs(estimate / error) < 1.0]).max() < 0.3


def test_without_effects_everything_is_near_zero():
    rng = np.random.default_rng(3)
    error = rng.lognormal(-1.0, 0.5, 2000)
    estimate = error * rng.normal(size=2000)
    found = shrinkage.shrink(estimate, error, estimate / error)
    assert np.sqrt(np.mean(found**2)) < 0.15 * np.sqrt(np.mean(estimate**2))


@pytest.mark.parametrize("G", [20, 120])
@given(seed=st.integers(0, 10**6))
def test_effects_keep_their_sign_and_never_grow(G, seed):
    _, estimate, error = genes(G, seed)
    found = shrinkage.shrink(estimate, error, estimate / error)
    assert (found * estimate >= 0.0).all()
    assert (np.abs(found) <= np.abs(estimate)).all()
    np.testing.assert_allclose(shrinkage.shrink(-estimate, error, -estimate / error), -found)
    order = np.random.default_rng(seed).permutation(G)
    shuffled = shrinkage.shrink(estimate[order], error[order], (estimate / error)[order])
    np.testing.assert_allclose(shuffled, found[order], rtol=1e-8, atol=1e-12)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10.0))
def test_units_do_not_matter_where_the_mixture_is_learned(seed, scale):
    _, estimate, error = genes(60, seed)
    found = shrinkage.shrink(estimate, error, estimate / error)
    np.testing.assert_allclose(
        shrinkage.shrink(scale * estimate, scale * error, estimate / error), scale * found, rtol=1e-6, atol=1e-9
    )


def test_errors_are_those_that_the_p_values_imply():
    error = shrinkage.implied_errors(np.array([2.0, -1.0, 0.5, 0.0]), np.full(4, 0.3), np.array([4.0, -0.5, 0.05, 0.0]))
    np.testing.assert_allclose(error, [0.5, 2.0, 0.3, 0.3])


def test_missing_numbers_stay_missing():
    estimate, error = np.array([1.0, np.nan, 1.0]), np.array([0.5, 0.5, np.nan])
    found = shrinkage.shrink(estimate, error, np.array([2.0, 1.0, np.nan]))
    assert np.isfinite(found).tolist() == [True, False, False]
    assert np.isnan(shrinkage.shrink(np.full(3, np.nan), error, error)).all()
    assert shrinkage.shrink(np.empty(0), np.empty(0), np.empty(0)).shape == (0,)


def test_extreme_effects_do_not_overflow():
    estimate = np.r_[np.linspace(-1, 1, 60), 300.0]
    found = shrinkage.shrink(estimate, np.full(61, 0.1), estimate / 0.1)
    assert np.isfinite(found).all()
    assert found[-1] > 290.0
