"""Adaptive shrinkage of effects, for ranking and plots: never instead of the estimate, never as error control.

Across the genes of a cell type, method and contrast, true effects are taken as draws from a mixture of a point at zero
and normal distributions around zero, which is unimodal; its weights are learned from the estimates, by EM with a
penalty that favours the point at zero (Stephens 2017, Biostatistics 18:275). The shrunken effect is the posterior mean.
Each estimate is normal with the standard error that its p-value implies.
"""

import numpy as np
from scipy.special import softmax

from mlmgen.fdr import EFFECT_SDS, EFFECT_SHARES, NULL_SHARE

# With fewer the weights are those of the fixed alternative of `mlmgen.fdr`.
GENES_TO_LEARN = 50
# Genes that the weights are learned from: more would not change them, evenly spaced in the strength of evidence.
GENES_FOR_WEIGHTS = 4000
# Ratio of one standard deviation of the mixture to the next, and of the smallest standard error to the first.
STEP, FINEST = 2.0**0.5, 10.0
# Imagined genes without effect beside those observed: Stephens' penalty.
NULL_GENES = 9.0
# A statistic nearer to zero says little about the standard error.
SMALLEST_STATISTIC = 0.1
TOLERANCE, MOST_ROUNDS = 1e-5, 2000


def shrink(estimate: np.ndarray, std_error: np.ndarray, statistic: np.ndarray) -> np.ndarray:
    """Return the posterior means of the effects of one cell type, method and contrast.

    Parameters
    ----------
    estimate, std_error : (G,) float64
        Natural log; NaN where there is no effect.
    statistic : (G,) float64
        Normal quantile of the p-value.

    Returns
    -------
    (G,) float64
        Natural log, between 0 and the estimate; NaN where a number is missing.
    """
    error = implied_errors(estimate, std_error, statistic)
    known = np.isfinite(estimate) & np.isfinite(error) & (error > 0.0)
    found = np.full(len(estimate), np.nan)
    if not known.any():
        return found
    b, s = estimate[known], error[known]
    sds, weight = np.r_[0.0, EFFECT_SDS], np.r_[NULL_SHARE, EFFECT_SHARES]
    if len(b) >= GENES_TO_LEARN:
        order = np.argsort(np.abs(b / s), kind="stable")
        chosen = order[:: -(-len(b) // GENES_FOR_WEIGHTS)]
        sds = mixture_sds(b, s)
        weight = mixture_weights(log_likelihoods(b[chosen], s[chosen], sds))
    found[known] = posterior_means(b, s, sds, weight)
    return found


def implied_errors(estimate: np.ndarray, std_error: np.ndarray, statistic: np.ndarray) -> np.ndarray:
    """Return the standard errors at which estimate / error has the p-value of the test, (G,).

    The p-values of moderated and of t tests have longer tails than the normal; an estimate divided by its standard
    error would look stronger than it is. Where the statistic says nothing, the standard error stays.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        implied = np.abs(estimate / statistic)
    usable = np.isfinite(implied) & (implied > 0.0) & (np.abs(statistic) >= SMALLEST_STATISTIC)
    return np.where(usable, implied, std_error)


def mixture_sds(estimate: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return zero and the mixture's standard deviations, from a tenth of the smallest error to the data's range."""
    first = error.min() / FINEST
    last = max(2.0 * np.sqrt(max((estimate**2 - error**2).max(), 0.0)), 8.0 * first)
    number = int(np.ceil(np.log(last / first) / np.log(STEP))) + 1
    return np.r_[0.0, first * STEP ** np.arange(number)]


def log_likelihoods(estimate: np.ndarray, error: np.ndarray, sds: np.ndarray) -> np.ndarray:
    """Return the log density of each estimate under each part of the mixture, less a constant of the gene, (G, K)."""
    variance = sds**2 + error[:, None] ** 2
    values = -0.5 * (np.log(variance) + estimate[:, None] ** 2 / variance)
    return values - values.max(axis=1, keepdims=True)


def mixture_weights(log_likelihood: np.ndarray) -> np.ndarray:
    """Maximize the penalized likelihood of the mixture's weights by EM.

    Parameters
    ----------
    log_likelihood : (G, K) float64
        The first column is that of the point at zero.

    Returns
    -------
    (K,) float64
        Summing to 1.
    """
    likelihood = np.exp(log_likelihood)
    G, K = likelihood.shape
    penalty = np.r_[NULL_GENES, np.zeros(K - 1)]
    weight = np.full(K, 1.0 / K)
    for _ in range(MOST_ROUNDS):
        share = 1.0 / (likelihood @ weight)
        new = (weight * (share @ likelihood) + penalty) / (G + NULL_GENES)
        change, weight = np.abs(new - weight).max(), new
        if change < TOLERANCE:
            break
    return weight


def posterior_means(estimate: np.ndarray, error: np.ndarray, sds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the posterior mean of each effect given the mixture, (G,)."""
    with np.errstate(divide="ignore"):
        share = softmax(log_likelihoods(estimate, error, sds) + np.log(weight), axis=1)
    kept = sds**2 / (sds**2 + error[:, None] ** 2)
    return estimate * (share * kept).sum(axis=1)
