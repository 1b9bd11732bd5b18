"""Every kind of model through the stages, from an .h5ad with known effects to the tables."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

import mlmgen
from mlmgen import io, model_tests, multilevel
from mlmgen.types import GeneFits, Moderated
from tests.unit.stages_run import Run

EXAMPLES = Path(__file__).parents[2] / "config/examples"
# Enough genes for a prior of the variances.
GENES, DONORS, CELLS = 32, 10, 60
# Natural log: effects of the condition and of one standard deviation of pct.
EFFECT, PCT = 0.8, 0.3
LN2 = np.log(2.0)


def study(seed: int = 5) -> anndata.AnnData:
    """Ten donors with cells in both arms and three batches; half of the genes have effects."""
    rng = np.random.default_rng(seed)
    n = DONORS * CELLS
    donor, batch = np.repeat(np.arange(DONORS), CELLS), rng.integers(0, 3, n)
    arm, pct = np.tile(np.repeat([0, 1], CELLS // 2), DONORS), rng.normal(5.0, 2.0, n).clip(0.1)
    size = np.exp(rng.normal(0.0, 0.3, n))
    moved = np.arange(GENES) % 2 == 0
    level, slope = rng.normal(0, 0.3, (DONORS, GENES)), rng.normal(0, 0.3, (DONORS, GENES))
    eta = 0.3 + level[donor] + rng.normal(0, 0.2, (3, GENES))[batch]
    eta += (EFFECT * moved + slope[donor]) * arm[:, None] + PCT * moved * (pct[:, None] - 5.0) / 2.0
    counts = rng.poisson(size[:, None] * np.exp(eta) * rng.gamma(4.0, 0.25, (n, GENES)))
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical([f"D{i + 1}" for i in donor]),
            "arm": pd.Categorical(np.array(["ctrl", "stim"])[arm]),
            "batch": pd.Categorical([f"b{i}" for i in batch]),
            "pct": pct,
            "size": size,
        },
        index=[f"cell{i}" for i in range(n)],
    )
    var = pd.DataFrame(index=[f"G{i:02d}" for i in range(GENES)])
    return anndata.AnnData(sparse.csr_matrix(counts.astype(np.int32)), obs=obs, var=var)


@pytest.fixture(scope="module")
def data() -> anndata.AnnData:
    return study()


def run(folder, data, formula: str, **keys) -> dict[str, pd.DataFrame]:
    common = {"cell_type": None, "size_factors": "obs/size", "methods": ["glmm"], "name": "run"}
    return Run(folder, data, formula=formula, **common | keys).tables()


def of_moved_genes(effects: pd.DataFrame) -> np.ndarray:
    """Tell which rows are of genes with an effect."""
    return effects["gene"].str[1:].astype(int).to_numpy() % 2 == 0


def check_effects(effects: pd.DataFrame, truth: float) -> None:
    """Estimates and intervals fit the truth in log2."""
    assert effects["status"].isin(["converged", "boundary"]).all()
    true = np.where(of_moved_genes(effects), truth, 0.0) / LN2
    error = (effects["log2fc"] - true) / effects["lfc_se"]
    assert np.abs(error).max() < 4
    assert 0.4 < np.sqrt(np.mean(error**2)) < 1.7
    assert (effects["ci_low"] < effects["log2fc"]).all()
    assert (effects["log2fc"] < effects["ci_high"]).all()
    pvalue = effects["pvalue"].to_numpy()
    assert np.median(pvalue[of_moved_genes(effects)]) < 0.01 < np.median(pvalue[~of_moved_genes(effects)])


def test_slopes(tmp_path, data):
    tables = run(tmp_path, data, "~ arm + (1 + arm | donor)", contrasts={"stim": "arm[stim] - arm[ctrl]"})
    effects, variances = tables["effects"], tables["variances"]
    check_effects(effects, EFFECT)
    assert effects["df"].isna().all()
    names = ["donor: (Intercept)", "donor: arm[T.stim]", "donor: (Intercept), arm[T.stim]", "dispersion"]
    assert list(variances["component"][:4]) == names
    fitted, moderated = (
        variances.pivot(index="gene", columns="component", values=v) for v in ("variance_reml", "variance")
    )
    expected = fitted[names[2]] / np.sqrt(fitted[names[0]] * fitted[names[1]])
    found = variances[variances["component"] == names[2]].set_index("gene")["correlation"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # Genes tell each other of the variances of level and response; the dispersion is each gene's own.
    for name in names[:2]:
        assert np.log(moderated[name]).std() < np.log(fitted[name].clip(1e-3)).std()
    assert (moderated[names[3]] == fitted[names[3]]).all()
    assert tables["fits"]["n_parameters"].eq(6).all()
    assert tables["coefficients"].eval("std_error_full >= std_error").all()


def test_slopes_by_maximum_likelihood_are_not_moderated(tmp_path, data):
    contrasts = {"stim": "arm[stim] - arm[ctrl]"}
    tables = run(tmp_path, data, "~ arm + (1 + arm | donor)", contrasts=contrasts, estimation="ml")
    effects, variances = tables["effects"], tables["variances"]
    check_effects(effects, EFFECT)
    # Ten donors differ in their response: nine degrees of freedom, and more where a variance is at zero.
    assert effects["df"].min() > 5
    assert effects["df"].median() == pytest.approx(DONORS - 1, abs=2)
    assert (variances["variance"] == variances["variance_reml"]).all()


def test_a_contrast_without_its_replicate_is_cautioned_in_the_cells_alone(tmp_path, data):
    formula, contrasts = "~ arm + batch + (1 | donor)", {"stim": "arm[T.stim]", "batch": "batch[T.b1]"}
    run = Run(tmp_path, data, formula=formula, cell_type=None, contrasts=contrasts)
    tested = run.tables()["effects"].dropna(subset="pvalue")
    cautioned = tested["reason"].str.contains("p-value too small: arm varies within donors")
    assert (cautioned == ((tested["contrast"] == "stim") & (tested["method"] == "glmm"))).all()
    assert tested["reason"][cautioned].str.endswith(f"use {formula} + (1 | donor:arm)").all()
    text = (tmp_path / "summary.txt").read_text()
    assert "What the designs can find" in text
    assert "20 x donor:arm (not in the formula)" in text
    run.set(formula=f"{formula} + (1 | donor:arm)", cell_type=None, contrasts=contrasts)
    reasons = run.tables()["effects"].query("contrast == 'stim'")["reason"]
    assert not reasons.str.contains("p-value too small").any()


def test_crossed_intercepts_are_moderated(tmp_path, data):
    formula = "~ arm + (1 | donor) + (1 | batch) + (1 | donor:arm)"
    tables = run(tmp_path, data, formula, methods=["glmm", "pseudobulk"])
    effects = tables["effects"].set_index("method")
    check_effects(effects.loc["glmm"], EFFECT)
    check_effects(effects.loc["pseudobulk"], EFFECT)
    assert effects["df"].isna().all()
    components = tables["variances"].groupby("method", observed=True)["component"].unique()
    assert list(components["glmm"]) == ["donor", "batch", "donor:arm", "dispersion"]
    assert list(components["pseudobulk"]) == ["donor", "dispersion"]


@pytest.mark.parametrize("formula", ["~ arm + pct + (1 + arm | donor)"])
def test_continuous_covariates_compressed_and_exact(tmp_path, data, formula):
    compressed, exact = (run(tmp_path / kind, data, formula, likelihood=kind) for kind in ("compressed", "exact"))
    effects = compressed["effects"].set_index(["contrast", "gene"]).sort_index()
    check_effects(effects.loc["arm[T.stim]"].reset_index(), EFFECT)
    check_effects(effects.loc["pct"].reset_index(), PCT / 2.0)
    other = exact["effects"].set_index(["contrast", "gene"]).loc[effects.index]
    assert (np.abs(effects["log2fc"] - other["log2fc"]) / other["lfc_se"]).max() < 1e-3
    np.testing.assert_allclose(effects["lfc_se"], other["lfc_se"], rtol=1e-3)
    np.testing.assert_allclose(effects["statistic"], other["statistic"], atol=2e-3)
    assert effects["df"].isna().all()
    assert other["df"].isna().all()


@pytest.mark.parametrize("likelihood", ["compressed", "exact"])
def test_fits_and_tests_have_the_same_likelihood(tmp_path, data, monkeypatch, likelihood):
    taken, choose = [], multilevel.models_of_tiers
    for module in (multilevel, model_tests):

        def recorded(*arguments, module=module):
            taken.append((module.__name__, arguments[5]))
            return choose(*arguments)

        monkeypatch.setattr(module, "models_of_tiers", recorded)
    expected = {("mlmgen.multilevel", likelihood), ("mlmgen.model_tests", likelihood)}
    # The workflow with its donors left out, and a notebook.
    run(tmp_path, data, "~ arm + (1 + arm | donor)", likelihood=likelihood)
    assert set(taken) == expected
    taken.clear()
    fit = mlmgen.fit(data, "~ arm + (1 + arm | donor)", likelihood=likelihood, progress=False)
    assert fit.test(progress=False)["df"].isna().all()
    assert set(taken) == expected


def test_detection_is_a_logit_and_moderated(tmp_path, data):
    tables = run(tmp_path, data, "~ arm + (1 | donor) + (1 | donor:arm)", family="bernoulli")
    effects, variances = tables["effects"], tables["variances"]
    assert effects["df"].isna().all()
    moved = of_moved_genes(effects)
    assert effects.loc[moved, "log2fc"].median() > 1.0
    assert effects.loc[~moved, "log2fc"].abs().median() < 0.6
    assert set(variances["component"]) == {"donor", "donor:arm"}
    # What is not in the donors and samples is the logistic distribution's pi^2 / 3.
    total = variances.groupby("gene")[["variance", "fraction"]].sum()
    np.testing.assert_allclose(total["fraction"], total["variance"] / (total["variance"] + np.pi**2 / 3))


def test_a_gene_that_is_in_every_cell_has_no_detection_to_model(tmp_path, data):
    everywhere = data.copy()
    X = everywhere.X.toarray()
    X[:, 3] += 1
    everywhere.X = sparse.csr_matrix(X)
    tables = run(tmp_path, everywhere, "~ arm + (1 | donor) + (1 | donor:arm)", family="bernoulli")
    row = tables["fits"].set_index("gene").loc["G03"]
    assert (row["status"], row["reason"]) == (
        "filtered",
        "counts in every cell: detection (family bernoulli) does not vary",
    )
    assert (tables["fits"].set_index("gene").drop("G03")["status"] != "filtered").all()


def test_gaussian_is_the_mixed_model_of_log_normalized_expression(tmp_path, data):
    formula = "~ arm + (1 + arm | donor)"
    tables = run(tmp_path / "reml", data, formula, family="gaussian")
    plain = run(tmp_path / "ml", data, formula, family="gaussian", estimation="ml")["effects"].set_index("gene")
    effects, variances = tables["effects"].set_index("gene"), tables["variances"].set_index(["gene", "component"])
    values = pd.DataFrame(np.log1p(data.X.toarray() / data.obs["size"].to_numpy()[:, None]), columns=data.var_names)
    # Balanced arms: the effect is the difference of means, with the donors' differences as replicates.
    means = values.groupby([data.obs["donor"].to_numpy(), data.obs["arm"].to_numpy()]).mean().unstack()
    for gene in effects.index:
        difference = means[gene]["stim"] - means[gene]["ctrl"]
        assert effects.loc[gene, "log2fc"] == pytest.approx(difference.mean() / LN2, abs=1e-6)
        assert plain.loc[gene, "log2fc"] == pytest.approx(difference.mean() / LN2, abs=1e-6)
        if plain.loc[gene, "status"] == "converged":
            # Not moderated: t of the differences but for the n in place of n - 1 of maximum likelihood.
            expected = difference.std(ddof=0) / np.sqrt(DONORS) / LN2
            assert plain.loc[gene, "lfc_se"] == pytest.approx(expected, rel=1e-3)
            assert plain.loc[gene, "df"] == pytest.approx(DONORS - 1, abs=2)
    assert (plain["status"] == "converged").sum() > GENES / 2
    assert effects["df"].isna().all()
    # The moderated test is that of the log-normalized values, not of the counts: near the t test of the differences.
    paired = means.xs("stim", axis=1, level=1) - means.xs("ctrl", axis=1, level=1)
    t = paired.mean() / (paired.std() / np.sqrt(DONORS))
    z = effects["statistic"].loc[t.index]
    assert np.corrcoef(t, z)[0, 1] > 0.95
    np.testing.assert_allclose(variances["fraction"].groupby("gene").sum(), 1.0)
    assert set(variances.loc["G00"].index) >= {"donor: (Intercept)", "residual"}


def test_maximum_likelihood_and_quadrature(tmp_path, data):
    formula = "~ arm + (1 | donor)"
    keys = {"contrasts": {"stim": "arm[stim] - arm[ctrl]"}, "estimation": "ml"}
    laplace = run(tmp_path / "laplace", data, formula, **keys)
    agq = run(tmp_path / "agq", data, formula, integration="agq", quadrature_nodes=7, **keys)
    reml = run(tmp_path / "reml", data, formula, **keys | {"estimation": "reml"})
    assert [set(t["fits"]["estimation"]) for t in (laplace, agq, reml)] == [{"ml"}, {"ml"}, {"reml"}]
    assert laplace["effects"]["df"].notna().all()
    assert reml["effects"]["df"].isna().all()
    one, nine, other = (t["effects"].set_index("gene").sort_index() for t in (laplace, agq, reml))
    np.testing.assert_allclose(nine["log2fc"], one["log2fc"], atol=0.02)
    assert (nine["log2fc"] != one["log2fc"]).all()
    np.testing.assert_allclose(other["log2fc"], one["log2fc"], atol=0.05)
    donor = [t["variances"].query("component == 'donor'").set_index("gene")["variance_reml"] for t in (laplace, reml)]
    assert (donor[0] < donor[1]).mean() > 0.9  # ML underestimates


def test_joint_and_averaged_contrasts(tmp_path, data):
    contrasts = {
        "batches": ["batch[b1] - batch[b0]", "batch[b2] - batch[b0]"],
        "average": "mean(arm[stim]) - mean(arm[ctrl])",
        "both": ["arm[stim] - arm[ctrl]", "batch[b1] - batch[b0]", "batch[b2] - batch[b0]"],
    }
    formula = "~ arm + batch + (1 | donor) + (1 | donor:arm)"
    moderated = run(tmp_path / "moderated", data, formula, contrasts=contrasts)["effects"]
    plain = run(tmp_path / "plain", data, formula, contrasts=contrasts, estimation="ml")["effects"]
    for effects in (moderated, plain):
        joint = effects["contrast"] != "average"
        assert effects.loc[joint, ["log2fc", "lfc_se", "ci_low", "ci_high"]].isna().all(axis=None)
        assert effects.loc[~joint, ["log2fc", "lfc_se", "ci_low", "ci_high"]].notna().all(axis=None)
        assert effects[["statistic", "pvalue", "padj"]].notna().all(axis=None)
        assert (effects.loc[joint, "statistic"] >= 0).all()
        both = effects[effects["contrast"] == "both"]
        moved = of_moved_genes(both)
        assert both.loc[moved, "pvalue"].median() < 0.01 < both.loc[~moved, "pvalue"].median()
    assert moderated["df"].isna().all()
    assert plain["df"].notna().all()


def test_records_hold_what_the_tables_say(tmp_path, data):
    made = Run(tmp_path, data, formula="~ arm + (1 + arm | donor)", cell_type=None, methods=["glmm"])
    tables = made.tables()
    fits, meta = io.read_record(made.record("fits", "glmm", "all"), GeneFits)
    moderated, _ = io.read_record(made.record("moderated", "glmm", "all"), Moderated)
    assert fits.grid_loglik.shape == moderated.weights.shape == (GENES, 7 * 9)
    assert fits.grid_shape.tolist() == [7, 9, 1, 1]
    assert meta["settings"]["fit"]["family"] == "nb"
    np.testing.assert_array_equal(tables["variances"]["ci_low"], moderated.ci_low.ravel())
    np.testing.assert_array_equal(tables["coefficients"]["std_error_full"], fits.std_error_full.ravel())
    expected = 2 * 6 - 2 * fits.loglik
    np.testing.assert_allclose(tables["fits"]["aic"], expected)


@pytest.mark.parametrize("family", ["nb", "gaussian"])
def test_a_notebook_says_the_same(tmp_path, data, family):
    formula = "~ arm + (1 + arm | donor)"
    tables = run(tmp_path, data, formula, family=family, estimation="ml")
    model = mlmgen.fit(data, formula, family=family, method="ml", size_factors="obs/size", progress=False)
    for name in ("coefficients", "variances", "fits"):
        mine, other = tables[name], getattr(model, name)
        numbers = [c for c in other.columns if c in mine.columns and other[c].dtype == np.float64]
        assert len(numbers) >= 3
        assert mine["gene"].tolist() == other["gene"].tolist()
        for column in numbers:
            np.testing.assert_allclose(mine[column], other[column], rtol=1e-6, err_msg=column)


def visits() -> anndata.AnnData:
    """Eight patients, half of them treated, with 25 cells on each of four days; no gene has effects."""
    rng = np.random.default_rng(6)
    patient, day = np.repeat(np.arange(8), 100), np.tile(np.repeat([0, 7, 14, 28], 25), 8)
    obs = pd.DataFrame(
        {
            "patient": [f"P{i}" for i in patient],
            "treatment": np.array(["control", "drug"])[patient % 2],
            "day": day.astype(float),
            "age": rng.normal(50.0, 8.0, 8)[patient],
            "visit": [f"P{i}-day{d}" for i, d in zip(patient, day, strict=True)],
            "cell_type": "T",
            "percent_mt": rng.gamma(4.0, 1.0, patient.size),
        },
        index=[f"cell{i}" for i in range(patient.size)],
    )
    eta = rng.normal(0, 0.4, (8, 6))[patient] + rng.normal(0, 0.02, (8, 6))[patient] * day[:, None]
    eta += rng.normal(0, 0.2, (32, 6))[np.repeat(np.arange(32), 25)]
    X = sparse.csr_matrix(rng.poisson(np.exp(0.5 + eta)).astype(np.int32))
    return anndata.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(6)]))


def test_the_longitudinal_template_runs(tmp_path):
    template = yaml.safe_load((EXAMPLES / "longitudinal.yaml").read_text())
    made = Run(tmp_path / "template", visits())
    made.set(**template | {"input": str(made.input), "size_factors": "library"})
    tables = made.tables()
    effects = tables["effects"].set_index("method")
    assert effects[["pvalue", "statistic"]].notna().all(axis=None)
    # Six genes are too few to moderate.
    assert effects["df"].notna().all()
    assert tables["fits"].set_index("method")["n_samples"].eq(32).all()
    assert effects["pvalue"].min() > 1e-4
    cells = {"formula": template["formula"].replace("age", "age + within(percent_mt, visit)"), "methods": ["glmm"]}
    made.set(**template | {"input": str(made.input)} | cells)
    assert made.tables()["effects"]["pvalue"].notna().all()
