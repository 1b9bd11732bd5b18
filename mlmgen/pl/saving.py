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
    """
    kind = format_of(path)
    with io.atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=METADATA[kind])
