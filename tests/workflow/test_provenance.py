"""Where the results of a run say that they come from, and what an upgrade redoes."""

import json
import os
import shutil
import sys

import pandas as pd
import pytest

from mlmgen import __version__, config, io, provenance
from tests.workflow.conftest import ROOT, Study, run
from tests.workflow.test_workflow import CELL_TYPES, EVERYTHING, FROM_FITS

RESULTS = "results/small"
UPGRADE = "import mlmgen.config\nmlmgen.config.METHOD_VERSIONS[{stage!r}] += 1\n"


def described(study: Study, *arguments: str):
    finished = run([sys.executable, "-m", "mlmgen", "describe", *arguments], cwd=study.folder)
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def test_a_run_is_described_from_its_folder(study):
    lines = described(study, RESULTS).splitlines()
    assert "complete results of run" in lines[0]
    assert "  warnings" not in lines
    text = "\n".join(lines)
    for part in (
        "stim_vs_ctrl: condition[stim] - condition[ctrl]",
        "~ condition + (1 | donor)",
        io.checksum(study.config["input"]),
        f"mlmgen {__version__}",
        "Monocytes: 1,200 cells, 12 donors, shards: glmm 2, pseudobulk 2",
        "effects.parquet, 800 rows",
        "2 cores",
        "fit: 8 jobs",
        "family nb",
    ):
        assert part in text, part


def test_describe_for_programs_and_for_what_is_not_there(study):
    found = json.loads(described(study, f"{RESULTS}/effects.parquet", "--json"))
    assert found["kind"] == "table"
    assert found["warnings"] == []
    assert found["rows"] == len(pd.read_parquet(study.folder / RESULTS / "effects.parquet"))
    finished = run([sys.executable, "-m", "mlmgen", "describe", "results/smal"], cwd=study.folder)
    assert finished.returncode == 2
    assert finished.stdout.startswith("mlmgen: error: there is no such file or folder (in results/smal). Give ")


def test_the_report_of_the_run_is_no_result(study):
    found = io.read_json(study.folder / RESULTS / "run.json")
    assert found["run"] == io.read_json(study.folder / RESULTS / "provenance.json")["run"]
    assert found["jobs"] == sum(EVERYTHING.values())
    assert {rule: one["jobs"] for rule, one in found["rules"].items()} == EVERYTHING
    assert all(one["seconds"] > 0 for one in found["rules"].values())
    assert found["config"] == study.config
    assert found["cores"] == 2
    assert found["host"]["cpu"]


def test_what_is_stored_is_what_decides_the_results(study):
    said = io.read_json(study.folder / RESULTS / "provenance.json")
    settings = config.load(study.config)
    for stage, of_stage in said["config"].items():
        expected = json.loads(config.stage(settings, stage))
        expected.pop("name", None)
        assert of_stage == expected, stage
    assert set(said["config"]) == set(config.METHOD_VERSIONS) - {"audit"}
    assert said["versions"] == provenance.versions()
    assert set(said["cell_types"]) == {"B cells", "Monocytes"}
    assert len(said["cell_types"]) == CELL_TYPES


@pytest.fixture
def upgraded(monkeypatch, tmp_path):
    """Raise the version of a stage's method in every Python that starts from now on, as an upgrade does."""

    def upgrade(stage: str) -> None:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(UPGRADE.format(stage=stage))
        path = [str(tmp_path / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))

    return upgrade


def test_an_upgraded_method_redoes_what_depends_on_it(study, upgraded):
    upgraded("fit")
    assert study.planned() == {rule: number for rule, number in FROM_FITS.items() if number}


def test_an_upgraded_method_is_said(study, tmp_path, upgraded):
    shutil.copytree(study.folder, tmp_path / "copy")
    copy = Study(tmp_path / "copy", study.config)
    assert "results of an earlier version" not in study.finished.stdout
    upgraded("tables")
    finished = copy.snakemake()
    assert finished.returncode == 0, finished.stdout
    old = config.METHOD_VERSIONS["tables"]
    line = f"mlmgen: tables {old} -> {old + 1}: results of an earlier version of this method are redone"
    assert line in finished.stdout.splitlines()
    said = io.read_json(copy.folder / RESULTS / "provenance.json")
    assert said["config"]["tables"]["method_version"] == old + 1


def test_a_changed_setting_is_said(study, tmp_path):
    shutil.copytree(study.folder, tmp_path / "copy")
    finished = Study(tmp_path / "copy", study.config).snakemake(fdr="weighted")
    assert finished.returncode == 0, finished.stdout
    line = "mlmgen: tables.fdr was bh and is weighted: tables and what follows are redone"
    assert line in finished.stdout.splitlines()
