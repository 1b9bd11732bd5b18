"""The stage figures: which pictures there are, and what they show."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from mlmgen.cli import main
from mlmgen.findings import read
from mlmgen.names import slug
from mlmgen.pl import figures

PICTURES = {"variances_glmm.png", "variances_pseudobulk.png"} | {
    f"stim_vs_ctrl/{name}.png" for name in ("glmm", "pseudobulk", "concordance")
}


def digests(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_every_cell_type_has_its_pictures_the_same_twice(run, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        (folder / "left").mkdir(parents=True)  # of an earlier run
        main(["figures", "--results", str(run.folder), "--output", str(folder)])
    first, second = map(digests, folders)
    assert first == second
    assert set(first) == {f"{slug(name)}/{picture}" for name in run.cell_types for picture in PICTURES}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    picture = plt.imread(folders[0] / slug("T/NK") / "stim_vs_ctrl" / "glmm.png")
    assert 700 < picture.shape[0] < 1000
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 50


def test_an_error_leaves_the_earlier_pictures(run, tmp_path, monkeypatch):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").touch()
    monkeypatch.setattr(figures, "_save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        figures.figures(str(run.folder), str(tmp_path / "figures"))
    assert [path.name for path in tmp_path.rglob("*")] == ["figures", "old.png"]


def test_of_too_many_tests_those_with_most_calls_are_drawn(run, monkeypatch):
    found = read(run.folder)
    every, _ = figures.chosen_tests(found)
    assert [(test.cell_type, test.method) for test in every] == [
        (cell_type, method) for cell_type in run.cell_types for method in run.methods
    ]
    rows = found.effects.copy()
    rows["padj"] = np.where((rows["cell_type"] == "T/NK") & (rows["method"] == "pseudobulk"), 0.01, 0.5)
    found.__dict__["effects"] = rows
    monkeypatch.setattr(figures, "MOST", 2)
    some, left_out = figures.chosen_tests(found)
    assert [(test.cell_type, test.method) for test in some] == [("B cells", "glmm"), ("T/NK", "pseudobulk")]
    assert left_out == 2
    drawn = [(cell_type, contrast) for cell_type, contrast, _ in figures._both_methods(found, some)]
    assert drawn == [("B cells", "stim_vs_ctrl"), ("T/NK", "stim_vs_ctrl")]


def test_what_is_not_drawn_is_said(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "MOST", 1)
    figures.figures(str(run.folder), str(tmp_path / "figures"))
    said = capsys.readouterr().err
    assert "6 pictures" in said
    assert "3 tests with fewest discoveries have no picture; mlmgen plot draws any of them" in said


def test_a_joint_test_has_only_its_pvalues(run):
    found = read(run.folder)
    found.__dict__["effects"] = run.effects.assign(log2fc=np.nan)
    test = figures.chosen_tests(found)[0][0]
    assert len(figures._of_test(found, test).axes) == 2
    assert len(figures._of_test(read(run.folder), figures.chosen_tests(run)[0][0]).axes) == 4


def test_a_run_without_results_has_an_empty_folder(run, tmp_path, monkeypatch):
    found = read(run.folder)
    none = {name: {**one, "skipped": "few donors"} for name, one in run.provenance["cell_types"].items()}
    found.provenance["cell_types"] = none
    found.__dict__["effects"] = run.effects.assign(pvalue=np.nan, log2fc=np.nan, padj=np.nan)
    monkeypatch.setattr(figures.findings, "read", lambda _: found)
    figures.figures(str(run.folder), str(tmp_path / "figures"))
    assert not list((tmp_path / "figures").iterdir())


def test_contrasts_with_awkward_names_have_files(run):
    found = read(run.folder)
    name = "condition[T.stim]:age / 10"
    rows = run.effects.astype({"contrast": str}).assign(contrast=name)
    found.__dict__["effects"] = rows.astype({"contrast": pd.CategoricalDtype([name])})
    test = figures.chosen_tests(found)[0][0]
    assert test.contrast == name
    assert name in figures._of_test(found, test).get_suptitle()
