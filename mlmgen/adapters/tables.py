"""Columns as other programs name them: effects as tables of DESeq2, limma, edgeR, Seurat and pertpy.

Only the names and the order of the columns are those of the other program. The numbers are mlmgen's: `log2fc`,
`lfc_se`, the `statistic`, `pvalue` and `padj` of the table ``effects``. Of a joint test the effect and its standard
error are missing; of the family ``bernoulli`` effects are log2 odds ratios.

All functions take the same arguments. Asked for one cell type, contrast and method they return a table with the
genes as its index. Where several fit what was asked for, their tables stand below each other, with ``cell_type``,
``contrast``, ``method`` and ``gene`` as columns in front.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlmgen.adapters import choice
from mlmgen.adapters.samples import CellTypeCounts, sides
from mlmgen.findings import Findings

KEYS = ("cell_type", "contrast", "method")


class Tested(NamedTuple):
    """The effects of one cell type, contrast and method, and the counts they rest on.

    Attributes
    ----------
    counts : CellTypeCounts
    contrast : str
    effects : DataFrame
        All genes in the order of the input; the index the gene, or its symbol.
    genes : (G,) int
        Their places in `counts`.
    """

    counts: CellTypeCounts
    contrast: str
    effects: pd.DataFrame
    genes: np.ndarray


def deseq2(
    findings: Findings,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    symbols: bool = False,
) -> pd.DataFrame:
    """Return effects with the columns of DESeq2's ``results`` and PyDESeq2's ``results_df``.

    ``baseMean`` is the mean over the samples of the cell type of the gene's sum of counts, each divided by the
    sample's size factor (of geometric mean 1 over the samples): a sample's counts at typical depth, as in DESeq2 but
    with the run's size factors. ``stat`` is the normal quantile of the p-value, not ``log2FoldChange / lfcSE``: the
    test is a likelihood ratio. Genes that were filtered stay, with NaN, as DESeq2 has them. Rows are in the order of
    the input.

    Parameters
    ----------
    findings : Findings
    cell_type, contrast : str, optional
        All of them where none is given.
    method : str, optional
        ``glmm``, ``pseudobulk`` or ``all``; ``glmm`` where the run has it.
    symbols : bool
        Name the genes by their symbols, which may repeat, instead of the index of the input.

    Returns
    -------
    DataFrame
        baseMean, log2FoldChange, lfcSE, stat, pvalue, padj.

    Raises
    ------
    UserError
        Where there is no such cell type, contrast or method, or the counts are missing.
    """
    return _of_all(findings, cell_type, contrast, method, symbols, _deseq2)


def _deseq2(one: Tested) -> pd.DataFrame:
    effects = one.effects
    columns = {
        "baseMean": one.counts.base_mean[one.genes],
        "log2FoldChange": effects["log2fc"],
        "lfcSE": effects["lfc_se"],
        "stat": effects["statistic"],
        "pvalue": effects["pvalue"],
        "padj": effects["padj"],
    }
    return pd.DataFrame(columns, index=effects.index)


def limma(
    findings: Findings,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    symbols: bool = False,
) -> pd.DataFrame:
    """Return effects with the columns of limma's ``topTable(confint = TRUE)``, but for ``B``.

    ``B``, limma's log odds of an effect, has no counterpart here and is left out: what remains are the columns of
    ``topTreat(confint = TRUE)``. ``AveExpr`` is the mean over the samples of log2 counts per million as ``voom``
    computes them. ``t`` is the normal quantile of the p-value. Filtered genes are left out, as after ``filterByExpr``;
    rows are in the order of the p-values.

    Parameters
    ----------
    findings, cell_type, contrast, method, symbols
        As for `deseq2`.

    Returns
    -------
    DataFrame
        logFC, CI.L, CI.R (of 95 %), AveExpr, t, P.Value, adj.P.Val.
    """
    return _of_all(findings, cell_type, contrast, method, symbols, _limma)


def _limma(one: Tested) -> pd.DataFrame:
    effects = one.effects
    columns = {
        "logFC": effects["log2fc"],
        "CI.L": effects["ci_low"],
        "CI.R": effects["ci_high"],
        "AveExpr": one.counts.average_expression[one.genes],
        "t": effects["statistic"],
        "P.Value": effects["pvalue"],
        "adj.P.Val": effects["padj"],
    }
    return _by_evidence(pd.DataFrame(columns, index=effects.index), effects)


def edger(
    findings: Findings,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    symbols: bool = False,
) -> pd.DataFrame:
    """Return effects with the columns of edgeR's ``topTags`` of a ``glmLRT``.

    ``logCPM`` is log2 of the average counts per million over the samples, as ``aveLogCPM`` with dispersion 0. ``LR``
    is the chi-square quantile of the p-value with one degree of freedom (of a joint test with as many as it has).
    Filtered genes are left out, as after ``filterByExpr``; rows are in the order of the p-values.

    Parameters
    ----------
    findings, cell_type, contrast, method, symbols
        As for `deseq2`.

    Returns
    -------
    DataFrame
        logFC, logCPM, LR, PValue, FDR.
    """
    return _of_all(findings, cell_type, contrast, method, symbols, _edger)


def _edger(one: Tested) -> pd.DataFrame:
    effects = one.effects
    joint = effects["log2fc"].isna()  # whose statistic is the quantile of a chi-square distribution already
    columns = {
        "logFC": effects["log2fc"],
        "logCPM": one.counts.log_cpm[one.genes],
        "LR": effects["statistic"].where(joint, effects["statistic"] ** 2),
        "PValue": effects["pvalue"],
        "FDR": effects["padj"],
    }
    return _by_evidence(pd.DataFrame(columns, index=effects.index), effects)


def seurat(
    findings: Findings,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    symbols: bool = False,
) -> pd.DataFrame:
    """Return effects with the columns of Seurat's ``FindMarkers``.

    ``p_val_adj`` is a false discovery rate (Benjamini and Hochberg, weighted if `fdr` is), not Seurat's Bonferroni
    correction: below 0.05
    it promises that about 5 % of the calls are wrong, not that none is. ``pct.1`` and ``pct.2`` are the shares of the
    cells with a count of the gene on the two sides of the contrast, 0 to 1 and not rounded; where the contrast is no
    difference of levels (the slope of a number, an interaction, a joint test) both are the share of all cells.
    Filtered genes are left out, as ``min.pct`` does; rows are in the order of the p-values.

    Parameters
    ----------
    findings, cell_type, contrast, method, symbols
        As for `deseq2`.

    Returns
    -------
    DataFrame
        p_val, avg_log2FC, pct.1, pct.2, p_val_adj.
    """
    return _of_all(findings, cell_type, contrast, method, symbols, _seurat)


def _seurat(one: Tested) -> pd.DataFrame:
    effects = one.effects
    first, second = _shares_of_sides(one)
    columns = {
        "p_val": effects["pvalue"],
        "avg_log2FC": effects["log2fc"],
        "pct.1": first,
        "pct.2": second,
        "p_val_adj": effects["padj"],
    }
    return _by_evidence(pd.DataFrame(columns, index=effects.index), effects)


def _shares_of_sides(one: Tested) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of expressing cells on both sides of the contrast, (G,) each."""
    found = one.counts.expressing
    compared = sides(one.counts.findings, one.counts.cell_type, one.contrast, found.design)
    if compared is None:
        everywhere = one.effects["pct_cells"].to_numpy() / 100.0
        return everywhere, everywhere
    first, second = found.share(np.stack(compared))[:, one.genes]
    return first, second


