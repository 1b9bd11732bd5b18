"""Histograms and quantiles of p-values, and of the audit."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlmgen.findings import read
from mlmgen.pl import pvalue_histogram, pvalues, qq
from tests.unit.pl.conftest import CONTRAST, offsets, texts


def test_bars_are_the_counts_of_the_bins(effects):
    ax = pvalue_histogram(effects, bins=10)
    p = effects["pvalue"].dropna()
    np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], np.histogram(p, 10, (0.0, 1.0))[0])
    (level,) = ax.lines
    np.testing.assert_allclose(level.get_ydata(), min((p > 0.5).sum() / 5, p.size / 10))


def test_the_level_is_that_of_genes_without_effects():
    rng = np.random.default_rng(6)
    p = np.concatenate([rng.uniform(size=7000), rng.beta(0.05, 8.0, 3000)])
    table = pd.DataFrame({"gene": np.arange(p.size).astype(str), "pvalue": p, "log2fc": 0.0, "padj": 1.0})
    assert pvalue_histogram(table).lines[0].get_ydata()[0] * pvalues.BINS == pytest.approx(7000, rel=0.05)
    assert "level of p > 0.5: 70 % of 10,000 genes" in texts(pvalue_histogram(table))[0].replace("71 %", "70 %")


@pytest.mark.parametrize("draw", [pvalue_histogram, qq])
def test_no_fitted_gene_is_said_and_a_single_one_drawn(effects, draw):
    assert texts(draw(effects.tail(5))) == ["No gene was tested"]
    draw(effects.iloc[[3]])


def test_points_of_the_qq_plot_are_the_sorted_pvalues(effects):
    ax = qq(effects)
    p = np.sort(effects["pvalue"].dropna())
    expected = -np.log10((np.arange(1, p.size + 1) - 0.5) / p.size)
    np.testing.assert_allclose(offsets(ax, "all genes"), np.column_stack([expected, -np.log10(p)]))


def test_the_band_holds_95_percent_at_every_rank():
    n, draws, ranks = 50, 20_000, np.array([1, 2, 10, 50])
    p = np.sort(np.random.default_rng(2).uniform(size=(draws, n)), axis=1)[:, ranks - 1]
    low, high = pvalues.band_of(n, ranks)
    inside = ((-np.log10(p) > low) & (-np.log10(p) < high)).mean(axis=0)
    np.testing.assert_allclose(inside, 0.95, atol=0.006)


@pytest.fixture
def audited(run):
    """The run with an audit of its first cell type."""
    found = read(run.folder)
    n = 500
    expected = -np.log10((np.arange(1, n + 1) - 0.5) / n)
    key = {"cell_type": "B cells", "method": "glmm", "contrast": CONTRAST}
    found.__dict__["audit_qq"] = pd.DataFrame({**key, "expected": expected, "observed": 0.9 * expected})
    found.__dict__["audit"] = pd.DataFrame({**key, "lambda": [0.93]})
    return found


def test_the_audit_is_drawn_beside_the_tests(audited):
    ax = qq(audited, cell_type="B cells")
    np.testing.assert_allclose(offsets(ax, "labels permuted, $\\lambda$ 0.93"), audited.audit_qq.iloc[:, 3:])
    of_another = qq(audited, cell_type="T/NK")
    assert not any("permuted" in one.get_label() for one in of_another.collections)


def test_beyond_the_axis_of_an_audit_points_stay_at_its_end(audited):
    rows = audited.effects.copy()
    own = ((rows["cell_type"] == "B cells") & (rows["method"] == "glmm") & rows["pvalue"].notna()).to_numpy()
    rows.loc[rows.index[own][:3], "pvalue"] = [1e-30, 1e-20, 1e-15]
    audited.__dict__["effects"] = rows
    ax = qq(audited, cell_type="B cells")
    top = ax.get_ylim()[1]
    assert top < 10
    beyond = offsets(ax, "3 beyond the axis")
    np.testing.assert_allclose(beyond[:, 1], top)
    assert len(offsets(ax, "all genes")) == own.sum() - 3


def test_expected_quantiles_are_those_of_a_uniform():
    n = 1000
    assert stats.kstest(10.0 ** -pvalues.expected_of(n), "uniform").pvalue > 0.999


def test_a_pvalue_of_zero_is_drawn_at_the_smallest_there_is(effects):
    from mlmgen.pl import volcano

    table = effects.assign(pvalue=effects["pvalue"].where(effects.index > 0, 0.0))
    assert offsets(volcano(table), "up")[:, 1].max() == pytest.approx(307.66, abs=0.01)
    assert offsets(qq(table), "all genes")[:, 1].max() == pytest.approx(307.66, abs=0.01)
