"""Results in an AnnData, read and drawn by scanpy."""

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from mlmgen import adapters, io
from mlmgen.errors import UserError

FIELDS = {"scores": "statistic", "logfoldchanges": "log2fc", "pvals": "pvalue", "pvals_adj": "padj"}
PLOTS = ("dotplot", "matrixplot", "stacked_violin", "heatmap", "tracksplot")


def expected(findings, cell_type, contrast, method):
    """The tested genes of the table, by falling statistic, with scanpy's names."""
    table = findings.effects
    chosen = (table["cell_type"] == cell_type) & (table["contrast"] == contrast) & (table["method"] == method)
    table = table[chosen & table["pvalue"].notna()].sort_values("statistic", ascending=False, kind="stable")
    renamed = table.rename(columns={ours: theirs for theirs, ours in FIELDS.items()} | {"gene": "names"})
    return renamed[["names", *FIELDS]].reset_index(drop=True)


def normalized(data):
    """The input as a user of scanpy has it."""
    cells = data.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells


@pytest.fixture
def drawn():
    """A way to draw without a window; figures are closed afterwards."""
    yield lambda plot, *args, **keys: plot(*args, show=False, **keys)
    plt.close("all")


@pytest.mark.parametrize("method", ["glmm", "pseudobulk"])
@pytest.mark.parametrize("own", [True, False])
def test_scanpys_table_is_that_of_the_run(paired, method, own):
    made = adapters.to_anndata(paired.findings, normalized(paired.data) if own else None, method)
    assert made.uns["mlmgen"]["params"]["groupby"] == "cell_type"
    for group in paired.findings.cell_types:
        table = sc.get.rank_genes_groups_df(made, group, key="mlmgen")
        wanted = expected(paired.findings, group, "stim_vs_ctrl", method)
        pd.testing.assert_frame_equal(table[: len(wanted)], wanted)
        rest = table[len(wanted) :]
        assert list(rest["names"]) == ["ENS44"]
        assert rest[["pvals", "pvals_adj"]].isna().all(axis=None)
        assert (rest[["scores", "logfoldchanges"]] == 0.0).all(axis=None)
    called = sc.get.rank_genes_groups_df(made, None, key="mlmgen", pval_cutoff=0.05, log2fc_min=1)
    assert "ENS0" in set(called["names"])


def test_untested_genes_may_stay_missing(paired):
    made = adapters.to_anndata(paired.findings, fill=None)
    last = sc.get.rank_genes_groups_df(made, "T/NK", key="mlmgen").iloc[-1]
    assert last["names"] == "ENS44"
    assert last[list(FIELDS)].isna().all()


def test_results_survive_a_file(paired, tmp_path):
    made = adapters.to_anndata(paired.findings)
    io.write_anndata(tmp_path / "results.h5ad", made)
    read = anndata.read_h5ad(tmp_path / "results.h5ad")
    assert dict(read.uns["mlmgen"]["params"]) == dict(made.uns["mlmgen"]["params"])
    for group in (None, "T/NK"):
        tables = [sc.get.rank_genes_groups_df(one, group, key="mlmgen") for one in (made, read)]
        pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", PLOTS)
def test_scanpy_draws(paired, kind, own, drawn, tmp_path):
    made = adapters.to_anndata(paired.findings, normalized(paired.data) if own else None)
    if not own:  # as someone else reads it
        io.write_anndata(tmp_path / "results.h5ad", made)
        made = anndata.read_h5ad(tmp_path / "results.h5ad")
    values = {"values_to_plot": "logfoldchanges"} if kind in ("dotplot", "matrixplot") else {}
    plot = getattr(sc.pl, f"rank_genes_groups_{kind}")
    assert drawn(plot, made, n_genes=3, key="mlmgen", dendrogram=False, **values)


@pytest.mark.filterwarnings(r"ignore:set_ticklabels\(\) should only be used:UserWarning")  # scanpy's violins
def test_scanpy_draws_the_ranking_and_violins(paired, drawn):
    made = adapters.to_anndata(paired.findings, normalized(paired.data))
    axes = drawn(sc.pl.rank_genes_groups, made, n_genes=5, key="mlmgen")
    assert [ax.get_title() for ax in axes] == ["B cells vs. stim_vs_ctrl", "T/NK vs. stim_vs_ctrl"]
    top = expected(paired.findings, "B cells", "stim_vs_ctrl", "glmm")["names"][:5]
    assert [text.get_text() for text in axes[0].texts] == list(top)
    (violins,) = drawn(sc.pl.rank_genes_groups_violin, made, groups=["T/NK"], n_genes=3, key="mlmgen")
    assert violins.get_title() == "T/NK vs. stim_vs_ctrl"


def test_symbols_label_the_plots(paired, drawn):
    made = adapters.to_anndata(paired.findings)
    axes = drawn(sc.pl.rank_genes_groups, made, n_genes=1, key="mlmgen", gene_symbols="gene_name")
    assert axes[0].texts[0].get_text() == "Sym0"


