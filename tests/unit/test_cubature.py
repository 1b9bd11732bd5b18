"""Cells that stand for all cells: what they keep, how exactly, and when every cell is kept."""

import os
import subprocess
import sys
from itertools import combinations_with_replacement
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import cubature
from mlmgen.cubature import HIGHEST_DEGREE, TOLERANCE, check, choose


def simulated(patterns: int, cells: int, seed: int = 1, covariates: int = 2):
    """Cells whose covariates depend on depth, one of them skewed as percent mitochondrial is."""
    rng = np.random.default_rng(seed)
    n = patterns * cells
    log_size = rng.normal(0, 0.5, n)
    skewed = rng.gamma(3.0, 1.0, n) * np.exp(-0.3 * log_size)
    functions = np.column_stack([skewed, rng.normal(size=n) + 0.3 * log_size])[:, :covariates]
    return np.repeat(np.arange(patterns), cells), log_size, functions


def coordinates_of(log_size, functions):
    return np.column_stack([log_size, functions])


def monomials(x: np.ndarray, degree: int) -> np.ndarray:
    """Every product of at most ``degree`` columns, from the definition, (n, moments)."""
    d = x.shape[1]
    return np.column_stack(
        [
            x[:, list(factors)].prod(axis=1)
            for k in range(degree + 1)
            for factors in combinations_with_replacement(range(d), k)
        ]
    )


def moment_error(pattern, coordinates, degree, index, weight) -> float:
    """Largest difference of a moment over its absolute moment, of coordinates centred and scaled in patterns."""
    worst = 0.0
    for label in np.unique(pattern):
        rows, kept = np.flatnonzero(pattern == label), pattern[index] == label
        centred = coordinates[rows] - coordinates[rows].mean(axis=0)
        values = monomials(centred / np.maximum(np.abs(centred).max(axis=0), 1e-12), degree)
        error = np.abs(weight[kept] @ values[index[kept] - rows[0]] - values.sum(axis=0))
        worst = max(worst, np.max(error / np.abs(values).sum(axis=0).clip(1e-12)))
    return worst


def assert_a_cubature(pattern, coordinates, degree, index, weight, tolerance=1e-9):
    assert index.dtype == np.int64
    assert np.all(np.diff(index) > 0)
    assert np.isin(index, np.arange(pattern.size)).all()
    assert np.all(weight > 0)
    assert np.bincount(pattern[index], weight) == pytest.approx(np.bincount(pattern), rel=1e-12)
    assert np.bincount(pattern[index]).max() <= max(comb(coordinates.shape[1] + degree, degree), 1)
    assert moment_error(pattern, coordinates, degree, index, weight) < tolerance


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from(["normal", "heavy", "rounded", "binary"]),
    st.integers(0, 10_000),
)
def test_moments_are_kept(cells, d, degree, kind, seed):
    rng = np.random.default_rng(seed)
    pattern = np.repeat(np.arange(len(cells)), cells)
    coordinates = rng.normal(3.0, 2.0, (pattern.size, d))
    if kind == "heavy":
        coordinates = np.exp(coordinates)
    elif kind == "rounded":
        coordinates = np.round(coordinates)
    elif kind == "binary":
        coordinates[:, 0] = coordinates[:, 0] > 5.0
    index, weight = cubature.cubature(pattern, coordinates, degree)
    assert_a_cubature(pattern, coordinates, degree, index, weight)


@pytest.mark.parametrize(("covariates", "degree"), [(1, 12), (2, 8), (2, 10)])
def test_moments_of_large_patterns(covariates, degree):
    pattern, log_size, functions = simulated(2, 3000, covariates=covariates)
    coordinates = coordinates_of(log_size, functions)
    index, weight = cubature.cubature(pattern, coordinates, degree)
    assert_a_cubature(pattern, coordinates, degree, index, weight)
    assert index.size == 2 * comb(covariates + 1 + degree, degree)


def test_a_known_rule():
    """Of 0, 1, ..., 4 the mean alone is kept by two cells at most, the mean and variance by three."""
    coordinates = np.arange(5.0)[:, None]
    for degree, most in ((1, 2), (2, 3)):
        index, weight = cubature.cubature(np.zeros(5, dtype=np.int32), coordinates, degree)
        assert index.size <= most
        assert weight.sum() == pytest.approx(5.0)
        assert weight @ index == pytest.approx(10.0)
    assert weight @ index**2 == pytest.approx(30.0)


