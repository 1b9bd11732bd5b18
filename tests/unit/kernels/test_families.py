"""The negative binomial likelihood and its derivatives, from the definition and by differences."""

from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import pytest
from scipy import stats

from mlmgen.kernels.families import (
    Gene,
    Sums,
    all_derivatives,
    histogram,
    likelihood_and_weight,
    score_and_weight,
    score_weight_slope,
)
from mlmgen.kernels.gather import LONG, count_histogram

COUNTS = [0, 1, 2, 3, 15, 16, 17, 18, 500, 1023, 1024, 1025, 30_000, 1_000_000]
# Digits and step of the differences: truncation 1e-20, cancellation below 1e-28 in a third difference.
DIGITS, STEP = 60, Decimal("1e-10")


def nodes(counts, cells, size, total) -> tuple[np.ndarray, np.ndarray, Gene, Sums]:
    """Nodes (K, P) with given weights, no histogram."""
    counts, cells, size = (np.array(x, dtype=float) for x in (counts, cells, size))
    gene = Gene(counts, np.array(total, dtype=float), np.zeros(LONG + 4), np.zeros(4), np.zeros(4))
    return size, cells, gene, Sums(*(np.zeros(counts.shape[1]) for _ in Sums._fields))


def one_cell(y: int):
    size, cells, gene, sums = nodes([[y]], [[1.0]], [[1.0]], [y])
    count_histogram(np.array([float(y)]) if y else np.zeros(0), gene)
    return size, cells, gene, sums


@pytest.mark.parametrize("y", COUNTS)
def test_single_cells_have_scipys_density(y):
    size, cells, gene, sums = one_cell(y)
    for mu, phi in product([1e-6, 0.02, 1.0, 37.0, 2e4], [1e-2, 0.3, 1.0, 9.0, 150.0]):
        sums.eta[:] = np.log(mu)
        expected = stats.nbinom.logpmf(y, 1 / phi, 1 / (1 + phi * mu))
        got = likelihood_and_weight(size, cells, gene, phi, sums)
        # Each count adds the rounding of a term of about log(phi y); scipy's argument 1 / (1 + phi mu) carries
        # log(phi mu) to eps / (phi mu) only.
        lost = y * np.finfo(float).eps * (50 + 1 / (phi * mu))
        assert got == pytest.approx(expected, rel=1e-11, abs=1e-11 + lost), (mu, phi)
        assert all_derivatives(size, cells, gene, phi, sums)[0] == pytest.approx(got, rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("y", COUNTS)
def test_dispersion_zero_is_poisson(y):
    size, cells, gene, sums = one_cell(y)
    for mu in (1e-6, 0.02, 1.0, 37.0, 2e4):
        sums.eta[:] = np.log(mu)
        expected = stats.poisson.logpmf(y, mu)
        assert likelihood_and_weight(size, cells, gene, 0.0, sums) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("y", [0, 1, 5, 40])
def test_small_dispersions_run_into_poisson(y):
    size, cells, gene, sums = one_cell(y)
    sums.eta[:] = np.log(3.0)
    at_zero, slope = all_derivatives(size, cells, gene, 0.0, sums)
    sums_at_zero = [x.copy() for x in (sums.g, sums.w, sums.dw, sums.g_phi, sums.w_phi)]
    # d/dphi log f at 0 is ((y - mu)^2 - y) / 2.
    assert slope == pytest.approx(((y - 3.0) ** 2 - y) / 2, abs=1e-12)
    for phi in (1e-12, 1e-9, 1e-7, 1e-6):
        value, slope_there = all_derivatives(size, cells, gene, phi, sums)
        assert value == pytest.approx(at_zero + phi * slope, abs=1e5 * phi**2 + 1e-13)
        assert slope_there == pytest.approx(slope, abs=1e5 * phi + 1e-9)
        for x, x_zero in zip((sums.g, sums.w, sums.dw, sums.g_phi, sums.w_phi), sums_at_zero, strict=True):
            assert x == pytest.approx(x_zero, abs=1e5 * phi)


def by_differences(f, eta: float, phi: float, n_eta: int, n_phi: int) -> float:
    """Mixed central difference of f(eta, phi) of the given orders, in long decimals."""
    total = Decimal(0)
    for signs in product((1, -1), repeat=n_eta + n_phi):
        at_eta = Decimal(eta) + STEP * sum(signs[:n_eta])
        at_phi = Decimal(phi) + STEP * Decimal(str(phi)) * sum(signs[n_eta:])
        total += np.prod(signs, dtype=int).item() * f(at_eta, at_phi)
    return float(total / (2 * STEP) ** n_eta / (2 * STEP * Decimal(str(phi))) ** n_phi)


@pytest.mark.parametrize("phi", [1e-9, 1e-6, 1e-5, 2e-3, 0.4, 25.0])
def test_every_derivative(phi):
    rng = np.random.default_rng(4)
    K, P = 3, 4
    # Node weights may be negative: they interpolate.
    counts, n = rng.normal(2, 3, (K, P)), rng.normal(5, 4, (K, P))
    size, cells, gene, sums = nodes(counts, n, rng.uniform(0.2, 4, (K, P)), rng.uniform(0, 9, P))
    sums.eta[:] = [-6.0, -1.0, 1.0, 3.0]
    value, value_phi = all_derivatives(size, cells, gene, phi, sums)
    expected = np.zeros((7, P))
    with localcontext() as context:
        context.prec = DIGITS
        for p in range(P):

            def f(eta, phi, p=p):
                total = Decimal(gene.total[p]) * eta
                for i in range(K):
                    weight = Decimal(counts[i, p]) + Decimal(n[i, p]) / phi
                    total -= weight * (1 + phi * eta.exp() * Decimal(size[i, p])).ln()
                return total

            orders = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1)]
            expected[:, p] = [by_differences(f, sums.eta[p], phi, *order) for order in orders]
    found = [sums.value, sums.g, -sums.w, -sums.dw, sums.value_phi, sums.g_phi, -sums.w_phi]
    for name, x, y in zip(("value", "g", "w", "dw", "value_phi", "g_phi", "w_phi"), found, expected, strict=True):
        tolerance = 1e-8 if name == "value_phi" else 1e-12
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * np.abs(y).max(), err_msg=name)
    assert value == pytest.approx(expected[0].sum(), rel=1e-13)
    assert value_phi == pytest.approx(expected[4].sum(), rel=1e-8)


