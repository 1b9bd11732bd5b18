"""How long the jobs of a cell type take and what memory they need: numbers of shards, and resources for a scheduler.

Estimates depend on the input and the configuration alone: every job of a cluster parses the Snakefile again and
must find the same jobs, whatever the machine. They read no counts.
"""

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mlmgen import costs, io
from mlmgen.costs import Load, Shape
from mlmgen.io import Column, Outline

METHODS = ("glmm", "pseudobulk")
SCATTERED = ("fit", "test")  # stages with a job for each shard
ONE = ("1",)
# How sums over samples are fitted, whatever the settings of cells.
OF_SAMPLES = {"family": "nb", "estimation": "reml", "integration": "laplace", "likelihood": "compressed"}
# Seconds of fitting that a shard aims at, so that the start of its job (4 to 7 s on a cluster) does not count.
SECONDS_OF_SHARD = 150.0
# MB that a shard of fits may need: a dozen such jobs fit in a laptop, and any node of a cluster can take one.
MEMORY_OF_SHARD = 1500.0
MOST_SHARDS = 100
# What is asked for over what is estimated.
TIME_ALLOWANCE, MEMORY_ALLOWANCE = 3.0, 1.5
LEAST_MINUTES, LEAST_MEGABYTES = 10, 900
# Compiling the kernels, once per machine: 53 s and 360 MB more than the same job later.
COMPILING_MINUTES, COMPILING_MEGABYTES = 3, 400
# Share of the counts of a dense matrix that are not zero, and of the genes that pass the filters.
DENSE_SHARE, SHARE_FITTED = 0.1, 0.6
FEWEST_ROWS = 14  # cells a pattern (`mlmgen.patterns.FEWEST_ROWS`)
# MB of a job of split or prepare where the configuration leaves it open: more does not make it faster.
LEAST_STREAMING, MOST_STREAMING = 1000, 3500
# MB that Snakemake takes in a job of a cluster, beside mlmgen.
OF_SNAKEMAKE = 400
LARGEST_TABLE = 1 << 24  # combinations of codes that are counted in a table of all; more are sorted
# Of the tables, a gene and method, each contrast and coefficient: s, bytes. (20,000 genes, 10 cell types, both methods,
# one contrast, donors left out: 21 s of one core, 1.16 GB.)
PER_RESULT, BYTES_OF_RESULT = 2e-5, 900.0
OF_ALL = ("tables", "figures", "report")  # rules whose one job is of all cell types, and holds the tables
# Of the figures, s a picture (150 of 20,000 genes each: 64 s of one core, 1.4 GB with the tables of 30 cell types) and
# most pictures of tests and of both methods (`mlmgen.pl.figures.MOST`).
PER_PICTURE, MOST_PICTURES = 0.5, 800
# Of the report: s of its genes with donors, and bytes of a cell, whose covariates are held.
GENES_WITH_DONORS, BYTES_OF_CELL = 40.0, 600.0


class Sizes(NamedTuple):
    """What the jobs of one cell type are estimated to take.

    Attributes
    ----------
    cells, donors : int
    nonzeros : float
    shards : dict of str to int
        For each method.
    seconds, megabytes : dict of (str, str) to float
        For each stage and method, of one job: of a shard where the stage has shards.
    tables : (float, float)
        Seconds and megabytes that the cell type adds to the tables.
    """

    cells: int
    donors: int
    nonzeros: float
    shards: dict[str, int]
    seconds: dict[tuple[str, str], float]
    megabytes: dict[tuple[str, str], float]
    tables: tuple[float, float]


class Term(NamedTuple):
    """A random term of a formula: the columns that are crossed to form its groups, and its effects."""

    groups: tuple[str, ...]
    effects: tuple[str, ...]


class _Structure(NamedTuple):
    """What is counted in each of the K cell types of an input, (K,), and what all have in common.

    ``groups`` (T, K) of each random term.
    """

    cells: np.ndarray
    stored: np.ndarray
    patterns: np.ndarray
    donors: np.ndarray
    samples: np.ndarray
    groups: np.ndarray
    terms: tuple[Term, ...]
    nested: bool
    covariates: int
    coefficients: int


