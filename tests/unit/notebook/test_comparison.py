"""Likelihood ratios of nested models, their boundary, and what may be compared."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from mlmgen.errors import UserError
from mlmgen.notebook import comparison
from tests.unit.notebook import fitted_cases as cases

DONOR = np.repeat([0, 1, 2], 4)
DAYS = np.tile([0.0, 1.0, 2.0, 3.0], 3)
Y = np.arange(1.0, 13.0)


def days(loglik, terms=(), components=("residual",), fixed=("(Intercept)", "Days"), method="ml", values=Y, **more):
    """A gaussian model of twelve rows with an intercept and, if asked for, the days."""
    X = np.column_stack([np.ones(12), DAYS])[:, : len(fixed)]
    text = " + ".join(["~ 1", *fixed[1:], *(written(t) for t in terms)])
    built = cases.design(X, fixed, terms, DONOR, text)
    estimates = cases.fits(
        ("y",), fixed, components, np.ones(len(fixed)), np.ones(len(components)), [loglik], method=method
    )
    return cases.model(built, estimates, values, **({"family": "gaussian", "kind": "response"} | more))


def written(term):
    effects = " + ".join(term.effects).replace("(Intercept)", "1")
    return f"({effects if effects.startswith('1') else f'0 + {effects}'} | {term.name})"


def intercepts():
    return cases.term("donor", DONOR)


def slopes():
    return cases.term("donor", DONOR, ("(Intercept)", "Days"), np.stack([np.ones(12), DAYS]))


def only_slopes():
    return cases.term("donor", DONOR, ("Days",), DAYS[None])


EMPTY = days(-50.0, fixed=("(Intercept)",))
FIXED = days(-47.0)
INTERCEPT = days(-45.0, [intercepts()], ("donor", "residual"))
DIAGONAL = days(-44.0, [intercepts(), only_slopes()], ("donor", "donor: Days", "residual"))
SLOPE_COMPONENTS = ("donor: (Intercept)", "donor: Days", "donor: (Intercept), Days", "residual")
SLOPE = days(-42.0, [slopes()], SLOPE_COMPONENTS)


def test_models_from_the_empty_one_upwards():
    table = comparison.compare([SLOPE, EMPTY, INTERCEPT, FIXED])
    assert table["model"].tolist() == [m.formula.text for m in (EMPTY, FIXED, INTERCEPT, SLOPE)]
    assert table["n_parameters"].tolist() == [2, 3, 4, 6]
    np.testing.assert_allclose(table["aic"], [104, 100, 98, 96])
    np.testing.assert_allclose(table["bic"], 2 * np.array([50, 47, 45, 42]) + np.log(12) * np.array([2, 3, 4, 6]))
    np.testing.assert_allclose(table["chisq"], [np.nan, 6, 4, 6])
    np.testing.assert_allclose(table["df"], [np.nan, 1, 1, 2])
    expected = [
        np.nan,
        stats.chi2.sf(6, 1),
        0.5 * stats.chi2.sf(4, 1),
        0.5 * stats.chi2.sf(6, 1) + 0.5 * stats.chi2.sf(6, 2),
    ]
    np.testing.assert_allclose(table["pvalue"], expected, rtol=1e-12)
    names = ["", "chi2(1)", "1/2 chi2(0) + 1/2 chi2(1)", "1/2 chi2(1) + 1/2 chi2(2)"]
    assert table["distribution"].tolist() == names
    assert set(table["estimation"]) == {"ml"}


def test_a_covariance_alone_is_inside_its_range():
    table = comparison.compare([DIAGONAL, SLOPE])
    assert table["distribution"].tolist() == ["", "chi2(1)"]
    assert table["pvalue"][1] == pytest.approx(stats.chi2.sf(4, 1))


def test_two_variances_at_once_have_an_upper_bound():
    """The bound is not below the exact mixture of two independent variances, 1/4 chi2_0 + 1/2 chi2_1 + 1/4 chi2_2."""
    table = comparison.compare([FIXED, DIAGONAL])
    exact = 0.5 * stats.chi2.sf(6, 1) + 0.25 * stats.chi2.sf(6, 2)
    assert table["pvalue"][1] == pytest.approx(0.5 * stats.chi2.sf(6, 1) + 0.5 * stats.chi2.sf(6, 2))
    assert exact < table["pvalue"][1] < stats.chi2.sf(6, 2)


def test_no_gain_at_the_boundary_is_no_evidence():
    assert comparison.mixture_pvalue(np.array([0.0, np.nan]), 1, True).tolist()[0] == 1.0
    assert np.isnan(comparison.mixture_pvalue(np.array([np.nan]), 1, True))[0]
    worse = days(-47.5, [intercepts()], ("donor", "residual"))
    assert comparison.compare([FIXED, worse])["pvalue"][1] == 1.0


def test_the_mixture_is_the_distribution_under_the_null():
    """max(z, 0)^2 of a standard normal z, with and without an independent covariance's chi2_1."""
    z, w = np.random.default_rng(3).normal(size=(2, 200_000))
    for threshold in (0.5, 1.7, 2.7):
        bound = np.maximum(z, 0) ** 2
        found = comparison.mixture_pvalue(np.array([threshold]), 1, True)[0]
        assert np.mean(bound > threshold) == pytest.approx(found, abs=3e-3)
        found = comparison.mixture_pvalue(np.array([threshold]), 2, True)[0]
        assert np.mean(bound + w**2 > threshold) == pytest.approx(found, abs=3e-3)


