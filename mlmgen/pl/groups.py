"""The donors of one gene: their expression, and the effects that the model gives them."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlmgen.findings import Findings
from mlmgen.pl.choosing import Source, choice, opened_results
from mlmgen.pl.drawing import (
    BLUE,
    CYCLE,
    GREY,
    LN2,
    METHOD_WORDS,
    ORANGE,
    PALE,
    colours_of,
    empty,
    floor_below,
    legend,
    opened,
    plain,
    plain_numbers,
    titled,
    zero_at,
)

if TYPE_CHECKING:
    from mlmgen.story import OfCellType

Z = 1.959964  # of a 95 % interval
DETERMINED = 3.0  # standard error, log2: what a group says alone with more is drawn at the edge if it lies beyond
NAMED = 60  # groups whose names are still readable
OWN_COLUMNS = ("donor", "sample", "n_cells", "total_count", "pct_cells", "mean", "ci_low", "ci_high")
AREA = (14.0, 150.0)  # points squared, of the sample with no cells and of that with most
SPREAD = 0.56  # of the room between two levels that the dots of one take


def caterpillar(
    source: Source,
    gene: str,
    *,
    cell_type: str | None = None,
    term: str | None = None,
    effect: str | None = None,
    method: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw a gene's random effects, shrunken with 95 % intervals, beside what each group says by itself.

    Parameters
    ----------
    source : Findings or path-like
        A run; its prepared files are read as well.
    gene : str
        Name or symbol.
    cell_type, method : str, optional
        Which to show; the only one if there is one, and of both methods the cells (``glmm``).
    term, effect : str, optional
        Random term (``donor``) and its effect (``(Intercept)``), the first of the formula where none is given.
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
        For a gene, cell type, term or method that is not there, or where one of several must be chosen.
    """
    found, one, cell_type, method = _of_gene(source, gene, cell_type, method)
    groups = one.groups if one is not None else pd.DataFrame(columns=["term", "effect"])
    if len(groups):
        groups = _chosen(groups, "term", term)
        groups = _chosen(groups, "effect", effect)
    ax = opened(ax, figsize, (4.8, float(np.clip(1.2 + 0.2 * len(groups), 2.6, 9.0))))
    titled(ax, found.gene_name(found.gene(gene)), cell_type, METHOD_WORDS[method], above=True)
    if groups.empty:
        return empty(ax, "The gene was not fitted" if one is None else "The formula has no random effects")
    _caterpillar(ax, groups.sort_values(["estimate", "level"], kind="stable"))
    return ax


def _chosen(groups: pd.DataFrame, column: str, wanted: str | None) -> pd.DataFrame:
    present = tuple(groups[column].drop_duplicates())
    one = choice(column, wanted or present[0], present)
    return groups[(groups[column] == one).to_numpy()]


def _caterpillar(ax: Axes, groups: pd.DataFrame) -> None:
    """Draw groups from below, in the order given; those alone that are far off at the edge, as arrows."""
    y, names = np.arange(len(groups)), ("estimate", "std_error", "unpooled", "unpooled_se")
    estimate, se, alone, alone_se = (groups[name].to_numpy() / LN2 for name in names)
    low, high = estimate - Z * se, estimate + Z * se
    room = np.concatenate([low, high, alone[alone_se < DETERMINED]])
    edges = room.min() - 0.06 * max(np.ptp(room), 1e-3), room.max() + 0.06 * max(np.ptp(room), 1e-3)
    ax.hlines(y, np.clip(alone, *edges), estimate, color=PALE, linewidth=0.8, zorder=1)
    ax.hlines(y, low, high, color=BLUE, linewidth=1.3, zorder=2)
    size = 22.0 if len(groups) <= NAMED else 5.0
    ring = {"facecolors": "white", "edgecolors": ORANGE, "linewidths": 1.1, "clip_on": False}
    inside = (alone >= edges[0]) & (alone <= edges[1])
    ax.scatter(alone[inside], y[inside], s=size, label="alone", zorder=3, **ring)
    for edge, marker, off in ((edges[0], "<", alone < edges[0]), (edges[1], ">", alone > edges[1])):
        ax.scatter(np.full(off.sum(), edge), y[off], s=size, marker=marker, zorder=5, **ring)
    ax.scatter(estimate, y, s=size, color=BLUE, linewidths=0, label="shrunken, 95 %", zorder=4)
    ax.axvline(0.0, color=GREY, linewidth=0.7, zorder=0)
    ax.set(xlim=edges, ylim=(-0.7, len(groups) - 0.3))
    named = len(groups) <= NAMED
    ax.set_yticks(y if named else [], [plain(level) for level in groups["level"]] if named else [], fontsize="small")
    ax.tick_params(axis="y", length=0)
    term, effect = groups["term"].iloc[0], groups["effect"].iloc[0]
    ax.set_xlabel(plain(f"effect of {term}, log2" if effect == "(Intercept)" else f"{effect} of {term}, log2"))
    if not named:
        ax.set_ylabel(f"{len(groups):,} groups")
    legend(ax, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.1)


