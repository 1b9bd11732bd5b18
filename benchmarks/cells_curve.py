"""Does a gene cost more with more cells? The fits of multilevel_speed.py from 10,000 to 1,000,000 cells of 40 donors.

    python -m benchmarks.cells_curve [--cells 10000 100000 ...] [--genes 50] [--repeats 5]

Once with 3,000 nonzero counts a gene at any number of cells (expression falls as cells grow), once with 3 % of the
counts nonzero. CPU times of one thread, medians over the repeats. Each number of cells has a process of its own, whose
peak memory is printed: interpreter, kernels, the table of the cells, and the genes with their fits.
"""

import argparse
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from benchmarks.experiments import STRUCTURES, draw, experiment, typical
from benchmarks.multilevel_speed import DONORS, Case, Data, prepare, tier, times

CASES = (
    Case("intercept", engine="fast"),
    Case("nested", engine="fast"),
    Case("slope"),
    Case("slope", "bernoulli"),
    Case("slope", "gaussian"),
    Case("crossed"),
    Case("two covariates"),
)
NONZERO, DENSITY = 3_000, 0.03
# Cells and genes on which the log mean that leaves a density is found.
TRIAL_CELLS, TRIAL_GENES = 10_000, 40


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cells", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
    arguments.add_argument("--genes", type=int, default=50)
    arguments.add_argument("--repeats", type=int, default=5)
    chosen = arguments.parse_args()
    heads = [f"`{STRUCTURES[c.structure].split('+ ', 1)[1]}` {c.family}".replace("|", "\\|") for c in CASES]
    print(f"| cells | nonzeros a gene | {' | '.join(heads)} | cubature: cells, build s | peak memory |")
    print("|" + "---|" * (len(CASES) + 4), flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for constant in ("nonzeros", "density"):
            for cells in chosen.cells:
                density = min(NONZERO / cells, 0.9) if constant == "nonzeros" else DENSITY
                print(pool.submit(row, cells, density, chosen.genes, chosen.repeats).result(), flush=True)


def row(cells: int, density: float, genes: int, repeats: int) -> str:
    """Measure one number of cells, in a process of its own; return the row of the table."""
    milliseconds, cubature, nonzeros = [], "", []
    log_mean = log_mean_for(density)
    drawn: dict[str, Data] = {}
    for case in CASES:
        if case.structure not in drawn:
            drawn = {case.structure: data(case.structure, cells, log_mean, genes)}
            nonzeros.append(len(drawn[case.structure].counts.rows) / genes)
        one = drawn[case.structure]
        ready = prepare(case, one)
        if one.experiment.design.functions.shape[1]:
            cubature = f"{ready.model.all.size.size:,}, {ready.seconds:.1f}"
        milliseconds.append(f"{np.median(times(ready.fit, repeats, ready.genes)):.3f}")
    # Kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| {cells:,} | {np.mean(nonzeros):,.0f} | {' | '.join(milliseconds)} | {cubature} | {peak:,.0f} MB |"


def data(structure: str, cells: int, log_mean: float, genes: int) -> Data:
    """Draw the genes of a structure, all of the same log mean."""
    rng = np.random.default_rng(1)
    laid = experiment(structure, DONORS, cells // DONORS, rng)
    counts = draw(laid.design, typical(laid.design, np.full(genes, log_mean), rng), "nb", rng)
    return Data(laid, counts, *tier(counts, len(laid.obs)))


def log_mean_for(density: float) -> float:
    """Return the log mean of genes of which this share of the counts is not zero, by bisection on simulated counts."""
    low, high = np.log(density) - 1.0, np.log(density) + 6.0
    laid = experiment("intercept", DONORS, TRIAL_CELLS // DONORS, np.random.default_rng(2))
    for _ in range(12):
        middle, rng = 0.5 * (low + high), np.random.default_rng(3)
        truth = typical(laid.design, np.full(TRIAL_GENES, middle), rng)
        share = len(draw(laid.design, truth, "nb", rng).rows) / (TRIAL_CELLS * TRIAL_GENES)
        low, high = (middle, high) if share < density else (low, middle)
    return 0.5 * (low + high)


if __name__ == "__main__":
    main()
