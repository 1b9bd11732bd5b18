"""What an .h5ad file holds, read with h5py alone: fast enough for the parsing of a Snakefile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from mlmgen.errors import UserError, listing, nearest
from mlmgen.names import text

ALL_CELLS = "all"  # the name of the one cell type where no column is given
GIVE_H5AD = "Give an .h5ad file written by anndata"
REWRITE = "Read it with anndata.read_h5ad and write it again with a current anndata"


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Open an .h5ad file for reading.

    Raises
    ------
    UserError
        If it is missing (with the nearest name in its folder), not HDF5, or not an AnnData file.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError("this is a folder, and only .h5ad files can be read", str(path), GIVE_H5AD)
    if not path.is_file():
        raise _missing(path)
    try:
        file = h5py.File(path, "r", locking="best-effort")  # some network file systems have no locks
    except PermissionError:
        raise UserError("this file may not be read", str(path), "Ask its owner for read permission") from None
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"this is not a complete HDF5 file: {reason}", str(path), GIVE_H5AD) from None
    with file:
        absent = [name for name in ("obs", "var") if name not in file]
        if absent:
            raise UserError(f"the file has no {' and no '.join(absent)}", str(path), GIVE_H5AD)
        for name in ("obs", "var"):
            if not isinstance(file[name], h5py.Group) or "_index" not in file[name].attrs:
                raise UserError(f"{name} is stored in the layout of anndata before 0.7", str(path), REWRITE)
        yield file


def _missing(path: Path) -> UserError:
    folder = path.parent
    if not folder.is_dir():
        return UserError("there is no such folder", str(folder), f"Correct the path, which is relative to {Path.cwd()}")
    present = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".h5ad"))
    found = f"The .h5ad files there are {listing(present)}" if present else "There is no .h5ad file in that folder"
    return UserError("there is no such file", str(path), nearest(path.name, present) + found)


def columns(frame: h5py.Group) -> list[str]:
    """Return the columns of obs or var, without the index."""
    return [str(name) for name in frame.attrs.get("column-order", ()) if name in frame]


def check_column(frame: h5py.Group, column: str, key: str) -> None:
    """Raise a UserError that lists the columns unless obs or var has this one.

    Parameters
    ----------
    frame : h5py.Group
        obs or var of an open file.
    column : str
    key : str
        The configuration key that names it.
    """
    present = columns(frame)
    if column not in present:
        raise UserError(
            f"{frame.name.lstrip('/')} has no column {column!r}",
            f"{frame.file.filename}, configuration key {key}",
            f"{nearest(column, present)}The columns are {listing(present, 40) or 'none'}",
        )


def index(frame: h5py.Group) -> np.ndarray:
    """Return the names of the cells or genes, (n,) object of str."""
    return strings(frame[frame.attrs["_index"]])


def strings(data: h5py.Dataset) -> np.ndarray:
    """Return a string dataset, or any other one as text, (n,) object of str."""
    if h5py.check_string_dtype(data.dtype) is not None:
        return data.asstr()[:]
    return np.array([text(value) for value in data[:].tolist()], dtype=object)


def cell_types(path: str | os.PathLike, column: str | None) -> tuple[str, ...]:
    """Return the cell types that have cells, sorted; cells without a label do not count.

    Parameters
    ----------
    path : path-like
        An .h5ad file.
    column : str or None
        Column of obs; None gives the one name ``all``.

    Raises
    ------
    UserError
        If the file, the column or every label is missing.
    """
    with opened(path) as file:
        if column is None:
            return (ALL_CELLS,)
        check_column(file["obs"], column, "cell_type")
        found = tuple(sorted(_levels(file["obs"][column], file)))
    if not found:
        raise UserError(
            f"obs column {column!r} has no values", str(path), "Set cell_type to another obs column, or to null"
        )
    return found


def _levels(column: h5py.Group | h5py.Dataset, file: h5py.File) -> set[str]:
    """Return the distinct values of an obs column as text, in any of anndata's encodings."""
    if isinstance(column, h5py.Group) and "categories" in column:
        return _used(strings(column["categories"]), column["codes"][:])
    if isinstance(column, h5py.Group):
        values = strings(column["values"])
        return set(values[~column["mask"][:]] if "mask" in column else values)
    if "categories" in column.attrs:
        return _used(strings(file[column.attrs["categories"]]), column[:])
    if column.dtype.kind == "f":
        return {text(value) for value in np.unique(column[:]).tolist() if np.isfinite(value)}
    return set(strings(column)) if column.dtype.kind == "O" else set(map(text, np.unique(column[:]).tolist()))


def _used(categories: np.ndarray, codes: np.ndarray) -> set[str]:
    return {categories[code] for code in np.unique(codes) if code >= 0}


def shape(path: str | os.PathLike, counts: str) -> tuple[int, int]:
    """Return the numbers of cells and genes of the counts (``X``, ``raw`` or ``layers/<name>``)."""
    with opened(path) as file:
        return matrix_shape(matrix(file, counts))


def obs_columns(path: str | os.PathLike) -> tuple[str, ...]:
    """Return the columns of obs in their order."""
    with opened(path) as file:
        return tuple(columns(file["obs"]))


def matrix(file: h5py.File, counts: str) -> h5py.Group | h5py.Dataset:
    """Return the counts in an open file, or raise a UserError that lists what there is."""
    where = "raw/X" if counts == "raw" else counts
    if where not in file:
        present = sources(file)
        raise UserError(
            f"the file has no {counts}",
            f"{file.filename}, configuration key counts",
            f"{nearest(counts, present)}It has {listing(present) or 'no matrix at all'}",
        )
    return file[where]


def sources(file: h5py.File) -> list[str]:
    """Return the matrices that could be counts, as the configuration names them."""
    layers = [f"layers/{name}" for name in file["layers"]] if "layers" in file else []
    return ["X"] * ("X" in file) + ["raw"] * ("raw/X" in file) + layers


def matrix_shape(stored: h5py.Group | h5py.Dataset) -> tuple[int, int]:
    """Return the shape of a dense or sparse matrix."""
    if isinstance(stored, h5py.Dataset):
        n, genes = stored.shape
    else:
        n, genes = stored.attrs["shape" if "shape" in stored.attrs else "h5sparse_shape"]  # the latter before 0.7
    return int(n), int(genes)
