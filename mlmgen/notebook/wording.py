"""Errors of the engine in the words of a notebook: arguments for configuration keys, rows for the cells of a table."""

import contextlib
import re
from collections.abc import Iterator

from mlmgen.errors import UserError

PLACES = (
    (r"configuration key contrasts\.(.+)$", r"argument contrasts['\1']"),
    (r"configuration key ", "argument "),
    (r", file the ", ", the "),
)
# Of a data frame there are no obs and no cells.
PLACES_OF_A_FRAME = ((r"\bobs\['(.*?)'\]", r"column '\1'"), (r"\bobs of (the data frame)", r"\1"))
WORDS_OF_A_FRAME = ((r"\bobs (columns?)\b", r"\1"), (r"\bcells\b", "rows"), (r"\bcell\b", "row"))
QUOTED = re.compile(r"('[^']*')")


@contextlib.contextmanager
def arguments(frame: bool = False) -> Iterator[None]:
    """Reword the user errors of a block.

    Parameters
    ----------
    frame : bool
        Whether the data are a data frame.
    """
    try:
        yield
    except UserError as error:
        what, do = (_outside_quotes(text, WORDS_OF_A_FRAME if frame else ()) for text in (error.what, error.do))
        where = _replaced(error.where, (*PLACES, *(PLACES_OF_A_FRAME if frame else ())))
        raise UserError(what, where, do.replace(" out of the file.", " out.")) from None


def _outside_quotes(text: str, words: tuple[tuple[str, str], ...]) -> str:
    """Replace words, but not in names."""
    return "".join(part if part.startswith("'") else _replaced(part, words) for part in QUOTED.split(text))


def _replaced(text: str, words: tuple[tuple[str, str], ...]) -> str:
    for pattern, word in words:
        text = re.sub(pattern, word, text)
    return text