@pytest.mark.parametrize("phi", [0.0, 1e-7, 0.4])
def test_the_four_passes_agree(phi):
    rng = np.random.default_rng(5)
    size, cells, gene, sums = nodes(
        rng.uniform(0, 3, (5, 6)), rng.uniform(1, 9, (5, 6)), rng.uniform(0.2, 4, (5, 6)), rng.uniform(0, 9, 6)
    )
    sums.eta[:] = rng.normal(0, 2, 6)
    value, _ = all_derivatives(size, cells, gene, phi, sums)
    g, w, dw = sums.g.copy(), sums.w.copy(), sums.dw.copy()
    for run in (score_and_weight, score_weight_slope, likelihood_and_weight):
        for x in (sums.g, sums.w, sums.dw):
            x[:] = np.nan
        returned = run(size, cells, gene, phi, sums)
        assert sums.w == pytest.approx(w, rel=1e-13)
        if run is likelihood_and_weight:
            assert returned == pytest.approx(value, rel=1e-13)
        else:
            assert sums.g == pytest.approx(g, rel=1e-12)
        if run is score_weight_slope:
            assert sums.dw == pytest.approx(dw, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("phi", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.5, 100.0])
@pytest.mark.parametrize("values", [[1_000_000], [17, 1], [1025, 3, 40_000], [16, 16], [*range(1, 120)]])
def test_histogram_against_the_sums_themselves(values, phi):
    gene = one_cell(0)[2]
    gene = gene._replace(large=np.zeros(len(values)))
    count_histogram(np.array(values, dtype=float), gene)
    value, slope = histogram(gene, phi)
    j = np.arange(max(values), dtype=float)
    expected = sum(np.log1p(phi * j[:y]).sum() for y in values)
    expected_slope = sum((j[:y] / (1 + phi * j[:y])).sum() for y in values)
    assert value == pytest.approx(expected, rel=1e-12, abs=2e-9)
    assert slope == pytest.approx(expected_slope, rel=1e-9)
    assert gene.numbers[3] == sum(values)
