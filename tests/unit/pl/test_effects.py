"""Volcano and MA plots: what is drawn is what the table has."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from mlmgen.errors import UserError
from mlmgen.pl import ma, volcano
from mlmgen.pl.drawing import BLUE, PALE, VERMILLION
from tests.unit.pl.conftest import named, offsets, texts

GROUPS = (("not called", PALE), ("down", BLUE), ("up", VERMILLION))


def groups(table, fdr=0.05):
    """The rows of each group of points."""
    fitted = table[table["pvalue"].notna()]
    called, up = fitted["padj"] < fdr, fitted["log2fc"] >= 0
    return fitted[~called], fitted[called & ~up], fitted[called & up]


@pytest.mark.parametrize("fdr", [0.05, 1e-12])
def test_points_of_the_volcano_are_the_rows_by_their_call(effects, fdr):
    ax = volcano(effects, fdr=fdr)
    for (label, colour), rows in zip(GROUPS, groups(effects, fdr), strict=True):
        np.testing.assert_allclose(offsets(ax, label), np.column_stack([rows["log2fc"], -np.log10(rows["pvalue"])]))
        (points,) = [one for one in ax.collections if one.get_label() == label]
        assert to_hex(points.get_facecolor()[0]) == colour.lower()


def test_points_of_the_ma_plot_are_the_rows(effects):
    ax = ma(effects)
    for (label, _), rows in zip(GROUPS, groups(effects), strict=True):
        np.testing.assert_allclose(offsets(ax, label), rows[["mean_count", "log2fc"]])
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize("draw", [volcano, ma])
def test_every_point_is_within_the_axes(effects, draw):
    ax = draw(effects)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    for label, _ in GROUPS:
        x, y = offsets(ax, label).T
        assert ((x > left) & (x < right) & (y > low) & (y < high)).all()


@pytest.mark.parametrize("draw", [volcano, ma])
def test_counts_and_top_genes_are_named(effects, draw):
    ax = draw(effects, top=4)
    assert {"8 down", "12 up", "280 genes tested"} <= set(texts(ax))
    assert named(ax) == {"Name0", "Name1", "Name2", "Name3"}


def test_genes_can_be_chosen_by_name_or_symbol(effects, run):
    assert named(volcano(effects, genes=["g100", "Name200"])) == {"Name100", "Name200"}
    assert named(volcano(run, cell_type="B cells", genes=["sym7"])) == {"Sym7"}
    with pytest.raises(UserError, match="Did you mean 'Name10"):
        volcano(effects, genes=["Name1000"])


def test_the_line_is_between_called_genes_and_others(effects):
    ax = volcano(effects)
    called = effects["padj"] < 0.05
    (height,) = [line.get_ydata()[0] for line in ax.lines if line.is_dashed()]
    assert -np.log10(effects.loc[~called, "pvalue"].min()) < height < -np.log10(effects.loc[called, "pvalue"].max())
    effects.loc[150, "padj"] = 0.001  # as weighted false discovery rates can have it
    assert not [line for line in volcano(effects).lines if line.is_dashed()]


@pytest.mark.parametrize("draw", [volcano, ma])
def test_nothing_called_is_said(effects, draw):
    ax = draw(effects.assign(padj=1.0))
    assert "No gene is called" in texts(ax)
    assert not named(ax)
    assert len(offsets(ax, "not called")) == 280


@pytest.mark.parametrize("draw", [volcano, ma])
def test_a_joint_test_and_no_fit_are_said(effects, draw):
    assert "joint test" in texts(draw(effects.assign(log2fc=np.nan)))[0]
    assert texts(draw(effects.tail(20))) == ["No gene was tested"]
    assert texts(draw(effects.head(0))) == ["No gene was tested"]


@pytest.mark.parametrize("draw", [volcano, ma])
@pytest.mark.parametrize("row", [0, 100])
def test_a_single_gene_is_drawn(effects, draw, row):
    ax = draw(effects.iloc[[row]])
    assert sum(len(offsets(ax, label)) for label, _ in GROUPS) == 1
    assert np.ptp(ax.get_xlim()) > 0


def test_many_points_are_a_picture_and_few_are_not(effects):
    import pandas as pd

    few, many = volcano(effects), volcano(pd.concat([effects] * 10, ignore_index=True))
    assert not any(points.get_rasterized() for points in few.collections)
    assert any(points.get_rasterized() for points in many.collections)


def test_it_draws_where_it_is_told(effects):
    figure, axes = plt.subplots(1, 2)
    assert volcano(effects, ax=axes[1]) is axes[1]
    assert not axes[0].collections
    assert plt.get_fignums() == [figure.number]


def test_the_figure_has_the_size_that_was_asked_for(effects):
    assert tuple(volcano(effects, figsize=(3.0, 2.5)).figure.get_size_inches()) == (3.0, 2.5)
    assert volcano(effects, figsize=(3.0, None)).figure.get_size_inches()[1] > 3.0


def test_the_title_says_what_is_shown(run):
    assert volcano(run, cell_type="T/NK").get_title(loc="left") == "T/NK, stim_vs_ctrl, cells"
