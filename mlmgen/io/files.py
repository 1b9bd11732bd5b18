"""Whole files: replaced at once or not at all, and the same bytes for the same content."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from mlmgen.errors import UserError

# What the user can mend; any other failure to write is a bug.
WRITE_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
NAME_KEPT = 80  # characters of the final name in the temporary one, which must stay below 255 bytes


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`, which becomes `path` when the block ends without an error.

    Readers see the earlier file or the complete new one; two writers cannot mix. The folder is made.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    Path
        Write here and close the file within the block.

    Raises
    ------
    UserError
        Where the disk is full or the folder may not be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:NAME_KEPT]}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in WRITE_FAILURES:
            reason = os.strerror(error.errno)
            raise UserError(f"cannot write: {reason}", str(path), "Free the disk or choose another folder") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: str | os.PathLike) -> str:
    """Return the sha256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, content) -> None:
    """Write lists, dicts, text and numbers as indented JSON, in the order given; NaN is refused."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike):
    """Read a JSON file.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("there is no such file", str(path), "Run the stage that writes it first") from None
    except ValueError as error:
        raise UserError(f"this is not a JSON file: {error}", str(path), "Delete it and run again") from None
