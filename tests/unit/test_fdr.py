"""Weighted false discovery rates by hand, against their definition, and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from mlmgen import fdr
from tests.reference.multiple_testing import benjamini_hochberg

PVALUES = st.lists(st.one_of(st.just(float("nan")), st.floats(1e-300, 1.0)), min_size=1, max_size=30)


@given(PVALUES)
def test_plain_rates_are_those_of_the_definition(pvalues):
    np.testing.assert_allclose(fdr.adjusted(np.array(pvalues)), benjamini_hochberg(pvalues), rtol=1e-12)


def test_weighted_rates_by_hand():
    # p / w = 0.005, 0.02, 0.8 and 1.2, which is capped: 0.005 x 4, 0.02 x 2, 0.8 x 4 / 3 and 1 are at most 1.
    pvalue, weight = np.array([0.01, 0.02, 0.4, 0.6]), np.array([2.0, 1.0, 0.5, 0.5])
    np.testing.assert_allclose(fdr.adjusted(pvalue, weight), [0.02, 0.04, 1.0, 1.0])
    np.testing.assert_allclose(fdr.threshold(pvalue, weight), 0.05 * 2 / 4 * weight)


@given(PVALUES, st.integers(0, 2**32 - 1))
def test_rates_are_bounded_and_follow_the_weighted_p_values(pvalues, seed):
    pvalue = np.array(pvalues)
    weight = np.random.default_rng(seed).uniform(0.2, 3.0, len(pvalue))
    rate, tested = fdr.adjusted(pvalue, weight), np.isfinite(pvalue)
    assert (np.isnan(rate) == ~tested).all()
    assert ((rate[tested] >= 0) & (rate[tested] <= 1)).all()
    order = np.argsort((pvalue / weight)[tested], kind="stable")
    assert (np.diff(rate[tested][order]) >= 0).all()
    np.testing.assert_array_equal(fdr.adjusted(pvalue[::-1], weight[::-1]), rate[::-1])
    np.testing.assert_allclose(fdr.adjusted(pvalue, np.ones(len(pvalue))), fdr.adjusted(pvalue))


@given(PVALUES, st.integers(0, 2**32 - 1))
def test_a_gene_is_called_where_its_p_value_is_below_its_threshold(pvalues, seed):
    pvalue = np.array(pvalues)
    weight = np.random.default_rng(seed).uniform(0.2, 3.0, len(pvalue))
    called = fdr.adjusted(pvalue, weight) <= fdr.LEVEL
    near = np.abs(pvalue / fdr.threshold(pvalue, weight) - 1.0) < 1e-9
    assert (called == (pvalue <= fdr.threshold(pvalue, weight)))[~near].all()


def simulated(
    G: int, seed: int, share: float, precise=(0.15, 1.5)
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Standard errors that fall with the total count, p-values, totals, and which genes have effects."""
    rng = np.random.default_rng(seed)
    total = rng.lognormal(4.0, 1.5, G)
    error = np.clip(4.0 / np.sqrt(total), 0.15, 1.5) * rng.lognormal(0.0, 0.2, G)
    true = rng.uniform(size=G) < share
    effect = np.where(true, rng.normal(0.0, 0.6, G), 0.0)
    z = effect / error + rng.normal(size=G)
    return error, 2.0 * stats.norm.sf(np.abs(z)), total, true


def test_weights_average_one_and_favour_what_can_be_found():
    error, pvalue, total, _ = simulated(4000, 1, 0.05)
    pvalue[::7] = np.nan
    weight, tested = fdr.weights(error, pvalue, total), np.isfinite(pvalue)
    assert np.isnan(weight[~tested]).all()
    assert weight[tested].mean() == pytest.approx(1.0)
    assert weight[tested].min() >= fdr.KEPT
    by_total = weight[tested][np.argsort(total[tested])]
    assert (np.diff(by_total) > -0.2).all()
    assert by_total[0] < 0.5 < 1.2 < by_total[-1]


def test_weights_do_not_depend_on_the_order_or_on_the_effects():
    error, pvalue, total, _ = simulated(1000, 2, 0.05)
    total = np.round(total / 50)  # ties
    weight, order = fdr.weights(error, pvalue, total), np.random.default_rng(3).permutation(1000)
    np.testing.assert_allclose(fdr.weights(error[order], pvalue[order], total[order]), weight[order], rtol=1e-12)
    np.testing.assert_array_equal(fdr.weights(error, pvalue**2, total), weight)
    np.testing.assert_array_equal(fdr.weights(error, pvalue, 3.0 * total), weight)


def test_tests_without_an_effect_weigh_alike():
    nothing = np.full(30, np.nan)
    pvalue = np.where(np.arange(30) % 3 == 0, np.nan, 0.5)
    np.testing.assert_array_equal(fdr.weights(nothing, pvalue, np.arange(30.0)), np.where(np.isnan(pvalue), np.nan, 1))


def test_the_thresholds_are_the_best_for_the_fixed_alternative():
    """By its definition: equal density ratios at the cuts, and a false discovery rate of the level."""
    error, number = np.array([0.1, 0.3, 1.0]), np.array([50, 30, 20])
    z = stats.norm.isf(np.exp(fdr.log_thresholds(error, number)) / 2.0)

    def under(x, s):
        densities = (stats.norm.pdf(x, 0, np.hypot(1, sd / s)) for sd in fdr.EFFECT_SDS)
        return sum(share * density for share, density in zip(fdr.EFFECT_SHARES, densities, strict=True))

    ratio = [under(x, s) / stats.norm.pdf(x) for x, s in zip(z, error, strict=True)]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
    found = [2 * integrate.quad(under, x, 200, args=(s,), limit=200)[0] for x, s in zip(z, error, strict=True)]
    false = fdr.NULL_SHARE * number @ (2 * stats.norm.sf(z))
    assert false / (false + number @ np.array(found)) == pytest.approx(fdr.LEVEL, rel=1e-6)

    def discoveries(p):
        x = stats.norm.isf(p / 2)
        sds = np.hypot(1, fdr.EFFECT_SDS / error[:, None])
        return number @ (2 * stats.norm.sf(x[:, None] / sds) @ fdr.EFFECT_SHARES)

    best = np.exp(fdr.log_thresholds(error, number))
    for i, j in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)):  # moving false positives from bin to bin finds less
        moved = best.copy()
        step = 0.2 * min(best[i] * number[i], best[j] * number[j])
        moved[i], moved[j] = moved[i] - step / number[i], moved[j] + step / number[j]
        assert discoveries(moved) < discoveries(best)


def test_weighted_rates_hold_and_find_more_where_precision_differs():
    """Of 40 simulated sets the mean false discovery proportion is at most the level, within 3 standard errors."""
    false, found = {"plain": [], "weighted": []}, {"plain": [], "weighted": []}
    for seed in range(40):
        error, pvalue, total, true = simulated(2000, seed, 0.08)
        for name, weight in (("plain", None), ("weighted", fdr.weights(error, pvalue, total))):
            called = fdr.adjusted(pvalue, weight) <= fdr.LEVEL
            false[name].append((called & ~true).sum() / max(called.sum(), 1))
            found[name].append((called & true).sum() / true.sum())
    for proportions in false.values():
        assert np.mean(proportions) < fdr.LEVEL + 3 * np.std(proportions) / np.sqrt(40)
    assert np.mean(false["weighted"]) > 0.02  # not idle
    assert np.mean(np.subtract(found["weighted"], found["plain"])) > 0.0
