"""Reading obs columns as factors and numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen.obs_columns import cross, crossed_names, factor, natural_key, read, split


def levels(values, reference=None):
    found = factor(pd.DataFrame({"x": values}), "x", "a.h5ad", reference)
    return found.levels, found.codes.tolist()


def test_natural_order():
    names = ["D10", "d2", "D1", "10", "9", "a b", "a-b", "01", "1"]
    assert sorted(names, key=natural_key) == ["01", "1", "9", "10", "a b", "a-b", "D1", "d2", "D10"]


@pytest.mark.parametrize(
    ("values", "reference", "expected"),
    [
        (["b10", "b9", "b10"], None, (("b9", "b10"), [1, 0, 1])),
        (["b10", "b9", "b10"], "b10", (("b10", "b9"), [0, 1, 0])),
        ([10, 9, 10], None, (("9", "10"), [1, 0, 1])),
        ([10, -9, 10], None, (("-9", "10"), [1, 0, 1])),
        ([2.0, 1.5, 2.0], 2, (("2", "1.5"), [0, 1, 0])),
        ([True, False, True], True, (("True", "False"), [0, 1, 0])),
        (pd.Categorical(["NA", "01", "NA"], ["x", "NA", "01"]), None, (("01", "NA"), [1, 0, 1])),
        (pd.Categorical([3, 1, 3]), 3, (("3", "1"), [0, 1, 0])),
        (["a", "c", "b"], ("b", "z", "a"), (("b", "a", "c"), [1, 2, 0])),
        (pd.Categorical([3, 1, 2]), (2, 3, 1), (("2", "3", "1"), [1, 2, 0])),
        (pd.array(["b", "a", "b"], dtype="string"), None, (("a", "b"), [1, 0, 1])),
        (pd.array([True, False, True], dtype="boolean"), None, (("False", "True"), [1, 0, 1])),
        (pd.array([7, 5, 7], dtype="Int64"), None, (("5", "7"), [1, 0, 1])),
    ],
)
def test_levels(values, reference, expected):
    assert levels(values, reference) == expected


def test_a_reference_that_does_not_occur_is_noted():
    obs = pd.DataFrame({"x": ["b", "a"]})
    assert [factor(obs, "x", "a.h5ad", given).missing_reference for given in ("a", "z", ("z", "a"), ("a", "z"))] == [
        *("", "z", "z", ""),
    ]


def test_which_columns_are_factors():
    columns = {"text": ["1", "2"], "flag": [True, False], "whole": [1, 2], "real": [0.5, 1.5], "group": [3, 4]}
    obs = pd.DataFrame(columns)
    found = read(obs, list(obs.columns), ["group"], {"group": 4}, "a.h5ad")
    assert [name for name, variable in found.items() if variable.is_factor] == ["text", "flag", "group"]
    assert found["group"].categories == (4, 3)
    assert found["whole"].values.tolist() == [1.0, 2.0]


def test_split_by_hand():
    between, within = split(np.array([1.0, 5.0, 3.0, 0.1, 0.1, 0.1]), np.array([0, 1, 0, 2, 2, 2]))
    assert between.tolist() == [2, 5, 2, 0.1, 0.1, 0.1]
    assert within.tolist() == [-1, 0, 1, 0, 0, 0]  # exactly 0 where it does not vary, though 3 * 0.1 / 3 > 0.1


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(0, 3)), min_size=1, max_size=40), st.randoms())
def test_split_does_not_depend_on_the_order_of_cells(cells, random):
    shuffle = list(range(len(cells)))
    random.shuffle(shuffle)
    values, codes = np.array(cells).T
    codes = np.unique(codes, return_inverse=True)[1]
    between, within = split(values, codes)
    shuffled = split(values[shuffle], codes[shuffle])
    np.testing.assert_array_equal(between[shuffle], shuffled[0])
    np.testing.assert_array_equal(within[shuffle], shuffled[1])
    np.testing.assert_allclose(between + within, values, atol=1e-9)


codes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 10**6)), min_size=1, max_size=30)


@given(codes)
def test_cross_numbers_the_distinct_rows_in_order(rows):
    combined, first = cross(*np.array(rows, dtype=np.int64).T)
    distinct = sorted(set(rows))
    assert combined.tolist() == [distinct.index(row) for row in rows]
    assert first.tolist() == [rows.index(row) for row in distinct]


parts = st.lists(st.tuples(*[st.text(alphabet="a:\\", max_size=4)] * 2), min_size=1, max_size=8, unique=True)


@given(parts)
def test_crossed_names_are_unique(rows):
    columns = [([row[i] for row in rows], np.arange(len(rows))) for i in (0, 1)]
    assert len(set(crossed_names(columns))) == len(rows)
