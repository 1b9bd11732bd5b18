"""Sums per sample of donors nested in batches: both random intercepts and the dispersion are on the grid."""

import numpy as np

from mlmgen import design as designing
from mlmgen import fitting, inference, moderate, pseudobulk, simulate
from mlmgen.types import Contrast, Counts
from tests.calibration.test_calibration import matrix
from tests.reference import designs

GENES = 150


def test_batches_donors_and_samples():
    rng = np.random.default_rng(8)
    sample = np.repeat(np.arange(24), 40)
    donor, batch, arm = sample // 2, sample // 8, sample % 2
    X = np.column_stack([np.ones(sample.size), arm]).astype(float)
    size = np.exp(rng.normal(0.0, 0.4, sample.size))
    design, _ = designs.build(donor, X, ("(Intercept)", "arm"), {"batch": batch, "donor": donor}, size, sample)
    beta = np.column_stack([rng.normal(-0.5, 0.7, GENES), np.where(np.arange(GENES) < 5, 2.0, 0.0)])
    counts = simulate.counts(design, beta, np.full((GENES, 2), 0.25), np.full(GENES, 0.3), rng)
    Y = pseudobulk.aggregate(matrix(counts, sample.size), design)
    sums = Counts(counts.genes, Y.indptr.astype(np.int64), Y.indices.astype(np.int32), Y.data.astype(np.float64))
    samples = designing.for_samples(design)
    fits = fitting.fit_shard(sums, samples, np.ones(GENES, bool), level="samples")
    assert fits.components == ("batch", "donor", "dispersion")
    assert (fits.grid_shape > 1).all()
    moderated = moderate.moderate(fits, np.log(np.asarray(Y.sum(axis=0)).ravel()))
    assert np.allclose(moderated.weights.sum(axis=1), 1.0)
    stim = (Contrast("arm", "arm", np.array([[0.0, 1.0]])),)
    p = np.exp(inference.test(sums, samples, fits, moderated, stim, level="samples").log_pvalue[:, 0])
    assert (p[:5] < 1e-6).all()
    assert (p[5:] < 0.05).mean() < 0.12
