"""What a design can tell about each contrast, and what is wrong with it: before any fit."""

import dataclasses
from typing import NamedTuple

import numpy as np

from mlmgen import design_power
from mlmgen.arms import AVERAGE, factors_of, mentions
from mlmgen.comparisons import BETWEEN, CELLS, PARTLY, Comparison, comparison
from mlmgen.design_power import Information, Power
from mlmgen.groups import determines
from mlmgen.replicates import CELL, INTERCEPT, Replicate, intercepts, replicate
from mlmgen.types import Contrast, Design, RandomTerm
from mlmgen.within_donors import caution, concerned, missing_terms

# The standard error is then 2.2 times that of the same comparison without the other variables.
CONFOUNDED = 0.8
# With fewer in an arm the variance between donors is hardly estimated from the gene itself.
FEW_DONORS = 3
# The defaults of the expression filters; those of a run concern its fits alone.
FEWEST_CELLS, FEWEST_SHARE, FEWEST_DONORS = 10, 0.01, 2
# Counts per cell, where no gene is expressed by that much.
TYPICAL_MEAN = 0.5
MANY = 100.0  # degrees of freedom, of which decimals say nothing
# Significant digits: the last bits of linear algebra depend on the machine.
DIGITS = 6


class Row(NamedTuple):
    """One contrast in one cell type; the columns are explained in `mlmgen.columns`, missing numbers are None.

    ``caution`` is for the reasons of effects; ``missing`` tells whether the formula lacks the replicate's random term.
    """

    cell_type: str
    contrast: str
    comparison: str
    arms: str
    n_donors: int
    n_donors_both: int
    n_donors_smallest: int
    n_samples: int
    n_samples_smallest: int
    cells_per_donor_min: int
    cells_per_donor_median: float
    cells_per_donor_max: int
    replicate: str
    n_replicates: int
    df: float
    confounding: float
    confounded_with: str
    mean_count: float
    lfc_detectable: float | None
    power_twofold: float | None
    warning: str
    caution: str
    missing: bool


class _Model(NamedTuple):
    """A design with the random terms that a contrast needs, and what it says about a typical gene."""

    design: Design
    information: Information
    mean_count: float
    missing: bool


def lint(cell_type: str, design: Design, contrasts: tuple[Contrast, ...], mean_count: float) -> tuple[Row, ...]:
    """Describe each contrast of a cell type.

    Parameters
    ----------
    cell_type : str
    design : Design
        Of its cells.
    contrasts : tuple of Contrast
    mean_count : float
        Of a typical gene, counts per cell.
    """
    lacking, models = missing_terms(design), {}
    rows = []
    for contrast in contrasts:
        needed = concerned(contrast, design, lacking)
        key = tuple(lack.variable for lack in needed)
        if key not in models:
            models[key] = _model(design, tuple(lack.term for lack in needed), mean_count)
        rows.append(_row(cell_type, design, contrast, models[key]))
    return tuple(rows)


def typical_mean(statistics: dict, n_cells: int) -> float:
    """Return the median mean count of the expressed genes of a cell type, counts per cell.

    Parameters
    ----------
    statistics : dict of str to (G,) array
        As `mlmgen.io.read_gene_statistics` returns them.
    n_cells : int
    """
    cells, donors = np.asarray(statistics["n_cells_expressing"]), np.asarray(statistics["n_donors_expressing"])
    kept = (cells >= max(FEWEST_CELLS, FEWEST_SHARE * n_cells)) & (donors >= FEWEST_DONORS)
    return float(np.median(np.asarray(statistics["mean_count"])[kept])) if kept.any() else TYPICAL_MEAN


def line(row: Row) -> str:
    """Write what a contrast can find, in one line for the log."""
    donors = f"{row.n_donors} donors"
    who = donors if row.comparison in (BETWEEN, CELLS) else f"{row.n_donors_both} of {donors}"
    if row.arms:
        who += f"{' on both sides' * (who != donors)} ({row.arms})"
    repeated = f"{row.n_replicates:,} x {row.replicate}{', not in the formula,' * row.missing}"
    repeated += f" with {degrees(row.df)} df"
    head = f"{row.cell_type}, {row.contrast}: {row.comparison}, {who}; replicates {repeated}"
    if row.lfc_detectable is None:
        return f"{head}; a joint test has no one effect to have power for"
    per = "" if row.arms else f" per unit of {row.contrast}"
    return (
        f"{head}; a log2 fold change of {row.lfc_detectable:.2g}{per} has {100 * design_power.POWER:.0f} % power at "
        f"p = {design_power.LEVEL:g} in a typical gene ({row.mean_count:.2g} counts a cell)"
    )


def degrees(df: float) -> str:
    """Write degrees of freedom: ``7``, ``6.2``, ``4,531``."""
    return f"{df:,.0f}" if df >= MANY else f"{df:.1f}".removesuffix(".0")


