"""Responses of an AnnData and of a data frame: values, size factors, and what is refused."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from mlmgen.errors import UserError
from mlmgen.notebook import responses

FEW_GENES = "ignore:.* of the counts of .* genes"
pytestmark = pytest.mark.filterwarnings(FEW_GENES)
COUNTS = np.array([[1, 0, 3], [0, 2, 2], [5, 0, 1], [2, 2, 0]])


def cells(matrix=COUNTS, **more):
    obs = pd.DataFrame({"donor": list("aabb"), "depth": [0.5, 1.0, 1.5, 2.0]}, index=[f"cell{i}" for i in range(4)])
    return ad.AnnData(np.array(matrix, dtype=np.float32), obs, pd.DataFrame(index=["g1", "g2", "g3"]), **more)


def table(**columns):
    return pd.DataFrame({"y": [0, 2, 1, 4], "x": [1.0, 2.0, 3.0, 4.0], "group": list("aabb")} | columns)


def message(*arguments, **options):
    with pytest.raises(UserError) as caught:
        responses.read(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y ~ x", ("y", "~ x")),
        ("~ x", ("", "~ x")),
        ("  my_y~x", ("my_y", "~x")),
        ("`a ~ b` ~ x", ("a ~ b", "~ x")),
        ("log(y) ~ x", ("log(y)", "~ x")),
        ("x + (1 | g)", ("", "x + (1 | g)")),
        ("y ~ x + `a~b`", ("y", "~ x + `a~b`")),
    ],
)
def test_the_response_is_what_stands_before_the_tilde(formula, expected):
    assert responses.split(formula) == expected


def test_every_gene_of_an_anndata_is_a_response():
    read = responses.read(cells(), "~ 1 + (1 | donor)", "nb")
    assert (read.kind, read.names, read.formula) == ("gene", ("g1", "g2", "g3"), "~ 1 + (1 | donor)")
    np.testing.assert_array_equal(read.values.toarray(), COUNTS)
    np.testing.assert_allclose(read.size_factor, COUNTS.sum(axis=1) / COUNTS.sum(axis=1).mean())


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asarray])
def test_matrices_of_every_kind_are_read_and_never_changed(kind):
    data = cells()
    data.X = kind(COUNTS.astype(np.float32))
    if sparse.issparse(data.X):
        data.X.data[0] = 0.0  # a stored zero
        stored = data.X.data.copy()
    read = responses.read(data, "~ 1", "poisson", size_factors=None)
    assert read.values.indices.size == np.count_nonzero(data.X.toarray() if sparse.issparse(data.X) else data.X)
    if sparse.issparse(data.X):
        np.testing.assert_array_equal(data.X.data, stored)


def test_some_genes_keep_the_size_factors_of_all():
    some = responses.read(cells(), "~ 1", "nb", responses=["g3", "g1"])
    assert some.names == ("g3", "g1")
    np.testing.assert_array_equal(some.values.toarray(), COUNTS[:, [2, 0]])
    np.testing.assert_array_equal(some.size_factor, responses.read(cells(), "~ 1", "nb").size_factor)


def test_size_factors_of_one_gene_are_warned_of():
    """Cut to two genes, the totals of cells are 1, 2, 5, 4 and mostly g1 = 1, 0, 5, 2."""
    few = cells()[:, ["g1", "g2"]].copy()
    with pytest.warns(UserWarning, match=r"^g1 has 67% of the counts of 2 genes.* responses=\[...\]"):
        responses.read(few, "~ 1", "nb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert responses.read(few, "~ 1", "nb", size_factors="library").size_factor is not None


def test_layers_and_raw():
    data = cells(layers={"doubled": 2 * COUNTS})
    data.raw = cells(matrix=COUNTS + 1)
    assert responses.read(data, "~ 1", "nb", layer="layers/doubled").values.sum() == 2 * COUNTS.sum()
    assert responses.read(data, "~ 1", "nb", layer="raw").values.sum() == COUNTS.sum() + 12
    assert "Did you mean 'doubled'?" in message(data, "~ 1", "nb", layer="layers/doubeld")
    assert "has no raw" in message(cells(), "~ 1", "nb", layer="raw")


def test_gaussian_genes_are_log_normalized():
    read = responses.read(cells(), "~ 1", "gaussian", size_factors="obs/depth")
    np.testing.assert_allclose(read.values.toarray(), np.log1p(COUNTS / np.array([[0.5], [1.0], [1.5], [2.0]])))
    assert read.size_factor is None


def test_bernoulli_asks_whether_a_count_is_positive():
    read = responses.read(cells(), "~ 1", "bernoulli")
    np.testing.assert_array_equal(read.values.toarray(), COUNTS > 0)
    assert read.size_factor is not None


@pytest.mark.parametrize("given_as", ["obs/depth", "depth", np.array([0.5, 1.0, 1.5, 2.0]), [0.5, 1.0, 1.5, 2.0]])
def test_size_factors_of_ones_own(given_as):
    read = responses.read(cells(), "~ 1", "nb", size_factors=given_as)
    assert read.size_factor.tolist() == [0.5, 1.0, 1.5, 2.0]


def test_size_factors_that_are_refused():
    assert "Did you mean 'depth'?" in message(cells(), "~ 1", "nb", size_factors="obs/detph")
    assert "(3,) for 4 rows" in message(cells(), "~ 1", "nb", size_factors=np.ones(3))
    assert "not positive" in message(cells(), "~ 1", "nb", size_factors=[1.0, 0.0, 1.0, 1.0])
    empty = cells(matrix=COUNTS * np.array([[0], [1], [1], [1]]))
    assert "1 of 4 cells have not a single count" in message(empty, "~ 1", "nb")
    assert "there are no size factors 'library'" in message(table(), "y ~ x", "nb", size_factors="library")


def test_what_is_wrong_with_counts_is_said_with_the_place():
    wrong = COUNTS.astype(float)
    wrong[3, 1], wrong[1, 1], wrong[2, 2] = 1.5, 2.5, 0.25
    text = message(cells(matrix=wrong, layers={"counts": COUNTS}), "~ 1", "nb")
    assert "'g2' has 2 values that are not counts: 2.5 in row cell1 is not a whole number" in text
    assert "Set layer to layers/counts" in text
    assert "-3 in row cell2 is negative" in message(cells(matrix=np.where(COUNTS == 5, -3, COUNTS)), "~ 1", "nb")


def test_columns_of_a_data_frame_are_responses():
    read = responses.read(table(), "y ~ x", "nb")
    assert (read.kind, read.names, read.formula, read.size_factor) == ("response", ("y",), "~ x", None)
    assert read.values.toarray().ravel().tolist() == [0, 2, 1, 4]
    several = responses.read(table(z=[1, 1, 0, 2]), "~ x", "nb", responses=["z", "y"], size_factors="obs/x")
    assert several.names == ("z", "y")
    assert several.values.toarray().T.tolist() == [[1, 1, 0, 2], [0, 2, 1, 4]]
    assert several.size_factor.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "y",
    [[True, False, True, True], [1, 0, 1, 1], [3, 0, 9, 1], pd.array([1, 0, 1, 1], "Int64"), np.array([1.0, 0, 1, 1])],
)
def test_outcomes_of_two_kinds(y):
    read = responses.read(table(y=y), "y ~ x", "bernoulli")
    assert read.values.toarray().ravel().tolist() == [1, 0, 1, 1]


def test_numbers_of_a_gaussian_response_stay_as_they_are():
    read = responses.read(table(y=[-1.5, 0.0, 2.25, 1e6]), "y ~ x", "gaussian")
    assert read.values.toarray().ravel().tolist() == [-1.5, 0.0, 2.25, 1e6]


@pytest.mark.parametrize(
    ("columns", "formula", "family", "words"),
    [
        ({"y": [1.0, np.nan, 2.0, np.nan]}, "y ~ x", "nb", ["missing or infinite in 2 of 4 rows, first 1", "dropna"]),
        ({"y": [1.0, 0.5, 2.0, 1.0]}, "y ~ x", "poisson", ["0.5 in row 1 is not a whole number", "family='gaussian'"]),
        ({"y": [1, -2, 2, 1]}, "y ~ x", "bernoulli", ["-2 in row 1 is negative"]),
        ({"y": list("abab")}, "y ~ x", "bernoulli", ["not numbers", "as 0 and 1"]),
        ({}, "grup ~ x", "nb", ["no column 'grup'", "Did you mean 'group'?"]),
        ({}, "log(y) ~ x", "gaussian", ["no column 'log(y)'", "Compute it as a column first"]),
        ({}, "~ x", "nb", ["no response is named"]),
    ],
)
def test_problems_of_a_response_name_the_column_and_the_row(columns, formula, family, words):
    text = message(table(**columns), formula, family)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("family", "meant"),
    [
        *(("binomial", "bernoulli"), ("Logistic", "bernoulli"), ("NB", "nb"), ("negative_binomial", "nb")),
        *(("nbinom2", "nb"), ("normal", "gaussian"), ("Gaussian", "gaussian"), ("Poisson", "poisson")),
    ],
)
def test_families_by_their_other_names(family, meant):
    text = message(table(), "y ~ x", family)
    assert f"there is no family {family!r}" in text
    assert f"Did you mean {meant!r}?" in text


def test_an_outcome_in_words_is_told_how_to_be_a_number():
    text = message(table(y=["yes", "no", "yes", "no"]), "y ~ x", "bernoulli")
    assert "as True and False, as data['y'] == 'yes'." in text


def test_no_response_at_all():
    assert "no response is named" in message(cells(), "~ 1", "nb", responses=[])


def test_other_refusals():
    assert "every gene is a response" in message(cells(), "y ~ 1", "nb")
    assert "Did you mean 'gaussian'?" in message(table(), "y ~ x", "gausian")
    assert "are a list" in message([1, 2], "y ~ x", "nb")
    assert "names the response 'y', and responses others" in message(table(), "y ~ x", "nb", responses=["x"])
    assert "no layers" in message(table(), "y ~ x", "nb", layer="X")
    assert "there are no rows" in message(table().iloc[:0], "y ~ x", "nb")
    assert "no gene 'g9'" in message(cells(), "~ 1", "nb", responses=["g9"])
    twice = cells()
    twice.var_names = ["g1", "g2", "g1"]
    assert "1 gene names occur more than once: g1" in message(twice, "~ 1", "nb")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=8), st.data())
def test_the_first_bad_value_of_a_column_is_found(values, data):
    values = np.array(values, dtype=float)
    row, column = data.draw(st.integers(0, len(values) - 1)), data.draw(st.integers(0, 2))
    values[row, column] += 0.5
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    with pytest.raises(UserError, match=f"'{'abc'[column]}' has 1 values .* in row {row} is not a whole"):
        responses.read(frame, "~ 1", "nb", responses=["a", "b", "c"])
