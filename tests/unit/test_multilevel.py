"""Fits of the general engine against the twin's optimum, its covariances, and what must not change them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlmgen import fitting
from mlmgen.multilevel import component_names, factors, fit_any, responses, run_models
from mlmgen.status import Status
from mlmgen.types import Counts
from tests.reference import designs, multilevel
from tests.unit import structures
from tests.unit.kernels.model_cases import gathered
from tests.unit.structures import STIM, STRUCTURES, example, intercept, label, layout

COMBINATIONS = [("nb", "reml"), ("nb", "ml"), ("poisson", "ml"), ("bernoulli", "ml"), ("gaussian", "reml")]
COMBINATIONS += [("gaussian", "ml")]
PER_GENE = ("beta", "std_error", "std_error_full", "covariance", "sensitivity", "variance", "variance_se")
PER_GENE += ("variance_pvalue", "loglik", "status", "n_iter")
FREE = (Status.CONVERGED, Status.BOUNDARY)


def fit(counts, design, family="nb", method="reml", likelihood="exact", integration="laplace", nodes=9, keep=None):
    keep = np.ones(len(counts.genes), dtype=bool) if keep is None else keep
    return fit_any(counts, design, keep, family, 1, None, method, integration, nodes, likelihood)


# The optimum.


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(("family", "method"), COMBINATIONS)
def test_optimum_is_the_twins(name, family, method):
    design, counts = example(name, family, genes=2, seed=13, donors=8)
    fits = fit(counts, design, family, method)
    for g in range(2):
        assert fits.status[g] in FREE
        rows = multilevel.expand(design, counts, g, family)
        T, phi = multilevel.parameters(design, fits.components, fits.variance[g])
        own = multilevel.laplace_reml(rows, T, phi) if method == "reml" else None
        own = multilevel.laplace_ml(rows, fits.beta[g], T, phi) if own is None else own
        assert fits.loglik[g] == pytest.approx(own, abs=1e-6)
    twin = multilevel.fit(rows, method)
    assert fits.loglik[g] >= twin.loglik - 1e-6
    if fits.loglik[g] > twin.loglik + 1e-4:
        return
    error = np.sqrt(np.diag(multilevel.conditional_covariance(rows, T, phi, fits.beta[g])))
    assert fits.beta[g] == pytest.approx(twin.beta, abs=1e-3 * error.max())
    for mine, theirs in zip(T, twin.factors, strict=True):
        assert mine @ mine.T == pytest.approx(theirs @ theirs.T, rel=1e-2, abs=1e-3 * multilevel.unit(rows) ** 2)


@pytest.mark.parametrize("family", ["nb", "poisson", "bernoulli"])
def test_optimum_by_quadrature_is_the_twins(family):
    design, counts = example("intercept", family, seed=12, cells=6, donors=10, level=0.0, sd=0.9)
    fits = fit(counts, design, family, "ml", integration="agq")
    rows = multilevel.expand(design, counts, 0, family)
    twin = multilevel.fit(rows, "ml", "agq", 9, starts=(0.4,))
    assert fits.loglik[0] == pytest.approx(twin.loglik, abs=1e-6)
    assert fits.beta[0] == pytest.approx(twin.beta, abs=1e-3)
    assert fits.variance[0, 0] == pytest.approx(twin.factors[0][0, 0] ** 2, rel=1e-2)
    laplace = fit(counts, design, family, "ml")
    assert abs(laplace.loglik[0] - fits.loglik[0]) > 1e-4


def test_without_anything_to_estimate_but_beta():
    design, counts = example("none", "poisson", genes=3)
    for method in ("reml", "ml"):
        fits = fit(counts, design, "poisson", method)
        assert fits.components == ()
        assert fits.variance.shape == fits.variance_se.shape == fits.variance_pvalue.shape == (3, 0)
        assert (fits.status == Status.CONVERGED).all()
        mean = np.bincount(design.X[design.pattern, 1].astype(int), multilevel.expand(design, counts, 0, "poisson").y)
        size = np.bincount(design.X[design.pattern, 1].astype(int), np.exp(design.log_size))
        rate = np.log(mean / size)
        assert fits.beta[0] == pytest.approx([rate[0], rate[1] - rate[0]], abs=1e-6)
        assert fits.std_error[0] == pytest.approx(np.sqrt([1 / mean[0], 1 / mean[0] + 1 / mean[1]]), rel=1e-6)


# Covariances.


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(("family", "method"), COMBINATIONS)
def test_standard_errors(name, family, method):
    design, counts = example(name, family, genes=4, seed=1)
    fits = fit(counts, design, family, method)
    inside = np.flatnonzero(fits.status == Status.CONVERGED)
    for g in inside[:1]:
        rows = multilevel.expand(design, counts, g, family)
        T, phi = multilevel.parameters(design, fits.components, fits.variance[g])
        given = multilevel.conditional_covariance(rows, T, phi, fits.beta[g] if method == "ml" else None)
        assert fits.std_error[g] == pytest.approx(np.sqrt(np.diag(given)), rel=1e-5)
        psi = multilevel.pack(rows, T, phi)
        if psi.size or method == "ml":
            full = multilevel.full_covariance(rows, multilevel.Fit(T, phi, fits.beta[g], 0.0), method)
        else:
            full = given
        unit = np.sqrt(np.diag(full))
        assert fits.covariance[g] / np.outer(unit, unit) == pytest.approx(full / np.outer(unit, unit), abs=2e-3)
        assert fits.std_error_full[g] == pytest.approx(np.sqrt(np.diag(fits.covariance[g])))
        if psi.size:
            expected = variance_errors(rows, T, phi, fits.beta[g], given, method)
            assert fits.variance_se[g] == pytest.approx(expected, rel=5e-3)


def variance_errors(rows, T, phi, beta, given, method):
    """Return standard errors of log variances, covariances and rho by the delta method from the twin's Hessian."""
    psi, scale = multilevel.pack(rows, T, phi), multilevel.units(rows)
    if method == "reml":
        function = multilevel.loglik_reml(rows)
        V = np.linalg.inv(-multilevel.hessian(lambda x: function(psi + scale * x), np.zeros(len(psi))))
    else:
        function, root, p = multilevel.loglik_ml(rows), np.linalg.cholesky(given), len(beta)
        whole = multilevel.hessian(
            lambda x: function(np.r_[beta + root @ x[:p], psi + scale * x[p:]]), np.zeros(p + len(psi))
        )
        V = np.linalg.inv(-whole)[p:, p:]

    def components(psi):
        found = []
        own, phi = multilevel.unpack(rows, psi)
        for one in own:
            C = one @ one.T
            found += [*np.log(np.diag(C)), *(C[i, j] for i, j in zip(*np.tril_indices(len(C), -1), strict=True))]
        last = {"nb": [2.0 * np.arcsinh(np.sqrt(0.5 * phi))], "gaussian": [np.log(phi) if phi > 0 else 0.0]}
        return np.array([*found, *last.get(rows.family, [])])

    J = multilevel.gradient(components, psi, 1e-6).T * scale
    return np.sqrt(np.diag(J @ V @ J.T))


