"""Which random terms of a design are replicates: random intercepts, also those written by levels."""

import itertools

import numpy as np

from mlmgen.dependence import spans
from mlmgen.types import Design, RandomTerm

INTERCEPT = "(Intercept)"
# Part of a column's square that the span of the random effects may leave for rounding.
CARRIED = 1e-10
# Below it a column has no part of a random effect, as the largest part is 1.
ROUNDING = 1e-6


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
    for term in intercepts(design):
        pairs = np.unique(np.stack([term.codes, design.donor.codes]), axis=1)
        if np.unique(pairs[0]).size == pairs.shape[1]:
            return True
    return False


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
    used = np.any(weights != 0.0, axis=0)
    most = design.pattern.size - len(design.coefficients)
    for name in dict.fromkeys(term.name for term in design.terms):
        carried, parts = _carried(design, [term for term in design.terms if term.name == name])
        for regression in parts.transpose(1, 0, 2):
            if np.any(np.abs(regression[:, carried & used]) > ROUNDING):
                most = min(most, len(regression) - np.linalg.matrix_rank(regression[:, carried], tol=ROUNDING))
    return float(max(most, 1))


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
