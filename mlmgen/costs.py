"""What a gene and a job cost: seconds and megabytes from the shape of a model and of its data.

Measured on 2026-11-21 on one core of an AMD EPYC (AVX-512), mlmgen 0.1.0, numba 0.68: `mlmgen.fitting.fit_shard` and
`mlmgen.inference.test` on the designs of benchmarks/experiments.py with 5,000 to 60,000 cells of 10 to 300 donors and
150 to 6,900 nonzeros a gene, and the stages on a cell type of 20 million nonzeros. Nearly all lie within a factor of 2
of what is computed here.
"""

from typing import NamedTuple

# ms of a gene's fit with its variance grid. Nested random intercepts by REML, one and two: an engine of their own.
NESTED, NESTED_PER_PATTERN = (0.08, 0.17), (0.0015, 0.004)
# Any other model, by the variances of its random effects: up to one, two, three or more.
GENERAL, GENERAL_PER_PATTERN = (0.5, 1.0, 2.0), (0.004, 0.008, 0.025)
PER_CROSSED = 1.6e-4  # a group of the largest term and pair of levels of crossed terms
PER_NONZERO = 2e-5
# Covariates that vary from cell to cell: the nonzeros stay exact, and a pattern has so many nodes, by their number.
NODES, BY_NODES, PER_NODE, PER_EXACT_NONZERO = (60, 220, 500), 0.8, 6e-4, 1.5e-3
PER_CELL = 1.5e-4  # likelihood: exact
MORE_VARIANCES = (1.0, 2.0, 4.0)  # times, where cells are nodes
PER_QUADRATURE_NODE = 2.3  # times a fit by Laplace
# The test of a contrast as a multiple of the fit, and of each further contrast as a part of the first.
TEST_NESTED, TEST_GENERAL, TEST_BY_NODES, FURTHER_CONTRAST = 1.2, 0.6, 1.5, 0.45
MODERATION, PER_MODERATED = 1.0, 1e-4  # s, s a gene
READING, COMPRESSING = 4e-8, 1e-6  # s a nonzero, s a row of a design
GRID = (0, 24, 63, 140)  # points by axes (`mlmgen.variance_grid.AXES`)
# Of mlmgen.stability for both of its kinds, mlmgen.leave_out, mlmgen.audit.
HITS, DONORS_LEFT_OUT, AUDITED = 400, 8, 2000
INJECTED = 1.2  # fits and tests of a split of the audit, those with injected effects included

# MB of a process before it has data; bytes a nonzero with what is held while it is read, and of the audit, which copies
# it; bytes a row of a design with what is derived from it; copies of the fits of genes that are held at once.
STARTED, PER_HELD, PER_AUDITED, PER_ROW, COPIES = 200.0, 16.0, 60.0, 200.0, 3.0
PER_CELL_OF_AUDIT = 700.0  # bytes, obs as a data frame
PART_READ = 300.0  # MB, of what lies around some genes while they are read (`mlmgen.io.read_some_counts`)


class Shape(NamedTuple):
    """What the cost of a gene depends on.

    Attributes
    ----------
    rows : int
        Cells, or samples.
    donors : int
    patterns : int
        Different rows of the design.
    covariates : int
        Columns that vary from cell to cell within patterns.
    terms : int
        Random terms.
    variances : int
        Of all their effects.
    groups : int
        Of the largest term.
    crossed : int
        Levels of the terms that are not nested in one another, without the largest.
    nested : bool
        Random intercepts, at most two, one within the other.
    coefficients : int
    """

    rows: int
    donors: int
    patterns: int
    covariates: int
    terms: int
    variances: int
    groups: int
    crossed: int
    nested: bool
    coefficients: int


class Load(NamedTuple):
    """How much there is of it: genes, those of them that are fitted, nonzeros of all, contrasts, splits of an audit."""

    genes: int
    fitted: float
    nonzeros: float
    contrasts: int
    splits: int


