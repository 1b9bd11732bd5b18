"""Whether two analyses of the same counts, cells and sums of samples, say the same about an effect."""

import numpy as np

from mlmgen.fdr import LEVEL

# Part of the larger standard error that is added for what the methods do differently with the same counts: effects
# less than 0.6 standard errors apart are never said to differ.
APPROXIMATION = 0.2
# p-values that speak for an effect, and that say there is no evidence of one.
SUPPORTED, UNSUPPORTED = 0.05, 0.1
LARGEST_DIFFERENCE = 3.0


def difference(first, second, first_error, second_error) -> np.ndarray:
    """Return the difference of two effects in units of its standard error.

    Both methods see the same counts, so the errors are nearly one error seen twice. If the more precise estimate is
    efficient, its covariance with the other is its own variance, and the variance of the difference is the
    difference of the variances (Hausman 1978, Econometrica 46:1251). Neither is exactly efficient and the
    variances are estimates themselves, which `APPROXIMATION` of the larger standard error makes up for: without
    effects, few and uneven cells included, fewer than one value in 200 is above 3
    (``tests/calibration/test_concordance.py``).

    Parameters
    ----------
    first, second, first_error, second_error : (...) float64
        Effects and standard errors, in the same unit.
    """
    variance = np.abs(first_error**2 - second_error**2) + (APPROXIMATION * np.fmax(first_error, second_error)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0.0, (first - second) / np.sqrt(variance), np.nan)


def disagree(effects, errors, pvalues, adjusted) -> np.ndarray:
    """Tell about which effects two methods disagree, (...) bool; the rules are in the column's description.

    Parameters
    ----------
    effects, errors, pvalues, adjusted : pair of (...) float64
        Of either method; NaN where it has no test.
    """
    found = np.abs(difference(*effects, *errors)) > LARGEST_DIFFERENCE
    found |= (effects[0] * effects[1] < 0.0) & (np.maximum(*pvalues) < SUPPORTED)
    for called, other in zip(adjusted, pvalues[::-1], strict=True):
        found |= (called <= LEVEL) & (other > UNSUPPORTED)
    return found
