"""The command: one file with everything, from a run that took place; and what it says where it cannot."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from mlmgen import cli, describe
from mlmgen.errors import UserError
from mlmgen.report import build, packing
from mlmgen.simulate import demo
from tests.unit.stages_run import Run

KEYS = {
    "formula": "~ condition + (1 | donor)",
    "reference": {"condition": "ctrl"},
    "contrasts": {"stim": "condition[stim] - condition[ctrl]"},
    "cell_type": "cell_type",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two cell types of the demo, 60 genes, all stages."""
    full = demo(seed=2)
    small = full[full.obs["cell_type"].isin(["B cells", "Monocytes"]), :60].copy()
    made = Run(tmp_path_factory.mktemp("results") / "small", small, **KEYS)
    made.tables()
    return made


@pytest.fixture(scope="module")
def page(run):
    build.report(str(run.folder))
    return (run.folder / build.REPORT).read_text(encoding="utf-8")


def block(page: str, name: str):
    text = re.search(rf'<script type="text/plain" id="block-{name}">([^<]*)</script>', page)[1]
    return json.loads(packing.unpacked(text))


def test_the_page_is_one_file_that_asks_for_nothing(page):
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"url\((?!['\"]?data:)", page)
    assert build.DATA not in page
    assert build.TITLE not in page
    assert build.VERDICT not in page
    assert page.count("<script") == page.count("</script>")
    assert packing.unpacked(re.search(r'id="block-echarts">([^<]*)<', page)[1]).startswith(b"/*! Apache ECharts")
    assert "<title>mlmgen: small</title>" in page


def test_it_says_what_was_found_without_a_program_too(run, page):
    said = block(page, "meta")["verdict"]
    effects = pd.read_parquet(run.folder / "effects.parquet")
    n = (effects.query("cell_type == 'B cells' and method == 'glmm'")["padj"] < 0.05).sum()
    assert any(f"In B cells, {n} of " in one["text"] for one in said["sentences"])
    assert f"<p>{said['headline']}</p>" in page


def test_donors_of_leading_genes_are_those_of_the_run(run, page):
    named, detail = block(page, "genes"), block(page, "detail-0")
    assert len(detail["genes"]) > 20
    gene = named["detailed"]["0"][0]
    samples = detail["genes"][str(gene)]["samples"]
    assert len(samples["mean"]) == len(detail["samples"]["donor"]) == 12
    fits = pd.read_parquet(run.folder / "fits.parquet").query("cell_type == 'B cells' and method == 'glmm'")
    total = fits.set_index("gene").loc[named["genes"][gene], "total_count"]
    assert np.sum(samples["total_count"]) == pytest.approx(total, rel=1e-3)
    design = block(page, "meta")["design"]
    assert design["samples"]["columns"] == ["donor", "sample", "condition", "n_cells"]
    assert np.array(design["cells"]).sum() == sum(one["n_cells"] for one in block(page, "meta")["cell_types"])
    assert {one["term"] for one in block(page, "meta")["trust"]["random_effects"]} <= {"donor"}


def test_the_same_bytes_again_and_elsewhere(run, page, tmp_path):
    shutil.copytree(run.folder, tmp_path / "small")
    (tmp_path / "small" / build.REPORT).unlink()
    build.report(str(tmp_path / "small"), str(tmp_path / "other.html"))
    assert (tmp_path / "other.html").read_text(encoding="utf-8") == page
    assert not (tmp_path / "small" / build.REPORT).exists()


def test_a_damaged_file_is_named_and_leaves_the_earlier_page(run, page, tmp_path):
    shutil.copytree(run.folder, tmp_path / "small")
    path = sorted((tmp_path / "small" / "prepared").iterdir())[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(path.name)):
        build.report(str(tmp_path / "small"))
    assert (tmp_path / "small" / build.REPORT).read_text(encoding="utf-8") == page


def test_the_report_belongs_to_no_set_of_tables(run, page):
    assert describe.described(run.folder)["warnings"] == []


def test_the_command(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mlmgen.report.payload.blocks", lambda source: {"meta": packing.packed(EMPTY)})
    cli.main(["report", str(run.folder), "-o", str(tmp_path / "new" / "page.html")])
    assert "<p>Nothing.</p>" in (tmp_path / "new" / "page.html").read_text()
    assert f"mlmgen: report: {tmp_path / 'new' / 'page.html'}, " in capsys.readouterr().err


EMPTY = packing.written(
    {"verdict": {"headline": "Nothing.", "lead": "", "sentences": [], "nothing": "", "attention": []}}
)


def test_without_results_it_says_where_to_look(tmp_path, run, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(tmp_path)])
    assert ended.value.code == 2
    assert "there are no finished results" in capsys.readouterr().err
    with pytest.raises(UserError, match="this is a folder"):
        build.report(str(run.folder), str(tmp_path))


def test_what_would_end_a_script_is_refused(monkeypatch):
    files = {"page.html": '<script src="a.js"></script>', "a.js": "x = '</script>'"}
    monkeypatch.setattr(build, "asset", files.__getitem__)
    with pytest.raises(ValueError, match="may not stand in a script"):
        build.page("x", {"meta": packing.packed(EMPTY)})


def test_names_and_blocks_stand_where_the_page_wants_them(monkeypatch):
    files = {
        "page.html": '<title><!-- title --></title><link rel="stylesheet" href="a.css"><!-- verdict --><!-- data -->'
        '<script src="b.js" data-packed></script><script src="a.js"></script>',
        "a.css": "p {}",
        "a.js": "start()",
        "b.js": "large()",
    }
    monkeypatch.setattr(build, "asset", files.__getitem__)
    blocks = {"meta": packing.packed(EMPTY)}
    text = build.page("a <b>", blocks)
    assert text == (
        "<title>a &lt;b&gt;</title><style>\np {}\n</style><p>Nothing.</p>"
        f'<script type="text/plain" id="block-meta">{blocks["meta"]}</script>\n'
        f'<script type="text/plain" id="block-b">{packing.packed(b"large()")}</script><script>\nstart()\n</script>'
    )


def test_every_file_of_the_page_is_there():
    text = build.asset("page.html")
    for pattern in (build.STYLE, build.SCRIPT):
        for found in pattern.finditer(text):
            assert build.asset(found[1])
    assert all(text.count(place) >= 1 for place in (build.TITLE, build.VERDICT, build.DATA))
