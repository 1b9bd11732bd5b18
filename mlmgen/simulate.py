"""Counts from a Design and parameters: the demo data set, and experiments for calibration studies."""

from typing import TYPE_CHECKING

import numpy as np

from mlmgen.types import Counts, Design, Groups, RandomTerm

if TYPE_CHECKING:
    from anndata import AnnData

# Rough parameters of four published sets (IFN-beta PBMC, 40 donors' PBMC, pig airway, COVID-19 PBMC); natural logs.
# Log mean count of a gene in a cell of size factor 1: medians -3.3 to -1.1, spread 1.2 to 1.9 between genes.
LOG_MEAN, LOG_MEAN_SD = -1.7, 1.6
# A gene's mean differs between cell types of one tissue by about this much.
LOG_MEAN_SD_CELL_TYPE = 0.8
# The most expressed genes of those sets have 15 to 20 counts a cell; one above would dominate the cell's total.
LOG_MEAN_MAX = 2.8
# Dispersions: median 0.9 in the lowest third of means, 0.2 in the middle, 0.13 above; spread 1.1 with estimation noise.
LOG_PHI, LOG_PHI_SLOPE, LOG_PHI_SD = -1.4, -0.4, 0.8
# Donor variances: medians 0.05 and 0.06 where there are donors enough to tell; spread 1.3 to 1.5 with estimation noise.
DONOR_VARIANCE, DONOR_VARIANCE_LOG_SD = 0.0625, 0.8
# Variance of donor:condition in the paired set is about half of the donor's where it is above zero.
RESPONSE_VARIANCE = 0.03
# Log size factors: spread 0.2 to 0.64 among the cells of a sample, 0.05 to 0.34 between samples.
SIZE_SD_CELL, SIZE_SD_SAMPLE = 0.45, 0.15
# Log number of cells: spread 0.2 to 1.2 between the samples of a cell type.
CELLS_SD = 0.5
# Absolute effects (natural log) that studies of this size can find or miss.
EFFECT_LOW, EFFECT_HIGH = 0.5, 1.4
# Linear predictor of a gene that is off: e^-30 counts are none.
SILENT = -30.0

DEMO_DONORS, DEMO_CELLS, DEMO_GENES = 12, 4000, 600
DEMO_CELL_TYPES = {"T cells": 0.5, "Monocytes": 0.3, "B cells": 0.2}
# Genes with an effect in every cell type, and in one alone: together 10 % of the genes.
DEMO_SHARED, DEMO_SPECIFIC = 40, 20
DEMO_ON_OFF = 5
# No sample of the demo falls to the filter on cells per donor.
DEMO_FEWEST_CELLS = 15
# An on/off gene has this log mean where it is on: silence elsewhere is then plain to see.
ON_LOG_MEAN = (-1.0, 1.0)
# Genes above this share of all counts have no effect, or they would shift every other gene's share.
LARGEST_SHARE = 0.005


def counts(design: Design, beta: np.ndarray, sd: np.ndarray, phi: np.ndarray, rng: np.random.Generator) -> Counts:
    """Draw counts of the negative binomial model with random intercepts, Var = mu + phi mu^2.

    Parameters
    ----------
    design : Design
    beta : (G, p)
        Coefficients, natural log.
    sd : (G, terms)
        Standard deviations of the design's random terms.
    phi : (G,)
        Dispersions; 0 is Poisson.
    rng : numpy.random.Generator

    Returns
    -------
    Counts
        Genes are named GENE0001 and so on.
    """
    eta = np.asarray(beta) @ design.X.T
    for i, term in enumerate(design.terms):
        u = rng.standard_normal((len(eta), len(term.levels))) * np.asarray(sd)[:, i, None]
        eta += u[:, term.codes]
    rate = np.exp(eta)
    size = np.exp(design.log_size)
    rows, values = [], []
    for gene_rate, dispersion in zip(rate, phi, strict=True):
        mu = gene_rate[design.pattern] * size
        if dispersion > 0:
            mu *= dispersion * rng.standard_gamma(1 / dispersion, len(mu))
        y = rng.poisson(mu)
        rows.append(np.flatnonzero(y).astype(np.int32))
        values.append(y[rows[-1]].astype(np.float64))
    start = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Counts(_names("GENE", len(eta), 4), start, np.concatenate(rows), np.concatenate(values))