def estimate(path: str | os.PathLike, settings: dict, cell_types: Mapping[str, str]) -> dict[str, Sizes]:
    """Estimate what the jobs of each cell type take.

    Parameters
    ----------
    path : path-like
        The input.
    settings : dict
        The configuration, complete (`mlmgen.config.load`).
    cell_types : mapping of str to str
        File name (slug) to cell type (`mlmgen.names`).

    Returns
    -------
    dict of str to Sizes
        By slug; what one cell type is given does not depend on which others are.

    Raises
    ------
    UserError
        If the input or its counts are missing or damaged. Columns that are missing are for other checks to say.
    """
    own = (settings["donor"], settings["cell_type"], settings["sample"])
    found = io.outline(
        path, settings["counts"], lambda names: [n for n in names if n in own or mentions(settings["formula"], n)]
    )
    one_type = settings["cell_type"] not in found.columns
    code = {} if one_type else io.labels(path, settings["cell_type"])
    structure = _structure(found, settings)
    return {slug: _sizes(structure, code.get(name, 0), found.genes, settings) for slug, name in cell_types.items()}


def megabytes(rule: str, method: str, sizes: Sizes | Sequence[Sizes], attempt: int = 1) -> int:
    """Return the memory to ask for, MB, more on every attempt.

    Parameters
    ----------
    rule : {"fit", "moderate", "test", "stability", "audit", "tables", "figures", "report"}
    method : {"glmm", "pseudobulk"}
        Not used for `OF_ALL`.
    sizes : Sizes or sequence of Sizes
        Of the cell type; for `OF_ALL` of all of them.
    attempt : int
        Counted from 1.
    """
    of_all = rule in OF_ALL
    needed = costs.STARTED + sum(one.tables[1] for one in sizes) if of_all else sizes.megabytes[rule, method]
    needed += 1e-6 * BYTES_OF_CELL * sum(one.cells for one in sizes) if rule == "report" else 0.0
    return attempt * math.ceil(max(LEAST_MEGABYTES, MEMORY_ALLOWANCE * needed + COMPILING_MEGABYTES))


def minutes(rule: str, method: str, sizes: Sizes | Sequence[Sizes], attempt: int = 1) -> int:
    """Return the minutes to ask for, more on every attempt; parameters as for `megabytes`."""
    seconds = sum(one.tables[0] for one in sizes) if rule in OF_ALL else sizes.seconds[rule, method]
    seconds += PER_PICTURE * (MOST_PICTURES + len(METHODS) * len(sizes)) if rule == "figures" else 0.0
    seconds += GENES_WITH_DONORS if rule == "report" else 0.0
    return attempt * math.ceil(max(LEAST_MINUTES, TIME_ALLOWANCE * seconds / 60.0 + COMPILING_MINUTES))


def streaming_megabytes(memory: str | float, cores: int | None, free: float | None) -> int:
    """Return the memory that a job of split or prepare may take, MB.

    Parameters
    ----------
    memory : "auto" or float
        Of the configuration, GB.
    cores : int or None
        That the run has; None is one.
    free : float or None
        Memory that the machine has free, MB; None on a cluster, where a job must find the number that it was
        submitted with, on any machine.
    """
    if memory != "auto":
        return int(1000 * memory)
    if free is None:
        return MOST_STREAMING
    return int(min(max(free / ((cores or 1) + 1), LEAST_STREAMING), MOST_STREAMING))


def mentions(formula: str, column: str) -> bool:
    """Tell whether a formula uses a column, as a name or in backticks."""
    return bool(re.search(rf"`{re.escape(column)}`|(?<![\w.]){re.escape(column)}(?![\w.])", formula))


