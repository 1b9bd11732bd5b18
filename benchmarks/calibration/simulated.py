"""Draw an experiment of a setting: 10 % of the genes have an effect of either sign, the others none."""

from typing import NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.calibration.settings import TIMES, Setting
from benchmarks.experiments import Truth, draw
from mlmgen import design as designing
from mlmgen import filters, pseudobulk, simulate
from mlmgen.counts import gene_statistics
from mlmgen.formula import parse
from mlmgen.types import Contrast, Counts, Design

SEED = 20261121
EFFECT_SHARE = 0.1
# Variance of a donor's effect that no study of this size can tell from none.
NEXT_TO_NOTHING = 1e-5
# The covariate differs between donors, as a share of stressed or cycling cells does, and far more between cells.
SCORE_SD_DONOR, SCORE_SLOPE_SD = 0.5, 0.3
# The defaults of the configuration.
FILTERS = {"min_cells_expressing": 10, "min_fraction_expressing": 0.01, "min_donors_expressing": 2}


class DataSet(NamedTuple):
    """What all programs are given: the genes that pass the filters, the design and the effect to test.

    ``variance`` (G, random effects), ``phi`` (G,) and ``effect`` (G,) are the truth, NaN where it is not known.
    """

    counts: Counts
    design: Design
    contrast: Contrast
    effect: np.ndarray
    variance: np.ndarray
    phi: np.ndarray


def generator(name: str, number: int) -> np.random.Generator:
    """Return the generator of one data set, whatever other settings and data sets there are."""
    return np.random.default_rng([SEED, crc32(name.encode()), number])


def simulated(setting: Setting, number: int) -> DataSet:
    """Draw data set ``number`` of a setting."""
    rng = generator(setting.name, number)
    design = lay_out(setting, rng)
    truth, effect = parameters(setting, design, rng)
    counts = draw(design, truth, "nb", rng)
    variance = np.concatenate([np.einsum("gqq->gq", root) ** 2 for root in truth.roots], axis=1)
    X = matrix(counts, len(design.pattern))
    return data_set(X, counts.genes, design, effect, variance, truth.dispersion)


def lay_out(setting: Setting, rng: np.random.Generator) -> Design:
    """Draw the cells of every sample, their size factors and the covariate."""
    visits = len(TIMES) if setting.over_time else 2
    samples = visits * setting.donors
    if setting.paired or setting.over_time:
        donor, arm = np.repeat(np.arange(setting.donors), visits), np.tile(np.arange(visits), setting.donors)
    else:
        donor, arm = np.arange(samples), np.repeat([0, 1], setting.donors)
    number = np.rint(np.exp(rng.uniform(*np.log(setting.cells), samples))).astype(int)
    of_cell = np.repeat(np.arange(samples), number)
    log_size = rng.normal(0, simulate.SIZE_SD_SAMPLE, samples)[of_cell]
    log_size += rng.normal(0, simulate.SIZE_SD_CELL, of_cell.size)
    size = np.exp(log_size - np.log(np.exp(log_size).mean()))
    score = rng.normal(0, SCORE_SD_DONOR, donor.max() + 1)[donor[of_cell]] + rng.standard_normal(of_cell.size)
    columns = {
        "donor": pd.Categorical.from_codes(donor[of_cell], [f"D{i + 1:02d}" for i in range(donor.max() + 1)]),
        "score": score,
    }
    if setting.over_time:
        columns |= {"time": np.array(TIMES)[arm[of_cell]], "sample": [f"S{s:03d}" for s in of_cell]}
    else:
        columns["condition"] = pd.Categorical.from_codes(arm[of_cell], ["ctrl", "stim"])
    sample = "sample" if setting.over_time else None
    return designing.build(pd.DataFrame(columns), parse(setting.formula), "donor", sample, size_factor=size)[0]


