"""Names of cell types as file names, and the choice of cell types."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from mlmgen.errors import UserError, listing, nearest

UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
LONGEST = 60  # characters: file systems allow 255 bytes, people read fewer
HASH_LENGTH = 6  # hex digits: a readable suffix; only names that look alike depend on it


def text(value: object) -> str:
    """Write a value of an obs column as text: whole numbers without a decimal point."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    # numpy's float64 is a float, its float32 is not but has the method as well; ints and bools stay as they are
    whole = getattr(value, "is_integer", None) if not isinstance(value, int) else None
    return str(int(value)) if whole is not None and whole() else str(value)


def slug(name: str) -> str:
    """Turn a name into a file name of letters, digits and ``. - _``.

    A name that is one already is kept; otherwise a short hash of the name is added, so that names
    which differ only in other characters stay apart: ``CD14+ Monocytes`` is ``CD14_Monocytes-`` and
    six hexadecimal digits.
    """
    readable = UNSAFE.sub("_", name).strip("._-")[:LONGEST].rstrip("._-")
    return name if readable and readable == name else _hashed(readable, name)


def select(present: Sequence[str], wanted: str | Iterable[str], column: str | None) -> dict[str, str]:
    """Choose the cell types to analyse.

    Parameters
    ----------
    present : sequence of str
        Those that have cells (`mlmgen.io.cell_types`).
    wanted : "all" or iterable of str
        As in the configuration.
    column : str or None
        The obs column, for messages.

    Returns
    -------
    dict of str to str
        File name to cell type, in the order of `present`; which others are chosen changes no name.

    Raises
    ------
    UserError
        If a cell type has no cells.
    """
    wanted = list(present) if wanted == "all" else [str(name) for name in wanted]
    for name in wanted:
        if name not in present:
            raise UserError(
                f"no cell is of the cell type {name!r}",
                f"obs column {column!r}, configuration key cell_types",
                f"{nearest(name, present)}The values with cells are {listing(present, 30)}",
            )
    return {file: name for file, name in file_names(present).items() if name in wanted}


def file_names(present: Sequence[str]) -> dict[str, str]:
    """Return the file name of each cell type: file name, unique also where case is ignored, to cell type."""
    files, digits = [slug(name) for name in present], HASH_LENGTH
    # once, unless a name is the file name of another
    while repeated := _repeated(files):
        files = [
            _hashed(file, name, digits) if file.casefold() in repeated else file
            for file, name in zip(files, present, strict=True)
        ]
        digits += HASH_LENGTH
    return dict(zip(files, present, strict=True))


def _repeated(files: list[str]) -> set[str]:
    counts = Counter(file.casefold() for file in files)
    return {file for file, count in counts.items() if count > 1}


def _hashed(readable: str, name: str, digits: int = HASH_LENGTH) -> str:
    # a configuration can hold text that is no valid Unicode
    return f"{readable or 'unnamed'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:digits]}"
