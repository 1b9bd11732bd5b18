"""Effects side by side: one gene in all cell types, and all genes by both methods."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlmgen.errors import listing
from mlmgen.pl.choosing import FOLD_CHANGE, Source, choice, chosen, effect_word, opened_results, symbols, there
from mlmgen.pl.drawing import (
    BLUE,
    GREEN,
    GREY,
    METHOD_COLOURS,
    METHOD_WORDS,
    ORANGE,
    PALE,
    VERMILLION,
    empty,
    legend,
    opened,
    plain,
    points,
    titled,
)
from mlmgen.pl.effects import NONE_FITTED
from mlmgen.pl.labels import label

ROW, MARGINS = 0.28, 1.2  # inches of a row of a forest plot, and of what is around the rows
APART = 0.17  # of methods within a row
MARKERS = {"glmm": "o", "pseudobulk": "s"}


def forest(
    source: Source,
    gene: str,
    *,
    cell_type: str | Sequence[str] | None = None,
    contrast: str | None = None,
    method: str | None = None,
    fdr: float = 0.05,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw the effects of one gene with their 95 % intervals, a row per cell type and contrast.

    Parameters
    ----------
    source : Findings or path-like
        A run.
    gene : str
        Name or symbol.
    cell_type : str or sequence of str, optional
        Which to show, all where none are given.
    contrast, method : str, optional
        Which to show, all where none is given.
    fdr : float
        Markers of effects with ``padj`` below are filled.
    ax : Axes, optional
        Where to draw; a new figure is made where none is given.
    figsize : (float, float), optional
        Inches of the new figure.

    Returns
    -------
    Axes

    Raises
    ------
    UserError
        For a gene, cell type, contrast or method that is not there.
    """
    found = opened_results(source)
    name = found.gene(gene)
    rows = found.effects[(found.effects["gene"] == name).to_numpy()]
    for key, wanted in (("cell_type", cell_type), ("contrast", contrast), ("method", method)):
        if wanted is not None:
            several = [wanted] if isinstance(wanted, str) else list(wanted)
            several = [choice(key, one, there(found, rows, key), found) for one in several]
            rows = rows[rows[key].isin(several).to_numpy()]
    shown = rows[np.isfinite(rows["log2fc"].to_numpy())]
    keys = _keys(found, shown)
    ax = opened(ax, figsize, (5.6, MARGINS + ROW * max(len(keys), 2)))
    titled(ax, found.gene_name(name), above=True)
    words = (effect_word(found, name) for name in found.methods if method in (None, name))
    ax.set_xlabel(" or ".join(dict.fromkeys(words)))
    if shown.empty:
        return empty(ax, NONE_FITTED if rows["pvalue"].isna().all() else "A joint test has no effect of its own")
    _rows(ax, shown, keys, fdr)
    _without(ax, rows, shown)
    return ax


