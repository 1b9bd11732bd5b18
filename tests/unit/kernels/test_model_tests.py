"""Tests of contrasts in any model, integrated over its variance grid, against the slow twins."""

import dataclasses

import numpy as np
import pytest

from mlmgen import inference
from mlmgen.status import Status
from mlmgen.types import Contrast, Counts
from tests.reference import model_tests as twin
from tests.reference import multilevel
from tests.unit import grid_cases, structures

CASES = (
    ("slope", "nb"), ("slope", "gaussian"), ("crossed slope", "poisson"), ("slopes at two levels", "nb"),
    ("three levels", "bernoulli"), ("functions", "nb"), ("functions, crossed", "gaussian"),
)  # fmt: skip


def effect(*rows) -> Contrast:
    return Contrast("c", "", np.array(rows, dtype=float))


def contrasts_of(case) -> tuple[Contrast, ...]:
    """A coefficient, a sum of coefficients with different scales, and two coefficients together."""
    p = case.design.X.shape[1]
    mixed = np.where(np.arange(p) == 1, 1.0, 0.2)
    return effect(np.eye(p)[1]), effect(mixed), effect(np.eye(p)[0], np.eye(p)[p - 1])


def run(case, contrasts, weights=None, threads: int = 1, likelihood: str = "exact"):
    moderated = case.moderated if weights is None else dataclasses.replace(case.moderated, weights=weights)
    return inference.test(
        case.counts, case.design, case.fits, moderated, contrasts, case.family, "cells", threads, None, likelihood
    )


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    return grid_cases.grid_case(*request.param)


def unit_of(case, g: int) -> float:
    """Return what turns the twin's gaussian estimates, in the kernels' units, into those of the data."""
    return np.std(multilevel.expand(case.design, case.counts, g, case.family).y) if case.family == "gaussian" else 1.0


@pytest.mark.parametrize("which", [0, 1, 2], ids=["one", "sum", "joint"])
def test_one_point_is_the_twins_test(case, which):
    contrast = contrasts_of(case)[which]
    G, K = case.moderated.weights.shape
    chosen = np.random.default_rng(1).integers(0, K, G)
    found = run(case, (contrast,), np.eye(K)[chosen])
    for g in range(4):
        expected = twin.joint_test(grid_cases.rows(case, g), contrast.weights, *grid_cases.point(case, g, chosen[g]))
        # The maximization stops 1e-3 of a squared standard error before the mode.
        assert found.log_pvalue[g, 0] == pytest.approx(expected["log_pvalue"], abs=2e-3, rel=2e-3)
        if which < 2:
            unit = unit_of(case, g)
            error = expected["std_error"] * unit
            assert found.estimate[g, 0] == pytest.approx(expected["estimate"] * unit, abs=0.02 * error)
            assert found.std_error[g, 0] == pytest.approx(error, rel=5e-3)


@pytest.mark.parametrize("name", ["slope", "crossed"])
def test_the_mixture_is_the_twins(name):
    case = grid_cases.grid_case(name)
    contrast, g = contrasts_of(case)[0], 2
    found, weights = run(case, (contrast,)), case.moderated.weights[g]
    carries = np.flatnonzero(weights > 1e-4)
    data = grid_cases.rows(case, g)
    each = [twin.joint_test(data, contrast.weights, *grid_cases.point(case, g, k)) for k in carries]
    expected = twin.mixed(each, weights[carries] / weights[carries].sum())
    assert found.log_pvalue[g, 0] == pytest.approx(expected["log_pvalue"], abs=5e-3)
    assert found.estimate[g, 0] == pytest.approx(expected["estimate"], abs=0.01 * expected["std_error"])
    assert found.std_error[g, 0] == pytest.approx(expected["std_error"], rel=0.01)


def test_one_intercept_is_tested_as_by_its_own_engine():
    # Joint modes against ML maxima, and a grid of the same kind: they differ in the second order.
    sizes = {"genes": 40, "donors": 8, "cells": 30}
    design, counts = structures.example("intercept", "nb", **sizes)
    nested, general = grid_cases.fit(design, counts), grid_cases.fit(design, counts, likelihood="exact")
    np.testing.assert_allclose(general.moderated.weights.sum(axis=1), 1.0)
    contrasts = (effect([0.0, 1.0]), effect([1.0, 0.0], [0.0, 1.0]))
    one, other = run(nested, contrasts, likelihood="compressed"), run(general, contrasts)
    np.testing.assert_allclose(other.statistic, one.statistic, atol=0.05)
    np.testing.assert_allclose(other.estimate[:, 0], one.estimate[:, 0], atol=0.05 * one.std_error[:, 0].min())
    np.testing.assert_allclose(other.std_error[:, 0], one.std_error[:, 0], rtol=2e-3)
    assert (other.statistic != one.statistic).all()


