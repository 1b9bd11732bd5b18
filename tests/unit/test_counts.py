"""The matrix of counts: what is refused, and the statistics of genes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from mlmgen import counts
from mlmgen.errors import UserError

ROWS = np.array([[1, 0, 2, 0], [0, 0, 3, 0], [4, 0, 0, 0], [0, 5, 1, 0]])
MATRICES = arrays.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.integers(0, 3))


def whole(values, others=()):
    X = sparse.csr_matrix(values)
    X.data = counts.whole(X.data, 0, "a.h5ad, X", lambda: list(others))
    return X


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_counts_of_every_type(dtype):
    found = whole(ROWS.astype(dtype))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found.toarray(), ROWS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            0.693147,
            "1 of the first 6 stored values is not a whole number (0.693147): these are normalized values",
        ),
        (-2, "1 of the first 6 stored values is negative (-2): these are scaled or corrected values"),
        (np.nan, "1 of the first 6 stored values is not finite (nan)"),
        (np.inf, "1 of the first 6 stored values is not finite (inf)"),
        (3e9, "1 of the first 6 stored values is above 2^31 - 1 (3e+09)"),
    ],
)
def test_values_that_are_no_counts(value, expected):
    values = ROWS.astype(float)
    values[3, 1] = value
    with pytest.raises(UserError) as error:
        whole(values)
    assert error.value.what.startswith(expected)
    assert error.value.where == "a.h5ad, X"
    assert "No other matrix" in error.value.do


def test_examples_and_the_matrix_that_holds_counts():
    with pytest.raises(UserError) as error:
        whole(np.log1p(ROWS), ["raw", "layers/counts"])
    assert "6 of the first 6 stored values are not whole numbers (0.693147, 1.09861, 1.38629)" in error.value.what
    assert error.value.do == "Set counts to raw or layers/counts, where whole numbers are"


def test_the_gravest_problem_is_named():
    with pytest.raises(UserError, match="2 of the first 3 stored values are negative"):
        whole(np.array([[-1.5, -0.5, 0.25]]))


def test_values_that_are_no_numbers():
    with pytest.raises(UserError, match="complex128, not numbers"):
        whole(ROWS.astype(complex))


def test_gene_major_keeps_the_order_of_rows_and_adds_duplicates():
    duplicated = sparse.csr_matrix(
        (np.array([1, 2, 7], dtype=np.int32), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2)
    )
    found = counts.gene_major(duplicated, np.array([1, 0]))
    assert found.format == "csc"
    np.testing.assert_array_equal(found.toarray(), [[0, 7], [3, 0]])
    assert found.nnz == 2


def test_statistics_by_hand():
    found = counts.gene_statistics(whole(ROWS).tocsc(), np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(found["n_cells_expressing"], np.array([2, 1, 3, 0], dtype=np.int32), strict=True)
    np.testing.assert_array_equal(found["n_donors_expressing"], np.array([2, 1, 2, 0], dtype=np.int32), strict=True)
    np.testing.assert_array_equal(found["total_count"], [5.0, 5.0, 6.0, 0.0])
    np.testing.assert_array_equal(found["mean_count"], [1.25, 1.25, 1.5, 0.0])
    np.testing.assert_array_equal(found["pct_cells"], [50.0, 25.0, 75.0, 0.0])


@given(MATRICES, st.integers(1, 5), st.data())
def test_statistics_do_not_depend_on_the_blocks(values, block, data):
    donor = np.sort(data.draw(arrays.arrays(np.int64, len(values), elements=st.integers(0, 3))))
    X = sparse.csc_matrix(values.astype(np.int32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "BLOCK", block)
        found = counts.gene_statistics(X, donor)
    for g, column in enumerate(values.T):
        assert found["n_donors_expressing"][g] == len(set(donor[column > 0]))
        assert found["n_cells_expressing"][g] == (column > 0).sum()
        assert found["total_count"][g] == column.sum()


def test_statistics_of_no_cells():
    found = counts.gene_statistics(sparse.csc_matrix((0, 3), dtype=np.int32), np.zeros(0, dtype=int))
    assert all((values == 0).all() and len(values) == 3 for values in found.values())
