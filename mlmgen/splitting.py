"""The counts of an input taken apart by cell type, while they are read once."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen import io
from mlmgen.io import runs
from mlmgen.progress import Progress

if TYPE_CHECKING:
    import h5py
    from scipy import sparse

BASE = 400  # MB for Python, its libraries and the columns of obs
FEWEST_VALUES, MOST_VALUES = 1 << 20, 1 << 24  # read or merged at a time: more are not faster
OF_CELL = 200e-6  # MB for the name and the columns of each cell
READ_BYTES, KEPT_BYTES = 44, 16  # a value while it is read and grouped; one that waits to be written, or is written
READING = 0.6  # share of the memory for what is read, the rest for what waits
MOST_KEPT = 1 << 27  # values that wait


class Limits(NamedTuple):
    """Values that may be held: of a block that is read, and of those that wait to be written."""

    read: int
    kept: int


def values_in(memory: float, of_each: float, n_cells: int) -> int:
    """Return how many values of so many bytes fit in a job's memory of so many MB, within sensible limits."""
    left = max(memory - BASE - OF_CELL * n_cells, 1)
    return int(np.clip(left * 1e6 / of_each, FEWEST_VALUES, MOST_VALUES))


def limits(memory: int, n_cells: int) -> Limits:
    """Return how many values may be held in a memory of so many MB, beside what all cells of the input take."""
    read = values_in(memory, READ_BYTES / READING, n_cells)
    kept = (1 - READING) * max(memory - BASE - OF_CELL * n_cells, 1) * 1e6 / KEPT_BYTES
    return Limits(read, int(np.clip(kept, read, MOST_KEPT)))


def split(input: str, counts: str, of_cell: np.ndarray, files: list["h5py.File"], most: Limits) -> np.ndarray:
    """Read the counts and write the runs of each cell type.

    Parameters
    ----------
    input, counts : str
        As for `mlmgen.io.blocks`.
    of_cell : (n,) int64
        The file of each cell, -1 for none.
    files : list of File
        From `mlmgen.io.runs.writing`.
    most : Limits

    Returns
    -------
    (n,) float64
        Total count of each cell.

    Raises
    ------
    UserError
        For values that are not counts.
    """
    total, n_genes = np.zeros(len(of_cell)), io.shape(input, counts)[1]
    stored = io.stored_values(input, counts)
    progress = Progress(stored or len(of_cell) * n_genes, "split", unit="values")
    waiting: list[list[sparse.csr_matrix]] = [[] for _ in files]
    written = np.zeros(len(files), dtype=np.int64)
    for block in io.blocks(input, counts, most.read):
        n_rows, width = block.counts.shape
        rows = slice(block.first_row, block.first_row + n_rows)
        total[rows] += block.counts @ np.ones(width)
        for t, piece in _by_cell_type(block.counts, of_cell[rows], len(files)):
            waiting[t].append(piece)
        if width == n_genes:
            _write(files, waiting, written, most.kept)
        else:  # a range of genes of all cells: the next run begins with the first cell again
            _write(files, waiting, np.zeros_like(written), 0, block.first_gene)
        progress(block.counts.nnz if stored else n_rows * width)
    _write(files, waiting, written, 0)
    progress.finish()
    return total


def _by_cell_type(block: "sparse.csr_matrix", code: np.ndarray, n_types: int) -> Iterator[tuple]:
    """Take a block apart: the cell types that have cells in it, with their rows in the order of the input."""
    order = np.argsort(code, kind="stable")
    ends = np.searchsorted(code[order], np.arange(n_types + 1))
    grouped = block[order]
    for t in range(n_types):
        if ends[t + 1] > ends[t]:
            yield t, runs.smallest(grouped[ends[t] : ends[t + 1]])


def _write(files: list, waiting: list[list], written: np.ndarray, kept: int, first_gene: int = 0) -> None:
    """Write cell types as runs, the one with the most values first, until no more than `kept` values wait.

    ``written``, the cells of each type that are in its file, is brought up to date.
    """
    from scipy import sparse

    sizes = [sum(piece.nnz for piece in pieces) for pieces in waiting]
    while sum(sizes) > kept or (kept == 0 and any(waiting)):
        t = max(range(len(sizes)), key=lambda t: (sizes[t], len(waiting[t])))
        counts = sparse.vstack(waiting[t], format="csr")
        runs.write_run(files[t], counts, int(written[t]), first_gene)
        written[t] += counts.shape[0]
        waiting[t], sizes[t] = [], 0
