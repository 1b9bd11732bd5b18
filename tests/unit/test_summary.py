"""The text at the end of a run, from small tables."""

import dataclasses

import numpy as np
import pandas as pd

from mlmgen import summary


def cell_type(name="B cells", skipped="", warnings=(), true_log2fc=None):
    return summary.CellType(name, 1200, 6, 12, skipped, tuple(warnings), true_log2fc or {}, ("g1", "g2", "g3", "g4"))


def effects(padj, log2fc=(1.0, -1.0, 1.0, 1.0), name="B cells", method="glmm"):
    table = pd.DataFrame({"gene": ["g1", "g2", "g3", "g4"], "log2fc": log2fc, "padj": padj})
    table[["cell_type", "contrast", "method"]] = [name, "stim_vs_ctrl", method]
    return table.astype({"cell_type": "category", "contrast": "category", "method": "category"})


def fits(name="B cells", method="glmm"):
    table = pd.DataFrame({"status": ["converged", "converged", "boundary", "filtered"]})
    table[["cell_type", "method"]] = [name, method]
    return table.astype("category")


def row(text, start):
    """The words of the first line that starts so."""
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


def test_counts_of_cell_types_and_discoveries():
    text = summary.text("demo", [cell_type()], effects([0.01, 0.04, 0.5, np.nan]), fits())
    assert "Run demo" in text
    lines = [line.split() for line in text.splitlines() if line.strip().startswith("B cells")]
    assert lines[0] == ["B", "cells", "6", "12", "1,200", "3"]
    assert lines[1] == ["B", "cells", "stim_vs_ctrl", "glmm", "3", "2", "1", "1"]
    assert row(text, "glmm    filtered") == ["glmm", "filtered", "1"]


def test_what_the_designs_can_find():
    row = {"cell_type": "B cells", "contrast": "stim", "comparison": "within donors", "n_donors": 8}
    row |= {"replicate": "donor:condition", "n_replicates": 16, "df": 7.0, "lfc_detectable": 1.234, "missing": True}
    joint = row | {"contrast": "any", "lfc_detectable": None, "missing": False}
    described = dataclasses.replace(cell_type(), designs=(row, joint))
    text = summary.text("demo", [described], effects([0.01, 0.04, 0.5, np.nan]), fits())
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index(
        "What the designs can find: the log2 fold change with 80 % power at p = 0.001 in a typical gene"
    )
    assert lines[start + 1].split() == [
        "cell",
        "type",
        "contrast",
        "comparison",
        "donors",
        "replicates",
        "df",
        "log2",
        "fold",
        "change",
    ]
    stim, either = (line.split() for line in lines[start + 2 : start + 4])
    assert stim == [
        "B",
        "cells",
        "stim",
        "within",
        "donors",
        "8",
        "16",
        "x",
        "donor:condition",
        "(not",
        "in",
        "the",
        "formula)",
        "7",
        "1.23",
    ]
    assert either == ["B", "cells", "any", "within", "donors", "8", "16", "x", "donor:condition", "7"]
    assert "What the designs" not in summary.text("demo", [cell_type()], effects([1.0] * 4), fits())


def test_no_discovery_at_all():
    text = summary.text("demo", [cell_type()], effects([1.0, 1.0, 1.0, np.nan]), fits())
    assert row(text, "B cells    stim_vs_ctrl")[-3:] == ["0", "0", "0"]


def test_nothing_tested_at_all():
    text = summary.text("demo", [cell_type(skipped="too few donors")], effects([np.nan] * 4, [np.nan] * 4), fits())
    assert row(text, "B cells    stim_vs_ctrl")[-4:] == ["0"] * 4
    assert "B cells: too few donors" in text


def test_truth_is_compared_gene_by_gene():
    truth = {"stim_vs_ctrl": np.array([1.0, 1.0, 0.0, -np.inf])}
    # g1 found; g2 found with the wrong sign; g3 a false call; g4 a true effect that was not tested.
    text = summary.text("demo", [cell_type(true_log2fc=truth)], effects([0.01, 0.01, 0.01, np.nan]), fits())
    assert (
        "glmm, stim_vs_ctrl: found 2 of 3 true effects (1 of them not tested); "
        "1 of 3 calls were false, 1 more had the wrong sign."
    ) in text


def test_truth_adds_up_over_cell_types_and_methods_stay_apart():
    truth = {"stim_vs_ctrl": np.array([1.0, 0.0, 0.0, 0.0])}
    both = pd.concat(
        [
            effects([0.01, 1, 1, 1], name="B"),
            effects([1, 1, 1, 1], name="T"),
            effects([0.01, 1, 1, 1], name="B", method="pseudobulk"),
            effects([0.01, 1, 0.01, 1], name="T", method="pseudobulk"),
        ]
    )
    both = both.astype(dict.fromkeys(("cell_type", "method", "contrast"), "category"))
    cell_types = [cell_type(name, true_log2fc=truth) for name in ("B", "T")]
    text = summary.text("demo", cell_types, both, fits("B"))
    assert "glmm, stim_vs_ctrl: found 1 of 2 true effects (0 of them not tested); 0 of 1 calls were false." in text
    assert (
        "pseudobulk, stim_vs_ctrl: found 2 of 2 true effects (0 of them not tested); 1 of 3 calls were false." in text
    )


def test_real_data_have_no_word_about_truth():
    assert "truth" not in summary.text("demo", [cell_type()], effects([0.01, 1, 1, 1]), fits())


def test_a_warning_of_several_cell_types_is_said_once():
    cell_types = [cell_type("B", warnings=["donors differ"]), cell_type("T", warnings=["donors differ"])]
    text = summary.text("demo", cell_types, effects([1, 1, 1, 1], name="B"), fits("B"))
    assert text.count("donors differ") == 1
    assert "B, T: donors differ" in text


def test_columns_line_up_with_numbers_on_the_right():
    assert summary.aligned([["name", "n"], ["a", 5], ["long name", 1200]]).splitlines() == [
        "name           n",
        "a              5",
        "long name  1,200",
    ]
