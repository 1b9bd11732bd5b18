"""The stage figures: pictures of every cell type, contrast and method, for Snakemake's report and for a first look."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlmgen import findings, io
from mlmgen.findings import Findings
from mlmgen.names import file_names
from mlmgen.pl import comparing, effects, pvalues, saving, variances
from mlmgen.pl.choosing import Chosen, effect_word
from mlmgen.pl.drawing import METHOD_WORDS, opened, plain
from mlmgen.progress import say

FDR = 0.05
NAMED = 8  # genes with a name in a panel
DPI = 110.0
PANEL, TITLE = (3.8, 3.4), 0.3  # inches of a panel, and of the title
# A run of 60 cell types and 30 contrasts would have thousands of pictures that nobody looks at: those of the tests
# with most discoveries are drawn, and any other one by `mlmgen plot`.
MOST = 400


class Test(NamedTuple):
    """The rows of a cell type, contrast and method in the table of effects, and how many of them are called."""

    cell_type: str
    contrast: str
    method: str
    rows: pd.DataFrame
    n_called: int


def figures(results: str, output: str, threads: int = 1) -> None:
    """Draw what a run found.

    ``<cell type>/<contrast>/<method>.png`` has volcano and MA plot, histogram and quantiles of the p-values,
    ``<cell type>/<contrast>/concordance.png`` both methods, and ``<cell type>/variances_<method>.png`` the variances.

    Parameters
    ----------
    results : str
        ``results/<name>``.
    output : str
        The folder to write, replaced as a whole. Cell types and contrasts are file names (`mlmgen.names`).
    threads : int
        Not used.
    """
    found = findings.read(results)
    slugs = {name: one["slug"] for name, one in found.provenance["cell_types"].items()}
    contrasts = {name: file for file, name in file_names(found.contrasts).items()}
    drawn, left_out = chosen_tests(found)
    with saving.settings(), io.replaced(output) as folder:
        for test in drawn:
            path = folder / slugs[test.cell_type] / contrasts[test.contrast] / f"{test.method}.png"
            _save(_of_test(found, test), path)
        for cell_type, contrast, rows in _both_methods(found, drawn):
            path = folder / slugs[cell_type] / contrasts[contrast] / "concordance.png"
            _save(_of_both(found, cell_type, contrast, rows), path)
        for cell_type in found.cell_types:
            for method in found.methods:
                _save(_of_variances(found, cell_type, method), folder / slugs[cell_type] / f"variances_{method}.png")
        n = len(list(folder.rglob("*.png")))
    say(f"figures: {output}, {n:,} pictures")
    if left_out:
        say(f"figures: {left_out:,} tests with fewest discoveries have no picture; mlmgen plot draws any of them")


def chosen_tests(found: Findings) -> tuple[list[Test], int]:
    """Return the tests to draw, in the order of the table, and how many are left out: those with fewest calls."""
    groups = found.effects.groupby(["cell_type", "contrast", "method"], observed=True, sort=False)
    tests = [Test(*key, rows, int((rows["padj"] < FDR).sum())) for key, rows in groups if rows["pvalue"].notna().any()]
    kept = sorted(range(len(tests)), key=lambda i: (-tests[i].n_called, i))[:MOST]
    return [tests[i] for i in sorted(kept)], len(tests) - len(kept)


def _both_methods(found: Findings, drawn: list[Test]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Give the rows of concordance of the tests that are drawn."""
    if found.concordance is None:
        return
    wanted = {(test.cell_type, test.contrast) for test in drawn}
    for key, rows in found.concordance.groupby(["cell_type", "contrast"], observed=True, sort=False):
        if key in wanted:
            yield *key, rows


def _panels(rows: int, columns: int, title: str, fixed: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels; ``fixed`` margins save half of the time, where no name is long."""
    width, height = PANEL[0] * columns, PANEL[1] * rows + TITLE
    figure = Figure(figsize=(width, height), dpi=DPI, layout=None if fixed else "constrained")
    FigureCanvasAgg(figure)  # measures text at once; the default canvas would write a file for every measure
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize="large")
    axes = [opened(ax, None) for ax in figure.subplots(rows, columns, squeeze=False).ravel()]
    if fixed:
        margins = {"left": 0.7 / width, "right": 1.0 - 0.1 / width, "bottom": 0.5 / height, "top": 1.0 - 0.7 / height}
        figure.subplots_adjust(**margins, wspace=0.26, hspace=0.36)
    return figure, axes


def _title(*parts: str) -> str:
    return ", ".join(part for part in parts if part != "all")


def _of_test(found: Findings, test: Test) -> Figure:
    """Draw what one test found: effects and p-values."""
    one = Chosen(test.rows, *test[:3], effect_word(found, test.method, test.contrast), found)
    joint = test.rows["log2fc"].isna().all()  # no effect to draw
    title = _title(test.cell_type, test.contrast, METHOD_WORDS[test.method])
    figure, axes = _panels(1 if joint else 2, 2, title, fixed=True)
    if not joint:
        effects.draw_volcano(axes[0], one, FDR, NAMED)
        effects.draw_ma(axes[1], one, FDR, NAMED)
    pvalues.draw_histogram(axes[-2], one)
    pvalues.draw_qq(axes[-1], one)
    return figure


def _of_both(found: Findings, cell_type: str, contrast: str, rows: pd.DataFrame) -> Figure:
    figure, (ax,) = _panels(1, 1, _title(cell_type, contrast))
    comparing.draw_concordance(ax, rows, effect_word(found, "glmm"), FDR, NAMED)
    return figure


def _of_variances(found: Findings, cell_type: str, method: str) -> Figure:
    """Draw the variances of a cell type."""
    shares = variances.level_shares(found, cell_type, method)
    figure, axes = _panels(1, 3 if variances.grouping(shares) else 2, _title(cell_type, METHOD_WORDS[method]))
    variances.draw_variance_mean(axes[0], found, cell_type, method, None)
    variances.draw_partition(axes[-1], shares)
    if len(axes) > 2:
        variances.draw_icc(axes[1], found, cell_type, shares)
    return figure


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    saving.save(figure, path, DPI)