@pytest.mark.parametrize(("family", "method"), [("nb", "reml"), ("nb", "ml"), ("gaussian", "reml"), ("gaussian", "ml")])
def test_sensitivities_are_the_delta_methods(family, method):
    # Var(c'Cc) = g'V g with g the derivative of c'Cc by the variances' parameters, C given them.
    design, counts = example("slope", family, seed=3, donors=10)
    fits = fit(counts, design, family, method)
    assert fits.status[0] == Status.CONVERGED
    rows = multilevel.expand(design, counts, 0, family)
    T, phi = multilevel.parameters(design, fits.components, fits.variance[0])
    psi, scale, p = multilevel.pack(rows, T, phi), multilevel.units(rows), 2

    def covariance(x, beta=None):
        beta = fits.beta[0] if beta is None else beta
        return multilevel.conditional_covariance(
            rows, *multilevel.unpack(rows, psi + scale * x), beta if method == "ml" else None
        ).ravel()

    zero = np.zeros(len(psi))
    slopes = multilevel.gradient(covariance, zero).reshape(-1, p, p)
    if method == "reml":
        function = multilevel.loglik_reml(rows)
        V = np.linalg.inv(-multilevel.hessian(lambda x: function(psi + scale * x), zero))
    else:
        function, root = multilevel.loglik_ml(rows), np.linalg.cholesky(covariance(zero).reshape(p, p))
        whole = multilevel.hessian(
            lambda x: function(np.r_[fits.beta[0] + root @ x[:p], psi + scale * x[p:]]), np.zeros(p + len(psi))
        )
        V = np.linalg.inv(-whole)[p:, p:]
    for c in ([1.0, 0.0], [0.0, 1.0], [1.0, -0.5]):
        by = np.einsum("i,aij,j->a", c, slopes, c)
        found = (np.einsum("i,dij,j->d", c, fits.sensitivity[0], c) ** 2).sum()
        assert found == pytest.approx(by @ V @ by, rel=2e-2)


