"""Newton, the REML gradient and the ML maximum: by differences, by dense algebra, by the twins."""

import numpy as np
import pytest

from mlmgen.kernels.families import score_and_weight
from mlmgen.kernels.laplace import FINE, ml_maximum, newton, reml, reml_gradient
from tests.reference import laplace
from tests.unit.kernels.cases import Case, deviations, simulated

# (sd_top, sd_sub, phi) of the nested design.
NESTED = [(0.4, 0.2, 0.3), (0.0, 0.3, 0.3), (0.5, 0.0, 0.3), (0.0, 0.0, 0.3), (0.4, 0.2, 1e-5), (2.0, 1.5, 4.0)]
TOP_ONLY = [(0.4, 0.0, 0.3), (0.0, 0.0, 0.3), (0.4, 0.0, 1e-5), (3.0, 0.0, 4.0)]
POINTS = [(True, *psi) for psi in NESTED] + [(False, *psi) for psi in TOP_ONLY]


@pytest.fixture(scope="module")
def cases() -> dict[bool, Case]:
    return {paired: simulated(paired) for paired in (True, False)}


def forget(case: Case):
    for x in (case.wk.beta, case.wk.v, case.wk.u):
        x[:] = 0.0


def reml_at(case: Case, psi) -> float:
    return reml(case.st, case.gene, case.wk, *map(float, psi), FINE)


def joint_gradient(case: Case, sd_top, sd_sub, phi) -> np.ndarray:
    """Gradient of J at the current solution, from the passes and indicator matrices."""
    wk, st = case.wk, case.st
    eta = wk.beta @ st.X + sd_top * wk.v[st.top]
    eta = eta + (sd_sub * wk.u[st.sub] if len(wk.u) else 0.0)
    wk.sums.eta[:] = eta
    score_and_weight(st.size, st.cells, case.gene, phi, wk.sums)
    by_top = sd_top * np.bincount(st.top, wk.sums.g, len(wk.v)) - wk.v
    by_sub = sd_sub * np.bincount(st.sub, wk.sums.g, len(wk.u)) - wk.u if len(wk.u) else np.zeros(0)
    return np.concatenate([st.X @ wk.sums.g, by_top, by_sub])


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_reml_is_the_twins(cases, point):
    case, psi = cases[point[0]], point[1:]
    forget(case)
    expected = laplace.laplace_reml(case.cells, deviations(case, *psi[:2]), psi[2])
    assert reml_at(case, psi) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_gradient_is_that_of_the_value(cases, point):
    case, psi = cases[point[0]], np.array(point[1:])
    forget(case)
    gradient = np.empty(3)
    value, passes = reml_gradient(case.st, case.gene, case.wk, *map(float, psi), gradient)
    assert passes > 0
    assert value == pytest.approx(reml_at(case, psi), abs=1e-8)
    for i in (0, 1, 2) if point[0] else (0, 2):
        h = 1e-5 if i == 2 and psi[2] < 1e-4 else 1e-4
        step = h * np.eye(3)[i]
        expected = (reml_at(case, psi + step) - reml_at(case, psi - step)) / (2 * h)
        assert gradient[i] == pytest.approx(expected, rel=1e-5, abs=1e-4 if h < 1e-4 else 1e-5)


@pytest.mark.parametrize("paired", [True, False])
def test_value_is_even_in_a_standard_deviation(cases, paired):
    case, gradient = cases[paired], np.empty(3)
    sd_sub = 0.2 if paired else 0.0
    forget(case)
    value = reml_at(case, (0.4, sd_sub, 0.3))
    forget(case)
    assert reml_at(case, (-0.4, -sd_sub, 0.3)) == pytest.approx(value, abs=1e-9)
    reml_gradient(case.st, case.gene, case.wk, 0.0, 0.0, 0.3, gradient)
    assert gradient[:2].tolist() == [0, 0]


@pytest.mark.parametrize("paired", [True, False])
def test_gradient_at_dispersion_zero(cases, paired):
    case, gradient, h = cases[paired], np.empty(3), 1e-5
    psi = (0.4, 0.2 if paired else 0.0, 0.0)
    reml_gradient(case.st, case.gene, case.wk, *psi, gradient)
    f = [reml_at(case, (*psi[:2], i * h)) for i in range(3)]
    assert gradient[2] == pytest.approx((-3 * f[0] + 4 * f[1] - f[2]) / (2 * h), rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("point", [POINTS[0], POINTS[2], POINTS[5], POINTS[6], POINTS[9]], ids=str)
def test_newton_reaches_the_maximum_from_bad_starts(cases, point, seed):
    case, psi = cases[point[0]], point[1:]
    rng = np.random.default_rng(seed)
    case.wk.beta[:] = rng.uniform(-9, 9, len(case.wk.beta))
    case.wk.v[:] = rng.uniform(-5, 5, len(case.wk.v))
    case.wk.u[:] = rng.uniform(-5, 5, len(case.wk.u))
    assert newton(case.st, case.gene, case.wk, *psi, FINE) > 0
    twin = laplace.mode(case.cells, deviations(case, *psi[:2]), psi[2])
    p = len(case.wk.beta)
    assert case.wk.beta == pytest.approx(twin.beta, abs=1e-5)
    gradient = joint_gradient(case, *psi)
    # The error of convergence, in units of the standard errors.
    random = np.concatenate([case.wk.v, case.wk.u])
    assert np.linalg.norm(gradient[:p]) < 1e-4 * np.sqrt(np.linalg.norm(twin.H[:p, :p]))
    assert np.abs(gradient[p:]).max() < 1e-4 * np.sqrt(np.diag(twin.H)[p:].max())
    assert np.sort(random) == pytest.approx(np.sort(twin.v), abs=1e-4)


@pytest.mark.parametrize("point", [POINTS[0], POINTS[1], POINTS[2], POINTS[3], POINTS[6], POINTS[9]], ids=str)
def test_ml_maximum(cases, point):
    case, psi = cases[point[0]], point[1:]
    forget(case)
    value, log_det_s = ml_maximum(case.st, case.gene, case.wk, *psi, 1e-10)
    sd, beta = deviations(case, *psi[:2]), case.wk.beta.copy()
    assert value == pytest.approx(laplace.laplace_ml(case.cells, beta, sd, psi[2]), abs=1e-6)
    H = laplace.mode(case.cells, sd, psi[2], beta=beta).H
    p = len(beta)
    information = np.linalg.slogdet(H)[1] - np.linalg.slogdet(H[p:, p:])[1]
    assert log_det_s == pytest.approx(information, abs=1e-4)
    # Nothing within a hundredth of a standard error is better, and its fall is the quadratic it should be.
    std_error = np.sqrt(np.diag(np.linalg.inv(H))[:p])
    for i, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        moved = beta + sign * 0.01 * std_error * np.eye(p)[i]
        assert laplace.laplace_ml(case.cells, moved, sd, psi[2]) < value - 2e-5


def test_ml_maximum_is_not_the_joint_mode(cases):
    case, psi = cases[False], (1.0, 0.0, 0.3)
    forget(case)
    newton(case.st, case.gene, case.wk, *psi, FINE)
    joint = case.wk.beta.copy()
    value, _ = ml_maximum(case.st, case.gene, case.wk, *psi, 1e-10)
    assert np.abs(case.wk.beta - joint).max() > 1e-4
    assert value > laplace.laplace_ml(case.cells, joint, [1.0], 0.3)
