"""The command check: everything that can be known before a run, and what the run will take."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen import config, config_file, cores, io, jobs, names, sizing, terminal
from mlmgen.errors import UserError, listing
from mlmgen.progress import roughly
from mlmgen.sizing import Sizes

if TYPE_CHECKING:
    from mlmgen.design_lint import Row
    from mlmgen.stages_contrasts import Checked

# Stored counts that are looked at: two seconds; a run looks at all of them.
LOOKED_AT = 10_000_000
FIRST_RUN = "the first run on a machine takes one to two minutes more, while the numerical code is compiled"

EFFECT = "the log2 fold change with 80 % power at p = 0.001 in a typical gene"
SHOWN_ARMS = 44  # characters


class Planned(NamedTuple):
    """A configuration and the jobs that it asks for.

    Attributes
    ----------
    settings : dict
        From `mlmgen.config.load`.
    sizes : dict of str to Sizes
        By slug.
    cell_types : dict of str to str
        Slug to name, of those that are analysed.
    jobs : tuple of Job
    """

    settings: dict
    sizes: dict[str, Sizes]
    cell_types: dict[str, str]
    jobs: tuple[jobs.Job, ...]


class Looked(NamedTuple):
    """What a sample of the counts says: how many there were to look at, how many there are, a typical gene's mean."""

    values: int
    stored: int | None
    means: dict[str, float]


def planned(path: str | os.PathLike, available: int) -> Planned:
    """Read a configuration and plan its jobs, without the counts.

    Parameters
    ----------
    path : path-like
    available : int
        Cores.

    Raises
    ------
    UserError
        For a configuration that is wrong in itself, and for an input that is missing or damaged.
    """
    given = config_file.read(path)
    try:
        settings = config.load(given)
    except UserError as error:
        raise UserError(error.what, str(path), error.do) from None
    present = io.cell_types(settings["input"], settings["cell_type"])
    chosen = names.select(present, settings["cell_types"], settings["cell_type"])
    sizes = sizing.estimate(settings["input"], settings, chosen)
    streaming = sizing.streaming_megabytes(settings["memory"], available, cores.free_megabytes())
    return Planned(settings, sizes, chosen, jobs.planned(settings, sizes, len(present), streaming))


def check(config: str, cores: int | None = None, threads: int = 1) -> None:
    """Check a configuration against its input and print what a run would compare, find and take.

    Parameters
    ----------
    config : str
        The configuration's file.
    cores : int, optional
        For the estimated time; those that are available if not given.
    threads : int
        Not used.

    Raises
    ------
    UserError
        For whatever would stop a run.
    """
    from mlmgen import stages_contrasts, studies

    number = _cores(cores)
    plan = planned(config, number)
    checked = stages_contrasts.check(plan.settings)
    looked = looked_at(plan.settings, checked)
    rows = _described(checked, looked)
    warnings = [*checked.study.warnings, *studies.origin_warnings(plan.settings["input"], checked.study)]
    parts = [
        _heading(config, plan, looked),
        _table("Cell types", _cell_types(plan, checked, number)),
        _table(f"What each contrast compares; {EFFECT}", _contrasts(rows)),
        _list("Skipped", (f"{part.name}: {part.skipped}" for part in checked.parts if part.skipped)),
        _list("Not estimable", _left_out(checked)),
        _list("Warnings", [*warnings, *_warnings(checked, rows)], terminal.yellow),
        _list("What a run takes", _costs(plan, number)),
        [terminal.green("No errors.") + f" Next: {terminal.bold(f'mlmgen run {shlex.quote(config)}')}"],
    ]
    sys.stdout.write("\n\n".join("\n".join(part) for part in parts if part) + "\n")


def _cores(given: int | None) -> int:
    return cores.available() if given is None else given