@pytest.mark.parametrize("family", ["nb", "bernoulli"])
def test_quadrature_of_one_node_is_laplace_in_all_it_returns(family):
    design, counts = example("intercept", family, genes=4, seed=3, donors=8, cells=15)
    one = fit(counts, design, family, "ml", integration="agq", nodes=1)
    many = fit(counts, design, family, "ml", integration="agq", nodes=15)
    laplace = fit(counts, design, family, "ml")
    assert one.loglik == pytest.approx(laplace.loglik, abs=1e-7)
    assert one.beta == pytest.approx(laplace.beta, abs=1e-5)
    for name, tolerance in (("std_error", 1e-4), ("std_error_full", 2e-3), ("variance_se", 3e-2)):
        assert getattr(one, name) == pytest.approx(getattr(laplace, name), rel=tolerance), name
    square = [(f.sensitivity**2).sum(axis=1) for f in (one, many, laplace)]
    assert square[0] == pytest.approx(square[2], rel=0.05)
    assert square[1] == pytest.approx(square[2], rel=0.5)


@pytest.mark.parametrize(("family", "method"), [("nb", "ml"), ("nb", "reml"), ("gaussian", "ml"), ("gaussian", "reml")])
def test_a_year_has_the_standard_error_of_years_since(family, method):
    # 2018 to 2023: nearly collinear with the intercept, which must cost digits alone.
    rng = np.random.default_rng(1)
    donor = np.repeat(np.arange(12), 15)
    year = rng.integers(0, 6, 12).astype(float)[donor]
    found = []
    for zero in (0.0, 2018.0):
        X = np.column_stack([np.ones(180), year + zero])
        design, order = structures.build(donor, X, ["a", "b"], [intercept("donor", donor)], np.zeros(180))
        y = np.random.default_rng(3).poisson(np.exp(1 + 0.3 * np.random.default_rng(2).normal(size=12)[donor]))
        found.append(fit(designs.counts(y[order, None], ["gene"]), design, family, method))
    since, absolute = found
    assert absolute.beta[0, 1] == pytest.approx(since.beta[0, 1], abs=1e-5)
    assert absolute.std_error[0, 1] == pytest.approx(since.std_error[0, 1], rel=1e-4)
    assert absolute.std_error_full[0, 1] == pytest.approx(since.std_error_full[0, 1], rel=1e-2)


# Tests of the variances.