def null_experiment(
    donors_per_arm: int,
    cells_per_donor: int,
    n_genes: int,
    rng: np.random.Generator,
    *,
    paired: bool = False,
    cells_sd: float = 0.0,
    donor_variance: float = DONOR_VARIANCE,
    donor_variance_log_sd: float = DONOR_VARIANCE_LOG_SD,
    response_variance: float = RESPONSE_VARIANCE,
    effect_share: float = 0.0,
    log_mean: float = LOG_MEAN,
    log_mean_sd: float = LOG_MEAN_SD,
) -> tuple[Counts, Design, dict[str, np.ndarray]]:
    """Draw an experiment with two arms, ctrl and stim, and no effects but for a chosen share of genes.

    Parameters
    ----------
    donors_per_arm, cells_per_donor, n_genes : int
        ``cells_per_donor`` is a mean where ``cells_sd`` > 0. In a paired experiment every donor is
        in both arms with so many cells in each.
    rng : numpy.random.Generator
    paired : bool
        Random terms ``donor`` and ``donor:condition`` instead of ``donor`` alone.
    cells_sd : float
        Standard deviation of the log number of cells of a sample.
    donor_variance, donor_variance_log_sd : float
        Median and log standard deviation of the genes' donor variances.
    response_variance : float
        Median of the variances of ``donor:condition``; the spread is the donor variances'.
    effect_share : float
        Share of genes with an effect of either sign.
    log_mean, log_mean_sd : float
        Distribution of the genes' log means.

    Returns
    -------
    counts : Counts
    design : Design
        Coefficients ``(Intercept)`` and ``condition[T.stim]``.
    truth : dict of arrays
        ``beta`` (G, 2), ``sd`` (G, terms), ``phi`` (G,), ``null`` (G,) bool.
    """
    samples = 2 * donors_per_arm
    arm = np.tile([0, 1], donors_per_arm) if paired else np.repeat([0, 1], donors_per_arm)
    donor = np.repeat(np.arange(donors_per_arm), 2) if paired else np.arange(samples)
    n_cells = _cell_numbers(np.full(samples, float(cells_per_donor)), cells_sd, rng)
    design = _two_arms(donor, arm, n_cells, _log_sizes(n_cells, rng), paired)
    means = rng.normal(log_mean, log_mean_sd, n_genes)
    effect = _effects(n_genes, rng) * (rng.random(n_genes) < effect_share)
    medians = [donor_variance, response_variance] if paired else [donor_variance]
    sd = np.sqrt(medians * np.exp(donor_variance_log_sd * rng.standard_normal((n_genes, len(medians)))))
    truth = {
        "beta": np.column_stack([means - effect / 2, effect]),
        "sd": sd,
        "phi": _dispersions(means, rng),
        "null": effect == 0,
    }
    return counts(design, truth["beta"], sd, truth["phi"], rng), design, truth


