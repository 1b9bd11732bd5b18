"""The Python API from end to end: closed forms, statsmodels, the workflow's own functions, round trips."""

import doctest
import inspect
import pickle
import pydoc
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import special, stats

import mlmgen
from mlmgen import contrasts as algebra
from mlmgen import fitting, inference, moderate
from mlmgen.errors import UserError
from mlmgen.moderate import FEW_GENES
from mlmgen.notebook import api, predictions
from mlmgen.notebook.predictions import inverse_link
from mlmgen.notebook.tested import f_quantile


def schools(seed=1, groups=12, size=8):
    """A gaussian outcome with random intercepts and slopes."""
    rng = np.random.default_rng(seed)
    group, x = np.repeat(np.arange(groups), size), np.tile(np.linspace(-1, 1, size), groups)
    u = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 0.6]], groups)
    y = 2.0 + 1.5 * x + u[group, 0] + u[group, 1] * x + rng.normal(0, 0.7, groups * size)
    frame = pd.DataFrame({"y": y, "x": x, "school": [f"s{i}" for i in group]})
    return frame.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def counts(seed=2, genes=40, donors=8, cells=25):
    """An AnnData of two arms with donor effects, a few genes with an effect of the arm."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(donors), cells)
    arm = donor % 2
    base, effect = rng.normal(1.5, 0.5, genes), np.where(np.arange(genes) < 5, 1.5, 0.0)
    eta = base + np.outer(arm, effect) + rng.normal(0, 0.3, (donors, genes))[donor]
    depth = rng.lognormal(0, 0.3, donors * cells)
    values = rng.poisson(depth[:, None] * np.exp(eta) * rng.gamma(2.0, 0.5, eta.shape))
    obs = pd.DataFrame(
        {"donor": [f"d{i}" for i in donor], "arm": np.array(["ctrl", "stim"])[arm]},
        index=[f"cell{i}" for i in range(len(donor))],
    )
    data = ad.AnnData(values.astype(np.float32), obs, pd.DataFrame(index=[f"g{i}" for i in range(genes)]))
    return data[rng.permutation(data.n_obs)].copy()


@pytest.fixture(scope="module")
def slopes():
    return mlmgen.fit(schools(), "y ~ x + (1 + x | school)", family="gaussian", progress=False)


@pytest.fixture(scope="module")
def genes():
    return mlmgen.fit(counts(), "~ arm + (1 | donor)", progress=False)


def test_the_package_is_light_and_its_api_loads_when_asked_for():
    code = (
        "import sys, mlmgen\n"
        "assert not {'numpy', 'pandas', 'numba'} & set(sys.modules)\n"
        "import mlmgen.fitting\n"
        "assert 'pandas' not in sys.modules\n"
        "assert callable(mlmgen.fit) and callable(mlmgen.compare)\n"
        "assert {'fit', 'compare'} <= set(dir(mlmgen))\n"
        "from mlmgen import fit\n"
        "assert fit is mlmgen.fit\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        mlmgen.fitt  # noqa: B018


def test_balanced_one_way_layouts_have_the_variances_of_the_analysis_of_variance():
    """REML: the residual is MSW, the donor variance (MSB - MSW) / m (Searle, Casella and McCulloch 1992, 3.8)."""
    rng, k, m = np.random.default_rng(3), 9, 5
    y = rng.normal(0, 2, k)[:, None] + rng.normal(0, 1, (k, m))
    fit = mlmgen.fit(
        pd.DataFrame({"y": y.ravel(), "g": np.repeat(np.arange(k), m)}),
        "y ~ 1 + (1 | g)",
        family="gaussian",
        progress=False,
    )
    msw = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum() / (k * (m - 1))
    msb = m * y.mean(axis=1).var(ddof=1)
    found = fit.variances.set_index("component")["variance"]
    assert found["residual"] == pytest.approx(msw, rel=1e-5)
    assert found["g"] == pytest.approx((msb - msw) / m, rel=1e-4)
    icc = fit.variance_partition.set_index("level").loc["g", "icc"]
    assert icc == pytest.approx((msb - msw) / (msb + (m - 1) * msw), rel=1e-4)
    estimate, error = fit.coefficients[["estimate", "std_error"]].to_numpy()[0]
    assert estimate == pytest.approx(y.mean())
    assert error == pytest.approx(np.sqrt(msb / (k * m)), rel=1e-4)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_a_slope_model_agrees_with_statsmodels(method):
    data = schools()
    fit = mlmgen.fit(data, "y ~ x + (1 + x | school)", family="gaussian", method=method, progress=False)
    theirs = sm.MixedLM.from_formula("y ~ x", data, groups="school", re_formula="~x").fit(reml=method == "reml")
    np.testing.assert_allclose(fit.coefficients["estimate"], theirs.fe_params, rtol=1e-4)
    np.testing.assert_allclose(fit.coefficients["std_error"], theirs.bse_fe, rtol=2e-3)
    variance = fit.variances.set_index("component")["variance"]
    np.testing.assert_allclose(variance["residual"], theirs.scale, rtol=2e-3)
    names = ["school: (Intercept)", "school: (Intercept), x", "school: x"]
    np.testing.assert_allclose(variance[names], theirs.cov_re.to_numpy()[np.triu_indices(2)], rtol=1e-2, atol=1e-3)
    row = fit.fits.iloc[0]
    assert row["loglik"] == pytest.approx(theirs.llf, abs=2e-3)
    assert row["aic"] == 2 * 6 - 2 * row["loglik"]
    assert row["bic"] == pytest.approx(6 * np.log(len(data)) - 2 * row["loglik"])


def test_rows_may_come_in_any_order():
    shuffled = schools().sample(frac=1.0, random_state=9)
    one = mlmgen.fit(schools(), "y ~ x + (1 + x | school)", family="gaussian", progress=False)
    other = mlmgen.fit(shuffled, "y ~ x + (1 + x | school)", family="gaussian", progress=False)
    np.testing.assert_allclose(one.coefficients["estimate"], other.coefficients["estimate"], rtol=1e-9)
    np.testing.assert_allclose(one.variances["variance"], other.variances["variance"], rtol=1e-6)


def test_a_model_without_random_effects_is_least_squares():
    data = schools()
    fit = mlmgen.fit(data, "y ~ x", family="gaussian", method="ml", progress=False)
    theirs = sm.OLS.from_formula("y ~ x", data).fit()
    np.testing.assert_allclose(fit.coefficients["estimate"], theirs.params, rtol=1e-8)
    assert fit.fits["loglik"][0] == pytest.approx(theirs.llf, abs=1e-6)
    assert fit.fits["n_parameters"][0] == 3
    assert fit.random_effects().empty


def test_models_from_the_empty_one_upwards():
    data = schools()
    formulas = ["y ~ x", "y ~ x + (1 | school)", "y ~ x + (1 + x | school)"]
    fits = [mlmgen.fit(data, formula, family="gaussian", progress=False) for formula in formulas]
    table = mlmgen.compare(*fits)
    assert table["model"].tolist() == [formula.removeprefix("y ") for formula in formulas]
    assert set(table["estimation"]) == {"reml"}
    ratio = 2 * np.diff(table["loglik"])
    np.testing.assert_allclose(table["chisq"][1:], ratio)
    np.testing.assert_allclose(table["pvalue"][1], 0.5 * stats.chi2.sf(ratio[0], 1))
    np.testing.assert_allclose(table["pvalue"][2], 0.5 * (stats.chi2.sf(ratio[1], 1) + stats.chi2.sf(ratio[1], 2)))
    empty = mlmgen.fit(data, "y ~ 1 + (1 | school)", family="gaussian", progress=False)
    table = mlmgen.compare(fits[1], empty, names=["x", "empty"])
    assert table["model"].tolist() == ["empty", "x"]
    assert set(table["estimation"]) == {"ml"}
    again = fits[1].refit("ml")
    assert again.fits["loglik"][0] == table["loglik"][1]
    assert again.refit("ml") is not None
    with pytest.raises(UserError, match="argument 2 is a str"):
        mlmgen.compare(empty, "y ~ x")


def test_many_genes_are_moderated_as_by_the_workflow(genes):
    """The functions that the stages call, on the same design and counts, give the same numbers."""
    assert genes.moderated is not None
    keep = np.ones(len(genes.responses.names), bool)
    estimates = fitting.fit_shard(genes.counts, genes.design, keep, "nb")
    total = np.asarray(counts().X.sum(axis=0)).ravel()
    moderated = moderate.moderate(estimates, np.log(total))
    effects = inference.test(
        genes.counts, genes.design, estimates, moderated, algebra.resolve({"a": "arm[stim] - arm[ctrl]"}, genes.design)
    )
    np.testing.assert_array_equal(genes.estimates.beta, estimates.beta)
    np.testing.assert_allclose(genes.moderated.weights, moderated.weights)
    table = genes.test({"a": "arm[stim] - arm[ctrl]"}).set_index("gene").loc[list(genes.responses.names)]
    np.testing.assert_allclose(table["log2fc"], effects.estimate[:, 0] / np.log(2))
    np.testing.assert_allclose(table["lfc_se"], effects.std_error[:, 0] / np.log(2))
    np.testing.assert_allclose(table["pvalue"], np.exp(effects.log_pvalue[:, 0]))
    np.testing.assert_allclose(table["padj"], stats.false_discovery_control(table["pvalue"]))
    assert table["df"].isna().all()


def test_the_table_of_tests_is_ranked_and_finds_the_effects(genes):
    table = genes.test()
    assert table["contrast"].unique().tolist() == ["arm[T.stim]"]
    assert (table["statistic"].abs().diff().dropna() <= 0).all()
    assert set(table["gene"][:5]) == {f"g{i}" for i in range(5)}
    effects = "contrast log2fc lfc_se ci_low ci_high statistic df pvalue padj status reason"
    assert list(table.columns) == ["gene", *effects.split()]
    assert (table["ci_low"] < table["log2fc"]).all()


def test_tables_of_many_genes(genes):
    G = len(genes.responses.names)
    assert len(genes.coefficients) == 2 * G
    assert genes.variances.groupby("component").size().to_dict() == {"donor": G, "dispersion": G}
    assert (genes.variances["fraction"].between(0, 1)).all()
    assert genes.fits["gene"].tolist() == list(genes.responses.names)
    assert (genes.fits["r2_conditional"] >= genes.fits["r2_marginal"]).all()
    assert repr(genes).splitlines()[0] == "40 genes ~ arm + (1 | donor)"
    assert "moderated across responses" in repr(genes)


def test_few_responses_have_t_tests_with_satterthwaite_degrees_of_freedom(slopes):
    row = slopes.test({"x": "x"}).iloc[0]
    covariance, sensitivity = slopes.estimates.covariance[0, 1, 1], slopes.estimates.sensitivity[0, :, 1, 1]
    df = 2 * covariance**2 / (sensitivity**2).sum()
    assert row["df"] == pytest.approx(df)
    t = row["estimate"] / np.sqrt(covariance)
    assert row["pvalue"] == pytest.approx(2 * stats.t.sf(abs(t), df))
    assert row["ci_high"] - row["estimate"] == pytest.approx(stats.t.ppf(0.975, df) * np.sqrt(covariance))


def test_few_genes_are_not_moderated():
    data = counts(genes=FEW_GENES - 1)
    fit = mlmgen.fit(data, "~ arm + (1 | donor)", progress=False, responses=list(data.var_names[:2]))
    assert fit.moderated is None
    assert np.isfinite(fit.coefficients["std_error_full"]).all()
    whole = mlmgen.fit(data, "~ arm + (1 | donor)", progress=False)
    np.testing.assert_allclose(fit.coefficients["estimate"], whole.coefficients["estimate"][:4], rtol=1e-6)


@pytest.mark.parametrize("family", ["poisson", "bernoulli", "gaussian"])
def test_other_families_of_genes(family):
    fit = mlmgen.fit(counts(genes=3), "~ arm + (1 | donor)", family=family, size_factors=None, progress=False)
    assert set(fit.fits["status"]) <= {"converged", "boundary"}
    logs = family == "poisson"
    assert ("log2fc" in fit.test().columns) == logs
    assert ("estimate" in fit.test().columns) != logs


def test_a_gene_without_counts_is_not_fitted_and_says_so():
    data = counts(genes=6)
    data.X[:, 1] = 0
    fit = mlmgen.fit(data, "~ arm + (1 | donor)", size_factors=None, progress=False)
    assert fit.fits["status"].tolist()[1] == "filtered"
    assert fit.fits["reason"].tolist()[1] == "it is 0 in every row"
    assert "g1" not in set(fit.coefficients["gene"])
    assert np.isnan(fit.test().set_index("gene").loc["g1", "pvalue"])


def test_a_fit_survives_pickling(slopes):
    again = pickle.loads(pickle.dumps(slopes))
    pd.testing.assert_frame_equal(again.coefficients, slopes.coefficients)
    assert repr(again) == repr(slopes)


def test_errors_name_arguments():
    with pytest.raises(UserError, match=r"argument formula, the data frame"):
        mlmgen.fit(schools(), "y ~ z + (1 | school)", family="gaussian", progress=False)
    with pytest.raises(UserError, match=r"argument contrasts"):
        api.fit(schools(), "y ~ x", family="gaussian", progress=False).test({"a": "z"})
    with pytest.raises(UserError, match="threads is 0"):
        mlmgen.fit(schools(), "y ~ x", family="gaussian", threads=0)


def test_gee_of_a_balanced_gaussian_layout_has_the_estimates_of_the_mixed_model():
    data = schools()
    fit = mlmgen.fit(data, "y ~ x + (1 | school)", family="gaussian", progress=False)
    table = fit.gee()
    np.testing.assert_allclose(table["estimate_gee"], table["estimate"], rtol=1e-6)
    theirs = sm.GEE.from_formula("y ~ x", "school", data, cov_struct=sm.cov_struct.Exchangeable()).fit()
    np.testing.assert_allclose(table["std_error_gee"], theirs.bse, rtol=1e-6)
    np.testing.assert_allclose(table["estimate_gee"], theirs.params, rtol=1e-6)


def test_gee_of_named_genes_is_within_the_standard_errors(genes):
    table = genes.gee(["g0", "g7"])
    assert table["gene"].tolist() == ["g0", "g0", "g7", "g7"]
    arm = table[table["coefficient"] == "arm[T.stim]"]
    assert ((arm["estimate_gee"] - arm["estimate"]).abs() < arm["std_error"]).all()
    assert table["correlation"].between(-0.1, 0.5).all()
    with pytest.raises(UserError, match="Did you mean 'g1'"):
        genes.gee(["g1x"])
    with pytest.raises(UserError, match="no response is named among 40"):
        genes.gee()
    with pytest.raises(UserError, match="no groups 'patient'"):
        genes.gee(["g0"], groups="patient")


def test_marginal_effects_of_intercepts_are_the_conditional_ones(genes):
    table = genes.marginal_effects({"a": "arm[stim] - arm[ctrl]"})
    np.testing.assert_allclose(table["marginal"], table["conditional"])
    np.testing.assert_allclose(
        table["conditional"], genes.coefficients.query("coefficient == 'arm[T.stim]'")["estimate"], atol=1e-12
    )


def test_random_effects_of_a_balanced_layout_shrink_as_the_formula_says():
    """BLUP = m sigma_u^2 / (m sigma_u^2 + sigma_e^2) x (group mean - grand mean)."""
    rng, k, m = np.random.default_rng(4), 7, 6
    y = rng.normal(0, 2, k)[:, None] + rng.normal(0, 1, (k, m))
    data = pd.DataFrame({"y": y.ravel(), "g": np.repeat([f"g{i}" for i in range(k)], m)})
    fit = mlmgen.fit(data, "y ~ 1 + (1 | g)", family="gaussian", progress=False)
    u, e = fit.variances["variance"]
    table = fit.random_effects()
    assert list(table.columns) == [
        "response", "term", "group", "effect", "estimate", "std_error", "unpooled", "unpooled_se"
    ]  # fmt: skip
    assert table["group"].tolist() == [f"g{i}" for i in range(k)]
    deviation = y.mean(axis=1) - y.mean()
    np.testing.assert_allclose(table["estimate"], m * u / (m * u + e) * deviation, rtol=1e-5)
    np.testing.assert_allclose(table["unpooled"], deviation, rtol=1e-4)
    np.testing.assert_allclose(table["unpooled_se"], np.sqrt(e / m), rtol=1e-4)


def test_predictions_for_known_and_new_groups(slopes):
    data = schools()
    beta = slopes.coefficients["estimate"].to_numpy()
    u = slopes.random_effects().pivot_table(index="group", columns="effect", values="estimate")
    known = slopes.predict(data)
    expected = beta[0] + beta[1] * data["x"] + u["(Intercept)"][data["school"]].to_numpy()
    expected += u["x"][data["school"]].to_numpy() * data["x"]
    np.testing.assert_allclose(known["estimate"], expected, rtol=1e-6)
    np.testing.assert_allclose(slopes.predict()["estimate"], known["estimate"])
    new = slopes.predict(data.assign(school="another"), new_groups=True)
    np.testing.assert_allclose(new["estimate"], beta[0] + beta[1] * data["x"], rtol=1e-6)
    assert (new["std_error"] > known["std_error"]).all()
    v = slopes.variances.set_index("component")["variance"]
    between = v["school: (Intercept)"] + 2 * data["x"] * v["school: (Intercept), x"] + data["x"] ** 2 * v["school: x"]
    assert (new["std_error"] ** 2 > between).all()
    np.testing.assert_allclose(new["ci_high"] - new["ci_low"], 2 * special.ndtri(0.975) * new["std_error"])
    with pytest.raises(UserError, match="another"):
        slopes.predict(data.assign(school="another"))
    with pytest.raises(UserError, match="level"):
        slopes.predict(level=95)


def test_predictions_of_counts_are_on_both_scales(genes):
    data = counts()
    table = genes.predict()
    assert len(table) == data.n_obs * len(genes.responses.names)
    np.testing.assert_allclose(table["mean"], np.exp(table["estimate"]))
    assert table["row"][: data.n_obs].tolist() == list(data.obs_names)
    at_one = genes.predict(data)
    difference = (table["estimate"] - at_one["estimate"]).to_numpy().reshape(-1, data.n_obs)
    np.testing.assert_allclose(
        difference, np.log(genes.responses.size_factor)[None].repeat(len(difference), 0), atol=1e-10
    )
    frame = pd.DataFrame({"arm": ["ctrl", "stim"], "sf": [1.0, 2.0]})
    new = genes.predict(frame, new_groups=True, size_factors="sf")
    gene = genes.coefficients.query("gene == 'g3'")["estimate"].to_numpy()
    np.testing.assert_allclose(new.query("gene == 'g3'")["estimate"], [gene[0], gene.sum() + np.log(2)], rtol=1e-6)


def test_several_responses_of_a_data_frame():
    data = schools().assign(z=lambda d: d["y"] * 2)
    fit = mlmgen.fit(data, "~ x + (1 | school)", family="gaussian", responses=["y", "z"], progress=False)
    estimate = fit.coefficients.pivot_table(index="coefficient", columns="response", values="estimate")
    np.testing.assert_allclose(estimate["z"], 2 * estimate["y"], rtol=1e-6)


def test_an_interval_without_an_end_is_infinite():
    assert inverse_link(np.array([0.0, 1000.0]), "nb").tolist() == [1.0, np.inf]
    assert inverse_link(np.array([0.0, 1000.0]), "bernoulli").tolist() == [0.5, 1.0]
    assert inverse_link(np.array([0.0, 1000.0]), "gaussian").tolist() == [0.0, 1000.0]


def test_statistics_of_a_data_frame_are_t_and_f(slopes):
    table = slopes.test({"x": "x", "both": ["x", "(Intercept)"]}).set_index("contrast")
    row = table.loc["x"]
    assert row["statistic"] == pytest.approx(row["estimate"] / row["std_error"])
    assert row["pvalue"] == pytest.approx(2 * stats.t.sf(row["statistic"], row["df"]))
    row = table.loc["both"]
    assert row["pvalue"] == pytest.approx(stats.f.sf(row["statistic"], 2, row["df"]))


def test_f_quantiles_invert_the_tail():
    for F, rank, df in [(0.3, 2, 7.5), (4.0, 3, 100.0), (900.0, 2, 30.0)]:
        log_p = np.array([stats.f.logsf(F, rank, df)])
        assert f_quantile(log_p, rank, np.array([df]))[0] == pytest.approx(F, rel=1e-6)
    assert np.isnan(f_quantile(np.array([np.nan]), 2, np.array([3.0])))[0]


def test_there_may_be_nothing_to_test():
    fit = mlmgen.fit(schools(), "y ~ 1 + (1 | school)", family="gaussian", progress=False)
    with pytest.raises(UserError, match="nothing to test: the intercept is the only coefficient"):
        fit.test()
    with pytest.raises(UserError, match="no contrast"):
        fit.test({})
    assert fit.test("(Intercept)")["contrast"].tolist() == ["(Intercept)"]


def test_some_genes_of_a_fit_are_as_they_were_fitted_with_the_others(genes):
    one, two = genes["g3"], genes[["g7", "g3"]]
    assert (one.responses.names, two.responses.names) == (("g3",), ("g7", "g3"))
    for table in ("coefficients", "variances", "fits", "variance_partition"):
        whole = getattr(genes, table).query("gene in ('g3', 'g7')")
        pd.testing.assert_frame_equal(getattr(one, table), whole.query("gene == 'g3'").reset_index(drop=True))
        assert getattr(two, table)["gene"].unique().tolist() == ["g7", "g3"]
    tested, alone = genes.test().set_index("gene").loc["g3"], one.test().iloc[0]
    assert alone["pvalue"] == tested["pvalue"]
    assert "padj" not in alone
    pd.testing.assert_frame_equal(
        one.random_effects(), genes.random_effects().query("gene == 'g3'").reset_index(drop=True)
    )
    np.testing.assert_array_equal(
        two.predict()["estimate"][: len(one.predict())], genes.predict().query("gene == 'g7'")["estimate"]
    )
    assert repr(one).splitlines()[0] == "g3 ~ arm + (1 | donor)"
    with pytest.raises(UserError, match="there is no gene 'g99' in the fit"):
        genes["g99"]


@pytest.mark.parametrize(
    ("family", "theirs"),
    [("poisson", sm.families.Poisson()), ("bernoulli", sm.families.Binomial())],
)
def test_models_without_random_effects_are_generalized_linear_models(family, theirs):
    data = counts(genes=5)
    with pytest.warns(UserWarning, match="count as replicates"):
        fit = mlmgen.fit(data, "~ arm", donor="donor", family=family, method="ml", size_factors=None, progress=False)
    assert fit.estimates.components == ()
    y = data.X[:, 2] > 0 if family == "bernoulli" else data.X[:, 2]
    X = np.column_stack([np.ones(data.n_obs), data.obs["arm"] == "stim"])
    expected = sm.GLM(np.asarray(y, dtype=float), X, family=theirs).fit(tol=1e-13)
    one = fit["g2"]
    np.testing.assert_allclose(one.coefficients["estimate"], expected.params, atol=2e-5 * expected.bse.max())
    np.testing.assert_allclose(one.coefficients["std_error"], expected.bse, rtol=2e-5)
    assert one.fits["loglik"][0] == pytest.approx(expected.llf, abs=1e-6)
    assert one.fits["n_parameters"][0] == 2
    assert one.variances.empty
    assert one.variance_partition["level"].tolist() == ["residual"]
    assert one.test().loc[0, "df"] == data.n_obs - 2
    assert "no random effects" in repr(one)
    assert "variance components" not in repr(one)


@pytest.mark.parametrize("family", ["nb", "poisson", "bernoulli"])
def test_empty_models_of_genes_are_compared(family):
    data = counts(genes=4)
    formulas = ["~ 1", "~ 1 + (1 | donor)", "~ 1 + (1 + day | donor)"]
    data.obs["day"] = np.sin(np.arange(data.n_obs))
    options = {"donor": "donor", "family": family, "size_factors": None, "progress": False}
    table = mlmgen.compare(*(mlmgen.fit(data, formula, **options) for formula in formulas))
    assert table["model"].tolist() == formulas * 4
    assert (table["chisq"].dropna() >= 0).all()
    assert table["pvalue"].dropna().between(0, 1).all()
    steps = np.diff(table["loglik"].to_numpy().reshape(4, 3), axis=1)
    assert (steps > -1e-6).all(), "a bigger model is at least as likely"


def test_predictions_of_separated_genes_have_finite_intervals():
    data = counts(genes=40)
    data.X[data.obs["arm"] == "ctrl", 3] = 0
    for formula in ("~ arm + (1 | donor)", "~ arm + (1 + day | donor)"):
        data.obs["day"] = np.sin(np.arange(data.n_obs))
        fit = mlmgen.fit(data, formula, progress=False)
        assert fit["g3"].fits["status"].tolist() == ["separated"]
        new = fit["g3"].predict(pd.DataFrame({"arm": ["ctrl", "stim"], "day": 0.0}), new_groups=True)
        assert np.isfinite(new[["estimate", "std_error", "ci_low", "ci_high"]].to_numpy()).all()
        assert new["ci_low"][1] > new["mean"][0]
        known = fit["g3"].predict()
        assert np.isfinite(known[["std_error", "ci_high"]].to_numpy()).all()


def test_more_predictions_than_memory_holds_are_refused(genes, monkeypatch):
    monkeypatch.setattr(predictions, "MOST_PREDICTIONS", 1000)
    with pytest.raises(UserError, match=r"200 rows of 40 genes are 8,000 predictions .* fit\[\['g0', 'g1'\]\].predict"):
        genes.predict()
    assert len(genes["g0"].predict()) == 200


def examples(function):
    """The statements of a docstring's examples."""
    return [example.source for example in doctest.DocTestParser().get_examples(function.__doc__)]


