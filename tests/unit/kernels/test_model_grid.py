"""The variance grid of any model: where its points are, and the restricted likelihood there."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import multilevel as engine
from mlmgen.kernels import grid, model_grid
from tests.reference import multilevel
from tests.reference.model_tests import stretched
from tests.unit import grid_cases

CASES = (
    ("slope", "nb"), ("crossed", "nb"), ("crossed slope", "poisson"), ("slopes at two levels", "nb"),
    ("three levels", "bernoulli"), ("functions", "nb"), ("functions, crossed", "gaussian"), ("slope", "gaussian"),
    ("intercept", "nb"),
)  # fmt: skip


def entries(T: np.ndarray) -> np.ndarray:
    return T[np.tril_indices(len(T))].copy()


def factor(psi: np.ndarray, q: int) -> np.ndarray:
    T = np.zeros((q, q))
    T[np.tril_indices(q)] = psi
    return T


@given(st.integers(1, 3), st.integers(-1, 2), st.floats(1e-4, 9.0), st.integers(0, 99))
def test_a_stretched_factor_keeps_its_correlations(q, effect, variance, seed):
    T = np.tril(np.random.default_rng(seed).normal(0.0, 0.7, (q, q)))
    effect = min(effect, q - 1)
    psi = np.r_[7.0, entries(T)]
    low, high = (0, q) if effect < 0 else (effect, effect + 1)
    model_grid.stretch_factor(psi, 1, low, high, variance)
    found = factor(psi[1:], q)
    assert psi[0] == 7.0
    np.testing.assert_allclose(found @ found.T, stretched(T @ T.T, effect, variance), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("effect", [-1, 0, 1])
def test_a_variance_at_zero_grows_on_its_own(effect):
    psi = np.zeros(3) if effect < 0 else np.array([0.0, 0.3, 0.0] if effect == 0 else [0.6, 0.0, 0.0])
    before = factor(psi, 2) @ factor(psi, 2).T
    low, high = (0, 2) if effect < 0 else (effect, effect + 1)
    model_grid.stretch_factor(psi, 0, low, high, 0.25)
    found = factor(psi, 2)
    assert np.diag(found @ found.T)[low:high] == pytest.approx(0.25)
    if effect != 0:
        np.testing.assert_allclose(found @ found.T, stretched(before, effect, 0.25), atol=1e-15)


@pytest.mark.parametrize("shape", [(24, 1, 1), (3, 4, 1), (2, 3, 4)], ids=str)
def test_points_are_the_tensor_grid_with_the_last_axis_fastest(shape):
    # A term of one effect, then one of two: its intercept and its slope.
    first, effect, size = np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([1, 2, 2])
    axes = model_grid.Axes(np.array(shape), first, effect, size, np.zeros(3, np.int64), np.ones(3))
    box = np.array([[-3.0, 0.5], [-5.0, -1.0], [-2.0, 1.0]])
    psi, out = np.array([0.7, 0.2, -0.1, 0.4, 2.5]), np.empty(5)
    held = [0.7**2, 0.2**2, 0.1**2 + 0.4**2]
    points = [np.exp(np.linspace(*box[i], n)) if n > 1 else [held[i]] for i, n in enumerate(shape)]
    for k, expected in enumerate(product(*points)):
        model_grid.place(axes, psi, box, k, out)
        T = factor(out[1:4], 2)
        assert [out[0] ** 2, *np.diag(T @ T.T)] == pytest.approx(list(expected), rel=1e-12)
        # The correlation of the second term stays, and so does phi.
        assert (T @ T.T)[0, 1] / np.sqrt(expected[1] * expected[2]) == pytest.approx(-0.1 / np.hypot(0.1, 0.4))
        assert out[4] == 2.5


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    return grid_cases.grid_case(*request.param)


def test_profile_is_the_twins_restricted_likelihood(case):
    K = case.fits.grid_loglik.shape[1]
    for g in range(3):
        data = grid_cases.rows(case, g)
        for k in np.linspace(0, K - 1, 5).astype(int):
            factors, phi = grid_cases.point(case, g, k)
            if case.family == "gaussian":
                expected = multilevel.profiled_gaussian(data, factors, "reml")[0]
            else:
                expected = multilevel.laplace_reml(data, factors, phi)
            # The kernels' columns are scaled.
            found = case.fits.grid_loglik[g, k] - np.log(case.model.x_scale).sum()
            # A maximization that stops early lowers it.
            assert found <= expected + 1e-5
            assert found == pytest.approx(expected, abs=1e-2)


def test_axes_bracket_the_estimates(case):
    fits = case.fits
    for v in np.flatnonzero(fits.grid_shape > 1):
        low, high = fits.grid_low[:, v], fits.grid_high[:, v]
        assert (low >= grid.LOWEST).all()
        assert (high <= grid.HIGHEST).all()
        assert (low < high).all()
        if (case.plan.axes.effect < 0).any():
            continue  # the axis of a whole term is that of its largest variance
        with np.errstate(divide="ignore"):
            estimate = np.log(fits.variance[:, v]) - fits.grid_unit[:, v]
        assert (np.minimum(estimate, grid.HIGHEST) <= high + 1e-9).all()
        # Below the floor of its axis a variance changes nothing.
        inside = estimate > np.log(0.05)
        assert (low[inside] <= estimate[inside]).all()


def test_the_grid_holds_the_likelihood(case):
    # Its highest point is near the maximum over all variances; it has fallen at the upper ends.
    fits = case.fits
    unit = np.ones(len(fits.genes))
    if case.family == "gaussian":
        unit = engine.standardize(case.counts, len(case.design.pattern))[1]
    m = len(case.design.pattern) - case.design.X.shape[1]
    best = fits.loglik + np.log(case.model.x_scale).sum() + m * np.log(unit) * (case.family == "gaussian")
    below = best - fits.grid_loglik.max(axis=1)
    assert (below > -1e-3).all()
    # Three axes have four, five and seven points.
    assert np.median(below) < (2.5 if len(case.plan.component) == 3 else 0.7)
    shape = fits.grid_shape[fits.grid_shape > 1]
    profile = fits.grid_loglik.reshape(-1, *shape)
    for a, v in enumerate(np.flatnonzero(fits.grid_shape > 1)):
        last = np.moveaxis(profile, a + 1, 1)[:, -1].reshape(len(profile), -1).max(axis=1)
        fallen = fits.grid_loglik.max(axis=1) - last
        limited = fits.grid_high[:, v] > grid.HIGHEST - 1e-9
        assert ((fallen > 5.0) | limited).all()
