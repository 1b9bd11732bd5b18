"""Type-I error of a contrast between donors that have two samples each: both variances matter."""

import numpy as np
import pytest

from mlmgen import fitting, inference, moderate, simulate
from mlmgen.types import Contrast
from tests.reference import designs

DATA_SETS, GENES, CELLS = 5, 1000, 60
ARM = (Contrast("arm", "arm", np.array([[0.0, 1.0, 0.0]])),)


def null_pvalues(donors: int, rng) -> np.ndarray:
    """Return the p-values of the arm at which donors were drawn, for genes without an effect of it."""
    sample = np.repeat(np.arange(2 * donors), rng.poisson(CELLS, 2 * donors) + 5)
    donor, visit = sample // 2, sample % 2
    X = np.column_stack([np.ones(sample.size), donor % 2, visit]).astype(float)
    terms = {"donor": donor, "donor:visit": sample}
    size = np.exp(rng.normal(0.0, simulate.SIZE_SD_CELL, sample.size))
    design, _ = designs.build(donor, X, ("(Intercept)", "arm", "visit"), terms, size, sample)
    beta = np.column_stack([rng.normal(-1.7, 1.6, GENES), np.zeros(GENES), rng.normal(0.0, 0.2, GENES)])
    spread = np.exp(simulate.DONOR_VARIANCE_LOG_SD * rng.standard_normal((GENES, 2)))
    sd = np.sqrt(np.array([simulate.DONOR_VARIANCE, simulate.RESPONSE_VARIANCE]) * spread)
    counts = simulate.counts(design, beta, sd, np.exp(rng.normal(-1.4, 0.8, GENES)), rng)
    totals = np.array([counts.values[a:b].sum() for a, b in zip(counts.start[:-1], counts.start[1:], strict=True)])
    keep = totals >= 10
    fits = fitting.fit_shard(counts, design, keep)
    moderated = moderate.moderate(fits, np.log(np.maximum(totals, 1.0)))
    return np.exp(inference.test(counts, design, fits, moderated, ARM).log_pvalue[keep, 0])


@pytest.mark.slow
@pytest.mark.parametrize("donors", [8, 24])
def test_type_one_error(donors):
    rng = np.random.default_rng(20261121)
    p = np.concatenate([null_pvalues(donors, rng) for _ in range(DATA_SETS)])
    print(donors, len(p), "tests, rejected:", [float((p <= level).mean()) for level in (0.05, 0.01, 0.001)])
    assert np.isfinite(p).all()
    assert 0.04 <= (p <= 0.05).mean() <= 0.06
    # 2 at .001, and two standard errors of 5,000 tests.
    assert (p <= 0.001).mean() <= 0.0029