@pytest.mark.parametrize("function", [mlmgen.fit, mlmgen.compare])
def test_the_examples_of_the_docstrings_run(function):
    rng = np.random.default_rng(5)
    adata = counts(genes=40, donors=8, cells=40)
    adata.var_names = ["ISG15", "CD74", *adata.var_names[2:]]
    adata.obs["condition"] = np.where(rng.random(adata.n_obs) < 0.5, "ctrl", "stim")
    adata.obs["donor"] = "D" + (adata.obs["donor"].str[1:].astype(int) + 1).astype(str)
    adata.obs["pct_mito"] = rng.uniform(0, 0.2, adata.n_obs)
    sleep = schools().rename(columns={"y": "Reaction", "x": "Days", "school": "Subject"})
    found = {"mlmgen": mlmgen, "pd": pd, "adata": adata, "sleep": sleep}
    statements = examples(function)
    assert len(statements) >= 3
    for statement in statements:
        try:
            shown = eval(statement, found)
        except SyntaxError:
            exec(statement, found)
            continue
        assert len(str(shown)) > 50, statement


def test_help_is_readable():
    for name in ("fit", "compare"):
        text = pydoc.render_doc(getattr(mlmgen, name), renderer=pydoc.plaintext)
        assert max(map(len, text.splitlines()[3:])) <= 124
        assert "Parameters" in text
        assert ">>> " in text
    for name in ("test", "predict", "random_effects", "marginal_effects", "gee"):
        text = inspect.getdoc(getattr(api.Fit, name))
        assert "Returns\n-------" in text
        assert "model : FittedModel" not in text
        assert "progress : callable" not in text
    assert "``std_error_full``" in api.Fit.coefficients.__doc__
