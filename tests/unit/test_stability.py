"""Leaving out donors: what is looked at, refits against designs built anew, and their summaries by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlmgen import contrasts, formula, leave_out, stability
from mlmgen.design import build
from mlmgen.fitting import fit_shard
from mlmgen.inference import test as run_tests
from mlmgen.types import Counts, Design, Effects

DONORS, CELLS = 8, 25
CARRIED, STEADY, NULL = 0, 1, 2
GENES = ("carried", "steady", "null")
PRIOR = {"donor": np.array([-3.0, 0.1, 0.8])}


def study(seed: int = 11) -> tuple[pd.DataFrame, np.ndarray]:
    """Four donors an arm. Of the first gene only donor D8 has many counts; the second is up in all of D5 to D8."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(DONORS), CELLS)
    mean = np.ones((3, donor.size))
    mean[CARRIED, donor == 7] = 60.0
    mean[STEADY, donor >= 4] = 8.0
    obs = pd.DataFrame({"donor": [f"D{i + 1}" for i in donor], "arm": np.where(donor < 4, "a", "b")})
    return obs, rng.poisson(mean * rng.gamma(5.0, 0.2, mean.shape))


def sparse(dense: np.ndarray) -> Counts:
    gene, rows = np.nonzero(dense)
    start = np.searchsorted(gene, np.arange(len(dense) + 1)).astype(np.int64)
    return Counts(GENES[: len(dense)], start, rows.astype(np.int32), dense[gene, rows].astype(float))


def arranged(obs: pd.DataFrame, dense: np.ndarray, text: str = "~ arm + (1 | donor)") -> tuple[Design, Counts]:
    design, order = build(obs, formula.parse(text), "donor")
    return design, sparse(dense[:, order])


@pytest.fixture(scope="module")
def left() -> stability.LeftOut:
    obs, dense = study()
    design, counts = arranged(obs, dense)
    tested = contrasts.resolve({"arm": "arm[b] - arm[a]"}, design)
    every = np.ones((3, 1), dtype=bool)
    return leave_out.leave_out(counts, design, np.ones(3, dtype=bool), PRIOR, np.zeros(3), tested, every)


def test_refits_are_those_of_the_data_without_the_donor(left):
    obs, dense = study()
    for d, donor in enumerate(left.donors):
        others = (obs["donor"] != donor).to_numpy()
        design, counts = arranged(obs[others].reset_index(drop=True), dense[:, others])
        fits = fit_shard(counts, design, np.ones(3, dtype=bool))
        reweighed = leave_out.reweigh(fits, PRIOR, np.zeros(3))
        expected = run_tests(counts, design, fits, reweighed, contrasts.resolve({"arm": "arm[T.b]"}, design))
        np.testing.assert_allclose(left.estimate[:, 0, d], expected.estimate[:, 0], rtol=1e-8)
        np.testing.assert_allclose(left.log_pvalue[:, 0, d], expected.log_pvalue[:, 0], rtol=1e-8)


def test_an_effect_of_one_donor_is_not_stable(left):
    summary = stability.summarize(left, np.array([[2.0], [2.0], [0.1]]), np.full((3, 1), 0.01))
    assert summary.stable[:, 0].tolist()[:2] == ["no", "yes"]
    assert summary.worst_donor[CARRIED, 0] == "D8"
    assert summary.worst_pvalue[CARRIED, 0] > 0.2
    assert (summary.calls[STEADY, 0], summary.same_sign[STEADY, 0]) == (1.0, 1.0)


def test_weights_follow_the_prior_that_is_given():
    obs, dense = study()
    design, counts = arranged(obs, dense)
    fits = fit_shard(counts, design, np.array([True, True, False]))
    z = np.array([-1.0, 0.5, 0.0])
    weights = leave_out.reweigh(fits, PRIOR, z).weights
    for g in (0, 1):
        points = np.linspace(fits.grid_low[g, 0], fits.grid_high[g, 0], fits.grid_shape[0])
        prior = stats.norm.pdf(points, -3.0 + 0.1 * z[g], 0.8)
        expected = np.exp(fits.grid_loglik[g] - fits.grid_loglik[g].max()) * prior
        np.testing.assert_allclose(weights[g], expected / expected.sum(), atol=2e-3)
    assert np.isnan(weights[2]).all()
    free = leave_out.reweigh(fits, {}, z).weights[0]
    np.testing.assert_allclose(free, np.exp(fits.grid_loglik[0]) / np.exp(fits.grid_loglik[0]).sum(), atol=0.01)


