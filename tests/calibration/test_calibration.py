"""Type-I error of both methods on simulated nulls: the claim on which every result table rests."""

import numpy as np
import pytest
from scipy import sparse

from mlmgen import design as designing
from mlmgen import filters, fitting, inference, moderate, pseudobulk, simulate
from mlmgen.types import Contrast, Counts

# 2,000 genes, of which the filters leave about 1,700: a standard error of .0024 at .05 and .0003 at .001.
DATA_SETS, GENES, CELLS = 5, 2000, 100
SETTINGS = {
    "3-v-3": {"donors_per_arm": 3},
    "10-v-10": {"donors_per_arm": 10},
    "4-v-4-unbalanced": {"donors_per_arm": 4, "cells_sd": 1.0},
    "6-pairs": {"donors_per_arm": 6, "paired": True},
}
STIM = (Contrast("stim", "condition[T.stim]", np.array([[0.0, 1.0]])),)


def matrix(counts: Counts, n: int) -> sparse.csc_matrix:
    return sparse.csc_matrix((counts.values.astype(np.int32), counts.rows, counts.start), shape=(n, len(counts.genes)))


def expressed(X: sparse.csc_matrix, donor: np.ndarray) -> np.ndarray:
    """Return which genes pass the default filters."""
    statistics = {
        "n_cells_expressing": np.diff(X.indptr),
        "n_donors_expressing": np.array([len(set(donor[X.getcol(g).indices])) for g in range(X.shape[1])]),
        "total_count": np.asarray(X.sum(axis=0)).ravel(),
    }
    default = {"min_cells_expressing": 10, "min_fraction_expressing": 0.01, "min_donors_expressing": 2}
    return filters.keep(statistics, X.shape[0], default)


def pvalues(counts, design, keep, log_total, level) -> np.ndarray:
    fits = fitting.fit_shard(counts, design, keep, "nb", level, 1, None)
    moderated = moderate.moderate(fits, log_total)
    effects = inference.test(counts, design, fits, moderated, STIM, "nb", level, 1, None)
    return np.exp(effects.log_pvalue[keep, 0])


def both_methods(rng, **setting) -> tuple[np.ndarray, np.ndarray]:
    """Return the null p-values of one data set: from the cells, and from sums per sample."""
    counts, design, _ = simulate.null_experiment(cells_per_donor=CELLS, n_genes=GENES, rng=rng, **setting)
    X = matrix(counts, len(design.pattern))
    keep = expressed(X, design.donor.codes[design.pattern])
    with np.errstate(divide="ignore"):
        log_total = np.log(np.asarray(X.sum(axis=0)).ravel())
    Y = pseudobulk.aggregate(X, design)
    sums = Counts(counts.genes, Y.indptr.astype(np.int64), Y.indices.astype(np.int32), Y.data.astype(np.float64))
    samples = designing.for_samples(design)
    return pvalues(counts, design, keep, log_total, "cells"), pvalues(sums, samples, keep, log_total, "samples")


@pytest.fixture(scope="module", params=list(SETTINGS))
def null_pvalues(request):
    rng = np.random.default_rng(20240917)
    each = [both_methods(rng, **SETTINGS[request.param]) for _ in range(DATA_SETS)]
    return {
        method: np.concatenate(p) for method, p in zip(("glmm", "pseudobulk"), zip(*each, strict=True), strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["glmm", "pseudobulk"])
def test_type_one_error(null_pvalues, method, record_property):
    p = null_pvalues[method]
    rates = {level: float((p <= level).mean()) for level in (0.05, 0.01, 0.001)}
    record_property("rates", rates)
    print(method, len(p), "tests, rejected:", rates)
    assert np.isfinite(p).all()
    assert len(p) > 0.8 * DATA_SETS * GENES
    assert 0.04 <= rates[0.05] <= 0.06
    assert rates[0.001] <= 0.002


@pytest.mark.slow
@pytest.mark.parametrize("method", ["glmm", "pseudobulk"])
def test_pvalues_are_uniform(null_pvalues, method):
    # Tenths between .1 and 1; r* is exact in neither tail nor middle, but no tenth may be off by a fifth.
    tenths = np.histogram(null_pvalues[method], np.linspace(0, 1, 11))[0] / len(null_pvalues[method])
    assert tenths == pytest.approx(np.full(10, 0.1), abs=0.02)
