"""Figures as files: the same bytes for the same results, fonts embedded, whatever the machine's own settings."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from mlmgen import io
from mlmgen.errors import UserError, listing

SETTINGS = {
    "pdf.fonttype": 42,  # TrueType, which journals ask for and programs can edit
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mlmgen",  # ids that would be random
    "legend.loc": "upper right",
}
FINEST = 2400  # dots per inch: what printers take
PIXELS = 1 << 16  # of a side of a picture: matplotlib's limit
# What would be the time.
METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Draw with matplotlib's own settings; those of the process are back at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def format_of(path: str | os.PathLike) -> str:
    """Return the format that a file's name asks for; a UserError for one that is not written."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in METADATA:
        ending = f"ends in .{suffix}" if suffix else "has no suffix"
        what = f"a figure cannot be written: its name {ending}"
        raise UserError(what, os.fspath(path), f"End it in one of {listing(f'.{name}' for name in METADATA)}")
    return suffix


def save(figure: Figure, path: str | os.PathLike, dpi: float) -> None:
    """Write a figure, all of it or nothing, within `settings`.

    Parameters
    ----------
    figure : Figure
    path : path-like
        Ends in ``.pdf``, ``.svg`` or ``.png``.
    dpi : float
        Dots per inch of ``.png``, and of the parts of the others that are pictures.

    Raises
    ------
    UserError
        For more dots than `FINEST`, or more pixels than a picture can have.
    """
    kind = format_of(path)
    _check_pixels(figure, dpi)
    with io.atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=METADATA[kind])


def _check_pixels(figure: Figure, dpi: float) -> None:
    where = "--dpi, --width and --height"
    if dpi > FINEST:
        raise UserError(f"{dpi:g} dots per inch are more than a printer has", where, f"Give at most {FINEST:,}")
    width, height = figure.get_size_inches()
    if max(width, height) * dpi >= PIXELS:
        what = f"{width:g} x {height:g} inches with {dpi:g} dots per inch are too many pixels"
        most = int((PIXELS - 1) / max(width, height))
        raise UserError(what, where, f"For this size give at most --dpi {most:,}")