def pertpy(
    findings: Findings,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    symbols: bool = False,
) -> pd.DataFrame:
    """Return effects with the columns of pertpy's ``PyDESeq2.test_contrasts``.

    A long table: genes are the column ``variable``, contrasts the column ``contrast``, and several contrasts stand
    below each other without further columns; of several cell types and methods, these are columns in front.
    ``adj_p_value`` is by Benjamini and Hochberg (weighted if `fdr` is), within cell type, contrast and method.
    ``baseMean`` and ``stat`` are
    as for `deseq2`. Filtered genes are left out; rows are in the order of the p-values within each contrast.

    Parameters
    ----------
    findings, cell_type, contrast, method, symbols
        As for `deseq2`.

    Returns
    -------
    DataFrame
        variable, baseMean, log_fc, lfcSE, stat, p_value, adj_p_value, contrast.
    """
    return _of_all(findings, cell_type, contrast, method, symbols, _pertpy)


def _pertpy(one: Tested) -> pd.DataFrame:
    renamed = {"log2FoldChange": "log_fc", "pvalue": "p_value", "padj": "adj_p_value"}
    table = _by_evidence(_deseq2(one).rename(columns=renamed), one.effects)
    table.insert(0, "variable", table.index)
    return table.assign(contrast=one.contrast)


