"""Tables from hand-made records: shapes, units, missing statistics and multiple testing."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlmgen import columns, fdr, stages_fit, tables
from mlmgen.shrinkage import shrink
from mlmgen.status import HELP, Status
from mlmgen.types import Design, Effects, GeneFits, Groups, Moderated, RandomTerm
from tests.reference.designs import intercepts
from tests.reference.multiple_testing import benjamini_hochberg

GENES = ("g1", "g2", "g3")
OF_FITS = ("effects", "coefficients", "variances", "priors", "fits")


def design(*terms: RandomTerm) -> Design:
    """Six donors of one pattern each, seen on days 0 to 5."""
    codes = np.arange(6, dtype=np.int32)
    donor = Groups("donor", tuple("abcdef"), codes)
    return Design(
        formula="~ condition",
        coefficients=("(Intercept)", "condition[T.stim]"),
        X=np.column_stack([np.ones(6), np.repeat([0.0, 1.0], 3)]),
        basis=np.zeros(2, dtype=np.int32),
        functions=np.empty((6, 0)),
        function_names=(),
        pattern=codes,
        log_size=np.zeros(6),
        offset=np.zeros(6),
        terms=terms or (intercepts("donor", donor.levels, codes),),
        donor=donor,
        sample=donor,
        means={},
        within=(),
    )


def slopes() -> RandomTerm:
    codes = np.arange(6, dtype=np.int32)
    Z = np.stack([np.ones(6), np.arange(6.0)])
    return RandomTerm("donor", tuple("abcdef"), codes, ("(Intercept)", "day"), Z, np.zeros(2, dtype=np.int32))


def results(
    cell_type="B cells", method="glmm", pvalues=(0.01, 0.5, np.nan), dispersion=True, family="nb"
) -> tables.Results:
    """Three genes, the last one filtered; one contrast, two coefficients."""
    missing = np.array([0.0, 0.0, np.nan])
    components = ("donor", "dispersion") if dispersion else ("donor",)
    V = len(components)
    wide = missing[:, None]
    fits = GeneFits(
        genes=GENES,
        coefficients=("(Intercept)", "condition[T.stim]"),
        components=components,
        method="reml",
        beta=np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]) + wide,
        std_error=np.full((3, 2), 0.5) + wide,
        std_error_full=np.full((3, 2), 0.6) + wide,
        covariance=np.zeros((3, 2, 2)),
        sensitivity=np.zeros((3, 0, 2, 2)),
        variance=np.array([[0.1, 0.4], [0.2, 0.5], [0.0, 0.0]])[:, :V] + wide,
        variance_se=np.full((3, V), 0.3) + wide,
        variance_pvalue=np.full((3, V), 0.5) + wide,
        loglik=np.array([-10.0, -20.0, np.nan]),
        status=np.array([Status.CONVERGED, Status.SEPARATED, Status.FILTERED], dtype=np.int8),
        n_iter=np.array([7, 8, 0], dtype=np.int32),
        grid_shape=np.ones(V, dtype=np.int64),
        grid_low=np.full((3, V), np.nan),
        grid_high=np.full((3, V), np.nan),
        grid_unit=np.zeros((3, V)),
        grid_loglik=np.zeros((3, 1)) + wide,
    )
    moderated = Moderated(
        weights=np.ones((3, 1)) + wide,
        variance=np.array([[0.15, 0.4], [0.25, 0.5], [0.0, 0.0]])[:, :V] + wide,
        ci_low=np.full((3, V), 0.01) + wide,
        ci_high=np.full((3, V), 1.0) + wide,
        prior=np.zeros((V, 3)),
    )
    p = np.array(pvalues, dtype=float)[:, None]
    one = np.full((3, 1), np.log(2.0)) + wide
    effects = Effects(
        contrasts=("stim_vs_ctrl",),
        estimate=one * [[3.0], [-1.0], [1.0]],
        std_error=one,
        ci_low=one,
        ci_high=one,
        log_pvalue=np.log(p),
        statistic=np.array([[2.6], [-0.7], [np.nan]]),
        df=np.array([[np.nan], [7.5], [np.nan]]),
    )
    return tables.Results(
        cell_type=cell_type,
        method=method,
        family=family,
        n_cells=100,
        n_donors=6,
        n_samples=6,
        rows=100,
        gene_names=("A", "B", "C"),
        statistics={
            "mean_count": np.array([0.5, 2.0, 0.01]),
            "pct_cells": np.array([30.0, 80.0, 1.0]),
            "total_count": np.array([50, 200, 1]),
            "n_cells_expressing": np.array([30, 80, 1]),
            "n_donors_expressing": np.array([6, 6, 1]),
        },
        reasons=("", "", "counts in 1 cells, min_cells_expressing is 10"),
        left_out={"other": "there is no level b"},
        design=design(),
        fits=fits,
        moderated=moderated,
        effects=effects,
    )


def with_slopes(family: str = "nb") -> tables.Results:
    """The same with (1 + day | donor) and the variances of gene g1 known."""
    plain = results(family=family)
    last = {"nb": ("dispersion",), "gaussian": ("residual",)}.get(family, ())
    components = ("donor: (Intercept)", "donor: day", "donor: (Intercept), day", *last)
    V = len(components)
    variance = np.full((3, V), np.nan)
    variance[0] = [0.4, 0.1, -0.1, 0.5][:V]
    nothing = np.full((3, V), np.nan)
    fits = dataclasses.replace(plain.fits, components=components, variance=variance, variance_pvalue=nothing)
    moderated = Moderated(np.zeros((3, 0)), variance, nothing, nothing, np.full((V, 3), np.nan))
    return dataclasses.replace(plain, fits=fits, moderated=moderated, design=design(slopes()))


def test_effects_are_on_the_log2_scale_with_a_row_for_every_gene():
    table = tables.effects([results()], ["stim_vs_ctrl"])
    assert list(table.columns) == columns.names("effects")
    assert table["gene"].tolist() == ["g1", "g2", "g3"]
    assert table["gene_name"].tolist() == ["A", "B", "C"]
    np.testing.assert_allclose(table["log2fc"][:2], [3.0, -1.0])
    np.testing.assert_allclose(table["lfc_se"][:2], [1.0, 1.0])


def test_filtered_genes_have_a_reason_and_no_statistics():
    row = tables.effects([results()], ["stim_vs_ctrl"]).set_index("gene").loc["g3"]
    assert row["status"] == "filtered"
    assert row["reason"] == "counts in 1 cells, min_cells_expressing is 10"
    statistics = ["log2fc", "lfc_se", "ci_low", "ci_high", "log2fc_shrunken", "statistic", "df", "pvalue", "padj"]
    statistics.append("padj_global")
    assert row[statistics].isna().all()
    assert row["mean_count"] == 0.01


def test_reason_is_empty_only_for_converged_fits():
    table = tables.effects([results()], ["stim_vs_ctrl"]).set_index("gene")
    assert table.loc["g1", "reason"] == ""
    assert table.loc["g2", "reason"] == HELP[Status.SEPARATED]


def test_rows_are_ranked_by_evidence_with_missing_last():
    flipped = results(pvalues=(0.5, 0.01, np.nan))
    flipped.effects.statistic[:, 0] = [0.7, -2.6, np.nan]
    assert tables.effects([flipped], ["stim_vs_ctrl"])["gene"].tolist() == ["g2", "g1", "g3"]


def test_padj_within_and_across_cell_types_by_hand():
    two = [results("B", pvalues=(0.01, 0.04, np.nan)), results("T", pvalues=(0.02, 0.8, np.nan))]
    table = tables.effects(two, ["stim_vs_ctrl"])
    by_gene = table.set_index(["cell_type", "gene"])
    # Within B: 0.01 * 2/1, 0.04 * 2/2. Across: 0.01 * 4, 0.02 * 2, 0.04 * 4/3, 0.8.
    np.testing.assert_allclose(by_gene.loc["B", "padj"][["g1", "g2"]], [0.02, 0.04])
    np.testing.assert_allclose(by_gene.loc["T", "padj"][["g1", "g2"]], [0.04, 0.8])
    np.testing.assert_allclose(by_gene.loc["B", "padj_global"][["g1", "g2"]], [0.04, 0.04 * 4 / 3])
    np.testing.assert_allclose(by_gene.loc["T", "padj_global"][["g1", "g2"]], [0.04, 0.8])


def many(G: int = 400, cell_type: str = "B") -> tables.Results:
    """Genes without effects whose standard errors fall with their total count."""
    rng = np.random.default_rng(8)
    plain = results(cell_type)
    genes, total = tuple(f"g{i}" for i in range(G)), np.arange(1.0, G + 1)
    error = 5.0 / np.sqrt(total)[:, None]
    z = rng.normal(size=(G, 1))
    log_p = np.log(2.0 * stats.norm.sf(np.abs(z)))
    effects = Effects(("stim_vs_ctrl",), z * error, error, z, z, log_p, z, np.full((G, 1), np.nan))
    fits = dataclasses.replace(plain.fits, genes=genes, status=np.zeros(G, dtype=np.int8))
    statistics = {"mean_count": total / 100, "pct_cells": total, "total_count": total}
    return dataclasses.replace(
        plain, gene_names=genes, statistics=statistics, reasons=("",) * G, fits=fits, effects=effects
    )


def test_weighted_rates_change_padj_alone():
    pair = [many(cell_type="B"), many(cell_type="T")]
    plain, weighted = (tables.effects(pair, ["stim_vs_ctrl", "other"], w) for w in (False, True))
    same = [name for name in plain.columns if not name.startswith("padj")]
    pd.testing.assert_frame_equal(plain[same], weighted[same])
    weight = fdr.weights(pair[0].effects.std_error[:, 0], pair[0].effects.log_pvalue[:, 0], np.arange(1.0, 401))
    of_gene = dict(zip(pair[0].fits.genes, weight, strict=True))
    one = weighted[(weighted["cell_type"] == "B") & (weighted["contrast"] == "stim_vs_ctrl")]
    scaled = np.minimum(one["pvalue"] / one["gene"].map(of_gene), 1.0)
    np.testing.assert_allclose(one["padj"], benjamini_hochberg(scaled), rtol=1e-10)
    np.testing.assert_allclose(one["padj_global"], benjamini_hochberg(np.tile(scaled, 2))[:400], rtol=1e-10)
    assert weighted.loc[weighted["contrast"] == "other", "padj"].isna().all()


def test_shrunken_effects_are_those_of_their_cell_type_in_log2():
    result = many()
    table = (
        tables.effects([result, many(40, "T")], ["stim_vs_ctrl", "other"])
        .set_index(["cell_type", "contrast"])
        .sort_index()
    )
    expected = shrink(*(getattr(result.effects, n)[:, 0] for n in ("estimate", "std_error", "statistic")))
    one = table.loc[("B", "stim_vs_ctrl")].set_index("gene").loc[list(result.fits.genes), "log2fc_shrunken"]
    np.testing.assert_allclose(one, expected / np.log(2.0))
    assert table.loc[("T", "stim_vs_ctrl"), "log2fc_shrunken"].notna().all()
    assert table.loc[("B", "other"), "log2fc_shrunken"].isna().all()


def test_a_caution_is_in_the_reasons_of_the_tests_concerned_alone():
    pair = [
        dataclasses.replace(results(), cautions={"stim_vs_ctrl": "mind this", "other": "never shown"}),
        results("T"),
    ]
    table = tables.effects(pair, ["stim_vs_ctrl", "other"]).set_index(["cell_type", "contrast", "gene"])["reason"]
    table = table.sort_index()
    own = table["B cells", "stim_vs_ctrl"]
    assert own["g1"] == "mind this"
    assert own["g2"] == f"{HELP[Status.SEPARATED]}; mind this"
    assert own["g3"] == "counts in 1 cells, min_cells_expressing is 10"
    assert "never" not in " ".join(table["B cells", "other"])
    assert "mind" not in " ".join(table["T"])
    assert "mind" not in " ".join(tables.fits(pair)["reason"])


def test_methods_are_adjusted_separately():
    both = tables.effects([results(method="glmm"), results(method="pseudobulk")], ["stim_vs_ctrl"])
    alone = tables.effects([results(method="glmm")], ["stim_vs_ctrl"])
    np.testing.assert_array_equal(both.loc[both["method"] == "glmm", "padj_global"], alone["padj_global"])


@given(st.lists(st.one_of(st.just(float("nan")), st.floats(1e-300, 1.0)), min_size=1, max_size=30), st.randoms())
def test_adjustment_does_not_depend_on_the_order_of_rows(pvalues, random):
    table = pd.DataFrame({"pvalue": pvalues, "method": "glmm"})
    order = random.sample(range(len(pvalues)), len(pvalues))
    shuffled = table.iloc[order].reset_index(drop=True)
    np.testing.assert_array_equal(tables.adjusted(table, ["method"])[order], tables.adjusted(shuffled, ["method"]))


def test_pvalues_never_reach_zero():
    extreme = results()
    extreme.effects.log_pvalue[0] = -2000.0
    pvalue = tables.effects([extreme], ["stim_vs_ctrl"]).set_index("gene").loc["g1", "pvalue"]
    assert 0 < pvalue < 1e-300


def test_a_contrast_that_a_cell_type_lacks_has_rows_without_statistics():
    table = tables.effects([results()], ["stim_vs_ctrl", "other"])
    other = table[table["contrast"] == "other"].set_index("gene")
    assert len(other) == len(GENES)
    assert other["pvalue"].isna().all()
    assert other.loc["g1", "reason"] == "not tested in this cell type: there is no level b"
    assert other.loc["g3", "reason"] == "counts in 1 cells, min_cells_expressing is 10"


def test_coefficients_are_natural_logs_of_fitted_genes_only():
    table = tables.coefficients([results()])
    assert list(table.columns) == columns.names("coefficients")
    assert table["gene"].tolist() == ["g1", "g1", "g2", "g2"]
    assert table["coefficient"].tolist() == ["(Intercept)", "condition[T.stim]"] * 2
    assert table["estimate"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert table["std_error"].tolist() == [0.5] * 4
    assert table["std_error_full"].tolist() == [0.6] * 4


def test_degrees_of_freedom_are_there_where_a_test_is_not_moderated():
    table = tables.effects([results()], ["stim_vs_ctrl", "other"]).set_index(["contrast", "gene"])
    assert np.isnan(table.loc[("stim_vs_ctrl", "g1"), "df"])
    assert table.loc[("stim_vs_ctrl", "g2"), "df"] == 7.5
    assert table.loc["other", "df"].isna().all()


def test_a_joint_test_has_a_statistic_and_no_effect():
    joint = results(pvalues=(0.5, 0.01, np.nan))
    for name in ("estimate", "std_error", "ci_low", "ci_high"):
        getattr(joint.effects, name)[:] = np.nan
    joint.effects.statistic[:, 0] = [1.4, 9.2, np.nan]
    table = tables.effects([joint], ["stim_vs_ctrl"])
    assert table["gene"].tolist() == ["g2", "g1", "g3"]
    assert table["statistic"].tolist()[:2] == [9.2, 1.4]
    assert table["log2fc"].isna().all()
    np.testing.assert_allclose(table["padj"][:2], [0.02, 0.5])


def test_variances_show_the_fitted_and_the_moderated_value():
    table = tables.variances([results()]).set_index(["gene", "component"])
    assert table.loc[("g1", "donor"), "variance_reml"] == 0.1
    assert table.loc[("g1", "donor"), "variance"] == 0.15
    assert table.loc[("g2", "dispersion"), "variance"] == 0.5


def test_fractions_by_hand():
    # Mean 0.5 a cell: the latent variance of an NB count is log(1 + 1/0.5 + phi) = log(3.4).
    total = 0.15 + np.log(3.4)
    fraction = tables.fractions(results())
    np.testing.assert_allclose(fraction[0], [0.15 / total, (np.log(3.4) - np.log(3.0)) / total])
    np.testing.assert_allclose(1 - fraction[0].sum(), np.log(3.0) / total)


def test_fractions_without_a_dispersion_are_those_of_poisson():
    fraction = tables.fractions(results(dispersion=False))
    np.testing.assert_allclose(fraction[0], [0.15 / (0.15 + np.log(3.0))])


def test_fractions_of_slopes_are_means_over_rows():
    # Days 0 to 5: the mean of z'Sigma z is 0.4 + 2 (-0.1) 2.5 + 0.1 (55 / 6).
    random = np.array([0.4, 0.1 * 55 / 6, -0.1 * 2 * 2.5])
    poisson = 100 / 50
    nb = [*random, np.log1p(0.5 / (1 + poisson))]
    np.testing.assert_allclose(tables.fractions(with_slopes())[0], nb / (np.sum(nb) + np.log1p(poisson)))
    logistic = random / (random.sum() + np.pi**2 / 3)
    np.testing.assert_allclose(tables.fractions(with_slopes("bernoulli"))[0], logistic)
    gaussian = [*random, 0.5]
    np.testing.assert_allclose(tables.fractions(with_slopes("gaussian"))[0], gaussian / np.sum(gaussian))


def test_a_covariance_has_a_correlation_and_a_variance_has_none():
    table = tables.variances([with_slopes()]).set_index(["gene", "component"])["correlation"]
    assert table[("g1", "donor: (Intercept), day")] == pytest.approx(-0.1 / np.sqrt(0.4 * 0.1))
    assert table.drop(("g1", "donor: (Intercept), day")).isna().all()
    assert tables.variances([results()])["correlation"].isna().all()


def test_criteria_by_hand():
    # Two coefficients, two variances, 100 rows.
    table = tables.fits([results()]).set_index("gene")
    assert set(table["estimation"]) == {"reml"}
    assert table["n_parameters"].tolist() == [4, 4, 4]
    np.testing.assert_allclose(table["aic"][["g1", "g2"]], [8 + 20, 8 + 40])
    np.testing.assert_allclose(table["bic"][["g1", "g2"]], [4 * np.log(100) + 20, 4 * np.log(100) + 40])
    assert table.loc["g3", ["aic", "bic"]].isna().all()


def skipped() -> tables.Results:
    """A cell type that was not fitted at all."""
    made, nothing = results(), np.full((3, 0), np.nan)
    fits = stages_fit.not_fitted(GENES, "ml")
    moderated = Moderated(nothing, nothing, nothing, nothing, np.zeros((0, 3)))
    why = ("too few donors",) * 3
    effects = stages_fit.not_tested(3, ())
    return dataclasses.replace(made, fits=fits, moderated=moderated, effects=effects, design=None, rows=0, reasons=why)


def test_a_skipped_cell_type_has_rows_in_effects_and_fits_alone():
    table = tables.fits([skipped()])
    assert table["estimation"].tolist() == ["ml"] * 3
    assert table[["loglik", "aic", "bic"]].isna().all(axis=None)
    assert tables.effects([skipped()], ["stim_vs_ctrl"])["reason"].tolist() == ["too few donors"] * 3
    assert len(tables.variances([skipped()])) == len(tables.coefficients([skipped()])) == 0


def test_fits_have_every_gene_with_status_and_counts():
    table = tables.fits([results()])
    assert list(table.columns) == columns.names("fits")
    assert table["status"].tolist() == ["converged", "separated", "filtered"]
    assert table["n_iter"].tolist() == [7, 8, 0]
    assert table["n_cells"].tolist() == [100] * 3


def of_prior(prior, grid_shape, **changes) -> pd.DataFrame:
    """The rows of a result whose components have these priors and points on the grid."""
    made = results(**changes)
    loglik = np.zeros((3, max(grid_shape)))
    loglik[2] = np.nan
    fits = dataclasses.replace(made.fits, grid_shape=np.array(grid_shape), grid_loglik=loglik)
    moderated = dataclasses.replace(made.moderated, prior=np.array(prior, dtype=float))
    return tables.priors([dataclasses.replace(made, fits=fits, moderated=moderated)])


def test_priors_are_those_of_the_genes_that_were_fitted():
    table = of_prior([[-2.0, 0.1, 0.8], [np.nan] * 3], [24, 1])
    assert table["component"].tolist() == ["donor", "dispersion"]
    assert table["n_genes"].tolist() == [2, 2]
    total = np.log(results().statistics["total_count"][:2]).mean()
    np.testing.assert_allclose(table["mean_log_total"], total)
    assert table.loc[0, ["log_variance", "slope", "sd"]].tolist() == [-2.0, 0.1, 0.8]
    assert table.loc[0, "variance"] == pytest.approx(np.exp(-2.0))
    assert table["reason"].tolist() == ["", "not between replicates: each gene has data enough of its own"]


def test_what_has_no_prior_says_why(monkeypatch):
    nothing = [[np.nan] * 3] * 2
    few = of_prior(nothing, [24, 1])["reason"][0]
    assert few == "2 genes are fewer than the 30 that a prior needs: t tests with few degrees of freedom"
    monkeypatch.setattr(tables, "FEW_GENES", 2)
    assert "Satterthwaite" in of_prior(nothing, [0, 0])["reason"][0]
    assert "Satterthwaite" in of_prior(nothing, [0, 0], method="pseudobulk")["reason"][1]
    assert "more than three variances" in of_prior(nothing, [1, 1])["reason"][0]


def test_a_prior_is_in_the_units_of_the_data():
    made = results()
    unit = np.full((3, 2), -5.0)
    fits = dataclasses.replace(made.fits, grid_shape=np.array([24, 1]), grid_unit=unit)
    moderated = dataclasses.replace(made.moderated, prior=np.array([[-2.0, 0.1, 0.8], [np.nan] * 3]))
    table = tables.priors([dataclasses.replace(made, fits=fits, moderated=moderated)])
    assert table.loc[0, "log_variance"] == pytest.approx(-7.0)


def test_a_converged_gene_without_a_test_says_so():
    table = tables.effects([results(pvalues=(np.nan, 0.5, np.nan))], ["stim_vs_ctrl"]).set_index("gene")
    assert table.loc["g1", "reason"] == tables.NOT_TESTED


@pytest.mark.parametrize("table", OF_FITS)
def test_columns_have_the_registered_types(table):
    build = {"effects": lambda r: tables.effects(r, ["stim_vs_ctrl"])}.get(table, getattr(tables, table))
    made = build([results("B"), results("T", method="pseudobulk")])
    expected = {c.name: "object" if c.dtype == "str" else c.dtype for c in columns.TABLES[table]}
    assert {name: str(dtype) for name, dtype in made.dtypes.items()} == expected


@pytest.mark.parametrize("table", OF_FITS)
def test_tables_survive_no_cell_type_at_all(table):
    build = {"effects": lambda r: tables.effects(r, ["stim_vs_ctrl"])}.get(table, getattr(tables, table))
    assert build([]).shape == (0, len(columns.TABLES[table]))


def test_shards_join_in_order():
    first, second = results().effects, results(pvalues=(0.2, 0.3, np.nan)).effects
    joined = stages_fit.join_tests([first, second])
    assert joined.estimate.shape == (6, 1)
    np.testing.assert_array_equal(joined.log_pvalue[3:], second.log_pvalue)
