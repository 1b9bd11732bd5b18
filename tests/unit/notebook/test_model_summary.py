"""Tables, intervals, information criteria, variance partition and R^2, against numbers worked out by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import variance_partition
from mlmgen.notebook import model_summary
from mlmgen.status import Status
from mlmgen.types import Moderated
from tests.unit.notebook import fitted_cases as cases

# Mean of z'Sigma z over days 0 to 3: 4 + 2 * 0.5 * mean(day) + 1 * mean(day^2).
RANDOM = 4.0 + 1.0 * 1.5 + 3.5
FIXED = 9.0 * np.var([0, 1, 2, 3] * 3, ddof=1)


def test_coefficients_are_tidy():
    table = model_summary.coefficients(cases.random_slopes())
    assert list(table.columns) == ["response", "coefficient", "estimate", "std_error", "std_error_full"]
    assert table.to_numpy().tolist() == [["y", "(Intercept)", 10.0, 0.1, 0.2], ["y", "Days", 3.0, 0.1, 0.2]]


def test_variances_by_hand():
    table = model_summary.variances(cases.random_slopes()).set_index("component")
    assert list(table.index) == ["donor: (Intercept)", "donor: Days", "donor: (Intercept), Days", "residual"]
    assert table["variance_reml"].tolist() == table["variance"].tolist() == [4.0, 1.0, 0.5, 2.0]
    z = 1.959963984540054
    np.testing.assert_allclose(table.loc["donor: Days", ["ci_low", "ci_high"]].tolist(), np.exp([-z / 2, z / 2]))
    np.testing.assert_allclose(
        table.loc["donor: (Intercept), Days", ["ci_low", "ci_high"]].tolist(), [0.5 - z / 2, 0.5 + z / 2]
    )
    np.testing.assert_allclose(table["correlation"].tolist(), [np.nan, np.nan, 0.25, np.nan])
    total = RANDOM + 2.0
    np.testing.assert_allclose(table["fraction"], np.array([4.0, 3.5, 1.5, 2.0]) / total)


def test_shares_of_counts_are_those_of_the_workflow():
    """The dispersion has log(1 + phi / (1 + 1/mu)) and Poisson noise log(1 + 1/mu), in all log(1 + 1/mu + phi)."""
    donors = np.array([0, 0, 1, 1])
    built = cases.design(np.ones((4, 1)), ["(Intercept)"], [cases.term("donor", donors)], donors, "~ 1 + (1 | donor)")
    estimates = cases.fits(("a",), ["(Intercept)"], ["donor", "dispersion"], [0.3], [0.2, 0.5], -9.0)
    table = model_summary.variances(cases.model(built, estimates, [0, 2, 1, 5]))
    mu = 2.0
    total = 0.2 + np.log1p(1 / mu + 0.5)
    np.testing.assert_allclose(table["fraction"], [0.2 / total, np.log1p(0.5 / (1 + 1 / mu)) / total])


def test_boundary_variance_has_no_interval_and_no_correlation():
    model = cases.random_slopes()
    estimates = dataclasses.replace(
        model.estimates, variance=np.array([[4.0, 0.0, 0.0, 2.0]]), variance_se=np.array([[0.5, np.nan, np.nan, 0.1]])
    )
    table = model_summary.variances(dataclasses.replace(model, estimates=estimates))
    assert np.isnan(table.loc[1, ["ci_low", "ci_high"]].astype(float)).all()
    assert np.isnan(table.loc[2, "correlation"])


def test_moderated_variances_replace_the_estimates():
    model = cases.random_slopes()
    variance = np.array([[3.0, 1.5, 0.5, 2.5]])
    low, high = variance - 0.25, np.array([[3.5, 2.0, np.nan, np.nan]])
    posterior = Moderated(np.ones((1, 1)), variance, np.where(np.isnan(high), np.nan, low), high, np.zeros((4, 3)))
    table = model_summary.variances(dataclasses.replace(model, moderated=posterior))
    assert table["variance_reml"].tolist() == [4.0, 1.0, 0.5, 2.0]
    assert table["variance"].tolist() == [3.0, 1.5, 0.5, 2.5]
    assert table["ci_low"].tolist()[:2] == [2.75, 1.25]
    assert table["ci_high"].tolist()[:2] == [3.5, 2.0]
    assert table.loc[3, "ci_low"] == pytest.approx(2.0 * np.exp(-0.5 * 1.959963984540054))


def test_criteria_follow_from_the_log_likelihood():
    row = model_summary.fits(cases.random_slopes()).iloc[0]
    assert row["n_parameters"] == 6
    assert row["aic"] == -2 * -20.0 + 2 * 6
    assert row["bic"] == pytest.approx(40.0 + 6 * np.log(12))
    assert (row["n_rows"], row["n_donors"], row["estimation"], row["status"], row["reason"]) == (
        12,
        3,
        "reml",
        "converged",
        "",
    )


def test_r_squared_by_hand():
    row = model_summary.fits(cases.random_slopes()).iloc[0]
    total = FIXED + RANDOM + 2.0
    assert row["r2_marginal"] == pytest.approx(FIXED / total)
    assert row["r2_conditional"] == pytest.approx((FIXED + RANDOM) / total)


@pytest.mark.parametrize(
    ("family", "distribution"),
    [("bernoulli", np.pi**2 / 3), ("poisson", np.log1p(1 / 6.5)), ("nb", np.log1p(1 / 6.5 + 2.0))],
)
def test_r_squared_takes_the_variance_of_the_distribution(family, distribution):
    row = model_summary.fits(cases.random_slopes(family)).iloc[0]
    assert row["r2_marginal"] == pytest.approx(FIXED / (FIXED + RANDOM + distribution))


def test_r_squared_without_random_effects_is_that_of_least_squares():
    rng = np.random.default_rng(1)
    x = rng.normal(size=50)
    y = 1.0 + 2.0 * x + rng.normal(size=50)
    X = np.column_stack([np.ones(50), x])
    beta, rss, *_ = np.linalg.lstsq(X, y, rcond=None)
    built = cases.design(X, ["(Intercept)", "x"], formula="~ x")
    estimates = cases.fits(("y",), built.coefficients, ["residual"], beta, [rss[0] / 49], -70.0)
    marginal, conditional = model_summary.r_squared(cases.model(built, estimates, y, "gaussian", "response"))
    assert marginal == conditional
    assert marginal[0] == pytest.approx(1.0 - rss[0] / ((y - y.mean()) ** 2).sum())


def nested():
    donor, sample = np.repeat([0, 1, 2, 3], 4), np.repeat(np.arange(8), 2)
    terms = [cases.term("donor:arm", sample), cases.term("donor", donor)]
    built = cases.design(np.ones((16, 1)), ["(Intercept)"], terms, donor, "~ 1 + (1 | donor) + (1 | donor:arm)")
    estimates = cases.fits(("y",), ["(Intercept)"], ["donor:arm", "donor", "residual"], [1.0], [2.0, 1.0, 5.0], -9.0)
    return cases.model(built, estimates, np.arange(16.0), "gaussian", "response")


def test_partition_of_nested_levels():
    """Two rows of a sample share the donor as well: (2 + 1) / 8; two rows of a donor share 1 / 8."""
    table = model_summary.partition(nested()).set_index("level")
    assert table["n_groups"].to_dict() == {"donor:arm": 8, "donor": 4, "residual": 16}
    assert table["variance"].tolist() == [2.0, 1.0, 5.0]
    assert table["fraction"].tolist() == [0.25, 0.125, 0.625]
    np.testing.assert_allclose(table["icc"], [0.375, 0.125, np.nan])


def test_partition_of_slopes_and_of_two_terms_of_one_factor():
    assert model_summary.partition(cases.random_slopes())["variance"].tolist() == [RANDOM, 2.0]
    model = cases.random_slopes()
    (full,) = model.design.terms
    split = [
        dataclasses.replace(full, effects=full.effects[i : i + 1], Z=full.Z[i : i + 1], basis=full.basis[:1])
        for i in (0, 1)
    ]
    built = dataclasses.replace(model.design, terms=tuple(split))
    estimates = cases.fits(
        ("y",), built.coefficients, ["donor", "donor: Days", "residual"], [10.0, 3.0], [4.0, 1.0, 2.0], -20.0
    )
    table = model_summary.partition(dataclasses.replace(model, design=built, estimates=estimates))
    assert table["level"].tolist() == ["donor", "residual"]
    assert table["variance"].tolist() == [4.0 + 3.5, 2.0]


def test_simulated_icc_agrees_with_the_partition():
    """Correlation of two rows of a donor in data drawn from the model."""
    rng = np.random.default_rng(2)
    u, e = rng.normal(0, 1.0, (4000, 1)), rng.normal(0, 2.0, (4000, 2))
    assert np.corrcoef((u + e).T)[0, 1] == pytest.approx(1.0 / 5.0, abs=0.05)
    donor = np.repeat([0, 1], 2)
    built = cases.design(np.ones((4, 1)), ["(Intercept)"], [cases.term("donor", donor)], donor)
    found = variance_partition.partition(built, ("donor", "residual"), np.array([[1.0, 4.0]]), "gaussian", np.ones(1))
    assert found.icc[0, 0] == 0.2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 9.0), min_size=4, max_size=4), st.floats(-1.0, 1.0), st.floats(0.1, 50.0))
def test_shares_add_to_one_and_coarser_levels_are_shared_less(variance, correlation, mean):
    """A covariance may have a negative share; with that of Poisson noise all add to one."""
    model = cases.random_slopes("nb")
    covariance = correlation * np.sqrt(variance[0] * variance[1])
    values = np.array([[*variance[:2], covariance, variance[2]]])
    arguments = (model.design, model.estimates.components, values, "nb", np.array([mean]))
    shares, found = variance_partition.component_fractions(*arguments), variance_partition.partition(*arguments)
    noise = np.log1p(1 / mean) / found.variance.sum()
    assert shares.sum() + noise == pytest.approx(1.0)
    assert found.fraction.sum() == pytest.approx(1.0)
    assert (found.variance >= -1e-12).all()
    assert found.icc[0, 0] == found.fraction[0, 0]


def test_responses_without_a_fit_are_left_out_of_all_tables_but_fits():
    model = cases.random_slopes()
    G = 2
    estimates = cases.fits(
        ("y", "z"),
        model.estimates.coefficients,
        model.estimates.components,
        np.full((G, 2), np.nan),
        np.full((G, 4), np.nan),
        [np.nan] * G,
        status=np.array([Status.FILTERED, Status.NOT_FINITE], np.int8),
    )
    two = dataclasses.replace(
        cases.model(model.design, estimates, np.ones((12, 2)), "gaussian", "response"), reasons=("it is constant", "")
    )
    assert set(model_summary.coefficients(two)["response"]) == {"z"}
    assert set(model_summary.variances(two)["response"]) == {"z"}
    assert set(model_summary.partition(two)["response"]) == {"z"}
    table = model_summary.fits(two)
    assert table["status"].tolist() == ["filtered", "not_finite"]
    assert table["reason"].tolist()[0] == "it is constant"
    assert np.isnan(table["r2_marginal"]).all()


def test_summary_of_one_response_reads_like_a_table():
    text = model_summary.describe(cases.random_slopes())
    assert text.splitlines()[0] == "y ~ Days + (1 + Days | donor)"
    assert "gaussian; REML; 12 rows: 3 donor" in text
    assert "log-likelihood -20.000, AIC 52.00" in text
    assert "donor: (Intercept), Days" in text
    assert "nan" not in text.lower()
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line[:1] not in " "}
    assert lines["residual"] == ["2", "1.414", "0.7506", "5.329", "0.1818"]
    assert lines["Days"][:2] == ["3", "0.2"]
    assert float(lines["Days"][4]) == pytest.approx(3 / 0.2)


def test_summary_of_many_responses_counts_them():
    model = cases.random_slopes("nb")
    estimates = cases.fits(
        ("a", "b"), model.estimates.coefficients, model.estimates.components, np.zeros((2, 2)), np.ones((2, 4)), [1, 2],
        status=np.array([0, 1], np.int8),
    )  # fmt: skip
    text = model_summary.describe(cases.model(model.design, estimates, np.ones((12, 2))))
    assert text.splitlines()[0] == "2 genes ~ Days + (1 + Days | donor)"
    assert [line.strip() for line in text.splitlines()[2:6]] == [
        "1 converged",
        "1 boundary (a variance at zero: an ordinary outcome)",
        "variances are not moderated",
        "coefficients: (Intercept), Days",
    ]
    assert "Tables: .coefficients .variances .fits .variance_partition ['a']" in text
