"""Variances over genes: against expression, as correlations within groups, and as shares of the whole."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlmgen.findings import Findings
from mlmgen.pl.choosing import Source, choice, opened_results
from mlmgen.pl.drawing import (
    BLACK,
    BLUE,
    LINE,
    METHOD_WORDS,
    PALE,
    VERMILLION,
    colours_of,
    empty,
    floor_below,
    legend,
    opened,
    plain,
    plain_numbers,
    points,
    titled,
    zero_at,
)
from mlmgen.pl.effects import NONE_FITTED, OF_MEAN

NO_TERMS = "The model has no random effects"
OWN = ("dispersion", "residual")  # components that are no random effect
SHAPE = 1000  # values that a violin is drawn from
NOISE = {"nb": "counting noise", "poisson": "counting noise", "bernoulli": "logistic noise", "gaussian": ""}
FAR = 2.0  # of the prior's standard deviations
TOO_SMALL = "too small to be measured: the points stand at the smallest values that were looked at, the prior is below"
WORD_OF_VARIANCE = "{} variance (natural log squared)"


def variance_mean(
    source: Source,
    *,
    cell_type: str | None = None,
    method: str | None = None,
    component: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw a variance of every gene against its mean count: as fitted, moderated, and the prior across genes.

    Parameters
    ----------
    source : Findings or path-like
        A run.
    cell_type, method : str, optional
        Which to show; the only one if there is one, and of both methods the cells (``glmm``).
    component : str, optional
        Variance component; where none is given the first that has a prior.
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
        For a cell type, method or component that is not there, or where one of several must be chosen.
    """
    found, cell_type, method = _of_run(source, cell_type, method)
    ax = opened(ax, figsize)
    draw_variance_mean(ax, found, cell_type, method, component)
    titled(ax, cell_type, METHOD_WORDS[method])
    return ax


def draw_variance_mean(ax: Axes, found: Findings, cell_type: str, method: str, component: str | None) -> None:
    """Draw variances against means, without a title."""
    priors, variances = (_rows(table, cell_type, method) for table in (found.priors, found.variances))
    if variances.empty:
        empty(ax, NONE_FITTED)
        return
    component = _component(priors, component)
    rows = variances[(variances["component"] == component).to_numpy()]
    fits = _rows(found.fits, cell_type, method).set_index("gene")
    x, cells = fits.loc[rows["gene"], "mean_count"].to_numpy(), float(fits["n_cells"].iloc[0])
    detection = found.family == "bernoulli" and method == "glmm"
    if detection:
        x = fits.loc[rows["gene"], "pct_cells"].to_numpy() / 100.0
    fitted, moderated = rows["variance_reml"].to_numpy(), rows["variance"].to_numpy()
    prior = priors[(priors["component"] == component).to_numpy()].iloc[0]
    ax.set(xscale="log", yscale="log", xlabel="share of cells with a count" if detection else OF_MEAN)
    ax.set_ylabel(plain(_word(component, method)))
    floor = _floor(moderated)
    at_zero = ~(fitted > floor)
    points(ax, x, np.where(at_zero, floor, fitted), PALE, 6.0, label="as fitted")
    if not prior["reason"]:
        points(ax, x, moderated, BLUE, 6.0, alpha=0.6, label="moderated")
        if _too_small(prior, x, cells, moderated):
            ax.set_xlabel(f"{ax.get_xlabel()}\n{textwrap.fill(TOO_SMALL, LINE)}")
        else:
            _prior(ax, prior, x, cells)
    else:
        ax.set_xlabel(f"{ax.get_xlabel()}\n{textwrap.fill('not moderated: ' + prior['reason'], LINE)}")
    if at_zero.any():
        zero_at(ax, floor)
    plain_numbers(ax.xaxis)
    plain_numbers(ax.yaxis)
    legend(ax, loc="upper right", markerscale=2.0)


def _component(priors: pd.DataFrame, wanted: str | None) -> str:
    """Return the component that was asked for, or the first with a prior."""
    there = tuple(priors["component"].astype(object))
    with_prior = tuple(priors["component"][(priors["reason"] == "").to_numpy()].astype(object))
    random = tuple(name for name in there if name not in OWN)
    return choice("component", (*with_prior, *random, *there)[0] if wanted is None else wanted, there)


