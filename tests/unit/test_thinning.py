"""Injected effects: by hand, and the means and variances of binomial thinning."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from mlmgen import thinning
from mlmgen.types import Contrast, Design
from tests.unit.test_tables import design as six_donors

LOG2 = np.log(2.0)


def two_arms(cells: int = 500) -> Design:
    """Six donors, three an arm, so many cells each."""
    pattern = np.repeat(np.arange(6, dtype=np.int32), cells)
    zeros = np.zeros(pattern.size)
    return dataclasses.replace(
        six_donors(), pattern=pattern, log_size=zeros, offset=zeros, functions=np.empty((pattern.size, 0))
    )


def contrast(*weights) -> Contrast:
    return Contrast("c", "", np.array(weights, dtype=float))


def test_effect_of_two_arms_is_a_doubling_of_one():
    added, log2fc = thinning.effect(two_arms(2), contrast([0, 1]))
    np.testing.assert_allclose(added, np.repeat([0.0, LOG2], 6))
    assert log2fc == pytest.approx(1.0)


def test_effect_of_two_levels_among_three_leaves_the_others_between():
    X = np.column_stack([np.ones(6), [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
    made = dataclasses.replace(
        six_donors(), X=X, coefficients=("(Intercept)", "b", "c"), basis=np.zeros(3, dtype=np.int32)
    )
    added, log2fc = thinning.effect(made, contrast([0, -1, 1]))
    np.testing.assert_allclose(added, np.array([0, 0, -0.5, -0.5, 0.5, 0.5]) * LOG2)
    assert log2fc == pytest.approx(1.0)


def test_effect_of_a_number_doubles_over_its_range():
    functions = np.array([[10.0], [20.0], [30.0], [40.0], [50.0], [30.0]])
    made = dataclasses.replace(
        six_donors(), X=np.ones((6, 2)), basis=np.array([0, 1], dtype=np.int32), functions=functions
    )
    added, log2fc = thinning.effect(made, contrast([0, 1]))
    np.testing.assert_allclose(added - added.min(), (functions[:, 0] - 10) / 40 * LOG2)
    assert log2fc == pytest.approx(1 / 40)


def test_a_joint_test_gets_the_effect_of_its_first_contrast():
    one, both = contrast([0, 1]), contrast([0, 1], [1, 0])
    np.testing.assert_array_equal(thinning.effect(two_arms(2), one)[0], thinning.effect(two_arms(2), both)[0])


@pytest.mark.parametrize(("sign", "thinned_arm"), [(1, 0), (-1, 1)])
def test_mean_and_variance_of_thinned_counts(sign, thinned_arm):
    # Thinned by p, NB2 with mean mu and dispersion phi has mean p mu and variance p mu + phi (p mu)^2.
    rng = np.random.default_rng(3)
    made, mu, phi = two_arms(20_000), 3.0, 0.4
    y = rng.poisson(mu * phi * rng.standard_gamma(1 / phi, made.pattern.size))
    X = sparse.csc_matrix(y[:, None].astype(np.int32))
    added, _ = thinning.effect(made, contrast([0, 1]))
    after = thinning.thin(X, ("g",), np.array([sign]), added, (1,)).toarray()[:, 0]
    arm = made.X[made.pattern, 1]
    np.testing.assert_array_equal(after[arm != thinned_arm], y[arm != thinned_arm])
    left = after[arm == thinned_arm]
    assert (left <= y[arm == thinned_arm]).all()
    assert left.mean() == pytest.approx(mu / 2, rel=0.02)
    assert left.var() == pytest.approx(mu / 2 + phi * (mu / 2) ** 2, rel=0.04)


def test_thinned_counts_have_no_stored_zeros_and_keep_their_type():
    X = sparse.csc_matrix(np.ones((300, 2), dtype=np.int32))
    added = np.repeat([0.0, LOG2], 150)
    after = thinning.thin(X, ("g", "h"), np.array([1, -1]), added, (1,))
    assert after.data.all()
    assert after.dtype == X.dtype
    assert after.nnz < X.nnz
    assert X.nnz == 600


@given(st.permutations(range(30)), st.integers(0, 5))
def test_the_order_of_the_genes_changes_nothing(order, seed):
    genes = tuple(f"g{i}" for i in range(30))
    X = sparse.csc_matrix(np.random.default_rng(seed).poisson(2.0, (20, 30)).astype(np.int32))
    sign = thinning.chosen(genes, (seed, 1))
    assert ((sign == 1).sum(), (sign == -1).sum()) == (2, 1)
    shuffled = tuple(genes[i] for i in order)
    np.testing.assert_array_equal(thinning.chosen(shuffled, (seed, 1)), sign[order])
    added, every = np.repeat([0.0, LOG2], 10), np.resize([1, -1], 30)
    plain = thinning.thin(X, genes, every, added, (seed,)).toarray()
    again = thinning.thin(X[:, order], shuffled, every[order], added, (seed,)).toarray()
    np.testing.assert_array_equal(again, plain[:, order])


def test_another_seed_chooses_other_genes():
    genes = tuple(f"g{i}" for i in range(200))
    assert (np.abs(thinning.chosen(genes, (1,))) != np.abs(thinning.chosen(genes, (2,)))).any()
