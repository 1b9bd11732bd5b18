"""Which levels of which factors a contrast compares, read back from its weights."""

import re
from typing import NamedTuple

import numpy as np

from mlmgen.expressions import split_source
from mlmgen.types import Design

# Beside the largest: weights below it are rounding.
ROUNDING = 1e-6
AVERAGE = "mean("


class Arm(NamedTuple):
    """One side of a comparison, or a part of it.

    Attributes
    ----------
    name : str
        As in cell-means notation, ``condition[stim]`` or ``condition[stim]:sex[f]``.
    weight : float
        Of its mean in the contrast, above 0 on one side and below on the other.
    patterns : (P,) bool
        The patterns that belong to it.
    """

    name: str
    weight: float
    patterns: np.ndarray


def factors_of(name: str) -> tuple[str, ...]:
    """Return the parts of a coefficient or mean without their levels: ``condition[T.stim]:age`` has two."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(name):
        depth += (character in "[(") - (character in "])")
        if character == ":" and depth == 0:
            parts.append(name[start:i])
            start = i + 1
    return tuple(re.sub(r"\[.*\]$", "", part) for part in [*parts, name[start:]])


def mentions(name: str, variable: str) -> bool:
    """Tell whether a coefficient or effect is of a variable, as ``log(age)`` is of age; ``between(age)`` is not."""
    token = re.compile(rf"(?<![\w.]){re.escape(variable)}(?![\w.])")
    return any(part == variable or (split_source(part) == part and token.search(part)) for part in factors_of(name))


def columns_of(design: Design, weights: np.ndarray) -> np.ndarray:
    """Return the columns that belong to a contrast, (p,) bool: those of its variables alone, and the intercept.

    Parameters
    ----------
    design : Design
    weights : (r, p) float64
    """
    names = [set(factors_of(name)) for name in design.coefficients]
    own = set().union(*(names[j] for j in np.flatnonzero(np.any(weights != 0.0, axis=0))))
    return np.array([parts <= own | {"(Intercept)"} for parts in names])


def levels(design: Design, factors: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Return the levels of a factor, or of factors that interact, and the level of each pattern.

    Returns
    -------
    names : tuple of str
        As in ``Design.means``.
    codes : (P,) int64
    None
        Where the design's columns do not tell the levels apart.
    """
    names = [name for name in design.means if not name.startswith(AVERAGE) and factors_of(name) == factors]
    own = [j for j, name in enumerate(design.coefficients) if _belongs(name, factors)]
    if not names:
        return None
    rows = np.stack([design.means[name][own] for name in names])
    same = (np.abs(design.X[:, None, own] - rows) <= ROUNDING).all(axis=2)
    return (tuple(names), same.argmax(axis=1)) if (same.sum(axis=1) == 1).all() else None


def _belongs(coefficient: str, factors: tuple[str, ...]) -> bool:
    """Tell whether a coefficient is of these factors alone."""
    return all(any(mentions(part, factor) for factor in factors) for part in factors_of(coefficient))


def arms(design: Design, weights: np.ndarray) -> tuple[Arm, ...]:
    """Return the levels that a contrast weighs against each other; none for the slope of a number.

    Parameters
    ----------
    design : Design
    weights : (p,) float64
        One row of a contrast.
    """
    plain = [name for name in design.means if not name.startswith(AVERAGE)]
    # Where factors interact, the effect of one is at levels of the others.
    for factors in sorted(dict.fromkeys(map(factors_of, plain)), key=len, reverse=True):
        found = levels(design, factors)
        if found is None:
            continue
        names, codes = found
        rows = np.stack([design.means[name] for name in names])
        system = np.vstack([rows.T, np.ones(len(names))])
        target = np.append(weights, 0.0)
        of_level = np.linalg.lstsq(system, target, rcond=None)[0]
        if np.abs(system @ of_level - target).max() > ROUNDING * np.abs(weights).max():
            continue
        used = np.flatnonzero(np.abs(of_level) > ROUNDING * np.abs(of_level).max())
        return tuple(Arm(names[i], float(of_level[i]), codes == i) for i in used)
    return ()
