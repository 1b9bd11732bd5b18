"""What all figures share: colours, axes without clutter, points, and sentences where there is nothing to draw."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter

# Okabe and Ito 2008, Color Universal Design: told apart with any colour vision.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"
GREY, PALE = "#6E6E6E", "#B8B8B8"  # text; points that are not called
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, YELLOW, BLACK)
METHOD_COLOURS = {"glmm": BLUE, "pseudobulk": ORANGE}
METHOD_WORDS = {"glmm": "cells", "pseudobulk": "pseudobulk"}
# More points than this are one picture within a vector file: no program opens 20,000 circles gladly.
MANY = 1500
SIZE = (4.8, 4.2)  # inches
LINE = 58  # characters of a line of a sentence in the axes
DECADE = 10.0
SMALLEST = 2.2e-308  # p-value of `mlmgen.columns`
LN2 = float(np.log(2.0))


def opened(ax: Axes | None, figsize: Sequence[float | None] | None, default: tuple[float, float] = SIZE) -> Axes:
    """Return the axes to draw into, with two spines; those of a new figure where none are given.

    Parameters
    ----------
    ax : Axes or None
    figsize : (float, float) or None
        Inches of a new figure; a width or height of None is that of `default`.
    default : (float, float)
    """
    if ax is None:
        from matplotlib import pyplot as plt

        size = [own or usual for own, usual in zip(figsize or (None, None), default, strict=True)]
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def titled(ax: Axes, *parts: str | None, above: bool = False) -> None:
    """Write a title of the parts that say something, aligned left; ``above`` leaves a line free below it."""
    text = ", ".join(part for part in parts if part and part != "all")
    ax.set_title(plain(text), loc="left", fontsize="medium", pad=18 if above else None)


def plain(name: str) -> str:
    """Return a name of the data as text, whatever is in it: between two dollars would be a formula."""
    return str(name).replace("$", r"\$")


def evidence(p: np.ndarray) -> np.ndarray:
    """Return -log10 of p-values; a zero, which other programs write, is the smallest that there is here."""
    return -np.log10(np.maximum(p, SMALLEST))


def points(ax: Axes, x: np.ndarray, y: np.ndarray, colour: str, size: float = 9.0, **style):
    """Draw points, as one picture within a vector file where they are many.

    Parameters
    ----------
    ax : Axes
    x, y : (n,) float
    colour : str
    size : float
        Area, points squared.
    **style
        As for `matplotlib.axes.Axes.scatter`.

    Returns
    -------
    PathCollection
    """
    style = {"linewidths": 0, "alpha": 0.8, "rasterized": len(x) > MANY} | style
    return ax.scatter(x, y, s=size, color=colour, **style)


def sentence(ax: Axes, text: str, y: float = 0.5) -> None:
    """Say something in the middle of the axes."""
    words = textwrap.fill(text, LINE)
    ax.text(0.5, y, words, transform=ax.transAxes, ha="center", va="center", color=GREY, fontsize="small", zorder=5)


def empty(ax: Axes, text: str) -> Axes:
    """Say why there is nothing to draw, in axes without ticks."""
    ax.set_xticks([])
    ax.set_yticks([])
    sentence(ax, text)
    return ax


def legend(ax: Axes, **style) -> None:
    """Draw the legend without a frame, in small type."""
    handles, _ = ax.get_legend_handles_labels()
    if handles:
        ax.legend(**({"frameon": False, "fontsize": "small", "handletextpad": 0.4, "borderaxespad": 0.2} | style))


def plain_numbers(axis: Axis) -> None:
    """Write 0.01 and 20 beside a logarithmic axis whose limits are final, in place of powers of ten."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_formatter("{x:g}")
    if high < DECADE * low:
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.set_minor_formatter("{x:g}" if high < DECADE * low else NullFormatter())


def floor_below(lowest: float) -> float:
    """Return where zeros stand below the lowest other value of a logarithmic axis: between two of its ticks."""
    return float(10.0 ** (np.floor(np.log10(lowest) - 0.8) + 0.5))


def zero_at(ax: Axes, floor: float, axis: str = "y") -> None:
    """Write 0 beside a logarithmic axis where values of zero are drawn."""
    place = (0.0, floor) if axis == "y" else (floor, 0.0)
    own = ax.get_yaxis_transform() if axis == "y" else ax.get_xaxis_transform()
    offset, align = ((-5, 0), ("right", "center")) if axis == "y" else ((0, -5), ("center", "top"))
    ax.annotate(
        "0", place, xycoords=own, xytext=offset, textcoords="offset points", ha=align[0], va=align[1],
        annotation_clip=False,
    )  # fmt: skip


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Give each name a colour; more than eight names share them in turn."""
    return {name: CYCLE[i % len(CYCLE)] for i, name in enumerate(names)}