def test_models_that_are_not_nested_have_criteria_only():
    other = days(-46.0, [cases.term("batch", np.tile([0, 1], 6))], ("batch", "residual"))
    both = days(-41.0, [intercepts(), cases.term("batch", np.tile([0, 1], 6))], ("donor", "batch", "residual"))
    table = comparison.compare([SLOPE, both])
    assert np.isnan(table["pvalue"]).all()
    assert table["distribution"].tolist() == ["", "not nested"]
    assert np.isfinite(table["aic"]).all()
    assert comparison.nested(other, both)
    assert not comparison.nested(INTERCEPT, other)
    assert np.isnan(comparison.compare([INTERCEPT, other])["pvalue"][1]), "equally many parameters"


def test_nesting_goes_by_the_columns_not_by_their_names():
    """Random effects of both conditions hold the random intercept; fixed effects of both conditions the contrast."""
    arm = np.tile([0.0, 1.0], 6)
    both = cases.term("donor", DONOR, ("arm[a]", "arm[b]"), np.stack([1 - arm, arm]))
    components = ("donor: arm[a]", "donor: arm[b]", "donor: arm[a], arm[b]", "residual")
    bigger = days(-40.0, [both], components)
    assert comparison.nested(INTERCEPT, bigger)
    assert not comparison.nested(SLOPE, bigger)
    means = cases.design(np.stack([1 - arm, arm], axis=1), ("arm[a]", "arm[b]"), (), DONOR, "~ 0 + arm")
    estimates = cases.fits(("y",), means.coefficients, ["residual"], [1.0, 2.0], [1.0], [-44.0], method="ml")
    assert comparison.nested(EMPTY, cases.model(means, estimates, Y, "gaussian", "response"))
    assert not comparison.nested(FIXED, cases.model(means, estimates, Y, "gaussian", "response"))


def test_rows_of_designs_in_different_order_are_matched():
    shuffled = np.random.default_rng(4).permutation(12)
    built = dataclasses.replace(
        INTERCEPT.design,
        X=INTERCEPT.design.X[shuffled],
        terms=(cases.term("donor", DONOR[shuffled]),),
    )
    moved = dataclasses.replace(INTERCEPT, design=built, order=shuffled)
    assert comparison.nested(FIXED, moved)
    assert comparison.nested(moved, SLOPE)
    assert comparison.same_fixed_effects(moved, FIXED)
    assert not comparison.nested(dataclasses.replace(moved, order=np.arange(12)), SLOPE)