def parameters(setting: Setting, design: Design, rng: np.random.Generator) -> tuple[Truth, np.ndarray]:
    """Draw the genes' parameters; return them and the effects, (G,) natural log; over time they are of all visits."""
    G = setting.genes
    log_mean = np.minimum(rng.normal(*setting.log_mean, G), simulate.LOG_MEAN_MAX)
    size = rng.uniform(simulate.EFFECT_LOW, simulate.EFFECT_HIGH, G) * rng.choice([-1.0, 1.0], G)
    change = size * (rng.random(G) < EFFECT_SHARE)
    beta, span = np.zeros((G, len(design.coefficients))), np.ptp(TIMES) if setting.over_time else 1.0
    effect = change / span
    beta[:, 0], beta[:, place_of_effect(design)] = log_mean - change / 2, effect
    if "score" in design.coefficients:
        beta[:, design.coefficients.index("score")] = rng.normal(0, SCORE_SLOPE_SD, G)
    sizes = [len(term.effects) for term in design.terms]
    medians = np.array([setting.donor_sd, setting.response_sd])[: sum(sizes)] ** 2
    variance = medians * np.exp(setting.spread * rng.standard_normal((G, len(medians))))
    variance[rng.random(G) < setting.near_zero, 0] = NEXT_TO_NOTHING
    center = simulate.LOG_PHI + simulate.LOG_PHI_SLOPE * (log_mean - simulate.LOG_MEAN)
    phi = np.exp(rng.normal(center, simulate.LOG_PHI_SD))
    roots = tuple(
        np.sqrt(v)[:, :, None] * np.eye(v.shape[1]) for v in np.split(variance, np.cumsum(sizes)[:-1], axis=1)
    )
    return Truth(beta, roots, phi), effect


def place_of_effect(design: Design) -> int:
    """Return the column of the model matrix that is tested: the one factor with two levels, or time."""
    return next(j for j, name in enumerate(design.coefficients) if "[T." in name or name == "time")


def tested(design: Design) -> Contrast:
    """Return the contrast of the two arms, or the slope of time."""
    weights = np.zeros((1, len(design.coefficients)))
    weights[0, place_of_effect(design)] = 1.0
    return Contrast("effect", design.coefficients[place_of_effect(design)], weights)


def matrix(counts: Counts, n: int) -> sparse.csc_matrix:
    """Return counts as a matrix, (n, G) CSC of int."""
    return sparse.csc_matrix((counts.values.astype(np.int32), counts.rows, counts.start), shape=(n, len(counts.genes)))


def as_counts(X: sparse.csc_matrix, genes) -> Counts:
    """Return a matrix, (n, G) CSC, as counts."""
    start, rows = X.indptr.astype(np.int64), X.indices.astype(np.int32)
    return Counts(tuple(genes), start, rows, X.data.astype(np.float64))


def expressed(X: sparse.csc_matrix, design: Design) -> np.ndarray:
    """Return the genes that pass the default filters, (kept,) int."""
    statistics = gene_statistics(X, design.donor.codes[design.pattern])
    return np.flatnonzero(filters.keep(statistics, X.shape[0], FILTERS))


def data_set(X, genes, design: Design, effect, variance, phi) -> DataSet:
    """Keep the genes that pass the filters."""
    kept = expressed(X, design)
    counts = as_counts(X[:, kept], [genes[g] for g in kept])
    return DataSet(counts, design, tested(design), effect[kept], variance[kept], phi[kept])


def totals(counts: Counts) -> np.ndarray:
    """Return the total count of genes that have counts, (G,)."""
    return np.add.reduceat(counts.values, counts.start[:-1])


def of_samples(data: DataSet) -> tuple[Counts, Design]:
    """Return the sums over the cells of every sample, and their design."""
    Y = pseudobulk.aggregate(matrix(data.counts, len(data.design.pattern)), data.design)
    return as_counts(Y, data.counts.genes), designing.for_samples(data.design)
