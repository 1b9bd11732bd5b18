"""Whole files: replaced at once or not at all, and the same bytes for the same content."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from mlmgen.errors import UserError

# What the user can mend; any other failure to write is a bug.
FULL = {errno.ENOSPC, errno.EDQUOT}
WRITE_FAILURES = {*FULL, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
# Of the place itself: a folder of this name, a file in place of a folder, a name that cannot be.
NO_PLACE = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTEMPTY}
TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp")
SEAL = "sha256"  # key of a JSON file: checksum of the others
UNREADABLE = "Ask its owner for read permission"
IF_OURS = "If a run of mlmgen made it, delete it and run again"
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
        Where the disk is full, the folder may not be written, or there can be no such file.
    """
    path = Path(path)
    temporary = _temporary(path)
    with _explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def together(folder: str | os.PathLike, last: str) -> Iterator[Path]:
    """Give a temporary folder whose files move to `folder` when the block ends without an error, all or none.

    Nothing moves before every file is on the disk. The renames take milliseconds; a kill between two of them leaves
    files of two sets and the earlier `last`, or none: who reads `last` can tell.

    Parameters
    ----------
    folder : path-like
    last : str
        The file that moves last, of the name that says that the set is complete. An earlier one is deleted first.

    Yields
    ------
    Path
    """
    folder = Path(folder)
    temporary = _temporary(folder / "tables")
    with _explained(folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            names = sorted((path.name for path in temporary.iterdir()), key=lambda name: (name == last, name))
            for name in names:
                _sync(temporary / name)
            (folder / last).unlink(missing_ok=True)
            _sync(folder)
            for name in names:
                os.replace(temporary / name, folder / name)
            _sync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def replaced(folder: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends without an error.

    Parameters
    ----------
    folder : path-like

    Yields
    ------
    Path
    """
    folder = Path(folder)
    temporary = _temporary(folder)
    with _explained(folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            for path in sorted(temporary.rglob("*")):
                _sync(path)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
            _sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name[:NAME_KEPT]}.{secrets.token_hex(8)}.tmp")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a failure to write that the user can mend into a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRITE_FAILURES and not (error.errno in NO_PLACE and _is_of(error, path)):
            raise
        do = "Free the disk or choose another folder" if error.errno in FULL else "Choose another place"
        raise UserError(f"cannot write: {os.strerror(error.errno)}", str(path), do) from error


def _is_of(error: OSError, path: Path) -> bool:
    """Tell whether an error is about a path, the temporary one beside it or in it, or a folder above."""
    named = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    named += [name for name in (error.filename, error.filename2) if isinstance(name, Path)]
    return any(name in path.parents or name.parent in (path, path.parent) for name in named)


def delete_leftovers(folder: str | os.PathLike, before: float) -> list[str]:
    """Delete the temporary files and folders that killed jobs have left.

    Parameters
    ----------
    folder : path-like
        With all folders in it.
    before : float
        Only what was last written before this time, in seconds since 1970: a job on another machine may still write.

    Returns
    -------
    list of str
        What was deleted.
    """
    found = [path for path in sorted(Path(folder).rglob(".*.tmp")) if TEMPORARY.fullmatch(path.name)]
    deleted = []
    for path in found:
        try:
            if max(p.stat().st_mtime for p in [path, *path.glob("*")]) >= before:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:
            continue
        deleted.append(str(path))
    return deleted


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: str | os.PathLike) -> str:
    """Return the sha256 of a file's bytes, or of the names and bytes of a folder's files: 64 hexadecimal digits.

    Raises
    ------
    UserError
        If a file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return _digest(path)
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listed = "".join(f"{_digest(file)}  {name}\n" for name, file in files)
    return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read: {os.strerror(error.errno)}", str(path), "Check the file and the disk") from None


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, content) -> None:
    """Write lists, dicts, text and numbers as indented JSON, in the order given; NaN is refused.

    A dict gets a last key, ``sha256``, with the checksum of the rest.
    """
    sealed = {**content, SEAL: _digest_of_json(content)} if isinstance(content, dict) else content
    write_text(path, json.dumps(sealed, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _digest_of_json(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def read_json(path: str | os.PathLike):
    """Read a JSON file.

    Raises
    ------
    UserError
        If it is missing or damaged, or a dict that `write_json` has not written.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("there is no such file", str(path), "Run the stage that writes it first") from None
    except ValueError as error:
        raise UserError(f"this is not a JSON file: {error}", str(path), IF_OURS) from None
    except PermissionError:
        raise UserError("this file may not be read", str(path), UNREADABLE) from None
    if isinstance(content, dict) and SEAL not in content:
        raise UserError("this is not a file that a run of mlmgen has made", str(path), IF_OURS)
    if isinstance(content, dict) and content.pop(SEAL, None) != _digest_of_json(content):
        raise UserError("the file has changed since it was written", str(path), "Delete it and run again")
    return content
