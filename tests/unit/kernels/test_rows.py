"""Sums over the cells of each pattern, in every layout, against direct sums and differences."""

from dataclasses import replace

import numpy as np
import pytest

from mlmgen.kernels.rows import differentiate, evaluate, leverage_sums, log_likelihood
from tests.reference import designs, multilevel
from tests.unit import structures
from tests.unit.kernels.model_cases import PHI, functions, gathered, model_case

COUNTS = ("nb", "poisson", "bernoulli")
LAYOUTS = [(name, family) for name in ("nested", "functions") for family in COUNTS]
# Steps of central differences: errors near 1e-9 of a sum of 1e2.
STEP = 1e-5


def linear_predictor(case, seed=5, spread=0.4):
    """Draw coefficients s (M, P) of the linear predictor."""
    rng, wk = np.random.default_rng(seed), case.work.wk
    wk.s[:] = rng.normal(0.0, spread, wk.s.shape)
    wk.s[0] += 0.5
    return wk.s.copy()


def eta(case, s):
    """Return the linear predictor of every cell, size factors included."""
    return (functions(case) * s[:, case.model.layout.pattern].T).sum(axis=1) + case.rows.offset


def by_pattern(case, x):
    """Return the sums over each pattern's cells of x c_k, (M, P)."""
    P = case.work.wk.s.shape[1]
    return np.array([np.bincount(case.model.layout.pattern, x * c, P) for c in functions(case).T])


def products(case, x):
    """Return the sums over each pattern's cells of x c_k c_m, (M, M, P)."""
    return np.array([by_pattern(case, x * c) for c in functions(case).T])


def twin(case, s, phi):
    """Return log-likelihood, G and W by the twin's densities."""
    at = eta(case, s)
    score, weight = multilevel.score_and_weight(case.rows, at, phi)
    return multilevel.log_density(case.rows, at, phi).sum(), by_pattern(case, score), products(case, weight)


@pytest.mark.parametrize(("name", "family"), LAYOUTS)
@pytest.mark.parametrize("kernel", [evaluate, log_likelihood, differentiate])
def test_sums_of_exact_cells(name, family, kernel):
    case = model_case(name, family)
    wk, s, phi = case.work.wk, linear_predictor(case), PHI[family]
    loglik, G, W = twin(case, s, phi)
    value = kernel(case.work.rows, phi, wk.s, wk.G, wk.W)
    np.testing.assert_allclose(wk.W, W, rtol=1e-12, atol=1e-12)
    if kernel is not log_likelihood:
        np.testing.assert_allclose(wk.G, G, rtol=1e-12, atol=1e-11)
    if kernel is log_likelihood:
        assert value == pytest.approx(loglik, rel=1e-12)
    if kernel is differentiate:
        assert value[0] == pytest.approx(loglik, rel=1e-12)


@pytest.mark.parametrize("family", COUNTS)
@pytest.mark.parametrize(("name", "error"), [("nested", 2e-6), ("functions", 2e-4)])
def test_sums_of_nodes_are_those_of_the_cells(name, family, error):
    # 150 cells a pattern; of cell-level functions a cubature of the cells keeps the sums over all patterns.
    case = model_case(name, family, likelihood="compressed", cells=300, donors=4)
    assert case.model.layout.compressed.size.shape[0] <= 14
    wk, phi = case.work.wk, PHI[family]
    s = linear_predictor(case, spread=0.1)
    s[1:] = wk.s[1:] = 0.2
    loglik, G, W = twin(case, s, phi)
    value, _ = differentiate(case.work.rows, phi, wk.s, wk.G, wk.W)
    # Score errors count against the standard deviation of the score, the root of the weight.
    unit = np.sqrt(np.array([W[k, k] for k in range(len(G))]))
    assert value == pytest.approx(loglik, abs=error)
    assert np.abs((wk.G - G) / unit).max() < error * 100
    assert np.abs((wk.G - G).sum(axis=1) / np.sqrt((unit**2).sum(axis=1))).max() < error * 10
    assert wk.W.sum(axis=2) == pytest.approx(W.sum(axis=2), rel=error * 10, abs=error * 10)


