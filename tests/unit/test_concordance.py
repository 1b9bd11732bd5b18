"""Both methods side by side, from hand-made records: disagreements, their causes, and stability."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import agreement, columns, concordance, tables
from mlmgen.stability import LeftOut
from tests.unit.test_tables import GENES, results

NAMES = ["stim_vs_ctrl"]


def made(method: str, log2fc, pvalue, error=0.5, cell_type="B") -> tables.Results:
    """Three genes with effects in log2."""
    plain = results(cell_type, method, pvalues=pvalue)
    estimate, wide = np.array(log2fc, dtype=float)[:, None] * tables.LOG2, np.full((3, 1), error * tables.LOG2)
    statistic = np.sign(estimate) * np.array([[3.0], [2.0], [1.0]])
    effects = dataclasses.replace(plain.effects, estimate=estimate, std_error=wide, statistic=statistic)
    status = np.array([0, 1, 2], dtype=np.int8)
    return dataclasses.replace(plain, effects=effects, fits=dataclasses.replace(plain.fits, status=status))


def left_out(p, hit=(True, True, False), cell_type="B") -> LeftOut:
    """Three donors; the p-values of each gene without them, and estimates of 1."""
    log_p = np.log(np.array(p, dtype=float))[:, None]
    yes = np.ones((3, 3), dtype=bool)
    return LeftOut(
        GENES, ("stim_vs_ctrl",), ("D1", "D2", "D3"), np.array(hit)[:, None], yes, yes[:1], np.ones((3, 1, 3)), log_p
    )


def both(cells: tables.Results, sums: tables.Results, left=None, weighted=False):
    pair = [cells, sums]
    effects = tables.effects(pair, NAMES, weighted)
    steady = None if left is None else concordance.stability(pair, left, effects, weighted)
    return concordance.concordance(pair, effects, steady).set_index("gene")


def test_effects_stand_side_by_side():
    table = both(made("glmm", [2, 1, -1], [0.01, 0.5, 0.9]), made("pseudobulk", [1.9, 1, -1], [0.02, 0.4, 0.8]))
    assert len(table) == 3
    row = table.loc["g1"]
    assert (row["log2fc_glmm"], row["log2fc_pseudobulk"]) == pytest.approx((2.0, 1.9))
    assert (row["pvalue_glmm"], row["padj_pseudobulk"]) == pytest.approx((0.01, 0.06))
    assert (row["status_glmm"], row["gene_name"]) == ("converged", "A")
    assert set(table["disagree"]) == {"no"}
    assert set(table["reason"]) == {""}


def test_difference_by_hand():
    # Equal errors: a fifth of them is left. Errors of 0.5 and 0.3: sqrt(0.25 - 0.09 + 0.01).
    found = agreement.difference(np.array([1.0, 1.0]), np.array([0.9, 0.0]), np.full(2, 0.5), np.array([0.5, 0.3]))
    np.testing.assert_allclose(found, [0.1 / 0.1, 1.0 / np.sqrt(0.17)])


@given(*[st.floats(-3, 3)] * 2, *[st.floats(0.01, 3)] * 2, st.floats(0.1, 10))
def test_difference_knows_no_order_and_no_unit(a, b, s, t, scale):
    arrays = [np.array([value]) for value in (a, b, s, t)]
    found = agreement.difference(*arrays)
    np.testing.assert_allclose(agreement.difference(arrays[1], arrays[0], arrays[3], arrays[2]), -found)
    np.testing.assert_allclose(agreement.difference(*(scale * x for x in arrays)), found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("log2fc", "pvalues", "disagree"),
    [
        ((0.05, -0.05), (0.04, 0.04), True),  # opposite signs, both with evidence
        ((0.05, -0.05), (0.04, 0.06), False),
        ((1.0, 0.9), (0.001, 0.11), True),  # called by one, nothing in the other
        ((1.0, 0.9), (0.001, 0.09), False),
        ((0.9, 1.0), (0.11, 0.001), True),
        ((0.5, 0.19), (0.5, 0.5), True),  # 0.31 is 3.1 times a fifth of 0.5
        ((0.5, 0.21), (0.5, 0.5), False),
    ],
)
def test_disagreements_by_hand(log2fc, pvalues, disagree):
    cells = made("glmm", [log2fc[0], 1, 1], [pvalues[0], 0.9, 0.9])
    sums = made("pseudobulk", [log2fc[1], 1, 1], [pvalues[1], 0.9, 0.9])
    table = both(cells, sums)
    assert table["disagree"].to_dict() == {"g1": "yes" if disagree else "no", "g2": "no", "g3": "no"}
    assert (table.loc["g1", "reason"] != "") == disagree


def row(**changes) -> dict:
    plain = {"mean_count": 10.0, "n_cells": 100, "dispersion": 0.4}
    for method in concordance.METHODS:
        facts = {
            "status": "converged",
            "stable": "",
            "loo_worst_donor": "",
            "loo_worst_p": np.nan,
            "pvalue": 0.01,
            "between": 0.1,
        }
        plain |= {f"{name}_{method}": value for name, value in facts.items()}
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "cells", "expected"),
    [
        ({}, [50, 50], "no single cause found"),
        (
            {"stable_glmm": "no", "loo_worst_donor_glmm": "D4", "loo_worst_p_glmm": 0.312},
            [50, 50],
            "donor D4 carries it: p of glmm is 0.31 without it",
        ),
        ({"stable_glmm": "no", "loo_worst_p_glmm": 0.3, "pvalue_glmm": 0.2}, [50, 50], "no single cause found"),
        (
            {"stable_pseudobulk": "not_estimable", "loo_worst_donor_pseudobulk": "D1"},
            [50, 50],
            "the contrast cannot be estimated without donor D1",
        ),
        ({}, [50, 9], "few cells: 1 of 2 samples have under 10, which pseudobulk weighs nearly as others"),
        ({"status_glmm": "separated"}, [50, 50], "no counts at all in one of the groups compared"),
        (
            {"between_glmm": 0.0},
            [50, 50],
            "the variance between samples is estimated as 0 by glmm and 0.1 by pseudobulk",
        ),
        ({"between_glmm": 0.0, "between_pseudobulk": 0.0}, [50, 50], "no single cause found"),
        ({"between_glmm": 0.005, "between_pseudobulk": 0.0}, [50, 50], "no single cause found"),
        ({"dispersion": 17.4}, [50, 50], "single cells hold much of the sums: dispersion 17 between cells"),
        ({"dispersion": np.nan, "between_glmm": np.nan}, [50, 50], "no single cause found"),
        ({"mean_count": 0.09}, [50, 50], "low counts: 9 in 2 samples"),
        (
            {"mean_count": 0.09, "status_pseudobulk": "separated"},
            [50, 50],
            "no counts at all in one of the groups compared; low counts: 9 in 2 samples",
        ),
    ],
)
def test_causes_by_hand(changes, cells, expected):
    assert concordance.reason(row(**changes), np.array(cells)) == expected


def test_leaving_out_donors_is_told_for_what_is_reported():
    cells = made("glmm", [2, 1, 1], [0.01, 0.4, 0.5])
    sums = made("pseudobulk", [2, 1, 1], [0.02, 0.4, 0.5])
    left = {
        ("B", "glmm"): left_out([[0.01, 0.2, 0.02], [0.9, 0.8, 0.7], [0.5] * 3]),
        ("B", "pseudobulk"): left_out([[0.01, 0.03, 0.02], [0.9, 0.8, 0.7], [0.5] * 3]),
    }
    table = both(cells, sums, left)
    one = table.loc["g1"]
    assert (one["stable_glmm"], one["loo_worst_donor_glmm"], one["loo_worst_p_glmm"]) == ("no", "D2", 0.2)
    assert (one["stable_pseudobulk"], one["loo_same_sign_glmm"]) == ("yes", "yes")
    # One call among three tests would need 0.05 / 3; only the p-value without D1 is below.
    assert one["loo_calls_glmm"] == pytest.approx(1 / 3)
    assert table.loc["g3", ["stable_glmm", "loo_worst_donor_glmm", "loo_same_sign_glmm"]].tolist() == ["", "", ""]
    assert table.loc["g3", ["loo_worst_p_glmm", "loo_calls_glmm"]].isna().all()


def test_a_table_of_stability_has_the_reported_effects_of_one_method():
    cells = made("glmm", [2, 1, 1], [0.01, 0.4, np.nan])
    left = {("B", "glmm"): left_out([[0.01, 0.2, 0.02], [0.9, 0.8, 0.7], [0.5] * 3], hit=(True, True, True))}
    table = concordance.stability([cells], left, tables.effects([cells], NAMES), False)
    assert list(table.columns) == columns.names("stability")
    assert table["gene"].tolist() == ["g1", "g2"]  # g3 was not tested by this method
    assert table["stable"].tolist() == ["no", "no"]
    assert table["pvalue"].tolist() == pytest.approx([0.01, 0.4])


def test_nothing_reported_and_nothing_tested_give_empty_tables():
    cells = made("glmm", [2, 1, 1], [np.nan] * 3)
    effects = tables.effects([cells], NAMES)
    nothing = left_out([[0.5] * 3] * 3, hit=(False,) * 3)
    table = concordance.stability([cells], {("B", "glmm"): nothing}, effects, False)
    assert table.shape == (0, len(columns.TABLES["stability"]))
    sums = made("pseudobulk", [2, 1, 1], [np.nan] * 3)
    assert both(cells, sums).shape == (0, len(columns.TABLES["concordance"]) - 1)


def test_what_the_methods_disagree_about_comes_first():
    cells = made("glmm", [2, 1, 1], [0.001, 0.02, 0.0005])
    sums = made("pseudobulk", [2, 1, -1], [0.001, 0.02, 0.04])
    assert both(cells, sums).index.tolist() == ["g3", "g1", "g2"]


def test_columns_have_the_registered_types_with_and_without_left_out_donors():
    pair = (made("glmm", [2, 1, 1], [0.01, 0.4, 0.5]), made("pseudobulk", [2, 1, 1], [0.02, 0.4, 0.5]))
    left = {("B", method): left_out([[0.01] * 3, [0.9] * 3, [0.5] * 3]) for method in concordance.METHODS}
    expected = {c.name: "object" if c.dtype == "str" else c.dtype for c in columns.TABLES["concordance"]}
    for given_left in (None, left):
        table = both(*pair, given_left).reset_index()[columns.names("concordance")]
        assert {name: str(dtype) for name, dtype in table.dtypes.items()} == expected
