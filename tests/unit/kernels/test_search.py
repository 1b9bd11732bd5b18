"""The search over factors, dispersion and beta: its steps by hand, its ends, and that starts do not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen.kernels.model_rows import start_model
from mlmgen.kernels.optimize import BOUNDARY, CONVERGED, LARGEST_RHO, PREDICTED_DECREASE, phi_of
from mlmgen.kernels.search import (
    Terms,
    deactivate_zeros,
    descend,
    evaluate_at,
    keep_beta_information,
    quest_space,
    refactor,
    set_parameters,
    settle,
)
from tests.reference import multilevel
from tests.unit.kernels.model_cases import PHI, coefficients, factors, model_case, parameters, start
from tests.unit.structures import STRUCTURES

ENTRIES = st.floats(-3, 3).map(lambda x: round(x, 3))


def one_term(q: int, before: int = 0) -> Terms:
    """One term of q effects whose entries start at place ``before`` of psi."""
    none = np.zeros(0)
    return Terms(np.array([before]), np.array([q]), np.array([0]), np.ones(1), none, none)


def covariance(psi, q, before=0):
    T = np.zeros((q, q))
    T[np.tril_indices(q)] = psi[before : before + q * (q + 1) // 2]
    return T @ T.T


def test_refactor_by_hand():
    # [[4, 2, 0], [2, 5, 2], [0, 2, 10]] without its second effect is diag(4, 0, 10).
    psi, block = np.array([2.0, 1.0, 2.0, 0.0, 1.0, 3.0]), np.zeros((2, 3, 3))
    refactor(one_term(3), 0, 1, psi, block)
    assert psi == pytest.approx([2, 0, 0, 0, 0, np.sqrt(10)])
    active = np.ones(6, dtype=bool)
    deactivate_zeros(one_term(3), 0, 1, psi, active)
    assert active.tolist() == [True, False, False, True, False, True]


def test_refactor_of_a_column_that_vanished():
    # The first pivot is gone: what the second row had in its column moves to the second's own.
    psi, block = np.array([0.0, 0.3, 0.4]), np.zeros((2, 2, 2))
    psi[0] = 0.0
    refactor(one_term(2), 0, -1, psi, block)
    # cov = [[0, 0], [0, 0.25]].
    assert psi == pytest.approx([0, 0, 0.5])
    active = np.ones(3, dtype=bool)
    deactivate_zeros(one_term(2), 0, -1, psi, active)
    assert active.tolist() == [False, False, True]


def test_a_correlation_of_one_keeps_its_column():
    psi, block, active = np.array([0.5, -0.4, 0.0]), np.zeros((2, 2, 2)), np.ones(3, dtype=bool)
    refactor(one_term(2), 0, -1, psi, block)
    assert psi == pytest.approx([0.5, -0.4, 0])
    deactivate_zeros(one_term(2), 0, -1, psi, active)
    assert active.tolist() == [True, True, False]


@given(st.integers(1, 4), st.integers(-1, 3), st.integers(0, 2), st.data())
def test_refactor_keeps_the_covariance(q, drop, before, data):
    drop = min(drop, q - 1)
    entries = data.draw(st.lists(ENTRIES, min_size=q * (q + 1) // 2, max_size=q * (q + 1) // 2))
    psi = np.r_[np.full(before, 9.0), entries, 8.0]
    expected = covariance(psi, q, before)
    if drop >= 0:
        expected[drop] = expected[:, drop] = 0.0
    refactor(one_term(q, before), 0, drop, psi, np.zeros((2, q, q)))
    # Pivots below NEAR_ZERO are cut.
    assert covariance(psi, q, before) == pytest.approx(expected, abs=2e-2)
    assert psi[:before].tolist() == [9.0] * before
    assert psi[-1] == 8.0
    active = np.ones(len(psi), dtype=bool)
    deactivate_zeros(one_term(q, before), 0, drop, psi, active)
    assert not psi[:-1][~active[:-1]].any()
    assert active[-1]
    assert active[:before].all()


def test_ends_of_the_dispersion_are_kept():
    # Responses far more dispersed than any: the search stays within its range.
    case = model_case("none", "nb")
    case.work.search.active[:] = [True, False, False]
    start_model(case.model.layout, case.work.tree, case.work.rows, case.work, case.work.search.psi)
    case.work.search.psi[0] = LARGEST_RHO
    value, evaluations, status = descend(*arguments(case), True, PREDICTED_DECREASE)
    assert status == CONVERGED
    assert evaluations < 60
    assert abs(case.work.search.psi[0]) < LARGEST_RHO
    assert np.isfinite(value)


def arguments(case):
    return case.work.tree, case.model.terms, case.work.rows, case.work.wk, case.work.search


def searched(case, psi=None):
    """Settle from ``psi`` or from the data's own start; return the log-likelihood and the status."""
    search, work, T = case.work.search, case.work, case.model.tree.rows.size
    search.active[:] = [a < T or (a == T and case.family == "nb") or a > T for a in range(len(search.psi))]
    search.active[T + 1 :] = not case.restricted
    start_model(case.model.layout, work.tree, work.rows, work, search.psi)
    if psi is not None:
        search.psi[:] = psi
        start(case, psi)
    set_parameters(work.tree, work.wk, search.psi, case.restricted)
    if not case.restricted:
        evaluate_at(*arguments(case)[:4], False, search.psi, search.active, search.gradient)
        keep_beta_information(work.tree, work.wk, search)
    loglik, _, status = settle(*arguments(case), case.restricted)
    return loglik, status


