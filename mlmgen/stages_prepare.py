"""The stages split, size-factors and prepare: files in, files out, in bounded memory."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from mlmgen import config, io, provenance, splitting
from mlmgen.errors import UserError, listing
from mlmgen.io import runs
from mlmgen.progress import say

MEMORY = 2000  # MB, of a command typed by hand
MERGED_BYTES = 48  # a value while runs are merged


def split(input: str, output: Sequence[str], cells: str, settings: dict, memory: int = MEMORY, threads: int = 1):
    """Read the input once, check the counts, and write each cell type's as runs.

    Parameters
    ----------
    input : str
        The .h5ad or zarr store with raw counts.
    output : sequence of str
        One file for each cell type that has cells, in the order of `mlmgen.io.cell_types`.
    cells : str
        The `mlmgen.io.runs.Cells` of the whole input.
    settings : dict
        What ``mlmgen.config.stage(config, "split")`` holds.
    memory : int
        MB that the job may take. What is written differs in how it is cut, not in what it says.
    threads : int
        Not used: a thread reads ahead while another sorts.

    Raises
    ------
    UserError
        For names that occur twice and for values that are not counts.
    """
    from mlmgen import prepare as steps
    from mlmgen import studies

    settings = _complete(settings, input, "split")
    counts, column = settings["counts"], settings["cell_type"]
    present = io.cell_types(input, column)
    if len(output) != len(present):
        what = f"{len(output)} outputs for {len(present)} cell types"
        raise UserError(what, "--output", f"Give one for each of {listing(present, 30)}")
    obs = io.read_obs(input, {column: "cell_type"} if column else {})
    remedy = "Call adata.obs_names_make_unique() and write the file again"
    steps.check_unique(np.asarray(obs.index), "cell", f"{input}, obs names", remedy)
    of_cell = steps.codes(obs, column, present, False, input)
    genes, symbols = _genes(input, settings)
    _say_size(input, counts, len(of_cell), len(genes))
    with ThreadPoolExecutor(1) as pool, runs.writing(output) as files:
        checksum = pool.submit(io.checksum, input)  # reads the file while the counts are read
        total = splitting.split(input, counts, of_cell, files, splitting.limits(memory, len(of_cell)))
        found = runs.Cells(
            tuple(genes), tuple(symbols), tuple(present), of_cell.astype(np.int32), total, checksum.result(),
            studies.digest(obs.index),
        )  # fmt: skip
        for file, name, n in zip(
            files, present, np.bincount(of_cell[of_cell >= 0], minlength=len(present)), strict=True
        ):
            runs.finish(file, name, int(n), len(genes), found.checksum)
    io.write_record(cells, found, {"settings": settings})
    say(f"split: {len(present):,} cell types, {total.sum():,.0f} counts in {int((of_cell >= 0).sum()):,} cells")


def _complete(settings: dict, input: str, stage: str) -> dict:
    """Check settings and fill in defaults, for a command typed by hand."""
    least = {"input": input, "donor": "donor", "formula": "~ 1"} if stage == "split" else {"input": input}
    given = {key: value for key, value in settings.items() if key not in ("method_version", provenance.EARLIER)}
    return json.loads(config.stage(config.load(least | given), stage))


def _cells(path: str, settings: dict) -> runs.Cells:
    """Read what split wrote of all cells; raise a UserError where it read other counts or names than this run."""
    everything, meta = io.read_record(path, runs.Cells)
    wanted = settings.get(provenance.EARLIER, {}).get("split")
    if wanted is not None:
        provenance.refuse([(path, provenance.differences({"split": wanted}, {"split": meta["settings"]}))])
    return everything


def _genes(input: str, settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """Read the names of the genes and their symbols, which may be none."""
    from mlmgen import prepare as steps

    genes, symbols = io.read_genes(input, settings["counts"], settings["gene_names"])
    remedy = "Call adata.var_names_make_unique(), or use identifiers as names and set gene_names; write the file again"
    steps.check_unique(genes, "gene", f"{input}, {settings['counts']}", remedy)
    return genes, np.empty(0, dtype=object) if symbols is None else symbols


def _say_size(input: str, counts: str, n_cells: int, n_genes: int) -> None:
    stored = io.stored_values(input, counts)
    values = "dense" if stored is None else f"{stored:,} stored values"
    say(f"split: {n_cells:,} cells x {n_genes:,} genes, {values}")


def size_factors(input: str, split: Sequence[str], cells: str, output: str, settings: dict, threads: int = 1) -> None:
    """Compute the TMM factor of each sample from the cells of all selected cell types together.

    Parameters
    ----------
    input : str
        The .h5ad or zarr store, for its obs.
    split : sequence of str
        Runs of the selected cell types.
    cells : str
        The `mlmgen.io.runs.Cells` of the input.
    output : str
        The `mlmgen.sizefactors.Factors`.
    settings : dict
        What ``mlmgen.config.stage(config, "prepare")`` holds, ``cell_types`` included.
    threads : int
        Not used.
    """
    from mlmgen import prepare as steps
    from mlmgen import pseudobulk, sizefactors, studies

    everything = _cells(cells, settings)
    settings = _complete(settings, input, "prepare")
    study = studies.read(input, settings, settings["cell_types"], cells=everything)
    selected = study.of_cell >= 0
    sample = steps.samples(study.obs[selected], study.plan)
    n_samples = sample.max(initial=-1) + 1
    of_cell = np.full(len(selected), n_samples)
    of_cell[selected] = sample
    sums = np.zeros((n_samples + 1, len(everything.genes)))
    for path in split:
        with _opened(path, cells, everything) as (open_runs, rows):
            for first, last in runs.gene_ranges(runs.values_per_gene(open_runs), splitting.MOST_VALUES):
                X = runs.merged(open_runs, (first, last), np.arange(open_runs.n_cells))
                sums[:, first:last] += pseudobulk.sums(X, of_cell[rows], len(sums)).toarray()
    factor = np.full(len(selected), np.nan)
    if n_samples:
        factor[selected] = sizefactors.tmm(sums[:-1])[sample]
    io.write_record(output, sizefactors.Factors(factor), {"settings": settings})
    say(f"size-factors: TMM factors of {n_samples:,} samples")


def prepare(
    input: str,
    split: str,
    cells: str,
    output: str,
    pseudobulk: str,
    settings: dict,
    cell_types: str | list[str] = "all",
    size_factors: str | None = None,
    memory: int = MEMORY,
    threads: int = 1,
) -> None:
    """Choose the cells of one cell type, build its design and write its counts, of cells and of samples.

    Parameters
    ----------
    input : str
        The .h5ad or zarr store, for its obs.
    split : str
        Runs of the cell type.
    cells : str
        The `mlmgen.io.runs.Cells` of the input.
    output, pseudobulk : str
        Gene-major files with the design: of the cells, and of their sums per sample.
    settings : dict
        What ``mlmgen.config.stage(config, "prepare")`` holds; ``donor`` and ``formula`` are enough.
    cell_types : "all" or list of str
        All that are analysed: together they decide what the reference levels are.
    size_factors : str, optional
        What the stage size-factors wrote, where they are ``tmm``.
    memory : int
        MB that the job may take.
    threads : int
        Not used.

    Raises
    ------
    UserError
        For a problem of the whole data set, or where the runs are of another input.
    """
    import pandas as pd

    from mlmgen import prepare as steps
    from mlmgen import sizefactors, studies

    everything = _cells(cells, settings)
    settings = _complete(settings, input, "prepare")
    study = studies.read(input, settings, cell_types, cells=everything)
    with _opened(split, cells, everything) as (open_runs, rows):
        chosen = rows[study.of_cell[rows] >= 0]
        obs = study.obs.iloc[chosen]
        factor = None if size_factors is None else io.read_record(size_factors, sizefactors.Factors)[0].factor[chosen]
        size = steps.size_factors(settings["size_factors"], obs, everything.total, chosen, factor)
        part = steps.cell_type(open_runs.cell_type, chosen, obs, size, study.plan)
        place = np.searchsorted(chosen, part.rows)
        table = steps.cell_table(obs.iloc[place], size[place], part.design)
        meta = {"settings": settings, "reference": study.plan.reference, "checksum": everything.checksum}
        ranges = runs.gene_ranges(
            runs.values_per_gene(open_runs), splitting.values_in(memory, MERGED_BYTES, len(study.of_cell))
        )
        order = np.searchsorted(rows, part.rows)
        merged = (runs.merged(open_runs, genes, order) for genes in ranges)
        donor = pd.factorize(obs.iloc[place][settings["donor"]])[0]
        _write(output, pseudobulk, merged, part, table, donor, everything, meta)
    for warning in part.warnings:
        say(f"prepare: warning: {part.name}: {warning}")
    seen = f"{len(part.rows):,} cells, {part.n_donors:,} donors"
    say(f"prepare: warning: {part.name}: skipped: {part.skipped}" if part.skipped else f"prepare: {part.name}: {seen}")


@contextmanager
def _opened(split: str, cells: str, everything: runs.Cells) -> Iterator[tuple[runs.Runs, np.ndarray]]:
    """Open runs and find their cells' rows in the input; refuse runs of another input."""
    with runs.reading(split) as open_runs:
        name = open_runs.cell_type
        rows = (
            np.flatnonzero(everything.cell_type == everything.cell_types.index(name))
            if (name in everything.cell_types)
            else np.empty(0, dtype=np.int64)
        )
        if open_runs.checksum != everything.checksum or open_runs.n_cells != len(rows):
            what = f"the runs of {name} and the table of cells are of different inputs"
            raise UserError(what, f"{split}, {cells}", "Delete both and run again")
        yield open_runs, rows


