"""Sums of cells per sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from mlmgen import pseudobulk
from mlmgen.types import Groups
from tests.reference import designs


def test_sums_by_hand():
    donor, arm = np.array(["D1", "D1", "D2", "D2", "D2"]), np.array([0, 0, 0, 1, 1])
    X = np.column_stack([np.ones(5), arm])
    design, _ = designs.build(donor, X, ("a", "b"), {}, np.ones(5), sample=np.char.add(donor, arm.astype(str)))
    assert isinstance(design.sample, Groups)
    cells = sparse.csc_matrix(np.array([[1, 0], [2, 0], [3, 0], [4, 0], [5, 7]], dtype=np.int32))
    found = pseudobulk.aggregate(cells, design)
    assert (found.format, found.dtype) == ("csc", np.int32)
    np.testing.assert_array_equal(found.toarray(), [[3, 0], [3, 0], [9, 7]])


@given(
    arrays.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.integers(0, 4)),
    st.data(),
)
def test_sums_of_any_groups(values, data):
    group = data.draw(arrays.arrays(np.int64, len(values), elements=st.integers(0, 3)))
    found = pseudobulk.sums(sparse.csc_matrix(values), group, 4)
    expected = np.stack([values[group == g].sum(axis=0) for g in range(4)])
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.has_canonical_format
    assert (found.data > 0).all()


def test_the_cells_are_left_as_they_were():
    cells = sparse.csc_matrix(np.array([[1], [2]], dtype=np.int32))
    pseudobulk.sums(cells, np.array([0, 0]), 1)
    np.testing.assert_array_equal(cells.toarray(), [[1], [2]])


def test_sums_beyond_32_bits():
    cells = sparse.csc_matrix(np.full((2, 1), 2**31 - 1, dtype=np.int32))
    found = pseudobulk.sums(cells, np.zeros(2, dtype=int), 1)
    assert found.toarray().tolist() == [[2**32 - 2]]
