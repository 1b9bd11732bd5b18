"""Volcano and MA plots."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlmgen.pl.choosing import Chosen, Source, chosen, genes_among, symbols
from mlmgen.pl.drawing import (
    BLUE,
    GREY,
    METHOD_WORDS,
    PALE,
    VERMILLION,
    empty,
    evidence,
    opened,
    plain_numbers,
    points,
    sentence,
    titled,
)
from mlmgen.pl.labels import label

JOINT = "A joint test has a p-value and no effect of its own: see its p-values"
NONE_FITTED = "No gene was tested"
CALLED_SIZE, OTHER_SIZE = 12.0, 7.0  # areas of points
OF_MEAN = "mean count per cell"


def volcano(
    source: Source,
    *,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    fdr: float = 0.05,
    top: int = 10,
    genes: Sequence[str] | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw evidence against effect: -log10 p of every gene against its log2 fold change.

    Parameters
    ----------
    source : Findings, path-like or DataFrame
        A run, or a table with the columns of ``effects``.
    cell_type, contrast, method : str, optional
        Which to show; the only one if there is one, and of both methods the cells (``glmm``).
    fdr : float
        Genes with ``padj`` below are called: vermillion where the effect is above zero, blue below.
    top : int
        So many called genes with the strongest evidence are named.
    genes : sequence of str, optional
        Names or symbols of genes to name instead.
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
        For a cell type, contrast, method or gene that is not there, or where one of several must be chosen.
    """
    one = chosen(source, "effects", cell_type=cell_type, contrast=contrast, method=method)
    ax = opened(ax, figsize)
    draw_volcano(ax, one, fdr, top, genes)
    titled(ax, one.cell_type, one.contrast, METHOD_WORDS.get(one.method), above=True)
    return ax


def draw_volcano(ax: Axes, one: Chosen, fdr: float, top: int, genes: Sequence[str] | None = None) -> None:
    """Draw a volcano plot of chosen rows, without a title."""
    ax.set(xlabel=one.effect, ylabel="$-\\log_{10}$ p")
    rows = tested(one.rows)
    if not _drawable(ax, one.rows, rows):
        return
    x, y = rows["log2fc"].to_numpy(), evidence(rows["pvalue"].to_numpy())
    called = _called_points(ax, rows, x, y, fdr)
    _threshold(ax, rows, called, fdr)
    room = 0.08 * np.ptp(x) or 0.3
    ax.set_xlim(min(x.min(), 0.0) - room, max(x.max(), 0.0) + room)
    ax.set_ylim(-0.02 * max(y.max(), 1.0), max(y.max(), 1.0) * 1.08)
    ax.axvline(0.0, color=PALE, linewidth=0.6, zorder=0)
    _counts(ax, x, called)
    _names(ax, one, rows, x, y, called, top, genes)


