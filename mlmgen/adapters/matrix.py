"""Statistics as a matrix of cell types and genes, as decoupler and gseapy take them."""

import numpy as np
import pandas as pd

from mlmgen.adapters import choice
from mlmgen.errors import UserError
from mlmgen.findings import Findings

# Those with a sign, of which 0 means no effect.
VALUES = ("statistic", "log2fc", "log2fc_shrunken")


def statistic_matrix(
    findings: Findings,
    contrast: str | None = None,
    method: str | None = None,
    value: str = "statistic",
    fill: float | None = 0.0,
    symbols: bool = False,
) -> pd.DataFrame:
    """Return a contrast's statistics as a matrix of cell types and genes.

    ``decoupler.mt.ulm(data=matrix, net=net)`` takes it as it is, ``gseapy.ssgsea(data=matrix.T, ...)`` with the genes
    as rows; `ranking` gives ``gseapy.prerank`` one cell type.

    A gene that was tested in one cell type may have been filtered in another. decoupler refuses missing values, so
    there it gets `fill`: with 0, the middle of the statistic's distribution, it speaks neither for nor against an
    effect. It does add to the genes that a set is compared with: where a cell type tested few of the genes, analyse it
    alone, by its `ranking`. Genes that no cell type tested are left out.

    Parameters
    ----------
    findings : Findings
    contrast : str, optional
        The only one where none is given.
    method : str or None
        ``glmm`` or ``pseudobulk``; None takes ``glmm`` where the run has it.
    value : str
        ``statistic`` (the normal quantile of the p-value with the sign of the effect), ``log2fc`` or
        ``log2fc_shrunken``.
    fill : float or None
        Of genes that a cell type did not test; None leaves them NaN.
    symbols : bool
        Name the genes by their symbols, as most collections of gene sets do, instead of the index of the input. Of
        genes with the same symbol the one with most counts stays.

    Returns
    -------
    DataFrame
        Cell types in which the contrast could be estimated, in the order of the run, by genes in the order of the
        input; float64.

    Raises
    ------
    UserError
        Where there is no such contrast, method or value, and for the effects of a joint test, which has none.
    """
    contrast = choice.one_contrast(findings, contrast)
    method, value = choice.one_method(findings, method), choice.allowed_name(value, VALUES, "value")
    table = findings.effects
    table = table[((table["contrast"] == contrast) & (table["method"] == method)).to_numpy()]
    # categories would come back as an index that is no text
    keys = {"cell_type": table["cell_type"].astype(object), "gene": table["gene"].astype(object)}
    matrix = table[["mean_count", value]].assign(**keys).pivot(index="cell_type", columns="gene", values=value)
    if matrix.isna().all(axis=None):
        what = f"{contrast} has no {value}: it is a joint test, or every gene was filtered"
        raise UserError(what, f"contrast {contrast}", f"Use the value {VALUES[0]!r}, or another contrast")
    order = [name for name in findings.cell_types if choice.tested(findings, name, contrast)]
    matrix = matrix.loc[order, [gene for gene in choice.genes(findings).index if gene in matrix.columns]]
    matrix = matrix.loc[:, matrix.notna().any(axis=0)]
    if symbols:
        matrix = _by_symbol(matrix, choice.genes(findings), findings.fits)
    return matrix if fill is None else matrix.fillna(fill)


def _by_symbol(matrix: pd.DataFrame, symbols: pd.Series, fits: pd.DataFrame) -> pd.DataFrame:
    """Rename the genes, of those with one symbol keeping the one with the largest total count."""
    total = fits[(fits["method"] == fits["method"].iloc[0]).to_numpy()].groupby("gene")["total_count"].sum()
    genes = matrix.columns
    order = np.argsort(-total[genes].to_numpy(), kind="stable")
    kept = np.sort(order[~pd.Index(symbols[genes].iloc[order]).duplicated()])
    return matrix.iloc[:, kept].set_axis(pd.Index(symbols[genes].iloc[kept], name="gene"), axis=1)


def ranking(
    findings: Findings,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    value: str = "statistic",
    symbols: bool = False,
) -> pd.Series:
    """Return one cell type's genes with their statistic, largest first, as ``gseapy.prerank(rnk=...)`` takes it.

    Filtered genes are left out.

    Parameters
    ----------
    findings : Findings
    cell_type : str, optional
        The only one where none is given.
    contrast, method, value, symbols
        As for `statistic_matrix`.

    Returns
    -------
    Series
        float64, named as `value`, the index the gene.

    Raises
    ------
    UserError
        As `statistic_matrix`, and where the cell type has no results of the contrast.
    """
    cell_type = choice.one_cell_type(findings, cell_type)
    contrast = choice.one_contrast(findings, contrast)
    choice.refuse_untested(findings, cell_type, contrast)
    matrix = statistic_matrix(findings, contrast, method, value, fill=None, symbols=symbols)
    return matrix.loc[cell_type].dropna().sort_values(ascending=False, kind="stable").rename(value)
