"""The variance grid of any model: its axes, its units, and the order of its components."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import fitting, model_tests, moderate, multilevel, variance_grid
from mlmgen.levels import build_model
from tests.reference import designs
from tests.unit import grid_cases, structures

# Structure, shape of the axes, and for each its component and number of groups (donors 6, sites 3, batches 3).
PLANS = [
    ("intercept", (24, 1, 1), {"donor": 6}),
    ("slope", (7, 9, 1), {"donor: (Intercept)": 6, "donor: condition[T.stim]": 6}),
    ("crossed", (7, 9, 1), {"batch": 3, "donor": 6}),
    ("nested", (7, 9, 1), {"donor": 6, "donor:condition": 12}),
    ("two terms on one level", (7, 9, 1), {"donor": 6, "donor: condition[T.stim]": 6}),
    ("three levels", (4, 5, 7), {"site": 3, "donor": 6, "donor:condition": 12}),
    ("crossed slope", (4, 5, 7), {"batch: (Intercept)": 3, "batch: condition[T.stim]": 3, "donor": 6}),
    # Four variances: an axis stands for a whole term.
    ("slopes at two levels", (7, 9, 1), {"site: (Intercept)": 3, "site:donor: (Intercept)": 6}),
]


def planned(name: str, family: str = "nb"):
    design = structures.design_of(name)
    model = build_model(design, family, "reml")
    return design, model, variance_grid.plan(design, model)


@pytest.mark.parametrize(("name", "shape", "axes"), PLANS, ids=[plan[0] for plan in PLANS])
def test_the_axes_of_a_design(name, shape, axes):
    design, model, chosen = planned(name)
    components = multilevel.component_names(design, "nb")
    assert tuple(chosen.axes.shape) == shape
    assert [components[v] for v in chosen.component] == list(axes)
    n = len(axes)
    assert chosen.groups[:n].tolist() == list(axes.values())
    assert chosen.axes.replicates[:n].tolist() == [max(groups - 2.0, 1.0) for groups in axes.values()]
    assert (chosen.axes.effect[:n] < 0).all() == (name == "slopes at two levels")
    # Each axis scales the parameters and weighs the column of its own effect.
    starts = np.cumsum([0, *(len(t.effects) * (len(t.effects) + 1) // 2 for t in design.terms)])
    for a, v in enumerate(chosen.component):
        t = int(np.searchsorted(starts, v, side="right")) - 1
        assert chosen.axes.first[a] == model.terms.first[t]
        assert chosen.axes.size[a] == len(design.terms[t].effects)
        assert chosen.axes.column[a] == model.columns[t][v - starts[t]]


def test_of_many_terms_the_finest_three_are_on_the_grid():
    design = structures.design_of("three levels")
    small = designs.intercepts("half", ("a", "b"), np.arange(len(design.X)) % 2)
    crowded = dataclasses.replace(design, terms=(*design.terms, small))
    chosen = variance_grid.plan(crowded, build_model(crowded, "nb", "reml"))
    names = multilevel.component_names(crowded, "nb")
    assert [names[v] for v in chosen.component] == ["site", "donor", "donor:condition"]
    assert tuple(chosen.axes.shape) == (4, 5, 7)


def test_without_random_terms_there_is_no_grid():
    design, _, chosen = planned("none")
    assert chosen is None
    assert not fitting.can_have_grid(design, "cells", "reml")


def test_which_models_have_a_grid():
    design = structures.design_of("slope")
    assert fitting.can_have_grid(design, "cells", "reml")
    assert not fitting.can_have_grid(design, "cells", "ml")
    assert fitting.can_have_grid(design, "samples", "reml")
    # The dispersion of samples is the variance between replicates, which is no axis of this grid.
    assert not fitting.can_have_grid(structures.design_of("crossed"), "samples", "reml")


def covariance(q: int, rank: int, seed: int) -> np.ndarray:
    """Draw a covariance matrix, singular where ``rank`` < q."""
    A = np.random.default_rng(seed).normal(size=(q, rank))
    return A @ A.T


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 200))
def test_factors_of_singular_covariances(q, rank, seed):
    sigma = np.array([covariance(q, min(rank, q), seed), np.eye(q), np.zeros((q, q))])
    T = variance_grid.lower_factors(sigma)
    assert np.isfinite(T).all()
    assert (np.triu(T, 1) == 0).all()
    assert (np.einsum("gii->gi", T) >= 0).all()
    np.testing.assert_allclose(T @ T.transpose(0, 2, 1), sigma, atol=1e-5 * max(sigma.max(), 1e-300))
    np.testing.assert_array_equal(T[1], np.eye(q))


@given(st.integers(2, 4), st.integers(1, 4), st.integers(0, 200))
def test_correlations_are_shrunken_to_at_most_the_largest(q, rank, seed):
    sigma = covariance(q, min(rank, q), seed)
    (found,) = variance_grid.shrunk(sigma[None])
    np.testing.assert_allclose(found, grid_cases.capped(sigma, variance_grid.LARGEST_CORRELATION), atol=1e-12)
    np.testing.assert_allclose(np.diag(found), np.diag(sigma))
    assert np.linalg.eigvalsh(found).min() > -1e-9 * max(sigma.max(), 1e-300)


def test_a_variance_at_zero_has_no_correlation():
    sigma = np.array([[[0.0, 0.0], [0.0, 0.3]], [[0.4, 0.02], [0.02, 0.1]]])
    np.testing.assert_array_equal(variance_grid.shrunk(sigma), sigma)


@pytest.mark.parametrize(("name", "family"), [("slope", "nb"), ("functions", "gaussian"), ("crossed slope", "poisson")])
def test_parameters_and_units_are_those_of_the_data(name, family):
    case = grid_cases.grid_case(name, family)
    fits, model = case.fits, case.model
    psi, scale = variance_grid.parameters_of(case.design, model, fits, family)
    unit = variance_grid.units(case.design, model, variance_grid.plan(case.design, model), fits, scale)
    factors, place = multilevel.factors(model, psi), 0
    for t, T in enumerate(factors):
        q = T.shape[1]
        sigma = T @ T.transpose(0, 2, 1)
        for e in range(q):
            # A variance of 1 on the grid is exp(unit) in the data.
            np.testing.assert_allclose(
                sigma[:, e, e] * np.exp(unit[:, place + e]), fits.variance[:, place + e], rtol=1e-9
            )
            z = model.z_scale[model.columns[t][e]]
            np.testing.assert_allclose(np.exp(unit[:, place + e]), scale / z**2)
        place += q * (q + 1) // 2
    if family == "gaussian":
        np.testing.assert_array_equal(scale, fits.variance[:, -1])
        assert (psi[:, -1] == 0).all()
    else:
        assert (scale == 1).all()


@pytest.mark.parametrize("family", ["nb", "gaussian"])
def test_moderated_slopes_are_in_the_units_of_the_data(family):
    case = grid_cases.grid_case("functions", family, genes=30)
    wide = dataclasses.replace(case.design, functions=case.design.functions * [100.0, 1.0])
    other = grid_cases.fit(wide, case.counts, family, likelihood="exact")
    v = case.fits.components.index("donor: f0")
    for name in ("variance", "ci_low", "ci_high"):
        one, two = getattr(case.moderated, name)[:, v], getattr(other.moderated, name)[:, v]
        np.testing.assert_allclose(two * 1e4, one, rtol=2e-3)
    assert (case.moderated.ci_low[:, v] < case.moderated.ci_high[:, v]).all()


def test_units_of_a_gaussian_response_do_not_change_the_tests():
    case = grid_cases.grid_case("slope", "gaussian", genes=30)
    counts = dataclasses.replace(case.counts, values=case.counts.values * 1000.0)
    other = grid_cases.fit(case.design, counts, "gaussian", likelihood="exact")
    v = case.fits.components.index("donor: condition[T.stim]")
    np.testing.assert_allclose(other.moderated.variance[:, v], 1e6 * case.moderated.variance[:, v], rtol=1e-6)
    np.testing.assert_allclose(other.moderated.prior[v], case.moderated.prior[v], atol=0.1)


@pytest.mark.parametrize("name", ["crossed slope", "three levels", "slope", "crossed", "intercept"])
def test_grids_are_in_the_order_of_the_components(name):
    # Axes are sorted by their number of groups; records by the formula.
    design, _, chosen = planned(name)
    shape = chosen.axes.shape[: len(chosen.component)]
    K, V = int(shape.prod()), len(multilevel.component_names(design, "nb"))
    loglik = np.random.default_rng(1).normal(size=(2, K))
    box = np.arange(12.0).reshape(2, 3, 2)
    empty = grid_cases.grid_case(name, genes=2).fits
    fits = variance_grid.with_grid(empty, chosen, variance_grid.Profile(box, loglik), np.zeros((2, V)))
    assert sorted(fits.grid_shape[fits.grid_shape > 1]) == sorted(shape)
    for a, v in enumerate(chosen.component):
        assert fits.grid_shape[v] == shape[a]
        np.testing.assert_array_equal(fits.grid_low[:, v], box[:, a, 0])
        np.testing.assert_array_equal(fits.grid_high[:, v], box[:, a, 1])
        off_axis = tuple(1 + b for b in range(len(shape)) if b != a)
        on_grid = np.flatnonzero(fits.grid_shape > 1)
        off_component = tuple(1 + b for b, other in enumerate(on_grid) if other != v)
        np.testing.assert_array_equal(
            loglik.reshape(2, *shape).max(axis=off_axis),
            fits.grid_loglik.reshape(2, *fits.grid_shape[on_grid]).max(axis=off_component),
        )
    np.testing.assert_array_equal(model_tests.in_axis_order(chosen, fits, fits.grid_loglik), loglik)
    np.testing.assert_array_equal(model_tests.boxes(chosen, fits)[:, : len(shape)], box[:, : len(shape)])


def test_genes_without_a_fit_have_no_grid():
    G = moderate.FEW_GENES + 1
    design, counts = structures.example("slope", "nb", genes=G)
    keep = np.arange(G) != 1
    fits = fitting.fit_shard(counts, design, keep)
    assert np.isnan(fits.grid_loglik[1]).all()
    assert np.isfinite(fits.grid_loglik[keep]).all()
    moderated = moderate.moderate(fits, np.zeros(G))
    np.testing.assert_allclose(moderated.weights[keep].sum(axis=1), 1.0)
    assert np.isnan(moderated.weights[1]).all()
