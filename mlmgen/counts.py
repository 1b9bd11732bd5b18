"""The matrix of counts: checks of its values, the genes of a cell type."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from mlmgen.errors import UserError
from mlmgen.types import Counts, Design

BLOCK = 1 << 20  # stored values looked at together: bounds the memory of temporary arrays
LARGEST = int(np.iinfo(np.int32).max)
EXAMPLES = 3  # wrong values shown in a message


def whole(values: np.ndarray, before: int, where: str, alternatives: Callable[[], Sequence[str]]) -> np.ndarray:
    """Check that values are raw counts, and return them as int32.

    Parameters
    ----------
    values : (m,) array, any dtype
    before : int
        How many values of the matrix were checked before these, for messages.
    where : str
        The file and the matrix in it, for messages.
    alternatives : callable
        Returns the names of other matrices of the file that seem to hold counts.

    Returns
    -------
    (m,) int32

    Raises
    ------
    UserError
        For values that are not finite, negative, fractional or above 2^31 - 1, with examples.
    """
    if values.dtype.kind not in "buif":
        raise UserError(f"the values are of type {values.dtype}, not numbers", where, "Give raw counts")
    counts = np.empty(len(values), dtype=np.int32)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        if not _all_counts(block):
            raise _not_counts(block, before + start + len(block), where, alternatives)
        counts[start : start + BLOCK] = block
    return counts


def _all_counts(block: np.ndarray) -> bool:
    # NaN makes the minimum NaN, and infinity is above the largest: both comparisons are then false.
    in_range = block.min() >= 0 and float(block.max()) <= LARGEST  # float16 cannot hold the largest
    return bool(in_range and (block.dtype.kind != "f" or np.array_equal(block, np.rint(block))))


def _not_counts(data: np.ndarray, read: int, where: str, alternatives: Callable[[], Sequence[str]]) -> UserError:
    """Say what is wrong with values, the last of those read so far; the gravest first."""
    data = data.astype(np.float64) if data.dtype.kind == "f" else data
    finite = np.isfinite(data)
    problems = (
        (~finite, "not finite", "the matrix is damaged or has missing values"),
        (data < 0, "negative", "these are scaled or corrected values, not raw counts"),
        (finite & (data != np.rint(data)), "not whole numbers", "these are normalized values, not raw counts"),
        (data > LARGEST, "above 2^31 - 1", "these are not counts of molecules"),
    )
    wrong, kind, meaning = next(problem for problem in problems if problem[0].any())
    shown = ", ".join(f"{value:.6g}" for value in data[wrong][:EXAMPLES])
    found = f"is {kind.replace('whole numbers', 'a whole number')}" if wrong.sum() == 1 else f"are {kind}"
    seen = f"{wrong.sum():,} of the first {read:,} stored values {found} ({shown}): {meaning}"
    others = alternatives()
    if others:
        return UserError(seen, where, f"Set counts to {' or '.join(others)}, where whole numbers are")
    return UserError(
        seen, where, "No other matrix of this file holds whole numbers: give a file that has the raw counts"
    )


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


def log_normalized(counts: Counts, design: Design) -> Counts:
    """Return log1p(count / size factor), the response of the gaussian family; zeros stay zeros."""
    size = np.exp(design.log_size - design.offset)
    return dataclasses.replace(counts, values=np.log1p(counts.values / size[counts.rows]))
