"""The command export, as people type it."""

import gzip
import os
import re
import subprocess
import sys

import anndata
import decoupler as dc
import pandas as pd
import pytest
import scanpy as sc

import mlmgen
from mlmgen import adapters, cli, cli_commands
from mlmgen.adapters.export import FORMATS
from mlmgen.adapters.tables import FORMATS as TABLES


def run(*arguments):
    cli.main(["export", *map(str, arguments)])


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What the program sets for numpy must not stay set."""
    monkeypatch.setattr(cli, "prepare_environment", lambda threads: None)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".tsv.gz", ".csv.gz"])
def test_tables_are_written_as_the_suffix_says(paired, name, suffix, tmp_path, capsys):
    path = tmp_path / f"{name}{suffix}"
    run(paired.findings.folder, "--to", name, "-o", path, "--cell-type", "T/NK")
    index = None if name == "pertpy" else "gene"
    read = pd.read_csv(path, sep="\t" if ".tsv" in suffix else ",", index_col=index, float_precision="round_trip")
    pd.testing.assert_frame_equal(read, TABLES[name](paired.findings, "T/NK"))
    assert f"export: {path}: {len(read)} rows" in capsys.readouterr().err
    text = gzip.decompress(path.read_bytes()) if suffix.endswith(".gz") else path.read_bytes()
    assert b"\r" not in text
    assert (b"NA" in text) == (name == "deseq2")  # as R writes what is missing


def test_several_tables_have_columns_in_front(paired, tmp_path):
    run(paired.findings.folder, "--to", "limma", "-o", tmp_path / "all.tsv", "--method", "all", "--symbols")
    read = pd.read_csv(tmp_path / "all.tsv", sep="\t", float_precision="round_trip")
    pd.testing.assert_frame_equal(read, adapters.limma(paired.findings, method="all", symbols=True))
    assert list(read.columns[:4]) == ["cell_type", "contrast", "method", "gene"]


def test_the_matrix_has_a_row_for_each_gene(paired, tmp_path):
    run(paired.findings.folder, "--to", "matrix", "-o", tmp_path / "matrix.tsv", "--method", "pseudobulk")
    read = pd.read_csv(tmp_path / "matrix.tsv", sep="\t", index_col="gene", float_precision="round_trip")
    wanted = adapters.statistic_matrix(paired.findings, method="pseudobulk")
    pd.testing.assert_frame_equal(read.T, wanted, check_names=False)


def test_anndata_and_pseudobulk_are_read_by_scanpy_and_decoupler(paired, tmp_path):
    run(paired.findings.folder, "--to", "anndata", "-o", tmp_path / "ranked.h5ad", "--contrast", "stim_vs_ctrl")
    ranked = anndata.read_h5ad(tmp_path / "ranked.h5ad")
    wanted = sc.get.rank_genes_groups_df(adapters.to_anndata(paired.findings), "T/NK", key="mlmgen")
    pd.testing.assert_frame_equal(sc.get.rank_genes_groups_df(ranked, "T/NK", key="mlmgen"), wanted)
    run(paired.findings.folder, "--to", "pseudobulk", "-o", tmp_path / "sums.h5ad", "--cell-type", "B cells")
    sums = anndata.read_h5ad(tmp_path / "sums.h5ad")
    assert set(sums.obs["cell_type"]) == {"B cells"}
    assert len(dc.pp.filter_samples(sums, min_cells=1, min_counts=1, inplace=False)) == sums.n_obs == 12


def test_results_go_into_a_copy_of_the_cells(paired, tmp_path, capsys):
    cells, path = tmp_path / "cells.h5ad", tmp_path / "out" / "with_results.h5ad"
    paired.data.write_h5ad(cells)
    before = cells.read_bytes()
    run(paired.findings.folder, "--to", "anndata", "--into", cells, "-o", path)
    assert "with_results.h5ad: 360 cells x 45 genes" in capsys.readouterr().err
    made = anndata.read_h5ad(path)
    assert (made.X != paired.data.X).nnz == 0
    assert sc.get.rank_genes_groups_df(made, "T/NK", key="mlmgen").loc[0, "names"] == "ENS0"
    assert cells.read_bytes() == before


@pytest.mark.parametrize(("to", "name"), [("limma", "t.tsv.gz"), ("anndata", "a.h5ad"), ("pseudobulk", "p.h5ad")])
def test_the_same_run_gives_the_same_bytes(paired, to, name, tmp_path):
    """In processes of their own, whose sets are in other orders."""
    found = []
    for seed in ("1", "2"):
        path = tmp_path / seed / name
        command = [sys.executable, "-m", "mlmgen", "export", paired.findings.folder, "--to", to, "-o", path]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        found.append(path.read_bytes())
    assert found[0] == found[1]


def test_a_failure_leaves_the_earlier_file(paired, tmp_path, monkeypatch):
    path = tmp_path / "sums.h5ad"
    path.write_text("earlier")

    def fails(self, file, **options):
        file.write_text("half")
        raise RuntimeError("power cut")

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fails)
    with pytest.raises(SystemExit):
        run(paired.findings.folder, "--to", "pseudobulk", "-o", path)
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["sums.h5ad"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "deseq2", "-o", "x.txt"], r"ends in .txt, which does not fit the format .*Use .tsv, .csv, .tsv.gz"),
        (["--to", "deseq2", "-o", "x"], "ends in no suffix"),
        (["--to", "anndata", "-o", "x.h5"], "Did you mean '.h5ad'?"),
        (["--to", "matrix", "-o", ".tsv"], "does not fit the format"),
        (["--to", "matrix", "-o", "x.tsv", "--cell-type", "T/NK"], "matrix does not go with --cell-type"),
        (["--to", "pseudobulk", "-o", "x.h5ad", "--contrast", "stim_vs_ctrl"], "Leave --contrast out"),
        (["--to", "limma", "-o", "x.tsv", "--cell-type", "T/NX"], "Did you mean 'T/NK'?"),
        (["--to", "limma", "-o", "x.tsv", "--contrast", "stim_v_ctrl"], "Did you mean 'stim_vs_ctrl'?"),
        (["--to", "matrix", "-o", "x.tsv", "--method", "all"], "this takes one method"),
        (["--to", "limma", "-o", "x.tsv", "--into", "cells.h5ad"], "limma does not go with --into"),
        (["--to", "anndata", "-o", "x.h5ad", "--into", "nothing.h5ad"], "there is no such file (in nothing.h5ad)"),
        (["--to", "anndata", "-o", "x.h5ad", "--into", __file__], "this cannot be read: "),
    ],
)
def test_errors_say_what_to_do(paired, arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        run(paired.findings.folder, *arguments)
    assert error.value.code == cli.USER_ERROR
    message = capsys.readouterr().err
    assert said in message or re.search(said, message)
    assert not list(tmp_path.iterdir())


def test_the_formats_of_the_help_are_those_there_are():
    assert FORMATS == cli_commands.EXPORTS


def test_adapters_are_loaded_when_they_are_asked_for():
    code = "import sys, mlmgen; assert 'mlmgen.adapters' not in sys.modules; print(mlmgen.adapters.deseq2.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "deseq2\n"
    assert "adapters" in dir(mlmgen)
    code = "import sys, mlmgen.adapters; print({'anndata', 'scanpy', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_data_and_the_tables_are_not_overwritten(paired, tmp_path, capsys):
    cells = tmp_path / "cells.h5ad"
    paired.data.write_h5ad(cells)
    folder, before = paired.findings.folder, cells.read_bytes()
    for words, message in (
        (["--to", "anndata", "--into", cells, "-o", tmp_path / "." / "cells.h5ad"], "the file of --into"),
        (["--to", "deseq2", "-o", folder / "effects.tsv.gz"], "a table of the run"),
        (["--to", "pseudobulk", "-o", paired.findings.provenance["input"]["path"]], "the data that the run has read"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(folder, *words)
        assert stop.value.code == 2
        assert f"this would overwrite {message}" in capsys.readouterr().err
    assert cells.read_bytes() == before