def looked_at(settings: dict, checked: "Checked") -> Looked:
    """Look at some of the counts: whether they are counts, and the mean of a typical gene of each cell type.

    Raises
    ------
    UserError
        For values that are not counts.
    """
    from mlmgen.design_lint import TYPICAL_MEAN

    path, counts = settings["input"], settings["counts"]
    rows, X = io.some_counts(path, counts, LOOKED_AT)
    if not X.nnz:
        do = "Set counts to X, raw or layers/<name>, where the raw counts are"
        raise UserError("there is not a single count", f"{path}, {counts}", do)
    place = np.full(len(checked.study.obs), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    means = {}
    for part in (part for part in checked.parts if part.design is not None):
        donor = part.design.donor.codes[part.design.pattern]
        seen = place[part.rows] >= 0
        means[part.name] = _typical(X[place[part.rows[seen]]], donor[seen], len(part.rows)) or TYPICAL_MEAN
    return Looked(int(X.nnz), io.stored_values(path, counts), means)


def _typical(X, donor: np.ndarray, n_cells: int) -> float:
    """Return the mean count of a typical gene, from some of the cells of a cell type; 0 without cells."""
    from scipy import sparse

    from mlmgen import design_lint

    m = X.shape[0]
    if m == 0:
        return 0.0
    of_donor = sparse.csr_matrix((np.ones(m), (donor, np.arange(m))), shape=(int(donor.max()) + 1, m))
    statistics = {
        "n_cells_expressing": X.getnnz(axis=0) * (n_cells / m),
        "n_donors_expressing": (of_donor @ (X > 0).astype(np.float64)).tocsc().getnnz(axis=0),
        "mean_count": np.asarray(X.sum(axis=0), dtype=float).ravel() / m,
    }
    return design_lint.typical_mean(statistics, n_cells)


def _described(checked: "Checked", looked: Looked) -> "list[Row]":
    """Describe the contrasts of all cell types as the run will."""
    from mlmgen import design_lint
    from mlmgen.types import Contrast

    rows = []
    for part in (part for part in checked.parts if part.design is not None):
        stored = checked.resolved["cell_types"][part.name]
        found = tuple(Contrast(c["name"], c["expression"], np.array(c["weights"], dtype=float)) for c in stored)
        rows += design_lint.lint(part.name, part.design, found, looked.means[part.name])
    return rows


# ---- what is printed


def _heading(path: str, plan: Planned, looked: Looked) -> list[str]:
    settings = plan.settings
    n_cells, n_genes = io.shape(settings["input"], settings["counts"])
    counts = f"{settings['counts']}: whole numbers in all {looked.values:,} values"
    if looked.stored is None or looked.stored > looked.values:
        of_all = f" of {looked.stored:,}" if looked.stored else ""
        counts = f"{settings['counts']}: whole numbers in the {looked.values:,}{of_all} values looked at"
    rows = (
        ("results", f"results/{settings['name']}/"),
        ("input", f"{settings['input']}: {n_cells:,} cells, {n_genes:,} genes"),
        ("counts", counts),
        ("donor", settings["donor"]),
        ("formula", settings["formula"]),
        ("methods", ", ".join(settings["methods"])),
    )
    shown = [terminal.bold(f"{path}: run {settings['name']}")]
    for label, text in rows:
        shown += terminal.wrapped(f"  {label:10} ", text, 13)
    return shown


def _cell_types(plan: Planned, checked: "Checked", number: int) -> list[list]:
    slugs = {name: slug for slug, name in plan.cell_types.items()}
    methods = plan.settings["methods"]
    rows = [["cell type", "donors", "cells", "jobs", "time of one core", "memory of a job"]]
    for part in checked.parts:
        own = [job for job in plan.jobs if job.cell_type == slugs[part.name]]
        seconds = sum(job.number * job.seconds for job in own)
        memory = max(job.megabytes for job in own if job.method in methods)
        n_jobs = sum(job.number for job in own)
        fitted = not part.skipped
        time = roughly(seconds) if fitted else "-"
        rows.append([part.name, part.n_donors, len(part.rows), n_jobs, time, f"{memory / 1000:.1f} GB"])
    return rows


def _contrasts(rows: "list[Row]") -> list[list]:
    from mlmgen.design_lint import degrees

    shown = [["cell type", "contrast", "comparison", "donors", "arms", "replicates", "df", "log2 fold change"]]
    for row in rows:
        replicates = f"{row.n_replicates:,} x {row.replicate}" + " (not in the formula)" * row.missing
        power = "-" if row.lfc_detectable is None else f"{row.lfc_detectable:.2f}"
        arms = terminal.shortened(_arms(row.arms) or "-", SHOWN_ARMS)
        shown.append(
            [row.cell_type, row.contrast, row.comparison, row.n_donors, arms, replicates, degrees(row.df), power]
        )
    return shown if rows else []


def _arms(arms: str) -> str:
    """Shorten ``condition[a]: 3, condition[b]: 4`` to ``a: 3, b: 4``, where all levels are of one factor."""
    factors = set(re.findall(r"(?:^|, )([^\[\],]+)\[", arms))
    return re.sub(r"(^|, )[^\[\],]+\[([^\]]*)\]", r"\1\2", arms) if len(factors) == 1 else arms


def _left_out(checked: "Checked") -> Iterator[str]:
    for cell_type, reasons in checked.resolved["left_out"].items():
        yield from (f"{cell_type}, {name}: {reason}" for name, reason in reasons.items())


def _warnings(checked: "Checked", rows: "list[Row]") -> Iterator[str]:
    """Word each warning once, with the cell types that it concerns."""
    concerned: dict[str, list[str]] = {}
    for part in checked.parts:
        for warning in part.warnings:
            concerned.setdefault(warning, []).append(part.name)
    for row in rows:
        for warning in filter(None, (row.warning, row.caution)):
            concerned.setdefault(warning, []).append(row.cell_type)
    for warning, of_types in concerned.items():
        yield f"{listing(dict.fromkeys(of_types), 6)}: {warning}"


def _costs(plan: Planned, number: int) -> Iterator[str]:
    counted = jobs.counts(plan.jobs)
    seconds = jobs.elapsed(plan.jobs, number)
    largest = max(plan.jobs, key=lambda job: job.megabytes)
    free = cores.free_megabytes() / 1000
    yield f"about {roughly(seconds)} on {number} core{'s' * (number > 1)}; {FIRST_RUN}"
    yield f"{sum(counted.values()):,} jobs: {', '.join(f'{rule} {n:,}' for rule, n in counted.items())}"
    if any(one.shards[method] > 1 for one in plan.sizes.values() for method in plan.settings["methods"]):
        yield "the genes of large cell types are split into shards, one job each"
    yield f"memory: the largest job asks for {largest.megabytes / 1000:.1f} GB ({largest.rule}); {free:.1f} GB are free"


def _table(title: str, rows: list[list]) -> list[str]:
    from mlmgen.summary import aligned

    if len(rows) < 2:
        return []
    return [terminal.bold(title), *(f"  {line}" for line in aligned(rows).splitlines())]


def _list(title: str, items, colour=str) -> list[str]:
    lines = [line for item in items for line in terminal.wrapped("  - ", item, 4)]
    return [colour(terminal.bold(title)), *lines] if lines else []
