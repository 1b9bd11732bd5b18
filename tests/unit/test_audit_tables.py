"""The tables and words of the null audit, from p-values made up for the purpose."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlmgen import audit_tables, columns
from mlmgen.audit import Audit

G, S = 1000, 4


def audited(log_p=None, injected_log_p=None, injected=None, reason="", distinct=34.0) -> audit_tables.Audited:
    """One contrast in four splits, p-values evenly spread unless given."""
    uniform = np.log((np.arange(G) + 0.5) / G)
    sign = np.zeros(G, dtype=np.int8)
    sign[:100] = np.resize([1, -1], 100)
    made = Audit(
        genes=tuple(f"g{i}" for i in range(G)),
        contrasts=("stim",),
        permuted=("" if reason else "condition",),
        exchanged=("" if reason else "between donors",),
        reasons=(reason,),
        splits=np.array([0.0 if reason else S]),
        distinct=np.array([distinct]),
        log2fc=np.array([1.0]),
        log_pvalue=np.tile(uniform, (1, S, 1)) if log_p is None else log_p[None],
        injected=np.tile(sign, (1, S, 1)) if injected is None else injected[None],
        injected_log_pvalue=np.tile(uniform, (1, S, 1)) if injected_log_p is None else injected_log_p[None],
    )
    return audit_tables.Audited("B cells", "glmm", made)


def row(one) -> dict:
    (found,) = audit_tables.audit([one]).to_dict("records")
    return found


def test_even_p_values_are_nominal():
    found = row(audited())
    assert found["n_tests"] == S * G
    assert [found[f"type1_{level}"] for level in ("05", "01", "001")] == pytest.approx([0.05, 0.01, 0.001])
    assert found["lambda"] == pytest.approx(1.0, abs=1e-3)
    assert found["splits_with_calls"] == 0
    assert found["type1_05_se"] == 0.0


@given(st.integers(0, 60), st.integers(1, 60))
def test_clopper_pearson_is_scipys(successes, more):
    trials = successes + more - 1
    if trials == 0:
        return
    interval = stats.binomtest(successes, trials).proportion_ci(method="exact")
    assert audit_tables.clopper_pearson(successes, trials) == pytest.approx(tuple(interval), abs=1e-12)


def test_injected_effects_are_counted_by_hand():
    # 40 of 100 injected genes and 10 others are called in two splits, none in the other two.
    log_p = np.full((S, G), np.log(0.5))
    log_p[:2, :40] = log_p[:2, 900:910] = -50.0
    found = row(audited(injected_log_p=log_p))
    assert found["power"] == pytest.approx(0.2)
    assert found["fdp"] == pytest.approx(0.1)
    assert found["fdp_se"] == pytest.approx(np.std([0.2, 0.2, 0, 0], ddof=1) / 2)
    assert found["power_se"] == pytest.approx(np.std([0.4, 0.4, 0, 0], ddof=1) / 2)
    assert found["n_injected"] == 100


def test_untested_genes_do_not_count():
    log_p = np.tile(np.log((np.arange(G) + 0.5) / G), (S, 1))
    log_p[:, ::2] = np.nan
    found = row(audited(log_p=log_p, injected_log_p=log_p))
    assert found["n_tests"] == S * G / 2
    assert found["type1_05"] == pytest.approx(0.05)


def test_a_split_with_calls():
    log_p = np.full((S, G), np.log(0.5))
    log_p[2, 0] = np.log(0.04 / G)
    found = row(audited(log_p=log_p))
    assert found["splits_with_calls"] == 1


def test_a_contrast_that_is_not_audited_has_its_row():
    empty = np.empty((0, G))
    found = row(audited(empty, empty, np.empty((0, G), np.int8), reason="nothing to permute", distinct=0.0))
    assert found["reason"] == "nothing to permute"
    assert found["n_splits"] == found["n_tests"] == 0
    assert np.isnan([found["type1_05"], found["lambda"], found["power"]]).all()


def test_qq_points_are_few_sorted_and_on_the_diagonal():
    table = audit_tables.audit_qq([audited()])
    assert len(table) <= 200
    assert (np.diff(table["expected"]) < 0).all()
    assert (np.diff(table["observed"]) <= 0).all()
    assert list(table["rank"].iloc[:3]) == [1, 2, 3]
    assert table["rank"].iloc[-1] == S * G
    np.testing.assert_allclose(table["observed"], table["expected"], atol=np.log10(8))
    middle = table["rank"] > 100
    np.testing.assert_allclose(table["observed"][middle], table["expected"][middle], atol=0.02)


@pytest.mark.parametrize(("name", "make"), [("audit", audit_tables.audit), ("audit_qq", audit_tables.audit_qq)])
def test_columns_and_types_are_those_of_the_registry(name, make):
    for table in (make([]), make([audited()])):
        assert list(table.columns) == columns.names(name)
        for column in columns.TABLES[name]:
            assert str(table[column.name].dtype) == column.dtype


def words(**changes) -> str:
    return audit_tables.words(audit_tables.audit([audited(**changes)]))


def test_words():
    text = words()
    assert "B cells, stim, glmm: p-values hold." in text
    assert (
        "5.0 % of 4,000 p-values were below 0.05 and 0.10 % below 0.001, in 4 of 34 possible permutations; none of "
        "these had a call at 5 % FDR." in text
    )
    assert "(log2 fold change 1) 0 % were found; 0.0 % of the calls were false (standard error 0.0 %), where" in text
    assert "not audited, nothing to permute" in words(
        log_p=np.empty((0, G)),
        injected_log_p=np.empty((0, G)),
        injected=np.empty((0, G), np.int8),
        reason="nothing to permute",
    )
    assert "in all 4 possible permutations;" in words(distinct=4.0)
    assert "in 4 of more than a million possible permutations;" in words(distinct=1e15)
    assert audit_tables.permutations(1, 1.0) == "the only possible permutation"
    assert audit_tables.words(audit_tables.audit([])) == "no contrast was audited"


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.10, 0.11, 0.12, 0.10], "too small"),
        ([0.02, 0.01, 0.02, 0.02], "larger than"),
        ([0.02, 0.20, 0.01, 0.20], "differ too much"),
        ([0.055, 0.05, 0.045, 0.052], "p-values hold"),
        ([0.01, 0.07, 0.02, 0.05], "p-values hold"),
        ([0.061, 0.061, 0.061, 0.061], "too small here"),
    ],
)
def test_verdicts(rates, expected):
    log_p = np.log(np.linspace(0.06, 1, G))
    log_p = np.array([np.where(np.arange(G) < rate * G, np.log(0.01), log_p) for rate in rates])
    assert expected in words(log_p=log_p)


def test_two_permutations_are_not_judged():
    judged = {"type1_05": 0.3, "type1_05_se": 0.01, "type1_05_low": 0.29, "type1_05_high": 0.31}
    assert "too few permutations" in audit_tables.verdict(judged | {"n_splits": 2})
    assert "too small here" in audit_tables.verdict(judged | {"n_splits": 3})
    assert "too few permutations" in audit_tables.verdict(judged | {"n_splits": 1, "type1_05_se": np.nan})


def test_tables_are_sorted_as_given():
    table = audit_tables.audit([audited(), audited()._replace(method="pseudobulk")])
    assert list(table["method"]) == ["glmm", "pseudobulk"]
    assert isinstance(table["method"].dtype, pd.CategoricalDtype)
