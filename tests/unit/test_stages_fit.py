"""Shards, skipped cell types, and which model a job fits."""

import dataclasses
import importlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import io, stages_fit
from mlmgen.errors import UserError
from mlmgen.status import Status
from mlmgen.types import Counts, Design, Effects, GeneFits, Groups, Moderated, RandomTerm
from tests.reference.designs import intercepts
from tests.unit import structures

SETTINGS = {
    "family": "bernoulli",
    "estimation": "ml",
    "integration": "laplace",
    "quadrature_nodes": 9,
    "likelihood": "exact",
    "filters": {"min_cells_expressing": 0, "min_fraction_expressing": 0, "min_donors_expressing": 0},
}


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
    counts = {"total_count": np.array([3.0, 0.0, 1.0]), "n_cells_expressing": np.array([2, 0, 1])}
    statistics = {"gene": genes} | counts
    monkeypatch.setattr(io, "read_meta", lambda path: meta)
    monkeypatch.setattr(io, "read_gene_statistics", lambda path: statistics)
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("fits", "moderated", "effects")}
    stages_fit.fit("counts", "glmm", (1, 1), paths["fits"], SETTINGS, 1)
    stages_fit.moderate("counts", [paths["fits"]], paths["moderated"], {}, 1)
    stages_fit.test("counts", paths["fits"], paths["moderated"], (1, 1), paths["effects"], {}, 1)
    fits, _ = io.read_record(paths["fits"], GeneFits)
    assert fits.genes == genes
    assert (fits.status == Status.FILTERED).all()
    assert fits.method == "ml"
    assert io.read_record(paths["moderated"], Moderated)[0].weights.shape == (3, 0)
    effects = io.read_record(paths["effects"], Effects)[0]
    assert effects.estimate.shape == effects.df.shape == (3, 0)


def test_outcomes_are_counted_in_words():
    status = np.array([Status.FILTERED, Status.CONVERGED, Status.CONVERGED])
    assert stages_fit._outcomes(status) == "2 converged, 1 filtered"


def design(*terms: RandomTerm) -> Design:
    """Four donors of two patterns each."""
    donor = Groups("donor", ("a", "b", "c", "d"), np.repeat(np.arange(4, dtype=np.int32), 2))
    P = donor.codes.size
    return Design(
        formula="~ 1",
        coefficients=("(Intercept)",),
        X=np.ones((P, 1)),
        basis=np.zeros(1, dtype=np.int32),
        functions=np.empty((P, 0)),
        function_names=(),
        pattern=np.arange(P, dtype=np.int32),
        log_size=np.zeros(P),
        offset=np.zeros(P),
        terms=terms,
        donor=donor,
        sample=donor,
        means={},
        within=(),
    )


def test_cells_are_never_the_replicates_of_a_glmm():
    whole = design()
    donor = intercepts("donor", whole.donor.levels, whole.donor.codes)
    site = intercepts("site", ("s", "t"), np.repeat([0, 1], 4))
    well = intercepts("well", tuple("12345678"), np.arange(8))
    for wrong in (whole, design(site)):
        with pytest.raises(UserError, match=r"separates the 4 donors.*Add \(1 \| donor\)"):
            stages_fit.refuse_cells_as_replicates(wrong, "a.h5ad")
    for right in (design(donor), design(site, donor), design(well)):
        stages_fit.refuse_cells_as_replicates(right, "a.h5ad")


def slopes(*effects: str) -> RandomTerm:
    """The effects of four donors in two patterns each."""
    columns = {"(Intercept)": np.ones(8), "day": np.tile([0.0, 1.0], 4)}
    codes, Z = np.repeat(np.arange(4, dtype=np.int32), 2), np.stack([columns[name] for name in effects])
    return RandomTerm("donor", tuple("abcd"), codes, effects, Z, np.zeros(len(effects), dtype=np.int32))


def test_a_slope_alone_does_not_separate_donors():
    with pytest.raises(UserError, match="the cells would be the replicates"):
        stages_fit.refuse_cells_as_replicates(design(slopes("day")), "a.h5ad")
    stages_fit.refuse_cells_as_replicates(design(slopes("(Intercept)", "day")), "a.h5ad")


def test_quadrature_is_for_one_random_intercept():
    one = design(intercepts("donor", tuple("abcd"), np.repeat(np.arange(4), 2)))
    stages_fit.refuse_quadrature(one, "agq", "a.h5ad")
    several = dataclasses.replace(one, terms=one.terms * 2, formula="~ 1 + (1 | donor) + (1 | batch)")
    wrong = (dataclasses.replace(design(slopes("(Intercept)", "day")), formula="~ 1 + (1 + day | donor)"), several)
    for refused in wrong:
        with pytest.raises(UserError, match="integration agq needs one random intercept") as error:
            stages_fit.refuse_quadrature(refused, "agq", "a.h5ad")
        assert refused.formula in str(error.value)
        stages_fit.refuse_quadrature(refused, "laplace", "a.h5ad")
    cells = dataclasses.replace(one, functions=np.ones((8, 1)), function_names=("pct",))
    with pytest.raises(UserError, match="where pct varies from cell to cell"):
        stages_fit.refuse_quadrature(cells, "agq", "a.h5ad")


