"""The matrix of counts: checks, totals, the genes of a cell type."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from mlmgen.errors import UserError

BLOCK = 1 << 24  # stored values looked at together: bounds the memory of temporary arrays
LARGEST = np.iinfo(np.int32).max
EXAMPLES = 3  # wrong values shown in a message


def whole_counts(X: sparse.csr_matrix, where: str, alternatives: Callable[[], Sequence[str]]) -> sparse.csr_matrix:
    """Check that a matrix holds raw counts.

    Parameters
    ----------
    X : (n, G) CSR, any real dtype
        Not to be used afterwards: its arrays may be shared or changed.
    where : str
        The file and the matrix in it, for messages.
    alternatives : callable
        Returns the names of other matrices of the file that seem to hold counts.

    Returns
    -------
    (n, G) CSR int32
        Without stored zeros.

    Raises
    ------
    UserError
        For values that are not finite, negative, fractional or above 2^31 - 1, with examples.
    """
    if X.dtype.kind not in "buif":
        raise UserError(f"the values are of type {X.dtype}, not numbers", where, "Give raw counts")
    data = np.empty(len(X.data), dtype=np.int32)
    for start in range(0, len(data), BLOCK):
        block = X.data[start : start + BLOCK]
        if not _all_counts(block):
            raise _not_counts(X.data, where, alternatives)
        data[start : start + BLOCK] = block
    counts = sparse.csr_matrix((data, X.indices, X.indptr), shape=X.shape)
    if not data.all():
        counts.eliminate_zeros()
    if counts.nnz == 0:
        raise UserError(
            "there is not a single count", where, "Set counts to X, raw or layers/<name>, where the raw counts are"
        )
    return counts


def _all_counts(block: np.ndarray) -> bool:
    # NaN makes the minimum NaN, and infinity is above the largest: both comparisons are then false.
    in_range = block.min() >= 0 and block.max() <= LARGEST
    return bool(in_range and (block.dtype.kind != "f" or np.array_equal(block, np.rint(block))))


def _not_counts(data: np.ndarray, where: str, alternatives: Callable[[], Sequence[str]]) -> UserError:
    """Say what is wrong with values, the gravest first."""
    finite = np.isfinite(data)
    problems = (
        (~finite, "are not finite", "the matrix is damaged or has missing values"),
        (data < 0, "are negative", "these are scaled or corrected values, not raw counts"),
        (finite & (data != np.rint(data)), "are not whole numbers", "these are normalized values, not raw counts"),
        (data > LARGEST, "are above 2^31 - 1", "these are not counts of molecules"),
    )
    wrong, kind, meaning = next(problem for problem in problems if problem[0].any())
    shown = ", ".join(f"{value:.6g}" for value in data[wrong][:EXAMPLES])
    seen = f"{wrong.sum():,} of {len(data):,} stored values {kind} ({shown}): {meaning}"
    others = alternatives()
    if others:
        return UserError(seen, where, f"Set counts to {' or '.join(others)}, where whole numbers are")
    return UserError(
        seen, where, "No other matrix of this file holds whole numbers: give a file that has the raw counts"
    )


def totals(X: sparse.csr_matrix) -> np.ndarray:
    """Return the total count of each cell, (n,) float64."""
    return X @ np.ones(X.shape[1])


def gene_major(X: sparse.csr_matrix, rows: np.ndarray) -> sparse.csc_matrix:
    """Return some cells in the order given, (n, G) CSC with row indices increasing within a gene."""
    chosen = X[rows].tocsc()
    chosen.sum_duplicates()
    return chosen


def gene_statistics(X: sparse.csc_matrix, donor: np.ndarray) -> dict[str, np.ndarray]:
    """Summarize each gene over the cells of a cell type.

    Parameters
    ----------
    X : (n, G) CSC int32
        Row indices increasing within a gene, no stored zeros.
    donor : (n,) int
        Donor of each row, rows of a donor together.

    Returns
    -------
    dict of str to (G,) array
        ``n_cells_expressing``, ``n_donors_expressing`` int32; ``total_count``, ``mean_count`` (counts per
        cell), ``pct_cells`` (0 to 100) float64.
    """
    n, G = X.shape
    expressing = np.diff(X.indptr)
    total = np.asarray(X.sum(axis=0, dtype=np.float64)).ravel()
    donors = np.zeros(G, dtype=np.int32)
    # Columns in groups of about BLOCK values.
    bounds = np.unique(np.searchsorted(X.indptr, np.arange(0, X.nnz + BLOCK, BLOCK)).clip(0, G))
    for first, last in zip(np.append(0, bounds), np.append(bounds, G), strict=True):
        start, stop = X.indptr[first], X.indptr[last]
        if stop > start:
            donors[first:last] = _changes(donor[X.indices[start:stop]], X.indptr[first : last + 1] - start)
    cells = max(n, 1)
    return {
        "n_cells_expressing": expressing.astype(np.int32),
        "n_donors_expressing": donors,
        "total_count": total,
        "mean_count": total / cells,
        "pct_cells": 100.0 * expressing / cells,
    }


def _changes(group: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Count the runs of equal values within each segment."""
    new = np.ones(len(group), dtype=bool)
    new[1:] = group[1:] != group[:-1]
    new[indptr[:-1][np.diff(indptr) > 0]] = True
    before = np.concatenate([[0], np.cumsum(new)])
    return before[indptr[1:]] - before[indptr[:-1]]
