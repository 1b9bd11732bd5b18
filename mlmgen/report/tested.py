"""The tests of a run as arrays: the genes of every cell type, and their numbers by contrast and method."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen.fdr import LEVEL
from mlmgen.findings import Findings
from mlmgen.status import Status, label

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("log2fc", "lfc_se", "ci_low", "ci_high", "statistic", "pvalue", "padj")
STABLE = ("", "yes", "no", "not_estimable", "not_fitted")


class Test(NamedTuple):
    """One contrast by one method in one cell type; n genes as in the cell type, NaN for those that it did not test."""

    log2fc: np.ndarray
    lfc_se: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray
    padj: np.ndarray
    disagree: np.ndarray
    """Whether the other method disagrees, bool."""
    stable: np.ndarray
    """Place in `STABLE`, uint8."""

    @property
    def tested(self) -> np.ndarray:
        """Which genes were tested, (n,) bool."""
        return np.isfinite(self.pvalue)

    @property
    def called(self) -> np.ndarray:
        """Which genes were called, (n,) bool."""
        return self.padj < LEVEL

    @property
    def joint(self) -> bool:
        """Whether it is a joint test, without an effect of its own."""
        return not np.isfinite(self.log2fc).any()


class OfCellType(NamedTuple):
    """What was tested in a cell type.

    Attributes
    ----------
    t : int
        Its place among all cell types of the run.
    gene : (n,) int64
        Places of the genes that any method fitted, increasing.
    mean_count, pct_cells : (n,) float64
    status : (M, n) int8
        Of each method, a ``Status``.
    tests : dict of (int, int) to Test
        By places of contrast and method; without those that tested nothing.
    """

    t: int
    gene: np.ndarray
    mean_count: np.ndarray
    pct_cells: np.ndarray
    status: np.ndarray
    tests: dict[tuple[int, int], Test]


class Tested(NamedTuple):
    """What was tested in a run.

    Attributes
    ----------
    genes, symbols : list of str, length G
        In the order of the input; where no symbols are known they are the genes.
    cell_types : tuple of OfCellType
        Those with a fitted gene.
    """

    genes: list[str]
    symbols: list[str]
    cell_types: tuple[OfCellType, ...]


def read(findings: Findings) -> Tested:
    """Lay out the effects of a run as arrays.

    Parameters
    ----------
    findings : Findings
    """
    genes, symbols = _genes(findings.fits)
    places = _places(findings, findings.fits, genes)
    status = _status(findings, places, len(genes))
    effects, concordance = _by_cell_type(findings, genes)
    found = []
    for t in range(len(findings.provenance["cell_types"])):
        gene = np.flatnonzero((status[t] != Status.FILTERED).any(axis=0))
        if len(gene):
            numbers = _numbers(effects.get(t), gene, len(genes))
            tests = _tests(findings, effects.get(t), concordance.get(t), gene, len(genes))
            found.append(OfCellType(t, gene, *numbers, status[t][:, gene], tests))
    return Tested(genes, symbols, tuple(found))


def _genes(fits: "pd.DataFrame") -> tuple[list[str], list[str]]:
    one = fits[["gene", "gene_name"]].drop_duplicates("gene")
    genes, symbols = one["gene"].astype(str).tolist(), one["gene_name"].astype(str).tolist()
    return genes, symbols


def _places(findings: Findings, table: "pd.DataFrame", genes: list[str]) -> dict[str, np.ndarray]:
    """Return the columns of a table that say which row it is, as places in the run's lists."""
    import pandas as pd

    lists = {
        "cell_type": list(findings.provenance["cell_types"]),
        "contrast": list(findings.contrasts),
        "method": list(findings.methods),
        "gene": genes,
    }
    return {
        name: pd.Categorical(table[name].astype(object) if name == "gene" else table[name], categories=known).codes
        for name, known in lists.items()
        if name in table
    }


