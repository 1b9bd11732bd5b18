"""The command export: results as a file that other packages take."""

import os
from pathlib import Path

from mlmgen import io
from mlmgen.adapters import choice, matrix, ranked_genes, sums, tables
from mlmgen.errors import UserError, listing, nearest
from mlmgen.findings import Findings, read
from mlmgen.io.exports import TEXT
from mlmgen.progress import say

ANNDATA, PSEUDOBULK, MATRIX = "anndata", "pseudobulk", "matrix"
FORMATS = (*tables.FORMATS, ANNDATA, PSEUDOBULK, MATRIX)
H5AD = (".h5ad",)
# What of the choices a format does not have: it takes everything.
WITHOUT = {PSEUDOBULK: ("contrast", "method", "symbols"), ANNDATA: ("symbols",), MATRIX: ("cell_type",)}
INTO = "--into"


def export(
    results: str,
    to: str,
    output: str,
    cell_type: str | None = None,
    contrast: str | None = None,
    method: str | None = None,
    symbols: bool = False,
    into: str | None = None,
    threads: int = 1,
) -> None:
    """Write results as other packages take them.

    Parameters
    ----------
    results : str
        ``results/<name>``.
    to : str
        One of `FORMATS`: a table with the columns of `mlmgen.adapters.tables`, genes first; ``anndata`` as
        `mlmgen.adapters.to_anndata` without an AnnData of your own; ``pseudobulk``; or ``matrix``, genes x cell types:
        `mlmgen.adapters.statistic_matrix` transposed, since spreadsheets take more rows than columns.
    output : str
        The file to write, replaced at once or not at all: .tsv, .csv or one of them with .gz; .h5ad for the AnnData.
    cell_type, contrast, method : str, optional
        Of tables all where none is given, of methods ``glmm`` where the run has it; else the only one.
    symbols : bool
        Name genes by their symbols.
    into : str, optional
        For ``anndata``: the .h5ad with the cells, of which a copy with the results is written; it is read as a whole.
    threads : int
        Not used.

    Raises
    ------
    UserError
        For an unknown format, a choice that the format or the run does not have, a suffix that does not fit, and an
        output that holds the data or is of the run.
    """
    choice.allowed_name(to, FORMATS, "--to")
    given = {"cell_type": cell_type, "contrast": contrast, "method": method, "symbols": symbols}
    for name in WITHOUT.get(to, ()):
        if given.pop(name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{to} does not go with {option}", option, f"Leave {option} out: {to} has all of them")
    if into is not None and to != ANNDATA:
        raise UserError(f"{to} does not go with {INTO}", INTO, f"Leave {INTO} out, or write --to {ANNDATA}")
    _check_suffix(output, H5AD if to in (ANNDATA, PSEUDOBULK) else tuple(TEXT))
    findings = read(results)
    _check_place(findings, output, into)
    if to in (ANNDATA, PSEUDOBULK):
        if to == PSEUDOBULK:
            made = sums.pseudobulk(findings, **given)
        else:
            cells = None if into is None else io.read_anndata(into)
            made = ranked_genes.to_anndata(findings, cells, **given)
        io.write_anndata(output, made)
        rows = "samples" if into is None else "cells"
        say(f"export: {output}: {made.n_obs:,} {rows} x {made.n_vars:,} genes")
        return
    table, index = _table(findings, to, given)
    io.write_export(output, table, index)
    say(f"export: {output}: {len(table):,} rows")


def _table(findings: Findings, to: str, given: dict):
    """Return a table and the header of its index, None where the index says nothing."""
    if to == MATRIX:
        return matrix.statistic_matrix(findings, **given).T, "gene"
    table = tables.FORMATS[to](findings, **given)
    return table, None if {"gene", "variable"} & set(table.columns) else "gene"


def _check_place(findings: Findings, output: str, into: str | None) -> None:
    """Refuse to overwrite the data, or a table of the run."""
    data, folder = Path(findings.provenance["input"]["path"]), findings.folder
    taken = {
        f"the file of {INTO}": [into or ""],
        "the data that the run has read": [data, folder.resolve().parent.parent / data],
        "a table of the run": [folder / name for name in findings.provenance["files"]],
    }
    for what, places in taken.items():
        if os.path.exists(output) and any(os.path.samefile(one, output) for one in places if os.path.exists(one)):
            raise UserError(f"this would overwrite {what}", f"--output {output}", "Give another name")


def _check_suffix(output: str, allowed: tuple[str, ...]) -> None:
    name = Path(output).name
    if not any(name.endswith(suffix) and name != suffix for suffix in allowed):
        suffix = "".join(Path(name).suffixes[-2:])
        raise UserError(
            f"the file name ends in {suffix or 'no suffix'}, which does not fit the format",
            f"--output {output}",
            f"{nearest(suffix, allowed)}Use {listing(allowed)}",
        )
