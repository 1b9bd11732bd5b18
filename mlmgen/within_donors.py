"""Variables that vary within donors and have no random term of their own: their replicate is missing."""

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen.arms import factors_of, levels, mentions
from mlmgen.design import build
from mlmgen.expressions import split_source
from mlmgen.formula import parse
from mlmgen.groups import determines
from mlmgen.patterns import FEWEST_ROWS
from mlmgen.random_terms import quoted
from mlmgen.replicates import INTERCEPT, intercepts
from mlmgen.types import Contrast, Design, RandomTerm

if TYPE_CHECKING:
    import pandas as pd


class Missing(NamedTuple):
    """A random term that a design lacks.

    Attributes
    ----------
    variable : str
    text : str
        As a formula has it, for example ``(1 | donor:condition)``.
    term : RandomTerm
    """

    variable: str
    text: str
    term: RandomTerm


def completed(formula: str, donor: str, factors: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> str:
    """Add to a formula the random terms that fit a design with these variables within donors.

    Donors respond differently, so a factor that varies within donors is compared between samples and gets
    ``(1 | donor:factor)`` beside ``(1 | donor)``; a number, such as the day of a visit, gets a random slope.

    Parameters
    ----------
    formula : str
        Fixed effects, with or without random terms.
    donor : str
    factors, numbers : tuple of str
        Variables that vary within donors and have no random term yet.

    Returns
    -------
    str
        ``~ condition + (1 | donor) + (1 | donor:condition)`` for a paired design.
    """
    own = quoted(donor)
    intercept = re.compile(rf"\(\s*1\s*\|\s*{re.escape(own)}\s*\)")
    if not re.search(rf"\|\s*{re.escape(own)}\s*[)/]", formula):
        formula = f"{formula} + (1 | {own})"
    for name in numbers:
        effect = _written(name)
        if intercept.search(formula):
            formula = intercept.sub(lambda _, e=effect: f"(1 + {e} | {own})", formula, count=1)
        else:
            formula = f"{formula} + (0 + {effect} | {own})"
    return " + ".join([formula, *(f"(1 | {own}:{quoted(name)})" for name in factors)])


def default_formula(obs: "pd.DataFrame", fixed: str, donor: str) -> str:
    """Suggest the formula for a data set: the fixed effects with the random effects that their comparisons need.

    Parameters
    ----------
    obs : DataFrame
        The cells, of one or all cell types.
    fixed : str
        Fixed effects, such as ``~ condition + age``.
    donor : str
        obs column of the replicate.

    Returns
    -------
    str
        As of `completed`: ``~ condition + (1 | donor)`` where donors have one condition each, with
        ``(1 | donor:condition)`` where they have both.

    Raises
    ------
    UserError
        Where a column is missing or the fixed effects cannot be told apart.
    """
    formula = completed(fixed, donor)
    design, _ = build(obs, parse(formula), donor)
    return fitting_formula(design, missing_terms(design))


def missing_terms(design: Design) -> tuple[Missing, ...]:
    """Return the random terms that the variables within donors lack.

    A factor needs groups that separate its levels within donors, or a random slope within donors; a number that was
    measured on visits or wells, not on cells, needs the slope.
    """
    found = []
    for name in design.within:
        columns = [j for j, c in enumerate(design.coefficients) if len(factors_of(c)) == 1 and mentions(c, name)]
        is_factor = any(factors_of(mean) == (name,) for mean in design.means)
        values = _levels_of(design, name) if is_factor else _values_of(design, columns)
        if values is None or any(_has_slope(term, name, design) for term in design.terms):
            continue
        if not any(determines(term.codes, values[1]) and _inside(term, design) for term in intercepts(design)):
            found.append(_of_factor(design, name, *values) if is_factor else _of_number(design, name, columns[0]))
    return tuple(found)


def fitting_formula(design: Design, missing: tuple[Missing, ...]) -> str:
    """Return the formula of a design with the terms that it lacks."""
    is_slope = [INTERCEPT not in lack.term.effects for lack in missing]
    factors = tuple(lack.variable for lack, slope in zip(missing, is_slope, strict=True) if not slope)
    numbers = tuple(lack.variable for lack, slope in zip(missing, is_slope, strict=True) if slope)
    return completed(design.formula, design.donor.name, factors, numbers)


def concerned(contrast: Contrast, design: Design, missing: tuple[Missing, ...]) -> tuple[Missing, ...]:
    """Return the missing terms whose variable a contrast is about."""
    used = np.flatnonzero(np.any(contrast.weights != 0.0, axis=0))
    return tuple(lack for lack in missing if any(mentions(design.coefficients[j], lack.variable) for j in used))


def caution(contrast: Contrast, design: Design) -> str:
    """Say that a contrast lacks its replicate, with the formula that has it; empty if it does not."""
    lacking = concerned(contrast, design, missing_terms(design))
    if not lacking:
        return ""
    names = " and ".join(lack.variable for lack in lacking)
    vary, them = ("varies", "it") if len(lacking) == 1 else ("vary", "them")
    return (
        f"p-value too small: {names} {vary} within donors, and the formula has no random effect for {them}; "
        f"use {fitting_formula(design, lacking)}"
    )


def _levels_of(design: Design, factor: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the levels of a factor and that of each pattern; its samples where the columns do not tell."""
    known = levels(design, (factor,))
    if known is None:
        return design.sample.levels, design.sample.codes
    return tuple(name[len(factor) + 1 : -1] for name in known[0]), known[1]


def _values_of(design: Design, columns: list[int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the values of a number and that of each pattern; None for one that was measured on cells.

    What was measured on visits or wells has few values a donor (as in `mlmgen.design_warnings`).
    """
    if not columns or design.basis[columns].any():
        return None
    values, codes = np.unique(design.X[:, columns], axis=0, return_inverse=True)
    pairs = np.unique(np.stack([design.donor.codes, codes.ravel()]), axis=1)
    return (values, codes.ravel()) if pairs.shape[1] * FEWEST_ROWS <= design.pattern.size else None


def _of_factor(design: Design, name: str, names: tuple[str, ...], codes: np.ndarray) -> Missing:
    donor = design.donor
    pairs, inverse = np.unique(np.stack([donor.codes, codes]), axis=1, return_inverse=True)
    term = RandomTerm(
        name=f"{donor.name}:{name}",
        levels=tuple(f"{donor.levels[d]}:{names[level]}" for d, level in pairs.T),
        codes=inverse.ravel().astype(np.int32),
        effects=(INTERCEPT,),
        Z=np.ones((1, len(design.X))),
        basis=np.zeros(1, dtype=np.int32),
    )
    return Missing(name, f"(1 | {quoted(donor.name)}:{quoted(name)})", term)


def _of_number(design: Design, name: str, column: int) -> Missing:
    donor, Z, basis = design.donor, design.X[:, column][None], np.zeros(1, dtype=np.int32)
    term = RandomTerm(donor.name, donor.levels, donor.codes, (name,), Z, basis)
    return Missing(name, f"(1 + {_written(name)} | {quoted(donor.name)})", term)


def _has_slope(term: RandomTerm, name: str, design: Design) -> bool:
    of_source = any(split_source(part) == split_source(name) for e in term.effects for part in factors_of(e))
    return _inside(term, design) and (of_source or any(mentions(effect, name) for effect in term.effects))


def _inside(term: RandomTerm, design: Design) -> bool:
    return determines(term.codes, design.donor.codes)


def _written(name: str) -> str:
    """Write a variable as a formula has it; ``within(day)`` stays as it is."""
    return name if split_source(name) != name else quoted(name)
