"""The counts of the input in blocks: read once, in order, checked, with bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen.errors import UserError
from mlmgen.io import layout, store
from mlmgen.io.input import alternatives
from mlmgen.io.store import Array, Group
from mlmgen.names import text

if TYPE_CHECKING:
    from scipy import sparse

LARGEST = np.iinfo(np.int32).max  # what a 32-bit index can point to


class Block(NamedTuple):
    """A part of the matrix of counts.

    Parameters
    ----------
    first_row, first_gene : int
        Where in the matrix its first row and column are.
    counts : (rows, genes) CSR int32
        Sorted indices, no stored zeros, no duplicates.
    """

    first_row: int
    first_gene: int
    counts: "sparse.csr_matrix"


def blocks(path: str | os.PathLike, counts: str, most: int) -> Iterator[Block]:
    """Read the counts in blocks that tile the matrix in order, the next one while the caller works on one.

    Blocks are rows with all genes, or, where the file is CSC, all rows of a range of genes. What the values
    and the structure of the matrix must be is checked on the way, so an error can come after some blocks.

    Parameters
    ----------
    path : path-like
        An .h5ad file or zarr store.
    counts : str
        ``X``, ``raw`` or ``layers/<name>``.
    most : int
        Stored values (of a dense matrix: entries) in a block, unless a single row or gene has more. In all at
        most about 40 bytes each are held (45 for zarr), the caller's block with them, and 16 bytes per row (CSC:
        per gene, and 12 per row).

    Yields
    ------
    Block

    Raises
    ------
    UserError
        For values that are not finite, negative, fractional or above 2^31 - 1; a matrix that contradicts
        itself; and, after the last block, a matrix without a single count.
    """
    where = f"{path}, {counts}"
    with layout.opened(path) as file, store.damage_refused(where):
        shape = layout.checked_shape(file, counts)
        if 0 in shape:
            what = f"the matrix has {shape[0]:,} cells and {shape[1]:,} genes"
            raise UserError(what, where, "Give a file with cells and genes")
        stored = layout.matrix(file, counts)
        plan = _dense_plan if store.is_array(stored) else _sparse_plan
        read, spans = plan(stored, shape, most, _check(path, counts), where)
        found = False
        with closing(_ahead(read, spans)) as reading:
            for block in reading:
                found = found or block.counts.nnz > 0
                yield block
                del block  # not held while the next is waited for
    if not found:
        raise UserError(
            "there is not a single count", where, "Set counts to X, raw or layers/<name>, where the raw counts are"
        )


def some_counts(
    path: str | os.PathLike, counts: str, most: int, pieces: int = 64
) -> tuple[np.ndarray, "sparse.csr_matrix"]:
    """Read parts of the counts that are spread evenly over the file: some cells, or, where it is CSC, some genes.

    Parameters
    ----------
    path : path-like
    counts : str
        As for `blocks`.
    most : int
        Stored values (of a dense matrix: entries) in all parts together, about; a file of fewer is read whole.
    pieces : int
        Parts, ranges of rows or of genes.

    Returns
    -------
    rows : (m,) int64
        The cells, in their order.
    X : (m, g) CSR int32
        Their counts, of all genes or of some.

    Raises
    ------
    UserError
        As `blocks` does, for the values that were read.
    """
    from scipy import sparse

    where = f"{path}, {counts}"
    with layout.opened(path) as file, store.damage_refused(where):
        shape = layout.checked_shape(file, counts)
        stored = layout.matrix(file, counts)
        plan = _dense_plan if store.is_array(stored) else _sparse_plan
        read, spans = plan(stored, shape, max(1, most // pieces), _check(path, counts), where)
        spans = list(spans)
        chosen = np.unique(np.linspace(0, len(spans) - 1, min(pieces, len(spans))).astype(int)) if spans else ()
        parts = [read(*spans[i]) for i in chosen]
    if not parts:
        return np.empty(0, dtype=np.int64), sparse.csr_matrix((0, shape[1]), dtype=np.int32)
    if all(part.counts.shape == shape or part.counts.shape[1] < shape[1] for part in parts):  # by gene, or one part
        return np.arange(shape[0]), sparse.hstack([part.counts for part in parts], format="csr")
    rows = np.concatenate([part.first_row + np.arange(part.counts.shape[0]) for part in parts])
    return rows, sparse.vstack([part.counts for part in parts], format="csr")


def stored_values(path: str | os.PathLike, counts: str) -> int | None:
    """Return how many values a sparse matrix of counts stores, None for a dense one."""
    with layout.opened(path) as file:
        stored = layout.matrix(file, counts)
        return None if store.is_array(stored) else _arrays(stored, f"{path}, {counts}")[0].shape[0]


def _check(path: str | os.PathLike, counts: str) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return a function that checks values, given how many came before them, and returns them as int32."""
    from mlmgen.counts import whole

    return partial(whole, where=f"{path}, {counts}", alternatives=lambda: alternatives(path, counts))


def _ahead(read: Callable[[int, int], Block], spans: Iterable[tuple[int, int]]) -> Iterator[Block]:
    """Read spans in order, always one further than the caller has, in a thread that ends with the iteration."""
    reader = ThreadPoolExecutor(1, thread_name_prefix="mlmgen-read")
    waiting = deque()
    try:
        for span in spans:
            waiting.append(reader.submit(read, *span))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)


