"""One gene in the engine's arrays, as a thread holds it while it works."""

from typing import NamedTuple

import numpy as np

from mlmgen import simulate
from mlmgen.compress import Compressed, compress
from mlmgen.fitting import thread_work
from mlmgen.kernels.arrowhead import Structure, Work
from mlmgen.kernels.engine import GeneWork
from mlmgen.kernels.families import Gene
from mlmgen.kernels.gather import gather
from mlmgen.kernels.optimize import Search
from mlmgen.types import Counts, Design
from tests.reference import designs
from tests.reference.designs import Cells


class Case(NamedTuple):
    """A gathered gene with a thread's scratch, and the same gene as the twins take it."""

    design: Design
    counts: Counts
    packed: Compressed
    st: Structure
    gene: Gene
    gw: GeneWork
    wk: Work
    search: Search
    cells: Cells


def load(design: Design, counts: Counts, g: int = 0) -> Case:
    """Gather one gene."""
    longest = int(np.diff(counts.start).max(initial=0))
    (gw, wk, search), packed = thread_work(compress(design), longest)
    a, b = counts.start[g], counts.start[g + 1]
    gather(counts.rows[a:b], counts.values[a:b], packed.cells, packed, gw.gene, gw.moments, gw.x)
    cells = designs.cells(design, counts, g)
    return Case(design, counts, packed, packed.structure, gw.gene, gw, wk, search, cells)


def by_hand(y, X, log_size=None) -> Case:
    """One row of data a donor, no random terms."""
    y, X = np.asarray(y, dtype=float), np.asarray(X, dtype=float)
    size = np.ones(len(y)) if log_size is None else np.exp(log_size)
    donor = np.array([f"D{i:03d}" for i in range(len(y))])
    design, order = designs.build(donor, X, [f"b{i}" for i in range(X.shape[1])], {}, size)
    return load(design, designs.counts(y[order, None], ["gene"]))


def simulated(paired: bool, seed: int = 1, g: int = 0, cells_per_donor: int = 25, **settings) -> Case:
    """Four donors an arm; with ``paired``, four donors with both conditions and two nested random terms."""
    settings = {"log_mean": 0.7, "log_mean_sd": 0.3, "cells_sd": 0.5, "effect_share": 0.5} | settings
    rng = np.random.default_rng(seed)
    counts, design, _ = simulate.null_experiment(4, cells_per_donor, g + 1, rng, paired=paired, **settings)
    return load(design, counts, g)


def deviations(case: Case, sd_top: float, sd_sub: float) -> list[float]:
    """Standard deviations in the order of the design's terms."""
    named = {case.packed.top: sd_top, case.packed.sub: sd_sub}
    return [named[i] for i in range(len(case.design.terms))]