def random_terms(formula: str) -> tuple[str, tuple[Term, ...]]:
    """Split a formula into its fixed effects and its random terms.

    `mlmgen.formula` reads formulas with all their rules and messages; this needs no parser that takes half a second to
    import, and takes whatever it is given.
    """
    found = []

    def take(match: re.Match) -> str:
        effects = tuple(e.strip() for e in re.split(r"[+*]", match[1]) if e.strip() not in ("", "0", "-1", "1"))
        intercept = () if re.match(r"\s*(0|-\s*1)\b", match[1]) else ("1",)
        groups = [tuple(name.strip(" `") for name in part.split(":")) for part in match[2].split("/")]
        found.extend(Term(sum(groups[: i + 1], ()), intercept + effects) for i in range(len(groups)))
        return " "

    fixed = re.sub(r"\(((?:[^()|]|\([^()]*\))*)\|\|?([^()|]*)\)", take, formula)
    return fixed, tuple(found)


def _structure(found: Outline, settings: dict) -> _Structure:
    """Count cells, donors, samples, patterns and groups of random terms in each cell type."""
    fixed, terms = random_terms(settings["formula"])
    n, columns = len(found.stored), {k: c for k, c in found.columns.items() if mentions(settings["formula"], k)}
    of_cell = found.columns.get(settings["cell_type"], Column(np.zeros(n, dtype=np.int64), 1, False))
    keys = [found.columns[key] for key in (settings["donor"], settings["sample"]) if key in found.columns]
    factors = [column for column in columns.values() if not column.numeric]
    samples = keys if settings["sample"] in found.columns else [*keys, *factors]
    patterns, covariates = _patterns([*keys, *factors], [c for c in columns.values() if c.numeric], of_cell)
    groups = [_crossed([columns[name] for name in term.groups if name in columns], n) for term in terms]
    return _Structure(
        cells=np.bincount(of_cell.codes, minlength=of_cell.number),
        stored=np.bincount(of_cell.codes, found.stored, of_cell.number),
        patterns=_seen(patterns, of_cell),
        donors=_seen(_crossed(keys[:1], n), of_cell),
        samples=_seen(_crossed(samples, n), of_cell),
        groups=np.array([_seen(group, of_cell) for group in groups]).reshape(len(groups), of_cell.number),
        terms=terms,
        nested=_nested(groups),
        covariates=covariates,
        coefficients=_coefficients(fixed, found.columns),
    )


def _patterns(factors: Sequence[Column], numbers: Sequence[Column], of_cell: Column) -> tuple[Column, int]:
    """Return the combinations of the columns of a formula that make patterns, and how many columns are left.

    As in `mlmgen.patterns`: a column that would leave fewer cells a pattern is a function of the cells.
    """
    n, left = len(of_cell.codes), 0
    found = _crossed(factors, n)
    for column in numbers:
        finer = _crossed([found, column], n)
        if _seen(finer, of_cell).sum() * FEWEST_ROWS > n:
            left += 1
        else:
            found = finer
    return found, left


def _crossed(columns: Sequence[Column], n: int) -> Column:
    """Return the combinations of columns as one."""
    codes, number = np.zeros(n, dtype=np.int64), 1
    for column in columns:
        codes, number = codes * column.number + column.codes, number * column.number
        if number > LARGEST_TABLE:
            present, codes = np.unique(codes, return_inverse=True)
            number = len(present)
    return Column(codes, number, False)