def donors(
    source: Source,
    gene: str,
    *,
    cell_type: str | None = None,
    by: str | None = None,
    log: bool | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw a gene's mean count in every sample, with its 95 % interval, by condition.

    The area of a dot is the number of cells; where donors have samples of several conditions, a line joins them.

    Parameters
    ----------
    source : Findings or path-like
        A run; its prepared files are read as well.
    gene : str
        Name or symbol.
    cell_type : str, optional
        Which to show; the only one if there is one.
    by : str, optional
        Variable of the formula along the axis; the first factor where none is given.
    log : bool, optional
        Logarithmic axis; where not given, if means differ more than tenfold.
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
        For a gene, cell type or variable that is not there, or where one of several must be chosen.
    """
    found, one, cell_type, _ = _of_gene(source, gene, cell_type, None)
    ax = opened(ax, figsize)
    titled(ax, found.gene_name(found.gene(gene)), cell_type, above=True)
    ax.set_ylabel("mean count per cell of average depth")
    if one is None:
        return empty(ax, "The gene was not fitted")
    samples, by = one.samples, _variable(found, one.samples, by)
    if by is None:
        samples, by = samples.assign(**{"": "all samples"}), ""
    levels = _levels(found, samples[by])
    x = _places(ax, samples, by, levels)
    colours = colours_of(levels)
    _samples(ax, samples, x, by, [colours.get(str(value), CYCLE[0]) for value in samples[by]], log)
    ax.set_xlabel(plain(by))
    return ax


def _variable(found: Findings, samples: pd.DataFrame, wanted: str | None) -> str | None:
    """Return the variable that was asked for, else the first factor of the formula, else its first number."""
    own = (*OWN_COLUMNS, found.config["prepare"]["donor"])
    there = tuple(name for name in samples.columns if name not in own)
    if wanted is not None:
        return choice("by", wanted, there)
    formula = found.provenance["formula"]
    there = sorted(there, key=lambda name: at if (at := formula.find(name)) >= 0 else math.inf)
    factors = [name for name in there if not pd.api.types.is_numeric_dtype(samples[name])]
    return next(iter([*factors, *there]), None)


def _levels(found: Findings, values: pd.Series) -> list[str]:
    """Return the levels of a factor, the reference level first; none of a number."""
    if pd.api.types.is_numeric_dtype(values):
        return []
    levels = sorted(set(values.astype(str)))
    reference = str(found.config["prepare"]["reference"].get(values.name, levels[0]))
    return sorted(levels, key=lambda level: level != reference)


def _places(ax: Axes, samples: pd.DataFrame, by: str, levels: list[str]) -> np.ndarray:
    """Return where the samples stand: a number at its value, else the levels side by side, donors spread in each."""
    values = samples[by]
    if not levels:
        return values.to_numpy(dtype=float)
    ax.set_xticks(range(len(levels)), [plain(level) for level in levels])
    ax.set_xlim(-0.6, len(levels) - 0.4)
    at = np.array([levels.index(str(value)) for value in values], dtype=float)
    # a paired donor stands at the same place in each level, so that the lines are parallel
    joined = _paired(samples, by)
    rank = pd.factorize(samples["donor"], sort=True)[0].astype(float)
    for level in range(len(levels)) if not joined else ():
        inside = at == level
        rank[inside] = pd.factorize(samples["donor"][inside], sort=True)[0]
    most = np.array([rank[at == a].max() for a in at]) if not joined else np.full(len(at), rank.max())
    return at + np.where(most > 0, SPREAD * (rank / np.maximum(most, 1.0) - 0.5), 0.0)


def _paired(samples: pd.DataFrame, by: str) -> bool:
    return bool((samples.groupby("donor", observed=True)[by].nunique() > 1).any())


def _samples(ax: Axes, samples: pd.DataFrame, x: np.ndarray, by: str, colour: list[str], log: bool | None) -> None:
    """Draw intervals, lines of donors, and dots."""
    mean, low, high = (samples[name].to_numpy(dtype=float) for name in ("mean", "ci_low", "ci_high"))
    positive = mean[mean > 0]
    log = bool(positive.size) and positive.max() > 10.0 * positive.min() if log is None else log and positive.size > 0
    floor = floor_below(positive.min()) if log else 0.0
    y, low = np.maximum(mean, floor), np.maximum(low, floor)
    if _paired(samples, by):
        for _, rows in samples.assign(x=x, y=y).sort_values("x").groupby("donor", observed=True):
            ax.plot(rows["x"], rows["y"], color=PALE, linewidth=0.8, zorder=1)
    ax.vlines(x, low, high, color=colour, linewidth=1.0, alpha=0.6, zorder=2)
    most = samples["n_cells"].max()
    area = AREA[0] + (AREA[1] - AREA[0]) * samples["n_cells"].to_numpy() / most
    ax.scatter(x, y, s=area, color=colour, edgecolors="white", linewidths=0.6, alpha=0.9, zorder=3)
    if log:
        ax.set_yscale("log")
        plain_numbers(ax.yaxis)
        if (mean <= floor).any():
            zero_at(ax, floor)
    else:
        ax.set_ylim(bottom=min(0.0, -0.02 * high.max()))
    _sizes(ax, samples["n_cells"].to_numpy())


def _sizes(ax: Axes, n_cells: np.ndarray) -> None:
    """Say above the axes what the areas mean."""
    for number in sorted({int(n_cells.min()), int(n_cells.max())}):
        area = AREA[0] + (AREA[1] - AREA[0]) * number / n_cells.max()
        ax.scatter([], [], s=area, color=PALE, linewidths=0, label=f"{number:,}")
    handles, names = ax.get_legend_handles_labels()
    names[-1] += " cells"
    style = {"frameon": False, "fontsize": "small", "ncols": 2, "columnspacing": 0.8, "handletextpad": 0.3}
    ax.legend(handles, names, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1, **style)


def _of_gene(
    source: Source, gene: str, cell_type: str | None, method: str | None
) -> tuple[Findings, "OfCellType | None", str, str]:
    """Return what is known of a gene in one cell type; None where it was not fitted."""
    from mlmgen.story import stories

    found = opened_results(source)
    name = found.gene(gene)
    cell_type = choice("cell_type", cell_type, found.cell_types, found)
    method = choice("method", method, found.methods)
    return found, stories(found, cell_type, [name], method).get(name), cell_type, method
