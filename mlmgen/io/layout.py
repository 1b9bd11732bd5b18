"""What an .h5ad file or zarr store holds, read without anndata: fast enough for the parsing of a Snakefile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mlmgen.errors import UserError, listing, nearest
from mlmgen.io import store
from mlmgen.io.store import Array, Group, strings
from mlmgen.names import text

ALL_CELLS = "all"  # the name of the one cell type where no column is given
REWRITE = "Read it with anndata and write it again with a current version"


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[Group]:
    """Open an .h5ad file or zarr store for reading.

    Raises
    ------
    UserError
        If it is missing (with the nearest name in its folder), damaged, or not of AnnData.
    """
    with store.opened(path) as file:
        absent = [name for name in ("obs", "var") if name not in file]
        if absent:
            raise UserError(f"the file has no {' and no '.join(absent)}", str(path), store.GIVE_ANNDATA)
        for name in ("obs", "var"):
            if store.is_array(file[name]) or "_index" not in file[name].attrs:
                raise UserError(f"{name} is stored in the layout of anndata before 0.7", str(path), REWRITE)
        yield file


def columns(frame: Group) -> list[str]:
    """Return the columns of obs or var, without the index."""
    names, present = [text(name) for name in frame.attrs.get("column-order", ())], set(frame)
    # old files have names with a slash, which HDF5 takes for groups
    return [name for name in names if name in present or ("/" in name and store.find(frame, name) is not None)]


def check_column(frame: Group, column: str, key: str) -> None:
    """Raise a UserError that lists the columns unless obs or var has this one.

    Parameters
    ----------
    frame : Group
        obs or var of an open file.
    column : str
    key : str
        The configuration key that names it.
    """
    present = columns(frame)
    if column not in present:
        raise UserError(
            f"{store.name(frame)} has no column {column!r}",
            f"{store.place(frame)}, configuration key {key}",
            f"{nearest(column, present)}The columns are {listing(present, 40) or 'none'}",
        )


def index(frame: Group) -> np.ndarray:
    """Return the names of the cells or genes, (n,) object of str."""
    return strings(_index(frame))


def _index(frame: Group) -> Array:
    stored = store.find(frame, text(frame.attrs["_index"]))
    if stored is None or not store.is_array(stored) or len(stored.shape) != 1:
        raise UserError("there are no names of the rows", f"{store.place(frame)}, {store.name(frame)}", REWRITE)
    return stored


def check_length(frame: Group, column: str) -> None:
    """Raise a UserError unless a column of obs or var is one and has one value per row."""
    stored, size = frame[column], len_of(frame)
    parts = (stored,) if store.is_array(stored) else tuple(store.find(stored, n) for n in ("codes", "values", "mask"))
    shapes = [part.shape for part in parts if part is not None and store.is_array(part)]
    if not shapes or any(shape != (size,) for shape in shapes):
        what = f"column {column!r} does not have one value for each of the {size:,} rows"
        raise UserError(what, f"{store.place(frame)}, {store.name(frame)}", REWRITE)


def cell_types(path: str | os.PathLike, column: str | None) -> tuple[str, ...]:
    """Return the cell types that have cells, sorted; cells without a label do not count.

    Parameters
    ----------
    path : path-like
        An .h5ad file or zarr store.
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
        check_length(file["obs"], column)
        with store.damage_refused(f"{path}, obs column {column!r}"):
            found = tuple(sorted(_levels(file["obs"][column], file)))
    if not found:
        raise UserError(
            f"obs column {column!r} has no values", str(path), "Set cell_type to another obs column, or to null"
        )
    return found


def _levels(column: Group | Array, file: Group) -> set[str]:
    """Return the distinct values of an obs column as text, in any of anndata's encodings."""
    if not store.is_array(column):
        if "categories" in column:
            return _used(_labels(column["categories"]), column["codes"][:], store.place(column))
        values = _labels(column["values"])
        return set(values[~column["mask"][:].astype(bool)] if "mask" in column else values)
    if "categories" in column.attrs:
        return _used(strings(file[column.attrs["categories"]]), column[:], store.place(column))
    if column.dtype.kind in "biuf":  # many cells, few values
        values = np.unique(column[:])
        return set(map(text, (values[~np.isnan(values)] if values.dtype.kind == "f" else values).tolist()))
    return set(_labels(column))


def _labels(stored: Array) -> np.ndarray:
    """Return labels as text."""
    if stored.dtype.kind in "mMV" or (stored.dtype.kind == "O" and not store.is_text(stored)):
        what = f"{store.name(stored)} holds {stored.dtype}, not labels"
        raise UserError(what, store.place(stored), "Write it as text: adata.obs[column].astype(str)")
    return strings(stored)


