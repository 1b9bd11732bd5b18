"""The stages fit, moderate and test: files in, files out. Nothing here imports pandas or anndata."""

import dataclasses
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlmgen import filters, io, provenance, shards
from mlmgen.counts import log_normalized
from mlmgen.errors import UserError, listing
from mlmgen.progress import Progress, say
from mlmgen.replicates import separates_donors
from mlmgen.shards import bounds
from mlmgen.status import Status, label
from mlmgen.types import Contrast, Design, Effects, GeneFits, Moderated

LEVEL = {"glmm": "cells", "pseudobulk": "samples"}
# As numba names its cached files: fits, variance grids and moderated tests of nested intercepts and of other models.
NESTED_FIT, NESTED_TEST = "engine.fit_genes", "mixture.test_genes"
MODEL_FIT, MODEL_GRID, MODEL_TEST = "multilevel.fit_models", "model_grid.profile_models", "model_tests.test_models"
# Seconds.
COMPILING = {NESTED_FIT: 60, NESTED_TEST: 60, MODEL_FIT: 60, MODEL_GRID: 30, MODEL_TEST: 30}


class Options(NamedTuple):
    """How one method fits; the values that `mlmgen.fitting.fit_shard` takes."""

    family: str
    method: str
    integration: str
    nodes: int
    likelihood: str


# Sums of samples have one model: their dispersion is the variance between replicates.
OF_SAMPLES = Options("nb", "reml", "laplace", 1, "compressed")


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
        ``family``, ``estimation``, ``integration``, ``quadrature_nodes``, ``likelihood``, and the ``filters`` of genes.
    threads : int

    Raises
    ------
    UserError
        Where cells would be the replicates, or quadrature cannot integrate the model.
    """
    meta, statistics = io.read_meta(counts), io.read_gene_statistics(counts)
    start, stop = bounds(shard, len(statistics["gene"]))
    source = provenance.source(counts, meta, statistics["gene"], settings)
    name = f"fit {method}, {meta['cell_type']}, shard {shard[0]} of {shard[1]}"
    if meta["skipped"]:
        say(f"{name}: skipped, {meta['skipped']}")
        fits = not_fitted(statistics["gene"][start:stop], options_of(settings, method).method)
    else:
        fits = _fit(counts, method, (start, stop), settings, threads, name, meta, statistics)
    io.write_record(output, fits, provenance.record_meta("fit", source, method, settings, shard, (start, stop)))


def _fit(counts, method, genes, settings, threads, name, meta, statistics) -> GeneFits:
    from mlmgen.fitting import fit_shard
    from mlmgen.moderate import FEW_GENES

    (start, stop), o, level = genes, options_of(settings, method), LEVEL[method]
    keep = filters.keep(statistics, meta["n_cells"], settings["filters"]) & ~always_detected(
        statistics, meta["n_cells"], o.family
    )
    # The shards of a cell type agree: too few genes for a prior in all of them means t tests in each.
    enough, keep = keep.sum() >= FEW_GENES, keep[start:stop]
    say(f"{name}: {keep.sum():,} of {stop - start:,} genes pass the filters")
    design, data = io.read_design(counts), io.read_counts(counts, start, stop)
    if method == "glmm":
        refuse_cells_as_replicates(design, counts)
        refuse_quadrature(design, o.integration, counts)
    announce_compilation(fit_kernels(design, o, level), name)
    progress = Progress(stop - start, name)
    data = log_normalized(data, design) if o.family == "gaussian" else data
    fits = fit_shard(
        data, design, keep, o.family, level, threads, progress,
        method=o.method, integration=o.integration, nodes=o.nodes, likelihood=o.likelihood, grid=enough,
    )  # fmt: skip
    progress.finish(_outcomes(fits.status))
    return fits


def options_of(settings: dict, method: str) -> Options:
    """Return how a method fits with the settings of the stage, which are for cells alone."""
    if method == "pseudobulk":
        return OF_SAMPLES
    names = ("family", "estimation", "integration", "quadrature_nodes", "likelihood")
    return Options(*(settings[name] for name in names))


def always_detected(statistics: dict, n_cells: int, family: str) -> np.ndarray:
    """Return which genes are detected in every cell, (G,) bool: a model of detection has nothing to compare there."""
    everywhere = np.asarray(statistics["n_cells_expressing"]) == n_cells
    return everywhere if family == "bernoulli" else np.zeros_like(everywhere)


def fit_kernels(design: Design, options: Options, level: str, grid: bool = True) -> tuple[str, ...]:
    """Return the kernels that `mlmgen.fitting.fit_shard` will run."""
    from mlmgen.fitting import can_have_grid, has_own_engine

    if grid and has_own_engine(design, options.family, level, options.method, options.likelihood):
        return (NESTED_FIT,)
    return (MODEL_FIT, MODEL_GRID) if grid and can_have_grid(design, level, options.method) else (MODEL_FIT,)


def test_kernels(design: Design, options: Options, level: str) -> tuple[str, ...]:
    """Return the kernels that `mlmgen.inference.test` will run for fits made with a grid where there can be one."""
    fitted = fit_kernels(design, options, level)
    return (NESTED_TEST,) if NESTED_FIT in fitted else (MODEL_TEST,) if MODEL_GRID in fitted else ()


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
    from mlmgen import fitting, moderate

    statistics, read = io.read_gene_statistics(counts), io.read_records(fits, GeneFits)
    source = provenance.source(counts, io.read_meta(counts), statistics["gene"], settings)
    meta = read[0][1]
    provenance.check(shards.found("fit", fits, [of_one for _, of_one in read], source, meta["method"], settings))
    joined, name = fitting.concatenate([shard for shard, _ in read]), f"moderate {meta['method']}, {meta['cell_type']}"
    family = options_of(meta["settings"]["fit"], meta["method"]).family
    moderated = moderate.moderate(joined, log_totals(statistics, family))
    how = ""
    if moderated.weights.shape[1] == 0:
        how = ", variances stay as fitted (this model has no prior)"
    if np.isfinite(joined.loglik).sum() < moderate.FEW_GENES:
        how = f", too few for a prior of the variances ({moderate.FEW_GENES}): t tests with few degrees of freedom"
    say(f"{name}: {np.isfinite(joined.loglik).sum():,} genes fitted{how}")
    known = provenance.completed(settings, [meta])
    io.write_record(output, moderated, provenance.record_meta("moderate", source, meta["method"], known))


def log_totals(statistics: dict, family: str) -> np.ndarray:
    """Return the natural log of each gene's total response, (G,): counts, or cells in which it is detected."""
    total = np.asarray(statistics["n_cells_expressing" if family == "bernoulli" else "total_count"], dtype=float)
    return np.log(np.maximum(total, 1.0))