def _seen(column: Column, of_cell: Column) -> np.ndarray:
    """Count the different values in each of the K cell types, (K,)."""
    both, number = of_cell.codes * column.number + column.codes, of_cell.number
    if number * column.number > LARGEST_TABLE:
        return np.bincount(np.unique(both) // column.number, minlength=number)
    seen = np.zeros(number * column.number, dtype=bool)
    seen[both] = True
    return seen.reshape(number, -1).sum(axis=1)


def _nested(groups: Sequence[Column]) -> bool:
    """Tell whether one of two groupings lies within the other; fewer are nested, more have the general engine."""
    if len(groups) != 2:
        return len(groups) < 2
    n = len(groups[0].codes)
    all_cells = Column(np.zeros(n, dtype=np.int64), 1, False)
    both, *single = (_seen(column, all_cells)[0] for column in (_crossed(groups, n), *groups))
    return both in single


def _coefficients(fixed: str, columns: dict[str, Column]) -> int:
    """Count the coefficients of fixed effects, roughly: interactions multiply, ``df=4`` and the like are believed."""

    def of_factor(text: str) -> int:
        sizes = [1 if c.numeric else max(c.number - 2, 1) for name, c in columns.items() if mentions(text, name)]
        numbers = [int(found) for found in re.findall(r"(?<![\w.])\d+\b", text)] if "(" in text else []
        return max([1, *sizes, *[k for k in numbers if k < 20]])

    total = 1
    for term in re.split(r"\+(?![^(]*\))", fixed.replace("~", " ")):
        if term.strip() in ("", "0", "1", "-1"):
            continue
        factors = [of_factor(text) for text in re.split(r"[*:](?![^(]*\))", term)]
        total += math.prod(k + 1 for k in factors) - 1 if "*" in term else math.prod(factors)
    return total


def _sizes(structure: _Structure, k: int, genes: int, settings: dict) -> Sizes:
    """Estimate the jobs of the cell type with code k."""
    cells, stored, filters = int(structure.cells[k]), float(structure.stored[k]), settings["filters"]
    nonzeros = stored * (DENSE_SHARE if stored == float(cells) * genes else 1.0)
    fewest = max(filters["min_cells_expressing"], filters["min_fraction_expressing"] * cells, 1.0)
    fitted = max(min(SHARE_FITTED * genes, nonzeros / fewest), 1.0)
    contrasts = len(settings["contrasts"] or ()) or max(structure.coefficients - 1, 1)
    shards, seconds, memory = {}, {}, {}
    for method in METHODS:
        shape, of_method = _shape(structure, k, method), settings if method == "glmm" else settings | OF_SAMPLES
        held = nonzeros if method == "glmm" else min(nonzeros, float(shape.rows) * genes)
        load = Load(genes, fitted, held, contrasts, settings["audit_splits"])
        whole = costs.seconds(shape, of_method, load)
        shards[method] = n = _number(settings["shards"], whole["fit"], shape, load, cells)
        seconds |= {(rule, method): s / (n if rule in SCATTERED else 1) for rule, s in whole.items()}
        memory |= {(rule, method): mb for rule, mb in costs.megabytes(shape, load, cells, n).items()}
    results = genes * (contrasts + structure.coefficients) * len(settings["methods"])
    tables = (PER_RESULT * results, 1e-6 * BYTES_OF_RESULT * results)
    return Sizes(cells, int(structure.donors[k]), nonzeros, shards, seconds, memory, tables)


def _shape(structure: _Structure, k: int, method: str) -> Shape:
    """Return what the cost of a gene depends on, of cells or of samples."""
    of_cells, groups = method == "glmm", structure.groups[:, k]
    largest = int(groups.max(initial=1))
    variances, plain = (
        sum(len(term.effects) for term in structure.terms),
        all(t.effects == ONE for t in structure.terms),
    )
    nested = structure.nested or len({term.groups for term in structure.terms}) == 1
    inside = nested or all(set(a.groups) <= set(b.groups) for a, b in itertools.pairwise(structure.terms))
    return Shape(
        rows=int(structure.cells[k] if of_cells else structure.samples[k]),
        donors=int(structure.donors[k]),
        patterns=int(structure.patterns[k] if of_cells else structure.samples[k]),
        covariates=structure.covariates if of_cells else 0,
        terms=len(structure.terms),
        variances=variances,
        groups=largest,
        crossed=0 if inside else int(groups.sum()) - largest,
        nested=plain and structure.nested,
        coefficients=structure.coefficients,
    )


def _number(shards: str | int, seconds: float, shape: Shape, load: Load, cells: int) -> int:
    """Return the number of shards: what the user says, or as many as keep each short and small."""
    if shards != "auto":
        return int(shards)
    number = min(max(1, math.ceil(seconds / SECONDS_OF_SHARD)), MOST_SHARDS)
    while number < MOST_SHARDS and costs.megabytes(shape, load, cells, number)["fit"] > MEMORY_OF_SHARD:
        number += 1
    return min(number, max(load.genes, 1))
