"""What does a gene cost under any structure? Fits and boundary tests at 100,000 cells of 40 donors, on one core.

    python -m benchmarks.multilevel_speed [--cells 100000] [--genes 400] [--repeats 7] [--others 2] [--python PATH]

Times are CPU times of one thread with the kernels compiled and the data in memory, median and range over the repeats;
a fit includes standard errors with the uncertainty of the variances. With ``--others N`` glmmTMB, lme4, GPBoost and
edgePython's NEBULA-LN fit N of the genes in the same run; ``--python`` is an interpreter that has the last two.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks import other_programs
from benchmarks.experiments import STRUCTURES, Experiment, draw, experiment, typical
from mlmgen import __version__, fitting, levels, multilevel
from mlmgen.cubature import Cubature, choose, cubature
from mlmgen.types import Counts, GeneFits

DONORS = 40
# Log mean counts that leave 3 % of the counts nonzero.
LOG_MEAN, LOG_MEAN_SD = -3.7, 0.6


class Case(NamedTuple):
    """One row of the table; ``bar`` is in ms a gene, ``engine`` is ``fast`` or ``general``.

    ``degree`` is the cubature's, 0 for the lowest that meets its tolerance.
    """

    structure: str
    family: str = "nb"
    method: str = "reml"
    engine: str = "general"
    likelihood: str = "compressed"
    bar: str = ""
    degree: int = 0


CASES = (
    Case("intercept", engine="fast", bar="0.1"),
    Case("intercept"),
    Case("nested", engine="fast", bar="0.25"),
    Case("nested"),
    Case("slope", bar="0.6"),
    Case("slope", method="ml", bar="0.6"),
    Case("slope", "bernoulli"),
    Case("slope", "gaussian"),
    Case("crossed"),
    Case("two covariates", bar="1.2", degree=8),
    Case("two covariates"),
    Case("two covariates", likelihood="exact"),
)
# NEBULA-LN and GPBoost have no REML, GPBoost and NEBULA-LN no correlated slopes, lme4 no dispersion worth waiting for.
OTHERS = (
    ("glmmTMB", Case("intercept")),
    ("GPBoost", Case("intercept", method="ml")),
    ("NEBULA-LN", Case("intercept", method="ml")),
    ("lme4", Case("intercept", "poisson", "ml")),
    ("glmmTMB", Case("nested")),
    ("GPBoost", Case("nested", method="ml")),
    ("glmmTMB", Case("slope")),
    ("glmmTMB", Case("slope", method="ml")),
    ("GPBoost", Case("uncorrelated slope", method="ml")),
    ("lme4", Case("slope", "poisson", "ml")),
    ("glmmTMB", Case("slope", "bernoulli")),
    ("lme4", Case("slope", "gaussian")),
    ("glmmTMB", Case("crossed")),
    ("GPBoost", Case("crossed", method="ml")),
    ("glmmTMB", Case("two covariates")),
)


class Data(NamedTuple):
    """Genes of one structure; ``means`` is the tier of mean counts they fall in, ``keep`` (G,) those in it."""

    experiment: Experiment
    counts: Counts
    keep: np.ndarray
    means: tuple[float, float]


class Prepared(NamedTuple):
    """The fit alone and with boundary tests, as functions without arguments, of so many genes.

    ``model`` is the general engine's, None for the fast one; ``seconds`` it took to build.
    """

    fit: Callable
    with_tests: Callable
    genes: int
    model: levels.Model | None
    seconds: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cells", type=int, default=100_000)
    arguments.add_argument("--genes", type=int, default=400)
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--others", type=int, default=0, metavar="N")
    arguments.add_argument("--python", default=sys.executable, metavar="PATH")
    chosen = arguments.parse_args()
    python, genes = platform.python_version(), f"{chosen.genes} genes, {chosen.repeats} repeats"
    print(f"mlmgen {__version__}, Python {python}, numpy {np.__version__}; {chosen.cells:,} cells, {genes}\n")
    data = {}
    print("| model | family | method | fit, ms a gene | boundary tests | bar |\n|---|---|---|---|---|---|")
    notes = [_row(case, _data(case.structure, chosen, data), chosen.repeats) for case in CASES]
    print("\n" + "\n".join(note for note in notes if note))
    if chosen.others:
        _others(chosen, data)


def _data(structure: str, chosen, made: dict[str, Data]) -> Data:
    """Return the genes of a structure, drawn once."""
    if structure not in made:
        rng = np.random.default_rng(1)
        laid = experiment(structure, DONORS, chosen.cells // DONORS, rng)
        truth = typical(laid.design, rng.normal(LOG_MEAN, LOG_MEAN_SD, chosen.genes), rng)
        counts = draw(laid.design, truth, "nb", rng)
        keep, means = tier(counts, len(laid.obs))
        made[structure] = Data(laid, counts, keep, means)
    return made[structure]


def tier(counts: Counts, n: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the genes in the tier of the median gene (``multilevel.TIERS``), and its range of mean counts."""
    mean = np.add.reduceat(counts.values, counts.start[:-1]) / n
    edges = np.array([high for _, high in multilevel.TIERS])
    of_gene = np.searchsorted(edges, mean, side="right")
    chosen = int(np.searchsorted(edges, np.median(mean), side="right"))
    return of_gene == chosen, multilevel.TIERS[chosen]