def test_no_more_cells_than_moments_keeps_them_all():
    pattern, log_size, functions = simulated(1, 300)
    pattern = np.repeat([0, 3, 4], [45 + 120, 1, 134])
    index, weight = cubature.cubature(pattern, coordinates_of(log_size, functions), 8)
    assert np.array_equal(index, np.arange(300))
    assert np.array_equal(weight, np.ones(300))


def test_duplicated_cells():
    """Where 20 distinct points carry 1,000 cells, the weights are how often each occurs."""
    rng = np.random.default_rng(3)
    points = rng.normal(size=(20, 3))
    which = rng.integers(0, 20, 1000)
    index, weight = cubature.cubature(np.zeros(1000, dtype=int), points[which], 8)
    assert np.bincount(which[index], weight, 20) == pytest.approx(np.bincount(which, minlength=20))
    assert index.size <= 20


def test_identical_cells_become_one():
    index, weight = cubature.cubature(np.zeros(50, dtype=int), np.full((50, 2), 0.1), 4)
    assert index.size == 1
    assert weight == pytest.approx([50.0])


def test_covariate_constant_in_one_pattern():
    pattern, log_size, functions = simulated(2, 1000)
    functions[pattern == 1, 0] = 0.1
    coordinates = coordinates_of(log_size, functions)
    index, weight = cubature.cubature(pattern, coordinates, 6)
    assert np.array_equal(np.bincount(pattern[index]), [comb(9, 6), comb(8, 6)])
    assert_a_cubature(pattern, coordinates, 6, index, weight)


def test_covariate_of_a_few_cells():
    """Three cells of 2,000 that differ in a covariate keep its moments."""
    pattern, log_size, functions = simulated(1, 2000)
    functions[:, 1] = 0.0
    functions[[5, 900, 1500], 1] = [1.0, 1.0, 2.0]
    coordinates = coordinates_of(log_size, functions)
    index, weight = cubature.cubature(pattern, coordinates, 6)
    assert_a_cubature(pattern, coordinates, 6, index, weight)


def test_covariate_of_two_cells_in_one_cluster():
    """The two cells that carry a covariate are 16 rows apart: clusters of 8 moments cannot tell them apart."""
    rng = np.random.default_rng(0)
    coordinates = rng.normal(3.0, 2.0, (21, 3))
    coordinates[:, 0] = np.isin(np.arange(21), [4, 20])
    pattern = np.zeros(21, dtype=int)
    index, weight = cubature.cubature(pattern, coordinates, 2)
    assert index.size < 10
    assert_a_cubature(pattern, coordinates, 2, index, weight)


def test_fewer_cells_than_coordinates():
    rng = np.random.default_rng(0)
    index, weight = cubature.cubature(np.array([0, 0, 1]), rng.normal(size=(3, 4)), 2)
    assert np.array_equal(index, [0, 1, 2])
    assert np.array_equal(weight, np.ones(3))


def test_collinear_covariates_cost_nothing():
    pattern, log_size, functions = simulated(1, 1000, covariates=1)
    both = np.column_stack([functions, 7.0 - 2.0 * functions[:, 0] + log_size])
    index, weight = cubature.cubature(pattern, coordinates_of(log_size, both), 6)
    assert index.size == comb(2 + 6, 6)
    assert_a_cubature(pattern, coordinates_of(log_size, both), 6, index, weight)


def test_polynomials_of_a_covariate_need_few_cells():
    """Moments of (t, x, x^2) up to degree D are those t^a x^b with a + b / 2 <= D: (D + 1)^2."""
    pattern, log_size, functions = simulated(1, 3000, covariates=1)
    squared = np.column_stack([functions, functions**2])
    index, weight = cubature.cubature(pattern, coordinates_of(log_size, squared), 6)
    assert index.size == 49
    assert_a_cubature(pattern, coordinates_of(log_size, squared), 6, index, weight)
    cubed = np.column_stack([squared, functions**3])
    index, weight = cubature.cubature(pattern, coordinates_of(log_size, cubed), 6)
    assert index.size == sum(3 * (6 - a) + 1 for a in range(7))
    assert_a_cubature(pattern, coordinates_of(log_size, cubed), 6, index, weight)
    few = cubature.cubature(pattern[:450], coordinates_of(log_size, cubed)[:450], 8)
    assert few[0].size <= sum(3 * (8 - a) + 1 for a in range(9)) < 450 < comb(4 + 8, 8)


