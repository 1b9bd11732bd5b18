"""Which rows of which table a figure shows."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from mlmgen import findings as results
from mlmgen.errors import UserError, listing, nearest
from mlmgen.findings import Findings

Source = Findings | pd.DataFrame | str | os.PathLike
# What one chooses by: column of the tables, word, where it is given.
WORDS = {
    "cell_type": ("cell type", "cell_type, --cell-type"),
    "contrast": ("contrast", "contrast, --contrast"),
    "method": ("method", "method, --method"),
    "component": ("component", "component, --component"),
    "term": ("term", "term, --term"),
    "effect": ("effect", "effect, --effect"),
    "by": ("variable of the samples", "by, --by"),
}
OF_FAMILY = {"bernoulli": "log2 odds ratio", "gaussian": "difference, log2 of (1 + scaled count)"}
NAME = re.compile(r"[A-Za-z_]\w*")
FOLD_CHANGE = "log2 fold change"


class Chosen(NamedTuple):
    """Rows of a table, and what they are of.

    Attributes
    ----------
    rows : DataFrame
    cell_type, contrast, method : str
        ``""`` for what the table does not tell apart.
    effect : str
        What ``log2fc`` is, for the label of an axis.
    findings : Findings or None
        None for a table.
    """

    rows: pd.DataFrame
    cell_type: str
    contrast: str
    method: str
    effect: str
    findings: Findings | None


def opened_results(source: Source) -> Findings:
    """Return the results of a run, given them or their folder."""
    if isinstance(source, pd.DataFrame):
        what = f"this figure needs the results of a run, not a table of {len(source):,} rows"
        raise UserError(what, "the first argument", "Give the folder results/<name>, or mlmgen.read of it")
    return source if isinstance(source, Findings) else results.read(source)


def chosen(source: Source, table: str, **wanted: str | None) -> Chosen:
    """Choose the rows of one cell type, contrast and method.

    Parameters
    ----------
    source : Findings, path-like or DataFrame
        A run, or a table with the columns of ``table``.
    table : str
        As in `mlmgen.columns.TABLES`.
    **wanted : str or None
        ``cell_type``, ``contrast``, ``method``: those that the table tells apart. None chooses the only one there is,
        and of both methods the cells'.

    Raises
    ------
    UserError
        For one that is not there, or where several are and none was asked for.
    """
    found = None if isinstance(source, pd.DataFrame) else opened_results(source)
    rows = source if found is None else table_of(found, table)
    here = {}
    for name, one in wanted.items():
        here[name] = choice(name, one, there(found, rows, name), found)
        if name in rows.columns:
            rows = rows[(rows[name] == here[name]).to_numpy()]
    return Chosen(
        rows,
        *(here.get(name, "") for name in ("cell_type", "contrast", "method")),
        effect_word(found, here.get("method", ""), here.get("contrast", "")),
        found,
    )


def table_of(found: Findings, name: str) -> pd.DataFrame:
    """Return a table of a run; a UserError where this run has none."""
    rows = getattr(found, name)
    if rows is None:
        do = {"concordance": "Run with both methods: glmm and pseudobulk"}.get(name, "See the key of the configuration")
        raise UserError(f"the run has no table {name}", str(found.folder), do)
    return rows


def there(found: Findings | None, rows: pd.DataFrame, name: str) -> tuple[str, ...]:
    """Return the cell types, contrasts or methods there are; one, ``""``, where the table does not tell."""
    if found is not None and name in ("cell_type", "contrast", "method"):
        return getattr(found, f"{name}s")
    return tuple(rows[name].astype(object).drop_duplicates()) if name in rows.columns else ("",)


def choice(name: str, wanted: str | None, present: Sequence[str], found: Findings | None = None) -> str:
    """Return what was asked for, or the only one there is; of both methods the cells' where none was asked for."""
    if name == "method" and wanted is None and "glmm" in present:
        return "glmm"
    if name == "cell_type" and found is not None and wanted in found.skipped:
        why = f"{wanted} was not fitted: {found.skipped[wanted]}"
        raise UserError(why, WORDS[name][1], f"Choose one of: {listing(present, 60)}")
    return results.choose(wanted, tuple(present), *WORDS[name])


def effect_word(found: Findings | None, method: str, contrast: str = "") -> str:
    """Say what ``log2fc`` is, of a slope per unit of which variable."""
    if found is None:
        return FOLD_CHANGE
    word = OF_FAMILY.get(found.family, FOLD_CHANGE) if method == "glmm" else FOLD_CHANGE
    slope = next((name for name in _expressions(found, contrast) if NAME.fullmatch(name)), None)
    return word if slope is None else f"{word} per unit of {slope}"


def _expressions(found: Findings, contrast: str) -> list[str]:
    """Return what the configuration says of a contrast; a name alone is the slope of a number."""
    resolved = (one for rows in found.contrasts_json.get("cell_types", {}).values() for one in rows)
    return [
        one["expression"].strip() for one in resolved if one["name"] == contrast and isinstance(one["expression"], str)
    ]


def genes_among(rows: pd.DataFrame, names: Sequence[str], found: Findings | None) -> list[str]:
    """Return genes as named in the tables, given names or symbols; a UserError for one that is not there."""
    if found is not None:
        return [found.gene(name) for name in names]
    symbol = rows["gene_name"] if "gene_name" in rows.columns else rows["gene"]
    genes = []
    for name in names:
        same = rows["gene"][((rows["gene"] == name) | (symbol == name)).to_numpy()]
        if same.empty:
            do = f"{nearest(name, symbol)}The table has {len(rows):,} genes"
            raise UserError(f"there is no gene {name!r}", "the table", do)
        genes.append(same.iloc[0])
    return genes


def symbols(rows: pd.DataFrame) -> list[str]:
    """Return the names to write beside the points of rows."""
    return [str(name) for name in rows["gene_name" if "gene_name" in rows.columns else "gene"]]
