"""The documentation: nothing is left out, and what it tells people to type is what mlmgen takes."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from mlmgen import cli, columns
from mlmgen import config as configuration
from mlmgen.contrasts import resolve
from mlmgen.design import build
from mlmgen.formula import parse
from mlmgen.within_donors import default_formula

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)


# The modules of the documentation import each other as conf.py does.
sys.path.insert(0, str(DOCS))
import demo_run  # noqa: E402
import generated  # noqa: E402
import measured  # noqa: E402
import simulated_studies  # noqa: E402

sys.path.remove(str(DOCS))


def expanded(name: str) -> str:
    return generated.expanded((DOCS / name).read_text())


def name_of(path: Path) -> str:
    return path.relative_to(DOCS).with_suffix("").as_posix()


def test_every_page_is_in_the_contents():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted(listed) == sorted(name_of(path) for path in PAGES if path.name != "index.md")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    targets += re.findall(r"^```\{(?:include|figure)\} (\S+)$", page.read_text(), re.MULTILINE)
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_generated_is_known_and_leaves_no_mark(page):
    text = generated.expanded(page.read_text())
    assert "<!-- generated" not in text
    assert "{terminal}" not in text


def test_every_config_key_is_explained():
    text, properties = expanded("config_keys.md"), generated.schema()["properties"]
    for name, spec in properties.items():
        assert f"\n## `{name}`\n" in text
        for inner in spec.get("properties", {}):
            assert f"\n### `{name}.{inner}`\n" in text


def test_what_a_key_may_be_is_said():
    text = expanded("config_keys.md")
    assert "Default `[glmm, pseudobulk]`; allowed: `glmm`, `pseudobulk`." in text
    assert "**Required**; for example `data/kang.h5ad`." in text
    assert "Default `9`; allowed: 1 to 50." in text
    assert "results/&lt;name>/" in text


def test_every_column_is_explained():
    text = expanded("columns.md")
    for table, known in columns.TABLES.items():
        assert f"\n## {table}\n" in text
        for column in known:
            assert f"| `{column.name}` |" in text


def test_every_command_has_its_help():
    text = expanded("command_line.md")
    for name in generated.subcommands():
        assert f"### mlmgen {name}\n" in text


# Commands of a shell: an indented block, or a fence.
FENCE = re.compile(r"^```(?:sh|\{terminal\})\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_in(text: str) -> list[str]:
    blocks = [*FENCE.findall(text), *re.findall(r"^    (mlmgen .*(?:\\\n.*)*)$", text, re.MULTILINE)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("mlmgen ")]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_commands_that_are_shown_can_be_typed(page):
    for line in commands_in(page.read_text()):
        words = shlex.split(line, comments=True)[1:]
        try:
            cli.parser().parse_args(words)
        except SystemExit as ended:
            pytest.fail(f"{line}: exit {ended.code}")


def test_commands_are_found_to_be_tested():
    assert "mlmgen run config.yaml" in commands_in((DOCS / "first_run.md").read_text())
    assert len(commands_in((DOCS / "other_packages.md").read_text())) == 4


@pytest.mark.parametrize("command", ["init", "check", "run", "describe", "gene", "report", "plot", "export"])
def test_commands_that_pages_name_are_there(command):
    assert command in generated.subcommands()


def configs() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            found.append((name_of(page), text))
    return found


@pytest.mark.parametrize(("page", "text"), configs())
def test_configs_that_are_shown_are_valid(page, text):
    keys = yaml.safe_load(text)
    given = {"input": "data/my.h5ad", "donor": "donor", "formula": "~ condition + (1 | donor)"} | keys
    checked = configuration.load(given)
    assert {key: checked[key] for key in keys} == keys


def decision_table() -> dict[str, str]:
    """Design to formula."""
    text = (DOCS / "which_model.md").read_text().split("## From design to formula")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| .* \| `(~.*)` \|$", text, re.MULTILINE)
    return {design: formula.replace("\\|", "|") for design, formula in rows}


def cells(rows: list[dict], n: int = 20) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return table.loc[table.index.repeat(n)].reset_index(drop=True)


def between_donors() -> pd.DataFrame:
    table = cells(
        [
            {
                "donor": f"D{i}",
                "disease": ("healthy", "ill")[i % 2],
                "sex": ("female", "male")[i // 2 % 2],
                "batch": f"B{i // 2 % 6}",
                "family": f"F{i // 3}",
                "dose": (0.0, 1.0, 3.0)[i % 3],
            }
            for i in range(12)
        ]
    )
    return table.assign(pct_mito=np.random.default_rng(1).normal(5, 1, len(table)))


def within_donors() -> pd.DataFrame:
    arms = (("ctrl", 0.0), ("stim", 1.0), ("stim", 3.0))
    return cells(
        [
            {"donor": f"D{i}", "disease": ("healthy", "ill")[i % 2], "condition": condition, "dose": dose}
            for i in range(12)
            for condition, dose in arms
        ]
    )


def biopsies() -> pd.DataFrame:
    return cells(
        [
            {"donor": f"D{i}", "disease": ("healthy", "ill")[i % 2], "biopsy": f"{biopsy}"}
            for i in range(12)
            for biopsy in range(3)
        ]
    )


def visits() -> pd.DataFrame:
    return cells(
        [
            {"donor": f"D{i}", "treatment": ("none", "drug")[i % 2], "month": month, "visit": f"v{month}"}
            for i in range(12)
            for month in range(4)
        ]
    )


# Of each design of the table: cells that have it, and the fixed effects from which its formula is proposed, unless
# the design has groups that no fixed effect names.
DESIGNS = {
    "unpaired": (between_donors, "~ disease"),
    "paired": (within_donors, "~ condition"),
    "paired, two groups of donors": (within_donors, "~ disease * condition"),
    "repeated samples of a donor": (biopsies, None),
    "a few batches, donors of both arms in each": (between_donors, "~ disease + batch"),
    "many batches": (between_donors, None),
    "families, litters, wards": (between_donors, None),
    "longitudinal, a trend": (visits, "~ month"),
    "longitudinal, visit by visit": (visits, "~ visit"),
    "covariate of cells": (between_donors, "~ disease + within(pct_mito) + between(pct_mito)"),
    "dose between donors": (between_donors, "~ dose"),
    "dose within donors, a trend": (within_donors, "~ dose"),
    "dose within donors, level by level": (within_donors, "~ C(dose)"),
    "interaction between donors": (between_donors, "~ disease * sex"),
    "treatment x time, a trend": (visits, "~ treatment * month"),
    "treatment x time, visit by visit": (visits, "~ treatment * visit"),
}


def test_every_design_of_the_decision_page_is_tested():
    assert decision_table().keys() == DESIGNS.keys()


@pytest.mark.parametrize("design", DESIGNS)
def test_formulas_of_the_decision_page_fit_their_design(design):
    """They are accepted, lack no random term, and are what mlmgen proposes."""
    make, fixed = DESIGNS[design]
    obs, formula = make(), decision_table()[design]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        built, _ = build(obs, parse(formula), "donor")
    assert built.formula == formula
    assert not [str(one.message) for one in said if "random" in str(one.message)]
    if fixed is not None:
        with warnings.catch_warnings(action="ignore"):
            assert default_formula(obs, fixed, "donor") == formula


def test_studies_of_the_pages_have_the_effects_that_they_say():
    studies = simulated_studies
    for study, log2fc in ((studies.unpaired(), 1.3), (studies.paired(), 0.87), (studies.longitudinal(), 0.36)):
        effects = study.var["true_log2fc"]
        assert (effects != 0).sum() == 30
        assert (effects > 0).sum() == 15
        assert np.abs(effects[effects != 0]).to_numpy() == pytest.approx(log2fc, abs=0.005)
        assert (np.asarray(study.X.sum(axis=0)) > 0).all()


def test_tables_of_the_calibration_study_are_read():
    null = measured.table("Null tests and false discoveries, simulated")
    assert null.groupby("method").size().to_dict() == {"glmm": 37, "pseudobulk": 37}
    first = null.iloc[0]
    assert (first["setting"], first[".05"], first[".05_se"]) == ("3 v 3", 0.0544, 0.0024)
    counts = measured.table("By the total count of a gene")
    assert counts["null tests"].iloc[1] == 73_013


def test_commands_of_the_first_run_show_what_they_print(tmp_path, monkeypatch):
    """Once run, each stands above its own output; one that fails stops the build."""
    page = tmp_path / "first_run.md"
    monkeypatch.setattr(demo_run, "HERE", tmp_path)
    monkeypatch.setattr(demo_run, "FOLDER", tmp_path / "_build/first_run")
    monkeypatch.setattr(demo_run, "PRINTED", tmp_path / "_build/first_run/printed.json")
    monkeypatch.setattr(demo_run, "EXTRA", tmp_path / "_build/first_run/extra")
    report = "mkdir -p results/demo; echo report > results/demo/report.html; echo two >&2"
    page.write_text(f"Text\n\n```{{terminal}}\necho one; pwd\n```\n\n```{{terminal}}\n{report}\n```\n")
    runs, off = (SimpleNamespace(config=SimpleNamespace(nb_execution_mode=mode)) for mode in ("force", "off"))
    demo_run.on_before_read(runs, None, ["index"])
    demo_run.on_before_read(off, None, ["figures"])
    assert not demo_run.FOLDER.exists()
    demo_run.on_before_read(runs, None, ["index", "figures"])
    one = f"```sh\necho one; pwd\n```\n\n```text\none\n{demo_run.FOLDER}\n```\n"
    two = f"```sh\n{report}\n```\n\n```text\ntwo\n```\n"
    assert generated.expanded(page.read_text()) == f"Text\n\n{one}\n{two}"
    assert (demo_run.EXTRA / demo_run.REPORT).read_text() == "report\n"
    page.write_text("```{terminal}\necho wrong; false\n```\n")
    with pytest.raises(RuntimeError, match="exit 1\nwrong"):
        demo_run.make()


def test_contrasts_of_the_decision_page_are_understood():
    text = (DOCS / "which_model.md").read_text().split("## Contrasts for the interactions")[1].split("\n## ")[0]
    shown = [yaml.safe_load(cell) for cell in re.findall(r"^\|.*\| `(.*)` \|$", text, re.MULTILINE)]
    assert len(shown) == 6
    table = decision_table()
    for contrast in shown:
        name = str(contrast)
        design = "paired, two groups of donors" if "condition" in name else "longitudinal, visit by visit"
        design = "treatment x time, a trend" if "treatment" in name else design
        with warnings.catch_warnings(action="ignore"):
            built, _ = build(DESIGNS[design][0](), parse(table[design]), "donor", reference={"treatment": "none"})
        (resolved,) = resolve({"asked": contrast}, built)
        assert np.abs(resolved.weights).sum() > 0


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_need_no_network(page):
    """Formulas are text: a page with mathematics would load its script from a server."""
    text = page.read_text()
    assert "{math}" not in text
    assert "<script" not in text
    assert not re.search(r"!\[[^]]*\]\(https?:", text)


@pytest.mark.slow
def test_pages_and_docstrings_are_built_without_warnings(tmp_path):
    """All but the outputs of their code, which `make docs` runs."""
    off = ["-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer"]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", *off, "-b", "html", "-d"]
    command += [str(tmp_path / "read"), str(DOCS), str(tmp_path / "html")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in PAGES:
        html = (tmp_path / "html" / f"{name_of(page)}.html").read_text()
        assert not re.search(r'<(?:script|img)[^>]* src="https?:|<link[^>]* href="https?:', html)
    api = (tmp_path / "html/api.html").read_text()
    for name in ("mlmgen.fit", "mlmgen.compare", "mlmgen.read"):
        assert f'id="{name}"' in api
