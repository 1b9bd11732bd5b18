"""Tables with the columns of DESeq2, limma, edgeR, Seurat and pertpy."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import mlmgen
from mlmgen import adapters, io
from mlmgen.adapters import samples as of_samples
from mlmgen.adapters.export import export
from mlmgen.errors import UserError

GOLDEN = Path(__file__).parents[2] / "golden"
ONE = ("B cells", "stim_vs_ctrl")


@pytest.fixture(scope="module")
def effects(paired):
    """Of one cell type, contrast and method, the index the gene."""
    table = paired.findings.effects
    chosen = (table["cell_type"] == "B cells") & (table["method"] == "glmm")
    return table[chosen].set_index("gene")


def golden_columns() -> dict[tuple[str, str], list[str]]:
    tables = [pd.read_csv(GOLDEN / "columns" / f"{name}.tsv", sep="\t") for name in ("columns", "documented")]
    rows = pd.concat(tables).itertuples()
    return {(row.program, row.call.partition("(")[0]): row.columns.split() for row in rows}


@pytest.mark.parametrize(
    ("adapter", "program", "call", "without"),
    [
        ("deseq2", "DESeq2", "results", []),
        ("limma", "limma", "topTable", ["B"]),
        ("limma", "limma", "topTreat", []),
        ("edger", "edgeR", "topTags", []),
        ("seurat", "Seurat", "FindMarkers", []),
        ("pertpy", "pertpy", "PyDESeq2.test_contrasts", []),
    ],
)
def test_columns_are_those_of_the_program(paired, adapter, program, call, without):
    theirs = golden_columns()[program, call]
    ours = getattr(adapters, adapter)(paired.findings, *ONE)
    assert list(ours.columns) == [name for name in theirs if name not in without]


@pytest.fixture(scope="module")
def golden_samples():
    """The input of tests/golden/columns/make.R."""
    obs = pd.read_csv(GOLDEN / "inputs" / "samples_many_obs.csv")
    counts = pd.read_csv(GOLDEN / "inputs" / "samples_many_counts.csv")
    return of_samples.Samples(sparse.csc_matrix(counts.to_numpy()), obs, pd.DataFrame(index=counts.columns))


@pytest.mark.parametrize(
    ("function", "column"),
    [("average_expression", "AveExpr"), ("log_cpm", "logCPM"), ("base_mean", "baseMean")],
)
def test_mean_expression_is_that_of_limma_edger_and_deseq2(golden_samples, function, column, monkeypatch):
    theirs = pd.read_csv(GOLDEN / "columns" / "means.csv", index_col="gene")[column]
    assert list(theirs.index) == list(golden_samples.var.index)
    ours = getattr(of_samples, function)(golden_samples)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    monkeypatch.setattr(of_samples, "VALUES", 50)  # some genes at a time
    np.testing.assert_array_equal(getattr(of_samples, function)(golden_samples), ours)


def test_deseq2_keeps_all_genes_in_the_order_of_the_input(paired, effects):
    table = adapters.deseq2(paired.findings, *ONE)
    assert list(table.index) == list(paired.data.var_names)
    assert table.index.name == "gene"
    names = {"log2fc": "log2FoldChange", "lfc_se": "lfcSE", "statistic": "stat", "pvalue": "pvalue", "padj": "padj"}
    for ours, theirs in names.items():
        pd.testing.assert_series_equal(table[theirs], effects.loc[table.index, ours], check_names=False)
    assert list(table.index[table["pvalue"].isna()]) == ["ENS44"]
    assert table.loc["ENS44", "baseMean"] == 0.0
    assert (table["baseMean"].drop("ENS44") > 0).all()


def test_filtered_genes_are_left_out_of_the_others(paired, effects):
    tested = effects["pvalue"].notna()
    for name in ("limma", "edger", "seurat", "pertpy"):
        table = getattr(adapters, name)(paired.findings, *ONE)
        assert len(table) == tested.sum() == 44
        assert not table.isna().any(axis=None)
        pvalue = table[{"limma": "P.Value", "edger": "PValue", "seurat": "p_val", "pertpy": "p_value"}[name]]
        assert pvalue.is_monotonic_increasing
        assert (table["variable"] if name == "pertpy" else table.index)[0] == effects.index[0]


def test_limma_and_edger_carry_the_same_evidence(paired, effects):
    limma, edger = adapters.limma(paired.findings, *ONE), adapters.edger(paired.findings, *ONE)
    own = effects.loc[limma.index]
    np.testing.assert_array_equal(limma[["logFC", "CI.L", "CI.R"]], own[["log2fc", "ci_low", "ci_high"]])
    np.testing.assert_array_equal(limma[["t", "P.Value", "adj.P.Val"]], own[["statistic", "pvalue", "padj"]])
    assert (limma["t"] > 0).equals(limma["logFC"] > 0)
    assert list(edger.index) == list(limma.index)
    np.testing.assert_allclose(stats.chi2.sf(edger["LR"], 1), edger["PValue"], rtol=1e-6)
    np.testing.assert_array_equal(edger["FDR"], limma["adj.P.Val"])
    assert np.corrcoef(limma["AveExpr"], edger.loc[limma.index, "logCPM"])[0, 1] > 0.98


def test_seurat_shares_are_those_of_the_cells_of_each_arm(paired):
    table = adapters.seurat(paired.findings, "T/NK", "stim_vs_ctrl", "pseudobulk")
    cells = paired.data[paired.data.obs["cell_type"] == "T/NK"]
    for column, arm in (("pct.1", "stim"), ("pct.2", "ctrl")):
        expected = (cells[cells.obs["arm"] == arm, list(table.index)].X > 0).mean(axis=0)
        np.testing.assert_allclose(table[column], np.ravel(expected))
    assert (table["pct.1"] != table["pct.2"]).any()


def test_seurat_counts_a_part_of_the_genes_at_a_time(paired, monkeypatch):
    whole = adapters.seurat(paired.findings, *ONE)
    monkeypatch.setattr(of_samples, "VALUES", 300)
    pd.testing.assert_frame_equal(adapters.seurat(paired.findings, *ONE), whole)


@pytest.mark.parametrize(("contrast", "arms"), [("high_vs_low", ("high", "low")), ("per_year", None), ("any", None)])
def test_seurat_shares_of_contrasts_without_two_sides_are_those_of_all_cells(doses, contrast, arms):
    table, cells = adapters.seurat(doses.findings, "A", contrast), doses.data[doses.data.obs["kind"] == "A"]
    for column, place in (("pct.1", 0), ("pct.2", 1)):
        chosen = cells if arms is None else cells[cells.obs["dose"] == arms[place]]
        np.testing.assert_allclose(table[column], np.ravel((chosen[:, list(table.index)].X > 0).mean(axis=0)))


def test_joint_tests_have_no_effect(doses):
    tables = {name: getattr(adapters, name)(doses.findings, "A", "any") for name in ("deseq2", "edger")}
    assert tables["deseq2"]["log2FoldChange"].isna().all()
    assert tables["edger"]["logFC"].isna().all()
    np.testing.assert_allclose(stats.chi2.sf(tables["edger"]["LR"], 2), tables["edger"]["PValue"], rtol=1e-6)


def test_several_tables_stand_below_each_other(paired):
    for name, keys in (("deseq2", ["cell_type", "contrast", "method", "gene"]), ("pertpy", ["cell_type", "method"])):
        adapter = getattr(adapters, name)
        table = adapter(paired.findings, method="all")
        own = adapter(paired.findings, *ONE)
        assert list(table.columns) == [*keys, *own.columns]
        assert [*table.groupby(["cell_type", "method"], sort=False).groups] == [
            (cell_type, method) for cell_type in ("B cells", "T/NK") for method in ("glmm", "pseudobulk")
        ]
        part = table[(table["cell_type"] == "T/NK") & (table["method"] == "pseudobulk")]
        alone = adapter(paired.findings, "T/NK", method="pseudobulk")
        alone = alone.reset_index() if name == "deseq2" else alone
        pd.testing.assert_frame_equal(part[alone.columns].reset_index(drop=True), alone)


def test_pertpy_has_several_contrasts_without_more_columns(doses):
    table = adapters.pertpy(doses.findings, "A")
    assert list(table.columns) == list(adapters.pertpy(doses.findings, "A", "any").columns)
    assert list(table["contrast"].unique()) == list(doses.findings.contrasts)


def test_symbols_name_the_genes(paired):
    table, plain = (adapters.limma(paired.findings, *ONE, symbols=symbols) for symbols in (True, False))
    assert list(table.index) == [name.replace("ENS", "Sym") for name in plain.index]
    assert table.index.name == "gene"
    np.testing.assert_array_equal(table, plain)


def test_samples_are_summed_where_the_run_could_not(paired, tmp_path):
    """A run whose formula has no pseudobulk design keeps an empty file: the sums come from the cells."""
    folder = tmp_path / "study"
    shutil.copytree(paired.findings.folder, folder)
    whole = of_samples.sums(paired.findings, "T/NK")
    found = mlmgen.read(folder)
    path, (X, obs, var) = of_samples.counts_file(found, "pseudobulk", "T/NK"), whole
    io.write_prepared(path, [X[:0]], obs.iloc[:0], lambda: var, None, io.read_meta(path))
    summed = of_samples.sums(found, "T/NK")
    np.testing.assert_array_equal(summed.counts.toarray(), X.toarray())
    pd.testing.assert_frame_equal(summed.obs, obs)
    np.testing.assert_array_equal(of_samples.base_mean(summed), of_samples.base_mean(whole))


def test_errors_name_the_nearest(paired, doses, tmp_path):
    with pytest.raises(UserError, match=r"no cell type 'B cell' .*--cell-type.*Did you mean 'B cells'"):
        adapters.deseq2(paired.findings, "B cell")
    with pytest.raises(UserError, match=r"no contrast 'stim_vs_crtl' .*Did you mean 'stim_vs_ctrl'"):
        adapters.limma(paired.findings, contrast="stim_vs_crtl")
    with pytest.raises(UserError, match=r"no method 'psuedobulk' .*Did you mean 'pseudobulk'"):
        adapters.edger(paired.findings, method="psuedobulk")
    with pytest.raises(UserError, match=r"high_vs_none cannot be estimated in B: .*with results of it: A"):
        adapters.seurat(doses.findings, "B", "high_vs_none")
    none = type(doses.findings)(doses.findings.folder, doses.findings.provenance)
    left_out = {"A": {}, "B": {"high_vs_none": "no dose[high]"}}
    none.__dict__["contrasts_json"] = doses.findings.contrasts_json | {"cell_types": {"B": []}, "left_out": left_out}
    for adapter in (adapters.limma, lambda found, name: adapters.to_anndata(found, cell_type=name)):
        with pytest.raises(UserError, match=r"no contrast can be estimated in B: high_vs_none: no dose\[high\]"):
            adapter(none, "B")
    folder = tmp_path / "study"
    shutil.copytree(paired.findings.folder, folder, ignore=shutil.ignore_patterns("prepared"))

    with pytest.raises(UserError, match=r"counts of B cells are missing .*Keep the folders prepared/"):
        adapters.seurat(mlmgen.read(folder), *ONE)


R = """
suppressMessages({library(limma); library(DESeq2)})
read <- function(file) read.delim(file, row.names = 1, check.names = FALSE)
top <- read("limma.tsv")
stopifnot(all.equal(p.adjust(top$P.Value, "BH"), top$adj.P.Val), all(top$CI.L < top$logFC & top$logFC < top$CI.R))
sets <- cameraPR(setNames(top$t, rownames(top)), list(up = head(rownames(top)[top$t > 0], 5)))
stopifnot(sets$Direction == "Up")
table <- read("deseq2.tsv")
results <- DESeqResults(DataFrame(table))
stopifnot(identical(colnames(results), colnames(table)), sum(is.na(results$padj)) == 1)
ordered <- subset(results[order(results$pvalue), ], padj < 0.05)
cat(rownames(ordered), sep = "\\n")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="there is no R on this machine")
def test_r_reads_the_tables(paired, effects, tmp_path):
    ready = subprocess.run(["Rscript", "-e", "library(limma); library(DESeq2)"], capture_output=True, text=True)
    if ready.returncode:
        pytest.skip("R has no limma and DESeq2")
    for name in ("limma", "deseq2"):
        export(str(paired.findings.folder), name, str(tmp_path / f"{name}.tsv"), *ONE)
    run = subprocess.run(["Rscript", "-e", R], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == list(effects.index[effects["padj"] < 0.05])