def _word(component: str, method: str) -> str:
    """Say what the variance of a component is."""
    if component == "dispersion":
        return "variance between samples (natural log squared)" if method == "pseudobulk" else "dispersion of cells"
    term, _, effect = component.partition(": ")
    if component == "residual":
        return "residual variance (natural log squared)"
    return WORD_OF_VARIANCE.format(f"{term}: {effect}" if effect else term)


def _floor(moderated: np.ndarray) -> float:
    """Return where estimates of zero are drawn, and those far below the lowest moderated variance."""
    positive = moderated[moderated > 0]
    return floor_below(positive.min()) if positive.size else 1e-3


def _prior_mean(prior: pd.Series, x: np.ndarray, cells: float) -> np.ndarray:
    """Return the prior's mean of the log variance of genes with these means, a line in the log total count."""
    return prior["log_variance"] + prior["slope"] * (np.log(x * cells) - prior["mean_log_total"])


def _too_small(prior: pd.Series, x: np.ndarray, cells: float, moderated: np.ndarray) -> bool:
    """Tell whether the prior lies below what the grids of the genes reach, so that points stand at their lower ends."""
    above = np.log(moderated) - _prior_mean(prior, x, cells)
    return bool(np.nanmedian(above) > FAR * prior["sd"])


def _prior(ax: Axes, prior: pd.Series, x: np.ndarray, cells: float) -> None:
    """Draw the prior's mean and one standard deviation around it."""
    at = np.geomspace(x.min(), x.max(), 50)
    mean = _prior_mean(prior, at, cells)
    ax.fill_between(
        at, np.exp(mean - prior["sd"]), np.exp(mean + prior["sd"]), color=VERMILLION, alpha=0.18, lw=0, zorder=0
    )
    ax.plot(at, np.exp(mean), color=VERMILLION, linewidth=1.6, label="prior $\\pm$ 1 SD")


