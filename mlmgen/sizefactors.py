"""Size factors: how deeply each cell was sequenced, relative to the others."""

from dataclasses import dataclass

import numpy as np

from mlmgen.errors import UserError

# The defaults of Robinson and Oshlack 2010 (Genome Biology 11:R25) and of edgeR.
TRIM_RATIO = 0.3
TRIM_EXPRESSION = 0.05
SAME = 1e-6  # log2 ratios below it everywhere mean equal compositions
REFERENCE_QUANTILE = 0.75


@dataclass(frozen=True)
class Factors:
    """What library sizes are multiplied by.

    Attributes
    ----------
    factor : (n,) float64
        Of each cell of the input; NaN for cells that are not analysed.
    """

    factor: np.ndarray


def library(totals: np.ndarray) -> np.ndarray:
    """Return each cell's total count relative to the mean over all cells.

    Parameters
    ----------
    totals : (n,) float64
        Counts of each cell over all genes of the file, for all its cells.

    Returns
    -------
    (n,) float64
        Mean 1; 0 for a cell without counts.
    """
    return totals / totals.mean()


def tmm(counts: np.ndarray) -> np.ndarray:
    """Return the trimmed means of M-values (TMM) of samples, Robinson and Oshlack 2010.

    Parameters
    ----------
    counts : (S, G)
        Sums of the cells of each sample, each sample with at least one count.

    Returns
    -------
    (S,) float64
        Factors by which library sizes are multiplied; their geometric mean is 1.
    """
    counts = np.asarray(counts, dtype=np.float64)
    totals = counts.sum(axis=1)
    expressed = counts[:, counts.any(axis=0)]
    reference = _reference(expressed, totals)
    standard, n = expressed[reference], totals[reference]
    pairs = zip(expressed, totals, strict=True)
    log_factors = np.array([_log2_factor(row, standard, total, n) for row, total in pairs])
    return np.exp2(log_factors - log_factors.mean())


def _reference(counts: np.ndarray, totals: np.ndarray) -> int:
    """Choose the sample whose upper quartile is nearest to the mean; with mostly zeros the densest sample."""
    quartile = np.quantile(counts, REFERENCE_QUANTILE, axis=1) / totals
    if np.median(quartile) < 1e-20:
        return int(np.argmax(np.sqrt(counts).sum(axis=1)))
    return int(np.argmin(np.abs(quartile - quartile.mean())))


def _log2_factor(counts: np.ndarray, reference: np.ndarray, total: float, reference_total: float) -> float:
    both = (counts > 0) & (reference > 0)
    y, r = counts[both], reference[both]
    share, reference_share = y / total, r / reference_total
    ratio = np.log2(share / reference_share)
    if not len(ratio) or np.abs(ratio).max() < SAME:
        return 0.0
    expression = (np.log2(share) + np.log2(reference_share)) / 2
    variance = (total - y) / total / y + (reference_total - r) / reference_total / r
    kept = _middle(ratio, TRIM_RATIO) & _middle(expression, TRIM_EXPRESSION) & (variance > 0)
    return float(np.average(ratio[kept], weights=1 / variance[kept])) if kept.any() else 0.0


def _middle(values: np.ndarray, trim: float) -> np.ndarray:
    """Return which values remain when a share is trimmed off both ends by rank; ties share their mean rank."""
    from scipy.stats import rankdata

    n, rank = len(values), rankdata(values)
    lowest = np.floor(n * trim) + 1
    return (rank >= lowest) & (rank <= n + 1 - lowest)


def given(values: np.ndarray, column: str, cells: np.ndarray) -> np.ndarray:
    """Check size factors of the user's own; they are used as they stand.

    Parameters
    ----------
    values : (n,)
        The obs column.
    column : str
    cells : (n,) of str
        Names, for messages.

    Returns
    -------
    (n,) float64

    Raises
    ------
    UserError
        Unless all are positive and finite numbers.
    """
    where = f"obs column {column!r}, configuration key size_factors"
    try:
        factors = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        do = "Name a numeric column, or use library or tmm"
        raise UserError("the size factors are not numbers", where, do) from None
    wrong = np.flatnonzero(~(np.isfinite(factors) & (factors > 0)))
    if len(wrong):
        seen = f"{len(wrong):,} of {len(factors):,} size factors are not positive and finite"
        do = "Correct them, or leave these cells out of the input"
        raise UserError(f"{seen} (cell {cells[wrong[0]]} has {factors[wrong[0]]:g})", where, do)
    return factors
