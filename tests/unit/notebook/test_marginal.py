"""Population-averaged effects against integrals and simulation."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit, logit

from mlmgen.errors import UserError
from mlmgen.notebook.marginal import marginal_effects, marginal_predictor, random_from_fixed
from tests.unit.notebook import fitted_cases as cases


def two_arms(effects, Z, components, variance, family="nb", coefficients=("(Intercept)", "arm[T.b]"), beta=(0.4, 0.7)):
    """Four donors with both arms; Z is a function of the arm."""
    arm, donor = np.tile([0.0, 1.0], 4), np.repeat([0, 1, 2, 3], 2)
    X = np.column_stack([np.ones(8), arm])
    terms = [cases.term("donor", donor, effects, Z(arm))]
    means = {"arm[a]": np.array([1.0, 0.0]), "arm[b]": np.array([1.0, 1.0])}
    built = cases.design(X, coefficients, terms, donor, "~ arm + (1 | donor)", means=means)
    extra = {"nb": (("dispersion",), (0.3,)), "gaussian": (("residual",), (1.0,))}.get(family, ((), ()))
    estimates = cases.fits(("g",), coefficients, components + extra[0], beta, variance + extra[1], [-9.0])
    return cases.model(built, estimates, np.arange(8) % 2, family)


def intercepts(family="nb", variance=0.8):
    return two_arms(("(Intercept)",), lambda arm: np.ones((1, 8)), ("donor",), (variance,), family)


def slopes(family="nb"):
    return two_arms(
        ("(Intercept)", "arm[T.b]"),
        lambda arm: np.stack([np.ones(8), arm]),
        ("donor: (Intercept)", "donor: arm[T.b]", "donor: (Intercept), arm[T.b]"),
        (0.8, 0.5, -0.2),
        family,
    )


CONTRAST = {"b": "arm[b] - arm[a]"}


@pytest.mark.parametrize("model", [intercepts(), intercepts("gaussian"), slopes("gaussian")])
def test_intercepts_on_the_log_scale_and_any_gaussian_model_have_the_same_effect(model):
    row = marginal_effects(model, CONTRAST).iloc[0]
    assert row["gene"] == "g"
    assert [row["conditional"], row["marginal"]] == pytest.approx([0.7, 0.7])


@pytest.mark.parametrize("contrasts", [CONTRAST, {"b": "arm[T.b]"}, None])
def test_random_slopes_add_half_the_difference_of_variances(contrasts):
    row = marginal_effects(slopes(), contrasts).iloc[0]
    assert row["conditional"] == pytest.approx(0.7)
    assert row["marginal"] == pytest.approx(0.7 + 0.5 * (0.5 - 2 * 0.2))


def test_random_slopes_agree_with_simulation():
    u = np.random.default_rng(6).multivariate_normal([0, 0], [[0.8, -0.2], [-0.2, 0.5]], 400_000)
    simulated = np.log(np.exp(1.1 + u.sum(axis=1)).mean() / np.exp(0.4 + u[:, 0]).mean())
    assert marginal_effects(slopes(), CONTRAST)["marginal"][0] == pytest.approx(simulated, abs=0.01)


@pytest.mark.parametrize(("eta", "variance"), [(0.3, 0.8), (-4.0, 2.0), (2.0, 9.0), (1.0, 0.0)])
def test_logit_means_are_the_integral(eta, variance):
    sd = np.sqrt(variance)
    expected = (
        integrate.quad(lambda t: expit(eta + sd * t) * stats.norm.pdf(t), -12, 12, epsabs=1e-13, limit=200)[0]
        if variance
        else expit(eta)
    )
    found = marginal_predictor(np.array([eta]), np.array([variance]), "bernoulli")[0]
    assert found == pytest.approx(logit(expected), abs=1e-7)


def test_logit_effects_are_attenuated_about_as_zeger_says():
    row = marginal_effects(intercepts("bernoulli"), CONTRAST).iloc[0]
    c = 16 * np.sqrt(3) / (15 * np.pi)
    assert 0 < row["marginal"] < row["conditional"]
    assert row["marginal"] == pytest.approx(0.7 / np.sqrt(1 + c**2 * 0.8), rel=0.05)


def test_a_contrast_of_averages_is_the_average_of_the_points():
    halves = marginal_effects(slopes(), {"x": "0.5 * (arm[b] + arm[a]) - arm[a]"})["marginal"][0]
    assert halves == pytest.approx(0.5 * marginal_effects(slopes(), CONTRAST)["marginal"][0])


def test_effects_of_both_arms_are_found_from_the_columns():
    """(0 + arm | donor) is a linear map of the fixed effects, whatever the names."""
    model = two_arms(
        ("arm[a]", "arm[b]"),
        lambda arm: np.stack([1 - arm, arm]),
        ("donor: arm[a]", "donor: arm[b]", "donor: arm[a], arm[b]"),
        (0.8, 0.9, 0.6),
    )
    (A,) = random_from_fixed(model.design)
    np.testing.assert_allclose(A, [[1, -1], [0, 1]], atol=1e-12)
    assert marginal_effects(model, CONTRAST)["marginal"][0] == pytest.approx(0.7 + 0.5 * (0.9 - 0.8))


def test_a_slope_without_a_fixed_effect_is_refused():
    model = two_arms(("x",), lambda arm: np.arange(8.0)[None], ("donor: x",), (0.8,))
    with pytest.raises(UserError, match="random effect x of donor is not among the fixed effects"):
        marginal_effects(model, CONTRAST)


def test_responses_without_a_fit_are_left_out():
    model = slopes()
    nothing = dataclasses.replace(model.estimates, loglik=np.array([np.nan]))
    assert marginal_effects(dataclasses.replace(model, estimates=nothing), CONTRAST).empty
