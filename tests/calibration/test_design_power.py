"""What a design is said to find is found, by the whole method on simulated counts."""

import numpy as np
import pytest

from mlmgen import design_power as powers
from mlmgen import fitting, inference, moderate, simulate
from mlmgen.replicates import replicate
from mlmgen.types import Contrast

TARGETS, BACKGROUND = 250, 800


def simulated_power(donors: int, cells: int, paired: bool, mean: float, seed: int) -> float:
    """Share of typical genes, among others as simulate draws them, that are found at their detectable effect."""
    rng = np.random.default_rng(seed)
    _, design, _ = simulate.null_experiment(donors, cells, 1, rng, paired=paired)
    weights = np.array([0.0, 1.0])
    repeated = replicate(design, weights[None])
    found = powers.power(design, powers.information(design, mean), weights, repeated, mean)
    effect = found.log2fc * np.log(2.0)
    usual = [simulate.DONOR_VARIANCE, simulate.RESPONSE_VARIANCE][: 1 + paired]
    spread = np.exp(simulate.DONOR_VARIANCE_LOG_SD * rng.standard_normal((BACKGROUND, len(usual))))
    typical = np.tile([powers.DONOR_VARIANCE, powers.RESPONSE_VARIANCE][: 1 + paired], (TARGETS, 1))
    level = np.log(mean / np.exp(design.log_size).mean())
    null = np.column_stack([rng.normal(level, 1.0, BACKGROUND), np.zeros(BACKGROUND)])
    beta = np.vstack([np.tile([level - effect / 2, effect], (TARGETS, 1)), null])
    sd = np.sqrt(np.vstack([typical, usual * spread]))
    counts = simulate.counts(design, beta, sd, np.full(len(beta), powers.DISPERSION), rng)
    totals = np.add.reduceat(counts.values, counts.start[:-1])
    fits = fitting.fit_shard(counts, design, totals >= 10)
    moderated = moderate.moderate(fits, np.log(np.maximum(totals, 1.0)))
    contrast = (Contrast("stim", "stim", weights[None]),)
    p = np.exp(inference.test(counts, design, fits, moderated, contrast).log_pvalue[:TARGETS, 0])
    return float((p < powers.LEVEL).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("donors", "cells", "paired", "mean"),
    [(3, 100, False, 0.5), (6, 60, False, 0.5), (10, 100, False, 0.1), (4, 60, True, 0.5), (8, 60, True, 0.2)],
)
def test_typical_genes_are_found_as_often_as_said(donors, cells, paired, mean):
    power = np.mean([simulated_power(donors, cells, paired, mean, seed) for seed in (1, 2)])
    print(donors, cells, paired, mean, "power", power)
    assert powers.POWER - 0.1 < power < powers.POWER + 0.1
