"""Sums of cells per sample."""

import numpy as np
from scipy import sparse

from mlmgen.types import Design


def aggregate(X: sparse.csc_matrix, design: Design) -> sparse.csc_matrix:
    """Sum the counts of the cells of each sample.

    Parameters
    ----------
    X : (n, G) CSC of int
        Rows in the order of the design.
    design : Design
        Of the cells, S samples.

    Returns
    -------
    (S, G) CSC of int32
        Rows in the order of ``design.sample.levels``, row indices increasing within a gene; int64 where a
        sum does not fit.
    """
    sample = design.sample.codes[design.pattern]
    return sums(X, sample, len(design.sample.levels))


def sums(X: sparse.csc_matrix, group: np.ndarray, n_groups: int) -> sparse.csc_matrix:
    """Sum the rows of each group.

    Parameters
    ----------
    X : (n, G) CSC of int
    group : (n,) int
        The group of each row, from 0.
    n_groups : int

    Returns
    -------
    (n_groups, G) CSC of int32, or of int64 where a sum does not fit
    """
    rows = np.asarray(group, dtype=X.indices.dtype)[X.indices]
    summed = sparse.csc_matrix((X.data.astype(np.int64), rows, X.indptr.copy()), shape=(n_groups, X.shape[1]))
    summed.sum_duplicates()
    summed.sort_indices()
    if not summed.nnz or summed.data.max() <= np.iinfo(np.int32).max:
        summed.data = summed.data.astype(np.int32)
    return summed
