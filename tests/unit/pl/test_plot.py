"""The command plot, and what holds for every kind of figure."""

import inspect
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

import mlmgen
from mlmgen import cli_commands, pl
from mlmgen.cli import main
from mlmgen.errors import UserError
from mlmgen.pl import saving
from mlmgen.pl.plot import OPTIONS, plot
from tests.unit.finished import finished_run, paired_study

OF_GENE = ("caterpillar", "donors", "forest")
KINDS = tuple(name.replace("_", "-") for name in pl.__all__)


def arguments(kind):
    takes = inspect.signature(getattr(pl, kind.replace("-", "_"))).parameters
    return {"cell_type": "B cells"} | ({"gene": "Sym0"} if "gene" in takes else {})


def test_the_command_has_every_figure_and_every_choice():
    assert sorted(cli_commands.FIGURES) == sorted(KINDS)
    takes = {name for kind in pl.__all__ for name in inspect.signature(getattr(pl, kind)).parameters}
    assert set(OPTIONS) <= takes
    shown = {"source", "ax", "figsize", "fdr", "top", "genes", "bins", "log", "effect"}
    assert takes - shown == set(OPTIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_where_it_is_told_and_changes_no_setting(run, kind):
    before, own = dict(matplotlib.rcParams), arguments(kind)
    ax = plt.subplots()[1]
    assert getattr(pl, kind.replace("-", "_"))(run, **own, ax=ax) is ax
    assert len(plt.get_fignums()) == 1
    assert dict(matplotlib.rcParams) == before
    ax.figure.canvas.draw()
    assert ax.get_title(loc="left")
    assert ax.has_data()


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((kind, "pdf") for kind in KINDS), ("volcano", "svg"), ("volcano", "png"), ("forest", "svg")]
)
def test_the_same_results_give_the_same_bytes(run, tmp_path, kind, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    before = dict(matplotlib.rcParams)
    for path, size in zip(paths, (10.0, 20.0), strict=True):
        with matplotlib.rc_context({"font.size": size}):  # as a user's own settings
            plot(kind, str(run.folder), str(path), **arguments(kind))
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    start = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[suffix]
    assert first.startswith(start)
    assert not re.search(rb"CreationDate|<dc:date>|/tmp/", first)
    assert dict(matplotlib.rcParams) == before
    assert not plt.get_fignums()


def test_fonts_are_embedded_and_text_stays_text(run, tmp_path):
    for suffix in ("pdf", "svg"):
        plot("qq", str(run.folder), str(tmp_path / f"figure.{suffix}"), cell_type="B cells")
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert ">all genes<" in (tmp_path / "figure.svg").read_text()


def test_the_command_line_draws(run, tmp_path, capsys):
    path = tmp_path / "new" / "figure.png"
    size = ["--width", "4", "--height", "3", "--dpi", "50"]
    main(["plot", "volcano", str(run.folder), "-o", str(path), "--cell-type", "T/NK", *size])
    assert plt.imread(path).shape == (150, 200, 4)
    assert capsys.readouterr().err == f"mlmgen: plot: {path}\n"
    assert [one.name for one in path.parent.iterdir()] == ["figure.png"]


def test_a_width_alone_keeps_the_height(run, tmp_path):
    for width in (None, 7.0):
        plot("ma", str(run.folder), str(tmp_path / f"{width}.png"), width=width, dpi=100, cell_type="B cells")
    usual, wide = (plt.imread(tmp_path / f"{width}.png").shape for width in (None, 7.0))
    assert wide[0] == usual[0]
    assert wide[1] == 700 != usual[1]


@pytest.mark.parametrize(
    ("kind", "options", "output", "message"),
    [
        ("volcano", {}, "figure.jpg", r"ends in \.jpg.*End it in one of \.pdf, \.svg, \.png"),
        ("volcano", {}, "figure", "has no suffix"),
        ("volcan", {}, "figure.pdf", "there is no figure 'volcan'.*Did you mean 'volcano'"),
        ("volcano", {"gene": "Sym0"}, "figure.pdf", "volcano takes no --gene.*It takes --cell-type, --contrast"),
        ("forest", {}, "figure.pdf", "forest draws one gene, and none is given.*--gene"),
        ("donors", {"gene": "Sym00"}, "figure.pdf", "Did you mean 'Sym0'"),
        ("volcano", {"cell_type": "B"}, "figure.pdf", "there is no cell type 'B'"),
        ("volcano", {"dpi": 2401}, "figure.png", "Give at most 2,400"),
        ("volcano", {"dpi": 1000, "width": 80.0}, "figure.png", "too many pixels.*at most --dpi 819"),
    ],
)
def test_what_cannot_be_drawn_says_what_can(run, tmp_path, kind, options, output, message):
    options = {"cell_type": "B cells"} | options
    with pytest.raises(UserError, match=message):
        plot(kind, str(run.folder), str(tmp_path / output), **options)
    assert not list(tmp_path.iterdir())


def test_the_package_is_loaded_when_it_is_asked_for():
    code = "import sys, mlmgen; assert 'matplotlib' not in sys.modules; mlmgen.pl.volcano; print(dir(mlmgen))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'pl'" in run.stdout
    assert mlmgen.pl is pl


def test_settings_are_back_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError, match="drawn"), saving.settings():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        raise ValueError("drawn")
    assert dict(matplotlib.rcParams) == before
    assert np.isfinite(before["font.size"])


AWKWARD = "a $b_{c$ & <d> %s \\e{}"


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """A run whose cell types, levels, genes and columns have names that are no names elsewhere."""
    data = paired_study()
    renamed = {"B cells": AWKWARD, "T/NK": "$x^$"}
    data.obs["cell_type"] = data.obs["cell_type"].cat.rename_categories(renamed)
    data.obs["arm"] = data.obs["arm"].cat.rename_categories({"stim": "$st_{im$"})
    data.obs["donor"] = data.obs["donor"].cat.rename_categories(lambda name: f"${name}_{{$")
    data.var["symbol"] = [f"${name}^$" for name in data.var["symbol"]]
    data.obs = data.obs.rename(columns={"donor": "the $donor_{$"})
    formula = "~ arm + (1 | `the $donor_{$`)"
    keys = {"donor": "the $donor_{$", "contrasts": {"$co_{n$": "arm[T.ctrl]"}, "stability": False}
    return finished_run(tmp_path_factory.mktemp("awkward") / "study", data, formula=formula, **keys)


@pytest.mark.parametrize("kind", KINDS)
def test_any_name_can_be_drawn(awkward, kind, tmp_path):
    own = arguments(kind) | {"cell_type": AWKWARD}
    own |= {"gene": "$Sym0^$"} if "gene" in own else {}
    ax = getattr(pl, kind.replace("-", "_"))(awkward, **own)
    ax.figure.savefig(tmp_path / "figure.svg")
    title = ax.get_title(loc="left").replace(r"\$", "$")
    assert own.get("gene", AWKWARD) in title


@pytest.mark.parametrize("kind", OF_GENE)
def test_a_gene_that_was_not_fitted_is_an_error_of_the_command(run, tmp_path, kind):
    fits = run.fits[run.fits["loglik"].isna() & (run.fits["cell_type"] == "B cells")]
    if fits.empty:
        pytest.skip("every gene was fitted")
    with pytest.raises(UserError, match="was not fitted in B cells: "):
        plot(kind, str(run.folder), str(tmp_path / "a.pdf"), gene=fits["gene"].iloc[0], cell_type="B cells")
    assert not list(tmp_path.iterdir())