def _write(output: str, pseudobulk: str, merged, part, table, donor, everything: runs.Cells, meta: dict) -> None:
    """Write the cells of a cell type and, in the same pass over its genes, their sums per sample."""
    import pandas as pd
    from scipy import sparse

    from mlmgen import counts as matrices
    from mlmgen import design as designs
    from mlmgen import prepare as steps
    from mlmgen import pseudobulk as level
    from mlmgen.design_rank import why_not_samples

    samples = None if part.design is None else designs.for_samples(part.design)
    why_not = part.skipped if samples is None else why_not_samples(samples)
    statistics, sums = [], []

    def counted():
        for X in merged:
            statistics.append(matrices.gene_statistics(X, donor))
            if not why_not:
                sums.append(level.aggregate(X, part.design))
            yield X

    def var():
        joined = {name: np.concatenate([one[name] for one in statistics]) for name in statistics[0]}
        found = pd.DataFrame(joined, index=pd.Index(everything.genes, name="gene"))
        if everything.gene_names:
            found.insert(0, "gene_name", list(everything.gene_names))
        return found

    numbers = {"cell_type": part.name, "n_cells": len(part.rows), "n_donors": part.n_donors}
    meta = meta | _versions() | numbers | {"warnings": list(part.warnings)}
    io.write_prepared(output, counted(), table, var, part.design, meta | {"skipped": part.skipped})
    if why_not:
        of_samples, none = sparse.csc_matrix((0, len(everything.genes)), dtype=np.int32), table.iloc[:0]
        io.write_prepared(pseudobulk, [of_samples], none, var, None, meta | {"skipped": why_not})
        return
    of_samples = sparse.hstack(sums, format="csc")
    rows = steps.sample_table(table, part.design, samples)
    io.write_prepared(pseudobulk, [of_samples], rows, var, samples, meta | {"skipped": ""})


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from mlmgen import __version__

    return {"mlmgen": __version__, "anndata": version("anndata")}
