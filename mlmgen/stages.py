"""The stages prepare, pseudobulk and contrasts: files in, files out."""

import json
from collections.abc import Sequence

import numpy as np

from mlmgen import config, io
from mlmgen.errors import UserError, listing
from mlmgen.progress import say
from mlmgen.stages_fit import refuse_quadrature
from mlmgen.types import Contrast

REASONS_SHOWN = 3  # cell types named in a message


def prepare(
    input: str,
    output: Sequence[str],
    settings: dict,
    threads: int = 1,
    methods: Sequence[str] = (),
    contrasts: dict | None = None,
) -> None:
    """Split the input into one gene-major file per cell type.

    All checks come before the first file is written.

    Parameters
    ----------
    input : str
        The .h5ad with raw counts.
    output : sequence of str
        One file per selected cell type, in the order of `mlmgen.names.select`.
    settings : dict
        What ``mlmgen.config.stage(config, "prepare")`` holds; ``donor`` and ``formula`` are enough.
    threads : int
        Not used.
    methods : sequence of str
        The methods to come, for checks only: what is written does not depend on them.
    contrasts : dict, optional
        Settings of the stage contrasts, likewise for checks only.

    Raises
    ------
    UserError
        For a problem of the whole data set or of a contrast, or where no cell type is left.
    """
    from mlmgen import counts as matrices
    from mlmgen import formula as formulas
    from mlmgen import names
    from mlmgen import prepare as steps

    settings = _complete(settings, input)
    formula = formulas.parse(settings["formula"])
    present = io.cell_types(input, settings["cell_type"])
    selected = list(names.select(present, settings["cell_types"], settings["cell_type"]).values())
    if len(output) != len(selected):
        what = f"{len(output)} outputs for {len(selected)} cell types"
        raise UserError(what, "--output", f"Give one for each of {listing(selected, 30)}")
    obs, of_cell, plan, warnings = _checked_obs(input, settings, formula, selected, methods)
    X, genes, symbols = _checked_counts(input, settings)
    total = matrices.totals(X)
    empty = total == 0
    if empty.any() and not settings["size_factors"].startswith("obs/"):
        concerned = int((empty & (of_cell >= 0)).sum())
        of_cell = np.where(empty, -1, of_cell)
        warnings += [f"cells without a single count are left out: {concerned:,}"] * (concerned > 0)
    size = steps.size_factors(settings["size_factors"], obs, of_cell >= 0, X, total, plan)
    parts = _parts(obs, of_cell, selected, size, plan)
    if contrasts is not None:
        resolved({part.name: part.design for part in parts if part.design}, contrasts, methods)
    for warning in warnings:
        say(f"prepare: warning: {warning}")
    shared = {"settings": settings, "checksum": io.checksum(input), **_versions()}
    for path, part in zip(output, parts, strict=True):
        _write_cell_type(path, part, (X, genes, symbols), obs, size, shared | {"warnings": [*warnings, *part.warnings]})


def _complete(settings: dict, input: str) -> dict:
    """Check settings and fill in defaults, for a command typed by hand."""
    given = {key: value for key, value in settings.items() if key != "method_version"}
    return json.loads(config.stage(config.load(given | {"input": input}), "prepare"))


def _checked_obs(input: str, settings: dict, formula, selected: list[str], methods: Sequence[str]):
    """Read and check obs: the table of all cells, the cell type of each (-1 for none), the plan, warnings."""
    from mlmgen import prepare as steps

    obs = io.read_obs(input, steps.used_columns(settings, formula))
    remedy = "Call adata.obs_names_make_unique() and write the file again"
    steps.check_unique(np.asarray(obs.index), "cell", f"{input}, obs names", remedy)
    of_cell = steps.codes(obs, settings["cell_type"], selected, settings["cell_types"] == "all", input)
    plan, warnings = steps.plan(obs[of_cell >= 0], formula, settings, input, methods)
    return obs, of_cell, plan, [*warnings, *_origin_warnings(input, obs, of_cell >= 0, formula, plan)]


def _origin_warnings(input: str, obs, selected: np.ndarray, formula, plan) -> tuple[str, ...]:
    """Look at columns that no stage uses for what they say about the donors."""
    from mlmgen import design_origins
    from mlmgen import formula as formulas

    names = design_origins.origin_columns([name for name in io.obs_columns(input) if name not in obs.columns])
    table = obs.join(io.read_obs(input, dict.fromkeys(names, "obs")))[selected]
    factors = [name for name in formulas.fixed_variables(formula) if name in plan.reference]
    return design_origins.origin_warnings(table, plan.donor, factors, plan.sample)


