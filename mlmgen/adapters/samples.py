"""The counts behind the results of a cell type: sums per sample, and the cells that express each gene."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from mlmgen import io, prepare
from mlmgen.arms import arms
from mlmgen.design import for_samples
from mlmgen.errors import UserError
from mlmgen.findings import Findings
from mlmgen.pseudobulk import aggregate
from mlmgen.types import Design

VALUES = 1 << 24  # counts, or numbers of a dense part, that are held at a time: 128 MB
MILLION = 1e6
# What voom of limma and aveLogCPM of edgeR add to the counts.
VOOM_PRIOR, EDGER_PRIOR = 0.5, 2.0


@dataclass(frozen=True, eq=False)
class CellTypeCounts:
    """The counts of a cell type, read when they are first asked for.

    Attributes
    ----------
    findings : Findings
    cell_type : str
    """

    findings: Findings
    cell_type: str

    @cached_property
    def samples(self) -> "Samples":
        """Sums per sample."""
        return sums(self.findings, self.cell_type)

    @cached_property
    def expressing(self) -> "Expressing":
        """Cells with a count of each gene."""
        return expressing(self.findings, self.cell_type)

    @cached_property
    def base_mean(self) -> np.ndarray:
        """As `base_mean`, (G,)."""
        return base_mean(self.samples)

    @cached_property
    def average_expression(self) -> np.ndarray:
        """As `average_expression`, (G,)."""
        return average_expression(self.samples)

    @cached_property
    def log_cpm(self) -> np.ndarray:
        """As `log_cpm`, (G,)."""
        return log_cpm(self.samples)


class Samples(NamedTuple):
    """The sums of a cell type's counts over the cells of each sample.

    Attributes
    ----------
    counts : (S, G) CSC of int
    obs : DataFrame
        S rows, the index the sample; as in the files of the folder ``pseudobulk``, with ``n_cells`` and
        ``size_factor``.
    var : DataFrame
        G rows, the index the gene, with ``gene_name`` where there are symbols.
    """

    counts: sparse.csc_matrix
    obs: pd.DataFrame
    var: pd.DataFrame


def counts_file(findings: Findings, level: str, cell_type: str) -> Path:
    """Return where a run keeps the counts of a cell type.

    Parameters
    ----------
    findings : Findings
    level : str
        ``prepared`` (cells) or ``pseudobulk`` (samples).
    cell_type : str

    Raises
    ------
    UserError
        Where the file is not there.
    """
    path = findings.folder / level / f"{findings.provenance['cell_types'][cell_type]['slug']}.h5ad"
    if not path.is_file():
        do = "Keep the folders prepared/ and pseudobulk/ beside the tables, or run the workflow again to make them"
        raise UserError(f"the counts of {cell_type} are missing", str(path), do)
    return path


def sums(findings: Findings, cell_type: str) -> Samples:
    """Return the counts of a cell type per sample.

    They are those that the method ``pseudobulk`` analyses. Where it could not (its design is not one of samples), the
    cells are summed here.
    """
    found = Samples(*io.read_prepared_cells(counts_file(findings, "pseudobulk", cell_type)))
    if len(found.obs):
        return found
    path = counts_file(findings, "prepared", cell_type)
    cells, design = Samples(*io.read_prepared_cells(path)), io.read_design(path)
    table = prepare.sample_table(cells.obs, design, for_samples(design))
    return Samples(aggregate(cells.counts, design), table, cells.var)


def library_sizes(samples: Samples) -> np.ndarray:
    """Return the effective library sizes, (S,) float64: in the proportions of the size factors, summing to all counts.

    With size factors of the library they are the samples' totals, with TMM factors edgeR's ``normLibSizes``.
    """
    factor = samples.obs["size_factor"].to_numpy(dtype=np.float64)
    return factor / factor.sum() * float(samples.counts.sum())


def base_mean(samples: Samples) -> np.ndarray:
    """Return the mean over samples of counts / size factor, (G,) float64, size factors of geometric mean 1."""
    factor = samples.obs["size_factor"].to_numpy(dtype=np.float64)
    weights = np.exp(np.log(factor).mean()) / factor / len(factor)
    return samples.counts.T @ weights


def average_expression(samples: Samples) -> np.ndarray:
    """Return the mean over samples of log2 counts per million as limma's ``voom`` has them, (G,) float64."""
    library, (n_samples, n_genes) = library_sizes(samples), samples.counts.shape
    found, width = np.empty(n_genes), max(1, VALUES // max(n_samples, 1))
    for start in range(0, n_genes, width):
        counts = samples.counts[:, start : start + width].toarray()
        rates = (counts + VOOM_PRIOR) / (library[:, None] + 1.0) * MILLION
        found[start : start + width] = np.log2(rates).mean(axis=0)
    return found


def log_cpm(samples: Samples) -> np.ndarray:
    """Return log2 of the average counts per million, (G,) float64, as edgeR's ``aveLogCPM`` with dispersion 0."""
    library = library_sizes(samples)
    prior = EDGER_PRIOR * library / library.mean()
    totals = np.asarray(samples.counts.sum(axis=0)).ravel()
    return np.log2((totals + prior.sum()) / (library + 2.0 * prior).sum() * MILLION)


class Expressing(NamedTuple):
    """How many cells have a count of each gene.

    Attributes
    ----------
    design : Design
        Of the cells, P patterns.
    cells : (P,) int64
        All cells of each pattern.
    with_counts : (P, G) int64
        Those with a count of the gene.
    """

    design: Design
    cells: np.ndarray
    with_counts: np.ndarray

    def share(self, of: np.ndarray) -> np.ndarray:
        """Return the share of the cells that have a count, of each of S sets of patterns, (S, P) bool; (S, G)."""
        return (of.astype(np.float64) @ self.with_counts.astype(np.float64)) / (of @ self.cells)[:, None]


def expressing(findings: Findings, cell_type: str) -> Expressing:
    """Count the cells with a count of each gene, a part of the genes at a time."""
    path = counts_file(findings, "prepared", cell_type)
    design, present = io.read_design(path), io.read_gene_statistics(path)["n_cells_expressing"]
    n_patterns, before = len(design.X), np.cumsum(present, dtype=np.int64)
    found, start = np.zeros((n_patterns, len(present)), dtype=np.int64), 0
    while start < len(present):
        already = before[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(before, already + VALUES, side="right")))
        counts, width = io.read_counts(path, start, stop), stop - start
        gene, chosen = np.repeat(np.arange(width), np.diff(counts.start)), counts.values > 0
        place = design.pattern[counts.rows[chosen]] * np.int64(width) + gene[chosen]
        found[:, start:stop] = np.bincount(place, minlength=n_patterns * width).reshape(n_patterns, width)
        start = stop
    return Expressing(design, np.bincount(design.pattern, minlength=n_patterns), found)


def shares_of_samples(findings: Findings, cell_type: str) -> np.ndarray:
    """Return the share of the cells of each sample that have a count of each gene, (S, G) float64 between 0 and 1."""
    found = expressing(findings, cell_type)
    sample = found.design.sample
    return found.share(np.arange(len(sample.levels))[:, None] == sample.codes)


def sides(findings: Findings, cell_type: str, contrast: str, design: Design) -> tuple[np.ndarray, np.ndarray] | None:
    """Return which patterns of the design a contrast compares: those counted up and those counted down, (P,) bool.

    None for the slope of a number, a joint test, and where the contrast is no average of levels against another, such
    as an interaction.
    """
    stored = findings.contrasts_json["cell_types"][cell_type]
    weights = next((np.asarray(one["weights"]) for one in stored if one["name"] == contrast), np.empty((0, 0)))
    compared = arms(design, weights[0]) if len(weights) == 1 else ()
    up, down = ([arm for arm in compared if sign * arm.weight > 0] for sign in (1, -1))
    if not (up and down and np.isclose(sum(arm.weight for arm in up), 1.0)):
        return None
    return tuple(np.any([arm.patterns for arm in side], axis=0) for side in (up, down))
