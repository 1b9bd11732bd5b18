"""The one error that a user sees: what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A problem in the user's data or configuration, never a bug of mlmgen.

    The command line prints it as one line and exits with code 2.

    Parameters
    ----------
    what : str
        What is wrong, with the numbers or names that were seen.
    where : str
        The file, column or configuration key.
    do : str
        What to do, with the allowed values.
    """

    def __init__(self, what: str, where: str, do: str):
        self.what, self.where, self.do = what, where, do
        super().__init__(f"{what} (in {where}). {do}")


def listing(names: Iterable, most: int = 12) -> str:
    """Join names for a message, cutting a long list and saying by how much."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def nearest(name: str, allowed: Iterable) -> str:
    """Suggest the allowed name closest to a misspelt one, or nothing."""
    close = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}? " if close else ""
