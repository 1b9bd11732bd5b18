"""The command plot: one figure of a run, as a file."""

import inspect

import matplotlib
from matplotlib import pyplot as plt

from mlmgen import pl
from mlmgen.errors import UserError, listing, nearest
from mlmgen.pl import saving
from mlmgen.progress import say

OPTIONS = ("cell_type", "contrast", "method", "gene", "component", "term", "by")


def plot(
    kind: str,
    results: str,
    output: str,
    width: float | None = None,
    height: float | None = None,
    dpi: int = 300,
    threads: int = 1,
    **options: str | None,
) -> None:
    """Draw one figure.

    Parameters
    ----------
    kind : str
        A function of `mlmgen.pl`, with hyphens in place of underscores.
    results : str
        ``results/<name>``.
    output : str
        The file, ``.pdf``, ``.svg`` or ``.png``.
    width, height : float, optional
        Inches; those of the function where not given.
    dpi : int
        Of ``.png`` and of what is a picture within the others.
    threads : int
        Not used.
    **options : str or None
        Those of `OPTIONS` that were given.

    Raises
    ------
    UserError
        For a kind or suffix that does not exist, an option that the kind does not take, and as the function.
    """
    saving.format_of(output)
    function, given = function_of(kind), {name: one for name, one in options.items() if one is not None}
    takes = inspect.signature(function).parameters
    for name in given:
        if name not in takes:
            have = [_option(other) for other in OPTIONS if other in takes]
            raise UserError(f"{kind} takes no {_option(name)}", "the command", f"It takes {listing(have)}")
    if "gene" in takes and "gene" not in given:
        raise UserError(f"{kind} draws one gene, and none is given", "the command", "Add --gene with a name or symbol")
    matplotlib.use("Agg")  # no screen is needed
    with saving.settings():
        axes = function(results, **given, figsize=(width, height))
        saving.save(axes.figure, output, dpi)
        plt.close(axes.figure)
    say(f"plot: {output}")


def function_of(kind: str):
    """Return the function that draws a kind of figure."""
    kinds = [name.replace("_", "-") for name in pl.__all__]
    if kind.replace("_", "-") not in kinds:
        do = f"{nearest(kind, kinds)}Choose one of {listing(kinds, 20)}"
        raise UserError(f"there is no figure {kind!r}", "the command", do)
    return getattr(pl, kind.replace("-", "_"))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
