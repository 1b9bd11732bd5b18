"""Known effects in real counts, by binomial thinning: what is kept of a count is a binomial share of it."""

import zlib

import numpy as np
from scipy import sparse

from mlmgen.types import Contrast, Design

INJECTED_SHARE = 0.1  # of the genes
LARGEST_LOG2FC = 1.0  # between the rows that differ most in what the contrast compares


def effect(design: Design, contrast: Contrast) -> tuple[np.ndarray, float]:
    """Return an effect of a contrast as what it adds to each row's log mean.

    Of all coefficients with this effect the smallest are taken, so that those which the contrast does not use
    have none: a contrast of two levels moves these two alone. Of a joint test the first contrast gets the effect.

    Parameters
    ----------
    design : Design
        n rows.
    contrast : Contrast

    Returns
    -------
    added : (n,) float64
        Natural log; the largest and the smallest differ by `LARGEST_LOG2FC`.
    log2fc : float
        The contrast's value, log2: `LARGEST_LOG2FC` for two levels, for a number its slope.
    """
    weights = contrast.weights[0]
    direction = weights / (weights @ weights)
    per_pattern = design.X * direction
    added = np.zeros(design.pattern.size)
    for j in np.flatnonzero(direction):
        values = per_pattern[design.pattern, j]
        added += values * design.functions[:, design.basis[j] - 1] if design.basis[j] else values
    range_ = np.ptp(added)
    if range_ == 0.0:
        return added, 0.0
    return added * (LARGEST_LOG2FC * np.log(2.0) / range_), float(LARGEST_LOG2FC / range_)


def key(name: str) -> int:
    """Return a number for a name that is the same in every run, for seeds."""
    return zlib.crc32(name.encode())


def chosen(genes: tuple[str, ...], seed: tuple[int, ...]) -> np.ndarray:
    """Choose genes at random, half of them to go up and half down; a gene's luck does not depend on the others' order.

    Parameters
    ----------
    genes : tuple of str, length G
    seed : tuple of int

    Returns
    -------
    (G,) int8
        1 up, -1 down, 0 not chosen.
    """
    draws = np.array([np.random.default_rng((*seed, key(gene))).random() for gene in genes])
    number = max(round(INJECTED_SHARE * len(genes)), 1)
    sign = np.zeros(len(genes), dtype=np.int8)
    sign[np.argsort(draws, kind="stable")[:number]] = np.resize([1, -1], number)
    return sign


def thin(
    X: sparse.csc_matrix, genes: tuple[str, ...], sign: np.ndarray, added: np.ndarray, seed: tuple[int, ...]
) -> sparse.csc_matrix:
    """Inject effects into counts: a count y of row c stays with probability exp(a_c - max a), each of its y by itself.

    The binomial share of a Poisson or negative binomial count with mean mu is one with mean p mu and the same
    dispersion: what is left has the effect a and the noise of real counts, of fewer of them. Up thins the lower arm,
    down the upper one. Size factors stay as they are; as many genes go up as down.

    Parameters
    ----------
    X : (n, k) CSC of int
        Counts of the genes to change.
    genes : tuple of str, length k
    sign : (k,) int
        1 for ``added``, -1 for its opposite.
    added : (n,) float64
        What the effect adds to the log mean of each row.
    seed : tuple of int
        A gene's draws depend on it and on the gene's name alone.

    Returns
    -------
    (n, k) CSC of the type of X, without stored zeros.
    """
    values = X.data.copy()
    for g, gene in enumerate(genes):
        own = slice(X.indptr[g], X.indptr[g + 1])
        log_kept = sign[g] * added
        kept = np.exp(log_kept[X.indices[own]] - log_kept.max())
        values[own] = np.random.default_rng((*seed, key(gene))).binomial(X.data[own], kept)
    thinned = sparse.csc_matrix((values, X.indices.copy(), X.indptr.copy()), shape=X.shape)
    thinned.eliminate_zeros()
    return thinned
