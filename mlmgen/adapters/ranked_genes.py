"""Results in an AnnData as scanpy writes those of ``rank_genes_groups``."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlmgen import io, names
from mlmgen.adapters import choice, sums
from mlmgen.adapters import samples as of_samples
from mlmgen.errors import UserError, listing
from mlmgen.findings import Findings

if TYPE_CHECKING:
    import anndata

# scanpy's name of each field, and the column of `effects`.
FIELDS = {"scores": "statistic", "logfoldchanges": "log2fc", "pvals": "pvalue", "pvals_adj": "padj"}
FILLED = ("scores", "logfoldchanges")
COUNTS = "counts"  # the layer
PCS = 50  # scanpy's dendrograms want so many components, which fewer rows do not have unless they are there
DEPTH = 1e4  # counts per cell, as of scanpy's usual normalization


def to_anndata(
    findings: Findings,
    adata: "anndata.AnnData | None" = None,
    method: str | None = None,
    key: str = "mlmgen",
    contrast: str | None = None,
    cell_type: str | None = None,
    fill: float | None = 0.0,
) -> "anndata.AnnData":
    """Write effects into an AnnData, where scanpy's functions for ``rank_genes_groups`` find them.

    ``sc.get.rank_genes_groups_df(adata, group, key=key)`` and ``sc.pl.rank_genes_groups*(adata, key=key)`` work
    afterwards, also on a file written and read again. The groups are the cell types, for one contrast; or, where a
    `cell_type` is given and no `contrast`, the contrasts in it.

    All genes of `adata` are in every group: by falling ``scores`` (the `statistic`), then those that were not tested.
    These have missing ``pvals`` and ``pvals_adj``, and `fill` for ``scores`` and ``logfoldchanges``: scanpy's dot and
    matrix plots would draw a missing fold change as 1.

    Parameters
    ----------
    findings : Findings
    adata : AnnData, optional
        The cells, with their genes named as in the input of the run; it is changed in place. Where none is given, one
        is made of the samples (see `mlmgen.adapters.pseudobulk`): ``X`` is log1p of the counts per 10,000, the counts
        are ``layers["counts"]``. Dots of a dot plot then show the share of samples, not of cells.
    method : str or None
        ``glmm`` or ``pseudobulk``; None takes ``glmm`` where the run has it.
    key : str
        In ``adata.uns``.
    contrast, cell_type : str, optional
        Of one of them all where the other is given; the only contrast where neither is. With both, one group.
    fill : float or None
        See above; None leaves them missing.

    Returns
    -------
    AnnData
        With ``uns[key]``: ``params`` (``reference`` is what the groups share, the contrast or the cell type) and the
        record arrays ``names``, ``scores``, ``logfoldchanges``, ``pvals``, ``pvals_adj``, float64.
        ``params["groupby"]`` is the column of the cell types if its categories are the groups; else ``<key>_group`` is
        added to ``obs``, for contrasts with the rows on their first side, those of several shared out between them.

    Raises
    ------
    UserError
        Where there is no such method, contrast or cell type, or `adata` has none of the genes or cells.
    """
    method = choice.one_method(findings, method)
    groups, shared = _groups(findings, contrast, cell_type)
    adata = _of_samples(findings) if adata is None else adata
    known = choice.genes(findings).index.intersection(adata.var_names)
    if known.empty:
        what = f"none of the {adata.n_vars:,} genes of the AnnData has results, such as {listing(adata.var_names, 3)}"
        do = f"Name them as in the input of the run, such as {listing(choice.genes(findings).index, 3)}"
        raise UserError(what, "adata.var_names", do)
    if not adata.var_names.is_unique:
        raise UserError("genes of the AnnData have the same name", "adata.var_names", "adata.var_names_make_unique()")
    tables = {}
    for name, (of_type, of_contrast) in groups.items():
        effects = choice.effects(choice.of_type(findings, of_type), of_contrast, method)
        tables[name] = _sorted(effects, adata.var_names, fill)
    params = {
        "groupby": _groupby(findings, adata, groups, key),
        "reference": shared,
        "method": method,
        "use_raw": False,
        "layer": None,
        "corr_method": f"{'weighted ' * (findings.config['tables']['fdr'] == 'weighted')}benjamini-hochberg",
    }
    records = {field: _records({name: table[field] for name, table in tables.items()}) for field in ("names", *FIELDS)}
    adata.uns[key] = {"params": params, **records}
    return adata


def _groups(findings: Findings, contrast: str | None, cell_type: str | None) -> tuple[dict[str, tuple[str, str]], str]:
    """Return the cell type and contrast of each group, and the name of what they share."""
    if cell_type is not None and contrast is None:
        cell_type = choice.one_cell_type(findings, cell_type)
        return {name: (cell_type, name) for name in choice.contrasts_in(findings, cell_type)}, cell_type
    contrast = choice.one_contrast(findings, contrast)
    if cell_type is not None:
        cell_type = choice.one_cell_type(findings, cell_type)
        choice.refuse_untested(findings, cell_type, contrast)
        return {cell_type: (cell_type, contrast)}, contrast
    tested = [name for name in findings.cell_types if choice.tested(findings, name, contrast)]
    return {name: (name, contrast) for name in tested}, contrast


def _sorted(effects: pd.DataFrame, genes: pd.Index, fill: float | None) -> pd.DataFrame:
    """Return the fields of one group: every gene of the AnnData, by falling scores, those not tested last."""
    table = effects[list(FIELDS.values())].set_axis(list(FIELDS), axis=1).reindex(genes)
    table = table.iloc[np.lexsort((np.arange(len(table)), -table["scores"].fillna(-np.inf), table["pvals"].isna()))]
    if fill is not None:
        table = table.fillna(dict.fromkeys(FILLED, fill))
    return table.assign(names=table.index.to_numpy(dtype=object))


def _records(columns: dict[str, pd.Series]) -> np.recarray:
    """Return a record array with a field for each group, of text or float64."""
    arrays = [column.to_numpy() for column in columns.values()]
    kind = [(name, array.dtype) for name, array in zip(columns, arrays, strict=True)]
    return np.rec.fromarrays(arrays, dtype=kind)


def _of_samples(findings: Findings) -> "anndata.AnnData":
    """Make an AnnData of the samples, with log-normalized counts."""
    made = sums.pseudobulk(findings)
    factor = made.obs["size_factor"].to_numpy()
    made.layers[COUNTS] = made.X
    library = factor * made.X.sum() / factor.sum()
    made.X = np.log1p(made.X / library[:, None] * DEPTH)
    made.uns["log1p"] = {"base": None}
    if made.n_obs <= PCS < made.n_vars:
        made.obsm["X_pca"] = _principal_components(made.X)
    return made


def _principal_components(X: np.ndarray) -> np.ndarray:
    """Return the scores of the n rows on the components that their differences span, (n, n - 1)."""
    left, sizes, loadings = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    largest = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=1)[:, None], axis=1)[:, 0]
    scores = left * sizes * np.where(largest < 0.0, -1.0, 1.0)  # or the signs are arbitrary
    return scores[:, : len(X) - 1]


def _groupby(findings: Findings, adata: "anndata.AnnData", groups: dict[str, tuple[str, str]], key: str) -> str:
    """Return the column of obs that has the groups as its categories, added where there is none."""
    column, of_types = sums.type_column(findings), all(name == group[0] for name, group in groups.items())
    codes = np.full(adata.n_obs, -1)
    if of_types and column in adata.obs:
        label = adata.obs[column]
        if isinstance(label.dtype, pd.CategoricalDtype) and set(label.cat.categories) == set(groups):
            return column
        codes = pd.Index(groups).get_indexer([names.text(value) for value in label])
    if (codes < 0).all():
        pairs = [(cell_type, None if of_types else contrast) for cell_type, contrast in groups.values()]
        codes = _in_turn(np.stack([_members(findings, adata, *pair) for pair in pairs], axis=1))
    if (codes < 0).all():
        what = f"no row of the AnnData belongs to a cell type with results, which are {listing(findings.cell_types)}"
        do = f"Give it a column {column} with these names, or the cells of the run by the names they have in its input"
        raise UserError(what, "adata.obs", do)
    adata.obs[f"{key}_group"] = pd.Categorical.from_codes(codes, categories=list(groups))
    return f"{key}_group"


def _members(findings: Findings, adata: "anndata.AnnData", cell_type: str, contrast: str | None) -> np.ndarray:
    """Tell which rows are of a cell type and, given a contrast, of its first side; (n,) bool.

    Rows are known by their names: cells as in the input, samples as in `mlmgen.adapters.pseudobulk`.
    """
    path = of_samples.counts_file(findings, "prepared", cell_type)
    design = io.read_design(path)
    compared = None if contrast is None else of_samples.sides(findings, cell_type, contrast, design)
    first = np.ones(len(design.X), dtype=bool) if compared is None else compared[0]
    _, cells, _ = io.read_prepared_cells(path, np.empty(0, dtype=np.int64))
    levels = (design.sample.levels[code] for code in np.unique(design.sample.codes[first]))
    of_sample = adata.obs_names.isin([sums.row_name(level, cell_type) for level in levels])
    return of_sample | adata.obs_names.isin(cells.index[first[design.pattern]])


def _in_turn(members: np.ndarray) -> np.ndarray:
    """Return one group of each row, (n,) int, -1 for none: rows of the same several groups go to each in turn.

    scanpy's plots fail for a group without rows, as it would be where two contrasts have one side in common.
    """
    codes = np.full(len(members), -1)
    for kind in np.unique(members, axis=0):
        rows, own = np.flatnonzero((members == kind).all(axis=1)), np.flatnonzero(kind)
        if own.size:
            codes[rows] = own[np.arange(len(rows)) % own.size]
    return codes
