"""Experiments that the benchmarks share: cells of donors, designs by structure, responses drawn from their models."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from mlmgen import design as designing
from mlmgen import simulate
from mlmgen.formula import parse
from mlmgen.types import Counts, Design

# `arm` and `site` are constant within donors; `condition`, `time` and `batch` vary within donors and are constant in
# patterns; `percent` and `score` vary from cell to cell.
STRUCTURES = {
    "intercept": "~ arm + (1 | donor)",
    "nested": "~ condition + (1 | donor) + (1 | donor:condition)",
    "slope": "~ condition + (1 + condition | donor)",
    "uncorrelated slope": "~ condition + (1 + condition || donor)",
    "slope of time": "~ time + (1 + time | donor)",
    "uncorrelated slope of time": "~ time + (1 + time || donor)",
    "three levels": "~ condition + (1 | site) + (1 | donor) + (1 | donor:condition)",
    "crossed": "~ arm + (1 | donor) + (1 | batch)",
    "covariate": "~ arm + score + (1 | donor)",
    "two covariates": "~ arm + percent + score + (1 | donor)",
    "slope of a covariate": "~ arm + score + (1 + score | donor)",
}
# Weeks of a longitudinal study, and donors of a site.
TIMES, DONORS_PER_SITE = np.array([0.0, 0.5, 1.0, 1.5, 2.0]), 2
# Standard deviation of a typical gene's fixed effects, of a covariate's in units of its standard deviation.
EFFECT_SD = 0.2


class Experiment(NamedTuple):
    """A design, and the obs table in its order of rows with the size factors as column ``size``."""

    design: Design
    obs: pd.DataFrame


class Truth(NamedTuple):
    """Parameters of G genes.

    ``beta`` (G, p); ``roots``: of each term of the design the Cholesky factors (G, q, q) of its covariances;
    ``dispersion`` (G,) is phi, or the residual variance of a gaussian response.
    """

    beta: np.ndarray
    roots: tuple[np.ndarray, ...]
    dispersion: np.ndarray


def experiment(
    structure: str, donors: int, cells: int | tuple[int, int], rng: np.random.Generator, batches: int = 8
) -> Experiment:
    """Lay out a structure of ``STRUCTURES`` with ``cells`` of each donor, or a number drawn between two."""
    number = rng.integers(*cells, donors, endpoint=True) if isinstance(cells, tuple) else np.full(donors, cells)
    donor, n = np.repeat(np.arange(donors), number), int(number.sum())
    position = np.concatenate([np.arange(k) for k in number])
    log_size = rng.normal(0, simulate.SIZE_SD_SAMPLE, donors)[donor] + rng.normal(0, simulate.SIZE_SD_CELL, n)
    size = np.exp(log_size - np.log(np.exp(log_size).mean()))
    columns = {
        "donor": _factor("D", donor),
        "site": _factor("S", donor // DONORS_PER_SITE),
        "arm": pd.Categorical.from_codes(donor % 2, ["control", "treated"]),
        "condition": pd.Categorical.from_codes(position % 2, ["ctrl", "stim"]),
        "time": TIMES[position % len(TIMES)],
        "batch": _factor("B", rng.integers(0, batches, n)),
        "percent": 5.0 * np.exp(rng.normal(0.0, 0.4, n)),
        "score": rng.normal(0.5, 1.0, n),
        "size": size,
    }
    obs = pd.DataFrame(columns)
    design, order = designing.build(obs, parse(STRUCTURES[structure]), "donor", size_factor=size)
    return Experiment(design, obs.iloc[order].reset_index(drop=True))


def _factor(prefix: str, codes: np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [f"{prefix}{i + 1}" for i in range(codes.max() + 1)])


def typical(design: Design, log_mean: np.ndarray, rng: np.random.Generator) -> Truth:
    """Draw parameters around those of the demo data set (``simulate``) for genes of these log means, (G,)."""
    G, p = len(log_mean), len(design.coefficients)
    center, spread = np.zeros(p), np.ones(p)
    for j in np.flatnonzero(design.basis):
        function = design.functions[:, design.basis[j] - 1]
        center[j], spread[j] = function.mean(), function.std()
    beta = EFFECT_SD / spread * rng.standard_normal((G, p))
    beta[:, 0] = 0.0
    beta[:, 0] = log_mean - beta @ center
    medians = [
        [simulate.DONOR_VARIANCE if t + q == 0 else simulate.RESPONSE_VARIANCE for q in range(len(term.effects))]
        for t, term in enumerate(design.terms)
    ]
    sd = [np.sqrt(m * np.exp(simulate.DONOR_VARIANCE_LOG_SD * rng.standard_normal((G, len(m))))) for m in medians]
    log_phi = simulate.LOG_PHI + simulate.LOG_PHI_SLOPE * (log_mean - simulate.LOG_MEAN)
    phi = np.exp(rng.normal(log_phi, simulate.LOG_PHI_SD))
    return Truth(beta, tuple(s[:, :, None] * np.eye(s.shape[1]) for s in sd), phi)


def draw(design: Design, truth: Truth, family: str, rng: np.random.Generator) -> Counts:
    """Draw a response of every gene with random effects of its own, one gene at a time."""
    slopes = coefficients(design, truth, rng)
    rows, values = [], []
    for slope, dispersion in zip(slopes, truth.dispersion, strict=True):
        eta = slope[0][design.pattern]
        for k, function in enumerate(design.functions.T, 1):
            eta += slope[k][design.pattern] * function
        y = _respond(eta, design.log_size, family, dispersion, rng)
        rows.append(np.flatnonzero(y).astype(np.int32))
        values.append(y[rows[-1]].astype(np.float64))
    start = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    genes = tuple(f"GENE{g + 1:04d}" for g in range(len(slopes)))
    return Counts(genes, start, np.concatenate(rows), np.concatenate(values))


def coefficients(design: Design, truth: Truth, rng: np.random.Generator) -> np.ndarray:
    """Return the coefficient of 1 and of each cell-level function in every pattern, (G, M, P), random effects drawn."""
    (P, p), G = design.X.shape, len(truth.beta)
    slopes = np.zeros((G, design.functions.shape[1] + 1, P))
    for j in range(p):
        slopes[:, design.basis[j]] += truth.beta[:, j, None] * design.X[:, j]
    for term, root in zip(design.terms, truth.roots, strict=True):
        u = rng.standard_normal((G, len(term.levels), len(term.effects))) @ root.transpose(0, 2, 1)
        for q, k in enumerate(term.basis):
            slopes[:, k] += u[:, term.codes, q] * term.Z[q]
    return slopes


def _respond(eta, log_size, family: str, dispersion: float, rng) -> np.ndarray:
    if family == "gaussian":
        return rng.normal(eta, np.sqrt(dispersion))
    if family == "bernoulli":
        return rng.random(eta.size) < expit(eta + log_size)
    mean = np.exp(eta + log_size)
    if family == "nb":
        mean *= dispersion * rng.standard_gamma(1.0 / dispersion, eta.size)
    return rng.poisson(mean)


def dense(counts: Counts, gene: int, n: int) -> np.ndarray:
    """Return the response of one gene on all n rows."""
    y, span = np.zeros(n), slice(counts.start[gene], counts.start[gene + 1])
    y[counts.rows[span]] = counts.values[span]
    return y
