"""Benjamini and Hochberg (1995), J R Stat Soc B 57:289, from its definition."""

import numpy as np


def benjamini_hochberg(pvalues) -> np.ndarray:
    """Return adjusted p-values; missing ones stay missing and do not count."""
    pvalues = np.asarray(pvalues, dtype=float)
    tested = pvalues[~np.isnan(pvalues)]
    adjusted = np.full(len(pvalues), np.nan)
    for i, p in enumerate(pvalues):
        if not np.isnan(p):
            # The smallest level at which p is rejected: over all candidates q >= p, m q / #{p_j <= q}.
            adjusted[i] = min(min(1.0, len(tested) * q / (tested <= q).sum()) for q in tested if q >= p)
    return adjusted
