"""Reading a configuration file: what YAML makes of it, with the line where it cannot."""

import os
from pathlib import Path

from mlmgen.errors import UserError, listing, nearest

ENDINGS = (".yaml", ".yml", ".json")
KINDS = {str: "text", list: "a list", int: "a number", float: "a number"}
EXAMPLE = "`mlmgen init DATA.h5ad` writes a configuration for your data"


def read(path: str | os.PathLike) -> dict:
    """Return the keys of a configuration file, unchecked (`mlmgen.config.load` checks them).

    Parameters
    ----------
    path : path-like
        YAML or JSON.

    Raises
    ------
    UserError
        If it is missing, with the nearest name in its folder; not text; not YAML; or without keys.
    """
    import yaml

    text = _text(Path(path))
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            _problem(error), _place(path, error), "Correct that line; texts with : or # need quotes"
        ) from None
    if not isinstance(found, dict):
        kind = "is empty" if found is None else f"holds {KINDS.get(type(found), 'one value')}, not keys with values"
        raise UserError(f"the configuration {kind}", str(path), f"Give lines such as 'donor: patient'. {EXAMPLE}")
    odd = [key for key in found if not isinstance(key, str)]
    if odd:
        raise UserError(f"{odd[0]!r} is not the name of a key", str(path), "Keys are text, such as donor")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise UserError("this is a folder, not a configuration", str(path), EXAMPLE) from None
    except PermissionError:
        raise UserError("this file may not be read", str(path), "Ask its owner for read permission") from None
    except UnicodeDecodeError:
        data = path.suffix in (".h5ad", ".zarr")
        what = "this is data, not a configuration" if data else "this is not a text file in UTF-8"
        raise UserError(what, str(path), EXAMPLE) from None
    except OSError:
        folder = path.parent
        present = sorted(one.name for one in folder.iterdir() if one.suffix in ENDINGS) if folder.is_dir() else []
        there = f"Here are {listing(present)}. " if present else ""
        do = f"{nearest(path.name, present)}{there}{EXAMPLE}"
        raise UserError("there is no such configuration", str(path), do) from None


def _problem(error) -> str:
    seen = getattr(error, "problem", None) or "it cannot be read"
    return f"the configuration is not YAML: {seen}"


def _place(path: str | os.PathLike, error) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
