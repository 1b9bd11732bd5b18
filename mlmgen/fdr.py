"""False discovery rates: Benjamini-Hochberg, plain or with weights from an alternative that is fixed beforehand.

Weighted p-values p / w keep the false discovery rate if the weights average 1 and are independent of the p-values under
the null (Genovese, Roeder & Wasserman 2006, Biometrika 93:509). Here they depend on how precisely genes of a total
count are measured, and on effects that are assumed, never learned: tests that are too imprecise to find any effect
leave most of their share to those that can.
"""

import numpy as np
from scipy.special import log_ndtr, logsumexp

# Called discoveries in every summary and table.
LEVEL = 0.05
# The fixed alternative: standard deviations of true effects (natural log) and the share of genes that has them.
NULL_SHARE = 0.95
EFFECT_SDS, EFFECT_SHARES = np.array([0.4, 0.8]), np.array([0.025, 0.025])
# Genes of similar total count share a weight; a bin of few genes would follow their own estimates.
BINS, GENES_PER_BIN = 20, 10
# Every gene keeps this part of its weight, whatever the alternative says.
KEPT = 0.2
# Squared normal quantiles that are searched; the end is a p-value of 1e-305.
LARGEST_SQUARE = 1395.0
HALVINGS, NEWTON_STEPS = 60, 30


def adjusted(pvalue: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return Benjamini-Hochberg's adjusted p-values of p / weight.

    Parameters
    ----------
    pvalue : (G,) float64
        NaN where there is no test: such genes do not count and stay NaN.
    weight : (G,) float64, optional
        Positive, of mean 1 over the tested genes; ones if not given.

    Returns
    -------
    (G,) float64
        Between 0 and 1, non-decreasing in p / weight.
    """
    found, tested = np.full(len(pvalue), np.nan), np.flatnonzero(np.isfinite(pvalue))
    scaled = pvalue[tested] if weight is None else np.minimum(pvalue[tested] / weight[tested], 1.0)
    order = np.argsort(scaled, kind="stable")
    candidates = scaled[order] * (len(tested) / np.arange(1, len(tested) + 1))
    found[tested[order]] = np.minimum(np.minimum.accumulate(candidates[::-1])[::-1], 1.0)
    return found


def threshold(pvalue: np.ndarray, weight: np.ndarray | None = None, level: float = LEVEL) -> np.ndarray:
    """Return the largest p-value at which each gene would be called beside those that are.

    Parameters
    ----------
    pvalue, weight
        As for `adjusted`.
    level : float

    Returns
    -------
    (G,) float64
        level x calls / tests x weight; where nothing is called, what a single call would need. NaN without a test.
    """
    tested = np.isfinite(pvalue)
    calls = max(int((adjusted(pvalue, weight)[tested] <= level).sum()), 1)
    share = np.ones(len(pvalue)) if weight is None else weight
    return np.where(tested, level * calls / max(tested.sum(), 1) * share, np.nan)


def weights(std_error: np.ndarray, pvalue: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the weight of each test, from the precision of genes with its total count and the fixed alternative.

    Standard errors are those of the effects, the full fit's: those under the null fit are not kept, and the mean over a
    bin, where few genes have effects, hardly differs. The weight of a bin is the p-value at which the alternative's
    density is c times the null's, c the same in all bins and such that the false discovery rate under the
    alternative is `LEVEL`; this has the most true discoveries (Roeder & Wasserman 2009, Stat Sci 24:398).

    Parameters
    ----------
    std_error : (G,) float64
        Natural log.
    pvalue : (G,) float64
        Only where it is missing matters.
    total : (G,) float64
        Total count, or anything in its order.

    Returns
    -------
    (G,) float64
        Of mean 1 over the tests, at least `KEPT`; NaN without a test, and all 1 where tests have no standard error.
    """
    tested = np.isfinite(pvalue)
    measured = tested & np.isfinite(std_error) & (std_error > 0.0)
    found = np.where(tested, 1.0, np.nan)
    if not measured.any():
        return found
    bins = _bins(total[measured])
    number = np.bincount(bins)
    log_error = np.bincount(bins, np.log(std_error[measured])) / number
    log_share = log_thresholds(np.exp(log_error), number)
    log_share -= logsumexp(log_share, b=number / number.sum())
    found[measured] = (KEPT + (1.0 - KEPT) * np.exp(log_share))[bins]
    return found


def _bins(total: np.ndarray) -> np.ndarray:
    """Number bins of similar total count without gaps, (G,); equal totals share one, whatever their order."""
    count = int(np.clip(len(total) // GENES_PER_BIN, 1, BINS))
    rank = np.searchsorted(np.sort(total), total)
    return np.unique(rank * count // len(total), return_inverse=True)[1]


def log_thresholds(std_error: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return the log p-value that calls a gene in each bin under the fixed alternative.

    Parameters
    ----------
    std_error : (B,) float64
        Natural log.
    number : (B,) int
        Genes of each bin.
    """
    ratio = 1.0 + (EFFECT_SDS / std_error[:, None]) ** 2  # variance of the statistic under each effect
    low, high = np.log(1e-3), 700.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        z = np.sqrt(_squares(ratio, middle))
        false = NULL_SHARE * np.dot(number, np.exp(log_ndtr(-z)))
        true = np.dot(number, np.exp(log_ndtr(-z[:, None] / np.sqrt(ratio))) @ EFFECT_SHARES)
        low, high = (middle, high) if false > LEVEL * (false + true) else (low, middle)
    return np.log(2.0) + log_ndtr(-np.sqrt(_squares(ratio, high)))


def _squares(ratio: np.ndarray, log_cut: float) -> np.ndarray:
    """Return the squared statistic at which the likelihood ratio of alternative to null reaches a cut, (B,).

    Its log is convex and increasing in the square, and above its value for each effect alone: Newton's method from
    where the first of these reaches the cut falls to the root.
    """
    share = np.log(EFFECT_SHARES / EFFECT_SHARES.sum()) - 0.5 * np.log(ratio)
    slope = 0.5 * (1.0 - 1.0 / ratio)
    square = np.clip(((log_cut - share) / np.maximum(slope, 1e-300)).min(axis=1), 0.0, 1e12)
    for _ in range(NEWTON_STEPS):
        parts = share + slope * square[:, None]
        log_ratio = np.logaddexp.reduce(parts, axis=1)
        step = (log_ratio - log_cut) / np.maximum((np.exp(parts - log_ratio[:, None]) * slope).sum(axis=1), 1e-300)
        square = np.maximum(square - step, 0.0)
        if (np.abs(step) <= 1e-12 * square).all():
            break
    return np.minimum(square, LARGEST_SQUARE)