def test_blocks_of_a_large_pattern(monkeypatch):
    pattern, log_size, functions = simulated(1, 20_000, covariates=1)
    coordinates = coordinates_of(log_size, functions)
    monkeypatch.setattr(cubature, "BLOCK_BYTES", 8 * 45 * 500)
    index, weight = cubature.cubature(pattern, coordinates, 8)
    assert index.size == 45
    assert_a_cubature(pattern, coordinates, 8, index, weight)


def test_the_same_bytes_for_a_pattern_whatever_is_beside_it():
    pattern, log_size, functions = simulated(3, 700)
    coordinates = coordinates_of(log_size, functions)
    index, weight = cubature.cubature(pattern, coordinates, 5)
    again = cubature.cubature(pattern.copy(), coordinates.copy(), 5)
    assert np.array_equal(index, again[0])
    assert np.array_equal(weight, again[1])
    alone = cubature.cubature(pattern[700:1400], coordinates[700:1400], 5)
    of_second = pattern[index] == 1
    assert np.array_equal(index[of_second], 700 + alone[0])
    assert np.array_equal(weight[of_second], alone[1])


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 100.0), st.floats(-1000.0, 1000.0))
def test_units_of_a_covariate_do_not_matter(scale, shift):
    pattern, log_size, functions = simulated(2, 800)
    index, weight = cubature.cubature(pattern, coordinates_of(log_size, functions), 4)
    moved = functions * [scale, 1.0] + [shift, 0.0]
    error = check(pattern, log_size, functions, index, weight)
    assert check(pattern, log_size, moved, index, weight) == pytest.approx(error, rel=1e-5)
    other = cubature.cubature(pattern, coordinates_of(log_size, moved), 4)
    assert_a_cubature(pattern, coordinates_of(log_size, functions), 4, *other)


def test_check_of_all_cells_is_zero():
    pattern, log_size, functions = simulated(4, 300)
    assert check(pattern, log_size, functions, np.arange(1200), np.ones(1200)) < 1e-12


def test_check_tells_a_bad_cubature():
    pattern, log_size, functions = simulated(4, 1000)
    coordinates = coordinates_of(log_size, functions)
    errors = [check(pattern, log_size, functions, *cubature.cubature(pattern, coordinates, k)) for k in (1, 4, 8)]
    assert errors[0] > 1.0 > errors[1] > 100 * errors[2]


def test_check_sees_a_single_wrong_weight():
    """One cell of 900 that counts twice moves the intercept by 1 / sqrt(900 mu r) and more."""
    pattern, log_size, functions = simulated(1, 900)
    weight = np.ones(900)
    weight[17] = 2.0
    assert check(pattern, log_size, functions, np.arange(900), weight) > 1 / 30


def test_check_sees_standard_errors():
    """Where a gene has next to no counts its estimates cannot tell two sums apart; their standard errors do."""
    pattern, log_size, functions = simulated(2, 500)
    rough = cubature.cubature(pattern, coordinates_of(log_size, functions), 1)
    assert check(pattern, log_size, functions, *rough, means=(1e-12, 1e-11)) > 0.1


def test_check_without_slopes():
    """A covariate that is constant within patterns leaves the depth to be checked."""
    pattern, log_size, _ = simulated(2, 400)
    assert check(pattern, log_size, pattern[:, None].astype(float), np.arange(800), np.ones(800)) < 1e-12


def test_error_is_that_of_the_estimates():
    """On counts, Newton's step from the exact optimum to that of the cubature is within the error."""
    pattern, log_size, functions = simulated(8, 1500)
    chosen = choose(pattern, log_size, functions)
    assert 0 < chosen.degree <= HIGHEST_DEGREE
    assert chosen.error <= TOLERANCE
    assert chosen.index.size < pattern.size / 4
    rng = np.random.default_rng(5)
    F = np.column_stack([np.ones(pattern.size), functions - functions.mean(axis=0)])
    for mean, phi, slopes in ((0.02, 1.0, [0.2, 0.1]), (0.5, 0.3, [-0.1, 0.3]), (10.0, 0.05, [0.1, -0.2])):
        truth = np.r_[np.log(mean), slopes]
        mu = np.exp(log_size + F @ truth)
        y = rng.negative_binomial(1 / phi, 1 / (1 + phi * mu)).astype(float)
        everything = np.arange(pattern.size), np.ones(pattern.size)
        exact, information = newton(y, log_size, F, phi, truth, *everything)
        compressed, _ = newton(y, log_size, F, phi, truth, chosen.index, chosen.weight)
        assert np.max(np.abs(compressed - exact) * np.sqrt(np.diag(information))) < TOLERANCE


