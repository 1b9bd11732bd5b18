"""Shards and skipped cell types."""

import importlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import io, stages_fit
from mlmgen.errors import UserError
from mlmgen.status import Status
from mlmgen.types import Design, Effects, GeneFits, Moderated, RandomTerm


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


def design(*terms: RandomTerm) -> Design:
    """Four donors of two patterns each."""
    donor = RandomTerm("donor", ("a", "b", "c", "d"), np.repeat(np.arange(4, dtype=np.int32), 2))
    P = donor.codes.size
    return Design(
        formula="~ 1",
        coefficients=("(Intercept)",),
        X=np.ones((P, 1)),
        pattern=np.arange(P, dtype=np.int32),
        log_size=np.zeros(P),
        terms=terms,
        donor=donor,
        sample=donor,
        means={},
        within=(),
    )


def test_cells_are_never_the_replicates_of_a_glmm():
    whole = design()
    site = RandomTerm("site", ("s", "t"), np.repeat(np.arange(2, dtype=np.int32), 4))
    well = RandomTerm("well", tuple("12345678"), np.arange(8, dtype=np.int32))
    for wrong in (whole, design(site)):
        with pytest.raises(UserError, match=r"separates the 4 donors.*Add \(1 \| donor\)"):
            stages_fit.refuse_cells_as_replicates(wrong, "a.h5ad")
    for right in (design(whole.donor), design(site, whole.donor), design(well)):
        stages_fit.refuse_cells_as_replicates(right, "a.h5ad")


def test_the_first_compilation_is_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    stages_fit.announce_compilation(stages_fit.FIT_KERNEL, "fit glmm, B")
    assert "compiling kernels, once per machine and version" in capsys.readouterr().err
    folder = tmp_path / "kernels_1"
    folder.mkdir()
    (folder / "engine.fit_genes-137.py311.nbi").touch()
    stages_fit.announce_compilation(stages_fit.FIT_KERNEL, "fit glmm, B")
    assert capsys.readouterr().err == ""
    stages_fit.announce_compilation(stages_fit.TEST_KERNEL, "test glmm, B")
    assert "compiling" in capsys.readouterr().err


@pytest.mark.parametrize("name", [stages_fit.FIT_KERNEL, stages_fit.TEST_KERNEL])
def test_the_kernels_that_are_announced_exist(name):
    module, function = name.split(".")
    assert hasattr(importlib.import_module(f"mlmgen.kernels.{module}"), function)
