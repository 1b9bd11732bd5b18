"""Forest plots and concordance."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mlmgen.errors import UserError
from mlmgen.findings import read
from mlmgen.pl import concordance, forest
from mlmgen.pl.drawing import METHOD_COLOURS
from tests.unit.pl.conftest import named, offsets, texts


def drawn_effects(ax, method):
    """The centres of a method's markers, sorted."""
    colour = METHOD_COLOURS[method].lower()
    dots = [one for one in ax.collections if one.get_label().startswith("_") and hasattr(one, "get_sizes")]
    dots = [one for one in dots if to_hex(one.get_edgecolor()[0]) == colour]
    return np.sort(np.concatenate([one.get_offsets()[:, 0] for one in dots]))


def test_a_forest_has_every_cell_type_and_method(run):
    ax = forest(run, "Sym0")
    rows = run.effects[run.effects["gene"] == "ENS0"]
    for method in ("glmm", "pseudobulk"):
        np.testing.assert_allclose(drawn_effects(ax, method), np.sort(rows.loc[rows["method"] == method, "log2fc"]))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["B cells", "T/NK"]
    assert ax.yaxis_inverted()
    ends = np.sort(
        np.concatenate([one.get_segments() for one in ax.collections if hasattr(one, "get_segments")])[..., 0]
    )
    np.testing.assert_allclose(np.sort(ends[:, 0]), np.sort(rows["ci_low"]))
    np.testing.assert_allclose(np.sort(ends[:, 1]), np.sort(rows["ci_high"]))


def test_effects_that_are_called_are_filled(run):
    found = read(run.folder)
    rows = found.effects[found.effects["gene"] == "ENS0"].copy()
    rows["padj"] = np.where(rows["cell_type"] == "B cells", 0.01, 0.5)
    found.__dict__["effects"] = rows
    ax = forest(found, "ENS0", method="glmm")
    places = {}
    for one in ax.collections:
        if len(one.get_offsets()) and len(one.get_facecolor()):
            places.update({round(float(y)): to_hex(one.get_facecolor()[0]) for _, y in one.get_offsets()})
    assert places == {0: METHOD_COLOURS["glmm"].lower(), 1: "#ffffff"}


def test_a_forest_of_some_cell_types_and_one_method(run):
    ax = forest(run, "Sym0", cell_type=["T/NK"], method="pseudobulk")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["T/NK"]
    assert len(drawn_effects(ax, "pseudobulk")) == 1
    assert not [one for one in ax.collections if one.get_label() == "cells"]
    with pytest.raises(UserError, match="there is no cell type 'T'"):
        forest(run, "Sym0", cell_type="T")


def test_a_gene_that_was_not_fitted_is_said_and_one_that_is_not_there(run):
    assert texts(forest(run, "Sym44")) == ["No gene was tested"]
    with pytest.raises(UserError, match="there is no gene 'Sym99'"):
        forest(run, "Sym99")


def test_cell_types_without_the_gene_are_named(run):
    found = read(run.folder)
    rows = found.effects.copy()
    rows.loc[(rows["gene"] == "ENS0") & (rows["cell_type"] == "T/NK"), ["log2fc", "pvalue"]] = np.nan
    found.__dict__["effects"] = rows
    assert "not fitted in T/NK" in forest(found, "Sym0").get_xlabel()


def test_several_contrasts_have_rows_of_their_own(run):
    found = read(run.folder)
    first = found.effects[found.effects["gene"] == "ENS0"].astype({"contrast": str})
    import pandas as pd

    found.__dict__["effects"] = pd.concat([first, first.assign(contrast="other", log2fc=-first["log2fc"])])
    found.__dict__["contrasts_json"] = {"contrasts": ["stim_vs_ctrl", "other"]}
    ax = forest(found, "ENS0")
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["stim_vs_ctrl: B cells", "stim_vs_ctrl: T/NK", "other: B cells", "other: T/NK"]


def test_points_are_both_effects_by_who_calls_them(run):
    ax = concordance(run, cell_type="B cells")
    rows = run.concordance[(run.concordance["cell_type"] == "B cells") & run.concordance["log2fc_glmm"].notna()]
    cells, sums = rows["padj_glmm"] < 0.05, rows["padj_pseudobulk"] < 0.05
    for some, word in ((cells & sums, "called by both"), (~cells & ~sums, "neither")):
        shown = offsets(ax, f"{word}: {some.sum():,}")
        np.testing.assert_allclose(shown, rows.loc[some, ["log2fc_pseudobulk", "log2fc_glmm"]])
    assert len(offsets(ax, f"disagree: {(rows['disagree'] == 'yes').sum()}")) == (rows["disagree"] == "yes").sum()


def test_the_largest_disagreements_are_named(run):
    rows = run.concordance[run.concordance["cell_type"] == "B cells"].dropna(subset=["log2fc_glmm"]).copy()
    rows["disagree"] = np.where(np.arange(len(rows)) < 6, "yes", "no")
    rows["difference"] = np.arange(len(rows)) * 1.0
    ax = concordance(rows, top=3)
    assert named(ax) == set(rows["gene_name"].iloc[3:6])
    assert len(offsets(ax, "disagree: 6")) == 6


def test_concordance_needs_both_methods(run):
    found = read(run.folder)
    found.__dict__["concordance"] = None
    with pytest.raises(UserError, match="Run with both methods"):
        concordance(found, cell_type="B cells")
    nothing = run.concordance.assign(log2fc_glmm=np.nan)
    assert texts(concordance(nothing, cell_type="B cells")) == ["No gene has an effect by both methods"]