@pytest.mark.parametrize(("family", "method"), [("nb", "reml"), ("nb", "ml"), ("gaussian", "ml")])
def test_p_value_of_a_variance_is_the_likelihood_ratio_of_two_fits(family, method):
    # Variances that are zero in the full fit may take over from the one that is left out.
    design, counts = example("nested", family, genes=6, seed=6, sd=0.3)
    fits = fit(counts, design, family, method)
    assert (fits.variance[:, :2] == 0).any()
    for v, term in enumerate(design.terms):
        without = replace(design, terms=tuple(t for t in design.terms if t.name != term.name))
        smaller = fit(counts, without, family, method)
        ratio = 2 * (fits.loglik - smaller.loglik)
        expected = np.where(ratio > 1e-7, stats.chi2.sf(np.maximum(ratio, 0), 1) / 2, 1.0)
        assert fits.variance_pvalue[:, v] == pytest.approx(expected, rel=2e-2, abs=1e-9)
    if family == "nb":
        poisson = fit(counts, design, "poisson", method)
        expected = stats.chi2.sf(2 * (fits.loglik - poisson.loglik), 1) / 2
        assert fits.variance_pvalue[:, -1] == pytest.approx(expected, rel=2e-2)
    else:
        assert np.isnan(fits.variance_pvalue[:, -1]).all()


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_p_value_of_a_slope_counts_its_covariance(method):
    design, counts = example("slope", "nb", genes=3, seed=6, donors=10)
    fits = fit(counts, design, "nb", method)
    assert fits.components == ("donor: (Intercept)", f"donor: {STIM}", f"donor: (Intercept), {STIM}", "dispersion")
    (term,) = design.terms
    for v in (0, 1):
        other = replace(term, effects=(term.effects[1 - v],), Z=term.Z[[1 - v]], basis=term.basis[[1 - v]])
        smaller = fit(counts, replace(design, terms=(other,)), "nb", method)
        ratio = np.maximum(2 * (fits.loglik - smaller.loglik), 0)
        expected = stats.chi2.sf(ratio, 1) / 2 + stats.chi2.sf(ratio, 2) / 2
        assert fits.variance_pvalue[:, v] == pytest.approx(expected, rel=2e-2, abs=1e-9)
    assert np.isnan(fits.variance_pvalue[:, 2]).all()


def test_p_values_of_the_fast_engine_are_likelihood_ratios_too():
    design, counts = example("nested", "nb", genes=20, seed=6, sd=0.3, donors=8)
    keep = np.ones(20, dtype=bool)
    fits = fitting.fit_shard(counts, design, keep)
    assert (fits.variance[:, 0] == 0).any()
    for v in (0, 1):
        smaller = fitting.fit_shard(counts, replace(design, terms=(design.terms[1 - v],)), keep)
        ratio = 2 * (fits.loglik - smaller.loglik)
        expected = np.where(ratio > 1e-7, stats.chi2.sf(np.maximum(ratio, 0), 1) / 2, 1.0)
        assert fits.variance_pvalue[:, v] == pytest.approx(expected, rel=2e-2, abs=1e-6)


def test_a_variance_at_zero_has_p_one_and_no_standard_error():
    design, counts = example("intercept", "nb", genes=12, seed=2, sd=0.0)
    fits = fit(counts, design)
    zero = fits.variance[:, 0] == 0
    assert zero.any()
    assert (fits.status[zero] == Status.BOUNDARY).all()
    assert (fits.variance_pvalue[zero, 0] == 1).all()
    assert np.isnan(fits.variance_se[zero, 0]).all()
    assert np.isfinite(fits.std_error_full).all()


# What the parts are called.


def test_component_names():
    names = {name: component_names(example(name, "nb")[0], "nb") for name in STRUCTURES}
    assert names["none"] == ("dispersion",)
    assert names["three levels"] == ("donor:condition", "site", "donor", "dispersion")
    assert names["two terms on one level"] == ("donor", f"donor: {STIM}", "dispersion")
    slope = ("batch: (Intercept)", f"batch: {STIM}", f"batch: (Intercept), {STIM}")
    assert names["crossed slope"] == ("donor", *slope, "dispersion")
    assert component_names(example("nested", "nb")[0], "gaussian")[-1] == "residual"
    assert component_names(example("nested", "nb")[0], "bernoulli") == ("donor", "donor:condition")