def _model(design: Design, needed: tuple[RandomTerm, ...], mean_count: float) -> _Model:
    """Complete a design; one for pseudobulk alone may have no random intercept of donors."""
    terms = (*design.terms, *needed)
    if not terms or not any(determines(term.codes, design.donor.codes) for term in intercepts(design)):
        donor, basis = design.donor, np.zeros(1, dtype=np.int32)
        terms = (RandomTerm(donor.name, donor.levels, donor.codes, (INTERCEPT,), np.ones((1, len(design.X))), basis),)
        terms += (*design.terms, *needed)
    whole = dataclasses.replace(design, terms=terms)
    return _Model(whole, design_power.information(whole, mean_count), mean_count, bool(needed))


def _row(cell_type: str, design: Design, contrast: Contrast, model: _Model) -> Row:
    cells = np.bincount(np.unique(design.donor.codes[design.pattern], return_inverse=True)[1])
    seen, repeated = comparison(contrast, design), replicate(model.design, contrast.weights)
    power = _power(contrast, model, repeated)
    share, other = _confounding(contrast, model)
    found = _warnings(contrast.name, seen, repeated, share, other, design)
    return Row(
        cell_type=cell_type,
        contrast=contrast.name,
        comparison=seen.kind,
        **{name: value for name, value in seen._asdict().items() if name != "kind"},
        cells_per_donor_min=int(cells.min()),
        cells_per_donor_median=float(np.median(cells)),
        cells_per_donor_max=int(cells.max()),
        replicate=repeated.name,
        n_replicates=repeated.number,
        df=_rounded(repeated.df_inside if power is None else power.df),
        confounding=_rounded(share),
        confounded_with=other,
        mean_count=_rounded(model.mean_count),
        lfc_detectable=None if power is None else _rounded(power.log2fc),
        power_twofold=None if power is None else _rounded(power.of_twofold),
        warning="; ".join(found),
        caution=caution(contrast, design),
        missing=model.missing,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if abs(value) > 10.0**-DIGITS else 0.0


def _power(contrast: Contrast, model: _Model, repeated: Replicate) -> Power | None:
    if len(contrast.weights) > 1:
        return None
    return design_power.power(model.design, model.information, contrast.weights[0], repeated, model.mean_count)


def _confounding(contrast: Contrast, model: _Model) -> tuple[float, str]:
    """Return the share of information that other variables take away and, where it is large, the one that matters."""
    design, names = model.design, model.design.coefficients
    share = max(design_power.confounding(design, model.information, row) for row in contrast.weights)
    if share < CONFOUNDED:
        return share, ""
    used = np.flatnonzero(contrast.weights.any(axis=0))
    own = {part for j in used for part in factors_of(names[j])} | {INTERCEPT}
    others = dict.fromkeys(part for name in names for part in factors_of(name) if part not in own)
    left = {}
    for other in others:
        # The contrast's own columns stay, a function of the other variable though they may be, as I(age**2) of age.
        kept = np.array([not mentions(name, other) for name in names]) | contrast.weights.any(axis=0)
        left[other] = max(design_power.confounding(design, model.information, row, kept) for row in contrast.weights)
    return share, min(left, key=left.get)


def _warnings(name: str, seen: Comparison, repeated: Replicate, share: float, other: str, design: Design) -> list[str]:
    donors, found = f"{design.donor.name}s", []
    if seen.kind != CELLS and seen.arms and seen.n_donors_smallest < FEW_DONORS:
        found.append(
            f"{name} compares few {donors} ({seen.arms}): how much {donors} differ is then known from the other genes "
            f"alone; add {donors}, or take discoveries as hints"
        )
    if seen.kind == PARTLY and 2 * seen.n_donors_both < seen.n_donors:
        found.append(
            f"{name} is compared within {seen.n_donors_both} of {seen.n_donors} {donors} only: the others, on one side "
            f"each, add how {donors} differ"
        )
    if seen.kind == BETWEEN and repeated.name != CELL and repeated.number < seen.n_donors:
        found.append(
            f"{name} does not vary within the groups of {repeated.name}: its replicates are the {repeated.number} "
            f"groups of {repeated.name}, not the {seen.n_donors} {donors}"
        )
    if share >= CONFOUNDED:
        found.append(_confounded(name, share, other, design))
    return found


def _confounded(name: str, share: float, other: str, design: Design) -> str:
    """Word the loss of information to another variable; one that interacts has a reference far from most cells."""
    interacts = any(mentions(c, other) and len(factors_of(c)) > 1 for c in design.coefficients)
    lost = f"{100 * share:.0f} % of what the data say about it"
    if interacts and any(factors_of(mean) == (other,) for mean in design.means):
        levels = [mean for mean in design.means if mean.startswith(AVERAGE)][:2]
        advice = f"average over its levels, as in {' - '.join(reversed(levels))}"
        return f"{name} is the effect at the reference level of {other} alone, which costs {lost}; {advice}"
    if interacts:
        advice = f"write center({other}) in the formula to have it at the mean"
        return f"{name} is the effect at {other} = 0, far from the data, which costs {lost}; {advice}"
    return (
        f"{name} is nearly confounded with {other}: the other variables take away {lost}, and its effect can hardly be "
        f"told from theirs"
    )