def newton(y, log_size, F, phi, beta, index, weight):
    """Maximize the likelihood: nonzeros of all cells, -(1 / phi) log(1 + phi mu) of the weighted ones."""
    seen = np.flatnonzero(y)
    for _ in range(30):
        own, all_ = np.exp(log_size[seen] + F[seen] @ beta), np.exp(log_size[index] + F[index] @ beta)
        r, r_all = 1 / (1 + phi * own), 1 / (1 + phi * all_)
        score = (y[seen] * r) @ F[seen] - (weight * all_ * r_all) @ F[index]
        information = (F[seen].T * (y[seen] * phi * own * r**2)) @ F[seen]
        information += (F[index].T * (weight * all_ * r_all**2)) @ F[index]
        beta = beta + np.linalg.solve(information, score)
    return beta, information


def test_higher_degrees_meet_lower_tolerances():
    pattern, log_size, functions = simulated(4, 2400, covariates=1)
    degrees = [choose(pattern, log_size, functions, tolerance).degree for tolerance in (1.0, 1e-3, 1e-5)]
    assert degrees[0] == 8
    assert degrees[0] < degrees[1] < degrees[2] <= HIGHEST_DEGREE


def test_choice_on_some_of_many_patterns():
    pattern, log_size, functions = simulated(20, 800, covariates=1)
    chosen = choose(pattern, log_size, functions)
    assert chosen.degree > 0
    assert chosen.error <= TOLERANCE
    index, weight = cubature.cubature(pattern, coordinates_of(log_size, functions), chosen.degree)
    assert np.array_equal(chosen.index, index)
    assert np.array_equal(chosen.weight, weight)
    assert check(pattern, log_size, functions, index, weight) == chosen.error


def test_splines_of_a_covariate():
    """Truncated cubics of one covariate are four functions but one dimension."""
    pattern, log_size, _ = simulated(4, 2000)
    x = np.random.default_rng(2).uniform(-1, 1, pattern.size)
    functions = np.column_stack([x, x**2, x**3, np.maximum(x, 0) ** 3])
    chosen = choose(pattern, log_size, functions, tolerance=1e-2)
    assert chosen.degree > 0
    assert chosen.error < 1e-2
    assert chosen.index.size < pattern.size / 4


@pytest.mark.parametrize(
    ("cells", "arguments"),
    [(2000, {"exact": True}), (2000, {"tolerance": 0.0}), (2000, {"tolerance": 1e-13}), (150, {})],
    ids=["asked for", "no tolerance", "out of reach", "few cells"],
)
def test_all_cells(cells, arguments):
    pattern, log_size, functions = simulated(2, cells)
    chosen = choose(pattern, log_size, functions, **arguments)
    assert np.array_equal(chosen.index, np.arange(2 * cells))
    assert np.array_equal(chosen.weight, np.ones(2 * cells))
    assert chosen.degree == 0
    assert chosen.error == 0.0


def test_many_functions_keep_all_cells():
    pattern, log_size, _ = simulated(2, 1000)
    functions = np.random.default_rng(4).normal(size=(2000, 6))
    assert choose(pattern, log_size, functions).degree == 0


def test_threads_of_blas_do_not_matter():
    """In fresh interpreters with one and with two threads, the same bytes; moments enough for BLAS to use both."""
    pytest.importorskip("threadpoolctl")
    code = (
        "import numpy as np; from mlmgen.cubature import cubature;"
        "c = np.random.default_rng(1).normal(size=(1500, 3));"
        "index, weight = cubature(np.zeros(1500, dtype=int), c, 8);"
        "print((index.tobytes() + weight.tobytes()).hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2")
    }
    assert len(outputs) == 1
