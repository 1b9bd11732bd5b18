"""Which random terms of a design are replicates: random intercepts, also those written by levels."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mlmgen.dependence import spans
from mlmgen.groups import determines
from mlmgen.types import Design, RandomTerm

INTERCEPT = "(Intercept)"
# Part of a column's square that the span of the random effects may leave for rounding.
CARRIED = 1e-10
# Below it a column has no part of a random effect, as the largest part is 1.
ROUNDING = 1e-6
CELL = "cell"


class Replicate(NamedTuple):
    """What a contrast's independent repetitions are.

    Attributes
    ----------
    name : str
        The grouping factor, or ``cell`` where no random term carries the contrast.
    number : int
        Its groups.
    df : float
        Degrees of freedom that they leave for their own variance, those of `most_degrees_of_freedom`.
    inside : str
        The grouping factor that this one is nested in, ``donor`` for ``donor:condition``; empty if there is none.
    df_inside : float
        Degrees of freedom left where comparisons are made within its groups: 7 of 8 pairs.
    """

    name: str
    number: int
    df: float
    inside: str
    df_inside: float


def intercepts(design: Design) -> tuple[RandomTerm, ...]:
    """Return the first term of each grouping factor whose effects include an intercept.

    ``(0 + condition | donor)`` is one: its effects sum to the intercept of ``(1 + condition | donor)``.
    """
    found = []
    for name in dict.fromkeys(term.name for term in design.terms):
        own = [term for term in design.terms if term.name == name]
        Z = np.vstack([term.Z[term.basis == 0] for term in own])
        if any(INTERCEPT in term.effects for term in own) or spans(Z.T, np.ones((Z.shape[1], 1))):
            found.append(own[0])
    return tuple(found)


def separates_donors(design: Design) -> bool:
    """Tell whether the groups of some random intercept lie within donors, so that cells are not the replicates."""
    return any(determines(term.codes, design.donor.codes) for term in intercepts(design))


def most_degrees_of_freedom(design: Design, weights: np.ndarray) -> float:
    """Return the most degrees of freedom that the replicates of a contrast allow.

    A grouping factor carries a coefficient where its column is, within each group, a combination of the columns of the
    group's random effects: constant for an intercept, or the slope's own variable. The coefficient is then part of a
    regression of that random effect on what differs between groups, with one value a group, and of N groups as many
    degrees of freedom are left as in this regression: N - 1 for a mean slope or a paired difference, N - 2 for two
    kinds of groups. Of n rows without such a factor n - p are left.

    Parameters
    ----------
    design : Design
    weights : (r, p) rows of the contrast
    """
    most = float(design.pattern.size - len(design.coefficients))
    for _, regression in _regressions(design, weights):
        most = min(most, float(len(regression) - _rank(regression)))
    return max(most, 1.0)


def replicate(design: Design, weights: np.ndarray) -> Replicate:
    """Return the replicate of a contrast: of the random terms that carry it, the one that limits it most.

    Parameters
    ----------
    design : Design
    weights : (r, p) rows of the contrast
    """
    n = design.pattern.size
    df = float(max(n - len(design.coefficients), 1))
    found = Replicate(CELL, n, df, "", df)
    for name, regression in _regressions(design, weights):
        df = float(max(len(regression) - _rank(regression), 1))
        if df < found.df:
            outer = _outer(design, name)
            inside = df if outer is None else _df_inside(regression, outer[1])
            found = Replicate(name, len(regression), df, "" if outer is None else outer[0], inside)
    return found


def _regressions(design: Design, weights: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each grouping factor that carries a contrast with the columns that it carries, one row a group."""
    used = np.any(weights != 0.0, axis=0)
    for name in dict.fromkeys(term.name for term in design.terms):
        carried, parts = _carried(design, [term for term in design.terms if term.name == name])
        for regression in parts.transpose(1, 0, 2):
            if np.any(np.abs(regression[:, carried & used]) > ROUNDING):
                yield name, regression[:, carried]


def _rank(columns: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(columns, tol=ROUNDING))


def _outer(design: Design, name: str) -> tuple[str, np.ndarray] | None:
    """Return the finest grouping factor with an intercept that one is nested in: its name, and its group of each."""
    inner = np.unique(next(term.codes for term in design.terms if term.name == name), return_inverse=True)[1]
    outer = []
    for term in intercepts(design):
        first = np.unique(inner, return_index=True)[1]
        groups = np.unique(term.codes, return_inverse=True)[1]
        size = groups.max() + 1
        if term.name != name and size < first.size and (groups == groups[first][inner]).all():
            outer.append((size, term.name, groups[first]))
    return max(outer, key=lambda found: found[0])[1:] if outer else None


def _df_inside(regression: np.ndarray, outer: np.ndarray) -> float:
    """Return the degrees of freedom of a regression with a mean for each outer group."""
    size = np.bincount(outer)
    means = np.stack([np.bincount(outer, column) / size for column in regression.T], axis=1)
    return float(max(len(regression) - size.size - _rank(regression - means[outer]), 1))


def _carried(design: Design, terms: list[RandomTerm]) -> tuple[np.ndarray, np.ndarray]:
    """Tell which coefficients' columns lie in the span of the terms' effects within every group, and how.

    Returns
    -------
    carried : (p,) bool
    parts : (N, q, p) float64
        How much of each random effect a column has in each group, its largest part 1.
    """
    codes = np.unique(terms[0].codes, return_inverse=True)[1]
    basis = np.concatenate([*(term.basis for term in terms), design.basis])
    columns = np.vstack([*(term.Z for term in terms), design.X.T])
    products = np.zeros((codes.max() + 1, len(basis), len(basis)))
    of_functions = _products_of_functions(design)
    for i, j in itertools.product(range(len(basis)), repeat=2):
        values = columns[i] * columns[j] * of_functions[basis[i], basis[j]]
        products[:, i, j] = np.bincount(codes, values, len(products))
    length = np.sqrt(np.einsum("nii->i", products))
    products /= np.outer(length, length) + (length == 0.0)
    q = len(basis) - len(design.coefficients)
    cross, square = products[:, :q, q:], np.einsum("njj->nj", products[:, q:, q:])
    parts = np.linalg.pinv(products[:, :q, :q], hermitian=True) @ cross
    rest = square - np.einsum("naj,naj->nj", cross, parts)
    scale = np.abs(parts).max(axis=(0, 1))
    return (rest <= CARRIED * square.max(axis=0)).all(axis=0), parts / np.where(scale > 0.0, scale, 1.0)


def _products_of_functions(design: Design) -> np.ndarray:
    """Return the sums over the rows of each pattern of products of cell-level functions, 1 first, (M, M, P)."""
    functions = np.vstack([np.ones(design.pattern.size), design.functions.T])
    P = len(design.X)
    return np.array([[np.bincount(design.pattern, f * g, P) for g in functions] for f in functions])
