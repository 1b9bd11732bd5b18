r"""Wald tests with Satterthwaite degrees of freedom, for fits without a variance grid.

Those are fits by ML, of sums of samples with crossed intercepts, and of few responses.

With C the covariance of beta and D_d its sensitivities, so that Var(c'Cc) = sum_d (c'D_d c)^2,

    t = c'beta / sqrt(c'Cc),   df = 2 (c'Cc)^2 / Var(c'Cc)

Several rows are tested together by F with the degrees of freedom of Fai and Cornelius (1996), from the
eigenvectors of W C W'.
"""

import numpy as np
from scipy.special import betainc, betaln, chdtri, ndtri_exp, stdtrit

from mlmgen.replicates import most_degrees_of_freedom
from mlmgen.types import Contrast, Design, Effects, GeneFits

INTERVAL = 0.975


def wald(fits: GeneFits, design: Design, contrasts: tuple[Contrast, ...]) -> Effects:
    """Test contrasts from estimates and their covariance alone.

    Degrees of freedom never exceed what the contrast's replicates allow (``most_degrees_of_freedom``): at a variance
    of zero Satterthwaite's formula no longer knows of the groups.

    Parameters
    ----------
    fits : GeneFits
    design : Design
    contrasts : tuple of Contrast

    Returns
    -------
    Effects
        Of a joint test only ``log_pvalue``, ``statistic`` (a chi-square quantile) and ``df`` are numbers.
    """
    G, C = len(fits.genes), len(contrasts)
    names = ("estimate", "std_error", "ci_low", "ci_high", "log_pvalue", "statistic", "df")
    out = {name: np.full((G, C), np.nan) for name in names}
    for c, contrast in enumerate(contrasts):
        most = most_degrees_of_freedom(design, contrast.weights)
        columns = _effect(fits, contrast.weights[0], most)
        if len(contrast.weights) > 1:
            columns = _joint(fits, contrast.weights, most)
        for name, values in columns.items():
            out[name][:, c] = values
    return Effects(contrasts=tuple(contrast.name for contrast in contrasts), **out)


def satterthwaite(variance: np.ndarray, parts: np.ndarray, most: float) -> np.ndarray:
    """Return 2 v^2 / sum of squares of the parts (last axis), between 1 and ``most``."""
    # The parts as shares of the variance: squares of a runaway fit's numbers overflow.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spread = ((parts / variance[..., None]) ** 2).sum(axis=-1)
        return np.where(np.isnan(spread), np.nan, np.clip(2.0 / spread, 1.0, most))


def _effect(fits: GeneFits, c: np.ndarray, most: float) -> dict[str, np.ndarray]:
    estimate = fits.beta @ c
    variance = np.einsum("i,gij,j->g", c, fits.covariance, c)
    df = satterthwaite(variance, np.einsum("i,gdij,j->gd", c, fits.sensitivity, c), most)
    error = np.sqrt(variance)
    half = stdtrit(df, INTERVAL) * error
    log_p = log_f_tail((estimate / error) ** 2, 1.0, df)
    return {
        "estimate": estimate,
        "std_error": error,
        "ci_low": estimate - half,
        "ci_high": estimate + half,
        "log_pvalue": log_p,
        "statistic": -np.where(estimate < 0, -1.0, 1.0) * ndtri_exp(log_p - np.log(2.0)),
        "df": df,
    }


def _joint(fits: GeneFits, W: np.ndarray, most: float) -> dict[str, np.ndarray]:
    # An orthonormal basis of the rows: the degrees of freedom then do not depend on how they are written.
    r = len(W)
    W = np.linalg.svd(W)[2][:r]
    estimate = fits.beta @ W.T
    covariance = W @ fits.covariance @ W.T
    usable = np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(estimate).all(axis=1)
    values, vectors = np.linalg.eigh(np.where(usable[:, None, None], covariance, np.eye(r)))
    parts = np.einsum("gim,ij,gdjk,lk,glm->gmd", vectors, W, fits.sensitivity, W, vectors)
    df = satterthwaite(values, parts, most)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = np.where(df > 2, df / (df - 2.0), 0.0).sum(axis=1)
        pooled = np.where(above > r, 2.0 * above / (above - r), 2.0)
        F = (np.einsum("gim,gi->gm", vectors, np.nan_to_num(estimate)) ** 2 / values).sum(axis=1) / r
    pooled = np.where(usable, np.minimum(pooled, most), np.nan)
    log_p = log_f_tail(np.where(usable, F, np.nan), float(r), pooled)
    return {"log_pvalue": log_p, "statistic": chi_square_quantile(log_p, r), "df": pooled}


def log_f_tail(F: np.ndarray, r: float, df: np.ndarray) -> np.ndarray:
    """Return log P(F(r, df) > F), by the leading term of the incomplete beta function where it underflows."""
    x = df / (df + r * F)
    a, b = 0.5 * df, 0.5 * r
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.log(betainc(a, b, x))
        leading = a * np.log(x) + b * np.log1p(-x) - np.log(a) - betaln(a, b)
    return np.where(np.isneginf(log_p), leading, log_p)


def chi_square_quantile(log_p: np.ndarray, r: int) -> np.ndarray:
    """Return the chi-square value with r degrees of freedom whose tail is exp(log_p)."""
    p = np.exp(np.maximum(log_p, -700.0))
    return np.where(np.isnan(log_p), np.nan, chdtri(float(r), p))
