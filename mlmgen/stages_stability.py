"""The stage stability: reported effects without each donor in turn. Nothing here imports pandas or anndata."""

from pathlib import Path

import numpy as np

from mlmgen import io, provenance
from mlmgen import shards as of_genes
from mlmgen.counts import log_normalized
from mlmgen.progress import Progress, say
from mlmgen.stability import LeftOut, hits
from mlmgen.stages_fit import (
    LEVEL,
    announce_compilation,
    contrasts_of,
    fit_kernels,
    join_tests,
    log_totals,
    options_of,
    test_kernels,
)
from mlmgen.types import Effects, GeneFits, Moderated


def stability(
    counts: str,
    method: str,
    methods: list[str],
    shards: list[int],
    results: str,
    output: str,
    settings: dict,
    threads: int,
) -> None:
    """Fit and test the reported effects of a cell type without each donor and write their `LeftOut`.

    Parameters
    ----------
    counts : str
        The file that was fitted; its stem names the cell type's folders.
    method : {"glmm", "pseudobulk"}
        Which is fitted again.
    methods : list of str
        Effects that any of them reports are looked at.
    shards : list of int
        Of each of the methods.
    results : str
        The run's folder with ``fits/``, ``moderated/`` and ``tests/``.
    output : str
    settings : dict
        ``contrasts``.
    threads : int
    """
    folder, meta = Path(results), io.read_meta(counts)
    paths = {
        m: [f"{m}/{Path(counts).stem}/{i}-of-{n}.npz" for i in range(1, n + 1)]
        for m, n in zip(methods, shards, strict=True)
    }
    statistics = io.read_gene_statistics(counts)
    source = provenance.source(counts, meta, statistics["gene"], settings)
    tests = {m: io.read_records([folder / "tests" / path for path in paths[m]], Effects) for m in methods}
    fits = io.read_records([folder / "fits" / path for path in paths[method]], GeneFits)
    place = folder / "moderated" / method / f"{Path(counts).stem}.npz"
    moderated, of_moderated = io.read_record(place, Moderated)
    _check(folder, paths, source, method, tests, fits, (place, of_moderated), settings)
    tests = [join_tests([one for one, _ in tests[m]]) for m in methods]
    # Samples may be too few where cells are not; their tests then have no contrast.
    reported = [effects for effects in tests if effects.contrasts] or tests[:1]
    hit = hits(reported, np.asarray(statistics["total_count"], dtype=float))
    fit_settings = fits[0][1]["settings"]["fit"]
    name = f"stability {method}, {meta['cell_type']}"
    if meta["skipped"] or not hit.any():
        say(f"{name}: no effect is reported")
        left = _nothing(reported[0].contrasts)
    else:
        tested = contrasts_of(counts, settings)
        left = _leave_out(
            counts, method, tested, hit, [shard for shard, _ in fits], moderated, fit_settings, threads, name
        )
    known = provenance.completed(settings, [fits[0][1], of_moderated])
    io.write_record(output, left, provenance.record_meta("stability", source, method, known))


def _check(folder, paths, source, method, tests, fits, moderated, settings) -> None:
    """Refuse records that are not of this run; those of the other method come from another file of the same cells."""
    found = []
    for m, read in tests.items():
        made_from = source if m == method else provenance.of_another_level(source)
        places, metas = [folder / "tests" / path for path in paths[m]], [meta for _, meta in read]
        found += of_genes.found("test", places, metas, made_from, m, settings)
    places, metas = [folder / "fits" / path for path in paths[method]], [meta for _, meta in fits]
    found += of_genes.found("fit", places, metas, source, method, settings)
    place, meta = moderated
    found.append(provenance.Found(str(place), meta, provenance.expected("moderate", source, method, settings)))
    provenance.check(found)


def _leave_out(counts, method, contrasts, hit, fits, moderated, settings, threads, name) -> LeftOut:
    """Read the rows and genes that matter and leave out the donors."""
    from mlmgen.leave_out import leave_out
    from mlmgen.moderate import on_grid

    genes, o, level = np.flatnonzero(hit.any(axis=1)), options_of(settings, method), LEVEL[method]
    design, data = io.read_design(counts), io.read_some_counts(counts, genes)
    data = log_normalized(data, design) if o.family == "gaussian" else data
    total = log_totals(io.read_gene_statistics(counts), o.family)
    grid = np.concatenate([on_grid(shard) for shard in fits])
    fitted = np.concatenate([np.isfinite(shard.loglik) for shard in fits])[genes]
    prior = dict(zip(fits[0].components, moderated.prior, strict=True)) if moderated.weights.shape[1] else None
    z = total[genes] - (total[grid].mean() if grid.any() else 0.0)
    announce_compilation((*fit_kernels(design, o, level), *test_kernels(design, o, level)), name)
    progress = Progress(len(genes) * len(design.donor.levels), name)
    left = leave_out(
        data, design, fitted, prior, z, contrasts, hit[genes], o.family, level, threads, progress,
        method=o.method, integration=o.integration, nodes=o.nodes, likelihood=o.likelihood,
    )  # fmt: skip
    progress.finish(f"{len(genes):,} genes without each of {len(design.donor.levels):,} donors")
    return left


def _nothing(contrasts: tuple[str, ...]) -> LeftOut:
    """Return the record of a cell type without reported effects."""
    C = len(contrasts)
    none = np.zeros((0, C, 0))
    return LeftOut(
        (), contrasts, (), np.zeros((0, C), dtype=bool),
        np.zeros((0, 0), dtype=bool), np.zeros((C, 0), dtype=bool), none, none,
    )  # fmt: skip