def ma(
    source: Source,
    *,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    fdr: float = 0.05,
    top: int = 10,
    genes: Sequence[str] | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw the effect of every gene against its mean count per cell.

    Parameters
    ----------
    source : Findings, path-like or DataFrame
        A run, or a table with the columns of ``effects``.
    cell_type, contrast, method : str, optional
        Which to show; the only one if there is one, and of both methods the cells (``glmm``).
    fdr : float
        Genes with ``padj`` below are called: vermillion where the effect is above zero, blue below.
    top : int
        So many called genes with the strongest evidence are named.
    genes : sequence of str, optional
        Names or symbols of genes to name instead.
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
        For a cell type, contrast, method or gene that is not there, or where one of several must be chosen.
    """
    one = chosen(source, "effects", cell_type=cell_type, contrast=contrast, method=method)
    ax = opened(ax, figsize)
    draw_ma(ax, one, fdr, top, genes)
    titled(ax, one.cell_type, one.contrast, METHOD_WORDS.get(one.method), above=True)
    return ax


def draw_ma(ax: Axes, one: Chosen, fdr: float, top: int, genes: Sequence[str] | None = None) -> None:
    """Draw an MA plot of chosen rows, without a title."""
    ax.set(xlabel=OF_MEAN, ylabel=one.effect)
    rows = tested(one.rows)
    if not _drawable(ax, one.rows, rows):
        return
    x, y = rows["mean_count"].to_numpy(), rows["log2fc"].to_numpy()
    ax.set_xscale("log")
    called = _called_points(ax, rows, x, y, fdr)
    room = 0.08 * np.ptp(y) or 0.3
    ax.set_ylim(min(y.min(), 0.0) - room, max(y.max(), 0.0) + room)
    ax.set_xlim(x.min() / 1.4, x.max() * 1.8)
    plain_numbers(ax.xaxis)
    ax.axhline(0.0, color=PALE, linewidth=0.8, zorder=0)
    _counts(ax, y, called)
    _names(ax, one, rows, x, y, called, top, genes)


def tested(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a p-value and an effect."""
    return rows[np.isfinite(rows["pvalue"].to_numpy()) & np.isfinite(rows["log2fc"].to_numpy())]


def _drawable(ax: Axes, rows: pd.DataFrame, drawn: pd.DataFrame) -> bool:
    """Tell whether there are effects; say in the axes why there are none."""
    if len(drawn):
        return True
    empty(ax, JOINT if rows["pvalue"].notna().any() else NONE_FITTED)
    return False


def _called_points(ax: Axes, rows: pd.DataFrame, x, y, fdr: float) -> np.ndarray:
    """Draw the points, called ones last, in three groups: not called, down, up. Return which are called."""
    called, effect = rows["padj"].to_numpy() < fdr, rows["log2fc"].to_numpy()
    for some, colour, size, name in (
        (~called, PALE, OTHER_SIZE, "not called"),
        (called & (effect < 0), BLUE, CALLED_SIZE, "down"),
        (called & (effect >= 0), VERMILLION, CALLED_SIZE, "up"),
    ):
        points(ax, x[some], y[some], colour, size, label=name)
    return called


def _threshold(ax: Axes, rows: pd.DataFrame, called: np.ndarray, fdr: float) -> None:
    """Draw a line between called genes and others; weighted false discovery rates may have none."""
    y = evidence(rows["pvalue"].to_numpy())
    if not called.any() or y[called].min() < y[~called].max(initial=0.0):
        return
    last = y[called].min()
    height = 0.5 * (last + (last if called.all() else y[~called].max()))
    ax.axhline(height, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    ax.annotate(
        f"FDR {100 * fdr:g} %", (1.0, height), xycoords=ax.get_yaxis_transform(), xytext=(0, 2),
        textcoords="offset points", ha="right", va="bottom", color=GREY, fontsize="x-small",
    )  # fmt: skip


def _counts(ax: Axes, effect: np.ndarray, called: np.ndarray) -> None:
    """Write above the axes how many genes are called, down and up, of how many."""
    down, up = int((called & (effect < 0)).sum()), int((called & (effect >= 0)).sum())
    for x, align, colour, text in (
        (0.0, "left", BLUE, f"{down:,} down"),
        (0.5, "center", GREY, f"{len(effect):,} genes tested"),
        (1.0, "right", VERMILLION, f"{up:,} up"),
    ):
        ax.annotate(
            text, (x, 1.0), xycoords="axes fraction", xytext=(0, 3), textcoords="offset points",
            ha=align, va="bottom", color=colour, fontsize="small",
        )  # fmt: skip
    if not called.any():
        sentence(ax, "No gene is called", y=0.95)


def _names(ax: Axes, one: Chosen, rows, x, y, called, top: int, genes) -> None:
    """Name the genes that were asked for, or the called ones with the strongest evidence."""
    if genes is None:
        order = np.argsort(-np.abs(rows["statistic"].to_numpy()), kind="stable")
        shown = order[called[order]][:top]
    else:
        place = {gene: i for i, gene in enumerate(rows["gene"])}
        shown = np.array([place[g] for g in genes_among(one.rows, genes, one.findings) if g in place], dtype=int)
    others = np.column_stack([x[called], y[called]])
    label(ax, x[shown], y[shown], symbols(rows.iloc[shown]), others)