def icc(
    source: Source,
    *,
    cell_type: str | None = None,
    method: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw how alike cells of the same group are: the intraclass correlations of all genes, per grouping factor.

    The intraclass correlation of a factor is its share of the latent variance (``fraction``) and that of the factors
    that it lies within: two cells of the same ``donor:condition`` are of the same ``donor``.

    Parameters
    ----------
    source : Findings or path-like
        A run.
    cell_type, method : str, optional
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
        For a cell type or method that is not there, or where one of several must be chosen.
    """
    found, cell_type, method = _of_run(source, cell_type, method)
    ax = opened(ax, figsize)
    draw_icc(ax, found, cell_type, level_shares(found, cell_type, method))
    titled(ax, cell_type, METHOD_WORDS[method])
    return ax


def draw_icc(ax: Axes, found: Findings, cell_type: str, shares: pd.DataFrame) -> None:
    """Draw the distribution of intraclass correlations, given shares of every level, without a title."""
    levels = grouping(shares)
    ax.set(xlabel="intraclass correlation", ylabel="genes")
    if shares.empty or not levels:
        empty(ax, NONE_FITTED if shares.empty else NO_TERMS)
        return
    within = containing(found, cell_type, levels)
    values = {level: shares[[level, *within[level]]].sum(axis=1).clip(0.0, 1.0).to_numpy() for level in levels}
    edges = np.linspace(0.0, max(np.quantile(np.concatenate(list(values.values())), 0.995), 0.02), 41)
    for level, colour in colours_of(levels).items():
        words = f"{plain(level)}, median {np.median(values[level]):.2g}"
        shown = np.minimum(values[level], edges[-1])
        ax.hist(shown, bins=edges, color=colour, alpha=0.35, linewidth=0, label=words)
        ax.hist(shown, bins=edges, histtype="step", color=colour, linewidth=1.2)
        ax.axvline(np.median(values[level]), color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.set(xlim=(0.0, edges[-1]), ylim=(0.0, ax.get_ylim()[1] * (1.0 + 0.1 * len(levels))))
    legend(ax, loc="upper right")


def variance_partition(
    source: Source,
    *,
    cell_type: str | None = None,
    method: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw the share of every variance component in all genes as violins, with quartiles.

    Shares are of the latent variance that the fixed effects leave; with the noise of counting they add to one.

    Parameters
    ----------
    source : Findings or path-like
        A run.
    cell_type, method : str, optional
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
        For a cell type or method that is not there, or where one of several must be chosen.
    """
    found, cell_type, method = _of_run(source, cell_type, method)
    shares = level_shares(found, cell_type, method)
    ax = opened(ax, figsize, (1.4 + 1.0 * max(shares.shape[1], 2), 4.2))
    draw_partition(ax, shares)
    titled(ax, cell_type, METHOD_WORDS[method])
    return ax


def draw_partition(ax: Axes, shares: pd.DataFrame) -> None:
    """Draw shares, one column per level, as violins, without a title."""
    ax.set_ylabel("share of variance (%)")
    if shares.empty:
        empty(ax, NONE_FITTED)
        return
    values = [100.0 * shares[name].to_numpy() for name in shares.columns]
    own = len(grouping(shares))
    shapes, width = [thinned(one) for one in values], len(shares) ** -0.2  # Scott's rule, of all genes
    drawn = ax.violinplot(shapes, widths=0.85, showextrema=False, points=120, bw_method=width)
    for place, body in enumerate(drawn["bodies"]):
        colour = list(colours_of(shares.columns).values())[place] if place < own else PALE
        body.set(facecolor=colour, edgecolor="none", alpha=0.75)
    ax.boxplot(
        values, widths=0.1, showfliers=False, showcaps=False, patch_artist=True, medianprops={"color": BLACK},
        boxprops={"facecolor": "white", "linewidth": 0.8}, whiskerprops={"linewidth": 0.8},
    )  # fmt: skip
    ax.set_xticks(
        range(1, len(values) + 1), map(plain, shares.columns), rotation=25, ha="right", rotation_mode="anchor"
    )
    ax.tick_params(axis="x", length=0)
    ax.set_ylim(-2.0, 102.0)


def grouping(shares: pd.DataFrame) -> list[str]:
    """Return the grouping factors among the columns of shares: all but dispersion, residual and noise."""
    return [name for name in shares.columns if name not in (*OWN, *NOISE.values())]


def thinned(values: np.ndarray) -> np.ndarray:
    """Return as many quantiles as the shape of a distribution needs, which costs less time to draw than all values."""
    return np.quantile(values, (np.arange(SHAPE) + 0.5) / SHAPE) if values.size > SHAPE else values


def level_shares(found: Findings, cell_type: str, method: str) -> pd.DataFrame:
    """Return the shares of the latent variance: genes x grouping factors, dispersion and noise.

    The effects of a factor are one share, with their covariances. Factors in the order of the formula.
    """
    rows = _rows(found.variances, cell_type, method)
    if rows.empty:
        return pd.DataFrame()
    component = rows["component"].astype(object)
    of_component = {name: name.partition(": ")[0] for name in component.unique()}
    level, there = component.map(of_component), list(of_component.values())
    order = list(dict.fromkeys([name for name in there if name not in OWN] + there))
    shares = rows.assign(level=level).groupby(["gene", "level"], sort=False)["fraction"].sum(min_count=1).unstack()
    shares = shares[order].dropna()
    noise = NOISE["nb" if method == "pseudobulk" else found.family]
    return shares.assign(**{noise: (1.0 - shares.sum(axis=1)).clip(lower=0.0)}) if noise else shares


def containing(found: Findings, cell_type: str, levels: list[str]) -> dict[str, list[str]]:
    """Return of each grouping factor those that its groups lie within, as the data have them."""
    from mlmgen import io
    from mlmgen.groups import determines

    slug = found.provenance["cell_types"][cell_type]["slug"]
    design = io.read_design(found.folder / "prepared" / f"{slug}.h5ad")
    codes = {term.name: term.codes for term in design.terms}
    outer = {name: [o for o in codes if o != name and o in levels] for name in levels}
    return {
        name: [o for o in outer[name] if name in OWN or (name in codes and determines(codes[name], codes[o]))]
        for name in levels
    }


def _of_run(source: Source, cell_type: str | None, method: str | None) -> tuple[Findings, str, str]:
    found = opened_results(source)
    chosen = choice("cell_type", cell_type, found.cell_types, found)
    return found, chosen, choice("method", method, found.methods)


def _rows(table: pd.DataFrame, cell_type: str, method: str) -> pd.DataFrame:
    return table[(table["cell_type"] == cell_type).to_numpy() & (table["method"] == method).to_numpy()]
