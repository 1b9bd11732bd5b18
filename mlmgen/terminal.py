"""Bold and red text, and lines that fit: on a terminal only, and never where NO_COLOR is set."""

import os
import shutil
import sys
import textwrap
from typing import TextIO

BOLD, RED, GREEN, YELLOW, RESET = "\033[1m", "\033[31m", "\033[32m", "\033[33m", "\033[0m"
PLAIN_WIDTH = 100  # columns of what is not a terminal
WIDEST = 120


def coloured(stream: TextIO | None = None) -> bool:
    """Tell whether a stream shows colours: a terminal that is not dumb, without NO_COLOR (no-color.org).

    Parameters
    ----------
    stream : text stream, optional
        stdout if not given.
    """
    stream = sys.stdout if stream is None else stream
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(getattr(stream, "isatty", lambda: False)())


def bold(text: str, stream: TextIO | None = None) -> str:
    """Return a heading in bold."""
    return _painted(text, BOLD, stream)


def red(text: str, stream: TextIO | None = None) -> str:
    """Return what went wrong in red."""
    return _painted(text, BOLD + RED, stream)


def yellow(text: str, stream: TextIO | None = None) -> str:
    """Return a warning in yellow."""
    return _painted(text, YELLOW, stream)


def green(text: str, stream: TextIO | None = None) -> str:
    """Return what went well in green."""
    return _painted(text, GREEN, stream)


def _painted(text: str, code: str, stream: TextIO | None) -> str:
    return f"{code}{text}{RESET}" if text and coloured(stream) else text


def width() -> int:
    """Return the columns that a line may take."""
    return min(shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, WIDEST)


def wrapped(label: str, text: str, indent: int) -> list[str]:
    """Break a text into lines that start under each other.

    Parameters
    ----------
    label : str
        Before the first line; it may be bold, and takes `indent` columns.
    text : str
    indent : int
        Columns before each line.
    """
    parts = textwrap.wrap(text, max(width() - indent, 40), break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{label}{parts[0]}", *(" " * indent + part for part in parts[1:])]


def shortened(text: str, most: int) -> str:
    """Cut a text to so many columns, with an ellipsis."""
    return text if len(text) <= most else text[: most - 3] + "..."


def error(text: str, stream: TextIO | None = None) -> str:
    """Write an error as the program prints it, its head in red."""
    return f"mlmgen: {red('error:', stream)} {text}"
