"""Moderation and tests of mlmgen against the slow twins, gene by gene."""

import numpy as np
import pytest

from mlmgen import fitting, inference, moderate, simulate
from mlmgen.types import Contrast
from tests.golden import agreement
from tests.reference import designs, laplace, moderation

GENES = 60
GRID = np.geomspace(1e-4, 9, 24)
STIM = Contrast("stim", "condition[T.stim]", np.array([[0.0, 1.0]]))
EVERY = np.ones(GENES, dtype=bool)


def run(counts, design, contrasts=(STIM,), level="cells"):
    keep = np.diff(counts.start) > 0
    fits = fitting.fit_shard(counts, design, keep, "nb", level, 1, None)
    totals = np.array([counts.values[a:b].sum() for a, b in zip(counts.start[:-1], counts.start[1:], strict=True)])
    moderated = moderate.moderate(fits, np.log(np.maximum(totals, 1.0)))
    return fits, moderated, inference.test(counts, design, fits, moderated, contrasts, "nb", level, 1, None)


@pytest.fixture(scope="module")
def unpaired():
    rng = np.random.default_rng(31)
    counts, design, _ = simulate.null_experiment(4, 15, GENES, rng, effect_share=0.5, log_mean=0.0, log_mean_sd=1.2)
    return counts, design, *run(counts, design)


@pytest.fixture(scope="module")
def paired():
    rng = np.random.default_rng(32)
    counts, design, _ = simulate.null_experiment(
        4, 12, GENES, rng, paired=True, effect_share=0.5, log_mean=0.5, log_mean_sd=1.0
    )
    return counts, design, *run(counts, design)


def twin_test(data, g, contrast):
    """Mix the twin's tests at the points of mlmgen's own grid that carry weight."""
    counts, design, fits, moderated, _ = data
    weights = moderated.weights[g]
    carries = weights > 1e-4
    points = [agreement.deviations(design, fits, v) for v in agreement.grid_variances(fits, g)[carries]]
    cells = designs.cells(design, counts, g)
    return moderation.moderated_test(cells, contrast, points, weights[carries] / weights[carries].sum())


def test_weights_are_a_posterior(unpaired, paired):
    for data in (unpaired, paired):
        moderated = data[3]
        assert moderated.weights.sum(axis=1) == pytest.approx(np.ones(GENES))
        assert (moderated.weights >= 0).all()
        on_grid = data[2].grid_shape > 1
        assert (moderated.ci_low[:, on_grid] < moderated.variance[:, on_grid]).all()
        assert (moderated.variance[:, on_grid] < moderated.ci_high[:, on_grid]).all()
        # Off the grid the interval is that of the standard error; a component at zero has none.
        off = data[2].variance[:, ~on_grid]
        assert (np.isnan(moderated.ci_low[:, ~on_grid]) == (off == 0)).all()
        assert (moderated.variance[:, ~on_grid] == data[2].variance[:, ~on_grid]).all()


def test_posterior_is_the_recipes(unpaired):
    # The twin: a fixed grid of 24 variances, every gene's REML value there, the 22 x 8 lattice.
    counts, design, fits, moderated, _ = unpaired
    loglik = np.empty((GENES, len(GRID)))
    for g in range(GENES):
        cells = designs.cells(design, counts, g)
        phi = fits.variance[g, fits.components.index("dispersion")]
        loglik[g] = [laplace.laplace_reml(cells, [np.sqrt(variance)], phi) for variance in GRID]
    lattice = moderation.prior_lattice(loglik, GRID)
    posterior = np.array([moderation.posterior(one, GRID, lattice) for one in loglik])
    donor = fits.components.index("donor")
    # mlmgen multiplies each likelihood by the averaged prior, the twin averages the posteriors; outliers feel it.
    difference = np.abs(np.log(moderated.variance[:, donor]) - np.log(posterior @ GRID))
    assert np.quantile(difference, 0.9) < 0.15
    assert difference.max() < 0.6
    assert moderated.prior[donor, 0] == pytest.approx(lattice.sum(axis=1) @ moderation.PRIOR_MEANS, abs=0.1)
    assert moderated.prior[donor, 1] == 0
    assert moderated.prior[donor, 2] == pytest.approx(lattice.sum(axis=0) @ moderation.PRIOR_SDS, abs=0.1)


def test_grid_covers_the_likelihood(unpaired):
    # Below the first point the likelihood is negligible, or no longer changes; above the last it is negligible.
    counts, design, fits, *_ = unpaired
    donor = fits.components.index("donor")
    cut = {}
    for g in range(GENES):
        fall = fits.grid_loglik[g, [0, -1]] - fits.grid_loglik[g].max()
        cells, phi = designs.cells(design, counts, g), fits.variance[g, fits.components.index("dispersion")]
        below = fits.grid_loglik[g, 0] - laplace.laplace_reml(cells, [np.sqrt(GRID[0])], phi)
        if fall[0] > -10 and below > 0.3:
            cut[counts.genes[g]] = f"fallen by {-fall[0]:.1f} at the first point, then by {below:.1f} more"
        if fall[1] > -12 and np.exp(fits.grid_high[g, donor]) < GRID[-1] * 0.999:
            cut[counts.genes[g]] = f"fallen by {-fall[1]:.1f} at the last point"
    assert not cut


