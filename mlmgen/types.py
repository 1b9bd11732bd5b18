"""The vocabulary: frozen dataclasses with their shapes. Start reading here.

Letters for shapes: n rows of the data (cells, or samples for pseudobulk), P patterns (distinct
rows of the design), p coefficients, G genes, K points of the variance grid, C contrasts.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RandomTerm:
    """One random intercept of the formula, on the patterns.

    Attributes
    ----------
    name : str
        The grouping factor as written, for example ``donor`` or ``donor:condition``.
    levels : tuple of str
        The groups.
    codes : (P,) int32
        The group of each pattern.
    """

    name: str
    levels: tuple[str, ...]
    codes: np.ndarray


@dataclass(frozen=True)
class Design:
    """The structure of one fit, shared by all genes of a cell type.

    Rows of the data are sorted by donor and then by pattern; a pattern is the set of rows that
    share a row of the design matrix and all random-effect groups and the sample.

    Attributes
    ----------
    formula : str
        As in the configuration.
    coefficients : tuple of str, length p
        Names of the fixed effects, for example ``(Intercept)``, ``condition[T.stim]``.
    X : (P, p) float64
        Fixed-effect row of each pattern.
    terms : tuple of RandomTerm
        The random intercepts in the order of the formula.
    donor : RandomTerm
        The donor of each pattern, whether or not the formula has a term for it.
    sample : RandomTerm
        The sample of each pattern: donor x the formula's factors that vary within donors.
    pattern : (n,) int32
        The pattern of each row, non-decreasing.
    log_size : (n,) float64
        Natural log of each row's size factor.
    means : dict of str to (p,) float64
        Rows of cell-means notation: ``condition[stim]`` is the linear predictor of that level with
        the other variables at their reference.
    within : tuple of str
        Variables of the fixed part that vary within donors.
    """

    formula: str
    coefficients: tuple[str, ...]
    X: np.ndarray
    terms: tuple[RandomTerm, ...]
    donor: RandomTerm
    sample: RandomTerm
    pattern: np.ndarray
    log_size: np.ndarray
    means: dict[str, np.ndarray]
    within: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """Counts of some genes, gene-major (CSC by gene).

    Attributes
    ----------
    genes : tuple of str, length G
    start : (G + 1,) int64
        Gene g has its nonzeros at ``start[g]:start[g + 1]``.
    rows : (nonzeros,) int32
        Row of the data, increasing within a gene.
    values : (nonzeros,) float64
        The counts, all positive.
    """

    genes: tuple[str, ...]
    start: np.ndarray
    rows: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Contrast:
    """A linear combination of the coefficients.

    Attributes
    ----------
    name : str
    expression : str
        As written in the configuration.
    weights : (p,) float64
    """

    name: str
    expression: str
    weights: np.ndarray


@dataclass(frozen=True)
class GeneFits:
    """All that fitting a shard returns, the gene axis first. Natural logarithms throughout.

    Rows of filtered or failed genes are NaN, except ``status``.

    Attributes
    ----------
    genes : tuple of str, length G
    coefficients : tuple of str, length p
    components : tuple of str, length V
        Variance components; the last is ``dispersion`` for the families that have one.
    beta, std_error : (G, p) float64
        REML fit; standard errors condition on the variances.
    variance : (G, V) float64
    variance_pvalue : (G, V) float64
        Boundary likelihood-ratio p-value of variance = 0 (1/2 chi2_0 + 1/2 chi2_1).
    loglik : (G,) float64
        REML log-likelihood with every constant.
    status : (G,) int8
        A ``Status``.
    n_iter : (G,) int32
        Evaluations of the outer objective.
    grid_shape : (V,) int64
        Points of each component on the gene's variance grid, 1 for a component held at its estimate;
        K is their product and the last component varies fastest.
    grid_low, grid_high : (G, V) float64
        Log variance of the first and last point of each axis, equally spaced between; NaN for a
        component held at its estimate.
    grid_loglik : (G, K) float64
        REML log-likelihood at those points.
    """

    genes: tuple[str, ...]
    coefficients: tuple[str, ...]
    components: tuple[str, ...]
    beta: np.ndarray
    std_error: np.ndarray
    variance: np.ndarray
    variance_pvalue: np.ndarray
    loglik: np.ndarray
    status: np.ndarray
    n_iter: np.ndarray
    grid_shape: np.ndarray
    grid_low: np.ndarray
    grid_high: np.ndarray
    grid_loglik: np.ndarray


@dataclass(frozen=True)
class Moderated:
    """The posterior of the variances given the prior that all genes of a cell type share.

    Attributes
    ----------
    weights : (G, K) float64
        Posterior weights over the grid, summing to 1; NaN for genes without a fit.
    variance, ci_low, ci_high : (G, V) float64
        Posterior mean and 95 % interval; for a component not on the grid the mean is the REML
        estimate and the interval NaN.
    prior : (V, 3) float64
        Mean of log variance at the average log total count, its slope on log total count, and the
        prior's standard deviation; NaN for a component not on the grid.
    """

    weights: np.ndarray
    variance: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    prior: np.ndarray


@dataclass(frozen=True)
class Effects:
    """Moderated tests of the contrasts, the gene axis first. Natural logarithms.

    Attributes
    ----------
    contrasts : tuple of str, length C
    estimate, std_error, ci_low, ci_high : (G, C) float64
    log_pvalue : (G, C) float64
        Natural log of the two-sided p-value: no ties at zero.
    statistic : (G, C) float64
        Signed normal quantile of the p-value.
    """

    contrasts: tuple[str, ...]
    estimate: np.ndarray
    std_error: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    log_pvalue: np.ndarray
    statistic: np.ndarray
