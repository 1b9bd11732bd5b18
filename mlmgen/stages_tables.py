"""The stage tables and the demo data: files in, files out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlmgen import filters, io, provenance
from mlmgen.errors import UserError
from mlmgen.gathered import Gathered, gather
from mlmgen.progress import say
from mlmgen.stages_fit import always_detected, join_tests, options_of, read_contrasts
from mlmgen.types import Design

PROVENANCE = "provenance.json"  # written last: with it the tables are complete
SUFFIXES = (".parquet", ".tsv.gz")
ALWAYS_DETECTED = "counts in every cell: detection (family bernoulli) does not vary"


def tables(
    prepared: list[str],
    contrasts: str,
    input: str | None,
    methods: list[str],
    shards: list[int],
    results: str,
    settings: dict,
    threads: int,
) -> None:
    """Write the tables, each as parquet and tsv.gz, and ``summary.txt``.

    Parameters
    ----------
    prepared : list of str
        One file per cell type; the file's stem names the cell type's folders.
    contrasts : str
        ``contrasts.json``.
    input : str, optional
        The .h5ad of the run: where it carries simulated truth, the summary compares with it.
    methods : list of str
    shards : list of int
        Of each method in the first cell type, then in the second, and so on.
    results : str
        The run's folder: ``fits/``, ``moderated/`` and ``tests/`` are read, tables written beside them.
    settings : dict
        ``name`` of the run; ``fdr``, ``bh`` or ``weighted``; ``stability``, whether donors were left out, which is read
        from ``stability/``; ``audit``, whether there are audits to report, which are read from ``audit/``.
    threads : int
    """
    from mlmgen import audit_tables, summary
    from mlmgen import tables as assemble

    folder, resolved = Path(results), io.read_json(contrasts)
    gathered = gather(folder, prepared, methods, shards, settings)
    provenance.check_designs(contrasts, resolved.get("made_from", {}), list(gathered.sources.values()), settings)
    found = [
        read_results(gathered, path, method, resolved["left_out"], resolved["design"])
        for path in prepared
        for method in methods
    ]
    made = {
        "effects": assemble.effects(found, resolved["contrasts"], settings.get("fdr") == "weighted"),
        "coefficients": assemble.coefficients(found),
        "variances": assemble.variances(found),
        "priors": assemble.priors(found),
        "fits": assemble.fits(found),
    }
    made |= compared(gathered, methods, found, made["effects"], settings)
    audits = audited_results(gathered) if settings.get("audit") else None
    if audits is not None:
        made |= {"audit": audit_tables.audit(audits), "audit_qq": audit_tables.audit_qq(audits)}
    overviews = [overview(path, contrasts, input) for path in prepared]
    audited = audit_tables.words(made["audit"]) if audits is not None else ""
    weighted = settings.get("fdr") == "weighted"
    text = summary.text(settings["name"], overviews, made["effects"], made["fits"], audited, weighted)
    write_results(folder, made, text, origin(gathered, methods, settings))


def origin(gathered: Gathered, methods: list[str], settings: dict) -> dict:
    """Say where the tables come from, with a warning where versions are mixed."""
    for name, seen in provenance.mixed_versions(gathered.metas).items():
        if "," in seen:
            say(f"tables: warning: made with {name} {seen}: the last digits may differ between shards")
    known = provenance.completed(settings, gathered.metas)
    return provenance.of_results(list(gathered.sources.values()), gathered.metas, methods, known)


def write_results(folder: Path, tables: dict, text: str, made_from: dict) -> None:
    """Write tables and summary at once, and at the end ``provenance.json`` with the checksum of each file.

    Parameters
    ----------
    folder : Path
    tables : dict of str to DataFrame
    text : str
        The summary.
    made_from : dict
        From `origin`.
    """
    with io.together(folder, last=PROVENANCE) as temporary:
        for name, table in tables.items():
            io.write_table(temporary / name, table, made_from)
        io.write_text(temporary / "summary.txt", text)
        files = {path.name: {"sha256": io.checksum(path)} for path in sorted(temporary.iterdir())}
        for name, table in tables.items():
            for suffix in SUFFIXES:
                files[f"{name}{suffix}"]["rows"] = len(table)
        io.write_json(temporary / PROVENANCE, {**made_from, "files": files})
    delete_tables(folder, {"concordance", "stability", "audit", "audit_qq"} - tables.keys())
    for name, table in tables.items():
        say(f"tables: {folder / name}.parquet and .tsv.gz, {len(table):,} rows")


def compared(gathered: Gathered, methods: list[str], found: list, effects, settings: dict) -> dict:
    """Build the table of both methods or, of a run with one, that of its stability.

    Returns
    -------
    dict of str to DataFrame
        Empty for one method without stability.
    """
    from mlmgen import concordance

    steady = None
    if settings.get("stability"):
        left = {(one.meta["cell_type"], one.method): one.record for one in of_stage(gathered, "stability")}
        steady = concordance.stability(found, left, effects, settings.get("fdr") == "weighted")
    if len(methods) > 1:
        return {"concordance": concordance.concordance(found, effects, steady)}
    return {} if steady is None else {"stability": steady}


def delete_tables(folder: Path, names: set[str]) -> None:
    """Delete tables that an earlier run of the same name wrote and this one does not."""
    for path in (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES):
        path.unlink(missing_ok=True)


class OfCellType(NamedTuple):
    """The record of a cell type and method, of a stage without shards."""

    meta: dict
    """Of the prepared file."""
    method: str
    record: object


def of_stage(gathered: Gathered, stage: str) -> list[OfCellType]:
    """Return the records of a stage without shards, in order."""
    return [
        OfCellType(gathered.sources[path].meta, method, record)
        for (name, path, method), (record, *_) in gathered.records.items()
        if name == stage
    ]


def audited_results(gathered: Gathered) -> list:
    """Return the audits of all cell types and methods, as a list of `audit_tables.Audited`."""
    from mlmgen import audit_tables

    return [audit_tables.Audited(one.meta["cell_type"], one.method, one.record) for one in of_stage(gathered, "audit")]


def read_results(gathered: Gathered, prepared: str, method: str, left_out: dict, design_rows: dict):
    """Put together what one method found in one cell type.

    Parameters
    ----------
    gathered : Gathered
    prepared, method : str
    left_out, design_rows : dict
        ``left_out`` and ``design`` of ``contrasts.json``.

    Returns
    -------
    tables.Results
    """
    from mlmgen import fitting
    from mlmgen import tables as assemble
    from mlmgen.design_rank import why_not_samples

    fits, (moderated,), tests = (gathered.records[stage, prepared, method] for stage in ("fit", "moderate", "test"))
    meta, statistics = gathered.sources[prepared].meta, io.read_gene_statistics(prepared)
    design, settings = fitted_design(prepared, meta, method), gathered.metas[0]["settings"]["fit"]
    family = options_of(settings, method).family
    described = design_rows.get(meta["cell_type"], []) if method == "glmm" else []
    skipped = why_not_samples(design) if method == "pseudobulk" and design else meta["skipped"]
    return assemble.Results(
        cell_type=meta["cell_type"],
        method=method,
        family=family,
        n_cells=meta["n_cells"],
        n_donors=meta["n_donors"],
        n_samples=len(design.sample.levels) if design else 0,
        rows=design.pattern.size if design else 0,
        gene_names=statistics.get("gene_name", statistics["gene"]),
        statistics=statistics,
        reasons=reasons(statistics, meta | {"skipped": skipped}, settings["filters"], family),
        left_out=left_out.get(meta["cell_type"], {}),
        design=design,
        fits=fitting.concatenate(fits),
        moderated=moderated,
        effects=join_tests(tests),
        cautions={row["contrast"]: row["caution"] for row in described if row["caution"]},
    )


def fitted_design(prepared: str, meta: dict, method: str) -> Design | None:
    """Return the design of the rows that a method fits, cells or samples; None for a cell type that is skipped."""
    from mlmgen import design as designs

    if meta["skipped"]:
        return None
    cells = io.read_design(prepared)
    return designs.for_samples(cells) if method == "pseudobulk" else cells


def reasons(statistics: dict, meta: dict, chosen: dict, family: str) -> tuple[str, ...]:
    """Say why each gene was not fitted; empty for the others, length G."""
    why = filters.reasons(statistics, meta["n_cells"], chosen)
    everywhere = always_detected(statistics, meta["n_cells"], family)
    return tuple(
        meta["skipped"] or reason or (ALWAYS_DETECTED if always else "")
        for reason, always in zip(why, everywhere, strict=True)
    )


def number_of_samples(prepared: str, meta: dict) -> int:
    """Count the samples of a cell type; 0 for one that is skipped, which may have no design."""
    return 0 if meta["skipped"] else len(io.read_design(prepared).sample.levels)


def overview(prepared: str, contrasts: str, input: str | None):
    """Read what the summary says about a cell type.

    Returns
    -------
    summary.CellType
    """
    from mlmgen import summary

    meta = io.read_meta(prepared)
    resolved = io.read_json(contrasts)
    left_out, described = (
        resolved[key].get(meta["cell_type"], empty) for key, empty in (("left_out", {}), ("design", []))
    )
    notes = [f"{name} is not tested: {reason}" for name, reason in left_out.items()]
    notes += [row["warning"] for row in described if row["warning"]]
    return summary.CellType(
        name=meta["cell_type"],
        n_cells=meta["n_cells"],
        n_donors=meta["n_donors"],
        n_samples=number_of_samples(prepared, meta),
        skipped=meta["skipped"],
        warnings=(*resolved["warnings"], *meta["warnings"], *notes),
        true_log2fc={} if meta["skipped"] else true_effects(prepared, contrasts, input, meta["cell_type"]),
        genes=io.read_gene_statistics(prepared)["gene"],
        designs=tuple(described),
    )


def true_effects(prepared: str, contrasts: str, input: str | None, cell_type: str) -> dict[str, np.ndarray]:
    """Find the contrasts whose simulated truth the input carries.

    Returns
    -------
    dict of str to (G,) float64
        True log2 fold change of every gene by contrast; empty for real data.
    """
    from mlmgen import contrasts as algebra

    truth = io.read_truth(input, cell_type) if input else None
    if truth is None:
        return {}
    expression, log2fc = truth
    try:
        (simulated,) = algebra.resolve({"truth": expression}, io.read_design(prepared))
    except UserError:  # the user's formula has no such coefficient
        return {}
    tested = read_contrasts(contrasts, cell_type)
    one = [c for c in tested if len(c.weights) == 1]
    return {c.name: log2fc for c in one if np.allclose(c.weights, simulated.weights)}


def simulate(output: str, seed: int, threads: int) -> None:
    """Write the demo data set.

    Parameters
    ----------
    output : str
        The .h5ad to write; its folder is made.
    seed : int
    threads : int
    """
    from mlmgen.simulate import demo

    if not output.endswith(".h5ad"):
        what = "the demo data set is an .h5ad file, and this name is of another kind"
        raise UserError(what, output, f"Give a name such as {Path(output).stem or 'demo'}.h5ad")
    data = demo(seed)
    with io.atomic(output) as temporary:
        data.write_h5ad(temporary)
    say(f"simulate: {output}, {data.n_obs:,} cells x {data.n_vars:,} genes")
