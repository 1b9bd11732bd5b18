"""The command gene, as its readers see it."""

import json

import pytest

from mlmgen import cli
from mlmgen.gene import WIDTH, axis, gene
from tests.unit.finished import GENES, finished_run, paired_study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("gene") / "study")


def test_the_story_has_effects_samples_variances(run, capsys):
    gene("sym0", str(run.folder))
    text = capsys.readouterr().out
    assert text.startswith(f"Sym0 (ENS0) in {run.folder}: ~ arm + (1 | donor)")
    row = run.effects.set_index(["cell_type", "gene", "method"]).loc["T/NK", "ENS0", "glmm"]
    assert f"{row['log2fc']:+.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" in text
    assert f"{row['pvalue']:.1e} *" in text
    samples = [line for line in text.splitlines() if line.strip().startswith("D2:")]
    assert len(samples) == 4  # two arms in two cell types
    assert all("●" in line for line in samples)
    assert "dispersion" in text


def test_one_cell_type_can_be_chosen(run, capsys):
    gene("ENS0", str(run.folder), cell_type="T/NK")
    text = capsys.readouterr().out
    assert "T/NK" in text
    assert "B cells" not in text


def test_a_gene_that_was_not_fitted_says_why(run, capsys):
    gene(f"ENS{GENES - 1}", str(run.folder))
    text = capsys.readouterr().out
    assert "It was fitted in no cell type" in text
    assert "B cells: no counts in this cell type" in text


def test_a_gene_that_was_fitted_elsewhere_says_where(tmp_path, capsys):
    data = paired_study()
    silent = (data.obs["cell_type"] == "B cells").to_numpy()
    X = data.X.toarray()
    X[silent, 7] = 0
    data.X = X
    run = finished_run(tmp_path / "study", data, stability=False, methods=["pseudobulk"])
    capsys.readouterr()
    gene("ENS7", str(run.folder), cell_type="B cells")
    *_, said, why = capsys.readouterr().out.splitlines()
    assert said == "It was fitted in T/NK, but not here:"
    assert why == "  B cells: no counts in this cell type"


def test_json_is_for_programs(run, capsys):
    gene("ENS0", str(run.folder), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["gene"], found["gene_name"]) == ("ENS0", "Sym0")
    one = found["cell_types"][0]
    assert one["cell_type"] == "B cells"
    assert len(one["samples"]) == 12
    assert {"term", "effect", "level", "estimate", "std_error", "unpooled", "unpooled_se"} == set(one["groups"][0])
    assert one["effects"][0]["df"] is None


def test_unknown_names_are_one_line(run, capsys):
    for arguments in (["Sym00"], ["Sym0", "--cell-type", "B cell"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["gene", arguments[0], str(run.folder), *arguments[1:]])
        assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert "Did you mean 'Sym0'?" in said[0]
    assert "there is no cell type 'B cell' (in --cell-type). Did you mean 'B cells'?" in said[1]


def test_the_axis_is_logarithmic_and_zero_is_its_left_end():
    lines = axis([1.0, 10.0, 0.0], [0.1, 1.0, 0.0], [10.0, 100.0, 1.0])
    assert [line.index("●") for line in lines] == [13, 26, 0]
    assert lines[0].startswith("├")
    assert len(lines[1]) == WIDTH
    assert lines[1].endswith("┤")
    assert axis([0.0], [0.0], [0.0]) == [""]
