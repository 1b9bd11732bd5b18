"""Pseudobulk sums against those of scanpy."""

import numpy as np
import pytest
from scipy import sparse

from mlmgen import pseudobulk, simulate


@pytest.fixture(scope="module")
def aggregated():
    """Sums per sample of 60 genes in 6 donors x 2 conditions, by scanpy and by mlmgen."""
    from anndata import AnnData
    from scanpy.get import aggregate

    counts, design, _ = simulate.null_experiment(6, 30, 60, np.random.default_rng(41), paired=True, cells_sd=0.7)
    shape = (len(design.pattern), len(counts.genes))
    X = sparse.csc_matrix((counts.values.astype(np.int32), counts.rows, counts.start), shape=shape)
    label = np.array(design.sample.levels)[design.sample.codes[design.pattern]]
    cells = AnnData(X.tocsr(), obs={"sample": label}, var={"gene": list(counts.genes)})
    cells.obs["sample"] = cells.obs["sample"].astype("category")
    theirs = aggregate(cells, by="sample", func="sum")
    return theirs, pseudobulk.aggregate(X, design), design


def test_sums_are_scanpys(aggregated):
    theirs, ours, design = aggregated
    assert sorted(theirs.obs["sample"]) == sorted(design.sample.levels)
    row = {label: i for i, label in enumerate(theirs.obs["sample"])}
    layer = theirs.layers["sum"]
    layer = layer.toarray() if sparse.issparse(layer) else np.asarray(layer)
    assert layer.sum() > 1000
    np.testing.assert_array_equal(ours.toarray(), layer[[row[label] for label in design.sample.levels]])
