"""The arrowhead's eliminations against dense algebra."""

import numpy as np
import pytest

from mlmgen.kernels.arrowhead import (
    Structure,
    backward,
    cholesky,
    direction,
    factor,
    forward,
    group_sums,
    half_trace_sub,
    half_trace_top,
    leverages,
    log_det_random,
    random_leverages,
    solve,
    workspace,
)

# Patterns of each sub, subs of each top: unequal on purpose, one top with a single pattern.
SUBS = (3, 1, 2, 2, 4, 1)
TOPS = (2, 1, 2, 1)
DEVIATIONS = [(0.6, 0.4), (0.0, 0.7), (0.5, 0.0), (0.0, 0.0), (40.0, 1e-4)]


def problem(nested: bool, ridge: float, seed: int = 3):
    """Random weights and model matrix, and the groups as codes of the patterns."""
    rng = np.random.default_rng(seed)
    P = sum(SUBS)
    sub = np.repeat(np.arange(len(SUBS)), SUBS).astype(np.uint32)
    parent = np.repeat(np.arange(len(TOPS)), TOPS).astype(np.uint32)
    X = np.vstack([np.ones(P), rng.standard_normal((2, P))])
    none = np.zeros(0, np.uint32)
    groups = (sub, parent) if nested else (none, none)
    st = Structure(np.ones((1, P)), np.ones((1, P)), X, np.full(3, ridge), parent[sub], *groups)
    wk = workspace(st)
    wk.sums.w[:] = rng.uniform(0.01, 5, P)
    return st, wk, rng


def dense(st, wk, sd_top, sd_sub):
    """Return [X, Z Lambda] with one row per pattern, and H."""
    columns = [st.X.T, sd_top * np.eye(len(wk.v))[st.top]]
    if len(wk.u):
        columns.append(sd_sub * np.eye(len(wk.u))[st.sub])
    M = np.hstack(columns)
    prior = np.concatenate([st.ridge, np.ones(M.shape[1] - len(st.ridge))])
    return M, M.T @ (wk.sums.w[:, None] * M) + np.diag(prior)


def joined(*parts):
    return np.concatenate(parts)


@pytest.fixture(params=DEVIATIONS, ids=str)
def deviations(request):
    return request.param


@pytest.fixture(params=[(True, 0.0), (True, 0.3), (False, 0.0), (False, 0.3)], ids=str)
def arrow(request):
    return problem(*request.param)


def test_determinants(arrow, deviations):
    st, wk, _ = arrow
    _, H = dense(st, wk, *deviations)
    log_det_s = factor(st, wk, *deviations)
    p = len(wk.beta)
    assert log_det_random(wk) == pytest.approx(np.linalg.slogdet(H[p:, p:])[1], rel=1e-10, abs=1e-12)
    assert log_det_s + log_det_random(wk) == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-10, abs=1e-10)


def test_solve(arrow, deviations):
    st, wk, rng = arrow
    _, H = dense(st, wk, *deviations)
    factor(st, wk, *deviations)
    for r in (wk.r_beta, wk.r_v, wk.r_u):
        r[:] = rng.standard_normal(len(r))
    solve(st, wk, *deviations)
    expected = np.linalg.solve(H, joined(wk.r_beta, wk.r_v, wk.r_u))
    assert joined(wk.d_beta, wk.d_v, wk.d_u) == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_direction_and_group_sums_are_each_others_transpose(arrow, deviations):
    st, wk, rng = arrow
    M, _ = dense(st, wk, *deviations)
    beta, v, u = (rng.standard_normal(len(x)) for x in (wk.beta, wk.v, wk.u))
    direction(st, beta, v, u, *deviations, wk.d_eta)
    assert wk.d_eta == pytest.approx(M @ joined(beta, v, u), abs=1e-12)
    x = rng.standard_normal(len(wk.d_eta))
    group_sums(st, x, wk.by_sub, wk.by_top)
    by_hand = joined(st.X @ x, deviations[0] * wk.by_top, deviations[1] * wk.by_sub)
    assert by_hand == pytest.approx(M.T @ x, abs=1e-12)


def test_leverages(arrow, deviations):
    st, wk, _ = arrow
    M, H = dense(st, wk, *deviations)
    p = len(wk.beta)
    factor(st, wk, *deviations)
    leverages(st, wk, *deviations)
    expected = np.einsum("qi,qi->q", M, np.linalg.solve(H, M.T).T)
    assert wk.leverage == pytest.approx(expected, rel=1e-7, abs=1e-10)
    given_beta = np.empty(len(expected))
    random_leverages(st, wk, *deviations, given_beta)
    Z = M[:, p:]
    expected = np.einsum("qi,qi->q", Z, np.linalg.solve(H[p:, p:], Z.T).T)
    assert given_beta == pytest.approx(expected, rel=1e-7, abs=1e-10)


def test_half_traces(arrow, deviations):
    st, wk, _ = arrow
    M, H = dense(st, wk, *deviations)
    factor(st, wk, *deviations)
    p, D = len(wk.beta), len(wk.v)
    for name, columns, found in (
        ("top", slice(p, p + D), half_trace_top(st, wk, deviations[0])),
        ("sub", slice(p + D, None), half_trace_sub(st, wk, *deviations)),
    ):
        # dM/dsigma: the indicator columns without their scale, zeros elsewhere.
        change = np.zeros_like(M)
        if name == "top":
            change[:, columns] = np.eye(D)[st.top]
        elif len(wk.u):
            change[:, columns] = np.eye(len(wk.u))[st.sub]
        expected = np.trace(np.linalg.solve(H, M.T @ (wk.sums.w[:, None] * change)))
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-9), name


def test_cholesky():
    rng = np.random.default_rng(6)
    A = rng.standard_normal((5, 9))
    A = A @ A.T
    L, x = A.copy(), rng.standard_normal(5)
    assert cholesky(L) == pytest.approx(np.linalg.slogdet(A)[1], abs=1e-12)
    y = x.copy()
    forward(L, y)
    assert np.tril(L) @ y == pytest.approx(x, abs=1e-12)
    backward(L, y)
    assert y == pytest.approx(np.linalg.solve(A, x), rel=1e-9)


def test_cholesky_of_what_is_not_positive_definite():
    assert np.isnan(cholesky(np.array([[1.0, 2.0], [2.0, 1.0]])))
    assert np.isnan(cholesky(np.zeros((1, 1))))
    assert np.isnan(cholesky(np.full((1, 1), np.nan)))
