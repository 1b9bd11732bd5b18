"""The scale benchmark, short: the data set it generates, and that it measures a run of the workflow."""

import anndata
import numpy as np
import pandas as pd
import pytest

from benchmarks.scale import generate, run

PLAN = generate.Plan(cells=20_000, genes=1_000, donors=12, cell_types=3, seed=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("scale") / "cells.h5ad"
    generate.generate(path, PLAN)
    return path


@pytest.mark.slow
def test_the_data_set_is_what_was_asked_for(path):
    data = anndata.read_h5ad(path)
    X, obs = data.X, data.obs
    assert data.shape == (PLAN.cells, PLAN.genes)
    assert (X.format, X.dtype, X.indices.dtype) == ("csr", np.float32, np.int32)
    assert X.has_canonical_format
    assert X.data.min() >= 1
    assert X.nnz / (PLAN.cells * PLAN.genes) == pytest.approx(PLAN.nonzero, rel=0.1)
    assert obs["donor"].nunique() == PLAN.donors
    assert obs["cell_type"].nunique() == PLAN.cell_types
    assert (obs.groupby("donor", observed=True)["condition"].nunique() == 1).all()
    different = (data.var.to_numpy() != 0).mean()
    assert different == pytest.approx(generate.SHARE_DIFFERENT, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_arguments_give_the_same_data(path, tmp_path, threads):
    """And the same chunks; HDF5 leaves bytes of the memory between texts of any length."""
    again = tmp_path / "again.h5ad"
    generate.generate(again, PLAN._replace(threads=threads))
    assert again.stat().st_size == path.stat().st_size
    first, second = anndata.read_h5ad(path), anndata.read_h5ad(again)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(first.X, name), getattr(second.X, name))
    pd.testing.assert_frame_equal(first.obs, second.obs)
    pd.testing.assert_frame_equal(first.var, second.var)


@pytest.mark.slow
def test_a_run_is_measured(path, tmp_path):
    measured = run.run(path, tmp_path, 2)
    folder = tmp_path / "results" / run.NAME
    rules = {job.rule for job in measured.jobs}
    assert {"split", "prepare", "fit", "moderate", "test", "stability", "tables"} <= rules
    assert len([job for job in measured.jobs if job.rule == "fit"]) == 2 * PLAN.cell_types
    assert 0 < run.covered(measured.jobs) < measured.wall
    assert 100 < measured.largest <= measured.together
    effects = pd.read_parquet(folder / "effects.parquet")
    assert len(effects) == 2 * PLAN.cell_types * PLAN.genes
    assert "true effects" in (folder / "summary.txt").read_text()
    text = run.report(path, measured, 1.0, 2)
    assert all(f"| {rule} | " in text for rule in rules)


def test_the_time_with_jobs_running():
    jobs = [run.Job("a", 1.0, 3.0, 0.0, 0.0), run.Job("b", 2.0, 4.0, 0.0, 0.0), run.Job("b", 6.0, 7.0, 0.0, 0.0)]
    assert run.covered(jobs) == 4.0
    assert run.covered(jobs[1:]) == 3.0
    assert run.covered([]) == 0.0