def test_a_mean_is_tested_alone():
    # No coefficient is left in the null model.
    case = grid_cases.grid_case("crossed")
    design = dataclasses.replace(
        case.design, X=case.design.X[:, :1], coefficients=case.design.coefficients[:1], basis=case.design.basis[:1]
    )
    mean = grid_cases.fit(design, case.counts, likelihood="exact")
    found = run(mean, (effect([1.0]),))
    assert np.isfinite(found.log_pvalue).all()
    assert (np.sign(found.statistic) == np.sign(found.estimate)).all()


@pytest.fixture(scope="module")
def many():
    return grid_cases.grid_case("functions", genes=70)


GRID = ("grid_low", "grid_high", "grid_unit", "grid_loglik")


def test_threads_do_not_change_a_byte(many):
    again = grid_cases.fit(many.design, many.counts, threads=2, likelihood="exact")
    for name in GRID:
        np.testing.assert_array_equal(getattr(again.fits, name), getattr(many.fits, name))
    one, two = (run(many, contrasts_of(many), threads=n) for n in (1, 2))
    for field in dataclasses.fields(one)[1:]:
        np.testing.assert_array_equal(getattr(two, field.name), getattr(one, field.name))


@pytest.mark.parametrize("part", [slice(0, 1), slice(1, 37), slice(37, 70)], ids=str)
def test_a_gene_does_not_depend_on_the_others_of_its_shard(many, part):
    start, genes = many.counts.start, many.counts.genes
    values = slice(start[part.start], start[part.stop])
    own = start[part.start : part.stop + 1] - start[part.start]
    counts = Counts(genes[part], own, many.counts.rows[values], many.counts.values[values])
    shard = grid_cases.fit(many.design, counts, likelihood="exact")
    for name in GRID:
        np.testing.assert_array_equal(getattr(shard.fits, name), getattr(many.fits, name)[part])
    found = run(shard, contrasts_of(many), many.moderated.weights[part])
    whole = run(many, contrasts_of(many))
    for field in dataclasses.fields(whole)[1:]:
        np.testing.assert_array_equal(getattr(found, field.name), getattr(whole, field.name)[part])


@pytest.mark.parametrize("name", ["functions", "functions, nested"])
def test_the_unit_of_a_covariate_does_not_matter(name):
    case = grid_cases.grid_case(name)
    p, scale = case.design.X.shape[1], np.array([1000.0, 0.01])
    moved = dataclasses.replace(case.design, functions=case.design.functions * scale)
    other = grid_cases.fit(moved, case.counts, likelihood="exact")
    contrasts = (effect(np.eye(p)[1]), effect(np.eye(p)[2]), effect(np.eye(p)[2], np.eye(p)[3]))
    one, two = run(case, contrasts), run(other, contrasts)
    np.testing.assert_allclose(two.statistic, one.statistic, atol=2e-3)
    np.testing.assert_allclose(two.estimate[:, 1] * 1000.0, one.estimate[:, 1], atol=2e-3 * one.std_error[:, 1].min())
    np.testing.assert_allclose(other.moderated.prior[:, 2], case.moderated.prior[:, 2], rtol=1e-3)


@pytest.mark.parametrize("name", ["crossed slope", "nested", "crossed", "three levels"])
def test_the_order_of_the_terms_does_not_matter(name):
    case = grid_cases.grid_case(name)
    turned = dataclasses.replace(case.design, terms=case.design.terms[::-1])
    other = grid_cases.fit(turned, case.counts, likelihood="exact")
    one, two = run(case, contrasts_of(case)), run(other, contrasts_of(case))
    np.testing.assert_allclose(two.statistic, one.statistic, atol=2e-3)
    np.testing.assert_allclose(two.std_error, one.std_error, rtol=2e-3)


def test_a_separated_gene_has_a_finite_effect_and_a_small_p_value():
    case = grid_cases.grid_case("slope", donors=10)
    rows = case.design.pattern[case.counts.rows]
    stim = case.design.X[rows, 1] > 0
    first = np.arange(len(rows)) < case.counts.start[1]
    kept = ~(first & stim)
    start = np.r_[0, case.counts.start[1:] - (~kept).sum()]
    counts = Counts(case.counts.genes, start, case.counts.rows[kept], case.counts.values[kept])
    found = grid_cases.fit(case.design, counts, likelihood="exact")
    tested = run(found, contrasts_of(case)[:1])
    assert found.fits.status[0] == Status.SEPARATED
    assert -12 < tested.estimate[0, 0] < -2
    assert np.isfinite([tested.std_error[0, 0], tested.ci_low[0, 0], tested.ci_high[0, 0]]).all()
    assert tested.log_pvalue[0, 0] < np.log(1e-4)
    assert np.isfinite(tested.log_pvalue).all()