@pytest.mark.parametrize("g", [0, 7, 23, 41])
def test_effects_of_one_component_are_the_twins(unpaired, g):
    effects = unpaired[4]
    twin = twin_test(unpaired, g, STIM.weights[0])
    assert effects.log_pvalue[g, 0] == pytest.approx(twin["log_pvalue"], abs=0.02)
    assert effects.estimate[g, 0] == pytest.approx(twin["estimate"], abs=0.02 * twin["std_error"])
    assert effects.std_error[g, 0] == pytest.approx(twin["std_error"], rel=0.02)
    assert effects.ci_low[g, 0] == pytest.approx(twin["ci_low"], abs=0.05 * twin["std_error"])
    assert effects.ci_high[g, 0] == pytest.approx(twin["ci_high"], abs=0.05 * twin["std_error"])


@pytest.mark.slow
@pytest.mark.parametrize("g", [3, 11])
def test_effects_of_two_components_are_the_twins(paired, g):
    effects = paired[4]
    twin = twin_test(paired, g, STIM.weights[0])
    assert effects.log_pvalue[g, 0] == pytest.approx(twin["log_pvalue"], abs=0.02)
    assert effects.estimate[g, 0] == pytest.approx(twin["estimate"], abs=0.02 * twin["std_error"])
    assert effects.std_error[g, 0] == pytest.approx(twin["std_error"], rel=0.02)


def test_contrasts_do_not_depend_on_scale_or_company(unpaired):
    counts, design, fits, moderated, effects = unpaired
    others = (
        Contrast("mean", "", np.array([[1.0, 0.5]])),
        Contrast("minus_twice", "", np.array([[0.0, -2.0]])),
        STIM,
    )
    several = inference.test(counts, design, fits, moderated, others, "nb", "cells", 1, None)
    assert several.contrasts == ("mean", "minus_twice", "stim")
    assert several.log_pvalue[:, 2] == pytest.approx(effects.log_pvalue[:, 0], abs=5e-3)
    assert several.log_pvalue[:, 1] == pytest.approx(effects.log_pvalue[:, 0], abs=5e-3)
    assert several.estimate[:, 1] == pytest.approx(-2 * several.estimate[:, 2], rel=1e-3, abs=1e-3)
    assert several.ci_low[:, 1] == pytest.approx(-2 * several.ci_high[:, 2], rel=1e-3, abs=1e-3)
    assert several.statistic[:, 1] == pytest.approx(-several.statistic[:, 2], abs=5e-3)


def test_statistic_is_the_signed_normal_quantile(unpaired):
    from scipy import stats

    effects = unpaired[4]
    p = np.exp(effects.log_pvalue)
    assert np.abs(effects.statistic) == pytest.approx(stats.norm.isf(p / 2), abs=1e-6)
    assert (np.sign(effects.statistic) == np.sign(effects.estimate))[p < 0.9].all()


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("layout", ["unpaired", "paired"])
def test_a_gene_that_is_off_in_one_arm(silent, layout, request):
    # The recipe's reason for the likelihood ratio: a finite effect of the right sign and a small p-value.
    counts, design, *_ = request.getfixturevalue(layout)
    rng = np.random.default_rng(5)
    beta = np.full((GENES, 2), [0.5, 0.0])
    on, off = 0.5, simulate.SILENT
    beta[0] = [off, on - off] if silent == 0 else [on, off - on]
    sd = np.full((GENES, len(design.terms)), 0.2)
    counts = simulate.counts(design, beta, sd, np.full(GENES, 0.3), rng)
    fits, _, effects = run(counts, design)
    assert fits.status[0] == 2
    estimate = effects.estimate[0, 0]
    assert np.sign(estimate) == (1 if silent == 0 else -1)
    assert 2 < abs(estimate) < 12
    assert np.isfinite([effects.std_error[0, 0], effects.ci_low[0, 0], effects.ci_high[0, 0]]).all()
    assert effects.log_pvalue[0, 0] < np.log(1e-3)
    assert effects.log_pvalue[0, 0] == np.nanmin(effects.log_pvalue[:, 0])
    assert np.isfinite(effects.log_pvalue).all()


def test_filtered_genes_have_no_numbers(unpaired):
    counts, design, *_ = unpaired
    keep = EVERY.copy()
    keep[:5] = False
    fits = fitting.fit_shard(counts, design, keep, "nb", "cells", 1, None)
    moderated = moderate.moderate(fits, np.zeros(GENES))
    effects = inference.test(counts, design, fits, moderated, (STIM,), "nb", "cells", 1, None)
    for numbers in (moderated.weights, moderated.variance, effects.estimate, effects.log_pvalue, effects.statistic):
        assert np.isnan(numbers[:5]).all()
        assert np.isfinite(numbers[5:]).any(axis=1).all()
