"""Runs: gene-major pieces of a cell type's counts in the order of the input, from which prepared files are merged.

A run covers some successive cells of the type and a range of genes. Reading the input once and writing runs takes
bounded memory; so does merging them, a range of genes at a time, in whatever order a design wants the cells.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from mlmgen.errors import UserError
from mlmgen.io import sealed
from mlmgen.io.files import atomic

if TYPE_CHECKING:
    from scipy import sparse

LAYOUT_VERSION = 1
KINDS = (np.uint8, np.uint16, np.int32)
DAMAGE = (OSError, KeyError, ValueError, TypeError)


@dataclass(frozen=True)
class Cells:
    """What the stage split learns about all cells of the input.

    Attributes
    ----------
    genes : tuple of str, length G
    gene_names : tuple of str
        Symbols, length G, or empty where no column of var holds them.
    cell_types : tuple of str
        All that have cells.
    cell_type : (n,) int32
        The cell type of each cell of the input, -1 without one.
    total : (n,) float64
        Counts of each cell.
    checksum : str
        Of the input.
    names : str
        sha256 of the names of the cells, in order.
    """

    genes: tuple[str, ...]
    gene_names: tuple[str, ...]
    cell_types: tuple[str, ...]
    cell_type: np.ndarray
    total: np.ndarray
    checksum: str
    names: str


class Run(NamedTuple):
    """Where a run is and what it covers: cells from `first_cell`, genes from `first_gene`."""

    rows: h5py.Dataset
    values: h5py.Dataset
    first_cell: int
    n_cells: int
    first_gene: int
    start: np.ndarray  # (genes + 1,) int64


class Runs(NamedTuple):
    """An open file of runs, in the order of the input."""

    cell_type: str
    n_cells: int
    n_genes: int
    checksum: str
    runs: tuple[Run, ...]
    path: str


@contextmanager
def writing(paths: list[str]) -> Iterator[list[h5py.File]]:
    """Open a file of runs for each path; they appear together when the block ends without an error."""
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(atomic(path)) for path in paths]
        with contextlib.ExitStack() as open_files:
            raw = [open_files.enter_context(sealed.writing(path)) for path in temporary]
            yield [open_files.enter_context(h5py.File(file, "w")) for file in raw]


def write_run(file: h5py.File, counts: "sparse.csr_matrix", first_cell: int, first_gene: int) -> None:
    """Append a run.

    Parameters
    ----------
    file : File
        One of `writing`.
    counts : (cells, genes) CSR of int
        Successive cells of the cell type, no stored zeros.
    first_cell, first_gene : int
        The first of them in the cell type, in the file.
    """
    sorted_by_gene = counts.tocsc()
    run = file.create_group(f"{len(file):06d}")
    run.attrs.update({"first_cell": first_cell, "n_cells": counts.shape[0], "first_gene": first_gene})
    rows = sorted_by_gene.indices.astype(np.uint16 if counts.shape[0] <= 1 << 16 else np.int32)
    run.create_dataset("rows", data=rows)
    run.create_dataset("values", data=sorted_by_gene.data)
    lengths = np.diff(sorted_by_gene.indptr).astype(np.int32)
    run.create_dataset("length", data=lengths, compression="lzf", shuffle=True)


def smallest(counts: "sparse.csr_matrix") -> "sparse.csr_matrix":
    """Return counts in the smallest type that holds them; most are below 256."""
    largest = counts.data.max(initial=0)
    kind = next(kind for kind in KINDS if largest <= np.iinfo(kind).max)
    return counts.astype(kind, copy=False)


def finish(file: h5py.File, cell_type: str, n_cells: int, n_genes: int, checksum: str) -> None:
    """Say what a file of runs is about, at the end: a file without it is not complete."""
    file.attrs.update(
        {
            "mlmgen_runs": LAYOUT_VERSION,
            "cell_type": cell_type,
            "n_cells": n_cells,
            "n_genes": n_genes,
            "checksum": checksum,
            "n_runs": len(file),
        }
    )


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[Runs]:
    """Open a file of runs.

    Raises
    ------
    UserError
        If it is missing or damaged, also while runs are read within the block.
    """
    if not Path(path).is_file():
        raise UserError("there is no such file", str(path), "Run the stage split first")
    with contextlib.ExitStack() as stack:
        with _damage_refused(str(path)):
            found = _described(stack.enter_context(sealed.hdf5(path))[0], str(path))
        yield found


@contextmanager
def _damage_refused(path: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the file is damaged: {reason}", path, "Delete it and run again") from error


def _described(file: h5py.File, path: str) -> Runs:
    said = file.attrs
    if said["mlmgen_runs"] != LAYOUT_VERSION or said["n_runs"] != len(file):
        raise ValueError(f"{len(file)} runs in layout {said['mlmgen_runs']}")
    runs = tuple(_run(file[name]) for name in file)
    return Runs(said["cell_type"], int(said["n_cells"]), int(said["n_genes"]), said["checksum"], runs, path)


def _run(group: h5py.Group) -> Run:
    start = np.concatenate([[0], np.cumsum(group["length"][:], dtype=np.int64)])
    if not start[-1] == len(group["rows"]) == len(group["values"]):
        raise ValueError(f"{len(group['rows'])} rows and {len(group['values'])} values for {start[-1]} counts")
    numbers = (int(group.attrs[name]) for name in ("first_cell", "n_cells", "first_gene"))
    return Run(group["rows"], group["values"], *numbers, start)


def values_per_gene(runs: Runs) -> np.ndarray:
    """Return the number of stored values of each gene, (G,) int64."""
    found = np.zeros(runs.n_genes, dtype=np.int64)
    for run in runs.runs:
        found[run.first_gene : run.first_gene + len(run.start) - 1] += np.diff(run.start)
    return found


def gene_ranges(values: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Cut the genes into ranges of at most `most` stored values, or of one gene that has more.

    Parameters
    ----------
    values : (G,) int64
        Of each gene.
    most : int

    Returns
    -------
    list of (int, int)
        From, up to without.
    """
    total, G = np.concatenate([[0], np.cumsum(values)]), len(values)
    ranges, first = [], 0
    while first < G:
        last = max(first + 1, int(np.searchsorted(total, total[first] + most, side="right")) - 1)
        ranges.append((first, min(last, G)))
        first = ranges[-1][1]
    return ranges