def fit_milliseconds(shape: Shape, settings: dict, nonzeros: float) -> tuple[float, float]:
    """Return what the fit of a gene takes and what the test of a contrast takes, ms.

    Parameters
    ----------
    shape : Shape
    settings : dict
        ``family``, ``estimation``, ``integration``, ``quadrature_nodes``, ``likelihood``.
    nonzeros : float
        Of the gene.
    """
    kind = min(max(shape.variances, 1), 3) - 1
    counts, exact = settings["family"] != "gaussian", settings["likelihood"] == "exact"
    if counts and (exact or shape.covariates):
        nodes = NODES[min(shape.covariates, 3) - 1] * shape.patterns
        of_nodes = PER_CELL * shape.rows if exact else PER_NODE * min(nodes, shape.rows)
        of_nonzeros = PER_NONZERO if exact else PER_EXACT_NONZERO
        fit = MORE_VARIANCES[kind] * max(shape.covariates, 1) * (BY_NODES + of_nodes + of_nonzeros * nonzeros)
        return fit, TEST_BY_NODES * fit
    if shape.nested and counts and settings["estimation"] == "reml":
        two = shape.terms > 1
        fit = NESTED[two] + NESTED_PER_PATTERN[two] * shape.patterns + PER_NONZERO * nonzeros
        return fit, TEST_NESTED * fit
    fit = GENERAL[kind] + GENERAL_PER_PATTERN[kind] * shape.patterns + PER_NONZERO * nonzeros
    fit += PER_CROSSED * shape.groups * shape.crossed**2
    if settings["integration"] == "agq":
        fit *= PER_QUADRATURE_NODE * settings["quadrature_nodes"]
    return fit, TEST_GENERAL * fit


def bytes_of_fit(shape: Shape) -> float:
    """Return what the fit of a gene holds (`mlmgen.types.GeneFits`), bytes."""
    p, v = shape.coefficients, shape.variances + 1
    covariances = 1 if shape.nested else 1 + v
    axes = shape.variances if shape.variances <= 3 else shape.terms
    return 8.0 * (3 * p + covariances * p * p + 8 * v + GRID[min(axes, 3)])


def seconds(shape: Shape, settings: dict, load: Load) -> dict[str, float]:
    """Return what the stages take, s of one core, as one job each; parameters as for `fit_milliseconds`."""
    fit, test = (1e-3 * ms for ms in fit_milliseconds(shape, settings, load.nonzeros / load.fitted))
    reading = READING * load.nonzeros
    tests = test * (1.0 + FURTHER_CONTRAST * (load.contrasts - 1))
    refitted = min(HITS, load.genes) * min(shape.donors, DONORS_LEFT_OUT)
    of_split = INJECTED * min(AUDITED, load.genes) * (fit + test) + 2 * COMPRESSING * shape.rows
    return {
        "fit": reading + load.fitted * fit,
        "moderate": MODERATION + PER_MODERATED * load.genes,
        "test": reading + load.fitted * tests,
        "stability": reading + refitted * (fit + tests) + shape.donors * COMPRESSING * shape.rows,
        "audit": reading + (load.contrasts * load.splits + 1) * of_split,
    }


def megabytes(shape: Shape, load: Load, cells: int, shards: int) -> dict[str, float]:
    """Return the peak memory of the stages, MB.

    Parameters
    ----------
    shape : Shape
    load : Load
    cells : int
        Of the cell type, which the audit of samples reads too.
    shards : int
        Of fits and tests.
    """
    design = STARTED + 1e-6 * PER_ROW * (1 + shape.covariates) * shape.rows
    held, fits = 1e-6 * PER_HELD * load.nonzeros, 1e-6 * COPIES * bytes_of_fit(shape) * load.genes
    audited = min(1.0, AUDITED / load.fitted) * load.nonzeros
    return {
        "fit": design + (held + fits) / shards,
        "moderate": STARTED + fits,
        "test": design + (held + fits) / shards,
        "stability": STARTED + 2 * (design - STARTED) + min(PART_READ, held) + fits,
        "audit": STARTED + 1e-6 * (PER_CELL_OF_AUDIT * cells + PER_AUDITED * audited),
    }
