"""Inverses of factored matrices, and the expected information of covariance factors by its definition."""

import numpy as np
import pytest

from mlmgen.kernels.arrowhead import cholesky
from mlmgen.kernels.information import block_information, invert
from mlmgen.kernels.tree import factor_tree
from tests.unit.kernels.model_cases import coefficients, dense, factors, model_case, parameters, start, sums_by_pattern


@pytest.mark.parametrize("n", [1, 2, 5])
def test_invert(n):
    A = np.random.default_rng(n).standard_normal((n, n + 3))
    A = A @ A.T
    L, out = A.copy(), np.full((n, n), np.nan)
    cholesky(L)
    invert(L, out)
    assert out == pytest.approx(np.linalg.inv(A), rel=1e-9)
    assert (out == out.T).all()


def expected_information(case, psi, weight, columns, marginal):
    """Return tr(V^-1 dV_a V^-1 dV_b) / 2 by the entries of one term's T, V = W^-1 + the effects in ``marginal``."""
    t = next(t for t, own in enumerate(case.model.columns) if own[0] == columns[0])
    q, first = len(columns), case.model.terms.first[t]
    T = np.diag([psi[first + i * (i + 1) // 2 + i] for i in range(q)])
    made = dense(case, psi, False).columns
    names = dense(case, psi, False).names
    V = np.diag(1.0 / weight)
    for at, name in enumerate(names):
        if name[0] in marginal:
            V += np.outer(made[:, at], made[:, at])
    inverse, slopes = np.linalg.inv(V), []
    Z = [case.rows.Z[:, own] / case.model.z_scale[case.model.columns[t]] for own in case.rows.terms[t]]
    for i, j in zip(*np.tril_indices(q), strict=True):
        E = np.zeros((q, q))
        E[i, j] = 1.0
        slopes.append(sum(z @ (E @ T.T + T @ E.T) @ z.T for z in Z))
    return np.array([[np.trace(inverse @ a @ inverse @ b) / 2 for b in slopes] for a in slopes])


# The term's own columns of the tree, and those that V contains: its own and all deeper ones.
CASES = {
    "intercept": ("intercept", 0, [0]),
    "slope": ("slope", 0, [0, 1]),
    "finest of two": ("nested", 1, [0]),
    "coarser of two": ("nested", 0, [0, 1]),
    "slopes in donors": ("slopes at two levels", 1, [0, 1]),
    "slopes in sites": ("slopes at two levels", 0, [0, 1, 2, 3]),
    "slopes of a function": ("functions", 0, [0, 1]),
}


@pytest.mark.parametrize("named", CASES)
def test_block_information(named):
    name, t, marginal = CASES[named]
    case = model_case(name)
    psi = parameters(case, [np.diag(np.diagonal(T)) for T in factors(case)], 0.4, coefficients(case))
    start(case, psi)
    weight = np.random.default_rng(1).uniform(0.2, 3.0, len(case.rows.y))
    case.work.wk.W[:] = sums_by_pattern(case, weight)
    factor_tree(case.work.tree, case.work.wk, True)
    search, terms = case.work.search, case.model.terms
    search.hessian[:] = 0.0
    block_information(case.work.tree, case.work.wk, search, terms, t, psi)
    expected = expected_information(case, psi, weight, case.model.columns[t], marginal)
    first = terms.first[t]
    own = slice(first, first + len(expected))
    assert search.hessian[own, own] == pytest.approx(expected, rel=1e-8, abs=1e-9)
    search.hessian[own, own] = 0.0
    assert not search.hessian.any()


def test_balanced_intercept_by_hand():
    # n cells of weight w in each of D donors: omega = n w, I = 2 D (sd omega / (1 + sd^2 omega))^2.
    case = model_case("intercept", donors=5, cells=4)
    weight = np.full(len(case.rows.y), 0.5)
    case.work.wk.W[:] = sums_by_pattern(case, weight)
    psi = parameters(case, [np.array([[0.6]])], 0.4, coefficients(case))
    start(case, psi)
    case.work.wk.W[:] = sums_by_pattern(case, weight)
    factor_tree(case.work.tree, case.work.wk, True)
    case.work.search.hessian[:] = 0.0
    block_information(case.work.tree, case.work.wk, case.work.search, case.model.terms, 0, psi)
    omega = 0.5 * np.bincount(case.design.donor.codes[case.design.pattern])
    by_hand = 2 * ((0.6 * omega / (1 + 0.36 * omega)) ** 2).sum()
    assert case.work.search.hessian[0, 0] == pytest.approx(by_hand, rel=1e-12)
