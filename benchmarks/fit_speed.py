"""What does a gene cost? Fit, variance grid, moderation and test at 100,000 cells of 40 donors, on one core.

    python benchmarks/fit_speed.py [--cells 100000] [--genes 400] [--repeats 7] [--glmmtmb 3]

Each part is timed alone with the kernels compiled, CPU time of one thread, median and range over the repeats.
With ``--glmmtmb N`` the same model is fitted to N of the genes by R's glmmTMB in the same run (it must be installed).
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mlmgen import fitting, inference, moderate, simulate
from mlmgen.types import Contrast

DONORS = 40
# Mean count that leaves 3 % of the counts nonzero.
LOG_MEAN, LOG_MEAN_SD = -3.75, 0.6

GLMMTMB = """
suppressMessages(library(glmmTMB)); a <- commandArgs(TRUE); d <- read.csv(a[1]); d$donor <- factor(d$donor)
d$sample <- factor(d$sample)
f <- if (a[2] == "nested") y ~ x + (1 | donor) + (1 | sample) + offset(t) else y ~ x + (1 | donor) + offset(t)
t <- system.time(m <- glmmTMB(f, data = d, family = nbinom2, REML = TRUE))[3]
cat(t, as.numeric(logLik(m)), fixef(m)$cond[2], as.character(packageVersion("glmmTMB")), "\\n")
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cells", type=int, default=100_000)
    arguments.add_argument("--genes", type=int, default=400)
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--glmmtmb", type=int, default=0, metavar="N")
    chosen = arguments.parse_args()
    print("| model | part | ms a gene, median (range) |\n|---|---|---|")
    for nested in (False, True):
        measure(chosen, nested)


def measure(chosen, nested: bool) -> None:
    """Time every part for one model and print the rows of the table."""
    name = "(1 \\| donor) + (1 \\| donor:condition)" if nested else "(1 \\| donor)"
    per_sample = chosen.cells // (2 * DONORS if nested else DONORS)
    arms = DONORS if nested else DONORS // 2
    means = {"log_mean": LOG_MEAN, "log_mean_sd": LOG_MEAN_SD}
    rng = np.random.default_rng(1)
    counts, design, _ = simulate.null_experiment(arms, per_sample, chosen.genes, rng, paired=nested, **means)
    density = len(counts.rows) / (len(design.pattern) * chosen.genes)
    keep = np.ones(chosen.genes, bool)
    packed = fitting.compress(design)
    active = fitting.active_parameters(packed, "nb", "cells")
    shape = fitting.grid_shape(active, "cells")
    fits = fitting.fit_shard(counts, design, keep)
    log_total = np.log(np.add.reduceat(counts.values, counts.start[:-1]))
    moderated = moderate.moderate(fits, log_total)
    contrast = (Contrast("x", "x", np.array([[0.0, 1.0]])),)
    parts = {
        "fit": lambda: fitting.run_fits(packed, counts, keep, active, shape, False, 1, None, profile=False),
        "fit and boundary tests": lambda: fitting.run_fits(
            packed, counts, keep, active, np.ones(3, np.int64), False, 1, None
        ),
        "fit, boundary tests and grid": lambda: fitting.run_fits(packed, counts, keep, active, shape, False, 1, None),
        "moderation": lambda: moderate.moderate(fits, log_total),
        "test of a contrast": lambda: inference.test(counts, design, fits, moderated, contrast),
    }
    print(f"| {name}, {len(design.pattern):,} cells, {density:.1%} nonzero | | |")
    median = {}
    for part, call in parts.items():
        times = np.array([cpu_time(call) for _ in range(chosen.repeats)]) / chosen.genes * 1e3
        median[part] = np.median(times)
        print(f"| | {part} | {median[part]:.3f} ({times.min():.3f}-{times.max():.3f}) |", flush=True)
    whole, fit = sum([*median.values()][2:]), median["fit and boundary tests"]
    print(f"| | grid, moderation and test / fit and boundary tests | {whole / fit - 1.0:.2f} |", flush=True)
    for g in range(chosen.glmmtmb):
        glmmtmb(counts, design, fits, g, "nested" if nested else "donor")


def cpu_time(call) -> float:
    """Seconds of CPU time of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def glmmtmb(counts, design, fits, g: int, model: str) -> None:
    """Fit one gene by glmmTMB and print its time and how far it is from ours."""
    y = np.zeros(len(design.pattern))
    span = slice(counts.start[g], counts.start[g + 1])
    y[counts.rows[span]] = counts.values[span]
    columns = design.donor.codes[design.pattern], design.sample.codes[design.pattern], design.X[design.pattern, 1]
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "data.csv", Path(folder) / "fit.R"
        with data.open("w", newline="") as file:
            csv.writer(file).writerows(
                [("y", "donor", "sample", "x", "t"), *zip(y, *columns, design.log_size, strict=True)]
            )
        script.write_text(GLMMTMB)
        run = subprocess.run(["Rscript", script, data, model], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"glmmTMB failed: {run.stderr.strip().splitlines()[-1]}")
    seconds, loglik, effect, version = run.stdout.split()
    away = (
        f"log-likelihood {float(loglik) - fits.loglik[g]:+.1e}, beta {float(effect) - fits.beta[g, 1]:+.1e} from ours"
    )
    print(f"| | glmmTMB {version}, one gene ({away}) | {float(seconds) * 1e3:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
