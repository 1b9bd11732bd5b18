"""Our table has PyDESeq2's columns, and PyDESeq2 runs on our sums."""

import numpy as np
import pandas as pd
import pytest

from mlmgen import adapters

RENAMED = {"pvalue": "p_value", "padj": "adj_p_value", "log2FoldChange": "log_fc"}  # by pertpy


@pytest.fixture(scope="module")
def theirs(paired):
    """What PyDESeq2 makes of one cell type of the sums."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    sums = adapters.pseudobulk(paired.findings, "B cells")
    inference = DefaultInference(n_cpus=1)
    # a mean for the trend of the dispersions, which 45 genes do not determine
    data = DeseqDataSet(adata=sums, design="~donor + arm", fit_type="mean", inference=inference, quiet=True)
    data.deseq2()
    found = DeseqStats(data, contrast=["arm", "stim", "ctrl"], inference=inference, quiet=True)
    found.summary()
    return found.results_df


def test_columns_are_those_of_pydeseq2(paired, theirs):
    ours = adapters.deseq2(paired.findings, "B cells")
    assert list(ours.columns) == list(theirs.columns)
    assert list(ours.index) == list(theirs.index)
    assert (ours.dtypes == theirs.dtypes).all()


def test_both_find_the_same_effect(paired, theirs):
    """Their size factors are medians of ratios, ours the run's: means and effects agree closely, not exactly."""
    ours = adapters.deseq2(paired.findings, "B cells", method="pseudobulk")
    tested = ours["pvalue"].notna()
    assert list(ours.index[~tested]) == list(theirs.index[theirs["pvalue"].isna()]) == ["ENS44"]
    ratio = np.log2(ours["baseMean"][tested] / theirs["baseMean"][tested])
    assert ratio.abs().max() < 0.2
    columns = ["log2FoldChange", "lfcSE", "stat"]
    both = ours[tested][columns].join(theirs[columns], lsuffix=" ours")
    assert both["log2FoldChange ours"].corr(both["log2FoldChange"]) > 0.97
    assert both["stat ours"].corr(both["stat"]) > 0.9
    assert np.log2(both["lfcSE ours"] / both["lfcSE"]).abs().median() < 0.5
    assert ours["padj"].idxmin() == theirs["padj"].idxmin() == "ENS0"


def test_columns_of_pertpy_are_pydeseq2s_renamed(paired, theirs):
    renamed = theirs.rename(columns=RENAMED).rename_axis("variable").reset_index().assign(contrast="stim_vs_ctrl")
    ours = adapters.pertpy(paired.findings, "B cells")
    assert list(ours.columns) == list(renamed.columns)
    assert ours["contrast"].unique().tolist() == ["stim_vs_ctrl"]
    pd.testing.assert_series_equal(ours["p_value"], ours["p_value"].sort_values(ignore_index=True))