def test_three_slopes_put_variances_before_covariances():
    cells = layout(np.random.default_rng(1), donors=8)
    Z = np.column_stack([np.ones(len(cells.donor)), cells.condition, cells.batch])
    term = structures.Term("donor", cells.donor, ("(Intercept)", "c", "b"), Z, (0, 0, 0))
    design, _ = structures.build(cells.donor, np.ones((len(Z), 1)), ["a"], [term], cells.log_size)
    assert component_names(design, "poisson") == (
        "donor: (Intercept)", "donor: c", "donor: b", "donor: (Intercept), c", "donor: (Intercept), b", "donor: c, b",
    )  # fmt: skip
    counts = designs.counts(structures.responses(design, "poisson", 2, 3), ["a", "b"])
    fits = fit(counts, design, "poisson", "ml")
    for g in range(2):
        rows = multilevel.expand(design, counts, g, "poisson")
        T, _ = multilevel.parameters(design, fits.components, fits.variance[g])
        assert multilevel.laplace_ml(rows, fits.beta[g], T, 0.0) == pytest.approx(fits.loglik[g], abs=1e-6)


def test_factors_in_the_units_of_the_data():
    design, counts = example("slope", "nb", genes=3, seed=4)
    case = gathered(design, counts)
    result = run_models(case.model, counts, np.ones(3, bool), 1, None)
    fits = fit(counts, design)
    (T,) = factors(case.model, result.psi)
    z = case.model.z_scale
    sigma = T @ T.transpose(0, 2, 1) / np.outer(z, z)
    assert np.column_stack([sigma[:, 0, 0], sigma[:, 1, 1], sigma[:, 0, 1]]) == pytest.approx(fits.variance[:, :3])


def test_detection_counts_what_is_above_zero():
    design, counts = example("nested", "nb", genes=2)
    ones = replace(counts, values=np.ones_like(counts.values))
    assert fit(counts, design, "bernoulli").loglik.tolist() == fit(ones, design, "bernoulli").loglik.tolist()
    assert responses(counts, design, "bernoulli").values.tolist() == ones.values.tolist()
    assert responses(counts, design, "nb") is counts


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_an_offset_of_a_gaussian_response_is_subtracted(method):
    design, counts = example("slope", "gaussian", genes=2)
    offset = np.random.default_rng(5).normal(size=len(design.pattern))
    Y = np.column_stack([multilevel.expand(design, counts, g, "gaussian").y for g in range(2)])
    # Exact zeros are not listed: their offset counts all the same.
    Y[::7, 0] = 0.0
    with_offset = fit(designs.counts(Y, ["a", "b"]), replace(design, offset=offset), "gaussian", method)
    subtracted = fit(designs.counts(Y - offset[:, None], ["a", "b"]), design, "gaussian", method)
    assert with_offset.beta == pytest.approx(subtracted.beta, abs=1e-9)
    assert with_offset.loglik == pytest.approx(subtracted.loglik, abs=1e-9)


# Invariances.


def same(one, two, beta=None, tolerance=1.0):
    """Two ways to the same optimum: likelihoods agree to rounding, estimates to the optimizer's tolerance."""
    assert one.status.tolist() == two.status.tolist()
    assert one.loglik == pytest.approx(two.loglik, abs=2e-7 * tolerance)
    error = two.std_error.max(axis=1, keepdims=True)
    assert np.abs((one.beta if beta is None else beta) - two.beta).max() < 2e-4 * tolerance * error.max()


