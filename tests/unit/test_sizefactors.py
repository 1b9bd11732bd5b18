"""Size factors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import sizefactors
from mlmgen.errors import UserError


def counts() -> np.ndarray:
    """Five samples with an arithmetic pattern; one has a few dominant genes, one lacks some."""
    g = np.arange(60)
    x = np.stack([(7 * g * g + 13 * g * (s + 1) + 5 * s * s) % (23 + 11 * s) for s in range(5)])
    x[1, 50:] *= 9
    x[3, 9:20] = 0
    return x


def test_library_is_relative_to_the_mean():
    np.testing.assert_array_equal(sizefactors.library(np.array([1.0, 2.0, 3.0, 0.0])), np.array([1, 2, 3, 0]) / 1.5)


def test_tmm_agrees_with_edger():
    """calcNormFactors of edgeR 3.40.2, R 4.2.2, on the same 60 genes x 5 samples."""
    expected = [1.236960332598, 0.535818586534, 1.192563141989, 1.285040440404, 0.984528460310]
    np.testing.assert_allclose(sizefactors.tmm(counts()), expected, rtol=1e-11)


def test_tmm_by_hand():
    """Three genes, one of which is up in the second sample: the middle ratio alone remains.

    The reference is the first sample (equal distance to the mean quartile). Of three log ratios ranks 1 to 3
    are within [floor(0.9) + 1, 3], so none is trimmed and the weights decide.
    """
    x = np.array([[100.0, 100, 200], [100, 100, 600]])
    share = x / x.sum(axis=1, keepdims=True)
    ratio = np.log2(share[1] / share[0])
    variance = ((1 - share) / x).sum(axis=0)
    factor = 2 ** ((ratio / variance).sum() / (1 / variance).sum())
    found = sizefactors.tmm(x)
    assert found[1] / found[0] == pytest.approx(factor, rel=1e-12)
    assert np.prod(found) == pytest.approx(1)


def test_depth_alone_is_no_composition():
    x = counts()[:1]
    np.testing.assert_allclose(sizefactors.tmm(np.vstack([x, 3 * x, 10 * x])), 1.0, rtol=1e-12)


def test_samples_without_a_common_gene_have_factor_one():
    np.testing.assert_array_equal(sizefactors.tmm(np.array([[5.0, 0.0], [0.0, 7.0]])), [1.0, 1.0])


@given(st.permutations(range(5)), st.permutations(range(60)))
def test_tmm_does_not_depend_on_the_order(samples, genes):
    x = counts()
    np.testing.assert_allclose(sizefactors.tmm(x[samples][:, genes]), sizefactors.tmm(x)[samples], rtol=1e-12)


def test_given_factors_are_used_as_they_stand():
    values = np.array([1, 2, 5])
    np.testing.assert_array_equal(sizefactors.given(values, "depth", np.array(["a", "b", "c"])), [1.0, 2.0, 5.0])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_given_factors_must_be_positive_and_finite(bad):
    with pytest.raises(UserError, match=r"1 of 3 size factors are not positive and finite \(cell b has"):
        sizefactors.given(np.array([1.0, bad, 2.0]), "depth", np.array(["a", "b", "c"]))


def test_given_factors_must_be_numbers():
    with pytest.raises(UserError, match="not numbers"):
        sizefactors.given(np.array(["low", "high"]), "depth", np.array(["a", "b"]))
