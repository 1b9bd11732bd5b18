"""Statistics and sums of counts, taken by decoupler as they are."""

import anndata
import decoupler as dc
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlmgen import adapters, io
from mlmgen.errors import UserError


@pytest.fixture(scope="module")
def matrix(paired):
    return adapters.statistic_matrix(paired.findings)


@pytest.fixture(scope="module")
def sums(paired):
    return adapters.pseudobulk(paired.findings)


@pytest.fixture(scope="module")
def theirs(paired):
    """decoupler's own sums of the run's input."""
    cells = paired.data.copy()
    cells.obs["sample"] = cells.obs["donor"].astype(str) + ":" + cells.obs["arm"].astype(str)
    return dc.pp.pseudobulk(cells, sample_col="sample", groups_col="cell_type")


def test_the_matrix_is_the_tables_statistic(paired, matrix):
    assert (matrix.index.name, matrix.columns.name) == ("cell_type", "gene")
    assert list(matrix.index) == list(paired.findings.cell_types)
    assert list(matrix.columns) == list(paired.data.var_names[:-1])  # the last gene has no counts
    table = paired.findings.effects
    table = table[(table["method"] == "glmm") & table["pvalue"].notna()]
    wanted = table.pivot(index="cell_type", columns="gene", values="statistic")
    np.testing.assert_array_equal(matrix, wanted.loc[list(matrix.index), list(matrix.columns)])
    fold = adapters.statistic_matrix(paired.findings, "stim_vs_ctrl", "pseudobulk", "log2fc")
    assert fold.loc["T/NK", "ENS0"] == pytest.approx(2.0, abs=0.8)


def test_ulm_is_a_regression_on_the_weights(matrix):
    up = ["ENS0", "ENS3", "ENS9", "ENS17", "ENS21"]
    net = pd.DataFrame({"source": "set", "target": up, "weight": [1.0, 0.5, 1.0, -1.0, 2.0]})
    scores, pvalues = dc.mt.ulm(data=matrix, net=net, tmin=5)
    weights = pd.Series(0.0, index=matrix.columns)
    weights[up] = net["weight"].to_numpy()
    for cell_type, row in matrix.iterrows():
        line = stats.linregress(weights, row)
        assert scores.loc[cell_type, "set"] == pytest.approx(line.slope / line.stderr, rel=1e-5)
        assert pvalues.loc[cell_type, "set"] == pytest.approx(line.pvalue, rel=1e-4)


def test_genes_that_a_cell_type_did_not_test_are_filled(doses, paired):
    filled, missing = (adapters.statistic_matrix(doses.findings, "per_year", fill=fill) for fill in (0.0, None))
    assert list(filled.index) == ["A", "B"]
    one = adapters.statistic_matrix(doses.findings, "high_vs_none")
    assert list(one.index) == ["A"]  # which the other cell type cannot estimate
    np.testing.assert_array_equal(filled, missing.fillna(0.0))
    own = paired.findings.effects.copy()
    own.loc[(own["cell_type"] == "T/NK") & (own["gene"] == "ENS5"), "statistic"] = np.nan
    changed = type(paired.findings)(paired.findings.folder, paired.findings.provenance)
    changed.__dict__["effects"] = own
    assert np.isnan(adapters.statistic_matrix(changed, fill=None).loc["T/NK", "ENS5"])
    full = adapters.statistic_matrix(changed)
    assert full.loc["T/NK", "ENS5"] == 0.0
    assert adapters.statistic_matrix(changed, fill=-1.0).loc["T/NK", "ENS5"] == -1.0
    assert "ENS5" not in adapters.ranking(changed, "T/NK").index
    net = pd.DataFrame({"source": "set", "target": [f"ENS{i}" for i in range(5, 10)]})
    scores, _ = dc.mt.ulm(data=full, net=net, tmin=5)
    assert np.isfinite(scores).all(axis=None)


def test_symbols_stand_for_one_gene_each(paired):
    found = paired.findings
    plain, named = adapters.statistic_matrix(found), adapters.statistic_matrix(found, symbols=True)
    assert list(named.columns) == [name.replace("ENS", "Sym") for name in plain.columns]
    twice = type(found)(found.folder, found.provenance)
    fits = found.fits.copy()
    fits["gene_name"] = fits["gene_name"].replace("Sym7", "Sym3").astype(object)
    twice.__dict__["fits"] = fits
    total = fits[fits["method"] == "glmm"].groupby("gene")["total_count"].sum()
    kept = "ENS3" if total["ENS3"] > total["ENS7"] else "ENS7"
    named = adapters.statistic_matrix(twice, symbols=True)
    assert named.columns.is_unique
    np.testing.assert_array_equal(named["Sym3"], plain[kept])
    assert named.shape[1] == plain.shape[1] - 1


