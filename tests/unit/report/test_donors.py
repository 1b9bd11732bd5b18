"""Donors of a run: their cells, who was left out and why, and what is known of them."""

import pandas as pd
import pytest

from mlmgen.report import donors
from mlmgen.report.donors import Cells

FORMULA = "~ condition + age + pct + (1 | donor) + (1 | donor:condition)"


def cells(**others) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "donor": ["D10", "D10", "D2", "D2", "D2"],
            "condition": ["ctrl", "stim", "ctrl", "ctrl", "ctrl"],
            "age": [30.0, 30.0, 41.5, 41.5, 41.5],
            "pct": [0.1, 0.2, 0.3, 0.4, 0.5],
        }
    ).assign(**others)
    return frame.assign(sample=frame["donor"] + ":" + frame["condition"].astype(str))


def test_donors_cells_and_covariates():
    warning = "donors with fewer than 10 cells are left out: D1 (a) (1,009), D3 (4)"
    found = donors.section(
        (Cells(0, cells(), (warning, "the formula lacks batch")), Cells(1, None, ()), Cells(2, cells().iloc[:1], ())),
        "donor",
        FORMULA,
    )
    assert found["donors"] == ["D1 (a)", "D2", "D3", "D10"]  # as people count
    assert found["cells"] == [[None, None, 0], [3, None, 0], [None, None, 0], [2, None, 1]]
    assert [(one["donor"], one["t"], one["n_cells"]) for one in found["left_out"]] == [
        ("D1 (a)", 0, 1009),
        ("D3", 0, 4),
    ]
    assert found["left_out"][0]["why"] == "fewer than 10 cells"
    assert found["covariates"]["columns"] == [
        {"name": "condition", "kind": "factor", "varies": "within donors"},
        {"name": "age", "kind": "number", "varies": "between donors"},
        {"name": "pct", "kind": "number", "varies": "within donors"},
    ]
    assert found["covariates"]["rows"] == [
        [None, None, None],
        ["ctrl", 41.5, [0.3, 0.5]],
        [None, None, None],
        ["ctrl, stim", 30, [0.1, 0.2]],
    ]
    assert found["samples"] == {
        "columns": ["donor", "sample", "condition", "age", "n_cells"],
        "rows": [
            ["D2", "D2:ctrl", "ctrl", 41.5, 3],
            ["D10", "D10:ctrl", "ctrl", 30, 2],
            ["D10", "D10:stim", "stim", 30, 1],
        ],
    }


def test_true_and_false_are_a_factor():
    found = donors.section(
        (Cells(0, cells(condition=[True, False, True, True, True]).assign(sample="s"), ()),), "donor", FORMULA
    )
    assert found["covariates"]["columns"][0] == {"name": "condition", "kind": "factor", "varies": "within donors"}
    assert [row[0] for row in found["covariates"]["rows"]] == ["True", "False, True"]


def test_very_many_samples_are_not_listed(monkeypatch):
    monkeypatch.setattr(donors, "MOST_SAMPLES", 2)
    assert donors.section((Cells(0, cells(), ()),), "donor", FORMULA)["samples"] is None


@pytest.mark.parametrize("one", [(), (Cells(0, None, ()),)])
def test_nothing_is_known_of_donors(one):
    found = donors.section(one, "donor", FORMULA)
    assert found["donors"] == found["cells"] == found["covariates"]["rows"] == []
    assert found["samples"] is None
