"""The stage stability: reported effects without each donor in turn. Nothing here imports pandas or anndata."""

from pathlib import Path

import numpy as np

from mlmgen import io
from mlmgen.progress import Progress, say
from mlmgen.stability import LeftOut, hits
from mlmgen.stages_fit import (
    LEVEL,
    announce_compilation,
    bounds,
    fit_kernels,
    join_tests,
    log_normalized,
    log_totals,
    options_of,
    read_contrasts,
    test_kernels,
)
from mlmgen.types import Counts, Effects, GeneFits, Moderated


def stability(
    counts: str,
    contrasts: str,
    method: str,
    methods: list[str],
    shards: int,
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
    contrasts : str
        ``contrasts.json``.
    method : {"glmm", "pseudobulk"}
        Which is fitted again.
    methods : list of str
        Effects that any of them reports are looked at.
    shards : int
        Per cell type and method.
    results : str
        The run's folder with ``fits/``, ``moderated/`` and ``tests/``.
    output : str
    settings : dict
    threads : int
    """
    folder, meta = Path(results), io.read_meta(counts)
    paths = {m: [f"{m}/{Path(counts).stem}/{i}-of-{shards}.npz" for i in range(1, shards + 1)] for m in methods}
    tests = [join_tests([io.read_record(folder / "tests" / path, Effects)[0] for path in paths[m]]) for m in methods]
    hit = hits(tests, np.asarray(io.read_gene_statistics(counts)["total_count"], dtype=float))
    fits = [io.read_record(folder / "fits" / path, GeneFits) for path in paths[method]]
    moderated = io.read_record(folder / "moderated" / method / f"{Path(counts).stem}.npz", Moderated)[0]
    name = f"stability {method}, {meta['cell_type']}"
    if meta["skipped"] or not hit.any():
        say(f"{name}: no effect is reported")
        left = _nothing(tests[0].contrasts)
    else:
        tested = read_contrasts(contrasts, meta["cell_type"])
        left = _leave_out(
            counts, method, tested, hit, [shard for shard, _ in fits], moderated, fits[0][1]["settings"], threads, name
        )
    io.write_record(output, left, {"method": method, "cell_type": meta["cell_type"], "settings": settings})


def _leave_out(counts, method, contrasts, hit, fits, moderated, settings, threads, name) -> LeftOut:
    """Read the rows and genes that matter and leave out the donors."""
    from mlmgen.leave_out import leave_out
    from mlmgen.moderate import on_grid

    genes, o, level = np.flatnonzero(hit.any(axis=1)), options_of(settings, method), LEVEL[method]
    design, data = io.read_design(counts), _counts_of(counts, genes, len(fits))
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


def _counts_of(path: str, genes: np.ndarray, shards: int) -> Counts:
    """Read the counts of some genes, increasing, shard by shard to bound the memory."""
    parts, n_genes = [], len(io.read_gene_statistics(path)["gene"])
    for index in range(1, shards + 1):
        start, stop = bounds((index, shards), n_genes)
        chosen = genes[(genes >= start) & (genes < stop)] - start
        if chosen.size:
            parts.append(some_genes(io.read_counts(path, start, stop), chosen))
    start = np.concatenate([np.diff(part.start) for part in parts])
    return Counts(
        genes=tuple(gene for part in parts for gene in part.genes),
        start=np.r_[0, np.cumsum(start)].astype(np.int64),
        rows=np.concatenate([part.rows for part in parts]),
        values=np.concatenate([part.values for part in parts]),
    )


def some_genes(counts: Counts, genes: np.ndarray) -> Counts:
    """Return the counts of some genes, (H,) increasing."""
    length = np.diff(counts.start)
    chosen = np.zeros(len(counts.genes), dtype=bool)
    chosen[genes] = True
    values = np.repeat(chosen, length)
    start = np.r_[0, np.cumsum(length[genes])].astype(np.int64)
    return Counts(tuple(counts.genes[g] for g in genes), start, counts.rows[values], counts.values[values])


def _nothing(contrasts: tuple[str, ...]) -> LeftOut:
    """Return the record of a cell type without reported effects."""
    C = len(contrasts)
    none = np.zeros((0, C, 0))
    return LeftOut(
        (), contrasts, (), np.zeros((0, C), dtype=bool),
        np.zeros((0, 0), dtype=bool), np.zeros((C, 0), dtype=bool), none, none,
    )  # fmt: skip