def _checked_counts(input: str, settings: dict):
    """Read and check the counts: CSR int32, genes, symbols."""
    from mlmgen import counts as matrices
    from mlmgen import prepare as steps

    counts = settings["counts"]
    X, genes, symbols = io.read_matrix(input, counts, settings["gene_names"])
    where = f"{input}, {counts}"
    remedy = "Call adata.var_names_make_unique(), or use identifiers as names and set gene_names; write the file again"
    steps.check_unique(genes, "gene", where, remedy)
    X = matrices.whole_counts(X, where, lambda: io.alternatives(input, counts))
    say(f"prepare: {X.shape[0]:,} cells x {X.shape[1]:,} genes, {X.nnz:,} nonzero counts")
    return X, genes, symbols


def _parts(obs, of_cell: np.ndarray, selected: list[str], size: np.ndarray, plan) -> list:
    """Choose the cells and build the design of each cell type; raise where none can be analysed."""
    from mlmgen import prepare as steps

    rows = [np.flatnonzero(of_cell == i) for i in range(len(selected))]
    parts = [steps.cell_type(name, r, obs.iloc[r], size[r], plan) for name, r in zip(selected, rows, strict=True)]
    if all(part.skipped for part in parts):
        reasons = "; ".join(f"{part.name}: {part.skipped}" for part in parts[:REASONS_SHOWN])
        do = "Relax filters.min_cells_per_donor or filters.min_donors_per_arm, or simplify the formula"
        raise UserError(f"none of the {len(parts)} cell types can be analysed; {reasons}", plan.where, do)
    return parts


def _write_cell_type(path, part, matrix, obs, size, meta) -> None:
    import pandas as pd

    from mlmgen import counts as matrices
    from mlmgen import prepare as steps

    X, genes, symbols = matrix
    chosen = matrices.gene_major(X, part.rows)
    cells = obs.iloc[part.rows]
    donor = pd.factorize(cells[meta["settings"]["donor"]])[0]
    var = pd.DataFrame(matrices.gene_statistics(chosen, donor), index=pd.Index(genes, name="gene"))
    if symbols is not None:
        var.insert(0, "gene_name", symbols)
    numbers = {"cell_type": part.name, "n_cells": len(part.rows), "n_donors": part.n_donors, "skipped": part.skipped}
    table = steps.cell_table(cells, size[part.rows], part.design)
    io.write_prepared(path, chosen, table, var, part.design, meta | numbers)
    for warning in part.warnings:
        say(f"prepare: warning: {part.name}: {warning}")
    seen = f"{len(part.rows):,} cells, {part.n_donors:,} donors"
    say(f"prepare: warning: {part.name}: skipped: {part.skipped}" if part.skipped else f"prepare: {part.name}: {seen}")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from mlmgen import __version__

    return {"mlmgen": __version__, "anndata": version("anndata")}


def pseudobulk(prepared: Sequence[str], output: Sequence[str], settings: dict, threads: int = 1) -> None:
    """Sum the cells of each sample, one file per cell type.

    Parameters
    ----------
    prepared : sequence of str
    output : sequence of str
        In the same order.
    settings : dict
        Not used.
    threads : int
        Not used.
    """
    from mlmgen import design as designs
    from mlmgen import prepare as steps
    from mlmgen import pseudobulk as level
    from mlmgen.design_rank import why_not_samples

    for source, path in zip(prepared, output, strict=True):
        meta = io.read_meta(source)
        X, obs, var = io.read_prepared_cells(source)
        cells = None if meta["skipped"] else io.read_design(source)
        samples = None if cells is None else designs.for_samples(cells)
        if samples is not None:
            meta = {**meta, "skipped": why_not_samples(samples)}
        if meta["skipped"]:
            io.write_prepared(path, X[:0], obs.iloc[:0], var, None, meta)
            say(f"pseudobulk: {meta['cell_type']}: skipped: {meta['skipped']}")
            continue
        summed = level.aggregate(X, cells)
        io.write_prepared(path, summed, steps.sample_table(obs, cells, samples), var, samples, meta)
        say(f"pseudobulk: {meta['cell_type']}: {summed.shape[0]:,} samples of {meta['n_donors']:,} donors")


