"""The command gene: the story of one gene, for a terminal."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlmgen.errors import listing
from mlmgen.findings import Findings, choose, read
from mlmgen.status import HELP, Status, label
from mlmgen.story import OfCellType, Story, story
from mlmgen.summary import FDR, aligned

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 40  # characters of the axis on which the samples' means are drawn
WORDS = {"glmm": "cells", "pseudobulk": "pseudobulk"}
OF_SAMPLES = ("donor", "sample", "n_cells", "total_count", "pct_cells", "mean", "ci_low", "ci_high")
ON_AXIS = {"low": "├", "high": "┤", "between": "─", "mean": "●", "empty": " "}


def gene(gene: str, results: str, cell_type: str | None = None, as_json: bool = False, threads: int = 1) -> None:
    """Print what a run knows of a gene.

    Parameters
    ----------
    gene : str
        Name or symbol.
    results : str
        ``results/<name>``.
    cell_type : str, optional
        All where none is given.
    as_json : bool
        Print JSON, for programs, instead of text.
    threads : int
        Not used.

    Raises
    ------
    UserError
        For an unknown gene or cell type, and where there are no results.
    """
    findings = read(results)
    wanted = None if cell_type is None else [choose(cell_type, findings.cell_types, "cell type", "--cell-type")]
    found = story(findings, gene, wanted)
    told = lines(findings, found, cell_type)
    text = json.dumps(as_dict(found), indent=1, ensure_ascii=False) if as_json else "\n".join(told)
    sys.stdout.write(text + "\n")


def as_dict(found: Story) -> dict:
    """Return a story for JSON; what is missing is null."""
    return {
        "gene": found.gene,
        "gene_name": found.gene_name,
        "cell_types": [
            {"cell_type": one.cell_type} | {name: _records(getattr(one, name)) for name in one._fields[1:]}
            for one in found.cell_types
        ],
    }


def _records(table: "pd.DataFrame") -> list[dict]:
    return json.loads(table.to_json(orient="records", double_precision=15))


def lines(findings: Findings, found: Story, cell_type: str | None = None) -> Iterator[str]:
    """Word a story, of all cell types or of one."""
    named = found.gene if found.gene_name == found.gene else f"{found.gene_name} ({found.gene})"
    yield f"{named} in {findings.folder}: {findings.provenance['formula']}"
    if not found.cell_types:
        yield from _why_not(findings, found.gene, cell_type)
        return
    yield ""
    yield f"Effects, log2 with 95 % interval; * is a false discovery rate below {FDR * 100:g} % within the cell type"
    yield _indented(aligned([["cell type", "contrast", *_headings(findings)], *_effects(findings, found)]))
    for one in found.cell_types:
        yield ""
        yield from _of_cell_type(one)


def _why_not(findings: Findings, gene: str, cell_type: str | None) -> Iterator[str]:
    fits = findings.fits[findings.fits["gene"] == gene]
    fitted = fits[fits["status"] != label(Status.FILTERED)]["cell_type"].unique()
    if cell_type is not None:
        fits = fits[fits["cell_type"] == cell_type]
    yield f"It was fitted in {listing(fitted)}, but not here:" if len(fitted) else "It was fitted in no cell type:"
    for (name, reason), _ in fits.groupby(["cell_type", "reason"], observed=True, sort=False):
        yield f"  {name}: {reason}"


def _headings(findings: Findings) -> list[str]:
    return [text for method in findings.methods for text in (WORDS[method], "p")]


def _effects(findings: Findings, found: Story) -> Iterator[list[str]]:
    """Return a row for each cell type and contrast."""
    for one in found.cell_types:
        for contrast in findings.contrasts:
            row, rows = [one.cell_type, contrast], one.effects[one.effects["contrast"] == contrast]
            for method in findings.methods:
                row += _effect(rows[rows["method"] == method])
            yield row


def _effect(rows: "pd.DataFrame") -> list[str]:
    if rows.empty or math.isnan(rows["pvalue"].iloc[0]):
        return ["not tested", ""]
    row = rows.iloc[0]
    several = math.isnan(row["log2fc"])
    effect = "several" if several else f"{row['log2fc']:+.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    return [effect, f"{row['pvalue']:.1e}{' *' if row['padj'] < FDR else ''}"]


def _of_cell_type(one: OfCellType) -> Iterator[str]:
    """Word the samples, variances and status of one cell type."""
    fit = one.fits.iloc[0]
    seen = f"{fit['n_cells']:,} cells of {fit['n_donors']:,} donors, {fit['pct_cells']:.1f} % with a count"
    yield f"{one.cell_type}: {seen}"
    yield _indented(aligned(_samples(one.samples)))
    own = one.variances[one.variances["method"] == fit["method"]]
    if len(own):
        yield "  variances of the log, with their share of what the fixed effects leave"
        yield _indented(aligned([_variance(row) for row in own.to_dict("records")]), 4)
    yield from _statuses(one.fits)


def _variance(row: dict) -> list[str]:
    interval = "" if math.isnan(row["ci_low"]) else f"[{row['ci_low']:.3g}, {row['ci_high']:.3g}]"
    share = "" if math.isnan(row["fraction"]) else f"{row['fraction']:.0%}"
    return [row["component"], f"{row['variance']:.3g}", interval, share]


def _statuses(fits: "pd.DataFrame") -> Iterator[str]:
    """Say how the fits ended, unless they simply converged; methods that agree in one line."""
    said: dict[str, list[str]] = {}
    help_of = {label(status): text for status, text in HELP.items()}
    for row in fits.to_dict("records"):
        if row["status"] != label(Status.CONVERGED):
            text = f"{row['status']}: {row['reason'] or help_of[row['status']]}"
            said.setdefault(text, []).append(WORDS[row["method"]])
    for text, methods in said.items():
        yield f"  {' and '.join(methods)} {text}"


def _samples(samples: "pd.DataFrame") -> list[list]:
    """Return a row for each sample, its mean and interval drawn on a common logarithmic axis."""
    variables = [name for name in samples.columns if name not in OF_SAMPLES]
    header = ["sample", *variables, "cells", "with count", "mean", "95 % interval", "(logarithmic)"]
    samples = samples.sort_values([*variables, "donor"], kind="stable")
    drawn = axis(samples["mean"], samples["ci_low"], samples["ci_high"])
    return [header] + [
        [
            row["sample"],
            *(_plain(row[name]) for name in variables),
            int(row["n_cells"]),
            f"{row['pct_cells']:.0f} %",
            f"{row['mean']:.3g}",
            f"[{row['ci_low']:.3g}, {row['ci_high']:.3g}]",
            picture,
        ]
        for row, picture in zip(samples.to_dict("records"), drawn, strict=True)
    ]


def _plain(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def axis(mean: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[str]:
    """Draw means with their intervals on one logarithmic axis, a line of `WIDTH` characters each; zero is its left end.

    Parameters
    ----------
    mean, low, high : sequences of float
        Not negative.
    """
    positive = [value for values in (mean, low, high) for value in values if value > 0]
    if not positive:
        return [""] * len(mean)
    first, last = math.log(min(positive)), math.log(max(positive))
    scale = (WIDTH - 1) / max(last - first, 1e-9)

    def place(value: float) -> int:
        return round((math.log(value) - first) * scale) if value > 0 else 0

    return [_line(place(m), place(lo), place(hi)) for m, lo, hi in zip(mean, low, high, strict=True)]


def _line(mean: int, low: int, high: int) -> str:
    line = [ON_AXIS["empty"]] * WIDTH
    line[low : high + 1] = [ON_AXIS["between"]] * (high + 1 - low)
    line[low], line[high] = ON_AXIS["low"], ON_AXIS["high"]
    line[mean] = ON_AXIS["mean"]
    return "".join(line).rstrip()


def _indented(body: str, spaces: int = 2) -> str:
    return "\n".join(" " * spaces + line for line in body.split("\n"))
