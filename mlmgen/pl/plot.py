"""The command plot: one figure of a run, as a file."""

import inspect

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from mlmgen import findings, pl
from mlmgen.errors import UserError, listing, nearest
from mlmgen.findings import Findings
from mlmgen.pl import saving
from mlmgen.progress import say

OF_EFFECTS = ("volcano", "ma", "forest", "concordance")
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
        For a kind or suffix that does not exist, an option that the kind does not take, where there
        is nothing to draw, and as the function.
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
    found = findings.read(results)
    matplotlib.use("Agg")  # no screen is needed
    with saving.settings():
        axes = function(found, **given, figsize=(width, height))
        if not axes.has_data():
            plt.close(axes.figure)
            raise _nothing(found, kind, given, " ".join(text.get_text() for text in axes.texts))
        saving.save(axes.figure, output, dpi)
        plt.close(axes.figure)
    say(f"plot: {output}")


def _nothing(found: Findings, kind: str, given: dict[str, str], said: str) -> UserError:
    """Word why a figure would be empty; in a notebook the axes say it."""
    effects, said = _about(found.effects, given), " ".join(said.split())
    if effects["log2fc"].isna().all() and effects["pvalue"].notna().any() and kind in OF_EFFECTS:
        what = "a joint test has a p-value of each gene and no effect that could be drawn"
        return UserError(what, f"mlmgen plot {kind}", "Draw qq or pvalue-histogram, or give another --contrast")
    if "gene" not in given:
        return UserError(f"there is nothing to draw: {said}", f"mlmgen plot {kind}", "Choose other rows")
    gene = found.gene(given["gene"])
    fits = found.fits[(found.fits["gene"] == gene).to_numpy()]
    fitted = tuple(dict.fromkeys(fits["cell_type"][np.isfinite(fits["loglik"].to_numpy())]))
    if given.get("cell_type", "") in fitted:
        return UserError(f"there is nothing to draw: {said}", f"mlmgen plot {kind}", "See `mlmgen gene` for this gene")
    wanted = {name: one for name, one in given.items() if name in ("cell_type", "method")}
    reasons = listing(dict.fromkeys(one for one in _about(fits, wanted)["reason"] if one), 2)
    what = f"{found.gene_name(gene)} was not fitted in {given.get('cell_type', 'any cell type')}: {reasons or said}"
    do = f"It was fitted in {listing(fitted)}: give one by --cell-type" if fitted else "Choose another gene"
    return UserError(what, f"mlmgen plot {kind}", do)


def _about(table: pd.DataFrame, given: dict[str, str]) -> pd.DataFrame:
    """Return the rows of a table that were asked for."""
    for name in ("cell_type", "contrast", "method"):
        if name in given and name in table.columns:
            table = table[(table[name] == given[name]).to_numpy()]
    return table


def function_of(kind: str):
    """Return the function that draws a kind of figure."""
    kinds = [name.replace("_", "-") for name in pl.__all__]
    if kind.replace("_", "-") not in kinds:
        do = f"{nearest(kind, kinds)}Choose one of {listing(kinds, 20)}"
        raise UserError(f"there is no figure {kind!r}", "the command", do)
    return getattr(pl, kind.replace("-", "_"))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