def test_colours_of_untested_genes_say_no_effect(paired):
    """scanpy would draw a missing fold change as 1."""
    from scanpy.plotting._tools import _get_values_to_plot

    values = {}
    for fill in (0.0, None):
        made = adapters.to_anndata(paired.findings, fill=fill)
        values[fill] = _get_values_to_plot(made, "logfoldchanges", ["ENS44"], key="mlmgen")
    assert (values[0.0] == 0.0).all(axis=None)
    assert (values[None] == 1.0).all(axis=None)


def test_an_anndata_with_fewer_and_other_genes_and_types(paired):
    """Genes that the run has not stand last; cell types that it has not make a column with the groups necessary."""
    cells = normalized(paired.data)[:, 5:].copy()
    cells.var_names = [*cells.var_names[:-2], "new", cells.var_names[-1]]
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.add_categories("other")
    cells.obs.iloc[:7, cells.obs.columns.get_loc("cell_type")] = "other"
    made = adapters.to_anndata(paired.findings, cells)
    assert made is cells
    assert made.uns["mlmgen"]["params"]["groupby"] == "mlmgen_group"
    assert made.obs["mlmgen_group"].isna().sum() == 7
    table = sc.get.rank_genes_groups_df(made, "B cells", key="mlmgen")
    wanted = expected(paired.findings, "B cells", "stim_vs_ctrl", "glmm")
    wanted = wanted[wanted["names"].isin(cells.var_names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(table[: len(wanted)], wanted)
    assert sorted(table["names"]) == sorted(cells.var_names)
    assert set(table["names"][len(wanted) :]) == {"new", "ENS44"}


@pytest.mark.parametrize("own", [True, False])
def test_contrasts_as_groups(doses, own, drawn, tmp_path):
    made = adapters.to_anndata(doses.findings, normalized(doses.data) if own else None, cell_type="A", key="doses")
    assert made.uns["doses"]["params"] | {"groupby": "doses_group", "reference": "A"} == made.uns["doses"]["params"]
    assert made.uns["doses"]["names"].dtype.names == doses.findings.contrasts
    table = sc.get.rank_genes_groups_df(made, "high_vs_low", key="doses")
    wanted = expected(doses.findings, "A", "high_vs_low", "glmm")
    pd.testing.assert_frame_equal(table[: len(wanted)], wanted)
    group = made.obs["doses_group"]
    assert set(group.dropna()) == set(doses.findings.contrasts)
    dose = made.obs["dose"].astype(str)
    assert set(dose[group == "low_vs_none"]) == {"low"}
    assert set(dose[group == "high_vs_none"]) == set(dose[group == "high_vs_low"]) == {"high"}
    assert set(made.obs["kind"][group.notna()]) == {"A"}
    assert group[(made.obs["kind"] == "A").to_numpy()].notna().all()
    io.write_anndata(tmp_path / "doses.h5ad", made)
    read = anndata.read_h5ad(tmp_path / "doses.h5ad")
    plot, keys = sc.pl.rank_genes_groups_dotplot, {"values_to_plot": "logfoldchanges", "dendrogram": False}
    assert drawn(plot, read, n_genes=2, key="doses", **keys)


def test_one_cell_type_and_contrast_make_one_group(doses):
    made = adapters.to_anndata(doses.findings, contrast="per_year", cell_type="B")
    assert made.uns["mlmgen"]["names"].dtype.names == ("B",)
    assert set(made.obs["kind"][made.obs["mlmgen_group"].notna()]) == {"B"}


def test_cells_are_found_by_their_names_without_a_column(paired):
    cells = normalized(paired.data)
    del cells.obs["cell_type"]
    made = adapters.to_anndata(paired.findings, cells)
    assert (made.obs["mlmgen_group"].astype(str) == paired.data.obs["cell_type"].astype(str)).all()


def test_samples_are_normalized_by_their_size_factors(paired):
    made = adapters.to_anndata(paired.findings)
    counts, factor = made.layers["counts"], made.obs["size_factor"].to_numpy()
    depth = factor / factor.sum() * counts.sum()
    np.testing.assert_allclose(np.expm1(made.X), counts / depth[:, None] * 1e4, rtol=1e-9)
    assert counts.sum() == paired.data.X.sum()


def test_errors(paired, doses):
    cells = paired.data.copy()
    cells.var_names = paired.data.var["symbol"]
    with pytest.raises(UserError, match=r"none of the 45 genes of the AnnData has results, such as Sym0.*such as ENS0"):
        adapters.to_anndata(paired.findings, cells)
    others = paired.data.copy()
    others.obs["cell_type"] = "unheard of"
    by_name = adapters.to_anndata(paired.findings, others.copy())
    assert list(by_name.obs["mlmgen_group"]) == list(paired.data.obs["cell_type"])
    others.obs_names = [f"{name}-1" for name in others.obs_names]
    with pytest.raises(UserError, match=r"no row of the AnnData belongs to a cell type with results.*B cells, T/NK"):
        adapters.to_anndata(paired.findings, others)
    with pytest.raises(UserError, match=r"there are 5 contrasts .* high_vs_none, high_vs_low"):
        adapters.to_anndata(doses.findings)
    with pytest.raises(UserError, match="this takes one method"):
        adapters.to_anndata(paired.findings, method="all")
    with pytest.raises(UserError, match="high_vs_low cannot be estimated in B"):
        adapters.to_anndata(doses.findings, contrast="high_vs_low", cell_type="B")