def contrasts(
    prepared: Sequence[str],
    output: str,
    settings: dict,
    threads: int = 1,
    methods: Sequence[str] = (),
    design: str | None = None,
) -> None:
    """Resolve the contrasts on the design of each cell type, and say what they can find there.

    A contrast that one cell type cannot estimate (a level is not there) is left out for it with a
    warning; one that none can is an error.

    Parameters
    ----------
    prepared : sequence of str
    output : str
        JSON: ``contrasts``, the names in order; ``cell_types``, for each the list of its contrasts with
        ``name``, ``expression`` and ``weights``; ``left_out``, for each the reason by name; ``design``, for each the
        list of `mlmgen.design_lint.Row`.
    settings : dict
        ``contrasts``: list of [name, expression or list of expressions], or None for every coefficient but the
        intercept. ``integration`` of the fits.
    threads : int
        Not used.
    methods : sequence of str
        As for `resolved`.
    design : str, optional
        The table of designs, without a suffix.
    """
    metas = {path: io.read_meta(path) for path in prepared}
    designs = {meta["cell_type"]: io.read_design(path) for path, meta in metas.items() if not meta["skipped"]}
    found = resolved(designs, settings, methods)
    for cell_type, reasons in found["left_out"].items():
        for name, reason in reasons.items():
            say(f"contrasts: warning: {cell_type}: {name} cannot be estimated: {reason}")
    sources = {meta["cell_type"]: path for path, meta in metas.items()}
    found["design"] = {
        name: _described(name, sources[name], one, found["cell_types"][name]) for name, one in designs.items()
    }
    if design is not None:
        _write_designs(design, found["design"], methods)
    io.write_json(output, found)
    say(f"contrasts: {listing(found['contrasts'])}")


def _described(cell_type: str, path: str, design, stored: list[dict]) -> list[dict]:
    """Describe the contrasts of a cell type, also in the log."""
    from mlmgen import design_lint

    contrasts = tuple(Contrast(c["name"], c["expression"], np.array(c["weights"], dtype=float)) for c in stored)
    mean = design_lint.typical_mean(io.read_gene_statistics(path), io.read_meta(path)["n_cells"])
    rows = design_lint.lint(cell_type, design, contrasts, mean)
    for row in rows:
        say(f"contrasts: {design_lint.line(row)}")
        if row.warning:
            say(f"contrasts: warning: {cell_type}: {row.warning}")
    return [row._asdict() for row in rows]


def _write_designs(path: str, rows: dict[str, list[dict]], methods: Sequence[str]) -> None:
    from mlmgen import tables

    io.write_table(path, tables.designs([row for of_one in rows.values() for row in of_one], methods))
    say(f"contrasts: {path}.parquet and .tsv.gz")


def resolved(designs: dict, settings: dict, methods: Sequence[str]) -> dict:
    """Resolve the contrasts on designs.

    Parameters
    ----------
    designs : dict of str to Design
        By cell type.
    settings : dict
        As for `contrasts`.
    methods : sequence of str
        Where ``glmm`` is among them, the designs of the cells must be ones that ``integration`` covers.

    Returns
    -------
    dict
        As `contrasts` writes it.

    Raises
    ------
    UserError
        For a contrast that no design can estimate, and for what quadrature cannot integrate.
    """
    chosen = settings.get("contrasts")
    chosen = dict(chosen) if chosen else None
    found, left_out, problems = {}, {}, {}
    for cell_type, design in designs.items():
        if "glmm" in methods:
            refuse_quadrature(design, settings.get("integration", "laplace"), f"cell type {cell_type}")
        found[cell_type], left_out[cell_type] = _resolved(chosen, design, problems)
    names = list(chosen or dict.fromkeys(contrast["name"] for of_one in found.values() for contrast in of_one))
    for name in names:
        if not any(contrast["name"] == name for of_one in found.values() for contrast in of_one):
            raise problems[name]
    for cell_type, of_one in found.items():
        absent = set(names) - {contrast["name"] for contrast in of_one} - set(left_out[cell_type])
        left_out[cell_type] |= {name: "it has no such coefficient" for name in names if name in absent}
    return {"contrasts": names, "cell_types": found, "left_out": left_out}


def _resolved(chosen: dict | None, design, problems: dict) -> tuple[list[dict], dict[str, str]]:
    """Resolve contrasts one by one; collect the errors."""
    from mlmgen import contrasts as algebra

    resolved, reasons = [], {}
    for one in [None] if chosen is None else [{name: text} for name, text in chosen.items()]:
        try:
            resolved += algebra.resolve(one, design)
        except UserError as error:
            if one is None:
                raise
            (name,) = one
            reasons[name] = error.what
            problems.setdefault(name, error)
    stored = [{"name": c.name, "expression": c.expression, "weights": c.weights.tolist()} for c in resolved]
    return stored, reasons
