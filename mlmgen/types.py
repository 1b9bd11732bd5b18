"""The vocabulary: frozen dataclasses with their shapes. Start reading here.

Letters for shapes: n rows of the data (cells, or samples for pseudobulk), P patterns (distinct
rows of the design), p coefficients, M - 1 cell-level functions, G genes, K points of the variance grid, C contrasts.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Groups:
    """A grouping of the patterns.

    Attributes
    ----------
    name : str
        The grouping factor as written, for example ``donor`` or ``donor:condition``.
    levels : tuple of str
    codes : (P,) int32
        The group of each pattern.
    """

    name: str
    levels: tuple[str, ...]
    codes: np.ndarray


@dataclass(frozen=True)
class RandomTerm:
    """One random term of the formula: q effects a group, drawn together with one covariance matrix.

    Attributes
    ----------
    name : str
        The grouping factor as written, for example ``donor`` or ``donor:condition``.
    levels : tuple of str
        The groups.
    codes : (P,) int32
        The group of each pattern.
    effects : tuple of str, length q
        ``(Intercept)`` and the columns of the slopes, for example ``condition[T.stim]``.
    Z : (q, P) float64
        Coefficient of each effect in each pattern; ones for the intercept.
    basis : (q,) int32
        Cell-level function that multiplies ``Z``, counted from 1; 0 where there is none.
    """

    name: str
    levels: tuple[str, ...]
    codes: np.ndarray
    effects: tuple[str, ...]
    Z: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True)
class Design:
    """The structure of one fit, shared by all genes of a cell type.

    Rows of the data are sorted by donor and then by pattern; a pattern is the set of rows that
    share the coefficients below, all random-effect groups and the sample. What varies from cell to cell
    within a pattern (percent mitochondrial, pseudotime) is a cell-level function: column j of the model
    matrix is ``X[pattern, j]``, times function ``basis[j]`` where that is not 0.

    Attributes
    ----------
    formula : str
        As in the configuration.
    coefficients : tuple of str, length p
        Names of the fixed effects, for example ``(Intercept)``, ``condition[T.stim]``.
    X : (P, p) float64
        Coefficient of each column in each pattern.
    basis : (p,) int32
        Cell-level function of each column, counted from 1; 0 for a column that is constant in patterns.
    functions : (n, M - 1) float64
        Values of the cell-level functions, in the units of the data.
    function_names : tuple of str, length M - 1
    terms : tuple of RandomTerm
        In the order of the formula.
    donor : Groups
        The donor of each pattern, whether or not the formula has a term for it.
    sample : Groups
        The sample of each pattern: donor x the formula's factors that vary within donors.
    pattern : (n,) int32
        The pattern of each row, non-decreasing.
    log_size : (n,) float64
        Natural log of each row's size factor, plus its offset.
    offset : (n,) float64
        Sum of the formula's ``offset()`` terms.
    means : dict of str to (p,) float64
        Rows of cell-means notation: ``condition[stim]`` is the linear predictor of that level with
        the other variables at their reference, ``mean(condition[stim])`` with the other factors averaged.
    within : tuple of str
        Variables of the fixed part that vary within donors.
    """

    formula: str
    coefficients: tuple[str, ...]
    X: np.ndarray
    basis: np.ndarray
    functions: np.ndarray
    function_names: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    donor: Groups
    sample: Groups
    pattern: np.ndarray
    log_size: np.ndarray
    offset: np.ndarray
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
    """Linear combinations of the coefficients: one is an effect, several are tested together.

    Attributes
    ----------
    name : str
    expression : str
        As written in the configuration.
    weights : (r, p) float64
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
        ``donor`` for a random intercept; with slopes ``donor: (Intercept)``, ``donor: age`` and then their
        covariances ``donor: (Intercept), age``. The last is ``dispersion`` (nb) or ``residual`` (gaussian).
    method : str
        ``reml`` or ``ml``.
    beta, std_error : (G, p) float64
        Estimates; these standard errors condition on the variances.
    std_error_full : (G, p) float64
        Standard errors that carry the uncertainty of the variances.
    covariance : (G, p, p) float64
        Of beta, with the uncertainty of the variances.
    sensitivity : (G, D, p, p) float64
        The variance of the estimate of c' cov(beta) c is sum_d (c' sensitivity_d c)^2 (Satterthwaite).
    variance : (G, V) float64
        Variances, covariances, and phi or the residual variance.
    variance_se : (G, V) float64
        Standard error of the log variance, of a covariance itself, and of rho, the dispersion being 2 sinh^2(rho / 2);
        NaN at the boundary.
    variance_pvalue : (G, V) float64
        Likelihood-ratio p-value of variance = 0 with the boundary's mixture, 1/2 chi2_k + 1/2 chi2_(k+1) where k
        covariances fall with the variance.
    loglik : (G,) float64
        REML or ML log-likelihood with every constant.
    status : (G,) int8
        A ``Status``.
    n_iter : (G,) int32
        Evaluations of the outer objective.
    grid_shape : (V,) int64
        Points of each component on the gene's variance grid, 1 for a component held at its estimate;
        K is their product and the last component varies fastest. All 0 for models without a grid.
    grid_low, grid_high : (G, V) float64
        Log variance, in the grid's unit, of the first and last point of each axis, equally spaced between; NaN for a
        component held at its estimate.
    grid_unit : (G, V) float64
        Natural log of the variance that is 1 on the grid: its axes are in units of columns with root mean square 1,
        and of the residual variance for ``gaussian``.
    grid_loglik : (G, K) float64
        REML log-likelihood at those points.
    """

    genes: tuple[str, ...]
    coefficients: tuple[str, ...]
    components: tuple[str, ...]
    method: str
    beta: np.ndarray
    std_error: np.ndarray
    std_error_full: np.ndarray
    covariance: np.ndarray
    sensitivity: np.ndarray
    variance: np.ndarray
    variance_se: np.ndarray
    variance_pvalue: np.ndarray
    loglik: np.ndarray
    status: np.ndarray
    n_iter: np.ndarray
    grid_shape: np.ndarray
    grid_low: np.ndarray
    grid_high: np.ndarray
    grid_unit: np.ndarray
    grid_loglik: np.ndarray


@dataclass(frozen=True)
class Moderated:
    """The posterior of the variances given the prior that all genes of a cell type share.

    Attributes
    ----------
    weights : (G, K) float64
        Posterior weights over the grid, summing to 1; NaN for genes without a fit.
    variance, ci_low, ci_high : (G, V) float64
        Posterior mean and 95 % interval; for a component not on the grid the estimate and
        the interval of its standard error, NaN at the boundary.
    prior : (V, 3) float64
        Mean of log variance at the average log total count, its slope on log total count, and the
        prior's standard deviation, in the grid's units; NaN for a component not on the grid.
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
        Signed normal quantile of the p-value; of a joint test the chi-square quantile, always positive.
    df : (G, C) float64
        Satterthwaite degrees of freedom of a t or F test; NaN for a moderated test.
    """

    contrasts: tuple[str, ...]
    estimate: np.ndarray
    std_error: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    log_pvalue: np.ndarray
    statistic: np.ndarray
    df: np.ndarray
