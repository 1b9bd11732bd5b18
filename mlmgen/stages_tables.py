"""The stage tables and the demo data: files in, files out."""

from pathlib import Path

import numpy as np

from mlmgen import filters, io
from mlmgen.errors import UserError
from mlmgen.progress import say
from mlmgen.stages_fit import always_detected, join_tests, options_of, read_contrasts
from mlmgen.types import Design, Effects, GeneFits, Moderated

ALWAYS_DETECTED = "counts in every cell: detection (family bernoulli) does not vary"


def tables(
    prepared: list[str],
    contrasts: str,
    input: str | None,
    methods: list[str],
    shards: int,
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
    shards : int
        Per cell type and method.
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
    found = [
        read_results(folder, path, method, shards, resolved["left_out"], resolved["design"])
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
    made |= compared(folder, prepared, methods, found, made["effects"], settings)
    audits = read_audits(folder, prepared, methods) if settings.get("audit") else None
    if audits is not None:
        made |= {"audit": audit_tables.audit(audits), "audit_qq": audit_tables.audit_qq(audits)}
    for name, table in made.items():
        io.write_table(folder / name, table)
        say(f"tables: {folder / name}.parquet and .tsv.gz, {len(table):,} rows")
    delete_tables(folder, {"concordance", "stability", "audit", "audit_qq"} - made.keys())
    overviews = [overview(path, contrasts, input) for path in prepared]
    audited = audit_tables.words(made["audit"]) if audits is not None else ""
    weighted = settings.get("fdr") == "weighted"
    text = summary.text(settings["name"], overviews, made["effects"], made["fits"], audited, weighted)
    io.write_text(folder / "summary.txt", text)


def compared(folder: Path, prepared: list[str], methods: list[str], found: list, effects, settings: dict) -> dict:
    """Build the table of both methods or, of a run with one, that of its stability.

    Returns
    -------
    dict of str to DataFrame
        Empty for one method without stability.
    """
    from mlmgen import concordance
    from mlmgen.stability import LeftOut

    steady = None
    if settings.get("stability"):
        pairs = [(path, method) for path in prepared for method in methods]
        left = {
            (io.read_meta(path)["cell_type"], method): io.read_record(
                folder / "stability" / method / f"{Path(path).stem}.npz", LeftOut
            )[0]
            for path, method in pairs
        }
        steady = concordance.stability(found, left, effects, settings.get("fdr") == "weighted")
    if len(methods) > 1:
        return {"concordance": concordance.concordance(found, effects, steady)}
    return {} if steady is None else {"stability": steady}


def delete_tables(folder: Path, names: set[str]) -> None:
    """Delete tables that an earlier run of the same name wrote and this one does not."""
    for path in (folder / f"{name}{suffix}" for name in names for suffix in (".parquet", ".tsv.gz")):
        path.unlink(missing_ok=True)


def read_audits(folder: Path, prepared: list[str], methods: list[str]) -> list:
    """Read the audits of all cell types and methods.

    Returns
    -------
    list of audit_tables.Audited
    """
    from mlmgen import audit_tables
    from mlmgen.audit import Audit

    found = []
    for path in prepared:
        cell_type = io.read_meta(path)["cell_type"]
        for method in methods:
            record, _ = io.read_record(folder / "audit" / method / f"{Path(path).stem}.npz", Audit)
            found.append(audit_tables.Audited(cell_type, method, record))
    return found


def read_results(folder: Path, prepared: str, method: str, shards: int, left_out: dict, design_rows: dict):
    """Read what one method found in one cell type.

    Parameters
    ----------
    folder : Path
    prepared, method : str
    shards : int
    left_out, design_rows : dict
        ``left_out`` and ``design`` of ``contrasts.json``.

    Returns
    -------
    tables.Results
    """
    from mlmgen import fitting
    from mlmgen import tables as assemble

    slug = Path(prepared).stem
    meta, statistics = io.read_meta(prepared), io.read_gene_statistics(prepared)
    of_shards = [f"{method}/{slug}/{i}-of-{shards}.npz" for i in range(1, shards + 1)]
    fits = [io.read_record(folder / "fits" / path, GeneFits) for path in of_shards]
    design, settings = fitted_design(prepared, meta, method), fits[0][1]["settings"]
    family = options_of(settings, method).family
    described = design_rows.get(meta["cell_type"], []) if method == "glmm" else []
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
        reasons=reasons(statistics, meta, settings["filters"], family),
        left_out=left_out.get(meta["cell_type"], {}),
        design=design,
        fits=fitting.concatenate([shard for shard, _ in fits]),
        moderated=io.read_record(folder / "moderated" / method / f"{slug}.npz", Moderated)[0],
        effects=join_tests([io.read_record(folder / "tests" / path, Effects)[0] for path in of_shards]),
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
        warnings=(*meta["warnings"], *notes),
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

    data = demo(seed)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with io.atomic(output) as temporary:
        data.write_h5ad(temporary)
    say(f"simulate: {output}, {data.n_obs:,} cells x {data.n_vars:,} genes")