def test(
    counts: str,
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
    fits : str
        `GeneFits` of the shard.
    moderated : str
        `Moderated` of the cell type.
    shard : (int, int)
    output : str
    settings : dict
        ``contrasts``.
    threads : int
    """
    (fitted, meta), (posterior, of_all) = io.read_record(fits, GeneFits), io.read_record(moderated, Moderated)
    method = of_all["method"]
    source = provenance.source(counts, io.read_meta(counts), io.read_gene_statistics(counts)["gene"], settings)
    wanted = provenance.expected("moderate", source, method, settings)
    of_shard = shards.one("fit", fits, meta, source, method, settings, shard)
    provenance.check([of_shard, provenance.Found(moderated, of_all, wanted)])
    tested, (start, stop) = contrasts_of(counts, settings), bounds(shard, len(source.genes))
    name = f"test {method}, {meta['cell_type']}, shard {shard[0]} of {shard[1]}"
    if np.isfinite(fitted.loglik).any() and tested:
        effects = _test(counts, (start, stop), fitted, _part(posterior, start, stop), tested, meta, threads, name)
    else:
        say(f"{name}: no gene was fitted")
        effects = not_tested(len(fitted.genes), tuple(contrast.name for contrast in tested))
    known = provenance.completed(settings, [meta, of_all])
    io.write_record(output, effects, provenance.record_meta("test", source, method, known, shard, (start, stop)))


def _test(counts, genes, fits, moderated, contrasts, meta, threads, name) -> Effects:
    from mlmgen import inference

    design, data = io.read_design(counts), io.read_counts(counts, *genes)
    o, level = options_of(meta["settings"]["fit"], meta["method"]), LEVEL[meta["method"]]
    if moderated.weights.shape[1]:
        announce_compilation(test_kernels(design, o, level), name)
    progress = Progress(len(fits.genes), name)
    data = log_normalized(data, design) if o.family == "gaussian" else data
    effects = inference.test(
        data, design, fits, moderated, contrasts, o.family, level, threads, progress, o.likelihood
    )  # fmt: skip
    progress.finish(f"{len(contrasts)} contrast{'s' * (len(contrasts) != 1)}")
    return effects


def join_tests(effects: list[Effects]) -> Effects:
    """Join the tests of a cell type's shards along the gene axis."""
    arrays = [f.name for f in dataclasses.fields(Effects) if f.name != "contrasts"]
    return Effects(effects[0].contrasts, *(np.concatenate([getattr(e, name) for e in effects]) for name in arrays))


def refuse_cells_as_replicates(design: Design, where: str) -> None:
    """Raise a UserError unless the groups of some random intercept lie within donors.

    `mlmgen.design.check` refuses such a design before any job, unless it was prepared for pseudobulk alone.
    """
    if separates_donors(design):
        return
    what = f"no random intercept separates the {len(design.donor.levels):,} donors: the cells would be the replicates"
    do = f"Add (1 | {design.donor.name}) to the formula, or leave glmm out of methods."
    raise UserError(what, f"configuration key formula, {where}", do)


def refuse_quadrature(design: Design, integration: str, where: str) -> None:
    """Raise a UserError for quadrature over more than one random effect a group, or with cell-level functions."""
    one = len(design.terms) == 1 and len(design.terms[0].effects) == 1
    if integration != "agq" or (one and not design.function_names):
        return
    what = (
        f"integration agq needs one random intercept and no cell-level covariate, but the formula is {design.formula}"
    )
    if design.function_names:
        what += f", where {listing(design.function_names)} varies from cell to cell"
    do = "Set integration to laplace, or simplify the formula."
    raise UserError(what, f"configuration keys integration and formula, {where}", do)


def announce_compilation(kernels: tuple[str, ...], name: str) -> None:
    """Say that a job will seem to hang where no compiled code of its kernels is cached yet.

    Parameters
    ----------
    kernels : tuple of str
        Module and function, as `NESTED_FIT`.
    name : str
        Of the job.
    """
    from mlmgen.kernels import policy  # noqa: F401  (it decides where the cache is)

    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    seconds = sum(COMPILING[kernel] for kernel in kernels if not any(folder.glob(f"*/{kernel}-*.nbi")))
    if seconds:
        about = "a minute" if seconds <= 60 else f"{math.ceil(seconds / 60)} minutes"
        say(f"{name}: compiling kernels, once per machine and version: about {about}")


def contrasts_of(counts: str, settings: dict) -> tuple[Contrast, ...]:
    """Resolve the contrasts of a stage's settings on the design of a file; those it cannot estimate are left out."""
    from mlmgen.contrasts import estimable

    if io.read_meta(counts)["skipped"]:
        return ()
    return estimable(settings.get("contrasts"), io.read_design(counts))[0]


def read_contrasts(path: str, cell_type: str) -> tuple[Contrast, ...]:
    """Read the contrasts of one cell type from ``contrasts.json``, in the order of the configuration."""
    of_cell_type = io.read_json(path)["cell_types"].get(cell_type, [])
    return tuple(Contrast(c["name"], c["expression"], np.array(c["weights"], dtype=float)) for c in of_cell_type)


def not_fitted(genes: tuple[str, ...], method: str) -> GeneFits:
    """Return the fits of genes none of which is fitted because the cell type is skipped.

    Parameters
    ----------
    genes : tuple of str, length G
    method : {"reml", "ml"}
    """
    G = len(genes)
    of_genes, status = np.full(G, np.nan), np.full(G, Status.FILTERED, dtype=np.int8)
    wide = ("beta", "std_error", "std_error_full", "variance", "variance_se", "variance_pvalue")
    wide += ("grid_low", "grid_high", "grid_unit", "grid_loglik")
    return GeneFits(
        genes=tuple(genes),
        coefficients=(),
        components=(),
        method=method,
        covariance=np.zeros((G, 0, 0)),
        sensitivity=np.zeros((G, 0, 0, 0)),
        loglik=of_genes,
        status=status,
        n_iter=np.zeros(G, dtype=np.int32),
        grid_shape=np.zeros(0, dtype=np.int64),
        **{name: np.zeros((G, 0)) for name in wide},
    )


def not_tested(n_genes: int, contrasts: tuple[str, ...]) -> Effects:
    """Return tests without numbers for genes none of which was fitted."""
    arrays = [field.name for field in dataclasses.fields(Effects) if field.name != "contrasts"]
    missing = np.full((n_genes, len(contrasts)), np.nan)
    return Effects(contrasts, **dict.fromkeys(arrays, missing))


def _part(moderated: Moderated, start: int, stop: int) -> Moderated:
    of_genes = ("weights", "variance", "ci_low", "ci_high")
    return dataclasses.replace(moderated, **{name: getattr(moderated, name)[start:stop] for name in of_genes})


def _outcomes(status: np.ndarray) -> str:
    """Count the statuses in words: ``512 converged, 88 filtered``."""
    return ", ".join(f"{(status == value).sum():,} {label(value)}" for value in Status if (status == value).any())