FORMATS = {"deseq2": deseq2, "limma": limma, "edger": edger, "seurat": seurat, "pertpy": pertpy}


def _by_evidence(table: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Leave out filtered genes and sort by the p-value, the larger statistic first where it is as small as can be."""
    order = np.lexsort((-effects["statistic"].abs(), effects["pvalue"]))
    return table.iloc[order[effects["pvalue"].notna().to_numpy()[order]]]


def _of_all(
    findings: Findings,
    cell_type: str | None,
    contrast: str | None,
    method: str | None,
    symbols: bool,
    build: Callable[[Tested], pd.DataFrame],
) -> pd.DataFrame:
    """Build the table of each cell type, contrast and method that is wanted, and join them."""
    of_methods, of_contrasts = choice.methods(findings, method), choice.contrasts(findings, contrast)
    if cell_type is not None:
        cell_type = choice.one_cell_type(findings, cell_type)
        of_contrasts = choice.contrasts_in(findings, cell_type, contrast)
    found = {}
    for name in choice.cell_types(findings, cell_type):
        present = [one for one in of_contrasts if choice.tested(findings, name, one)]
        counts, table = CellTypeCounts(findings, name), choice.of_type(findings, name)
        for one, level in itertools.product(present, of_methods):
            effects = choice.effects(table, one, level)
            found[name, one, level] = build(_tested(counts, one, effects, symbols))
    return _joined(found, build is _pertpy)


def _tested(counts: CellTypeCounts, contrast: str, effects: pd.DataFrame, symbols: bool) -> Tested:
    """Put the effects of one contrast and method in the order of the input's genes."""
    place = choice.places(effects.index.to_numpy(), counts.samples.var.index)
    order = np.argsort(place)
    effects, place = effects.iloc[order], place[order]
    if symbols:
        effects = effects.set_index(pd.Index(effects["gene_name"], name="gene"))
    return Tested(counts, contrast, effects, place)


def _joined(found: dict[tuple[str, str, str], pd.DataFrame], long: bool) -> pd.DataFrame:
    """Put the tables below each other, with what tells them apart in front; one table stays as it is.

    Parameters
    ----------
    found : dict of (cell type, contrast, method) to DataFrame
    long : bool
        Whether the tables have columns for the gene and the contrast of their own.
    """
    several = len(found) > 1 and (not long or len({(key[0], key[2]) for key in found}) > 1)
    parts = []
    for key, table in found.items():
        if several:
            front = {name: value for name, value in zip(KEYS, key, strict=True) if name not in table}
            front |= {} if long else {"gene": table.index}
            table = table.assign(**front)[[*front, *table.columns]]
        parts.append(table)
    joined = pd.concat(parts)
    return joined.reset_index(drop=True) if several or long else joined