def merged(runs: Runs, genes: tuple[int, int], order: np.ndarray) -> "sparse.csc_matrix":
    """Merge the runs of a range of genes.

    Parameters
    ----------
    runs : Runs
    genes : (int, int)
        From, up to without.
    order : (m,) int64
        Cells of the type, in the order wanted; others are left out.

    Returns
    -------
    (m, genes) CSC of int32
        Rows in the order of `order`, row indices increasing within a gene.
    """
    from scipy import sparse

    pieces, shape = [], (runs.n_cells, genes[1] - genes[0])
    for run in runs.runs:
        with _damage_refused(runs.path):
            piece = _piece(run, genes)
        if piece is not None:
            pieces.append((run, piece))
    if not pieces:
        return sparse.csc_matrix((len(order), shape[1]), dtype=np.int32)
    successive = _successive([run for run, _ in pieces], runs.n_cells)
    # Cells follow each other: stacking is copying. Runs of few genes and all cells are put side by side.
    cells = (
        sparse.vstack([piece for _, piece in pieces], format="csr")
        if successive
        else sum((_widened(run, piece, shape) for run, piece in pieces), sparse.csr_matrix(shape, dtype=np.int32))
    )
    chosen = cells[order].tocsc()
    chosen.sort_indices()
    return chosen.astype(np.int32, copy=False)


def _piece(run: Run, genes: tuple[int, int]) -> "sparse.csr_matrix | None":
    """Read the part of a run within a range of genes, its own cells x the range; None if it covers none of it."""
    from scipy import sparse

    first, last = (int(np.clip(gene - run.first_gene, 0, len(run.start) - 1)) for gene in genes)
    if last <= first:
        return None
    start, stop = run.start[first], run.start[last]
    before, after = run.first_gene + first - genes[0], genes[1] - run.first_gene - last
    pointers = np.pad(run.start[first : last + 1] - start, (before, after), mode="edge")
    rows, values = run.rows[start:stop].astype(np.int32), run.values[start:stop]
    if len(rows) and rows.max() >= run.n_cells:
        raise ValueError(f"row {rows.max()} in a run of {run.n_cells} cells")
    return sparse.csc_matrix((values, rows, pointers), shape=(run.n_cells, genes[1] - genes[0])).tocsr()


def _successive(runs: list[Run], n_cells: int) -> bool:
    """Tell whether runs cover all cells one after the other."""
    ends = np.cumsum([run.n_cells for run in runs])
    return ends[-1] == n_cells and [run.first_cell for run in runs] == [0, *ends[:-1].tolist()]


def _widened(run: Run, piece: "sparse.csr_matrix", shape: tuple[int, int]) -> "sparse.csr_matrix":
    """Place a run's cells among all."""
    from scipy import sparse

    before, after = run.first_cell, shape[0] - run.first_cell - run.n_cells
    pointers = np.pad(piece.indptr, (before, after), mode="edge")
    return sparse.csr_matrix((piece.data.astype(np.int32), piece.indices, pointers), shape=shape)