def test_the_matrix_has_no_value_of_a_joint_test(doses):
    statistic = adapters.statistic_matrix(doses.findings, "any")
    assert (statistic >= 0).all(axis=None)
    with pytest.raises(UserError, match=r"any has no log2fc: it is a joint test"):
        adapters.statistic_matrix(doses.findings, "any", value="log2fc")
    with pytest.raises(UserError, match=r"'pvalue' cannot be taken .*Use one of: statistic, log2fc, log2fc_shrunken"):
        adapters.statistic_matrix(doses.findings, "any", value="pvalue")


def test_sums_are_decouplers(sums, theirs):
    assert set(sums.obs_names) == set(theirs.obs_names)
    theirs = theirs[sums.obs_names].copy()
    np.testing.assert_array_equal(sums.X, theirs.X)
    np.testing.assert_allclose(sums.layers["psbulk_props"], theirs.layers["psbulk_props"], rtol=1e-14)
    assert list(sums.var_names) == list(theirs.var_names)
    for name in ("psbulk_cells", "psbulk_counts"):
        np.testing.assert_array_equal(sums.obs[name], theirs.obs[name])
        assert sums.obs[name].dtype == theirs.obs[name].dtype
    for name in ("sample", "cell_type", "donor", "arm"):
        assert list(sums.obs[name].astype(str)) == list(theirs.obs[name].astype(str))
        assert isinstance(sums.obs[name].dtype, pd.CategoricalDtype)
    assert type(sums.X) is type(theirs.X)
    assert sums.X.dtype == theirs.X.dtype


def test_sums_say_where_they_come_from(paired, sums):
    assert sums.uns["mlmgen_run"]["run"] == paired.findings.provenance["run"]
    assert list(sums.var["gene_name"][:2]) == ["Sym0", "Sym1"]
    assert list(sums.obs.columns) == [
        "sample",
        "cell_type",
        "donor",
        "arm",
        "size_factor",
        "psbulk_cells",
        "psbulk_counts",
    ]


def test_the_reference_level_comes_first(doses):
    made = adapters.pseudobulk(doses.findings)
    assert list(made.obs["dose"].cat.categories) == ["none", "high", "low"]
    assert list(adapters.pseudobulk(doses.findings, "B").obs["dose"].cat.categories) == ["none", "low"]
    assert list(made.obs["kind"].cat.categories) == ["A", "B"]
    assert made.obs["age"].dtype == np.float64


def test_decoupler_filters_the_sums_alike(sums, theirs):
    theirs = theirs[sums.obs_names].copy()
    found = [dc.pp.filter_samples(one, min_cells=16, min_counts=100, inplace=False) for one in (sums, theirs)]
    np.testing.assert_array_equal(*found)
    assert 0 < len(found[0]) < sums.n_obs
    rules = {"group": "arm", "min_count": 60, "min_total_count": 100, "large_n": 5}
    found = [dc.pp.filter_by_expr(one, inplace=False, **rules) for one in (sums, theirs)]
    np.testing.assert_array_equal(*found)
    assert 0 < len(found[0]) < sums.n_vars
    found = [dc.pp.filter_by_prop(one, min_prop=0.7, min_smpls=6, inplace=False) for one in (sums, theirs)]
    np.testing.assert_array_equal(*found)
    assert 0 < len(found[0]) < sums.n_vars


def test_decoupler_draws(paired, sums):
    figure = dc.pl.filter_samples(sums, groupby=["arm", "cell_type"], return_fig=True)
    assert len(figure.axes) >= 2
    dc.pl.filter_by_expr(sums, return_fig=True)
    table = adapters.deseq2(paired.findings, "B cells").dropna()
    volcano = dc.pl.volcano(table, x="log2FoldChange", y="pvalue", top=3, return_fig=True)
    assert any(text.get_text() == "ENS0" for text in volcano.axes[0].texts)
    plt.close("all")


def test_sums_survive_a_file(sums, tmp_path):
    io.write_anndata(tmp_path / "sums.h5ad", sums)
    read = anndata.read_h5ad(tmp_path / "sums.h5ad")
    pd.testing.assert_frame_equal(read.obs, sums.obs)
    np.testing.assert_array_equal(read.X, sums.X)
    dc.pp.filter_samples(read, min_cells=16, min_counts=100)
    assert read.n_obs < sums.n_obs