def _keys(found, shown: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the cell types and contrasts that have an effect, contrast by contrast in the order of the run."""
    have = set(zip(shown["cell_type"], shown["contrast"], strict=True))
    return [(c, k) for k in found.contrasts for c in found.cell_types if (c, k) in have]


def _rows(ax: Axes, shown: pd.DataFrame, keys: list, fdr: float) -> None:
    """Draw the effects in rows, the first on top, methods beside each other."""
    place = {key: i for i, key in enumerate(keys)}
    methods = [name for name in METHOD_COLOURS if (shown["method"] == name).any()]
    for k, name in enumerate(methods):
        rows = shown[(shown["method"] == name).to_numpy()]
        y = np.array([place[key] for key in zip(rows["cell_type"], rows["contrast"], strict=True)], dtype=float)
        y += (2 * k - len(methods) + 1) * APART
        colour, called = METHOD_COLOURS[name], rows["padj"].to_numpy() < fdr
        ax.hlines(y, rows["ci_low"], rows["ci_high"], color=colour, linewidth=1.3)
        style = {"marker": MARKERS[name], "edgecolors": colour, "linewidths": 1.2, "zorder": 3}
        for some, inside in ((called, colour), (~called, "white")):
            ax.scatter(rows["log2fc"][some], y[some], s=26.0, c=inside, **style)
        ax.scatter([], [], s=26.0, c=colour, label=METHOD_WORDS[name], **style)
    ax.scatter([], [], s=26.0, c="white", edgecolors=GREY, linewidths=1.2, label=f"FDR above {100 * fdr:g} %")
    ax.axvline(0.0, color=PALE, linewidth=0.8, zorder=0)
    one_contrast, one_type = (len({key[i] for key in keys}) == 1 for i in (1, 0))
    names = [c if one_contrast else k if one_type else f"{k}: {c}" for c, k in keys]
    ax.set_yticks(range(len(keys)), [plain(name) for name in names])
    ax.set_ylim(len(keys) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    legend(ax, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, columnspacing=0.9, borderaxespad=0.1)


def _without(ax: Axes, rows: pd.DataFrame, shown: pd.DataFrame) -> None:
    """Name the cell types in which the gene has no effect at all."""
    left = [name for name in rows["cell_type"].drop_duplicates() if name not in set(shown["cell_type"])]
    if left:
        ax.set_xlabel(f"{ax.get_xlabel()}\nnot fitted in {plain(listing(left, 3))}")


def concordance(
    source: Source,
    *,
    cell_type: str | None = None,
    contrast: str | None = None,
    fdr: float = 0.05,
    top: int = 10,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw the effects of the cells against those of pseudobulk, with the genes on which they disagree marked.

    Parameters
    ----------
    source : Findings, path-like or DataFrame
        A run with both methods, or a table with the columns of ``concordance``.
    cell_type, contrast : str, optional
        Which to show; the only one if there is one.
    fdr : float
        Genes with a ``padj`` below are called.
    top : int
        So many disagreements are named, the largest differences first.
    ax : Axes, optional
        Where to draw; a new figure is made where none is given.
    figsize : (float, float), optional
        Inches of the new figure.

    Returns
    -------
    Axes

    Raises
    ------
    UserError
        For a run with one method; for a cell type or contrast that is not there, or where one of several must be
        chosen.
    """
    one = chosen(source, "concordance", cell_type=cell_type, contrast=contrast)
    ax = opened(ax, figsize)
    draw_concordance(ax, one.rows, effect_word(one.findings, "glmm"), fdr, top)
    titled(ax, one.cell_type, one.contrast)
    return ax


def draw_concordance(ax: Axes, rows: pd.DataFrame, effect: str, fdr: float, top: int) -> None:
    """Draw the effects of both methods, without a title; ``effect`` is what that of the cells is."""
    ax.set(xlabel=f"{FOLD_CHANGE}, pseudobulk", ylabel=f"{effect}, cells")
    pair = rows[["log2fc_pseudobulk", "log2fc_glmm"]].to_numpy()
    rows, pair = rows[np.isfinite(pair).all(axis=1)], pair[np.isfinite(pair).all(axis=1)]
    if rows.empty:
        empty(ax, "No gene has an effect by both methods")
        return
    cells, sums = (rows[f"padj_{method}"].to_numpy() < fdr for method in ("glmm", "pseudobulk"))
    for some, colour, name in (
        (~cells & ~sums, PALE, "neither"),
        (cells & sums, BLUE, "called by both"),
        (cells & ~sums, GREEN, "cells only"),
        (sums & ~cells, ORANGE, "pseudobulk only"),
    ):
        points(ax, *pair[some].T, colour, label=f"{name}: {some.sum():,}")
    disagree = (rows["disagree"] == "yes").to_numpy()
    ring = {"facecolors": "none", "edgecolors": VERMILLION, "linewidths": 0.9, "zorder": 4}
    ax.scatter(*pair[disagree].T, s=34.0, label=f"disagree: {disagree.sum():,}", **ring)
    reach = max(np.abs(pair).max() * 1.08, 0.5)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.plot([-reach, reach], [-reach, reach], color=GREY, linewidth=0.7, zorder=0)
    legend(ax, loc="lower right", borderaxespad=0.4)
    order = np.argsort(-np.abs(rows["difference"].fillna(0.0).to_numpy()), kind="stable")
    named = order[disagree[order]][:top]
    label(ax, *pair[named].T, symbols(rows.iloc[named]), pair)
