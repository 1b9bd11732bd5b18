"""The search over the variances: its parametrization, its ends, and that it never ends below its start."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import fitting, simulate
from mlmgen.kernels.laplace import FINE, reml
from mlmgen.kernels.optimize import LARGEST_RHO, drop_from_inverse, objective, phi_of, rho_of
from mlmgen.kernels.start import starting_values
from mlmgen.status import Status
from tests.unit.kernels.cases import load

GENES = 40


@given(st.floats(1e-300, 1e4))
def test_dispersion_and_its_parameter_are_inverse(phi):
    assert phi_of(rho_of(phi)) == pytest.approx(phi, rel=1e-12)
    assert phi_of(-rho_of(phi)) == phi_of(rho_of(phi))


def test_ends_of_the_dispersion():
    assert rho_of(0.0) == phi_of(0.0) == 0
    assert phi_of(LARGEST_RHO) == pytest.approx(1e4, rel=0.01)
    # Small: rho^2 / 2, as a standard deviation and its variance. Large: rho = log(2 phi).
    assert phi_of(1e-5) == pytest.approx(5e-11, rel=1e-9)
    assert rho_of(5e3) == pytest.approx(np.log(1e4), abs=1e-3)


@pytest.mark.parametrize("paired", [True, False])
def test_gradient_of_the_objective(paired):
    counts, design, _ = simulate.null_experiment(4, 25, 1, np.random.default_rng(2), paired=paired, log_mean=0.5)
    case = load(design, counts)
    active = np.array([True, paired, True])
    psi, raw, gradient, ignored = np.array([0.5, 0.3 * paired, 0.8]), *np.empty((3, 3))
    value = objective(case.st, case.gene, case.wk, psi, active, raw, gradient)
    assert value == pytest.approx(-reml(case.st, case.gene, case.wk, *psi[:2], phi_of(psi[2]), FINE), abs=1e-9)
    for i in np.flatnonzero(active):
        step = 1e-4 * np.eye(3)[i]
        ahead = objective(case.st, case.gene, case.wk, psi + step, active, raw, ignored)
        behind = objective(case.st, case.gene, case.wk, psi - step, active, raw, ignored)
        assert gradient[i] == pytest.approx((ahead - behind) / 2e-4, rel=1e-5, abs=1e-6)
    objective(case.st, case.gene, case.wk, psi, np.array([False, False, True]), raw, ignored)
    assert ignored[:2].tolist() == [0, 0]
    assert ignored[2] == pytest.approx(gradient[2], rel=1e-6)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_dropping_a_parameter_inverts_the_smaller_hessian(i):
    A = np.random.default_rng(4).standard_normal((3, 5))
    hessian = A @ A.T
    inverse = np.linalg.inv(hessian)
    drop_from_inverse(inverse, i)
    rest = [j for j in range(3) if j != i]
    assert inverse[np.ix_(rest, rest)] == pytest.approx(np.linalg.inv(hessian[np.ix_(rest, rest)]), rel=1e-9)
    assert not inverse[i].any()
    assert not inverse[:, i].any()


@pytest.fixture(scope="module", params=[(True, "nb"), (False, "nb"), (True, "poisson")], ids=str)
def fitted(request):
    paired, family = request.param
    counts, design, _ = simulate.null_experiment(
        4, 30, GENES, np.random.default_rng(5), paired=paired, log_mean=-0.7, effect_share=0.3
    )
    keep = np.diff(counts.start) > 4
    return counts, design, keep, family, fitting.fit_shard(counts, design, keep, family, "cells", 1, None)


def test_no_fit_ends_below_its_start(fitted):
    counts, design, keep, family, fits = fitted
    free = np.flatnonzero(keep & np.isin(fits.status, [Status.CONVERGED, Status.BOUNDARY]))
    assert len(free) > GENES / 2
    for g in free:
        case, psi = load(design, counts, g), np.empty(3)
        packed = case.packed
        starting_values(case.st, case.gene, packed.exposure, packed.exposure_2, case.wk, psi, False)
        psi[1] *= packed.sub >= 0
        psi[2] *= family == "nb"
        zero = np.zeros(3)
        for start in (psi, zero, psi * [1, 0, 1], psi * [0, 1, 1], psi * [1, 1, 0]):
            value = reml(case.st, case.gene, case.wk, *map(float, start), FINE)
            assert fits.loglik[g] >= value - 1e-7, (counts.genes[g], start)


def test_boundary_genes_have_a_zero_that_is_best(fitted):
    counts, design, _, _, fits = fitted
    boundary = np.flatnonzero(fits.status == Status.BOUNDARY)
    assert len(boundary)
    for g in boundary:
        case = load(design, counts, g)
        zeros = np.flatnonzero(fits.variance[g] == 0)
        assert len(zeros)
        for v in zeros:
            assert fits.variance_pvalue[g, v] == 1
            for small in (1e-4, 1e-3, 1e-2):
                moved = fits.variance[g].copy()
                moved[v] = small
                value = reml(case.st, case.gene, case.wk, *in_engine(case, fits.components, moved), FINE)
                assert value <= fits.loglik[g] + 1e-7, (counts.genes[g], fits.components[v], small)


def in_engine(case, components, variances) -> list[float]:
    """(sd_top, sd_sub, phi)."""
    named = dict(zip(components, variances.tolist(), strict=True))
    places = (case.packed.top, case.packed.sub)
    sds = [np.sqrt(named[case.design.terms[place].name]) if place >= 0 else 0.0 for place in places]
    return [*map(float, sds), named.get("dispersion", 0.0)]


def test_converged_genes_have_no_zero(fitted):
    fits = fitted[4]
    converged = fits.status == Status.CONVERGED
    assert converged.any()
    assert (fits.variance[converged] > 0).all()


def test_genes_without_variation_end_at_the_boundary():
    # Equal donors, Poisson counts with less than Poisson variance: every variance is zero.
    counts, design, _ = simulate.null_experiment(4, 30, 1, np.random.default_rng(6), paired=True)
    rows = np.arange(len(design.pattern), dtype=np.int32)
    flat = replace(counts, start=np.array([0, len(rows)]), rows=rows, values=np.full(len(rows), 3.0))
    even = replace(design, log_size=np.zeros(len(rows)))
    fits = fitting.fit_shard(flat, even, np.ones(1, bool), "nb", "cells", 1, None)
    assert fits.status[0] == Status.BOUNDARY
    assert fits.variance[0].tolist() == [0, 0, 0]
    assert fits.beta[0] == pytest.approx([np.log(3), 0], abs=1e-9)
