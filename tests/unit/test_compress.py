"""Nodes in place of cells: what they reproduce, how exactly, and which random terms are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import compress, fitting, simulate
from mlmgen.compress import FIT_ERROR, GRID_ERROR, WIDEST_HALF_RANGE
from mlmgen.kernels.gather import NODES
from mlmgen.types import Counts, Design, RandomTerm
from tests.reference import designs

GENES = 30


def simple(sizes, spread: float, seed: int = 1, donors: int = 4) -> Design:
    """Donors with ``sizes`` cells each and log size factors over a range of ``spread``."""
    rng = np.random.default_rng(seed)
    sizes = np.broadcast_to(sizes, donors)
    donor = np.repeat([f"D{i}" for i in range(donors)], sizes)
    log_size = rng.uniform(-spread / 2, spread / 2, len(donor))
    X = np.column_stack([np.ones(len(donor)), np.repeat(np.arange(donors) % 2, sizes)])
    return designs.build(donor, X, ["a", "b"], {"donor": donor}, np.exp(log_size))[0]


def uncompressed(design: Design) -> Design:
    """The same model with every row a pattern of its own: the exact likelihood."""
    pattern = design.pattern

    def expanded(term):
        return replace(term, codes=term.codes[pattern])

    return replace(
        design,
        X=np.ascontiguousarray(design.X[pattern]),
        terms=tuple(expanded(term) for term in design.terms),
        donor=expanded(design.donor),
        sample=expanded(design.sample),
        pattern=np.arange(len(pattern), dtype=np.int32),
    )


def nb_integrand(t, phi, eta):
    return np.log1p(phi * np.exp(eta + t))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.floats(0, 12), st.integers(0, 10_000))
def test_weights_of_all_cells(cells, spread, seed):
    design = simple([cells, 1, 5, 40], spread, seed)
    packed = compress.compress(design)
    st_ = packed.structure
    size = np.exp(design.log_size)
    assert packed.exposure == pytest.approx(np.bincount(packed.cells.pattern, size))
    assert packed.exposure_2 == pytest.approx(np.bincount(packed.cells.pattern, size**2))
    # The error of interpolation is a small multiple of rho^-K.
    assert (st_.cells * st_.size).sum(axis=0) == pytest.approx(packed.exposure, rel=10 * FIT_ERROR)
    for p in range(st_.X.shape[1]):
        t = design.log_size[packed.cells.pattern == p]
        used = st_.size[:, p] > 0
        nodes, weights = packed.log_size[used, p], st_.cells[used, p]
        x, node_x = ((a - packed.center[p]) / packed.half[p] for a in (t, nodes))
        for degree in range(used.sum() if packed.cells.slot[packed.cells.pattern == p][0] < 0 else 20):
            assert weights @ node_x**degree == pytest.approx((x**degree).sum(), abs=1e-9 * len(t))
        for phi, eta in ((0.01, 2.0), (1.0, 0.0), (50.0, 3.0)):
            exact = nb_integrand(t, phi, eta).sum()
            assert weights @ nb_integrand(nodes, phi, eta) == pytest.approx(exact, rel=10 * FIT_ERROR, abs=1e-8)
        assert (st_.cells[~used, p] == 0).all()


def test_few_cells_are_kept_as_they_are():
    # Up to four cells are within the smallest number of nodes.
    design = simple([4, 3, 1, 2], 2.0)
    packed = compress.compress(design)
    assert not packed.cells.has_moments
    slots = packed.cells.slot
    assert (packed.log_size[slots, packed.cells.pattern] == design.log_size).all()
    assert (packed.structure.cells[slots, packed.cells.pattern] == 1).all()


def test_equal_size_factors_share_a_node():
    design = replace(simple(50, 0.0), log_size=np.tile(np.repeat([0.5, -0.5], 25), 4))
    packed = compress.compress(design)
    assert packed.structure.size.shape[0] == 2
    assert packed.structure.cells.tolist() == [[25] * 4] * 2
    assert np.exp(packed.log_size[:, 0]) == pytest.approx(np.exp([-0.5, 0.5]))


@pytest.mark.parametrize(("spread", "panels"), [(3.5, 1), (3.7, 2), (7.0, 2), (10.9, 4)])
def test_wide_ranges_are_cut_into_panels(spread, panels):
    design = simple(2000, spread)
    exact_spread = np.ptp(design.log_size[design.pattern == 0])
    packed = compress.compress(design)
    assert packed.structure.X.shape[1] == 4 * panels
    assert packed.half.max() <= WIDEST_HALF_RANGE * (1 + 1e-9)
    assert exact_spread > (panels - 1) * 2 * WIDEST_HALF_RANGE
    # Panels of one pattern are one donor, side by side.
    assert packed.structure.top.tolist() == np.repeat(range(4), panels).tolist()
    for p in range(4 * panels):
        t = design.log_size[packed.cells.pattern == p]
        assert packed.center[p] - packed.half[p] == pytest.approx(t.min())
        assert packed.center[p] + packed.half[p] == pytest.approx(t.max())


def test_node_count():
    counts = [compress.node_count(half, FIT_ERROR) for half in (1e-12, 0.1, 0.5, 1.0, 1.8, 50.0)]
    assert counts == sorted(counts)
    assert counts[0] == 4
    assert counts[-2:] == [NODES, NODES]
    # At the widest half-range NODES nodes reach the error; one fewer does not.
    rho = (np.pi + np.hypot(np.pi, WIDEST_HALF_RANGE)) / WIDEST_HALF_RANGE
    assert rho**-NODES <= FIT_ERROR < rho ** -(NODES - 1)


@pytest.mark.parametrize("K", [1, 2, 5, NODES])
def test_transform_interpolates(K):
    nodes, M = compress.chebyshev_nodes(K), compress.chebyshev_transform(K)
    # The moments of a unit weight on a node give that weight back.
    assert M @ compress.chebyshev_values(nodes, K) == pytest.approx(np.eye(K), abs=1e-13)


def test_reduction_to_fewer_nodes():
    design = simple([500, 3, 40, 12], 1.5)
    packed = compress.compress(design)
    cells = packed.structure.cells
    reduced = np.einsum("rkp,kp->rp", packed.reduction, cells)
    R, K = packed.reduction.shape[:2]
    assert R < K
    for p in range(4):
        full, few = cells[:, p] > -np.inf, packed.size_reduced[:, p] > 0
        nodes, few_nodes = packed.structure.size[full, p], packed.size_reduced[few, p]
        for phi, eta in ((0.01, 2.0), (1.0, 0.0), (50.0, 3.0)):
            exact = cells[full, p] @ np.log1p(phi * np.exp(eta) * nodes)
            found = reduced[few, p] @ np.log1p(phi * np.exp(eta) * few_nodes)
            assert found == pytest.approx(exact, rel=GRID_ERROR)
        assert (reduced[~few, p] == 0).all()
    # Three cells stay three cells.
    three = int(np.argmin(cells.sum(axis=0)))
    assert np.sort(packed.size_reduced[:, three])[-3:] == pytest.approx(np.sort(packed.structure.size[:, three])[-3:])


def fits_of(counts: Counts, design: Design, family: str = "nb"):
    return fitting.fit_shard(counts, design, np.ones(len(counts.genes), bool), family, "cells", 1, None)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("family", ["nb", "poisson"])
def test_fits_are_those_of_the_exact_likelihood(paired, family):
    counts, design, _ = simulate.null_experiment(
        4, 150, GENES, np.random.default_rng(8), paired=paired, log_mean=-0.5, log_mean_sd=1.0, effect_share=0.5
    )
    packed, exact = compress.compress(design), compress.compress(uncompressed(design))
    assert packed.cells.has_moments
    assert not exact.cells.has_moments
    assert exact.structure.X.shape[1] == len(design.pattern)
    few, all_cells = fits_of(counts, design, family), fits_of(counts, uncompressed(design), family)
    assert few.loglik == pytest.approx(all_cells.loglik, abs=5e-6)
    assert few.beta == pytest.approx(all_cells.beta, abs=2e-6)
    assert few.std_error == pytest.approx(all_cells.std_error, rel=1e-5)
    assert few.variance == pytest.approx(all_cells.variance, abs=1e-6, rel=1e-5)
    assert few.status.tolist() == all_cells.status.tolist()


def test_fits_over_wide_ranges_are_those_of_the_exact_likelihood():
    counts, design, _ = simulate.null_experiment(3, 200, GENES, np.random.default_rng(9), log_mean=-0.5)
    rng = np.random.default_rng(10)
    wide = replace(design, log_size=rng.uniform(-4.5, 2.0, len(design.pattern)))
    beta = np.tile([0.5, 0.3], (GENES, 1))
    counts = simulate.counts(wide, beta, np.full((GENES, 1), 0.4), np.full(GENES, 0.5), rng)
    assert compress.compress(wide).structure.X.shape[1] == 2 * len(design.X)
    panels, exact = fits_of(counts, wide), fits_of(counts, uncompressed(wide))
    assert panels.loglik == pytest.approx(exact.loglik, abs=5e-6)
    assert panels.beta == pytest.approx(exact.beta, abs=2e-6)
    assert panels.variance == pytest.approx(exact.variance, abs=1e-6, rel=1e-5)


def term(name: str, *codes: int) -> RandomTerm:
    return designs.intercepts(name, [f"{name}{i}" for i in range(max(codes) + 1)], codes)


DONOR, SAMPLE = term("donor", 0, 0, 1, 1), term("donor:condition", 0, 1, 2, 3)
BATCH = term("batch", 0, 1, 0, 1)


def test_nesting():
    assert compress.nesting(()) == (-1, -1)
    assert compress.nesting((DONOR,)) == (0, -1)
    assert compress.nesting((DONOR, SAMPLE)) == (0, 1)
    assert compress.nesting((SAMPLE, DONOR)) == (1, 0)


COLUMNS = np.array([[1.0] * 4, [0.0, 1, 0, 1]])
SLOPE = RandomTerm("donor", DONOR.levels, DONOR.codes, ("(Intercept)", "x"), COLUMNS, np.zeros(2, np.int32))


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ((), True),
        ((DONOR,), True),
        ((SAMPLE, DONOR), True),
        ((DONOR, BATCH), False),
        ((DONOR, term("person", 1, 1, 0, 0)), False),
        ((DONOR, SAMPLE, BATCH), False),
        ((SLOPE,), False),
    ],
    ids=["none", "one", "nested", "crossed", "same groups", "three", "slope"],
)
def test_which_designs_are_nested_intercepts(terms, expected):
    design = replace(simple(4, 1.0), terms=terms)
    assert compress.is_nested_intercepts(design) == expected


def test_cell_level_functions_are_not_for_the_nodes():
    design = simple(4, 1.0)
    assert not compress.is_nested_intercepts(replace(design, functions=np.ones((len(design.pattern), 1))))


def test_groups_are_those_of_the_terms():
    design = simple(5, 1.0)
    sample = designs.intercepts("half", ("x", "y", "z", "w"), [3, 1, 0, 2])
    top = designs.intercepts("site", ("s", "t"), [1, 0, 0, 1])
    packed = compress.compress(replace(design, terms=(sample, top)))
    assert (packed.top, packed.sub) == (1, 0)
    # Donors by site, then by half: D2 (0, 0), D1 (0, 1), D3 (1, 2), D0 (1, 3).
    of_donor = [packed.cells.pattern[design.pattern == d][0] for d in range(4)]
    assert of_donor == [3, 1, 0, 2]
    assert packed.structure.top.tolist() == [0, 0, 1, 1]
    assert packed.structure.sub.tolist() == [0, 1, 2, 3]
    assert packed.structure.parent.tolist() == [0, 0, 1, 1]
    assert packed.structure.X[1].tolist() == [0, 1, 1, 0]
