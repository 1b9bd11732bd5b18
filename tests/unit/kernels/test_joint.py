"""The Laplace likelihood of every structure and family against the twin, and its gradient against differences."""

import numpy as np
import pytest

from mlmgen.kernels.joint import maximize, objective_gradient, objective_value
from mlmgen.kernels.laplace import FINE
from mlmgen.kernels.optimize import phi_of
from mlmgen.kernels.search import set_parameters
from tests.reference import multilevel
from tests.unit.kernels.model_cases import (
    PHI,
    coefficients,
    dense,
    factors,
    functions,
    model_case,
    parameters,
    read,
    start,
)
from tests.unit.structures import STRUCTURES

FAMILIES = tuple(PHI)
EACH = pytest.mark.parametrize("name", STRUCTURES)
FAMILY = pytest.mark.parametrize("family", FAMILIES)
METHOD = pytest.mark.parametrize("method", ["reml", "ml"])
STEP = 1e-5


def prepared(name, family, method, **sizes):
    case = model_case(name, family, method, **sizes)
    T, beta = factors(case), coefficients(case)
    psi = parameters(case, T, PHI[family], beta)
    start(case, psi)
    return case, T, beta, psi


def value_at(case, psi) -> float:
    set_parameters(case.work.tree, case.work.wk, psi, case.restricted)
    phi = phi_of(psi[case.model.tree.rows.size])
    work = case.work
    return objective_value(work.tree, work.rows, work.wk, case.model.terms.reach, phi, case.restricted, FINE)


def gradient_at(case, psi):
    set_parameters(case.work.tree, case.work.wk, psi, case.restricted)
    out, work = np.empty(len(psi)), case.work
    phi = phi_of(psi[case.model.tree.rows.size])
    value = objective_gradient(work.tree, work.rows, work.wk, case.model.terms.reach, phi, case.restricted, FINE, out)
    return value, out


def twins(case, T, beta) -> float:
    """Return the twin's log-likelihood in the kernels' units of beta; of a gaussian response, profiled."""
    rows, phi = case.rows, PHI[case.family]
    if case.family == "gaussian":
        relative = [one / np.sqrt(phi) for one in T]
        if case.restricted:
            found = multilevel.profiled_gaussian(rows, relative, "reml")[0]
        else:
            given = rows._replace(X=np.empty((len(rows.y), 0)), offset=rows.offset + rows.X @ beta)
            found = multilevel.profiled_gaussian(given, relative, "ml")[0]
    elif case.restricted:
        found = multilevel.laplace_reml(rows, T, phi)
    else:
        found = multilevel.laplace_ml(rows, beta, T, phi)
    return found + (np.log(case.model.x_scale).sum() if case.restricted else 0.0)


@EACH
@FAMILY
@METHOD
def test_likelihood_is_the_twins(name, family, method):
    case, T, beta, psi = prepared(name, family, method)
    expected = twins(case, T, beta)
    # The mode is good to FINE; the likelihood, stationary there, to its order.
    assert value_at(case, psi) == pytest.approx(expected, abs=2e-8)
    assert gradient_at(case, psi)[0] == pytest.approx(expected, abs=2e-8)


@EACH
@FAMILY
@METHOD
def test_gradient(name, family, method):
    case, _, _, psi = prepared(name, family, method)
    T = case.model.tree.rows.size
    _, found = gradient_at(case, psi)
    # The kernel differentiates by phi, the search by rho.
    found[T] *= np.sinh(psi[T])
    free = [i for i in range(len(psi)) if i < T or (i == T and family == "nb") or (i > T and method == "ml")]
    for i in free:
        step = STEP * np.eye(len(psi))[i]
        expected = (value_at(case, psi + step) - value_at(case, psi - step)) / (2 * STEP)
        assert found[i] == pytest.approx(expected, rel=1e-5, abs=3e-5), i


@pytest.mark.parametrize("name", ["slope", "crossed slope", "functions, nested"])
@METHOD
def test_gradient_at_standard_deviations_of_zero(name, method):
    # The likelihood is even in a column of the factor: stationary where the whole column is zero.
    case, _, _, psi = prepared(name, "nb", method)
    T = case.model.tree.rows.size
    psi[:T] = 0.0
    start(case, psi)
    assert gradient_at(case, psi)[1][:T] == pytest.approx(0.0, abs=1e-10)


@EACH
@METHOD
def test_maximum_is_the_twins_mode(name, method):
    case, T, beta, psi = prepared(name, "nb", method)
    work, restricted = case.work, case.restricted
    passes = maximize(work.tree, work.rows, work.wk, case.model.terms.reach, PHI["nb"], restricted, FINE)
    assert 0 < passes < 15
    made = dense(case, psi, restricted)
    predicted = made.columns @ read(made.names, work.wk.v, work.wk.b)
    at = multilevel.mode(case.rows, T, PHI["nb"], None if restricted else beta)
    expected = case.rows.Z @ multilevel.relative_factor(case.rows, T) @ at.v + (case.rows.X @ at.beta) * restricted
    assert predicted == pytest.approx(expected, abs=1e-4)
    # The linear predictor is kept up with the steps.
    kept = (functions(case) * work.wk.s[:, case.model.layout.pattern].T).sum(axis=1)
    assert kept == pytest.approx(predicted + (0 if restricted else case.rows.X @ beta), abs=1e-10)
    again = maximize(work.tree, work.rows, work.wk, case.model.terms.reach, PHI["nb"], restricted, FINE)
    assert again == 1


@pytest.mark.parametrize("family", ["nb", "poisson", "bernoulli"])
@pytest.mark.parametrize("far", [-12.0, 12.0])
def test_maximum_from_far_away(family, far):
    case, T, beta, psi = prepared("functions, nested", family, "reml")
    expected = twins(case, T, beta)
    case.work.wk.b[case.model.tree.crossed] = far
    case.work.wk.v[:] = far / 4
    assert value_at(case, psi) == pytest.approx(expected, abs=2e-8)


@FAMILY
def test_one_newton_step_solves_a_gaussian_model(family):
    case, T, _, _ = prepared("crossed slope", family, "reml")
    work = case.work
    passes = maximize(work.tree, work.rows, work.wk, case.model.terms.reach, PHI[family], True, FINE)
    assert (passes == 1) == (family == "gaussian")
    if family == "gaussian":
        at = multilevel.mode(case.rows, T, PHI[family])
        assert work.wk.b[-2:] / case.model.x_scale == pytest.approx(at.beta, abs=1e-10)


@METHOD
@FAMILY
def test_failure_is_not_a_number(family, method):
    case, _, _, psi = prepared("slope", family, method)
    psi[0] = np.nan
    value, slope = gradient_at(case, psi)
    assert np.isnan(value)
    assert np.isnan(slope).all()
    start(case, psi)
    assert np.isnan(value_at(case, psi))


@METHOD
def test_ridge_is_a_prior_on_beta(method):
    case, T, beta, psi = prepared("intercept", "nb", method)
    case.work.tree.ridge[:] = [0.0, 0.7]
    _, slope = gradient_at(case, psi)
    step = STEP * np.eye(len(psi))
    for i in [0, *([2, 3] if method == "ml" else [])]:
        expected = (value_at(case, psi + step[i]) - value_at(case, psi - step[i])) / (2 * STEP)
        assert slope[i] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    if method == "ml":
        penalty = 0.35 * (beta[1] * case.model.x_scale[1]) ** 2
        assert value_at(case, psi) == pytest.approx(twins(case, T, beta) - penalty, abs=1e-8)