# ---- dense


def _dense_plan(stored: Array, shape: tuple[int, int], most: int, check, where: str):
    n, genes = shape
    rows = max(1, most // genes)
    band = (stored.chunks or (1,))[0]
    rows -= rows % band if rows > band else 0  # chunks are decompressed once
    spans = ((first, min(first + rows, n)) for first in range(0, n, rows))
    return partial(_dense, stored, check), spans


def _dense(stored: Array, check, first: int, last: int) -> Block:
    from scipy import sparse

    values = stored[first:last]
    genes = values.shape[1]
    checked = check(values.reshape(-1), first * genes).reshape(values.shape)
    del values
    held = checked != 0
    pointers = np.concatenate([[0], np.cumsum(np.count_nonzero(held, axis=1))])
    # nonzero() would give two int64 per value
    indices = np.broadcast_to(np.arange(genes, dtype=np.int32), held.shape)[held]
    return Block(first, 0, sparse.csr_matrix((checked[held], indices, _small(pointers)), shape=held.shape))


# ---- sparse


def _sparse_plan(stored: Group, shape: tuple[int, int], most: int, check, where: str):
    data, indices, indptr = _arrays(stored, where)
    kind = text(stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", "csr")))
    by_gene = kind.startswith("csc")
    pointers = indptr[:]
    size = shape[1] if by_gene else shape[0]
    sound = len(pointers) == size + 1 and pointers[0] == 0 and pointers[-1] == data.shape[0] == indices.shape[0]
    if not sound or (pointers[1:] < pointers[:-1]).any():
        raise _contradiction(stored, where)
    if missing := store.missing_chunks(data):  # zarr keeps no chunk of zeros, and a sparse matrix has none
        what = f"{missing:,} files of {store.name(data)} are missing"
        raise UserError(what, where, store.COPY_AGAIN)
    gaps = store.missing_chunks(indices) + store.missing_chunks(indptr)
    rules = _Rules(shape, by_gene, gaps > 0, check, where)
    return partial(_sparse, stored, pointers.astype(np.int64, copy=False), rules), _spans(pointers, most)


def _arrays(stored: Group, where: str) -> list[Array]:
    """Return data, indices and indptr of a sparse matrix."""
    names = ("data", "indices", "indptr")
    found = [stored[name] for name in names if name in stored and store.is_array(stored[name])]
    if len(found) < len(names) or any(len(array.shape) != 1 for array in found):
        raise _contradiction(stored, where)
    if any(array.dtype.kind not in "iu" for array in found[1:]):
        raise _contradiction(stored, where)
    return found


def _contradiction(stored: Group, where: str) -> UserError:
    what = f"the sparse matrix {store.name(stored)} contradicts itself"
    return UserError(what, where, "Write the file again with anndata")


def _spans(pointers: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Cut the rows, or genes, into ranges of at most `most` values, of at least one row."""
    first = 0
    while first < len(pointers) - 1:
        within = np.searchsorted(pointers, int(pointers[first]) + most, side="right") - 1
        last = max(first + 1, int(within))
        yield first, last
        first = last


class _Rules(NamedTuple):
    """What holds for all parts of a sparse matrix."""

    shape: tuple[int, int]
    by_gene: bool  # CSC
    gaps: bool  # zarr: chunks without a file, which read as zeros
    check: Callable[[np.ndarray, int], np.ndarray]
    where: str


def _sparse(stored: Group, pointers: np.ndarray, rules: _Rules, first: int, last: int) -> Block:
    """Read some rows of a CSR matrix, or some columns of a CSC one."""
    from scipy import sparse

    n, genes = rules.shape
    start, stop = int(pointers[first]), int(pointers[last])
    data = rules.check(stored["data"][start:stop], start)
    indices = stored["indices"][start:stop]
    # scipy does not look, and would read other memory
    if len(indices) and not 0 <= indices.min() <= indices.max() < (n if rules.by_gene else genes):
        raise _contradiction(stored, rules.where)
    parts = (data, indices.astype(np.int32, copy=False), _small(pointers[first : last + 1] - start))
    del data, indices
    if rules.by_gene:
        X = sparse.csc_matrix(parts, shape=(n, last - first)).tocsr()
    else:
        X = sparse.csr_matrix(parts, shape=(last - first, genes))
    del parts
    _make_canonical(X, rules.check)
    if rules.gaps and X.nnz < stop - start:  # indices that read as zeros repeat
        raise UserError(f"files of {store.name(stored)} are missing", rules.where, store.COPY_AGAIN)
    if not X.data.all():
        X.eliminate_zeros()
    return Block(0, first, X) if rules.by_gene else Block(first, 0, X)


def _small(pointers: np.ndarray) -> np.ndarray:
    return pointers.astype(np.int32) if pointers[-1] <= LARGEST else pointers


def _make_canonical(X: "sparse.csr_matrix", check) -> None:
    """Sort and add up duplicates in place."""
    if not X.has_canonical_format:
        X.data = X.data.astype(np.int64)  # the sum of two counts may be above the largest
        X.sum_duplicates()
        X.data = check(X.data, 0)
