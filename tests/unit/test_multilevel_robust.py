"""Data that break fits: every gene ends with a status, with finite numbers where there are any, and never a crash."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlmgen import fitting, inference, moderate, simulate
from mlmgen.kernels.optimize import MAX_EVALUATIONS
from mlmgen.status import Status
from mlmgen.types import Contrast
from tests.reference import designs, multilevel
from tests.unit import structures
from tests.unit.structures import STIM, STRUCTURES, Term, design_of, intercept, layout, slope

FAMILIES = ("nb", "poisson", "bernoulli", "gaussian")
FITTED = (Status.CONVERGED, Status.BOUNDARY, Status.SEPARATED, Status.NOT_CONVERGED, Status.DIVERGED)
EFFECT = Contrast("stim", "", np.array([[0.0, 1.0]]))
NAN = {"nan_ok": True}


def one(y, design, family="nb", **settings):
    return fitting.fit_shard(
        designs.counts(np.reshape(y, (-1, 1)), ["gene"]), design, np.ones(1, bool), family, **settings
    )


# What a gene can look like, from a design, a family and a generator.

KINDS = {
    "drawn": lambda d, f, rng: structures.responses(
        d, f, 1, int(rng.integers(1e6)), rng.uniform(-3, 3), rng.uniform(0, 1.5)
    )[:, 0],
    "all zero": lambda d, f, rng: np.zeros(len(d.pattern)),
    "all equal": lambda d, f, rng: np.full(len(d.pattern), float(rng.integers(1, 20))),
    "one count": lambda d, f, rng: with_one(np.zeros(len(d.pattern)), rng.integers(1, 5), rng),
    "one huge": lambda d, f, rng: with_one(drawn_counts(d, rng), rng.integers(1e5, 1e6), rng),
    "all but one": lambda d, f, rng: with_one(np.ones(len(d.pattern)), 0.0, rng),
    "an arm off": lambda d, f, rng: drawn_counts(d, rng) * (d.X[d.pattern, 1] == rng.integers(2)),
    "a donor off": lambda d, f, rng: drawn_counts(d, rng) * (donor_of(d) != rng.integers(len(d.donor.levels))),
    "one donor on": lambda d, f, rng: drawn_counts(d, rng) * (donor_of(d) == rng.integers(len(d.donor.levels))),
    "all huge": lambda d, f, rng: rng.poisson(np.exp(rng.uniform(9, 13) + rng.normal(0, 0.5, len(d.pattern)))),
    "perfect by arm": lambda d, f, rng: 3.0 + 2.0 * d.X[d.pattern, 1],
    "perfect by donor": lambda d, f, rng: rng.integers(1, 9, len(d.donor.levels))[donor_of(d)],
    "any unit": lambda d, f, rng: np.abs(rng.normal(size=len(d.pattern))) * 10.0 ** rng.integers(-6, 7),
}


def donor_of(design):
    return design.donor.codes[design.pattern]


def drawn_counts(design, rng):
    return structures.responses(design, "nb", 1, int(rng.integers(1e6)), rng.uniform(-2, 2))[:, 0]


def with_one(y, value, rng):
    y[rng.integers(len(y))] = value
    return y


def full_rank(design) -> bool:
    functions = np.column_stack([np.ones(len(design.pattern)), design.functions])
    X = design.X[design.pattern] * functions[:, design.basis]
    return np.linalg.matrix_rank(X) == X.shape[1] < len(X)


def check(fits, design, g=0):
    """Assert what holds of every fit, whatever the data."""
    status = Status(int(fits.status[g]))
    assert status in (*FITTED, Status.NOT_FINITE)
    diagonals = sum(len(term.effects) for term in design.terms) + 1
    # One search, one more for each variance that ends near zero, and all of it again with a prior.
    assert fits.n_iter[g] <= 2 * (diagonals + 1) * (MAX_EVALUATIONS + 40)
    if status == Status.NOT_FINITE:
        for name in ("beta", "std_error", "variance", "loglik", "covariance"):
            assert np.isnan(getattr(fits, name)[g]).all(), name
        return
    for name in ("beta", "loglik", "variance"):
        assert np.isfinite(getattr(fits, name)[g]).all(), name
    named = dict(zip(fits.components, fits.variance[g], strict=True))
    for term in design.terms:
        names = multilevel.component_names(term.name, term.effects)
        C = np.array([[named[name] for name in row] for row in names])
        assert (np.diag(C) >= 0).all()
        largest = np.sqrt(np.outer(np.diag(C), np.diag(C)))
        assert (np.abs(C) <= largest * (1 + 1e-9)).all()
        singular = (np.diag(C) == 0).any() or np.linalg.matrix_rank(C / np.maximum(largest, 1e-300)) < len(C)
        assert status != Status.CONVERGED or not singular
    p = fits.variance_pvalue[g]
    assert ((p >= 0) & (p <= 1))[~np.isnan(p)].all()
    errors = fits.variance_se[g]
    assert (errors >= 0)[~np.isnan(errors)].all()
    if status in (Status.CONVERGED, Status.BOUNDARY):
        assert np.isfinite(fits.std_error[g]).all()
        # The fast engine has none where its likelihood is too flat for differences.
        flat = np.isnan(fits.std_error_full[g]).all() and fits.grid_loglik.shape[1] > 0
        assert (fits.std_error_full[g] > 0).all() or flat


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(STRUCTURES),
    st.sampled_from(FAMILIES),
    st.sampled_from(["reml", "ml"]),
    st.sampled_from(["exact", "compressed"]),
    st.sampled_from(sorted(KINDS)),
    st.integers(2, 8),
    st.integers(2, 14),
    st.integers(0, 10**6),
)
def test_any_gene_in_any_structure(name, family, method, likelihood, kind, donors, cells, seed):
    rng = np.random.default_rng(seed)
    design = design_of(name, seed, donors=donors, cells=cells)
    assume(full_rank(design))
    y = np.asarray(KINDS[kind](design, family, rng), dtype=float)
    y = y if family == "gaussian" else np.round(y)
    fits = one(y, design, family, method=method, likelihood=likelihood, grid=False)
    check(fits, design)
    effects = inference.test(None, design, fits, None, (effect_of(design),), family)
    assert (effects.log_pvalue[0] <= 0).all() or np.isnan(effects.log_pvalue[0]).all()


def effect_of(design) -> Contrast:
    weights = np.zeros((1, design.X.shape[1]))
    weights[0, 1] = 1.0
    return Contrast("stim", "", weights)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["intercept", "nested"]),
    st.sampled_from(FAMILIES[:3]),
    st.sampled_from(sorted(set(KINDS) - {"any unit"})),
    st.integers(2, 8),
    st.integers(2, 20),
    st.integers(0, 10**6),
)
def test_any_gene_in_the_fast_engine(name, family, kind, donors, cells, seed):
    rng = np.random.default_rng(seed)
    design = design_of(name, seed, donors=donors, cells=cells)
    y = np.round(np.asarray(KINDS[kind](design, family, rng), dtype=float))
    fits = one(y, design, family)
    assert fits.grid_shape.prod() > 0
    check(fits, design)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(FAMILIES[:3]),
    st.sampled_from(sorted(set(KINDS) - {"any unit"})),
    st.integers(2, 8),
    st.integers(2, 10),
    st.integers(0, 10**6),
)
def test_any_gene_by_quadrature(family, kind, donors, cells, seed):
    design = design_of("intercept", seed, donors=donors, cells=cells)
    y = np.round(np.asarray(KINDS[kind](design, family, np.random.default_rng(seed)), dtype=float))
    check(one(y, design, family, method="ml", integration="agq", nodes=7), design)


# Groups without counts.


@pytest.mark.parametrize("family", FAMILIES[:3])
@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("name", ["none", "intercept", "slope", "crossed", "functions"])
def test_an_arm_without_counts_is_separated(name, method, family):
    design = design_of(name, 3, donors=8, cells=16)
    y = structures.responses(design, "nb", 1, 4, 1.0, 0.2)[:, 0]
    y[design.X[design.pattern, 1] == 1] = 0.0
    fits = one(y, design, family, method=method, grid=False)
    assert fits.status[0] == Status.SEPARATED
    # The prior's standard deviation is 3: an arm off is some units of log below.
    assert -15 < fits.beta[0, 1] < -1
    assert 0 < fits.std_error_full[0, 1] < 4
    assert np.isfinite(fits.covariance[0]).all()
    check(fits, design)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("response", [0.0, 1.0], ids=["nowhere", "everywhere"])
@pytest.mark.parametrize("name", ["intercept", "slope"])
def test_detected_nowhere_or_everywhere(name, response, method):
    # The intercept has no estimate; what differs between the arms is nothing, of which little is known.
    design = design_of(name, 3, donors=6, cells=10)
    fits = one(np.full(len(design.pattern), response), design, "bernoulli", method=method, grid=False)
    if fits.status[0] == Status.NOT_FINITE:
        return
    assert fits.status[0] == Status.SEPARATED
    assert fits.beta[0, 1] == pytest.approx(0.0, abs=1e-3)
    assert fits.std_error[0, 1] == pytest.approx(3.0, rel=1e-3)
    effects = inference.test(None, design, fits, None, (EFFECT,), "bernoulli")
    assert effects.log_pvalue[0, 0] > np.log(0.9)


def test_genes_detected_in_every_cell_stay_out_of_the_way():
    # Both engines call them separated; neither has an intercept. In the moderated test nothing speaks for an effect.
    counts, design, _ = simulate.null_experiment(4, 40, 40, np.random.default_rng(1), paired=True, log_mean=0.7)
    keep, n = np.ones(40, dtype=bool), len(design.pattern)
    everywhere = np.diff(counts.start) == n
    assert everywhere.sum() > 2
    fast = fitting.fit_shard(counts, design, keep, "bernoulli")
    general = fitting.fit_shard(counts, design, keep, "bernoulli", grid=False)
    moderated = moderate.moderate(fast, np.log(np.diff(counts.start)))
    effects = inference.test(counts, design, fast, moderated, (EFFECT,), "bernoulli")
    for fits in (fast, general):
        assert (fits.status[everywhere] == Status.SEPARATED).all()
        assert fits.beta[everywhere, 1] == pytest.approx(np.zeros(everywhere.sum()), abs=1e-6)
    assert (effects.log_pvalue[everywhere, 0] > np.log(0.9)).all()
    assert effects.std_error[everywhere, 0] == pytest.approx(3.0, rel=1e-3)
    assert np.isfinite(effects.log_pvalue).all()
    # The others are the same as if these were not there.
    assert fast.loglik[~everywhere] == pytest.approx(general.loglik[~everywhere], abs=1e-6)
    without = fitting.fit_shard(counts, design, ~everywhere, "bernoulli")
    alone = moderate.moderate(without, np.log(np.diff(counts.start)))
    assert moderated.prior[0] == pytest.approx(alone.prior[0], abs=0.1)


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_separated_along_a_cell_level_function(family):
    # All counts are in the cells with the highest values of the function.
    design = design_of("functions", 5, donors=6, cells=12)
    f = design.functions[:, 0]
    y = np.where(f > np.quantile(f, 0.8), 3.0, 0.0)
    for method in ("reml", "ml"):
        fits = one(y, design, family, method=method)
        check(fits, design)
        assert fits.status[0] in (Status.SEPARATED, Status.BOUNDARY, Status.CONVERGED)
        assert fits.beta[0, 2] > 0
        assert (np.abs(fits.beta[0]) < 60).all()
        assert (fits.std_error[0] < 60).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_donors_of_one_cell_and_donors_without_counts(family, method):
    rng = np.random.default_rng(6)
    donor = np.r_[np.repeat(np.arange(6), 12), np.arange(6, 12)]
    condition = (donor % 2).astype(float)
    X = np.column_stack([np.ones(len(donor)), condition])
    design, order = structures.build(donor, X, ["a", "b"], [intercept("donor", donor)], np.zeros(len(donor)))
    y = rng.poisson(2.0, len(donor)).astype(float)
    y[(donor == 0) | (donor == 7)] = 0.0
    fits = one(y[order], design, family, method=method, grid=False)
    assert fits.status[0] in (Status.CONVERGED, Status.BOUNDARY)
    check(fits, design)
    if method == "reml" and family != "gaussian":
        check(one(y[order], design, family), design)


@pytest.mark.parametrize("name", ["intercept", "nested", "slope", "crossed slope", "functions"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_two_donors(name, family, method):
    design, counts = structures.example(name, family, genes=4, seed=8, donors=2, cells=20)
    fits = fitting.fit_shard(counts, design, np.ones(4, bool), family, method=method, grid=False)
    for g in range(4):
        assert fits.status[g] != Status.NOT_FINITE
        check(fits, design, g)


# Designs with too much in them.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("second", ["constant", "twice", "function"])
def test_collinear_slopes(family, method, second):
    # An effect that repeats another: its covariance is not determined, the likelihood is.
    cells = layout(np.random.default_rng(4), donors=8)
    n = len(cells.donor)
    x = {"constant": np.ones(n), "twice": 2.0 * cells.condition, "function": cells.condition}[second]
    functions, basis = None, (0, 0, 0)
    if second == "function":
        functions, x, basis = cells.condition[:, None] + 0.0, np.ones(n), (0, 0, 1)
    Z = np.column_stack([np.ones(n), cells.condition, x])
    collinear = Term("donor", cells.donor, ("(Intercept)", STIM, "other"), Z, basis)
    X = np.column_stack([np.ones(n), cells.condition])
    design, _ = structures.build(cells.donor, X, ["a", "b"], [collinear], cells.log_size, functions)
    plain, _ = structures.build(
        cells.donor, X, ["a", "b"], [slope("donor", cells.donor, cells.condition)], cells.log_size
    )
    y = structures.responses(plain, family, 1, 9, 0.5)[:, 0]
    fits = one(y, design, family, method=method)
    check(fits, design)
    expected = one(y, plain, family, method=method)
    assert fits.status[0] in (*FITTED[:2], Status.NOT_CONVERGED)
    assert fits.loglik[0] == pytest.approx(expected.loglik[0], abs=1e-4)
    assert fits.beta[0] == pytest.approx(expected.beta[0], abs=1e-2)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_a_random_term_with_one_row_a_level(method):
    # With nb the dispersion and such a term compete, with gaussian the residual does: no crash, a finite sum.
    design = design_of("none", 3, donors=10, cells=4)
    rows = np.arange(len(design.pattern))
    cells = structures.label(rows)
    X = design.X[design.pattern]
    built, order = structures.build(
        design.donor.codes[design.pattern], X, ["a", "b"], [intercept("row", cells)], design.log_size
    )
    for family in FAMILIES:
        y = structures.responses(design, family, 1, 3)[:, 0][order]
        check(one(y, built, family, method=method, grid=False), built)


@pytest.mark.parametrize("name", ["intercept", "nested", "slope"])
def test_more_parameters_than_donors_allow(name):
    # Every donor has its own fixed effect: nothing is left for the variance.
    design = design_of(name, 3, donors=5, cells=10)
    donor = design.donor.codes
    X = np.column_stack([np.ones(len(donor)), *(donor == d for d in range(1, 5)), design.X[:, 1]]).astype(float)
    names = tuple(f"b{i}" for i in range(6))
    crowded = replace(design, X=X, basis=np.zeros(6, np.int32), coefficients=names)
    for family in FAMILIES:
        y = structures.responses(design, family, 1, 3)[:, 0]
        for method in ("reml", "ml"):
            fits = one(y, crowded, family, method=method, grid=False)
            check(fits, crowded)
            assert fits.status[0] in FITTED[:3]


# Large numbers.


@pytest.mark.parametrize("name", ["intercept", "nested", "functions"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_counts_over_100_000_converge(name, method):
    # Rounding of such likelihoods is 1e-8 and more: the search must not take it for lack of progress.
    design = design_of(name, 4, donors=6, cells=10)
    rng = np.random.default_rng(3)
    for level in (11.5, 12.5, 13.5):
        y = rng.poisson(np.exp(level + rng.normal(0, 0.6, len(design.pattern)))).astype(float)
        fits = one(y, design, "nb", method=method, grid=False)
        check(fits, design)
        assert fits.status[0] in (Status.CONVERGED, Status.BOUNDARY)
        dispersion = fits.variance[0, fits.components.index("dispersion")]
        assert 0.1 < dispersion < 0.8


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_one_enormous_count(method):
    # Without dispersion or donors such a count is impossible: p-values of the variances say so.
    design = design_of("intercept", 4, donors=6, cells=10)
    y = structures.responses(design, "nb", 1, 3)[:, 0]
    y[5] = 894_599.0
    fits = one(y, design, "nb", method=method, grid=False)
    check(fits, design)
    assert fits.variance_pvalue[0, -1] < 1e-100
    rows = multilevel.expand(design, designs.counts(y[:, None], ["g"]), 0, "nb")
    T, phi = multilevel.parameters(design, fits.components, fits.variance[0])
    own = multilevel.laplace_reml(rows, T, phi) if method == "reml" else None
    own = multilevel.laplace_ml(rows, fits.beta[0], T, phi) if own is None else own
    assert fits.loglik[0] == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("name", ["intercept", "slope", "functions"])
def test_likelihoods_of_counts_are_those_of_probabilities(name, method):
    # No search, with or without a variance, may find a density of counts above one.
    design = design_of(name, 4, donors=5, cells=6)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        for family, y in (
            ("nb", KINDS["one huge"](design, "nb", rng)),
            ("bernoulli", rng.integers(0, 2, len(design.pattern))),
        ):
            fits = one(np.asarray(y, float), design, family, method=method, grid=False)
            # Under REML beta is integrated over: (p / 2) log 2 pi, and its standard errors.
            room = 60.0 if method == "reml" else 1e-6
            assert np.isnan(fits.loglik[0]) or fits.loglik[0] < room
            p = fits.variance_pvalue[0]
            if family == "nb" and name == "intercept" and fits.status[0] in FITTED[:2]:
                assert p[-1] < 1e-30


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("name", ["intercept", "nested", "slope", "crossed"])
def test_gaussian_responses_without_noise(name, method):
    design = design_of(name, 4, donors=6, cells=10)
    n = len(design.pattern)
    for y, beta in (
        (np.zeros(n), [0, 0]),
        (np.full(n, 7.0), [7, 0]),
        (3.0 + 2.0 * design.X[design.pattern, 1], [3, 2]),
    ):
        fits = one(y, design, "gaussian", method=method)
        check(fits, design)
        assert fits.beta[0] == pytest.approx(beta, abs=1e-6)
        assert (fits.variance[0] < 1e-6).all()
    by_donor = np.array([1.0, 4, 2, 8, 5, 7])[donor_of(design)]
    fits = one(by_donor, design, "gaussian", method=method)
    check(fits, design)
    assert 0.5 < fits.beta[0, 0] < 8.5
    assert fits.beta[0, 1] == pytest.approx(0.0, abs=0.05)
    assert fits.variance[0, -1] < 1e-3


# Many donors.


def shared_cells(donors: int, family: str):
    design = design_of("crossed slope", 5, donors=donors, cells=6)
    y = structures.responses(design, family, 3, 6, 0.5)
    return design, designs.counts(y, ["a", "b", "c"])


@pytest.mark.parametrize(("family", "method"), [("nb", "reml"), ("nb", "ml"), ("gaussian", "reml")])
def test_a_thousand_donors_cost_four_times_two_hundred_and_fifty(family, method):
    cost = []
    for donors in (250, 1000):
        design, counts = shared_cells(donors, family)
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            fits = fitting.fit_shard(counts, design, np.ones(3, bool), family, method=method)
            taken.append(time.perf_counter() - begin)
        cost.append(min(taken) / fits.n_iter.sum())
        assert np.isin(fits.status, (Status.CONVERGED, Status.BOUNDARY)).all()
    assert fits.beta[:, 1] == pytest.approx(0.3, abs=0.8)
    assert fits.variance[:, 0] == pytest.approx(0.25, abs=0.1)
    assert min(taken) < 10.0
    # A matrix of all effects would cost 64 times.
    assert cost[1] < 10 * cost[0]
