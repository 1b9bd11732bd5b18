"""Adaptive quadrature of a random intercept against the twin's and against integrals."""

import numpy as np
import pytest
from scipy import integrate

from mlmgen.kernels.joint import objective_value
from mlmgen.kernels.laplace import FINE
from mlmgen.kernels.quadrature import quadrature
from mlmgen.kernels.search import _quadrature_gradient, set_parameters
from tests.reference import multilevel
from tests.unit.kernels.model_cases import PHI, model_case, parameters, start

FAMILIES = ("nb", "poisson", "bernoulli")
BETA = np.array([0.2, 0.3])


def prepared(family, nodes, sd=0.8, likelihood="exact", **sizes):
    sizes = {"donors": 4, "cells": 6, "level": 0.0} | sizes
    case = model_case("intercept", family, "ml", likelihood, "agq", nodes, **sizes)
    psi = parameters(case, [np.array([[sd]])], PHI[family], BETA)
    start(case, psi)
    return case, psi


def value(case) -> float:
    work, terms = case.work, case.model.terms
    return quadrature(work.tree, work.rows, work.wk, terms.reach, terms.x, terms.log_w, PHI[case.family])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("nodes", [1, 2, 7, 9, 25])
@pytest.mark.parametrize("sd", [0.0, 0.3, 2.5])
def test_is_the_twins(family, nodes, sd):
    case, _ = prepared(family, nodes, sd)
    expected = multilevel.agq_ml(case.rows, BETA, [np.array([[sd]])], PHI[family], nodes)
    assert value(case) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_node_is_laplace(family):
    case, psi = prepared(family, 1)
    one = value(case)
    start(case, psi)
    work = case.work
    laplace = objective_value(work.tree, work.rows, work.wk, case.model.terms.reach, PHI[family], False, FINE)
    assert one == pytest.approx(laplace, abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_many_nodes_are_the_integral(family):
    case, _ = prepared(family, 31)
    rows, exact = case.rows, 0.0
    for column in rows.Z.T:
        own = rows._replace(y=rows.y[column > 0])
        fixed = (rows.offset + rows.X @ BETA)[column > 0]

        def joint(v, own=own, fixed=fixed):
            return np.exp(multilevel.log_density(own, fixed + 0.8 * v, PHI[family]).sum() - v * v / 2)

        exact += np.log(integrate.quad(joint, -10, 10, epsabs=0, epsrel=1e-10, limit=200)[0] / np.sqrt(2 * np.pi))
    assert value(case) == pytest.approx(exact, abs=1e-7)


def test_the_mode_stays():
    case, _ = prepared("nb", 9)
    first, v = value(case), case.work.wk.v.copy()
    assert value(case) == pytest.approx(first, abs=1e-10)
    assert case.work.wk.v == pytest.approx(v, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_nodes_in_place_of_cells(family):
    few, _ = prepared(family, 9, likelihood="compressed", cells=120)
    exact, _ = prepared(family, 9, cells=120)
    assert few.model.layout.compressed.size.shape[0] < exact.model.layout.compressed.size.shape[0]
    assert value(few) == pytest.approx(value(exact), abs=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_the_search(family):
    case, psi = prepared(family, 9)
    work, active = case.work, np.array([True, family == "nb", True, True])
    out = np.empty(len(psi))
    minus = _quadrature_gradient(work.tree, case.model.terms, work.rows, work.wk, psi, active, out)
    assert minus == pytest.approx(-value(case), abs=1e-9)
    x = np.r_[BETA, 0.8, *([np.log(PHI["nb"])] if family == "nb" else [])]
    by_twin = multilevel.gradient(multilevel.loglik_ml(case.rows, "agq", 9), x)
    assert -out[0] == pytest.approx(by_twin[2] / case.model.z_scale[0], abs=1e-5)
    assert -out[2:] == pytest.approx(by_twin[:2] / case.model.x_scale, abs=1e-5)
    if family == "nb":
        # d phi / d rho = sinh rho, d log phi = d phi / phi.
        assert -out[1] == pytest.approx(by_twin[3] * np.sinh(psi[1]) / PHI["nb"], abs=1e-5)
    else:
        assert out[1] == 0


def test_failure_is_not_a_number():
    case, psi = prepared("nb", 9)
    psi[0] = np.nan
    set_parameters(case.work.tree, case.work.wk, psi, False)
    assert np.isnan(value(case))
