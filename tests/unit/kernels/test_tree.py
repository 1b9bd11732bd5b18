"""The sparse factor of a multilevel model against dense algebra with one row per cell."""

import numpy as np
import pytest

from mlmgen.kernels.tree import factor_tree, gather_effects, predict, solve_path, solve_tree, start_paths
from tests.unit.kernels.model_cases import (
    coefficients,
    dense,
    factored,
    factors,
    functions,
    model_case,
    parameters,
    read,
    start,
    sums_by_pattern,
    write,
)
from tests.unit.structures import STRUCTURES

EACH = pytest.mark.parametrize("name", STRUCTURES)
BOTH = pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])


@EACH
@BOTH
def test_log_determinant(name, restricted):
    _, _, H, log_det = factored(name, restricted)
    assert log_det == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-11, abs=1e-11)


@EACH
@BOTH
def test_solve(name, restricted):
    case, made, H, _ = factored(name, restricted)
    wk = case.work.wk
    right = np.random.default_rng(1).standard_normal(len(H))
    write(made.names, right, wk.r_v, wk.r_b)
    solve_tree(case.work.tree, wk, restricted)
    expected = np.linalg.solve(H, right)
    assert read(made.names, wk.d_v, wk.d_b) == pytest.approx(expected, rel=1e-9, abs=1e-10)
    if not restricted:
        assert not wk.d_b[case.model.tree.crossed :].any()


@EACH
@BOTH
def test_path_part_of_the_solution(name, restricted):
    # Each pattern and function is a right-hand side; only the entries along its own path are asked for.
    case, made, H, _ = factored(name, restricted)
    tree, wk = case.work.tree, case.work.wk
    R, M, P = tree.level.size, tree.X.shape[1], tree.X.shape[2]
    B = tree.crossed + (tree.X.shape[0] if restricted else 0)
    coefficient = coefficients_of(case, made)
    start_paths(tree, wk, restricted)
    for k in range(M):
        solve_path(tree.level, tree.node, wk, B, wk.A[k])
        expected = np.linalg.solve(H, coefficient[:, k])
        for at, column in enumerate(made.names):
            for p in range(P):
                if isinstance(column, int):
                    assert wk.A[k, R - 1 - column, p] == pytest.approx(expected[at, p], rel=1e-8, abs=1e-10)
                elif tree.node[tree.level[column[0]], p] == column[1]:
                    assert wk.A[k, column[0], p] == pytest.approx(expected[at, p], rel=1e-8, abs=1e-10)


def coefficients_of(case, made):
    """Return the coefficient of each function in each pattern of the dense columns, (columns, M, P)."""
    c, layout = functions(case), case.model.layout
    out = np.zeros((made.columns.shape[1], c.shape[1], layout.number.size))
    for p in range(layout.number.size):
        cells = layout.pattern == p
        # A pattern of few cells does not determine them; any solution spans the same rows, so take the design's.
        out[:, :, p] = _of_pattern(case, made, int(case.design.pattern[np.flatnonzero(cells)[0]]), p)
        assert c[cells] @ out[:, :, p].T == pytest.approx(made.columns[cells], abs=1e-12)
    return out


def _of_pattern(case, made, pattern, panel):
    tree = case.model.tree
    rows = []
    for name in made.names:
        if not isinstance(name, int):
            mine = tree.node[tree.level[name[0]], panel] == name[1]
            rows.append(case.work.wk.Zs[name[0], :, panel] * mine)
        elif -1 - name >= tree.crossed:
            rows.append(tree.X[-1 - name - tree.crossed, :, panel])
        else:
            own = case.work.wk.Zs[tree.level.size :, :, panel] * (tree.border[:, panel] == -1 - name)[:, None]
            rows.append(own.sum(axis=0))
    return np.array(rows).reshape(len(rows), tree.X.shape[1])


@EACH
@BOTH
def test_prediction_and_gathering_are_the_columns_and_their_transpose(name, restricted):
    case = model_case(name, method="reml" if restricted else "ml")
    psi = parameters(case, factors(case), 0.4, coefficients(case))
    start(case, psi)
    made, tree, wk = dense(case, psi, restricted), case.work.tree, case.work.wk
    rng, c, pattern = np.random.default_rng(2), functions(case), case.model.layout.pattern
    effects = rng.standard_normal(len(made.names))
    write(made.names, effects, wk.v, wk.b)
    predict(tree, wk, wk.v, wk.b, wk.s)
    assert (c * wk.s[:, pattern].T).sum(axis=1) == pytest.approx(made.columns @ effects, abs=1e-12)
    score = rng.standard_normal(len(pattern))
    wk.G[:] = sums_by_pattern(case, score)[0]
    gather_effects(tree, wk, wk.G, wk.r_v, wk.r_b, restricted)
    assert read(made.names, wk.r_v, wk.r_b) == pytest.approx(made.columns.T @ score, abs=1e-11)


@EACH
def test_standard_deviations_of_zero_are_ordinary(name):
    case = model_case(name)
    psi = parameters(case, [0.0 * T for T in factors(case)], 0.4, coefficients(case))
    start(case, psi)
    tree, wk = case.work.tree, case.work.wk
    wk.W[:] = sums_by_pattern(case, np.full(len(case.rows.y), 0.7))
    X = case.rows.X / case.model.x_scale
    assert factor_tree(tree, wk, True) == pytest.approx(np.linalg.slogdet(0.7 * X.T @ X)[1], abs=1e-11)
    assert factor_tree(tree, wk, False) == 0


def test_what_is_not_positive_definite_has_no_determinant():
    case = model_case("intercept")
    start(case, parameters(case, factors(case), 0.4, coefficients(case)))
    case.work.wk.W[:] = 0.0
    assert np.isnan(factor_tree(case.work.tree, case.work.wk, True))
    case.work.wk.W[:] = np.nan
    assert np.isnan(factor_tree(case.work.tree, case.work.wk, False))


def test_ridge_is_a_prior_on_beta():
    case, _, H, before = factored("crossed", True)
    case.work.tree.ridge[:] = [0.0, 0.9]
    H[-1, -1] += 0.9
    assert factor_tree(case.work.tree, case.work.wk, True) == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-11)
    assert np.linalg.slogdet(H)[1] > before