def test_a_poisson_model_is_nested_in_the_negative_binomial():
    poisson = days(-60.0, [intercepts()], ("donor",), family="poisson", kind="gene")
    nb = days(-50.0, [intercepts()], ("donor", "dispersion"), family="nb", kind="gene")
    table = comparison.compare([nb, poisson])
    assert table["model"].tolist() == [f"poisson: {nb.formula.text}", f"nb: {nb.formula.text}"]
    assert table["distribution"][1] == "1/2 chi2(0) + 1/2 chi2(1)"
    assert table["pvalue"][1] == pytest.approx(0.5 * stats.chi2.sf(20, 1))


def test_restricted_likelihoods_are_compared_where_the_fixed_effects_agree(monkeypatch):
    def refit(model, method, progress=None):
        raise AssertionError("nothing had to be fitted again")

    monkeypatch.setattr(comparison, "refitted", refit)
    pair = [
        days(m.estimates.loglik[0], m.design.terms, m.estimates.components, method="reml") for m in (INTERCEPT, SLOPE)
    ]
    table = comparison.compare(pair)
    assert set(table["estimation"]) == {"reml"}
    assert table["pvalue"][1] == pytest.approx(0.5 * stats.chi2.sf(6, 1) + 0.5 * stats.chi2.sf(6, 2))


def test_other_restricted_likelihoods_are_replaced_by_full_ones(monkeypatch):
    asked = []

    def refit(model, method, progress=None):
        asked.append(method)
        return dataclasses.replace(
            model,
            options=dataclasses.replace(model.options, method=method),
            estimates=dataclasses.replace(model.estimates, method=method),
        )

    monkeypatch.setattr(comparison, "refitted", refit)
    pair = [days(-47, method="reml"), days(-50, fixed=("(Intercept)",), method="reml")]
    assert set(comparison.compare(pair)["estimation"]) == {"ml"}
    assert set(
        comparison.compare([INTERCEPT, days(-40.0, [slopes()], SLOPE_COMPONENTS, method="reml")])["estimation"]
    ) == {"ml"}
    assert asked == ["ml"] * 4


def test_thousands_of_genes_are_one_tidy_table():
    names = ("a", "b", "c")
    values = np.random.default_rng(5).poisson(3, (12, 3))
    models = []
    for terms, components in (((), ("dispersion",)), ((intercepts(),), ("donor", "dispersion"))):
        text = "~ 1" + "".join(f" + (1 | {t.name})" for t in terms)
        built = cases.design(np.ones((12, 1)), ["(Intercept)"], terms, DONOR, text)
        loglik = [-20.0, -30.0, np.nan] if not terms else [-18.0, -30.0, -11.0]
        estimates = cases.fits(
            names, ["(Intercept)"], components, np.ones((3, 1)), np.ones((3, len(components))), loglik
        )
        models.append(cases.model(built, estimates, values))
    table = comparison.compare(models, names=["empty", "donors"])
    assert table["gene"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert table["model"].tolist() == ["empty", "donors"] * 3
    np.testing.assert_allclose(table["pvalue"], [np.nan, 0.5 * stats.chi2.sf(4, 1), np.nan, 1.0, np.nan, np.nan])


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([EMPTY], "1 model to compare"),
        ([EMPTY, days(-40.0, values=Y + 1)], "different data"),
        ([EMPTY, days(-40.0, family="poisson")], "families gaussian and poisson have different units"),
        ([EMPTY, days(-40.0, integration="agq")], "integrated differently: laplace and agq"),
    ],
)
def test_what_cannot_be_compared(models, words):
    with pytest.raises(UserError, match=words):
        comparison.compare(models)


def test_labels_need_a_name_for_each():
    with pytest.raises(UserError, match="1 names for 2 models"):
        comparison.compare([EMPTY, FIXED], names=["one"])
    assert comparison.compare([EMPTY, EMPTY])["model"].tolist() == ["~ 1 [1]", "~ 1 [2]"]
