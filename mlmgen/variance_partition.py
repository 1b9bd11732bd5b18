r"""How the variance splits into levels, and how much of it a model explains.

On the scale of the linear predictor. The variance of a random term with slopes is its mean over the rows
(Johnson 2014, Methods Ecol Evol 5:944). The variance of the distribution belongs to the family:

    nb, poisson   log(1 + 1/mu + phi), mu the mean count: the log-normal approximation of Nakagawa, Johnson and
                  Schielzeth 2017 (J R Soc Interface 14:20170213)
    bernoulli     pi^2 / 3, of the standard logistic distribution (Nakagawa and Schielzeth 2010, Biol Rev 85:935)
    gaussian      the residual variance
"""

from typing import NamedTuple

import numpy as np

from mlmgen.design_rows import DISPERSION, components_of, design_rows, mean_products
from mlmgen.groups import determines
from mlmgen.types import Design

LOGISTIC_VARIANCE = np.pi**2 / 3.0
RESIDUAL_LEVEL = "residual"


class Partition(NamedTuple):
    """The variance of the linear predictor, level by level, the gene axis first.

    Attributes
    ----------
    levels : tuple of str
        Grouping factors in the order of the formula; terms of the same factor are one level. The last is
        ``residual``, the variance of the distribution.
    n_groups : tuple of int
        Groups of each level; rows for the residual.
    variance : (G, levels) float64
    fraction : (G, levels) float64
        Of their sum.
    icc : (G, levels) float64
        Correlation of two rows of the same group (and so of the same group of every coarser level); NaN for
        the residual.
    """

    levels: tuple[str, ...]
    n_groups: tuple[int, ...]
    variance: np.ndarray
    fraction: np.ndarray
    icc: np.ndarray


def component_variances(
    design: Design, components: tuple[str, ...], variance: np.ndarray, family: str, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each component adds to the variance of the linear predictor, and what the distribution adds.

    Parameters
    ----------
    design : Design
    components : tuple of str, length V
    variance : (G, V) float64
        Variances, covariances, dispersion or residual variance.
    family : str
    mean : (G,) float64
        Mean count; not used for families without counts.

    Returns
    -------
    parts : (G, V) float64
        A covariance counts with both of its entries and may be negative; the dispersion with its share of the
        distribution's variance.
    noise : (G,) float64
        The rest of the distribution's variance: Poisson or logistic noise, 0 for gaussian.
    """
    products = [mean_products(Z) for Z in design_rows(design).Z]
    parts = variance.copy()
    for v, (term, i, j) in enumerate(components_of(design.terms, components)):
        if term >= 0:
            parts[:, v] *= products[term][i, j] * (1.0 if i == j else 2.0)
    if family == "gaussian":
        return parts, np.zeros(len(parts))
    if family == "bernoulli":
        return parts, np.full(len(parts), LOGISTIC_VARIANCE)
    with np.errstate(divide="ignore", invalid="ignore"):
        poisson = 1.0 / np.asarray(mean, dtype=np.float64)
        if DISPERSION in components:
            v = components.index(DISPERSION)
            parts[:, v] = np.log1p(parts[:, v] / (1.0 + poisson))
        return parts, np.log1p(poisson)


def component_fractions(
    design: Design, components: tuple[str, ...], variance: np.ndarray, family: str, mean: np.ndarray
) -> np.ndarray:
    """Return the share of each component in the variance that the fixed effects leave, (G, V); arguments as above."""
    parts, noise = component_variances(design, components, variance, family, mean)
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts / (parts.sum(axis=1) + noise)[:, None]


def fixed_variances(design: Design, beta: np.ndarray) -> np.ndarray:
    """Return the variance over rows of the fixed part X beta, (G,) float64."""
    X = design_rows(design).X
    centered = X - X.mean(axis=0)
    covariance = centered.T @ centered / max(len(X) - 1, 1)
    return np.einsum("gi,ij,gj->g", beta, covariance, beta)


def r_squared(
    design: Design, components: tuple[str, ...], beta: np.ndarray, variance: np.ndarray, family: str, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return Nakagawa's R^2, (G,) each: marginal, of the fixed effects alone, and conditional, of the whole model."""
    parts, noise = component_variances(design, components, variance, family, mean)
    fixed, levels = fixed_variances(design, beta), components_of(design.terms, components)
    random = parts[:, [v for v, part in enumerate(levels) if part.term >= 0]].sum(axis=1)
    total = fixed + parts.sum(axis=1) + noise
    with np.errstate(invalid="ignore", divide="ignore"):
        return fixed / total, (fixed + random) / total


def partition(
    design: Design, components: tuple[str, ...], variance: np.ndarray, family: str, mean: np.ndarray
) -> Partition:
    """Split the variance that the fixed effects leave into the levels of the data; arguments as above."""
    parts, noise = component_variances(design, components, variance, family, mean)
    of = components_of(design.terms, components)
    first = {term.name: k for k, term in reversed(list(enumerate(design.terms)))}
    levels = tuple(sorted(first, key=first.get))
    columns = [
        parts[:, [v for v, part in enumerate(of) if part.term >= 0 and design.terms[part.term].name == name]].sum(
            axis=1
        )
        for name in levels
    ]
    own = parts[:, [v for v, part in enumerate(of) if part.term < 0]].sum(axis=1) + noise
    values = np.column_stack([*columns, own])
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = values / values.sum(axis=1, keepdims=True)
    codes = [design.terms[first[name]].codes for name in levels]
    coarser = np.array([[determines(inner, outer) for outer in codes] for inner in codes], dtype=float)
    icc = np.full(values.shape, np.nan)
    icc[:, : len(levels)] = fraction[:, : len(levels)] @ coarser.reshape(len(levels), len(levels)).T
    n_groups = (*(len(design.terms[first[name]].levels) for name in levels), design.pattern.size)
    return Partition((*levels, RESIDUAL_LEVEL), n_groups, values, fraction, icc)
