"""Small simulated studies for the pages: counts of one cell type, whose true effects are known."""

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

N_GENES = 300
CELLS = 80  # of a sample
LOG_MEAN, LOG_MEAN_SD = -0.5, 1.3  # of a gene's count in a cell of size factor 1, natural log
DONOR_SD = 0.3  # of a gene's log mean between donors: people differ by a third
RESPONSE_SD = 0.25  # of a gene's response between donors
SLOPE_SD = 0.12  # of a gene's change per month between donors
PHI = 0.4  # dispersion of the cells of a sample: variance = mean + 0.4 mean^2
AFFECTED = 30  # genes with an effect, half up and half down
SIZE_SD = 0.3  # of the log size factors of cells


def unpaired(per_arm: int = 4, seed: int = 1) -> anndata.AnnData:
    """Simulate donors who are either healthy or ill; age and sex play no part.

    Parameters
    ----------
    per_arm : int
        Donors in each arm.
    seed : int

    Returns
    -------
    AnnData
        Counts in ``X``; ``obs`` with donor, disease, sex and age; ``var`` with ``true_log2fc``.
    """
    rng = np.random.default_rng(seed)
    n = 2 * per_arm
    disease, sex = np.repeat(["healthy", "ill"], per_arm), np.resize(["female", "male"], n)
    samples = pd.DataFrame({"donor": donors(n), "disease": disease, "sex": sex, "age": rng.integers(25, 70, n)})
    level = levels(rng)
    effect = effects(level, 0.9, rng)
    log_mean = level + between(n, DONOR_SD, rng) + effect[:, None] * (disease == "ill")
    return counts(samples, log_mean, effect, rng)


def paired(n: int = 6, seed: int = 2) -> anndata.AnnData:
    """Simulate donors whose cells were split and stimulated or not.

    Parameters
    ----------
    n : int
        Donors.
    seed : int

    Returns
    -------
    AnnData
        Counts in ``X``; ``obs`` with donor and condition; ``var`` with ``true_log2fc``.
    """
    rng = np.random.default_rng(seed)
    samples = pd.DataFrame({"donor": np.repeat(donors(n), 2), "condition": np.tile(["ctrl", "stim"], n)})
    stim, level = (samples["condition"] == "stim").to_numpy(), levels(rng)
    effect = effects(level, 0.6, rng)
    donor = np.repeat(between(n, DONOR_SD, rng), 2, axis=1)
    response = np.repeat(between(n, RESPONSE_SD, rng), 2, axis=1)
    log_mean = level + donor + (effect[:, None] + response) * stim
    return counts(samples, log_mean, effect, rng)


def longitudinal(n: int = 8, visits: int = 4, seed: int = 3) -> anndata.AnnData:
    """Simulate donors who come back every month and change, each in an own way.

    Parameters
    ----------
    n : int
        Donors.
    visits : int
        Of each donor, a month apart.
    seed : int

    Returns
    -------
    AnnData
        Counts in ``X``; ``obs`` with donor, visit and month; ``var`` with ``true_log2fc``, per month.
    """
    rng = np.random.default_rng(seed)
    month = np.tile(np.arange(visits), n)
    name = np.repeat(donors(n), visits)
    visit = [f"{donor}_{number + 1}" for donor, number in zip(name, month, strict=True)]
    samples = pd.DataFrame({"donor": name, "visit": visit, "month": month})
    level = levels(rng)
    effect = effects(level, 0.25, rng)
    donor = np.repeat(between(n, DONOR_SD, rng), visits, axis=1)
    slope = np.repeat(between(n, SLOPE_SD, rng), visits, axis=1)
    log_mean = level + donor + (effect[:, None] + slope) * (month - month.mean())
    return counts(samples, log_mean, effect, rng)


def donors(n: int) -> list[str]:
    """Name n donors."""
    return [f"D{number + 1}" for number in range(n)]


def levels(rng: np.random.Generator) -> np.ndarray:
    """Return the log means of the genes, (genes, 1)."""
    return np.minimum(rng.normal(LOG_MEAN, LOG_MEAN_SD, (N_GENES, 1)), 2.5)


def between(n: int, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Return how n donors differ in each gene, (genes, n); genes differ in how much, by a factor of about 1.5."""
    return rng.normal(0, 1, (N_GENES, n)) * sd * np.exp(rng.normal(0, 0.4, (N_GENES, 1)))


def effects(level: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Return the effects on the log means, (genes,): of some genes plus or minus the size, of the others none.

    The genes are neither rare nor so frequent that they move the cells' totals, and signs alternate with expression.
    """
    order = np.argsort(level[:, 0])
    chosen = np.sort(rng.choice(np.arange(N_GENES // 3, 5 * N_GENES // 6), AFFECTED, replace=False))
    effect = np.zeros(N_GENES)
    effect[order[chosen]] = size * np.resize([1.0, -1.0], AFFECTED)
    return effect


def counts(samples: pd.DataFrame, log_mean: np.ndarray, effect: np.ndarray, rng: np.random.Generator):
    """Draw the counts of the cells of all samples, from log means (genes, samples)."""
    sample = np.repeat(np.arange(len(samples)), CELLS)
    size = np.exp(rng.normal(0, SIZE_SD, len(sample)))
    noise = PHI * rng.standard_gamma(1 / PHI, (N_GENES, len(sample)))
    y = rng.poisson(np.exp(log_mean[:, sample]) * size * noise)
    obs = samples.iloc[sample].set_index(np.array([f"cell{i:04d}" for i in range(len(sample))]))
    var = pd.DataFrame({"true_log2fc": effect / np.log(2)}, index=[f"GENE{i:03d}" for i in range(1, N_GENES + 1)])
    return anndata.AnnData(sparse.csr_matrix(y.T.astype(np.float32)), obs=obs, var=var)


def count_calls(table: pd.DataFrame, adata: anndata.AnnData) -> pd.Series:
    """Count what a table of tests calls at 5 % false discoveries, and how many of the calls are right."""
    effect = (table["gene"].map(adata.var["true_log2fc"]) != 0).to_numpy()
    called = (table["padj"] < 0.05).to_numpy()
    found = {
        "calls": called.sum(),
        "of them false": (called & ~effect).sum(),
        "effects found, of 30": (called & effect).sum(),
        "% of p < 0.05 without effect": 100 * (table["pvalue"] < 0.05)[~effect].mean(),
    }
    return pd.Series(found, dtype=float).round(1)
