"""How much of the expression a column explains: cell types explain most of it, whatever they are called."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

GENES = 300  # of the largest variance
CELLS = 20_000  # at most, spread over those that were read
FEWEST_CELLS = 50


def explained(rows: np.ndarray, X: "sparse.csr_matrix", codes: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the share of the variance of log-normalized expression that each column explains.

    Parameters
    ----------
    rows : (m,) int64
        Cells of the file.
    X : (m, g) CSR
        Their counts (`mlmgen.io.some_counts`).
    codes : dict of str to (n,) int64
        Of columns, from 0, for all cells of the file.

    Returns
    -------
    dict of str to float
        Adjusted R^2 over the `GENES` genes that vary most, 0 where there are too few cells for the levels.
    """
    some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), CELLS)).astype(np.int64))
    rows, X = rows[some], X[some]
    kept, centered = _varying(X)
    if len(kept) < FEWEST_CELLS or not centered.size:
        return dict.fromkeys(codes, 0.0)
    total = float((centered**2).sum())
    return {name: _share(centered, total, of_column[rows[kept]]) for name, of_column in codes.items()}


def _varying(X: "sparse.csr_matrix") -> tuple[np.ndarray, np.ndarray]:
    """Return the cells with counts, and their expression of the genes that vary most, less the means, (m, g)."""
    from scipy import sparse

    total = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    kept = np.flatnonzero(total > 0)
    if not kept.size:
        return kept, np.empty((0, 0))
    X, total = X[kept].astype(np.float64), total[kept]
    X = (sparse.diags_array(np.median(total) / total) @ X).tocsr()
    X.data = np.log1p(X.data)
    mean = np.asarray(X.mean(axis=0)).ravel()
    variance = np.asarray(X.multiply(X).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance, kind="stable")[:GENES])
    values = X.tocsc()[:, genes].toarray()
    return kept, values - values.mean(axis=0)


def _share(centered: np.ndarray, total: float, codes: np.ndarray) -> float:
    n, groups = len(codes), np.unique(codes, return_inverse=True)[1]
    number = int(groups.max()) + 1
    if number < 2 or n <= 2 * number or total <= 0.0:
        return 0.0
    from scipy import sparse

    member = sparse.csr_array((np.ones(n), (groups, np.arange(n))), shape=(number, n))
    sums = member @ centered
    between = float((sums**2 / np.bincount(groups)[:, None]).sum())
    return max(0.0, 1.0 - (1.0 - between / total) * (n - 1) / (n - number))
