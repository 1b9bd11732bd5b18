"""A run without cell types, of pseudobulk alone, with awkward names: every adapter takes it without being told."""

import anndata
import decoupler as dc
import pandas as pd
import pytest
import scanpy as sc

from mlmgen import adapters, io
from mlmgen.adapters.export import FORMATS, export
from mlmgen.errors import UserError


def test_choices_fall_on_the_only_one(one_type):
    table = adapters.deseq2(one_type.findings)
    assert table.index.name == "gene"
    assert list(table.columns) == ["baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]
    assert adapters.statistic_matrix(one_type.findings).index.tolist() == ["all"]
    assert adapters.ranking(one_type.findings).index[0] == "ENS0"
    with pytest.raises(UserError, match=r"there is no method 'glmm' .*Choose one of: pseudobulk"):
        adapters.ranking(one_type.findings, method="glmm")


def test_sums_have_a_column_of_the_one_type(one_type):
    made = adapters.pseudobulk(one_type.findings)
    assert list(made.obs.columns[:4]) == ["sample", "cell_type", "donor", "arm"]
    assert set(made.obs["cell_type"]) == {"all"}
    cells = one_type.data.copy()
    cells.obs["sample"] = cells.obs["donor"].astype(str) + ":" + cells.obs["arm"].astype(str)
    theirs = dc.pp.pseudobulk(cells, sample_col="sample", groups_col=None)
    theirs.obs_names = [f"{name}_all" for name in theirs.obs_names]
    assert (theirs[made.obs_names].X == made.X).all()


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("of_contrasts", [True, False])
def test_awkward_names_survive_a_file(one_type, own, of_contrasts, tmp_path):
    (contrast,) = one_type.findings.contrasts
    data = one_type.data.copy() if own else None
    made = adapters.to_anndata(one_type.findings, data, cell_type="all" if of_contrasts else None)
    io.write_anndata(tmp_path / "made.h5ad", made)
    read = anndata.read_h5ad(tmp_path / "made.h5ad")
    group = contrast if of_contrasts else "all"
    tables = [sc.get.rank_genes_groups_df(one, group, key="mlmgen") for one in (made, read)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0].loc[0, "names"] == "ENS0"
    column = read.uns["mlmgen"]["params"]["groupby"]
    assert list(read.obs[column].cat.categories) == [group]
    assert read.obs[column].notna().mean() == (0.5 if of_contrasts else 1.0)
    axes = sc.pl.rank_genes_groups_dotplot(read, n_genes=2, key="mlmgen", dendrogram=False, show=False)
    assert axes


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_is_written(one_type, to, tmp_path):
    path = tmp_path / f"results{'.h5ad' if to in ('anndata', 'pseudobulk') else '.tsv'}"
    export(str(one_type.findings.folder), to, str(path))
    assert path.stat().st_size > 1000