def _status(findings: Findings, places: dict[str, np.ndarray], n_genes: int) -> np.ndarray:
    """Return how every fit ended, (cell types, methods, G) int8."""
    number = {label(one): int(one) for one in Status}
    shape = (len(findings.provenance["cell_types"]), len(findings.methods), n_genes)
    status = np.full(shape, Status.FILTERED, dtype=np.int8)
    values = findings.fits["status"].astype(object).map(number).to_numpy(dtype=np.int8)
    status[places["cell_type"], places["method"], places["gene"]] = values
    return status


class _Rows(NamedTuple):
    """The rows of a table that belong to a cell type, with their places."""

    table: "pd.DataFrame"
    places: dict[str, np.ndarray]


def _by_cell_type(findings: Findings, genes: list[str]) -> tuple[dict[int, _Rows], dict[int, _Rows]]:
    """Split the tables of effects and of what both methods say by cell type."""
    effects = findings.effects
    tables = [effects[effects["pvalue"].notna().to_numpy()]]
    beside = findings.concordance if findings.concordance is not None else findings.stability
    tables += [] if beside is None else [beside]
    found = [_split(findings, table, genes) for table in tables]
    return found[0], found[1] if len(found) > 1 else {}


def _split(findings: Findings, table: "pd.DataFrame", genes: list[str]) -> dict[int, _Rows]:
    places = _places(findings, table, genes)
    order = np.argsort(places["cell_type"], kind="stable")
    bounds = np.searchsorted(places["cell_type"][order], np.arange(len(findings.provenance["cell_types"]) + 1))
    rows = (order[bounds[t] : bounds[t + 1]] for t in range(len(bounds) - 1))
    return {
        t: _Rows(table.iloc[part], {name: codes[part] for name, codes in places.items()})
        for t, part in enumerate(rows)
        if len(part)
    }


def _numbers(effects: _Rows | None, gene: np.ndarray, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean count and share of cells of the genes of a cell type."""
    found = []
    for name in ("mean_count", "pct_cells"):
        values = np.zeros(n_genes)
        if effects is not None:
            values[effects.places["gene"]] = effects.table[name].to_numpy()
        found.append(values[gene])
    return tuple(found)


def _tests(findings: Findings, effects: _Rows | None, beside: _Rows | None, gene: np.ndarray, n_genes: int) -> dict:
    """Return the tests of a cell type by contrast and method."""
    if effects is None:
        return {}
    found, columns = {}, {name: effects.table[name].to_numpy(dtype=np.float64) for name in NUMBERS}
    for c in range(len(findings.contrasts)):
        for m, method in enumerate(findings.methods):
            own = (effects.places["contrast"] == c) & (effects.places["method"] == m)
            if own.any():
                values = [_spread(columns[name][own], effects.places["gene"][own], n_genes)[gene] for name in NUMBERS]
                said = _said(beside, c, method, n_genes)
                found[c, m] = Test(*values, *(one[gene] for one in said))
    return found


def _spread(values: np.ndarray, places: np.ndarray, n: int) -> np.ndarray:
    found = np.full(n, np.nan)
    found[places] = values
    return found


def _said(beside: _Rows | None, c: int, method: str, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where methods disagree and which calls are stable, of all genes."""
    disagree, stable = np.zeros(n_genes, dtype=bool), np.zeros(n_genes, dtype=np.uint8)
    if beside is None:
        return disagree, stable
    own = beside.places["contrast"] == c
    if "method" in beside.table:
        own = own & (beside.table["method"] == method).to_numpy()
    rows, gene = beside.table[own], beside.places["gene"][own]
    if "disagree" in rows:
        disagree[gene] = (rows["disagree"] == "yes").to_numpy()
    name = "stable" if "stable" in rows else f"stable_{method}"
    if name in rows:
        codes = rows[name].astype(object).map({text: i for i, text in enumerate(STABLE)}).fillna(0)
        stable[gene] = codes.to_numpy(dtype=np.uint8)
    return disagree, stable