def _used(categories: np.ndarray, codes: np.ndarray, path: str) -> set[str]:
    found = np.unique(codes)
    check_codes(found, categories, path)
    return {categories[code] for code in found if code >= 0}


def check_codes(codes: np.ndarray, categories: np.ndarray, path: str) -> None:
    """Raise a UserError unless the codes of a categorical column are numbers of different categories, or -1."""
    if len(set(categories)) < len(categories):
        raise UserError("a categorical column has the same category twice", f"{path}, obs", REWRITE)
    if codes.dtype.kind not in "iu" or (len(codes) and not -1 <= codes.min() <= codes.max() < len(categories)):
        what = f"the codes of a categorical column are not numbers from -1 to {len(categories) - 1}"
        raise UserError(what, f"{path}, obs", REWRITE)


def shape(path: str | os.PathLike, counts: str) -> tuple[int, int]:
    """Return the numbers of cells and genes of the counts (``X``, ``raw`` or ``layers/<name>``)."""
    with opened(path) as file:
        return checked_shape(file, counts)


def obs_columns(path: str | os.PathLike) -> tuple[str, ...]:
    """Return the columns of obs in their order."""
    with opened(path) as file:
        return tuple(columns(file["obs"]))


def var_columns(path: str | os.PathLike, counts: str) -> tuple[str, ...]:
    """Return the columns of the table of the genes that belongs to the counts, in their order."""
    with opened(path) as file:
        return tuple(columns(genes(file, counts)))


def matrices(path: str | os.PathLike) -> tuple[str, ...]:
    """Return what could be counts in a file, as the configuration names it."""
    with opened(path) as file:
        return tuple(sources(file))


def matrix(file: Group, counts: str) -> Group | Array:
    """Return the counts in an open file, or raise a UserError that lists what there is."""
    stored = store.find(file, "raw/X" if counts == "raw" else counts)
    if stored is None:
        present = sources(file)
        raise UserError(
            f"the file has no {counts}",
            f"{store.place(file)}, configuration key counts",
            f"{nearest(counts, present)}It has {listing(present) or 'no matrix at all'}",
        )
    return stored


def genes(file: Group, counts: str) -> Group:
    """Return the table of the genes that belongs to the counts: var, or that of raw."""
    frame = store.find(file, "raw/var" if counts == "raw" else "var")
    if frame is None or store.is_array(frame) or "_index" not in frame.attrs:
        raise UserError("there is no table of the genes", f"{store.place(file)}, {counts}", REWRITE)
    return frame


def sources(file: Group) -> list[str]:
    """Return the matrices that could be counts, as the configuration names them."""
    layers = store.find(file, "layers")
    layers = [] if layers is None or store.is_array(layers) else [f"layers/{name}" for name in layers]
    return ["X"] * ("X" in file) + ["raw"] * (store.find(file, "raw/X") is not None) + layers


def checked_shape(file: Group, counts: str) -> tuple[int, int]:
    """Return the numbers of cells and genes of a matrix, or raise a UserError unless obs and var have as many."""
    stored = matrix(file, counts)
    size = matrix_shape(stored)
    expected = (len_of(file["obs"]), len_of(genes(file, counts)))
    if size is None:
        kind = text(stored.attrs.get("encoding-type", "something else"))
        raise UserError(
            f"{counts} is not a matrix but {kind}", f"{store.place(file)}, {counts}", "Set counts to another"
        )
    if size != expected:
        what = (
            f"the matrix has {size[0]:,} rows and {size[1]:,} columns, "
            f"but obs has {expected[0]:,} cells and var {expected[1]:,} genes"
        )
        raise UserError(what, f"{store.place(file)}, {counts}", REWRITE)
    return size


def len_of(frame: Group) -> int:
    """Return the number of rows of obs or var."""
    return _index(frame).shape[0]


def matrix_shape(stored: Group | Array) -> tuple[int, int] | None:
    """Return the shape of a dense or sparse matrix, None where it is not a matrix."""
    if store.is_array(stored):
        found = stored.shape
    else:
        found = np.ravel(stored.attrs.get("shape", stored.attrs.get("h5sparse_shape", ())))  # the latter before 0.7
    numbers = len(found) == 2 and all(np.asarray(size).dtype.kind in "iu" for size in found)
    return (int(found[0]), int(found[1])) if numbers else None
