"""The counts of all samples in one AnnData, as decoupler makes them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlmgen.adapters import choice
from mlmgen.adapters import samples as of_samples
from mlmgen.adapters.samples import Samples
from mlmgen.findings import Findings
from mlmgen.obs_columns import natural_key

if TYPE_CHECKING:
    import anndata

CELL_TYPE = "cell_type"  # the column where the configuration names none
SAMPLE, OWN_SAMPLE = "sample", "mlmgen_sample"  # the latter where the input has a column of that name
OF_FIT = ("pattern", "n_cells")  # columns of the files that say nothing here, or have another name
RUN = "mlmgen_run"  # in uns
CELLS, COUNTS, SHARES = "psbulk_cells", "psbulk_counts", "psbulk_props"


def pseudobulk(findings: Findings, cell_type: str | None = None) -> "anndata.AnnData":
    """Return the sums of counts per sample and cell type, with the names of ``decoupler.pp.pseudobulk``.

    ``dc.pp.filter_samples``, ``dc.pp.filter_by_expr``, ``dc.pl.filter_samples`` and the like take it as it is, and so
    does ``pydeseq2.dds.DeseqDataSet(adata=..., design=...)`` with the rows of one cell type. It has the cells that were
    analysed, after the filters of donors; samples without cells of a cell type have no row.

    Parameters
    ----------
    findings : Findings
    cell_type : str, optional
        All that were fitted where none is given. It takes 16 bytes for each sample and gene.

    Returns
    -------
    AnnData
        ``X`` counts, float64, dense. ``layers["psbulk_props"]`` the share of the sample's cells with a count, 0 to 1.
        ``obs``, named ``<sample>_<cell type>``: the sample, the cell type, the donor and the formula's variables that
        are constant in samples, by the names of the input, of factors the reference level first; ``size_factor``;
        ``psbulk_cells`` and ``psbulk_counts``. ``var`` has ``gene_name`` where there are symbols.

    Raises
    ------
    UserError
        Where there is no such cell type, or its counts are missing.
    """
    import anndata

    of_types = choice.cell_types(findings, cell_type)
    found = {name: of_samples.sums(findings, name) for name in of_types}
    first = found[of_types[0]]
    counts = np.concatenate([one.counts.toarray().astype(np.float64) for one in found.values()])
    shares = np.concatenate([of_samples.shares_of_samples(findings, name) for name in of_types])
    obs = _obs(findings, found)
    obs[COUNTS] = counts.sum(axis=1)
    var = first.var[[name for name in ("gene_name",) if name in first.var]]
    says = {"run": findings.provenance["run"], "formula": findings.provenance["formula"]}
    made = anndata.AnnData(counts, obs=obs, var=var, layers={SHARES: shares}, uns={RUN: says})
    if not made.obs_names.is_unique:
        made.obs_names_make_unique()
    return made


def _obs(findings: Findings, found: dict[str, Samples]) -> pd.DataFrame:
    """Join what is known of the samples of each cell type; columns that not all have are left out."""
    name_of_type = type_column(findings)
    parts = []
    for cell_type, samples in found.items():
        part = samples.obs.drop(columns=[name for name in OF_FIT if name in samples.obs])
        part[CELLS] = samples.obs["n_cells"].astype(np.float64)
        parts.append(part.assign(**{name_of_type: cell_type}))
    common = [name for name in parts[0] if all(name in part for part in parts)]
    sample = OWN_SAMPLE if OWN_SAMPLE in common else SAMPLE
    front = [sample, name_of_type, findings.config["prepare"]["donor"]]
    columns = [*front, *(name for name in common if name not in (*front, CELLS)), CELLS]
    reference = findings.provenance["cell_types"][next(iter(found))]["reference"]
    joined = pd.concat([part[columns].astype(_plain(part[columns])) for part in parts])
    for name in columns:
        if not pd.api.types.is_numeric_dtype(joined[name]):
            levels = (
                list(found) if name == name_of_type else _levels((part[name] for part in parts), reference.get(name))
            )
            joined[name] = pd.Categorical(joined[name], categories=levels)
    rows = zip(joined[sample], joined[name_of_type], strict=True)
    joined.index = pd.Index([row_name(*row) for row in rows], dtype=object)
    return joined


def row_name(sample: str, cell_type: str) -> str:
    """Return what decoupler calls a row."""
    return f"{sample}_{cell_type}"


def type_column(findings: Findings) -> str:
    """Return the column of obs with the cell types; `CELL_TYPE` where the run has none."""
    return findings.config["prepare"]["cell_type"] or CELL_TYPE


def _plain(table: pd.DataFrame) -> dict[str, type]:
    return {name: object for name, dtype in table.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}


def _levels(parts: Iterable[pd.Series], reference: str | None) -> list:
    """Return the levels that a factor has in any cell type, the reference level first, D2 before D10."""
    seen = {str(level) for part in parts for level in part.dropna().unique()}
    return sorted(seen, key=lambda level: (level != reference, natural_key(level)))
