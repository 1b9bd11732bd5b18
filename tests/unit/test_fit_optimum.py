"""Whether fits reach the optimum, on simulated genes of every layout; the judges are the grid and the twins."""

import numpy as np
import pytest

from mlmgen import fitting, simulate
from mlmgen.status import Status
from mlmgen.types import Counts, Design
from tests.golden import agreement
from tests.reference import designs, laplace

LAYOUTS = {
    "3-v-3": {"donors_per_arm": 3, "cells_per_donor": 60, "paired": False},
    "10-v-10": {"donors_per_arm": 10, "cells_per_donor": 60, "paired": False},
    "6-pairs": {"donors_per_arm": 6, "cells_per_donor": 50, "paired": True},
}
LEVELS = [("cells", "nb"), ("cells", "poisson"), ("samples", "nb")]
GENES = 300
# The grid's likelihoods come from fewer nodes than the fit's; most of the error is the same at every point.
GRID_ERROR, GRID_ERROR_PER_COUNT = 1e-4, 1e-7


def sums(design: Design, counts: Counts) -> tuple[Design, Counts]:
    """Sum the cells of each pattern, which is a sample in these designs; drop terms with one row per level."""
    P = len(design.X)
    Y = np.zeros((P, len(counts.genes)))
    for g in range(Y.shape[1]):
        chosen = slice(counts.start[g], counts.start[g + 1])
        np.add.at(Y[:, g], design.pattern[counts.rows[chosen]], counts.values[chosen])
    size = np.bincount(design.pattern, np.exp(design.log_size), P)
    terms = {t.name: np.array(t.levels)[t.codes] for t in design.terms if len(t.levels) < P}
    label = np.array(design.sample.levels)[design.sample.codes]
    donor = np.array(design.donor.levels)[design.donor.codes]
    summed, order = designs.build(donor, design.X, design.coefficients, terms, size, sample=label)
    return summed, designs.counts(Y[order], counts.genes)


CASES = [(name, *level) for name in LAYOUTS for level in LEVELS]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def fitted(request):
    name, level, family = request.param
    rng = np.random.default_rng(17)
    counts, design, _ = simulate.null_experiment(n_genes=GENES, rng=rng, cells_sd=0.6, **LAYOUTS[name])
    if level == "samples":
        design, counts = sums(design, counts)
    totals = np.array([counts.values[a:b].sum() for a, b in zip(counts.start[:-1], counts.start[1:], strict=True)])
    keep = totals >= 10
    return design, counts, fitting.fit_shard(counts, design, keep, family, level, 1, None), keep, family


def test_every_kept_gene_is_fitted(fitted):
    _, _, fits, keep, _ = fitted
    assert (fits.status[~keep] == Status.FILTERED).all()
    assert np.isin(fits.status[keep], [Status.CONVERGED, Status.BOUNDARY, Status.SEPARATED]).all()
    assert np.isfinite(fits.loglik[keep]).all()
    assert np.isnan(fits.loglik[~keep]).all()


def test_no_grid_point_is_above_the_fit(fitted):
    _, counts, fits, keep, _ = fitted
    excess = fits.grid_loglik.max(axis=1) - fits.loglik
    totals = np.array([counts.values[a:b].sum() for a, b in zip(counts.start[:-1], counts.start[1:], strict=True)])
    allowed = GRID_ERROR + GRID_ERROR_PER_COUNT * totals
    above = {counts.genes[g]: round(float(excess[g]), 6) for g in np.flatnonzero(keep) if excess[g] > allowed[g]}
    assert not above


def test_no_nearby_variance_is_better_by_the_twin(fitted):
    design, counts, fits, keep, _ = fitted
    free = np.flatnonzero(keep & np.isin(fits.status, [Status.CONVERGED, Status.BOUNDARY]))
    for g in free[:: len(free) // 12]:
        cells = designs.cells(design, counts, g)

        def value(variance, cells=cells):
            return laplace.laplace_reml(cells, *agreement.deviations(design, fits, variance))

        own = value(fits.variance[g])
        assert fits.loglik[g] == pytest.approx(own, abs=1e-5)
        for v in range(len(fits.components)):
            # Larger by 1 %, smaller by 1 %, and away from zero.
            for moved in (fits.variance[g, v] * 1.01 + 1e-5, fits.variance[g, v] * 0.99):
                other = fits.variance[g].copy()
                other[v] = moved
                assert value(other) <= own + 1e-7
