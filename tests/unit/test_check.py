"""`mlmgen check`: what is wrong before a run, what contrasts can find, what a run takes."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from mlmgen import checking, cli, config_file, io
from mlmgen.errors import UserError
from mlmgen.simulate import demo

CONFIG = {
    "name": "small",
    "input": "small.h5ad",
    "donor": "donor",
    "formula": "~ condition + (1 | donor)",
    "reference": {"condition": "ctrl"},
    "contrasts": {"stim_vs_ctrl": "condition[stim] - condition[ctrl]"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.h5ad"
    full = demo(seed=2)
    full[:, :100].copy().write_h5ad(path)
    return path


@pytest.fixture
def folder(data, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.h5ad").symlink_to(data)
    write()
    return tmp_path


def write(**changes) -> None:
    kept = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    Path("config.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))


def checked(capsys) -> str:
    checking.check("config.yaml", cores=4)
    return capsys.readouterr().out


def test_it_says_what_is_compared_found_and_taken(folder, capsys):
    text = checked(capsys)
    assert "config.yaml: run small" in text
    assert "small.h5ad: 4,000 cells, 100 genes" in text
    assert "X: whole numbers in all" in text
    for name in ("B cells", "Monocytes", "T cells"):
        row = next(line for line in text.splitlines() if name in line and "stim_vs_ctrl" in line)
        assert "between donors" in row
        assert "ctrl: 6, stim: 6" in row
        assert "12 x donor" in row
    assert "on 4 cores" in text
    assert "fit 6" in text
    assert text.rstrip().endswith("No errors. Next: mlmgen run config.yaml")
    assert "\033" not in text


def test_the_effect_that_can_be_found_is_that_of_the_run(folder, data, capsys):
    """The means are those of `mlmgen.io.read_gene_statistics`, where all counts are looked at."""
    from mlmgen import config, stages_contrasts
    from mlmgen.design_lint import typical_mean

    settings = config.load(CONFIG)
    found = stages_contrasts.check(settings)
    looked = checking.looked_at(settings, found)
    assert looked.values == looked.stored
    made = anndata.read_h5ad(data)
    part = next(part for part in found.parts if part.name == "B cells")
    X = made.X[part.rows]
    donors = pd.factorize(made.obs["donor"].to_numpy()[part.rows])[0]
    statistics = {
        "n_cells_expressing": np.asarray((X > 0).sum(axis=0)).ravel(),
        "n_donors_expressing": sum(np.asarray((X[donors == d] > 0).sum(axis=0)).ravel() > 0 for d in range(12)),
        "mean_count": np.asarray(X.mean(axis=0)).ravel(),
    }
    assert looked.means["B cells"] == pytest.approx(typical_mean(statistics, len(part.rows)))


def test_a_large_file_is_looked_at_in_part(folder, monkeypatch, capsys):
    monkeypatch.setattr(checking, "LOOKED_AT", 20_000)
    text = " ".join(checked(capsys).split())
    assert "values looked at" in text
    rows, X = io.some_counts("small.h5ad", "X", 20_000)
    assert 10_000 < X.nnz < 25_000
    assert rows[-1] > 3_900  # from all over the file


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_some_counts_are_those_of_the_file(layout, tmp_path):
    from scipy import sparse

    counts = np.random.default_rng(0).poisson(0.7, size=(500, 40)).astype(np.int32)
    made = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[layout](counts)
    anndata.AnnData(made).write_h5ad(tmp_path / "a.h5ad")
    for most in (10**6, 2_000):
        rows, X = io.some_counts(tmp_path / "a.h5ad", "X", most, pieces=8)
        if layout != "csc" or most == 10**6:
            np.testing.assert_array_equal(X.toarray(), counts[rows])
        else:
            assert X.shape[0] == 500
            assert {tuple(column) for column in X.toarray().T} <= {tuple(column) for column in counts.T}
        assert (X.shape == counts.shape) == (most == 10**6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"donor": "doner"}, "Did you mean 'donor'"),
        ({"donor": None}, "the key donor is missing (in config.yaml)"),
        ({"doner": "x"}, "in config.yaml"),
        ({"input": "smal.h5ad"}, "Did you mean 'small.h5ad'"),
        ({"formula": "~ condition + (1 | donr)"}, "donr"),
        ({"contrasts": {"a": "condition[stm] - condition[ctrl]"}}, "condition[stim]"),
        ({"cell_types": ["B cell"]}, "Did you mean 'B cells'"),
        ({"counts": "layers/counts"}, "the file has no layers/counts"),
        ({"reference": {"condition": "control"}}, "control"),
        ({"filters": {"min_cells_per_donor": 100000}}, "none of the 3 cell types can be analysed"),
    ],
)
def test_errors_are_one_line_and_exit_2(changes, expected, folder, capsys):
    write(**changes)
    with pytest.raises(SystemExit) as stop:
        cli.main(["check", "config.yaml"])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.err.startswith("mlmgen: error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err
    assert captured.out == ""


def test_counts_that_are_none_are_found(folder, data, capsys):
    made = anndata.read_h5ad(data)
    made.X = made.X.astype(float) * 0.5
    Path("small.h5ad").unlink()
    made.write_h5ad("small.h5ad")
    with pytest.raises(UserError, match=r"(?i)whole|fraction|count"):
        checking.check("config.yaml")


def test_warnings_and_what_is_left_out_are_said(folder, data, capsys):
    made = anndata.read_h5ad(data)
    keep = ~((made.obs["cell_type"] == "B cells") & (made.obs["donor"] != made.obs["donor"].iloc[0]))
    made = made[keep.to_numpy()].copy()
    Path("small.h5ad").unlink()
    made.write_h5ad("small.h5ad")
    text = " ".join(checked(capsys).split())
    assert "Skipped - B cells: " in text
    write(formula="~ condition + batch + (1 | donor)")
    assert "stim_vs_ctrl" in checked(capsys)


def test_a_missing_replicate_is_warned_of(folder, data, capsys):
    made = anndata.read_h5ad(data)
    made.obs["treated"] = np.random.default_rng(0).choice(["no", "yes"], made.n_obs)
    Path("small.h5ad").unlink()
    made.write_h5ad("small.h5ad")
    write(formula="~ treated + (1 | donor)", reference=None, contrasts=None)
    text = " ".join(checked(capsys).split())
    assert "p-value too small: treated varies within donors" in text
    assert "use ~ treated + (1 | donor) + (1 | donor:treated)" in text
    assert "(not in the formula)" in text


# ---- the file


def test_configurations_that_are_none(tmp_path):
    def problem(text: str, name: str = "a.yaml") -> str:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as stop:
            config_file.read(tmp_path / name)
        return str(stop.value)

    assert "line 2, column" in problem("name: a\ndonor: b: c\n")
    assert "is empty" in problem("# nothing\n")
    assert "holds a list" in problem("- a\n- b\n")
    assert "1 is not the name of a key" in problem("1: a\n")
    with pytest.raises(UserError, match=r"Did you mean 'a\.yaml'"):
        config_file.read(tmp_path / "a.yml")
    with pytest.raises(UserError, match="this is a folder"):
        config_file.read(tmp_path)
    (tmp_path / "x.h5ad").write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(UserError, match="this is data"):
        config_file.read(tmp_path / "x.h5ad")