def test_sums_of_samples_have_one_model_whatever_is_set_for_cells():
    o = stages_fit.options_of(SETTINGS, "pseudobulk")
    assert (o.family, o.method, o.integration, o.likelihood) == ("nb", "reml", "laplace", "compressed")
    o = stages_fit.options_of(SETTINGS, "glmm")
    assert (o.family, o.method, o.integration, o.nodes, o.likelihood) == ("bernoulli", "ml", "laplace", 9, "exact")


def test_the_gaussian_response_is_log_normalized_without_the_offset():
    one = design(intercepts("donor", tuple("abcd"), np.repeat(np.arange(4), 2)))
    offset = np.log(np.arange(1.0, 9.0))
    size = np.tile([0.5, 2.0], 4)
    given_size = dataclasses.replace(one, log_size=np.log(size) + offset, offset=offset)
    counts = Counts(("a",), np.array([0, 2]), np.array([0, 3], dtype=np.int32), np.array([3.0, 8.0]))
    values = stages_fit.log_normalized(counts, given_size).values
    np.testing.assert_allclose(values, [np.log(1 + 3 / 0.5), np.log(1 + 8 / 2)])


def test_detection_needs_a_cell_without_the_gene():
    statistics = {"n_cells_expressing": np.array([5, 4, 0])}
    assert stages_fit.always_detected(statistics, 5, "bernoulli").tolist() == [True, False, False]
    assert not stages_fit.always_detected(statistics, 5, "nb").any()


def test_the_first_compilation_is_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    both = (stages_fit.MODEL_FIT, stages_fit.MODEL_GRID)
    for kernel, seconds in zip(both, (130, 40), strict=True):
        monkeypatch.setitem(stages_fit.COMPILING, kernel, seconds)
    stages_fit.announce_compilation(both, "fit glmm, B")
    assert "fit glmm, B: compiling kernels, once per machine and version: about 3 minutes" in capsys.readouterr().err
    folder = tmp_path / "kernels_1"
    folder.mkdir()
    (folder / "multilevel.fit_models-137.py311.nbi").touch()
    stages_fit.announce_compilation(both, "fit glmm, B")
    assert "version: about a minute" in capsys.readouterr().err
    (folder / "model_grid.profile_models-137.py311.nbi").touch()
    stages_fit.announce_compilation(both, "fit glmm, B")
    stages_fit.announce_compilation((), "test glmm, B")
    assert capsys.readouterr().err == ""
    for kernel in (stages_fit.MODEL_TEST, stages_fit.NESTED_FIT, stages_fit.NESTED_TEST):
        stages_fit.announce_compilation((kernel,), "test glmm, B")
        assert "compiling" in capsys.readouterr().err


@pytest.mark.parametrize("name", stages_fit.COMPILING)
def test_the_kernels_that_are_announced_exist(name):
    module, function = name.split(".")
    assert hasattr(importlib.import_module(f"mlmgen.kernels.{module}"), function)


NESTED = (("engine.fit_genes",), ("mixture.test_genes",))
MODEL = (("multilevel.fit_models", "model_grid.profile_models"), ("model_tests.test_models",))
WALD = (("multilevel.fit_models",), ())


@pytest.mark.parametrize(
    ("structure", "level", "options", "expected"),
    [
        ("nested", "cells", {}, NESTED),
        ("none", "samples", {}, NESTED),
        ("slope", "cells", {}, MODEL),
        ("intercept", "cells", {"family": "gaussian"}, MODEL),
        ("intercept", "cells", {"likelihood": "exact"}, MODEL),
        ("functions", "cells", {}, MODEL),
        ("intercept", "cells", {"method": "ml"}, WALD),
        ("slope", "samples", {}, MODEL),
        ("crossed", "samples", {}, WALD),
        ("none", "cells", {}, WALD),
    ],
)
def test_the_kernels_of_a_model(structure, level, options, expected):
    made, design = stages_fit.OF_SAMPLES._replace(**options), structures.design_of(structure)
    assert stages_fit.fit_kernels(design, made, level) == expected[0]
    assert stages_fit.test_kernels(design, made, level) == expected[1]


def test_few_responses_are_fitted_without_a_grid():
    design = structures.design_of("nested")
    assert stages_fit.fit_kernels(design, stages_fit.OF_SAMPLES, "cells", grid=False) == ("multilevel.fit_models",)
