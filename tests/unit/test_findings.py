"""Reading a results folder: its tables, its genes, and what is said where something is missing."""

import subprocess
import sys

import pandas as pd
import pytest

import mlmgen
from mlmgen import io
from mlmgen.errors import UserError
from mlmgen.findings import choose
from tests.unit.finished import GENES, finished_run, paired_study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("findings") / "study")


def test_tables_are_those_of_the_folder(run):
    for name in ("effects", "coefficients", "variances", "priors", "fits", "design", "concordance"):
        stored = pd.read_parquet(run.folder / f"{name}.parquet")
        pd.testing.assert_frame_equal(getattr(run, name), stored)
        assert getattr(run, name) is getattr(run, name)
    assert (run.stability, run.audit, run.audit_qq) == (None, None, None)


def test_a_run_says_what_it_is(run):
    assert run.name == "study"
    assert run.methods == ("glmm", "pseudobulk")
    assert run.cell_types == ("B cells", "T/NK")
    assert run.contrasts == ("arm[T.stim]",)
    assert run.family == "nb"


def test_the_python_api_reads_results(run):
    assert mlmgen.read(run.folder).provenance == run.provenance
    assert "read" in dir(mlmgen)


def test_importing_the_package_stays_light():
    code = "import sys, mlmgen; print(sorted({'numpy', 'pandas', 'matplotlib', 'anndata'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_skipped_cell_types_are_apart(tmp_path):
    data = paired_study()
    data.obs["cell_type"] = data.obs["cell_type"].cat.add_categories("rare")
    data.obs.iloc[:3, data.obs.columns.get_loc("cell_type")] = "rare"
    run = finished_run(tmp_path / "study", data, stability=False, methods=["pseudobulk"])
    assert run.cell_types == ("B cells", "T/NK")
    assert list(run.skipped) == ["rare"]


def test_genes_by_name_symbol_and_any_case(run):
    assert run.gene("ENS4") == run.gene("Sym4") == run.gene("sYM4") == run.gene("ens4") == "ENS4"
    assert run.gene_name("ENS4") == "Sym4"
    with pytest.raises(UserError) as error:
        run.gene("Sym444")
    assert "there is no gene 'Sym444'" in str(error.value)
    assert "Did you mean 'Sym44'?" in str(error.value)
    assert f"{GENES} genes" in str(error.value)


def test_a_symbol_of_two_genes_is_not_guessed(tmp_path):
    data = paired_study()
    data.var["symbol"] = ["same", "same", *data.var["symbol"][2:]]
    run = finished_run(tmp_path / "study", data, stability=False, methods=["pseudobulk"])
    with pytest.raises(UserError, match=r"2 genes are called same .* Give ENS0, ENS1\."):
        run.gene("same")


def test_folders_without_results_say_so(run, tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        mlmgen.read(tmp_path / "nothing")
    with pytest.raises(UserError, match="there are no finished results"):
        mlmgen.read(tmp_path)
    with pytest.raises(UserError, match="It holds the runs study: give one of them"):
        mlmgen.read(run.folder.parent)


def test_missing_and_damaged_tables_are_named(tmp_path):
    run = finished_run(tmp_path / "study", stability=False, methods=["pseudobulk"])
    (run.folder / "fits.parquet").write_bytes(b"PAR1 not really")
    (run.folder / "priors.parquet").unlink()
    with pytest.raises(UserError, match=r"the table is damaged: .*fits\.parquet"):
        _ = run.fits
    with pytest.raises(UserError, match=r"the table is missing .*priors\.parquet"):
        _ = run.priors
    with pytest.raises(UserError, match="Did you mean 'effects'"):
        run.table("efects")


def test_choices_fall_on_the_only_one():
    assert choose(None, ("a",), "contrast", "--contrast") == "a"
    assert choose("b", ("a", "b"), "contrast", "--contrast") == "b"
    with pytest.raises(UserError, match=r"there are 2 contrasts .* Choose one of: a, b"):
        choose(None, ("a", "b"), "contrast", "--contrast")
    with pytest.raises(UserError, match=r"there is no contrast 'stim_ctrl' .* Did you mean 'stim_vs_ctrl'"):
        choose("stim_ctrl", ("stim_vs_ctrl", "b"), "contrast", "--contrast")
    with pytest.raises(UserError, match="there is no cell type with results"):
        choose(None, (), "cell type", "--cell-type")


def test_files_that_may_not_be_read_are_not_called_damaged(run, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pd, "read_parquet", refuse)
    with pytest.raises(UserError, match=r"this file may not be read.*Ask its owner"):
        run.table("effects")
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", refuse)
    with pytest.raises(UserError, match=r"this file may not be read.*Ask its owner"):
        io.read_provenance(run.folder / "effects.parquet")
