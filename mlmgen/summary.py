"""The text at the end of a run: what was analysed, what was found, what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlmgen.design_lint import degrees

FDR = 0.05


@dataclass(frozen=True)
class CellType:
    """What the summary says about one cell type.

    Attributes
    ----------
    name : str
    n_cells, n_donors, n_samples : int
    skipped : str
        Empty, or why no gene was fitted.
    warnings : tuple of str
    true_log2fc : dict of str to (G,) float64
        Simulated truth by contrast, in the order of the genes of the input; empty for real data.
    genes : tuple of str, length G
    designs : tuple of dict
        A row of the table of designs for each contrast.
    """

    name: str
    n_cells: int
    n_donors: int
    n_samples: int
    skipped: str
    warnings: tuple[str, ...]
    true_log2fc: dict
    genes: tuple[str, ...]
    designs: tuple[dict, ...] = ()


def text(
    name: str,
    cell_types: Sequence[CellType],
    effects: pd.DataFrame,
    fits: pd.DataFrame,
    audited: str = "",
    weighted: bool = False,
) -> str:
    """Write the summary.

    Parameters
    ----------
    name : str
        Of the run.
    cell_types : sequence of CellType
    effects, fits : DataFrame
        The result tables.
    audited : str
        What the null audit says, in lines; empty for none.
    weighted : bool
        Whether ``padj`` is of weighted p-values.
    """
    fdr = f"{'weighted ' * weighted}Benjamini-Hochberg"
    parts = [
        (f"Run {name}: cell types", _overview(cell_types, fits)),
        (
            "What the designs can find: the log2 fold change with 80 % power at p = 0.001 in a typical gene",
            _designs(cell_types),
        ),
        (
            f"Discoveries at padj < {FDR} ({fdr} within cell type, contrast and method)",
            _discoveries(effects),
        ),
        ("How the fits ended", _statuses(fits)),
        (f"Against the simulated truth, at padj < {FDR}", _truth(cell_types, effects)),
        ("What the null audit says", audited),
        ("Skipped", "\n".join(f"{c.name}: {c.skipped}" for c in cell_types if c.skipped)),
        ("Warnings", _warnings(cell_types)),
    ]
    return "\n".join(f"{title}\n{_indented(body)}\n" for title, body in parts if body)


def _overview(cell_types: Sequence[CellType], fits: pd.DataFrame) -> str:
    fitted = fits[fits["status"] != "filtered"].groupby(["cell_type", "method"], observed=False).size()
    methods = list(fits["method"].cat.categories)
    header = ["cell type", "donors", "samples", "cells", *(f"genes fitted, {method}" for method in methods)]
    rows = [
        [c.name, c.n_donors, c.n_samples, c.n_cells, *(int(fitted.get((c.name, method), 0)) for method in methods)]
        for c in cell_types
    ]
    return aligned([header, *rows])


def _designs(cell_types: Sequence[CellType]) -> str:
    """Say what every contrast compares, and how small an effect it can find."""
    rows = [
        [
            row["cell_type"],
            row["contrast"],
            row["comparison"],
            row["n_donors"],
            f"{row['n_replicates']:,} x {row['replicate']}" + " (not in the formula)" * row["missing"],
            degrees(row["df"]),
            "" if row["lfc_detectable"] is None else f"{row['lfc_detectable']:.2f}",
        ]
        for cell_type in cell_types
        for row in cell_type.designs
    ]
    header = ["cell type", "contrast", "comparison", "donors", "replicates", "df", "log2 fold change"]
    return aligned([header, *rows]) if rows else ""


def _discoveries(effects: pd.DataFrame) -> str:
    rows = [["cell type", "contrast", "method", "tested", "discoveries", "up", "down"]]
    for keys, group in effects.groupby(["cell_type", "contrast", "method"], observed=True, sort=False):
        called = group[group["padj"] < FDR]
        up = int((called["log2fc"] > 0).sum())
        rows.append([*keys, int(group["padj"].notna().sum()), len(called), up, int((called["log2fc"] < 0).sum())])
    return aligned(rows)


def _statuses(fits: pd.DataFrame) -> str:
    counts = fits.groupby(["method", "status"], observed=True).size()
    return aligned([["method", "status", "genes"], *([*keys, int(number)] for keys, number in counts.items())])


def _truth(cell_types: Sequence[CellType], effects: pd.DataFrame) -> str:
    """Count true effects found and false calls per contrast and method, over all cell types."""
    known = [(c, contrast, truth) for c in cell_types for contrast, truth in c.true_log2fc.items()]
    if not known:
        return ""
    truth = pd.concat([_true_effects(c, contrast, values) for c, contrast, values in known], ignore_index=True)
    merged = effects.astype({"cell_type": object, "contrast": object}).merge(
        truth, on=["cell_type", "contrast", "gene"]
    )
    sentences = []
    for (contrast, method), group in merged.groupby(["contrast", "method"], observed=True):
        sentences.append(f"{method}, {contrast}: {_against(group)}.")
    return "\n".join(sentences)


def _against(group: pd.DataFrame) -> str:
    """Word the comparison of calls with true effects."""
    true, called = group["true_log2fc"] != 0, group["padj"] < FDR
    found, untested, false = (true & called).sum(), (true & group["padj"].isna()).sum(), (called & ~true).sum()
    wrong_sign = (true & called & (np.sign(group["log2fc"]) != np.sign(group["true_log2fc"]))).sum()
    more = f", {wrong_sign:,} more had the wrong sign" if wrong_sign else ""
    effects = f"found {found:,} of {true.sum():,} true effects ({untested:,} of them not tested)"
    return f"{effects}; {false:,} of {called.sum():,} calls were false{more}"


def _true_effects(cell_type: CellType, contrast: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"cell_type": cell_type.name, "contrast": contrast, "gene": cell_type.genes, "true_log2fc": values}
    )


def _warnings(cell_types: Sequence[CellType]) -> str:
    """List each warning once, with the cell types that it concerns."""
    concerned: dict[str, list[str]] = {}
    for cell_type in cell_types:
        for warning in cell_type.warnings:
            concerned.setdefault(warning, []).append(cell_type.name)
    return "\n".join(f"{', '.join(names)}: {warning}" for warning, names in concerned.items())


def aligned(rows: Sequence[Sequence]) -> str:
    """Lay out rows of cells as columns: text to the left, numbers to the right."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    right = [any(isinstance(row[i], int) for row in rows) for i in range(len(widths))]
    lines = (
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in texts
    )
    return "\n".join(lines)


def _indented(body: str) -> str:
    return "\n".join("  " + line for line in body.split("\n"))
