"""Starting values, and which genes are separated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mlmgen.kernels.start import (
    LARGEST_PHI,
    LARGEST_VARIANCE,
    SMALLEST_PHI,
    SMALLEST_VARIANCE,
    separated,
    starting_values,
)
from tests.reference import designs
from tests.unit.kernels.cases import by_hand, load, simulated

ONES = np.ones(6)
ARM = np.array([0.0, 0, 0, 1, 1, 1])
THREE = np.column_stack([ONES, [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
AGE = np.array([31.0, 44, 52, 28, 60, 71])

SEPARATED = {
    "on and off, off in the second arm": ([3, 1, 5, 0, 0, 0], np.column_stack([ONES, ARM])),
    "on and off, off in the reference arm": ([0, 0, 0, 2, 1, 1], np.column_stack([ONES, ARM])),
    "all zero in the reference of three levels": ([0, 0, 1, 2, 3, 1], THREE),
    "all zero in another of three levels": ([4, 1, 0, 0, 3, 1], THREE),
    "all zero in two of three levels": ([4, 1, 0, 0, 0, 0], THREE),
    "no counts at all": ([0, 0, 0, 0, 0, 0], np.column_stack([ONES, ARM])),
    "age, one positive donor, the oldest": ([0, 0, 0, 0, 0, 7], np.column_stack([ONES, AGE])),
    "age, one positive donor, the youngest": ([0, 0, 0, 7, 0, 0], np.column_stack([ONES, AGE])),
    "cell means": ([3, 1, 5, 0, 0, 0], np.column_stack([1 - ARM, ARM])),
    "one arm off at both levels of a batch": (
        [3, 1, 5, 0, 0, 0],
        np.column_stack([ONES, ARM, [0, 1, 0, 1, 0, 1]]),
    ),
}
NOT_SEPARATED = {
    "one count in each arm": ([1, 0, 0, 0, 0, 1], np.column_stack([ONES, ARM])),
    "one count in each of three levels": ([1, 0, 0, 1, 0, 1], THREE),
    # The rate can fall on both sides of this donor's age: no line does that.
    "age, one positive donor in the middle": ([0, 7, 0, 0, 0, 0], np.column_stack([ONES, AGE])),
    "age, two positive donors": ([0, 0, 1, 0, 0, 1], np.column_stack([ONES, AGE])),
    "an intercept and one count": ([0, 0, 1, 0, 0, 0], ONES[:, None]),
    "two factors": ([1, 2, 0, 0, 0, 1], np.column_stack([ONES, ARM, [0, 1, 0, 1, 0, 1]])),
}


def runs_off(case) -> bool:
    wk = case.wk
    return separated(case.st.X, case.gene.total, case.packed.most, (wk.L, wk.r_beta, wk.x_hat, wk.by_pattern))


@pytest.mark.parametrize("name", SEPARATED)
def test_separated(name):
    case = by_hand(*SEPARATED[name])
    assert runs_off(case)


@pytest.mark.parametrize("name", NOT_SEPARATED)
def test_not_separated(name):
    case = by_hand(*NOT_SEPARATED[name])
    assert not runs_off(case)


@pytest.mark.parametrize("name", [*SEPARATED, *NOT_SEPARATED])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_separation_does_not_depend_on_units(name, scale):
    y, X = (SEPARATED | NOT_SEPARATED)[name]
    case = by_hand(y, X * np.r_[1.0, np.full(X.shape[1] - 1, scale)])
    assert bool(runs_off(case)) == (name in SEPARATED)


@pytest.mark.parametrize("covariate", [[2018.0, 2019, 2020, 2021, 2022, 2023], [2e5, 4e5, 1e5, 6e5, 9e5, 5e5]], ids=str)
def test_large_numbers_do_not_separate_a_gene_with_counts_everywhere(covariate):
    case = by_hand([3, 1, 5, 2, 4, 1], np.column_stack([ONES, covariate]))
    assert not runs_off(case)


def runs_off_by_program(X, total, most) -> bool:
    """Maximize sum a_q'd over a_q'd >= 0, |d| <= 1 (free rows a_q'd = 0) by linear programming."""
    a = np.where(total < 0.5, -1.0, 1.0)[:, None] * X
    free = (total > 0.5) & (total < most)
    bounds = [(-1, 1)] * X.shape[1]
    equal = {"A_eq": a[free], "b_eq": np.zeros(free.sum())} if free.any() else {}
    solved = linprog(-a[~free].sum(0), A_ub=-a[~free], b_ub=np.zeros((~free).sum()), bounds=bounds, **equal)
    return solved.fun < -1e-6


@settings(max_examples=200, deadline=None)
@given(st.integers(3, 12), st.integers(2, 5), st.booleans(), st.integers(0, 10**6))
def test_separation_is_that_of_a_linear_program(P, p, whole, seed):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(P), rng.integers(0, 3, (P, p - 1)) if whole else rng.normal(size=(P, p - 1))])
    X = X.astype(float)[:, : max(2, min(p, P - 1))]
    if np.linalg.matrix_rank(X) < X.shape[1]:
        return
    most = rng.choice([np.inf, 2.0]) * np.ones(P)
    total = rng.choice([0.0, 1.0, 2.0], P, p=[0.6, 0.2, 0.2])
    scratch = (np.zeros((X.shape[1],) * 2), *np.zeros((2, X.shape[1])), np.zeros(P))
    assert separated(np.ascontiguousarray(X.T), total, most, scratch) == runs_off_by_program(X, total, most)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("samples", [True, False])
def test_starting_values_are_within_their_limits(paired, samples):
    for seed in range(5):
        case, psi = simulated(paired, seed, log_mean=-3.0, log_mean_sd=2.0), np.empty(3)
        packed = case.packed
        starting_values(case.st, case.gene, packed.exposure, packed.exposure_2, case.wk, psi, samples)
        assert psi[0] ** 2 * (1 + 1e-12) >= SMALLEST_VARIANCE
        assert psi[0] ** 2 <= LARGEST_VARIANCE * (1 + 1e-12)
        assert psi[1] == psi[0]
        assert SMALLEST_PHI <= psi[2] <= LARGEST_PHI
        assert np.isfinite(case.wk.beta).all()
        assert not case.wk.v.any()
        assert not case.wk.u.any()


def test_starting_values_of_ample_data():
    # 20 donors an arm, 4000 counts each, 100 cells: beta within the donors' noise, phi the moment estimate.
    rng = np.random.default_rng(12)
    donor = np.repeat(np.arange(40), 100)
    arm = (donor >= 20).astype(float)
    eta = 3.7 + 0.8 * arm + 0.3 * rng.standard_normal(40)[donor]
    y = rng.poisson(np.exp(eta) * rng.gamma(1 / 0.5, 0.5, len(donor)))
    label = np.array([f"D{i:02d}" for i in range(40)])[donor]
    design, order = designs.build(
        label, np.column_stack([np.ones(len(y)), arm]), ["a", "b"], {"donor": label}, np.ones(len(y))
    )
    case, psi = load(design, designs.counts(y[order, None], ["gene"])), np.empty(3)
    starting_values(case.st, case.gene, case.packed.exposure, case.packed.exposure_2, case.wk, psi, False)
    assert case.wk.beta == pytest.approx([3.7, 0.8], abs=0.25)
    assert psi[2] == pytest.approx(0.5, rel=0.15)
    assert psi[0] == pytest.approx(0.3, rel=0.3)
