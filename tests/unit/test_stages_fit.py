"""Shards and skipped cell types."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import io, stages_fit
from mlmgen.status import Status
from mlmgen.types import Effects, GeneFits, Moderated


@given(st.integers(0, 5000), st.integers(1, 64))
def test_shards_partition_the_genes_evenly(n_genes, number):
    parts = [stages_fit.bounds((index, number), n_genes) for index in range(1, number + 1)]
    assert parts[0][0] == 0
    assert parts[-1][1] == n_genes
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_skipped_cell_type_passes_through_every_stage(tmp_path, monkeypatch):
    genes = ("a", "b", "c")
    meta = {"cell_type": "B", "skipped": "too few donors", "n_cells": 5}
    statistics = {"gene": genes, "total_count": np.array([3.0, 0.0, 1.0])}
    monkeypatch.setattr(io, "read_meta", lambda path: meta)
    monkeypatch.setattr(io, "read_gene_statistics", lambda path: statistics)
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("fits", "moderated", "effects")}
    io.write_json(tmp_path / "contrasts.json", {"contrasts": ["x"], "cell_types": {}, "left_out": {}})
    stages_fit.fit("counts", "glmm", (1, 1), paths["fits"], {}, 1)
    stages_fit.moderate("counts", [paths["fits"]], paths["moderated"], {}, 1)
    contrasts = str(tmp_path / "contrasts.json")
    stages_fit.test("counts", contrasts, paths["fits"], paths["moderated"], (1, 1), paths["effects"], {}, 1)
    fits, _ = io.read_record(paths["fits"], GeneFits)
    assert fits.genes == genes
    assert (fits.status == Status.FILTERED).all()
    assert io.read_record(paths["moderated"], Moderated)[0].weights.shape == (3, 0)
    assert io.read_record(paths["effects"], Effects)[0].estimate.shape == (3, 0)


def test_outcomes_are_counted_in_words():
    status = np.array([Status.FILTERED, Status.CONVERGED, Status.CONVERGED])
    assert stages_fit._outcomes(status) == "2 converged, 1 filtered"