def demo(seed: int = 1) -> "AnnData":
    """Simulate the demo data set: 12 donors in two arms, three cell types, about 4,000 cells x 600 genes.

    Parameters
    ----------
    seed : int

    Returns
    -------
    anndata.AnnData
        ``X`` CSR int32 counts; ``obs`` with ``donor``, ``condition`` (ctrl, stim), ``cell_type``,
        ``batch``, ``age`` (years), ``sex``; ``var`` with one column ``true_log2fc_<cell type>`` per
        cell type (stim against ctrl; 0 for no effect, plus or minus infinity for genes that are
        silent in one arm); ``uns["truth"]`` says what those columns are and how the data were made.
    """
    import anndata
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(seed)
    donors = _demo_donors(rng)
    log_means = rng.normal(LOG_MEAN, LOG_MEAN_SD, DEMO_GENES)
    effects = _demo_effects(log_means, rng)
    activity = rng.normal(0, CELLS_SD, DEMO_DONORS)
    blocks, obs, var = [], [], {}
    for (cell_type, share), effect in zip(DEMO_CELL_TYPES.items(), effects, strict=True):
        expected = DEMO_CELLS * share * np.exp(activity) / np.exp(activity).sum()
        design, data = _demo_cell_type(log_means, effect, donors["arm"], expected, rng)
        shape = (len(design.pattern), DEMO_GENES)
        blocks.append(sparse.csc_matrix((data.values, data.rows, data.start), shape=shape))
        obs.append(_demo_obs(donors, design.donor.codes[design.pattern], cell_type))
        var[f"true_log2fc_{cell_type}"] = effect / np.log(2)
    table = pd.concat(obs, ignore_index=True)
    order = rng.permutation(len(table))
    table = table.iloc[order]
    table.index = pd.Index(_names("CELL", len(table), 5))
    for column in ("donor", "condition", "cell_type", "batch", "sex"):
        table[column] = pd.Categorical(table[column])
    X = sparse.vstack(blocks, format="csr")[order].astype(np.int32)
    X.sort_indices()
    genes = pd.DataFrame(var, index=pd.Index(_names("GENE", DEMO_GENES, 4)))
    return anndata.AnnData(X, obs=table, var=genes, uns={"truth": _demo_truth(seed)})


def _names(prefix: str, number: int, digits: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i:0{digits}d}" for i in range(1, number + 1))


def _cell_numbers(expected: np.ndarray, spread: float, rng: np.random.Generator, fewest: int = 1) -> np.ndarray:
    drawn = expected * np.exp(spread * rng.standard_normal(len(expected)))
    return np.maximum(np.rint(drawn * expected.sum() / drawn.sum()), fewest).astype(int)


