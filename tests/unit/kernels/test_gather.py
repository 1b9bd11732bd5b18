"""The sweep over a gene's nonzeros against the definition of what it collects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from mlmgen.compress import chebyshev_values, compress
from mlmgen.fitting import thread_work
from mlmgen.kernels.families import Gene
from mlmgen.kernels.gather import FEW, LONG, NODES, SHORT, chebyshev_moments, count_histogram, gather
from mlmgen.kernels.start import sum_of_squares
from tests.reference import designs

# One pattern with moments, one with nodes at its few size factors, one with a single cell, one with equal cells.
CELLS = (60, 6, 1, 9)


def four_patterns():
    rng = np.random.default_rng(7)
    donor = np.repeat([f"D{i}" for i in range(4)], CELLS)
    log_size = rng.normal(0, 0.4, len(donor))
    log_size[-CELLS[3] :] = 0.3
    X = np.column_stack([np.ones(len(donor)), np.repeat([0, 0, 1, 1], CELLS)])
    design, _ = designs.build(donor, X, ["a", "b"], {"donor": donor}, np.exp(log_size))
    return design


DESIGN = four_patterns()
PACKED = compress(DESIGN)


def collect(y: np.ndarray) -> Gene:
    counts = designs.counts(y[:, None], ["gene"])
    (gw, _, _), packed = thread_work(PACKED, len(counts.rows))
    # What an earlier gene left behind must not matter.
    for array in (gw.gene.counts, gw.gene.total, gw.gene.more, gw.gene.large, gw.gene.numbers, gw.moments):
        array[...] = 77.0
    gather(counts.rows, counts.values, packed.cells, packed, gw.gene, gw.moments, gw.x)
    return gw.gene


def agrees_with_the_definition(y: np.ndarray):
    gene = collect(y)
    largest = max(y.max(), 1.0)
    for p in range(len(CELLS)):
        own = DESIGN.pattern == PACKED_PATTERN[p]
        assert gene.total[p] == pytest.approx(y[own].sum(), rel=1e-12)
        t, nodes = DESIGN.log_size[own], PACKED.log_size[:, p]
        # Polynomials of every degree below the number of nodes are summed exactly.
        for degree in range(PACKED.structure.size.shape[0] if own.sum() > 20 else 4):
            found = gene.counts[:, p] @ (nodes - 0.1) ** degree
            assert found == pytest.approx((y[own] * (t - 0.1) ** degree).sum(), abs=1e-10 * largest * own.sum())
    expected = (y * DESIGN.log_size).sum() - special.gammaln(y + 1).sum()
    assert gene.numbers[2] == pytest.approx(expected, rel=1e-12, abs=1e-11)
    histogram_agrees(y, gene)


def histogram_agrees(y: np.ndarray, gene: Gene):
    J, n_large = int(gene.numbers[0]), int(gene.numbers[1])
    assert gene.more[:J].tolist() == [(y > j).sum() for j in range(J)]
    assert sorted(gene.large[:n_large]) == sorted(y[y > J])
    assert min(y.max(initial=0), SHORT) <= J <= LONG
    assert gene.numbers[3] == y.sum()
    assert sum_of_squares(gene) == pytest.approx((y**2).sum(), rel=1e-13)


# The engine's patterns are those of the design here: one donor each, in order.
PACKED_PATTERN = [int(DESIGN.pattern[np.flatnonzero(PACKED.cells.pattern == p)[0]]) for p in range(len(CELLS))]
SPARSE = st.lists(
    st.tuples(st.integers(0, sum(CELLS) - 1), st.one_of(st.integers(0, 3), st.integers(0, 40), st.integers(0, 10**6))),
    max_size=sum(CELLS),
)


def test_the_design_has_both_kinds_of_pattern():
    rough = PACKED.cells.slot < 0
    assert PACKED.cells.has_moments
    assert rough.sum() == CELLS[0]


@settings(max_examples=150, deadline=None)
@given(SPARSE)
def test_any_gene(pairs):
    y = np.zeros(sum(CELLS))
    for row, value in pairs:
        y[row] = value
    agrees_with_the_definition(y)


def test_a_gene_without_counts():
    gene = collect(np.zeros(sum(CELLS)))
    assert not gene.counts.any()
    assert not gene.total.any()
    assert gene.numbers.tolist() == [0, 0, 0, 0]
    assert sum_of_squares(gene) == 0


@pytest.mark.parametrize("number", [FEW - 1, FEW, FEW + 1, sum(CELLS)])
@pytest.mark.parametrize("value", [SHORT, SHORT + 1, LONG, LONG + 1, 5 * LONG])
def test_many_and_few_large_counts(number, value):
    y = np.zeros(sum(CELLS))
    y[:number] = value
    y[:3] = [1, 2, 5]
    agrees_with_the_definition(y)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200))
def test_histogram_of_any_counts(values):
    y = np.array(values, dtype=float)
    gene = Gene(np.zeros((1, 1)), np.zeros(1), np.full(LONG + 4, 9.0), np.zeros(len(y)), np.zeros(4))
    count_histogram(y, gene)
    histogram_agrees(y, gene)
    assert gene.numbers[2] == pytest.approx(-special.gammaln(y + 1).sum(), rel=1e-12, abs=1e-12)


def test_moments_are_added_up():
    rng = np.random.default_rng(8)
    x, y = rng.uniform(-1, 1, 37), rng.integers(0, 9, 37).astype(float)
    moments = np.ones((NODES, 2))
    chebyshev_moments(x, y, moments[:, 1])
    assert moments[:, 1] == pytest.approx(1 + chebyshev_values(x, NODES) @ y, abs=1e-12)
    assert (moments[:, 0] == 1).all()
