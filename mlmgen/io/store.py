"""Open .h5ad files and zarr stores: everything in which h5py and zarr differ.

An open file or store is a group; a group holds groups and arrays by name and has ``attrs``; an array gives
numpy arrays for slices. Both libraries agree on this much.
"""

import math
import os
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from mlmgen.errors import UserError, listing, nearest
from mlmgen.names import text

ENDINGS = (".h5ad", ".zarr", ".zarr.zip")
GIVE_ANNDATA = "Give an .h5ad file or a .zarr store written by anndata"
COPY_AGAIN = "Copy the file again, or read it and write it again with anndata, without compression or with gzip"
ZARR_FILES = ("zarr.json", ".zgroup")  # what the root of a store has, in formats 3 and 2
LIBRARIES = {"h5py", "zarr", "numcodecs", "anndata"}

Group = h5py.Group  # or zarr.Group, which is imported only where a store is opened
Array = h5py.Dataset  # or zarr.Array


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[Group]:
    """Open an .h5ad file, a zarr store (formats 2 and 3) or a zipped one for reading.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    h5py.File or zarr.Group

    Raises
    ------
    UserError
        If it is missing (with the nearest name in its folder), may not be read or is neither; and for every
        error of the libraries while it is open: the file is damaged.
    """
    path = Path(path)
    if not os.path.exists(path):  # Path.exists raises for what may not be looked at
        raise _missing(path)
    with (_zarr if path.is_dir() or path.suffix == ".zip" else _hdf5)(path) as file, damage_refused(path):
        yield file


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r", locking="best-effort")  # some network file systems have no locks
    except PermissionError:
        raise _forbidden(path) from None
    except (OSError, RuntimeError) as error:
        raise UserError(f"this is not a complete HDF5 file: {_reason(error)}", str(path), GIVE_ANNDATA) from None
    with file:
        yield file


@contextmanager
def _zarr(path: Path) -> Iterator[Group]:
    if path.is_dir() and not any((path / name).is_file() for name in ZARR_FILES):
        raise UserError("this is a folder, but not a zarr store", str(path), GIVE_ANNDATA)
    if path.is_file() and not zipfile.is_zipfile(path):
        raise UserError("this is not a complete zip file", str(path), GIVE_ANNDATA)
    import zarr

    store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else zarr.storage.LocalStore(path, read_only=True)
    try:
        group = zarr.open_group(store, mode="r")
    except PermissionError:
        raise _forbidden(path) from None
    except Exception as error:  # zarr has no common class, and damaged metadata give any
        raise UserError(f"this is not a complete zarr store: {_reason(error)}", str(path), GIVE_ANNDATA) from None
    try:
        yield group
    finally:
        store.close()


def _missing(path: Path) -> UserError:
    folder = path.parent
    if not os.path.isdir(folder):
        return UserError("there is no such folder", str(folder), f"Correct the path, which is relative to {Path.cwd()}")
    if not os.access(folder, os.R_OK | os.X_OK):
        return _forbidden(folder)
    present = sorted(entry for entry in os.listdir(folder) if entry.endswith(ENDINGS))
    found = f"The data sets there are {listing(present)}" if present else "There is no .h5ad or .zarr in that folder"
    return UserError("there is no such file", str(path), nearest(path.name, present) + found)


def _forbidden(path: Path) -> UserError:
    return UserError("this file may not be read", str(path), "Ask its owner for read permission")


@contextmanager
def damage_refused(where: str | os.PathLike) -> Iterator[None]:
    """Turn what the libraries raise within the block into a UserError; errors of other code pass.

    Parameters
    ----------
    where : str or path-like
        What is read, for the message.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _from_library(error.__traceback__):
            raise
        do = f"{'Give the job more memory. ' * isinstance(error, MemoryError)}{COPY_AGAIN}"
        raise UserError(f"this cannot be read: {_reason(error)}", str(where), do) from error


def _from_library(trace: types.TracebackType | None) -> bool:
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] in LIBRARIES:
            return True
        trace = trace.tb_next
    return False


def _reason(error: Exception) -> str:
    lines = str(error).strip("'\"").splitlines()
    return lines[0] if lines else type(error).__name__


def find(group: Group, path: str) -> Group | Array | None:
    """Return what is at a path below a group, None where there is nothing; ``..`` and the like are plain names."""
    for part in path.split("/"):
        if is_array(group) or part not in list(group):
            return None
        group = group[part]
    return group


def is_array(stored: Group | Array) -> bool:
    """Say whether this is an array rather than a group."""
    return hasattr(stored, "shape")


def place(stored: Group | Array) -> str:
    """Return the path of the file or store that holds an open group or array."""
    if isinstance(stored, h5py.Group | h5py.Dataset):
        return stored.file.filename
    store = stored.store_path.store
    return str(getattr(store, "root", None) or store.path)


def name(stored: Group | Array) -> str:
    """Return where in its file an open group or array is: ``obs``, ``raw/X``."""
    return stored.name.lstrip("/")


def missing_chunks(stored: Array) -> int:
    """Return how many files of chunks a zarr array does not have, whose values read as zeros; HDF5 keeps all."""
    if isinstance(stored, h5py.Dataset):
        return 0
    shards = stored.shards or stored.chunks
    per_shard = math.prod(shard // chunk for shard, chunk in zip(shards, stored.chunks, strict=True))
    files = math.prod(-(-size // shard) for size, shard in zip(stored.shape, shards, strict=True))
    return files - stored.nchunks_initialized // per_shard


def is_text(stored: Array) -> bool:
    """Say whether an array holds text."""
    if isinstance(stored, h5py.Dataset):
        return h5py.check_string_dtype(stored.dtype) is not None
    return stored.dtype.kind in "OTU"


def strings(stored: Array) -> np.ndarray:
    """Return an array of text, or any other one as text, (n,) object of str.

    What is no valid UTF-8 becomes U+FFFD.
    """
    if isinstance(stored, h5py.Dataset) and is_text(stored):
        return stored.asstr(errors="replace")[:]
    return np.array([text(value) for value in stored[:].tolist()], dtype=object)


def scalar(stored: Array) -> str:
    """Return a single text."""
    if isinstance(stored, h5py.Dataset):
        return stored.asstr(errors="replace")[()]
    return text(np.asarray(stored[()]).item())