def _log_sizes(n_cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sample = np.repeat(rng.normal(0, SIZE_SD_SAMPLE, len(n_cells)), n_cells)
    log_size = sample + rng.normal(0, SIZE_SD_CELL, len(sample))
    return log_size - np.log(np.exp(log_size).mean())


def _dispersions(log_means: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    centre = LOG_PHI + LOG_PHI_SLOPE * (log_means - LOG_MEAN)
    return np.exp(rng.normal(centre, LOG_PHI_SD))


def _effects(number: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(EFFECT_LOW, EFFECT_HIGH, number) * rng.choice([-1.0, 1.0], number)


def _two_arms(donor: np.ndarray, arm: np.ndarray, n_cells: np.ndarray, log_size: np.ndarray, paired: bool) -> Design:
    """Lay out one pattern per sample; ``donor`` and ``arm`` have one entry per sample, sorted by donor."""
    names = _names("D", donor.max() + 1, 2)
    own = tuple(f"{names[d]}:{('ctrl', 'stim')[a]}" for d, a in zip(donor, arm, strict=True)) if paired else names
    codes = np.arange(len(donor), dtype=np.int32)
    donors = Groups("donor", names, donor.astype(np.int32))
    groups = (donors, Groups("donor:condition", own, codes)) if paired else (donors,)
    return Design(
        formula="~ condition + " + " + ".join(f"(1 | {group.name})" for group in groups),
        coefficients=("(Intercept)", "condition[T.stim]"),
        X=np.column_stack([np.ones(len(arm)), arm.astype(float)]),
        basis=np.zeros(2, dtype=np.int32),
        functions=np.empty((len(log_size), 0)),
        function_names=(),
        terms=tuple(_random_intercepts(group) for group in groups),
        donor=donors,
        sample=Groups("sample", own, codes),
        pattern=np.repeat(codes, n_cells),
        log_size=log_size,
        offset=np.zeros(len(log_size)),
        means={"condition[ctrl]": np.array([1.0, 0.0]), "condition[stim]": np.array([1.0, 1.0])},
        within=("condition",) if paired else (),
    )


def _random_intercepts(group: Groups) -> RandomTerm:
    ones, basis = np.ones((1, len(group.codes))), np.zeros(1, dtype=np.int32)
    return RandomTerm(group.name, group.levels, group.codes, ("(Intercept)",), ones, basis)


def _demo_donors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    half = DEMO_DONORS // 2
    arm = np.repeat([0, 1], half)
    # Both batches and both sexes are in both arms: neither is confounded with the condition.
    return {
        "donor": np.array(_names("D", DEMO_DONORS, 2)),
        "arm": arm,
        "condition": np.array(["ctrl", "stim"])[arm],
        "batch": np.array(["B1", "B2"])[np.arange(DEMO_DONORS) % 2],
        "age": rng.integers(22, 71, DEMO_DONORS).astype(np.int64),
        "sex": np.concatenate([rng.permutation(np.repeat(["female", "male"], half // 2)) for _ in range(2)]),
    }


def _demo_effects(log_means: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (cell types, G) true log fold changes, infinite for genes that are silent in one arm."""
    share = np.exp(log_means) / np.exp(log_means).sum()
    candidates = rng.permutation(np.flatnonzero(share < LARGEST_SHARE))
    number, block = len(DEMO_CELL_TYPES), DEMO_SPECIFIC + DEMO_ON_OFF
    shared, rest = candidates[:DEMO_SHARED], candidates[DEMO_SHARED:]
    effects = np.zeros((number, len(log_means)))
    for i in range(number):
        own, on_off = np.split(rest[i * block : (i + 1) * block], [DEMO_SPECIFIC])
        for genes in (shared, own):
            # Signs alternate with expression, so that the arms' totals, and with them the size factors, agree.
            effects[i, genes[np.argsort(log_means[genes])]] = np.resize([1.0, -1.0], len(genes))
        effects[i, on_off] = np.resize([np.inf, -np.inf], len(on_off))
    return effects * rng.uniform(EFFECT_LOW, EFFECT_HIGH, len(log_means))


def _demo_cell_type(
    log_means: np.ndarray, effect: np.ndarray, arm: np.ndarray, expected: np.ndarray, rng: np.random.Generator
) -> tuple[Design, Counts]:
    number = len(log_means)
    n_cells = _cell_numbers(expected, CELLS_SD / 2, rng, DEMO_FEWEST_CELLS)
    design = _two_arms(np.arange(len(arm)), arm, n_cells, _log_sizes(n_cells, rng), paired=False)
    means = np.minimum(log_means + rng.normal(0, LOG_MEAN_SD_CELL_TYPE, number), LOG_MEAN_MAX)
    on_off = np.isinf(effect)
    means[on_off] = rng.uniform(*ON_LOG_MEAN, on_off.sum())
    phi = _dispersions(means, rng)
    sd = np.sqrt(DONOR_VARIANCE * np.exp(rng.normal(0, DONOR_VARIANCE_LOG_SD, (number, 1))))
    finite = np.where(on_off, 0.0, effect)
    ctrl, stim = means - finite / 2, means + finite / 2
    ctrl[effect == np.inf] = SILENT
    stim[effect == -np.inf] = SILENT
    return design, counts(design, np.column_stack([ctrl, stim - ctrl]), sd, phi, rng)


def _demo_obs(donors: dict[str, np.ndarray], codes: np.ndarray, cell_type: str):
    import pandas as pd

    columns = {"donor": donors["donor"][codes], "condition": donors["condition"][codes], "cell_type": cell_type}
    return pd.DataFrame(columns | {name: donors[name][codes] for name in ("batch", "age", "sex")})


def _demo_truth(seed: int) -> dict:
    return {
        "description": "simulated: negative binomial counts with a log-normal random intercept per donor and cell type",
        "contrast": "condition[stim] - condition[ctrl]",
        "columns": {cell_type: f"true_log2fc_{cell_type}" for cell_type in DEMO_CELL_TYPES},
        "values": "var columns hold the true log2 fold change: 0 no effect, inf silent in ctrl, -inf silent in stim",
        "seed": seed,
        "donor_variance_median": DONOR_VARIANCE,
        "donor_variance_log_sd": DONOR_VARIANCE_LOG_SD,
        "log_mean": LOG_MEAN,
        "log_mean_sd": LOG_MEAN_SD,
        "log_phi": LOG_PHI,
        "log_phi_slope": LOG_PHI_SLOPE,
        "log_phi_sd": LOG_PHI_SD,
        "log_size_sd": float(np.hypot(SIZE_SD_CELL, SIZE_SD_SAMPLE)),
    }