def shuffled(design, counts, rng):
    """Turn the patterns round and number all groups anew; rows move along."""
    P = len(design.X)
    turn = rng.permutation(P)
    place = np.argsort(turn)
    order = np.argsort(place[design.pattern], kind="stable")

    def renumbered(group):
        new = rng.permutation(len(group.levels)).astype(np.int32)
        levels = tuple(group.levels[i] for i in np.argsort(new))
        return replace(group, levels=levels, codes=new[group.codes[turn]])

    terms = tuple(replace(renumbered(t), Z=np.ascontiguousarray(t.Z[:, turn])) for t in design.terms)
    moved = replace(
        design,
        X=np.ascontiguousarray(design.X[turn]),
        terms=terms,
        donor=renumbered(design.donor),
        sample=renumbered(design.sample),
        pattern=place[design.pattern][order].astype(np.int32),
        functions=np.ascontiguousarray(design.functions[order]),
        log_size=design.log_size[order],
        offset=design.offset[order],
    )
    Y = dense(design, counts)
    return moved, designs.counts(Y[order], counts.genes)


def dense(design, counts) -> np.ndarray:
    Y = np.zeros((len(design.pattern), len(counts.genes)))
    for g in range(Y.shape[1]):
        chosen = slice(counts.start[g], counts.start[g + 1])
        Y[counts.rows[chosen], g] = counts.values[chosen]
    return Y


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(STRUCTURES[1:]), st.sampled_from(COMBINATIONS), st.integers(0, 1000))
def test_order_and_names_of_groups_do_not_matter(name, combination, seed):
    design, counts = example(name, combination[0], genes=2, seed=21)
    moved, moved_counts = shuffled(design, counts, np.random.default_rng(seed))
    same(fit(moved_counts, moved, *combination), fit(counts, design, *combination))


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(STRUCTURES), st.sampled_from(COMBINATIONS), st.floats(-8, 8), st.floats(-8, 8))
def test_unit_of_a_covariate(name, combination, of_pattern, of_function):
    # The column's effect takes the unit; REML also integrates over it: the log-likelihood takes its log.
    design, counts = example(name, combination[0], genes=2, seed=22)
    units = np.where(design.basis > 0, np.exp(of_function / 2), np.exp(of_pattern))
    units[0] = 1.0
    scaled = replace(design, X=np.ascontiguousarray(design.X * units))
    one, two = fit(counts, scaled, *combination), fit(counts, design, *combination)
    one = replace(one, loglik=one.loglik + (np.log(units).sum() if combination[1] == "reml" else 0.0))
    same(one, two, beta=one.beta * units)
    assert one.std_error * units == pytest.approx(two.std_error, rel=1e-3)
    assert one.std_error_full * units == pytest.approx(two.std_error_full, rel=1e-2)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(STRUCTURES[1:]), st.sampled_from(COMBINATIONS[-2:]), st.floats(-20, 20), st.floats(-1e3, 1e3))