@pytest.mark.parametrize("likelihood", ["exact", "compressed"])
@pytest.mark.parametrize(("name", "family"), LAYOUTS)
def test_derivatives_by_the_linear_predictor(name, family, likelihood):
    case = model_case(name, family, likelihood=likelihood, cells=40, donors=4)
    rows, wk, phi = case.work.rows, case.work.wk, PHI[family]
    s = linear_predictor(case)
    M, P = s.shape

    def at(change):
        value, _ = differentiate(rows, phi, s + change, wk.G, wk.W)
        return value, wk.G.copy(), wk.W.copy()

    _, G, W = at(0.0)
    rng = np.random.default_rng(8)
    rows.leverage[:] = rng.standard_normal(rows.leverage.shape)
    kappa = np.empty((M, P))
    differentiate(rows, phi, s, wk.G, wk.W)
    leverage_sums(rows, kappa)
    for k in range(M):
        step = np.zeros((M, P))
        step[k] = STEP
        (high, G_high, W_high), (low, G_low, W_low) = at(step), at(-step)
        assert (high - low) / (2 * STEP) == pytest.approx(G[k].sum(), rel=1e-6, abs=1e-6)
        assert (G_low - G_high) / (2 * STEP) == pytest.approx(W[k], rel=1e-5, abs=1e-6)
        # kappa = sum h dw c_k / 2, with h = sum over pairs of Q c_k c_m.
        slope = (W_high - W_low) / (2 * STEP)
        trace = sum(rows.leverage[rows.pair[i, j]] * slope[i, j] for i in range(M) for j in range(i + 1))
        assert trace == pytest.approx(2 * kappa[k], rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("phi", [1e-7, 3e-3, 0.4, 20.0])
@pytest.mark.parametrize("likelihood", ["exact", "compressed"])
@pytest.mark.parametrize("name", ["nested", "functions"])
def test_derivatives_by_the_dispersion(name, likelihood, phi):
    case = model_case(name, "nb", likelihood=likelihood, cells=40, donors=4)
    rows, wk = case.work.rows, case.work.wk
    s = linear_predictor(case)
    rows.leverage[:] = np.random.default_rng(8).standard_normal(rows.leverage.shape)
    kappa, h = np.empty(s.shape), min(1e-5, 0.3 * phi)

    def at(phi):
        value, slope = differentiate(rows, phi, s, wk.G, wk.W)
        pairs = [(i, j) for i in range(len(s)) for j in range(i + 1)]
        trace = sum((rows.leverage[rows.pair[i, j]] * wk.W[i, j]).sum() for i, j in pairs)
        return value, slope, wk.G.copy(), trace

    _, slope, _, _ = at(phi)
    g_phi, trace_slope = rows.g_phi.copy(), leverage_sums(rows, kappa)
    (high, _, G_high, trace_high), (low, _, G_low, trace_low) = at(phi + h), at(phi - h)
    rounding = 1e-11 / h
    assert slope == pytest.approx((high - low) / (2 * h), rel=1e-5, abs=1e-6 + rounding)
    assert g_phi == pytest.approx((G_high - G_low) / (2 * h), rel=1e-5, abs=1e-6 + rounding)
    assert trace_slope == pytest.approx((trace_high - trace_low) / (2 * h), rel=1e-5, abs=1e-6 + rounding)


@pytest.mark.parametrize("name", ["nested", "functions"])
def test_small_dispersions_run_into_poisson(name):
    case = model_case(name, "nb")
    rows, wk = case.work.rows, case.work.wk
    linear_predictor(case)
    at_zero, slope = differentiate(rows, 0.0, wk.s, wk.G, wk.W)
    assert np.isfinite([at_zero, slope]).all()
    for phi in (1e-12, 1e-9, 1e-6):
        value, there = differentiate(rows, phi, wk.s, wk.G, wk.W)
        assert value == pytest.approx(at_zero + phi * slope, abs=1e7 * phi**2 + 1e-11)
        assert there == pytest.approx(slope, abs=1e7 * phi + 1e-7)


def test_functions_that_are_constant_give_the_same_sums_as_patterns():
    # One design with its condition in the patterns, one with it as a cell-level function of whole donors.
    for family in COUNTS:
        plain = model_case("intercept", family)
        wk, s = plain.work.wk, linear_predictor(plain)
        value, slope = differentiate(plain.work.rows, PHI[family], wk.s, wk.G, wk.W)
        cells = model_case("functions", family)
        assert len(cells.rows.y) == len(plain.rows.y)
        design, _ = structures.example("intercept", family)
        with_function = gathered(as_function(design), plain.counts, family)
        other = with_function.work
        other.wk.s[:] = 0.0
        other.wk.s[0] = s[0]
        found = differentiate(other.rows, PHI[family], other.wk.s, other.wk.G, other.wk.W)
        assert found == pytest.approx((value, slope), rel=1e-12, abs=1e-10)
        assert other.wk.G[0] == pytest.approx(wk.G[0], abs=1e-11)
        assert other.wk.W[0, 0] == pytest.approx(wk.W[0, 0], rel=1e-12)


def as_function(design):
    """Add a cell-level function that no column uses."""
    values = np.random.default_rng(1).standard_normal((len(design.pattern), 1))
    return replace(design, functions=values, function_names=("noise",))


@pytest.mark.parametrize("name", ["nested", "functions"])
def test_gaussian_sums(name):
    case = model_case(name, "gaussian", cells=30)
    wk, s = case.work.wk, linear_predictor(case)
    # A mean far from zero must not cost digits of the squares.
    far = gathered(case.design, shifted(case, 1e6), "gaussian")
    residual = case.rows.y - (eta(case, s) - case.rows.offset)
    for one, shift in ((case, 0.0), (far, 1e6)):
        one.work.wk.s[:] = s
        one.work.wk.s[0] += shift
        value, slope = differentiate(one.work.rows, 0.0, one.work.wk.s, one.work.wk.G, one.work.wk.W)
        assert slope == 0
        assert -value == pytest.approx((residual**2).sum(), rel=1e-8 if shift else 1e-11)
        G, W = by_pattern(case, residual), products(case, np.ones(len(residual)))
        np.testing.assert_allclose(one.work.wk.G, G, rtol=1e-8, atol=1e-7 if shift else 1e-11)
        np.testing.assert_allclose(one.work.wk.W, W, rtol=1e-12, atol=1e-11)
    kappa = np.ones(s.shape)
    assert leverage_sums(case.work.rows, kappa) == 0
    assert not kappa.any()
    assert case.work.rows.moments.numbers[1] == len(residual)
    assert log_likelihood(case.work.rows, 0.0, s, wk.G, wk.W) == pytest.approx(-(residual**2).sum(), rel=1e-11)


def shifted(case, by):
    return designs.counts(case.rows.y[:, None] + by, ["gene"])


def test_offsets_are_subtracted_from_a_gaussian_response():
    design, counts = structures.example("slope", "gaussian")
    rng = np.random.default_rng(2)
    moved = replace(design, offset=rng.normal(size=len(design.pattern)))
    case = gathered(moved, counts, "gaussian")
    case.work.wk.s[:] = 0.0
    value = log_likelihood(case.work.rows, 0.0, case.work.wk.s, case.work.wk.G, case.work.wk.W)
    assert -value == pytest.approx(((case.rows.y - moved.offset) ** 2).sum(), rel=1e-11)
