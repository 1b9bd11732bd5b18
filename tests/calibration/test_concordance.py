"""How often cells and pseudobulk are said to differ where there is nothing to find."""

import numpy as np
import pandas as pd
import pytest

from mlmgen import agreement, contrasts, formula, moderate
from mlmgen.design import build, for_samples
from mlmgen.fitting import fit_shard
from mlmgen.inference import test as run_tests
from mlmgen.types import Counts

pytestmark = pytest.mark.slow
GENES = 600


def study(seed: int, donors: int, cells: tuple[int, int]) -> tuple[pd.DataFrame, np.ndarray]:
    """Null genes: donors vary with a median variance of 0.0625, their cells as a negative binomial with phi 0.5."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(donors), rng.integers(*cells, donors))
    sd = np.sqrt(0.0625 * rng.lognormal(0.0, 0.8, GENES))
    eta = rng.normal(-1.0, 1.0, GENES) + (rng.normal(size=(donors, GENES)) * sd)[donor]
    obs = pd.DataFrame({"donor": [f"D{i:02d}" for i in donor], "arm": np.array(["a", "b"])[donor % 2]})
    return obs, rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, eta.shape)).T


def sparse(dense: np.ndarray) -> Counts:
    gene, rows = np.nonzero(dense)
    start = np.searchsorted(gene, np.arange(len(dense) + 1)).astype(np.int64)
    return Counts(
        tuple(f"g{i}" for i in range(len(dense))), start, rows.astype(np.int32), dense[gene, rows].astype(float)
    )


def effects(counts: Counts, design, level: str):
    total = np.add.reduceat(np.r_[counts.values, 0.0], counts.start[:-1])
    fits = fit_shard(counts, design, np.diff(counts.start) > 0, level=level)
    moderated = moderate.moderate(fits, np.log(np.maximum(total, 1.0)))
    tested = contrasts.resolve({"arm": "arm[b] - arm[a]"}, design)
    return run_tests(counts, design, fits, moderated, tested, level=level)


@pytest.mark.parametrize(
    ("donors", "cells"), [(8, (60, 70)), (8, (12, 200)), (14, (8, 30))], ids=["even", "uneven", "few cells"]
)
def test_methods_rarely_differ_without_effects(donors, cells):
    obs, dense = study(donors + cells[1], donors, cells)
    design, order = build(obs, formula.parse("~ arm + (1 | donor)"), "donor")
    dense = dense[:, order]
    sample = design.sample.codes[design.pattern]
    sums = np.stack([np.bincount(sample, row, len(design.sample.levels)) for row in dense])
    of_cells = effects(sparse(dense), design, "cells")
    of_sums = effects(sparse(sums), for_samples(design), "samples")
    pair = (of_cells, of_sums)
    z = agreement.difference(*(e.estimate[:, 0] for e in pair), *(e.std_error[:, 0] for e in pair))
    z = z[np.isfinite(z)]
    assert len(z) > 0.9 * GENES
    assert (np.abs(z) > 3.0).mean() < 0.01
    assert 0.1 < z.std() < 1.0  # in use as an error: neither far too small nor far too large