def test_unit_and_zero_of_a_gaussian_response(name, combination, log_unit, shift):
    design, counts = example(name, "gaussian", genes=2, seed=23)
    Y, unit = dense(design, counts), np.exp(log_unit)
    one = fit(designs.counts(unit * (Y + shift), counts.genes), design, *combination)
    two = fit(counts, design, *combination)
    m = len(Y) - (design.X.shape[1] if combination[1] == "reml" else 0)
    beta = one.beta / unit
    beta[:, 0] -= shift
    same(replace(one, loglik=one.loglik + m * log_unit), two, beta=beta, tolerance=5.0)
    assert one.variance / unit**2 == pytest.approx(two.variance, rel=1e-2, abs=1e-4)
    assert one.std_error_full / unit == pytest.approx(two.std_error_full, rel=1e-2)
    assert one.variance_pvalue == pytest.approx(two.variance_pvalue, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("name", ["nested", "crossed", "functions"])
def test_reference_level_turns_the_sign(name, combination):
    design, counts = example(name, combination[0], genes=2, seed=24)
    X = design.X.copy()
    X[:, 1] = 1 - X[:, 1]
    if name == "functions":
        X[:, 4] = X[:, 3] - X[:, 4]
    turned = fit(counts, replace(design, X=X), *combination)
    fits = fit(counts, design, *combination)
    beta = turned.beta.copy()
    beta[:, 0] += beta[:, 1]
    beta[:, 1] *= -1
    if name == "functions":
        beta[:, 3] += beta[:, 4]
        beta[:, 4] *= -1
    same(turned, fits, beta=beta)


@pytest.mark.parametrize("combination", [("nb", "reml"), ("nb", "ml"), ("bernoulli", "reml")])
@pytest.mark.parametrize("likelihood", ["exact", "compressed"])
def test_two_cells_alike_are_a_node_of_weight_two(combination, likelihood):
    # As patterns, equal size factors share a node; as patterns of their own each cell is a node.
    design, counts = example("nested", combination[0], genes=2, seed=25)
    equal = replace(design, log_size=np.where(design.log_size > 0, 0.3, -0.3))
    own = replace(
        equal,
        X=np.ascontiguousarray(equal.X[equal.pattern]),
        terms=tuple(replace(t, codes=t.codes[equal.pattern], Z=t.Z[:, equal.pattern]) for t in equal.terms),
        donor=replace(equal.donor, codes=equal.donor.codes[equal.pattern]),
        sample=replace(equal.sample, codes=equal.sample.codes[equal.pattern]),
        pattern=np.arange(len(equal.pattern), dtype=np.int32),
    )
    case = gathered(equal, counts, *combination, likelihood)
    assert case.work.rows.size.shape[0] == 2
    assert case.work.rows.cells.max() > 1
    same(fit(counts, equal, *combination, likelihood), fit(counts, own, *combination))


@pytest.mark.parametrize("combination", [("nb", "reml"), ("poisson", "ml"), ("gaussian", "ml"), ("bernoulli", "reml")])
def test_a_numeric_column_in_the_patterns_or_as_a_function(combination):
    # A covariate of whole donors can be either; as a slope too. The exact likelihood is the same.
    cells = layout(np.random.default_rng(7), donors=8)
    age = np.random.default_rng(8).normal(5, 1.2, 8)[cells.donor]
    n = len(age)
    X = np.column_stack([np.ones(n), cells.condition, age])
    samples = label(cells.donor, cells.condition)
    terms = [intercept("donor", cells.donor), structures.slope("donor:condition", samples, age, "age")]
    by_pattern, order = structures.build(cells.donor, X, ["a", "b", "age"], terms, cells.log_size)
    counts = designs.counts(structures.responses(by_pattern, combination[0], 2, 9, level=-0.5, sd=0.1), ["g", "h"])
    X[:, 2] = 1.0
    terms[1] = structures.slope("donor:condition", samples, np.ones(n), "age", 1)
    as_function, other = structures.build(
        cells.donor, X, ["a", "b", "age"], terms, cells.log_size, age[:, None], (0, 0, 1)
    )
    assert as_function.functions.shape == (n, 1)
    Y = np.empty((n, 2))
    Y[order] = dense(by_pattern, counts)
    same(fit(designs.counts(Y[other], ["g", "h"]), as_function, *combination), fit(counts, by_pattern, *combination))


@pytest.mark.parametrize("combination", COMBINATIONS[:4])
@pytest.mark.parametrize("name", ["nested", "functions"])
def test_compressed_fits_are_those_of_every_cell(name, combination):
    design, counts = example(name, combination[0], genes=3, seed=26, cells=300, donors=6)
    few = fit(counts, design, *combination, "compressed")
    every = fit(counts, design, *combination, "exact")
    assert few.status.tolist() == every.status.tolist()
    assert few.loglik == pytest.approx(every.loglik, abs=2e-2 if name == "functions" else 1e-5)
    assert np.abs((few.beta - every.beta) / every.std_error).max() < (2e-2 if name == "functions" else 1e-4)
    assert few.std_error == pytest.approx(every.std_error, rel=1e-2)


def test_order_of_the_terms_does_not_matter():
    for name in ("three levels", "crossed slope", "two terms on one level", "functions, nested"):
        design, counts = example(name, "nb", genes=2, seed=27)
        turned = replace(design, terms=design.terms[::-1])
        one, two = fit(counts, turned), fit(counts, design)
        same(one, two)
        place = [one.components.index(component) for component in two.components]
        assert one.variance[:, place] == pytest.approx(two.variance, rel=1e-2, abs=1e-5)


@pytest.fixture(scope="module", params=[("nb", "reml"), ("gaussian", "ml"), ("bernoulli", "ml")], ids="-".join)
def many(request):
    design, counts = example("crossed slope", request.param[0], genes=150, seed=28, level=-0.5)
    return request.param, design, counts, fit(counts, design, *request.param)


def pick(counts: Counts, genes) -> Counts:
    chosen = [slice(counts.start[g], counts.start[g + 1]) for g in genes]
    start = np.cumsum([0, *(c.stop - c.start for c in chosen)], dtype=np.int64)
    rows, values = (np.concatenate([column[c] for c in chosen]) for column in (counts.rows, counts.values))
    return Counts(tuple(counts.genes[g] for g in genes), start, rows, values)


def identical(one, two, genes=slice(None)):
    for name in PER_GENE:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name)[genes], err_msg=name)