@pytest.mark.parametrize("name", [name for name in STRUCTURES if name != "none"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_the_start_does_not_matter(name, method):
    case = model_case(name, "nb", method, seed=4)
    ends = []
    for scale, phi in ((0.05, 0.1), (0.4, 1.0), (1.5, 0.01)):
        T = [np.diag(np.full(len(one), scale)) for one in factors(case)]
        ends.append(searched(case, parameters(case, T, phi, coefficients(case))))
    ends.append(searched(case))
    assert {status for _, status in ends} <= {CONVERGED, BOUNDARY}
    assert [loglik for loglik, _ in ends] == pytest.approx([ends[-1][0]] * 4, abs=1e-6)


@pytest.mark.parametrize("name", ["nested", "slope", "crossed slope"])
def test_zeros_are_better_than_what_is_beside_them(name):
    # No variance in the data: what the search holds at zero, the likelihood does not miss.
    seen = 0
    for seed in range(6):
        case = model_case(name, "poisson", seed=seed, sd=0.0)
        loglik, status = searched(case)
        search, T = case.work.search, case.model.tree.rows.size
        assert (status == BOUNDARY) == (not search.active[:T].all())
        psi = search.psi.copy()
        assert not psi[:T][~search.active[:T]].any()
        every = np.ones(len(psi), dtype=bool)
        for a in np.flatnonzero(~search.active[:T]):
            for small in (1e-2, -1e-2, 0.1, -0.1):
                moved = psi + small * np.eye(len(psi))[a]
                start(case, moved)
                minus = evaluate_at(*arguments(case)[:4], True, moved, every, search.trial_gradient)
                assert -minus <= loglik + 1e-7
                seen += 1
    assert seen


@pytest.mark.parametrize("name", ["intercept", "crossed slope", "functions, nested"])
@pytest.mark.parametrize("family", list(PHI))
def test_information_of_beta(name, family):
    case = model_case(name, family, "ml")
    T = factors(case)
    psi = parameters(case, T, PHI[family], coefficients(case))
    start(case, psi)
    search, first = case.work.search, case.model.tree.rows.size + 1
    active = np.ones(len(psi), dtype=bool)
    evaluate_at(*arguments(case)[:4], False, psi, active, search.gradient)
    keep_beta_information(case.work.tree, case.work.wk, search)
    expected = multilevel.conditional_covariance(case.rows, T, PHI[family], coefficients(case))
    unit = PHI[family] if family == "gaussian" else 1.0
    found = search.hessian[first:, first:] * unit / np.outer(case.model.x_scale, case.model.x_scale)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_inactive_parameters_have_no_slope():
    case = model_case("slope", "nb", "ml")
    psi = parameters(case, factors(case), 0.4, coefficients(case))
    active = np.array([True, False, True, False, True, False])
    out = np.full(6, np.nan)
    start(case, psi)
    value = evaluate_at(*arguments(case)[:4], False, psi, active, out)
    assert not out[~active].any()
    assert out[active].all()
    psi[:] = np.nan
    assert np.isnan(evaluate_at(*arguments(case)[:4], False, psi, active, out))
    # The scratch is clean again after a failure.
    assert np.isfinite(value)
    assert not case.work.wk.v.any()


def test_work_of_the_search():
    quest = quest_space(5, 2)
    assert quest.psi.shape == (5,)
    assert quest.inverse.shape == quest.hessian.shape == (5, 5)
    assert quest.block.shape == (2, 2, 2)
    assert phi_of(0.0) == 0
