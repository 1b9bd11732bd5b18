"""Whether p-values hold: their histogram, and their quantiles against those of no effects."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from mlmgen.pl.choosing import Chosen, Source, chosen
from mlmgen.pl.drawing import BLUE, GREY, METHOD_WORDS, ORANGE, PALE, empty, evidence, legend, opened, points, titled
from mlmgen.pl.effects import NONE_FITTED

BINS = 20
BAND = (0.025, 0.975)
FLAT = 0.5  # p-values above this are nearly all of genes without an effect (Storey 2002, J R Stat Soc B 64:479)
# With an audit the axis ends at so many times the largest expected value: beyond it are effects, not the audit.
OF_EXPECTED = 2.5


def pvalue_histogram(
    source: Source,
    *,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    bins: int = BINS,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw a histogram of p-values, with the height that genes without an effect have.

    Where the model holds, the histogram is flat, with a peak at zero if there are effects. One that rises to the right
    or has a hump in the middle says that something is wrong.

    Parameters
    ----------
    source : Findings, path-like or DataFrame
        A run, or a table with the columns of ``effects``.
    cell_type, contrast, method : str, optional
        Which to show; the only one if there is one, and of both methods the cells (``glmm``).
    bins : int
        Number of bars.
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
        For a cell type, contrast or method that is not there, or where one of several must be chosen.
    """
    one = chosen(source, "effects", cell_type=cell_type, contrast=contrast, method=method)
    ax = opened(ax, figsize)
    draw_histogram(ax, one, bins)
    titled(ax, one.cell_type, one.contrast, METHOD_WORDS.get(one.method))
    return ax


def draw_histogram(ax: Axes, one: Chosen, bins: int = BINS) -> None:
    """Draw a histogram of the p-values of chosen rows, without a title."""
    p = _pvalues(one.rows)
    ax.set(xlabel="p", ylabel="genes")
    if not len(p):
        empty(ax, NONE_FITTED)
        return
    ax.hist(p, bins=np.linspace(0.0, 1.0, bins + 1), color=BLUE, edgecolor="white", linewidth=0.5)
    share = min((p > FLAT).mean() / (1.0 - FLAT), 1.0)
    ax.axhline(share * len(p) / bins, color=GREY, linestyle=(0, (4, 3)), linewidth=1.0)
    ax.annotate(
        f"level of p > {FLAT:g}: {100 * share:.0f} % of {len(p):,} genes", (1.0, 1.0), xycoords="axes fraction",
        ha="right", va="top", color=GREY, fontsize="small",
    )  # fmt: skip
    ax.set_xlim(0.0, 1.0)
    ax.margins(y=0.12)


def qq(
    source: Source,
    *,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw observed against expected -log10 p, with the 95 % band of independent tests without effects.

    Where the run has a null audit, its p-values (labels permuted, so that no gene has an effect) are drawn as well and
    should follow the diagonal; points beyond the axis are then drawn at its end.

    Parameters
    ----------
    source : Findings, path-like or DataFrame
        A run, or a table with the columns of ``effects``.
    cell_type, contrast, method : str, optional
        Which to show; the only one if there is one, and of both methods the cells (``glmm``).
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
        For a cell type, contrast or method that is not there, or where one of several must be chosen.
    """
    one = chosen(source, "effects", cell_type=cell_type, contrast=contrast, method=method)
    ax = opened(ax, figsize)
    draw_qq(ax, one)
    titled(ax, one.cell_type, one.contrast, METHOD_WORDS.get(one.method))
    return ax


def draw_qq(ax: Axes, one: Chosen) -> None:
    """Draw the quantiles of chosen rows and of their audit, without a title."""
    p, audit = np.sort(_pvalues(one.rows)), audited(one)
    ax.set(xlabel="expected $-\\log_{10}$ p", ylabel="observed $-\\log_{10}$ p")
    if not len(p):
        empty(ax, NONE_FITTED)
        return
    expected, observed = expected_of(len(p)), evidence(p)
    right = max(expected[0], audit["expected"].max() if len(audit) else 0.0) * 1.05
    _band(ax, len(p), right)
    top = max(observed[0] * 1.05, right)
    if len(audit):
        top = min(top, max(OF_EXPECTED * expected[0], 1.1 * audit["observed"].max()))
    beyond = observed > top
    points(ax, expected[~beyond], observed[~beyond], BLUE, label="all genes")
    points(ax, expected[beyond], np.full(beyond.sum(), top), BLUE, 22.0, marker="^", clip_on=False,
           label=f"{beyond.sum():,} beyond the axis" if beyond.any() else None)  # fmt: skip
    if len(audit):
        words = f"labels permuted, $\\lambda$ {lambda_of(one):.2f}"
        points(ax, audit["expected"], audit["observed"], ORANGE, label=words, zorder=3)
    ax.set(xlim=(0.0, right), ylim=(0.0, top))
    legend(ax, loc="upper right" if beyond.any() else "upper left", borderaxespad=0.8)


def expected_of(n: int) -> np.ndarray:
    """Return what the sorted -log10 p of n genes without effects should be, (n,) float64, largest first."""
    return -np.log10((np.arange(1, n + 1) - 0.5) / n)


def band_of(n: int, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % band of -log10 of the p-values of some ranks among n: order statistics of a uniform are beta."""
    low, high = (stats.beta.ppf(q, ranks, n - ranks + 1.0) for q in BAND)
    return -np.log10(high), -np.log10(low)


def _band(ax: Axes, n: int, right: float) -> None:
    ranks = np.unique(np.geomspace(1, n, 200).astype(int))
    low, high = band_of(n, ranks)
    x = -np.log10((ranks - 0.5) / n)
    ax.fill_between(x, low, high, color=PALE, alpha=0.5, linewidth=0, label="95 % without effects")
    ax.plot([0.0, right], [0.0, right], color=GREY, linewidth=0.8)


def audited(one: Chosen) -> pd.DataFrame:
    """Return the audit's quantiles that belong to chosen rows; empty where there are none."""
    table = one.findings.audit_qq if one.findings is not None else None
    if table is None:
        return pd.DataFrame(columns=["expected", "observed"])
    same = [(table[name] == getattr(one, name)).to_numpy() for name in ("cell_type", "contrast", "method")]
    return table[np.logical_and.reduce(same)]


def lambda_of(one: Chosen) -> float:
    """Return the audit's lambda of chosen rows: 1 where p-values hold."""
    table = one.findings.audit
    same = [(table[name] == getattr(one, name)).to_numpy() for name in ("cell_type", "contrast", "method")]
    return float(table["lambda"][np.logical_and.reduce(same)].iloc[0])


def _pvalues(rows: pd.DataFrame) -> np.ndarray:
    p = rows["pvalue"].to_numpy()
    return p[np.isfinite(p)]
