"""Which rows a figure shows, and what is said where the choice is not clear."""

import pytest

from mlmgen.errors import UserError
from mlmgen.findings import read
from mlmgen.pl import choosing, volcano
from tests.unit.finished import paired_study


def test_one_of_several_must_be_chosen(run):
    with pytest.raises(UserError, match="there are 2 cell types") as error:
        volcano(run)
    assert "Choose one of: B cells, T/NK" in str(error.value)
    with pytest.raises(UserError, match="Did you mean 'T/NK'"):
        volcano(run, cell_type="T_NK")
    with pytest.raises(UserError, match="there is no contrast 'stim'"):
        volcano(run, cell_type="T/NK", contrast="stim")


def test_the_only_one_and_the_cells_are_the_defaults(run):
    one = choosing.chosen(run, "effects", cell_type="T/NK", contrast=None, method=None)
    assert (one.cell_type, one.contrast, one.method) == ("T/NK", "stim_vs_ctrl", "glmm")
    assert set(one.rows["cell_type"]) == {"T/NK"}
    assert set(one.rows["method"]) == {"glmm"}
    assert len(one.rows) == paired_study().n_vars


def test_a_folder_a_run_and_a_table_show_the_same(run, effects):
    wanted = {"cell_type": "B cells", "contrast": None, "method": "pseudobulk"}
    by_path, by_run = (choosing.chosen(source, "effects", **wanted) for source in (run.folder, run))
    by_table = choosing.chosen(run.effects, "effects", **wanted)
    assert by_path.rows.equals(by_run.rows)
    assert by_table.rows.equals(by_run.rows)
    assert by_path.findings.folder == run.folder
    assert by_table.findings is None


def test_a_table_need_not_say_what_it_is_of(effects):
    one = choosing.chosen(effects, "effects", cell_type=None, contrast=None, method=None)
    assert one.rows is effects
    assert (one.cell_type, one.contrast, one.method) == ("", "", "")


def test_a_figure_of_a_run_takes_no_table(effects):
    from mlmgen.pl import icc

    with pytest.raises(UserError, match="needs the results of a run, not a table of 300 rows"):
        icc(effects)


def test_a_skipped_cell_type_says_why(run):
    found = read(run.folder)
    one = {**run.provenance["cell_types"]["B cells"], "skipped": "only 1 donor"}
    found.provenance["cell_types"]["rare"] = one
    with pytest.raises(UserError, match="rare was not fitted: only 1 donor"):
        volcano(found, cell_type="rare")


@pytest.mark.parametrize(
    ("family", "method", "word"),
    [("nb", "glmm", "fold change"), ("bernoulli", "glmm", "odds"), ("bernoulli", "pseudobulk", "fold change")],
)
def test_the_effect_is_called_what_it_is(run, family, method, word):
    found = read(run.folder)
    found.provenance["config"]["fit"]["family"] = family
    assert word in choosing.effect_word(found, method)


def test_a_slope_says_of_what(run, monkeypatch):
    resolved = {
        "cell_types": {"B cells": [{"name": "a", "expression": "age"}, {"name": "b", "expression": "x[1] - x[0]"}]}
    }
    monkeypatch.setitem(run.__dict__, "contrasts_json", resolved)
    assert choosing.effect_word(run, "glmm", "a") == "log2 fold change per unit of age"
    assert choosing.effect_word(run, "glmm", "b") == "log2 fold change"