def test_models_without_a_grid_are_tested_by_t():
    obs, dense = study()
    obs["day"] = np.tile([0.0, 1.0, 2.0, 3.0, 4.0], len(obs) // 5)
    design, counts = arranged(obs, dense, "~ day + (1 + day | donor)")
    tested = contrasts.resolve({"day": "day"}, design)
    every = np.ones((3, 1), dtype=bool)
    found = leave_out.leave_out(counts, design, np.array([True, True, False]), None, np.zeros(3), tested, every)
    assert np.isfinite(found.log_pvalue[:2]).all()
    assert np.isnan(found.log_pvalue[2]).all()
    assert found.dropped[:, 0].tolist() == [True, True, False]


def test_a_contrast_that_needs_a_donor_is_reported_as_such():
    obs, dense = study()
    obs["batch"] = np.where(obs["donor"] == "D3", "x", np.where(np.arange(len(obs)) % 2, "y", "z"))
    design, counts = arranged(obs, dense, "~ batch + (1 | donor)")
    tested = contrasts.resolve({"x": "batch[x] - batch[y]", "z": "batch[z] - batch[y]"}, design)
    every = np.ones((3, 2), dtype=bool)
    found = leave_out.leave_out(counts, design, np.ones(3, dtype=bool), PRIOR, np.zeros(3), tested, every)
    assert found.estimable[1].all()
    assert [donor for donor, known in zip(found.donors, found.estimable[0], strict=True) if not known] == ["D3"]
    summary = stability.summarize(found, np.ones((3, 2)), np.full((3, 2), 0.01))
    assert summary.stable[:, 0].tolist() == ["not_estimable"] * 3
    assert set(summary.worst_donor[:, 0]) == {"D3"}
    assert np.isnan(summary.worst_pvalue[:, 0]).all()
    assert np.isfinite(summary.worst_pvalue[:, 1]).all()


def test_nothing_left_to_fit_is_no_evidence():
    obs, dense = study()
    dense[CARRIED, (obs["donor"] != "D8").to_numpy()] = 0
    design, counts = arranged(obs, dense)
    tested = contrasts.resolve({"arm": "arm[b] - arm[a]"}, design)
    every = np.ones((3, 1), dtype=bool)
    found = leave_out.leave_out(counts, design, np.ones(3, dtype=bool), PRIOR, np.zeros(3), tested, every)
    summary = stability.summarize(found, np.ones((3, 1)), np.full((3, 1), 0.01))
    assert (summary.stable[CARRIED, 0], summary.worst_donor[CARRIED, 0]) == ("no", "D8")
    assert (summary.worst_pvalue[CARRIED, 0], summary.same_sign[CARRIED, 0]) == (1.0, 0.0)


def test_of_many_donors_those_are_left_out_that_change_a_regression_most(monkeypatch):
    monkeypatch.setattr(leave_out, "MOST_DONORS", 2)
    obs, dense = study()
    design, counts = arranged(obs, dense)
    chosen = leave_out.farthest(counts, design, contrasts.resolve({"arm": "arm[b] - arm[a]"}, design))
    X = np.column_stack([np.ones(8), np.repeat([0.0, 1.0], 4)])
    for g in range(3):
        rate = np.log((dense[g].reshape(DONORS, CELLS).sum(axis=1) + 0.5) / CELLS)
        full = np.linalg.lstsq(X, rate, rcond=None)[0][1]
        change = [
            abs(np.linalg.lstsq(np.delete(X, d, 0), np.delete(rate, d), rcond=None)[0][1] - full) for d in range(8)
        ]
        assert set(np.flatnonzero(chosen[g])) == set(np.argsort(change)[-2:])
    assert chosen[CARRIED, 7]


ARRAYS = tuple(field.name for field in dataclasses.fields(Effects) if field.name != "contrasts")


def effects(log_pvalue, std_error=0.3) -> Effects:
    log_p = np.array(log_pvalue, dtype=float)
    same = np.full(log_p.shape, std_error)
    return Effects(("c",), same, same, same, same, log_p, same, same)


def test_reported_are_the_calls_of_either_method_with_the_smallest_p_values(monkeypatch):
    cells = effects(np.log([[1e-6], [1e-4], [0.5], [np.nan], [0.9]]))
    sums = effects(np.log([[0.5], [1e-5], [0.9], [1e-3], [0.9]]))
    total = np.arange(5.0)
    assert stability.hits([cells, sums], total)[:, 0].tolist() == [True, True, False, True, False]
    assert stability.hits([cells], total)[:, 0].tolist() == [True, True, False, False, False]
    monkeypatch.setattr(stability, "MOST_HITS", 2)
    monkeypatch.setattr(stability, "FEWEST_HITS", 1)
    assert stability.hits([cells], total)[:, 0].tolist() == [True, True, False, False, False]
    # Contrasts share the number: one each.
    both = [dataclasses.replace(e, **{f: np.repeat(getattr(e, f), 2, axis=1) for f in ARRAYS}) for e in (cells, sums)]
    both = [dataclasses.replace(e, contrasts=("c", "d")) for e in both]
    agreeing = [dataclasses.replace(e, log_pvalue=both[0].log_pvalue) for e in both]
    assert stability.hits(agreeing, total).sum(axis=0).tolist() == [1, 1]
    # The second and fourth gene are called by one method and not at all by the other: not reported, but looked at.
    assert stability.hits(both, total)[:, 0].tolist() == [True, False, False, False, False]


def test_what_the_methods_disagree_about_is_looked_at_too():
    # Called by neither, of opposite signs with p below 0.05; and far apart without evidence.
    pair = [effects(np.log([[0.04], [0.5]])), effects(np.log([[0.03], [0.6]]))]
    pair[1] = dataclasses.replace(pair[1], estimate=-3.0 * pair[1].estimate)
    assert stability.hits(pair, np.arange(2.0))[:, 0].tolist() == [True, False]
    assert not stability.hits(pair[:1], np.arange(2.0)).any()


def one_gene(p, estimate=None, estimable=None, dropped=None) -> stability.LeftOut:
    D = len(p)
    yes = np.ones((1, D), dtype=bool)
    estimate = np.ones(D) if estimate is None else np.array(estimate, dtype=float)
    log_p = np.log(np.array(p, dtype=float))
    return stability.LeftOut(
        ("g",),
        ("c",),
        tuple("abcdefgh"[:D]),
        np.ones((1, 1), dtype=bool),
        yes if dropped is None else np.array([dropped]),
        yes if estimable is None else np.array([estimable]),
        estimate[None, None],
        log_p[None, None],
    )


@pytest.mark.parametrize(
    ("left", "sign", "worst", "donor", "calls", "stable"),
    [
        (one_gene([0.01, 0.02, 0.001]), 1.0, 0.02, "b", 2 / 3, "yes"),
        (one_gene([0.01, 0.06, 0.001]), 1.0, 0.06, "b", 2 / 3, "no"),
        (one_gene([0.01, 0.02], [1, -1]), 0.0, 0.02, "b", 0.5, "no"),
        (one_gene([0.01, np.nan], [1, np.nan]), 1.0, 0.01, "a", 1.0, "not_fitted"),
        (one_gene([0.06, np.nan], [1, np.nan]), 1.0, 0.06, "a", 0.0, "no"),
        (one_gene([0.01, 1.0], [1, 0]), 0.0, 1.0, "b", 0.5, "no"),  # a gene that only donor b has
        (one_gene([0.01, np.nan, 0.2], estimable=[True, False, True]), 1.0, np.nan, "b", 0.5, "not_estimable"),
        (one_gene([0.01, 0.9, 0.02], dropped=[True, False, True]), 1.0, 0.02, "c", 0.5, "yes"),
    ],
)
def test_summaries_by_hand(left, sign, worst, donor, calls, stable):
    found = stability.summarize(left, np.array([[2.0]]), np.array([[0.011]]))
    assert (found.same_sign[0, 0], found.worst_donor[0, 0], found.stable[0, 0]) == (sign, donor, stable)
    np.testing.assert_allclose(found.worst_pvalue[0, 0], worst)
    np.testing.assert_allclose(found.calls[0, 0], calls)


def test_joint_tests_have_no_sign():
    found = stability.summarize(one_gene([0.01, 0.02], [np.nan, np.nan]), np.array([[np.nan]]), np.array([[0.01]]))
    assert np.isnan(found.same_sign[0, 0])
    assert found.stable[0, 0] == "yes"


@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=8), st.randoms())
def test_summaries_do_not_depend_on_the_order_of_donors(pvalues, random):
    order = random.sample(range(len(pvalues)), len(pvalues))
    threshold = np.array([[0.01]])
    first = stability.summarize(one_gene(pvalues), np.ones((1, 1)), threshold)
    second = stability.summarize(one_gene([pvalues[i] for i in order]), np.ones((1, 1)), threshold)
    for name in ("worst_pvalue", "calls", "stable", "same_sign"):
        assert getattr(first, name)[0, 0] == pytest.approx(getattr(second, name)[0, 0])


def test_one_donor_that_is_left_does_not_make_its_cells_the_replicates():
    rng = np.random.default_rng(3)
    donor, arm = np.repeat(["D1", "D2"], 60), np.tile(np.repeat(["a", "b"], 30), 2)
    obs = pd.DataFrame({"donor": donor, "arm": arm, "well": [f"w{i}" for i in np.arange(120) // 10]})
    design, order = build(obs, formula.parse("~ arm + (1 | donor)"), "donor", "well")
    counts = sparse(rng.poisson(np.where(arm == "b", 9.0, 1.0), (3, 120))[:, order])
    tested = contrasts.resolve({"arm": "arm[b] - arm[a]"}, design)
    every = np.ones((3, 1), dtype=bool)
    found = leave_out.leave_out(counts, design, np.ones(3, dtype=bool), None, np.zeros(3), tested, every)
    assert not found.estimable.any()
    summary = stability.summarize(found, np.full((3, 1), 2.0), np.full((3, 1), 0.05))
    assert (summary.stable == "not_estimable").all()
