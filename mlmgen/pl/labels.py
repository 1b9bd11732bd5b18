"""Names beside points, without overlap: each takes the first free place around its point, else none."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

from mlmgen.pl.drawing import BLACK, GREY, plain

# Places around a point: directions from the outside in, at distances in points.
ANGLES = np.deg2rad([20, -20, 55, -55, 90, -90, 125, -125, 160, -160])
DISTANCES = (5.0, 12.0, 20.0, 30.0, 42.0, 56.0)
POINTS_PER_INCH = 72.0
MARGIN = 1.5  # points between two names
STEP, TURN, COVERED = 0.6, 0.05, 0.6  # costs of the next distance and direction, and of a point that is covered


def label(ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], others: np.ndarray | None = None) -> list:
    """Write names beside points. Limits and scales of the axes must be final.

    Parameters
    ----------
    ax : Axes
    x, y : (n,) float
        In the order in which names get their places.
    names : sequence of str, length n
    others : (m, 2) float, optional
        Points that are better not covered.

    Returns
    -------
    list of Annotation
        Those that found a place.
    """
    _settle(ax)
    unit = ax.figure.dpi / POINTS_PER_INCH
    here = ax.transData.transform(np.column_stack([x, y]).astype(float)) / unit
    area = ax.get_window_extent().extents / unit
    covered = here if others is None or not len(others) else ax.transData.transform(others) / unit
    middle = ax.transData.transform((0.0, 0.0))[0] / unit if _has_zero(ax) else area[[0, 2]].mean()
    placed, taken = [], []
    for place, point, name in zip(zip(x, y, strict=True), here, names, strict=True):
        text = _annotation(ax, place, name)
        size = Text.get_window_extent(text).size / unit  # without the line
        best = _place(point, size, area, np.array(taken).reshape(-1, 4), covered, outwards=point[0] >= middle)
        if best is None:
            text.remove()
            continue
        centre, distance = best
        text.set_position(centre - point)
        text.arrow_patch.set_visible(distance > DISTANCES[0])
        taken.append(_box(centre, size))
        placed.append(text)
    return placed


def _settle(ax: Axes) -> None:
    """Let the layout find the size of the axes, on which places depend."""
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        engine.execute(ax.figure)
    ax.apply_aspect()


def _has_zero(ax: Axes) -> bool:
    low, high = ax.get_xlim()
    return ax.get_xscale() == "linear" and low < 0 < high


def _annotation(ax: Axes, place: tuple[float, float], name: str):
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 1.5}
    return ax.annotate(
        plain(name), place, xytext=(0, 0), textcoords="offset points", ha="center", va="center", fontsize="small",
        fontstyle="italic", color=BLACK, arrowprops=line, zorder=6,
    )  # fmt: skip


def _place(point, size, area, taken, covered, outwards: bool):
    """Return the centre of the cheapest free place and its distance, or None."""
    best, cheapest = None, np.inf
    if (point < area[:2]).any() or (point > area[2:]).any():
        return None
    for step, distance in enumerate(DISTANCES):
        for turn, angle in enumerate(ANGLES):
            direction = np.array([np.cos(angle) if outwards else -np.cos(angle), np.sin(angle)])
            reach = distance + np.abs(direction) * size / 2.0
            centre = point + direction * reach
            box = _box(centre, size)
            outside = (box[:2] < area[:2]).any() or (box[2:] > area[2:]).any()
            if outside or ((box[:2] < taken[:, 2:]) & (box[2:] > taken[:, :2])).all(axis=1).any():
                continue
            inside = (covered >= box[:2]).all(axis=1) & (covered <= box[2:]).all(axis=1)
            cost = STEP * step + TURN * turn + COVERED * inside.sum()
            if cost < cheapest:
                best, cheapest = (centre, distance), cost
    return best


def _box(centre: np.ndarray, size: np.ndarray) -> np.ndarray:
    half = size / 2.0 + MARGIN
    return np.concatenate([centre - half, centre + half])
