"""The rows of a fitted design, and what summaries need of them: covariances of columns, matrices of random effects."""

from typing import NamedTuple

import numpy as np

from mlmgen.types import Design, GeneFits, RandomTerm

INTERCEPT = "(Intercept)"
DISPERSION, RESIDUAL = "dispersion", "residual"


class Component(NamedTuple):
    """What a variance component is: entry (i, j) of the covariance matrix of a term; term -1 for the residual."""

    term: int
    i: int
    j: int


class Rows(NamedTuple):
    """The linear predictor of rows, term by term.

    Attributes
    ----------
    X : (n, p) float64
        Fixed-effect columns, cell-level functions multiplied in.
    Z : tuple of (q, n) float64
        Random-effect columns of each term.
    codes : tuple of (n,) int32
        Group of each row in each term, -1 for a new one.
    offset : (n,) float64
        Log size factor and offset terms.
    """

    X: np.ndarray
    Z: tuple[np.ndarray, ...]
    codes: tuple[np.ndarray, ...]
    offset: np.ndarray


def design_rows(design: Design) -> Rows:
    """Return every row of a design, in its order."""
    functions = np.column_stack([np.ones(design.pattern.size), design.functions])
    X = design.X[design.pattern] * functions[:, design.basis]
    Z = tuple(term.Z[:, design.pattern] * functions.T[term.basis] for term in design.terms)
    return Rows(X, Z, tuple(term.codes[design.pattern] for term in design.terms), design.log_size)


def components_of(terms: tuple[RandomTerm, ...], components: tuple[str, ...]) -> tuple[Component, ...]:
    """Say for each variance component which entry of which term's covariance matrix it is."""
    place = {}
    for k, term in enumerate(terms):
        if term.effects == (INTERCEPT,):
            place[term.name] = Component(k, 0, 0)
            continue
        for i, effect in enumerate(term.effects):
            place[f"{term.name}: {effect}"] = Component(k, i, i)
            for j, other in enumerate(term.effects[:i]):
                place[f"{term.name}: {effect}, {other}"] = place[f"{term.name}: {other}, {effect}"] = Component(k, j, i)
    residual = Component(-1, 0, 0)
    return tuple(residual if name in (DISPERSION, RESIDUAL) else place[name] for name in components)


def covariance_matrices(design: Design, estimates: GeneFits, variance: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the covariance matrix of each term's effects, a tuple of (G, q, q).

    Parameters
    ----------
    design : Design
    estimates : GeneFits
        For the names of the components.
    variance : (G, V) float64
        Variances and covariances, in the order of the components.
    """
    matrices = tuple(np.zeros((len(variance), len(t.effects), len(t.effects))) for t in design.terms)
    for v, part in enumerate(components_of(design.terms, estimates.components)):
        if part.term >= 0:
            matrices[part.term][:, part.i, part.j] = variance[:, v]
            matrices[part.term][:, part.j, part.i] = variance[:, v]
    return matrices


def mean_products(Z: np.ndarray) -> np.ndarray:
    """Return the mean over rows of z z' of a term, (q, q); its sum of products with Sigma is the mean of z'Sigma z."""
    return Z @ Z.T / Z.shape[1]
