"""Linear dependence between columns."""

import numpy as np

# A column is dependent where what the columns before it leave of it is this small beside it.
DEPENDENT = 1e-8
# Coefficients of a dependency below this are rounding.
INVOLVED = 1e-6
# A mean is rounding where it is this small beside the mean of absolute values.
CANCELLED = 1e-10


def dependencies(X: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
    """Find the columns that are combinations of columns before them.

    Parameters
    ----------
    X : (U, p) float64

    Returns
    -------
    list of (column, the earlier columns that it is made of)
        Empty where X has full rank; a column of zeros is made of none.
    """
    scale = np.linalg.norm(X, axis=0)
    unit = X / np.where(scale > 0, scale, 1.0)
    basis: list[np.ndarray] = []
    kept: list[int] = []
    found = []
    for j in range(X.shape[1]):
        rest = unit[:, j].copy()
        for _ in range(2):  # twice is enough (Kahan)
            for q in basis:
                rest -= (q @ rest) * q
        size = np.linalg.norm(rest)
        if size > DEPENDENT:
            basis.append(rest / size)
            kept.append(j)
        else:
            weights = np.linalg.lstsq(unit[:, kept], unit[:, j], rcond=None)[0] if kept else np.empty(0)
            found.append((j, tuple(k for k, w in zip(kept, weights, strict=True) if abs(w) > INVOLVED)))
    return found


def mean_of(values: np.ndarray) -> float:
    """Return the mean of values, exactly 0 where they cancel but for rounding."""
    mean = float(values.mean())
    return mean if abs(mean) > CANCELLED * float(np.abs(values).mean()) else 0.0


def group_means(values: np.ndarray, group: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Average rows by group, exactly 0 where values cancel but for rounding.

    Parameters
    ----------
    values : (n, p) float64
    group : (n,) int
        From 0 without gaps.
    weight : (n,) float64
        Of each row, for example its number of cells.

    Returns
    -------
    (groups, p) float64
    """
    total = np.bincount(group, weight)
    means = np.stack([np.bincount(group, weight * column) for column in values.T], axis=1) / total[:, None]
    sizes = np.stack([np.bincount(group, weight * np.abs(column)) for column in values.T], axis=1) / total[:, None]
    return np.where(np.abs(means) > CANCELLED * sizes, means, 0.0)


def spans(A: np.ndarray, B: np.ndarray) -> bool:
    """Tell whether every column of ``B`` (U, b) is a combination of the columns of ``A`` (U, a)."""
    dependent = {j for j, _ in dependencies(np.column_stack([A, B]))}
    return set(range(A.shape[1], A.shape[1] + B.shape[1])) <= dependent
