"""The stage audit: files in, files out."""

import numpy as np

from mlmgen import filters, io, provenance
from mlmgen.counts import log_normalized
from mlmgen.progress import Progress, duration, say
from mlmgen.stages_fit import (
    LEVEL,
    always_detected,
    announce_compilation,
    contrasts_of,
    fit_kernels,
    options_of,
    test_kernels,
)


def audit(prepared: str, method: str, output: str, fit: dict, settings: dict, threads: int) -> None:
    """Test one method's p-values in one cell type on permuted labels and write the `mlmgen.audit.Audit`.

    Parameters
    ----------
    prepared : str
        Prepared file, of cells for both methods: samples are summed anew for each split.
    method : {"glmm", "pseudobulk"}
    output : str
    fit : dict
        Settings of the stage fit.
    settings : dict
        ``contrasts``, ``audit_splits`` for each of them, and ``seed``.
    threads : int
    """
    from mlmgen import audit as audits
    from mlmgen.design import for_samples
    from mlmgen.design_rank import why_not_samples

    meta = io.read_meta(prepared)
    source = provenance.source(prepared, meta, io.read_gene_statistics(prepared)["gene"], settings)
    name = f"audit {method}, {meta['cell_type']}"
    skipped, tested = meta["skipped"], contrasts_of(prepared, settings)
    if not skipped:
        design = io.read_design(prepared)
        coefficients = design.coefficients
        design = for_samples(design) if method == "pseudobulk" else design
        skipped = why_not_samples(design) if method == "pseudobulk" else ""
    if skipped:
        say(f"{name}: skipped, {skipped}")
        study, tested = _no_study(meta["cell_type"]), ()
    else:
        study = _study(prepared, meta, method, fit, coefficients)
        o, level = options_of(fit, method), LEVEL[method]
        announce_compilation((*fit_kernels(design, o, level), *test_kernels(design, o, level)), name)
    planned, model = audits.plans(study, LEVEL[method], tested, settings["audit_splits"]), _model(fit, method)
    for plan in planned:
        say(f"{name}: {_words(plan)}")
    fits = len(study.genes) * sum(plan.splits for plan in planned)
    if fits:
        seconds = audits.expected_seconds(study, model, planned, threads)
        say(f"{name}: {len(study.genes):,} genes in each permutation, about {duration(seconds)} in all")
    progress = Progress(fits, name)
    found = audits.audit(study, model, planned, settings["seed"], threads, progress)
    for plan, reason in zip(planned, found.reasons, strict=True):
        if reason and not plan.reason:
            say(f"{name}: warning: {plan.contrast.name} is not audited: {reason}")
    progress.finish(f"{int(found.splits.sum()):,} permutations")
    known = provenance.completed(settings, [{"settings": {"fit": fit}}])
    io.write_record(output, found, provenance.record_meta("audit", source, method, known))


def _words(plan) -> str:
    """Say what changes places for a contrast, and how often."""
    if plan.exchange is None:
        return f"warning: {plan.contrast.name} is not audited: {plan.reason}"
    from mlmgen.audit_tables import permutations
    from mlmgen.exchange import number_of_splits

    how_many = permutations(plan.splits, number_of_splits(plan.exchange))
    what = f"{'values' if plan.exchange.values.size else 'labels'} of {', '.join(plan.exchange.columns)}"
    return f"{plan.contrast.name}: {what} change places {plan.exchange.kind}, in {how_many}"


def _study(prepared: str, meta: dict, method: str, fit: dict, coefficients: tuple[str, ...]):
    """Read the cells and the genes that are audited."""
    from mlmgen import audit as audits
    from mlmgen import formula as formulas

    statistics, settings = io.read_gene_statistics(prepared), meta["settings"]
    family = options_of(fit, method).family
    kept = filters.keep(statistics, meta["n_cells"], fit["filters"])
    kept = np.flatnonzero(kept & ~always_detected(statistics, meta["n_cells"], family))
    names = tuple(statistics["gene"][g] for g in kept)
    kept = kept[audits.every_kth(statistics["total_count"][kept], names)]
    X, obs, _ = io.read_prepared_cells(prepared, kept)
    return audits.Study(
        cell_type=meta["cell_type"],
        genes=tuple(statistics["gene"][g] for g in kept),
        X=X,
        obs=obs,
        formula=formulas.parse(settings["formula"]),
        donor=settings["donor"],
        sample=settings["sample"],
        reference=settings["reference"],
        coefficients=coefficients,
    )


def _no_study(cell_type: str):
    from mlmgen import audit as audits

    return audits.Study(cell_type, (), None, None, None, "", None, {}, ())


def _model(fit: dict, method: str):
    from mlmgen import audit as audits

    options = options_of(fit, method)
    response = log_normalized if options.family == "gaussian" else lambda counts, design: counts
    return audits.Model(LEVEL[method], *options, response)
