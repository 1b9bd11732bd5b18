"""Snakemake's own report of a run: figures and tables with captions, categories and labels, made without a network."""

import json
import zipfile

import pytest

from mlmgen import columns
from mlmgen.names import slug
from tests.workflow.test_workflow import OF_OTHER_RUNS

CELL_TYPES = ("B cells", "Monocytes")
LABELS = {
    ("stim_vs_ctrl", "effects and p-values", "cells"),
    ("stim_vs_ctrl", "effects and p-values", "pseudobulk"),
    ("stim_vs_ctrl", "cells against pseudobulk", "both"),
    ("all", "variances", "cells"),
    ("all", "variances", "pseudobulk"),
}
FOLDER = "results/small/figures"


@pytest.fixture(scope="module")
def report(study, tmp_path_factory) -> dict:
    """Files, results, categories and the page itself."""
    path = tmp_path_factory.mktemp("report") / "report.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody there: a download would fail
        finished = study.snakemake("--report", str(path))
    assert finished.returncode == 0, finished.stdout
    with zipfile.ZipFile(path) as archive:
        page = archive.read("report/report.html").decode()
        files = {name: archive.read(name) for name in archive.namelist() if "/data/" in name}
    return {"files": files, "page": page} | {name: stored(page, name) for name in ("results", "categories")}


def stored(page: str, name: str) -> dict:
    """What a variable of the page holds."""
    start = page.index(f'var {name} = {{"') + len(f"var {name} = ")
    return json.JSONDecoder().raw_decode(page, start)[0]


def test_every_figure_is_there_with_its_labels(report):
    figures = report["categories"]["Figures"]
    assert sorted(figures) == sorted(CELL_TYPES)
    for paths in figures.values():
        shown = [report["results"][path] for path in paths]
        assert {tuple(one["labels"][key] for key in ("contrast", "figure", "method")) for one in shown} == LABELS
        assert all(report["files"][f"report/{one['data_uri']}"].startswith(b"\x89PNG") for one in shown)
        assert all(one["mime_type"] == "image/png" for one in shown)


def test_figures_stand_under_their_cell_type(report):
    for name, paths in report["categories"]["Figures"].items():
        assert {path.split("/")[3] for path in paths} == {slug(name)}


@pytest.mark.parametrize(
    ("picture", "words"),
    [("stim_vs_ctrl/glmm", "volcano plot"), ("stim_vs_ctrl/concordance", "Rings"), ("variances_glmm", "the prior")],
)
def test_captions_say_what_is_shown(report, picture, words):
    caption = report["results"][f"{FOLDER}/Monocytes/{picture}.png"]["caption"]
    assert words in caption
    assert "{%" not in caption


def test_tables_have_captions_and_labels(report):
    (paths,) = report["categories"]["Tables"].values()
    shown = {report["results"][path]["labels"]["table"]: report["results"][path] for path in paths}
    assert sorted(shown) == sorted(set(columns.TABLES) - OF_OTHER_RUNS)
    for one in shown.values():
        assert one["caption"].startswith("<p>")
        assert one["labels"]["content"]
        assert report["files"][f"report/{one['data_uri']}"].startswith(b"\x1f\x8b")


def test_the_page_says_what_the_run_is(report):
    assert {"Figures", "Report", "Summary", "Tables"} <= set(report["categories"])
    assert "~ condition + (1 | donor)" in report["page"]
