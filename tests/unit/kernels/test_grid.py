"""The variance grid: its axes, its points, and the likelihood there."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen.compress import GRID_ERROR
from mlmgen.kernels import grid
from mlmgen.kernels.families import likelihood_and_weight
from mlmgen.kernels.grid import axis, end_maxima, merge_weights, point, stretch, value_on_axis
from mlmgen.kernels.laplace import FINE, reml
from mlmgen.kernels.optimize import rho_of
from tests.unit.kernels.cases import simulated

NAN = np.nan


def ends(estimate: float, noise: float, replicates: float) -> tuple[float, float, float]:
    out = np.empty(2)
    floor = axis(estimate, noise, replicates, grid.FALLS, out)
    return out[0], out[1], floor


def fall(x: float, estimate: float, noise: float, replicates: float) -> float:
    u = np.log(np.exp(x) + noise) - np.log(estimate + noise)
    return grid.DISCOUNT * replicates / 2 * (u + np.exp(-u) - 1)


@given(st.floats(0, 9), st.floats(1e-6, 10), st.floats(0, 1000))
def test_axis_of_any_gene(estimate, noise, replicates):
    low, high, floor = ends(estimate, noise, replicates)
    assert grid.LOWEST <= low < high <= grid.HIGHEST
    assert high - low >= min(grid.SHORTEST, high - grid.LOWEST) - 1e-9
    assert floor == pytest.approx(max(grid.LOWEST, np.log(grid.NEGLIGIBLE * noise)))
    if estimate > np.exp(floor):
        assert low <= np.log(estimate) <= high + 1e-9


@pytest.mark.parametrize(("estimate", "noise", "replicates"), [(0.05, 0.001, 100), (0.3, 0.02, 300), (0.1, 0.0, 500)])
def test_axis_ends_where_the_likelihood_has_fallen(estimate, noise, replicates):
    # A few iterations on the end of an axis and no allowance for the noise above: within 5 %.
    low, high, _ = ends(estimate, noise, replicates)
    assert fall(high, estimate, noise, replicates) == pytest.approx(grid.FALLS[0], rel=0.05)
    assert fall(low, estimate, noise, replicates) == pytest.approx(grid.FALLS[1], rel=0.05)


def test_axis_narrows_with_replicates():
    lengths = [np.diff(ends(0.1, 0.01, replicates)[:2])[0] for replicates in (3, 10, 30, 100, 1000)]
    assert lengths[0] == pytest.approx(grid.HIGHEST - grid.LOWEST)
    assert lengths[1] <= lengths[0]
    assert (np.diff(lengths[1:]) < 0).all()


@pytest.mark.parametrize("estimate", [0.0, 0.05])
def test_axis_starts_no_lower_than_a_variance_that_matters(estimate):
    # A noise of 1: variances below 0.01 change nothing.
    low, _, floor = ends(estimate, 1.0, 4)
    assert low == floor == pytest.approx(np.log(0.01))


def test_values_on_an_axis():
    low_high = np.log([1e-4, 9.0])
    found = [value_on_axis(low_high, 24.0, float(i)) for i in range(24)]
    assert found == pytest.approx(np.geomspace(1e-4, 9, 24), rel=1e-13)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (1, 1, 4), (3, 4, 1), (3, 1, 4), (1, 2, 3)], ids=str)
def test_points_are_the_tensor_grid_with_the_last_axis_fastest(shape):
    box = np.array([[-3.0, 0.5], [-5.0, -1.0], [-2.0, 1.0]])
    psi = np.array([0.7, 0.2, rho_of(0.3)])
    held = (0.7**2, 0.2**2, 0.3)
    axes = [np.exp(np.linspace(*box[i], n)) if n > 1 else np.array([held[i]]) for i, n in enumerate(shape)]
    at = np.empty(3)
    for k, (top, sub, phi) in enumerate(product(*axes)):
        point(k, psi, box, np.array(shape), at)
        assert at == pytest.approx([np.sqrt(top), np.sqrt(sub), phi], rel=1e-12)


def test_end_maxima():
    shape = (3, 4, 2)
    profile = np.random.default_rng(3).normal(size=shape)
    for i in range(3):
        first, last = (profile.take(index, axis=i).max() for index in (0, -1))
        assert end_maxima(profile.ravel(), np.array(shape), i) == (first, last)


FLAT, STEEP = np.array([-3.0, -1.0, 0.0, -1.0, -3.0]), np.array([-40.0, -9.0, 0.0, -9.0, -40.0])
FIRST_FLAT, LAST_FLAT = np.where(np.arange(5) < 2, FLAT, STEEP), np.where(np.arange(5) > 2, FLAT, STEEP)


@pytest.mark.parametrize(
    ("profile", "moved"),
    [(FLAT, (-1.5, 1.5)), (STEEP, (0, 0)), (FIRST_FLAT, (-1.5, 0)), (LAST_FLAT, (0, 1.5))],
    ids=["flat", "steep", "first", "last"],
)
def test_stretch(profile, moved):
    box = np.array([[-4.0, -1.0], [NAN, NAN], [NAN, NAN]])
    stretched = stretch(box, np.array([5, 1, 1]), np.array([-8.0, 0.0, 0.0]), profile - 1e4)
    assert stretched == any(moved)
    assert box[0].tolist() == [-4.0 + moved[0], -1.0 + moved[1]]
    assert np.isnan(box[1:]).all()


def test_stretch_stops_at_the_limits():
    box, shape = np.array([[NAN, NAN], [-5.0, 1.9], [NAN, NAN]]), np.array([1, 5, 1])
    floors = np.array([0.0, -5.5, 0.0])
    assert stretch(box, shape, floors, FLAT)
    assert box[1].tolist() == [-5.5, grid.HIGHEST]
    assert not stretch(box, shape, floors, FLAT)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("phi", [0.0, 1e-4, 0.4, 5.0])
def test_merged_weights_keep_the_likelihood(paired, phi):
    # 200 cells a donor: patterns with more cells than nodes.
    case = simulated(paired, cells_per_donor=200)
    assert case.packed.cells.has_moments
    sums = case.wk.sums
    sums.eta[:] = np.random.default_rng(2).normal(0.5, 0.5, len(sums.eta))
    expected = likelihood_and_weight(case.st.size, case.st.cells, case.gene, phi, sums)
    weight = sums.w.copy()
    merge_weights(case.packed, case.gw, phi)
    small = case.gw.small
    assert small.size.shape[0] < case.st.size.shape[0]
    value = likelihood_and_weight(small.size, small.cells, case.gw.small_gene, phi, sums)
    expected_total = (case.st.cells * case.st.size * np.exp(sums.eta)).sum()
    assert value == pytest.approx(expected, abs=GRID_ERROR * expected_total)
    assert sums.w == pytest.approx(weight, rel=1e-4)


@pytest.mark.parametrize(("paired", "shape"), [(True, (4, 5, 1)), (False, (12, 1, 1)), (True, (3, 1, 4))], ids=str)
def test_profile_is_the_reml_likelihood_of_each_point(paired, shape):
    case, shape = simulated(paired, cells_per_donor=60), np.array(shape)
    box = np.log([[1e-4, 2.0], [1e-3, 1.0], [0.05, 2.0]])
    psi, at = np.array([0.4, 0.2 * paired, rho_of(0.3)]), np.empty(3)
    out = np.empty(shape.prod())
    reml(case.st, case.gene, case.wk, 0.4, 0.2 * paired, 0.3, FINE)
    grid.profile_gene(case.packed, case.gw, case.wk, psi, box, shape, out)
    for k in range(len(out)):
        point(k, psi, box, shape, at)
        exact = reml(case.st, case.gene, case.wk, *map(float, at), FINE)
        # Fewer nodes raise or lower it by GRID_ERROR times the counts, an unfinished maximization lowers it.
        assert out[k] <= exact + GRID_ERROR * case.gene.total.sum()
        assert out[k] == pytest.approx(exact, abs=1e-2)
