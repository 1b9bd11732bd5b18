"""Records: frozen dataclasses of arrays and names, as sealed npz with the same bytes for the same content."""

import dataclasses
import io
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from mlmgen.errors import UserError, listing
from mlmgen.io import sealed
from mlmgen.io.files import atomic

Record = TypeVar("Record")
HEADER = "record"  # the array that holds everything that is not an array, as JSON
LAYOUT_VERSION = 2
LEVEL = zlib.Z_BEST_SPEED  # most that can be saved is NaN, of genes that were not fitted
# What numpy, zipfile and json raise for a file that is cut, changed or something else.
DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError, AttributeError, TypeError)


def write_record(path: str | os.PathLike, record, meta: dict) -> None:
    """Write a frozen dataclass.

    Parameters
    ----------
    path : path-like
    record : dataclass
        Its fields are arrays, text, numbers or tuples of text.
    meta : dict
        Anything that JSON can hold; it is returned by `read_record`.
    """
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    header = {
        "class": type(record).__name__,
        "layout": LAYOUT_VERSION,
        "meta": meta,
        "fields": {name: value for name, value in fields.items() if name not in arrays},
    }
    text = json.dumps(header, sort_keys=True, ensure_ascii=False)
    arrays = {HEADER: np.frombuffer(text.encode(), dtype=np.uint8)} | arrays
    with atomic(path) as temporary:
        # np.savez_compressed leaves no choice of the level; like it, opening by name stores no time
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as file:
            for name, array in arrays.items():
                with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        sealed.seal(temporary)


def read_record(path: str | os.PathLike, cls: type[Record]) -> tuple[Record, dict]:
    """Read what `write_record` wrote.

    Parameters
    ----------
    path : path-like
    cls : type
        The dataclass that is expected.

    Returns
    -------
    record : cls
    meta : dict

    Raises
    ------
    UserError
        If the file is missing, damaged, or holds another record.
    """
    header, arrays = _read(path)
    if header["class"] != cls.__name__ or header["layout"] != LAYOUT_VERSION:
        seen = f"{header['class']} in layout {header['layout']}"
        raise UserError(f"the file holds {seen}, not {cls.__name__}", str(path), sealed.AGAIN)
    names = {name: tuple(value) if isinstance(value, list) else value for name, value in header["fields"].items()}
    try:
        return cls(**arrays, **names), header["meta"]
    except TypeError as error:
        what = f"the file was written by another version of mlmgen: {error}"
        raise UserError(what, str(path), sealed.AGAIN) from None


def _read(path: str | os.PathLike, arrays: bool = True) -> tuple[dict, dict[str, np.ndarray]]:
    """Read the header and, unless they are not wanted, the arrays of a record of any class."""
    try:
        with (
            sealed.Sealed(path) as raw,
            io.BufferedReader(raw, sealed.BLOCK) as file,
            np.load(file, allow_pickle=False) as stored,
        ):
            header = json.loads(stored[HEADER].tobytes())
            return header, {name: stored[name] for name in stored.files if name != HEADER and arrays}
    except FileNotFoundError:
        raise UserError("there is no such file", str(path), "Run the stage that writes it first") from None
    except DAMAGE as error:
        raise UserError(f"the file is damaged or not mlmgen's: {error}", str(path), sealed.AGAIN) from None


def read_records(paths: Sequence[str | os.PathLike], cls: type[Record]) -> list[tuple[Record, dict]]:
    """Read several records, as `read_record`.

    Raises
    ------
    UserError
        For all files that are missing, damaged or hold another record, at once.
    """
    found, problems = [], []
    for path in paths:
        try:
            found.append(read_record(path, cls))
        except UserError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        what = f"{len(problems)} of {len(paths)} files cannot be used; the first: {problems[0].what}"
        raise UserError(what, listing((error.where for error in problems), 4), problems[0].do)
    return found


class Described(NamedTuple):
    """What a record says about itself."""

    name: str
    """Class of the record."""
    meta: dict
    arrays: dict[str, tuple[int, ...]]
    """Shapes."""


def describe_record(path: str | os.PathLike) -> Described:
    """Read all of a record, to check it, and return what it says about itself; errors as in `read_record`."""
    header, arrays = _read(path)
    return Described(header["class"], header["meta"], {name: array.shape for name, array in arrays.items()})


def read_record_meta(path: str | os.PathLike) -> dict:
    """Read the `meta` of a record of any class, without its arrays; errors as in `read_record`."""
    return _read(path, arrays=False)[0]["meta"]
