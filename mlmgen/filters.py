"""Which genes of a cell type are fitted, and the reason why the others are not."""

import numpy as np

FEWEST_COUNTS = 1  # without a count there is nothing to fit, whatever the filters say


def keep(statistics: dict, n_cells: int, filters: dict) -> np.ndarray:
    """Return which genes pass the expression filters.

    Parameters
    ----------
    statistics : dict of str to (G,) array
        ``n_cells_expressing``, ``n_donors_expressing`` and ``total_count`` of each gene.
    n_cells : int
        Cells of the cell type.
    filters : dict
        ``min_cells_expressing``, ``min_fraction_expressing`` (0 to 1), ``min_donors_expressing``.

    Returns
    -------
    (G,) bool
    """
    failed = np.zeros(len(statistics["total_count"]), dtype=bool)
    for fails, _ in _rules(statistics, n_cells, filters):
        failed |= fails
    return ~failed


def reasons(statistics: dict, n_cells: int, filters: dict) -> list[str]:
    """Name the first filter that each gene fails; empty for genes that pass.

    Parameters are those of `keep`.
    """
    texts = [""] * len(statistics["total_count"])
    for fails, text in reversed(_rules(statistics, n_cells, filters)):
        for gene in np.flatnonzero(fails):
            texts[gene] = text(gene)
    return texts


def _rules(statistics: dict, n_cells: int, filters: dict) -> list:
    """Pair each filter's failures with a function that words them for one gene."""
    cells = np.asarray(statistics["n_cells_expressing"])
    donors = np.asarray(statistics["n_donors_expressing"])
    total = np.asarray(statistics["total_count"])
    least, fraction = filters["min_cells_expressing"], filters["min_fraction_expressing"]
    least_donors = filters["min_donors_expressing"]
    return [
        (total < FEWEST_COUNTS, lambda gene: "no counts in this cell type"),
        (cells < least, lambda gene: f"counts in {cells[gene]} cells, min_cells_expressing is {least}"),
        (
            cells < fraction * n_cells,
            lambda gene: f"counts in {cells[gene]} of {n_cells} cells, min_fraction_expressing is {fraction:g}",
        ),
        (
            donors < least_donors,
            lambda gene: f"counts in {donors[gene]} donors, min_donors_expressing is {least_donors}",
        ),
    ]
