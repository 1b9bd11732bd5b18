"""The stages fit, moderate and test: files in, files out. Nothing here imports pandas or anndata."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from mlmgen import filters, io
from mlmgen.errors import UserError
from mlmgen.progress import Progress, say
from mlmgen.status import Status, label
from mlmgen.types import Contrast, Design, Effects, GeneFits, Moderated

LEVEL = {"glmm": "cells", "pseudobulk": "samples"}
FIT_KERNEL, TEST_KERNEL = "engine.fit_genes", "mixture.test_genes"  # as numba names its cached files


def bounds(shard: tuple[int, int], n_genes: int) -> tuple[int, int]:
    """Return the first gene of a shard and the one after its last; shards differ by at most one gene.

    Parameters
    ----------
    shard : (int, int)
        Which of how many, counted from 1.
    n_genes : int
    """
    index, number = shard
    return (index - 1) * n_genes // number, index * n_genes // number


def fit(counts: str, method: str, shard: tuple[int, int], output: str, settings: dict, threads: int) -> None:
    """Fit the genes of one shard of a cell type and write their `GeneFits`.

    Parameters
    ----------
    counts : str
        Prepared file, or pseudobulk file.
    method : {"glmm", "pseudobulk"}
    shard : (int, int)
    output : str
    settings : dict
        ``family`` and the expression ``filters``.
    threads : int
    """
    meta, statistics = io.read_meta(counts), io.read_gene_statistics(counts)
    start, stop = bounds(shard, len(statistics["gene"]))
    name = f"fit {method}, {meta['cell_type']}, shard {shard[0]} of {shard[1]}"
    if meta["skipped"]:
        say(f"{name}: skipped, {meta['skipped']}")
        fits = not_fitted(statistics["gene"][start:stop])
    else:
        fits = _fit(counts, method, (start, stop), settings, threads, name, meta, statistics)
    io.write_record(output, fits, {"method": method, "cell_type": meta["cell_type"], "settings": settings})


def _fit(counts, method, genes, settings, threads, name, meta, statistics) -> GeneFits:
    from mlmgen.fit import fit_shard

    start, stop = genes
    keep = filters.keep(statistics, meta["n_cells"], settings["filters"])[start:stop]
    say(f"{name}: {keep.sum():,} of {stop - start:,} genes pass the filters")
    design, data = io.read_design(counts), io.read_counts(counts, start, stop)
    if method == "glmm":
        refuse_cells_as_replicates(design, counts)
    announce_compilation(FIT_KERNEL, name)
    progress = Progress(stop - start, name)
    fits = fit_shard(data, design, keep, settings["family"], LEVEL[method], threads, progress)
    progress.finish(_outcomes(fits.status))
    return fits


def moderate(counts: str, fits: list[str], output: str, settings: dict, threads: int) -> None:
    """Learn the prior of the variances from all genes of a cell type and write their `Moderated`.

    Parameters
    ----------
    counts : str
        The file that was fitted.
    fits : list of str
        All shards in order.
    output : str
    settings : dict
    threads : int
    """
    from mlmgen import fit, moderate

    shards = [io.read_record(path, GeneFits) for path in fits]
    meta, joined = shards[0][1], fit.concatenate([shard for shard, _ in shards])
    name = f"moderate {meta['method']}, {meta['cell_type']}"
    total = np.asarray(io.read_gene_statistics(counts)["total_count"], dtype=float)
    moderated = moderate.moderate(joined, np.log(np.maximum(total, 1.0)))
    say(f"{name}: {np.isfinite(joined.loglik).sum():,} genes fitted")
    io.write_record(output, moderated, meta)


def test(
    counts: str,
    contrasts: str,
    fits: str,
    moderated: str,
    shard: tuple[int, int],
    output: str,
    settings: dict,
    threads: int,
) -> None:
    """Test the contrasts for the genes of one shard and write their `Effects`.

    Parameters
    ----------
    counts : str
        The file that was fitted.
    contrasts : str
        ``contrasts.json``.
    fits : str
        `GeneFits` of the shard.
    moderated : str
        `Moderated` of the cell type.
    shard : (int, int)
    output : str
    settings : dict
    threads : int
    """
    fitted, meta = io.read_record(fits, GeneFits)
    tested = read_contrasts(contrasts, meta["cell_type"])
    name = f"test {meta['method']}, {meta['cell_type']}, shard {shard[0]} of {shard[1]}"
    if np.isfinite(fitted.loglik).any() and tested:
        posterior, _ = io.read_record(moderated, Moderated)
        start, stop = bounds(shard, len(posterior.weights))
        effects = _test(counts, (start, stop), fitted, _part(posterior, start, stop), tested, meta, threads, name)
    else:
        say(f"{name}: no gene was fitted")
        effects = not_tested(len(fitted.genes), tuple(contrast.name for contrast in tested))
    io.write_record(output, effects, meta)


def _test(counts, genes, fits, moderated, contrasts, meta, threads, name) -> Effects:
    from mlmgen import inference

    design, data = io.read_design(counts), io.read_counts(counts, *genes)
    announce_compilation(TEST_KERNEL, name)
    progress = Progress(len(fits.genes), name)
    family, level = meta["settings"]["family"], LEVEL[meta["method"]]
    effects = inference.test(data, design, fits, moderated, contrasts, family, level, threads, progress)
    progress.finish(f"{len(contrasts)} contrast{'s' * (len(contrasts) != 1)}")
    return effects


def refuse_cells_as_replicates(design: Design, where: str) -> None:
    """Raise a UserError unless the groups of some random intercept lie within donors.

    `mlmgen.design.check` refuses such a design before any job, unless it was prepared for pseudobulk alone.
    """
    for term in design.terms:
        pairs = np.unique(np.stack([term.codes, design.donor.codes]), axis=1)
        if np.unique(pairs[0]).size == pairs.shape[1]:
            return
    what = f"no random intercept separates the {len(design.donor.levels):,} donors: the cells would be the replicates"
    do = f"Add (1 | {design.donor.name}) to the formula, or leave glmm out of methods."
    raise UserError(what, f"configuration key formula, {where}", do)


def announce_compilation(kernel: str, name: str) -> None:
    """Say that a job will seem to hang where no compiled code of a kernel is cached yet.

    Parameters
    ----------
    kernel : str
        Module and function, `FIT_KERNEL` or `TEST_KERNEL`.
    name : str
        Of the job.
    """
    from mlmgen.kernels import policy  # noqa: F401  (it decides where the cache is)

    if not any(Path(os.environ["NUMBA_CACHE_DIR"]).glob(f"*/{kernel}-*.nbi")):
        say(f"{name}: compiling kernels, once per machine and version: about a minute")


def read_contrasts(path: str, cell_type: str) -> tuple[Contrast, ...]:
    """Read the contrasts of one cell type from ``contrasts.json``, in the order of the configuration."""
    of_cell_type = io.read_json(path)["cell_types"].get(cell_type, [])
    return tuple(Contrast(c["name"], c["expression"], np.array(c["weights"], dtype=float)) for c in of_cell_type)


def not_fitted(genes: tuple[str, ...]) -> GeneFits:
    """Return the fits of genes none of which is fitted because the cell type is skipped."""
    G = len(genes)
    nothing, missing = np.full((G, 0), np.nan), np.full(G, np.nan)
    return GeneFits(
        genes=tuple(genes),
        coefficients=(),
        components=(),
        beta=nothing,
        std_error=nothing,
        variance=nothing,
        variance_pvalue=nothing,
        loglik=missing,
        status=np.full(G, Status.FILTERED, dtype=np.int8),
        n_iter=np.zeros(G, dtype=np.int32),
        grid_shape=np.zeros(0, dtype=np.int64),
        grid_low=nothing,
        grid_high=nothing,
        grid_loglik=nothing,
    )


def not_tested(n_genes: int, contrasts: tuple[str, ...]) -> Effects:
    """Return tests without numbers for genes none of which was fitted."""
    missing = np.full((n_genes, len(contrasts)), np.nan)
    return Effects(contrasts, *[missing] * 6)


def _part(moderated: Moderated, start: int, stop: int) -> Moderated:
    of_genes = ("weights", "variance", "ci_low", "ci_high")
    return dataclasses.replace(moderated, **{name: getattr(moderated, name)[start:stop] for name in of_genes})


def _outcomes(status: np.ndarray) -> str:
    """Count the statuses in words: ``512 converged, 88 filtered``."""
    return ", ".join(f"{(status == value).sum():,} {label(value)}" for value in Status if (status == value).any())
