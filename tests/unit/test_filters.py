"""Expression filters, by hand."""

import numpy as np
import pytest

from mlmgen import filters

STATISTICS = {
    "n_cells_expressing": np.array([50, 9, 10, 50, 0]),
    "n_donors_expressing": np.array([6, 6, 6, 1, 0]),
    "total_count": np.array([80, 9, 10, 60, 0]),
}
FILTERS = {"min_cells_expressing": 10, "min_fraction_expressing": 0.01, "min_donors_expressing": 2}


def test_thresholds_are_inclusive():
    assert filters.keep(STATISTICS, 1000, FILTERS).tolist() == [True, False, True, False, False]


def test_the_fraction_is_of_the_cells_analysed():
    assert filters.keep(STATISTICS, 1001, FILTERS).tolist() == [True, False, False, False, False]


def test_each_reason_names_the_filter_and_the_numbers():
    assert filters.reasons(STATISTICS, 1001, FILTERS) == [
        "",
        "counts in 9 cells, min_cells_expressing is 10",
        "counts in 10 of 1001 cells, min_fraction_expressing is 0.01",
        "counts in 1 donors, min_donors_expressing is 2",
        "no counts in this cell type",
    ]


def test_a_gene_without_counts_is_never_fitted():
    off = dict.fromkeys(FILTERS, 0)
    assert filters.keep(STATISTICS, 1000, off).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("n_cells", [10, 1000, 100_000])
def test_reasons_are_empty_exactly_for_kept_genes(n_cells):
    kept = filters.keep(STATISTICS, n_cells, FILTERS)
    assert [reason == "" for reason in filters.reasons(STATISTICS, n_cells, FILTERS)] == kept.tolist()
