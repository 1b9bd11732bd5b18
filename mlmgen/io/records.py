"""Records: frozen dataclasses of arrays and names, as npz with the same bytes for the same content."""

import dataclasses
import json
import os
import zipfile
import zlib
from typing import TypeVar

import numpy as np

from mlmgen.errors import UserError
from mlmgen.io.files import atomic

Record = TypeVar("Record")
HEADER = "record"  # the array that holds everything that is not an array, as JSON
LAYOUT_VERSION = 1
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
    # np.savez_compressed leaves no choice of the level; like it, opening by name stores no time
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


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
    try:
        # numpy would leave a file open that it cannot read
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            header = json.loads(stored[HEADER].tobytes())
            arrays = {name: stored[name] for name in stored.files if name != HEADER}
    except FileNotFoundError:
        raise UserError("there is no such file", str(path), "Run the stage that writes it first") from None
    except DAMAGE as error:
        raise UserError(f"the file is damaged or not mlmgen's: {error}", str(path), "Delete it and run again") from None
    if header["class"] != cls.__name__ or header["layout"] != LAYOUT_VERSION:
        seen = f"{header['class']} in layout {header['layout']}"
        raise UserError(f"the file holds {seen}, not {cls.__name__}", str(path), "Delete it and run again")
    names = {name: tuple(value) if isinstance(value, list) else value for name, value in header["fields"].items()}
    try:
        return cls(**arrays, **names), header["meta"]
    except TypeError as error:
        what = f"the file was written by another version of mlmgen: {error}"
        raise UserError(what, str(path), "Delete it and run again") from None
