"""Where the raw counts are in a file and which column of var has gene symbols."""

import re
from typing import NamedTuple

import numpy as np

from mlmgen import io
from mlmgen.errors import UserError, listing

GENE_ID = re.compile(r"ENS[A-Z]*G?\d{6,}|FBgn\d+|WBGene\d+|NM_\d+|(?:[A-Z]+:)?\d+|MGI:\d+")
SYMBOL_COLUMNS = ("feature_name", "gene_symbol", "gene_symbols", "symbol", "symbols", "gene_name", "gene_names")
SYMBOL_COLUMNS += ("hgnc_symbol", "external_gene_name", "gene_short_name", "gene", "genes", "name", "feature")
LOOKED_AT = 500  # names of genes
# Of a source's name, the better first: X, then what is called counts.
PREFERRED = (r"X", r"layers/.*(count|raw|umi).*", r"raw", r".*")


class Source(NamedTuple):
    """Where something is, and why: ``value`` as the configuration has it, None for its default."""

    value: str | None
    why: str


def counts(path: str) -> Source:
    """Find the matrix of raw counts.

    Raises
    ------
    UserError
        Where no matrix has whole numbers.
    """
    found = io.alternatives(path, "")
    if not found:
        present = io.matrices(path)
        n_cells, n_genes = io.shape(path, present[0]) if present else (1, 1)
        if not n_cells or not n_genes:
            what = f"the file has {n_cells:,} cells and {n_genes:,} genes: there is nothing to analyse"
            raise UserError(
                what, path, "Give the file with the raw counts of all donors; a filter may have left nothing"
            )
        what = f"no matrix has raw counts: {listing(present) or 'there is none'}; each has fractions or negative values"
        do = "Save the counts before normalization, adata.layers['counts'] = adata.X.copy(), and write the file again"
        raise UserError(what, path, do)
    ranked = sorted(found, key=lambda name: next(i for i, p in enumerate(PREFERRED) if re.fullmatch(p, name, re.I)))
    others = [name for name in io.matrices(path) if name not in found]
    why = f"{ranked[0]} has whole numbers" + (f", {listing(others)} has not" if others else "")
    return Source(ranked[0], why + (f"; {listing(ranked[1:])} would do as well" if ranked[1:] else ""))


def gene_names(path: str, where: str) -> Source:
    """Find the column of var with gene symbols, where the index has none.

    Parameters
    ----------
    path : str
    where : str
        The counts, as the configuration names them.
    """
    names = io.read_genes(path, where, None)[0]
    shown = listing(names[:3])
    if not _are_ids(names):
        return Source(None, f"the index of var has symbols: {shown}")
    columns = io.var_columns(path, where)
    known = {re.sub(r"[^a-z]", "", column.lower()): column for column in columns}
    for wanted in SYMBOL_COLUMNS:
        column = known.get(re.sub(r"[^a-z]", "", wanted))
        if column is None:
            continue
        symbols = io.read_genes(path, where, f"var/{column}")[1]
        if not _are_ids(symbols):
            return Source(f"var/{column}", f"the index of var has ids ({shown}), this column symbols")
    return Source(None, f"the index of var has ids ({shown}), and no column has symbols")


def _are_ids(names: np.ndarray) -> bool:
    some = [str(name) for name in names[:: max(1, len(names) // LOOKED_AT)]]
    return sum(bool(GENE_ID.match(name)) for name in some) * 2 > len(some)