def _row(case: Case, data: Data, repeats: int) -> str:
    """Print a row of the table; return a note on the cubature where there is one."""
    ready = prepare(case, data)
    alone, both = times(ready.fit, repeats, ready.genes), times(ready.with_tests, repeats, ready.genes)
    extra = np.median(both) - np.median(alone)
    name = f"`{STRUCTURES[case.structure].split('+ ', 1)[1]}`".replace("|", "\\|")
    if case.degree:
        name += f", degree {case.degree}"
    name += ", every cell" if case.likelihood == "exact" else ", fast engine" if case.engine == "fast" else ""
    print(f"| {name} | {case.family} | {case.method} | {text(alone)} | {extra:.3f} | {case.bar} |", flush=True)
    chosen = data.experiment.design.functions.shape[1] and not case.degree and case.likelihood == "compressed"
    return cubature_note(data, ready.seconds) if chosen else ""


def prepare(case: Case, data: Data) -> Prepared:
    """Build what does not depend on the gene."""
    (design, _), counts, keep, means = data
    every, one = np.ones(keep.size, bool), np.ones(3, np.int64)
    start = time.process_time()
    if case.engine == "fast":
        packed = fitting.compress(design)
        fixed = (packed, counts, every, fitting.active_parameters(packed, case.family, "cells"), one, False, 1, None)
        spent = time.process_time() - start
        run = fitting.run_fits
        return Prepared(lambda: run(*fixed, profile=False), lambda: run(*fixed), keep.size, None, spent)
    model = levels.build_model(design, case.family, case.method, likelihood=case.likelihood, means=means)
    if case.degree:
        functions = standard(design.functions)
        index, weight = cubature(design.pattern, np.column_stack([design.log_size, functions]), case.degree)
        model = model._replace(all=levels.all_cells(design, functions, Cubature(index, weight, case.degree, np.nan)))
    spent = time.process_time() - start
    given = multilevel.responses(counts, design, case.family)
    chosen = keep if design.functions.shape[1] else every
    fixed, run = (model, given, chosen, 1, None), multilevel.run_models
    return Prepared(lambda: run(*fixed, False), lambda: run(*fixed, True), int(chosen.sum()), model, spent)


def standard(functions: np.ndarray) -> np.ndarray:
    """Return covariates with mean 0 and standard deviation 1, as the model has them."""
    return (functions - functions.mean(axis=0)) / functions.std(axis=0)


def cubature_note(data: Data, seconds: float) -> str:
    """Say what degree the cubature took, how many cells it kept, and how long it and all of the model took."""
    design = data.experiment.design
    functions = standard(design.functions)
    start = time.process_time()
    found = choose(design.pattern, design.log_size, functions, means=data.means)
    spent = time.process_time() - start
    kept = f"{found.index.size:,} of {len(functions):,} cells"
    genes = f"means up to {data.means[1]:g} ({data.keep.sum()} of {data.keep.size} genes)"
    quality = f"degree {found.degree}, {kept}, error {found.error:.0e} s.e."
    return f"Cubature, {genes}: {quality}, {spent:.1f} s; all of the model {seconds:.1f} s."


def times(call, repeats: int, genes: int) -> np.ndarray:
    """Return CPU milliseconds a gene of each repeat, (repeats,); a first call is not counted."""
    call()
    spent = np.empty(repeats)
    for i in range(repeats):
        start = time.process_time()
        call()
        spent[i] = time.process_time() - start
    return spent / genes * 1e3


def text(milliseconds: np.ndarray) -> str:
    """Write the median and the range."""
    return f"{np.median(milliseconds):.3f} ({milliseconds.min():.3f}-{milliseconds.max():.3f})"


def _others(chosen, data: dict[str, Data]) -> None:
    """Print what other programs take for the first genes, and how far from our optimum they stop."""
    print("\nLog-likelihood and effect are theirs less ours, the effect in standard errors.\n")
    print("| model | family | method | program | s a gene | times ours | log-likelihood | effect |")
    print("|---|---|---|---|---|---|---|---|")
    for program, case in OTHERS:
        drawn = _data(case.structure, chosen, data)
        genes = np.flatnonzero(drawn.keep)[: chosen.others]
        name = f"`{STRUCTURES[case.structure].split('+ ', 1)[1]}`".replace("|", "\\|")
        row = f"| {name} | {case.family} | {case.method} | {program}"
        given = (drawn.experiment, drawn.counts, genes, case.structure, case.family, case.method, chosen.python)
        found = other_programs.fit(program, *given)
        if isinstance(found, str):
            print(f"{row} | skipped: {found} | | | |", flush=True)
            continue
        fits, ours = _ours(case, drawn, chosen.repeats)
        seconds, away = np.median(found.seconds), found.loglik - fits.loglik[genes]
        likelihood = "another approximation" if np.isnan(away).all() else spread(away)
        effect = spread((found.beta[:, 1] - fits.beta[genes, 1]) / fits.std_error[genes, 1])
        ratio = f"{seconds:.3g} | {seconds * 1e3 / ours:,.0f}"
        print(f"{row} {found.version} | {ratio} | {likelihood} | {effect} |", flush=True)


def _ours(case: Case, data: Data, repeats: int) -> tuple[GeneFits, float]:
    """Return our fits of every gene, and milliseconds a gene."""
    fast = case.structure in ("intercept", "nested") and (case.family, case.method) == ("nb", "reml")
    ready = prepare(case._replace(engine="fast") if fast else case, data)
    spent = np.median(times(ready.fit, repeats, ready.genes))
    fits = multilevel.fit_any(
        data.counts, data.experiment.design, data.keep, case.family, 1, None, case.method, "laplace", 9, "compressed",
        tests=False,
    )  # fmt: skip
    return fits, spent


def spread(values: np.ndarray) -> str:
    """Write the lowest and highest of some differences."""
    return f"{values.min():+.1e}" if values.size == 1 else f"{values.min():+.1e} to {values.max():+.1e}"


if __name__ == "__main__":
    main()