def test_order_and_company_of_genes_change_no_bit(many):
    combination, design, counts, fits = many
    order = np.random.default_rng(1).permutation(150)[:60]
    identical(fit(pick(counts, order), design, *combination), fits, order)
    keep = np.arange(150) % 3 == 0
    some = fit(counts, design, *combination, keep=keep)
    identical(fitting.concatenate([some]), replace(some))
    for name in PER_GENE:
        np.testing.assert_array_equal(getattr(some, name)[keep], getattr(fits, name)[keep])
    assert (some.status[~keep] == Status.FILTERED).all()
    assert np.isnan(some.beta[~keep]).all()


def test_shards_change_no_bit(many):
    combination, design, counts, fits = many
    parts = np.array_split(np.arange(150), 4)
    joined = fitting.concatenate([fit(pick(counts, part), design, *combination) for part in parts])
    identical(joined, fits)
    assert joined.genes == fits.genes


def test_threads_change_no_bit(many):
    (family, method), design, counts, fits = many
    done = []
    keep = np.ones(150, dtype=bool)
    two = fit_any(counts, design, keep, family, 2, done.append, method, "laplace", 9, "exact")
    identical(two, fits)
    assert sum(done) == 150


def test_tests_of_the_variances_are_optional(many):
    (family, method), design, counts, fits = many
    keep = np.ones(150, dtype=bool)
    plain = fit_any(counts, design, keep, family, 1, None, method, "laplace", 9, "exact", tests=False)
    assert np.isnan(plain.variance_pvalue).all()
    for name in ("beta", "loglik", "variance", "status", "covariance"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(fits, name))


def test_the_fast_engine_agrees():
    # REML of nested intercepts is fitted by both.
    for name in ("intercept", "nested"):
        for family in ("nb", "poisson", "bernoulli"):
            design, counts = example(name, family, genes=20, seed=29, donors=8, cells=25)
            keep = np.ones(20, dtype=bool)
            fast = fitting.fit_shard(counts, design, keep, family)
            general = fitting.fit_shard(counts, design, keep, family, grid=False)
            assert fast.grid_loglik.shape[1] > 0
            assert general.grid_loglik.shape[1] == 0
            assert fast.components == general.components
            assert general.loglik == pytest.approx(fast.loglik, abs=1e-6)
            assert general.beta == pytest.approx(fast.beta, abs=1e-4)
            assert general.std_error_full == pytest.approx(fast.std_error_full, rel=1e-2)
            assert general.variance_pvalue == pytest.approx(fast.variance_pvalue, rel=2e-2, abs=1e-6)
            assert general.variance_se == pytest.approx(fast.variance_se, rel=2e-2, nan_ok=True)
