"""Type-I error of models of the general engine with few donors: a random slope, and a covariate of the cells."""

import numpy as np
import pytest
from scipy import stats

from mlmgen import fitting, inference, moderate, simulate, wald
from mlmgen.types import Contrast, Design
from tests.reference import designs
from tests.unit import structures

# 1,800 tests: a standard error of .0051 at .05.
DATA_SETS, GENES, CELLS = 3, 600, 80
SCORE = 0.3  # natural log, of one standard deviation of the cells' covariate


def paired(rng, donors: int) -> tuple[Design, np.ndarray]:
    """Cells of donors seen in two conditions, with a response of each donor."""
    donor = np.repeat(np.arange(donors), rng.poisson(CELLS, donors) + 10)
    condition = rng.integers(0, 2, donor.size).astype(float)
    X = np.column_stack([np.ones(donor.size), condition])
    size = rng.normal(0.0, simulate.SIZE_SD_CELL, donor.size)
    terms = [structures.slope("donor", donor, condition)]
    return structures.build(donor, X, ("(Intercept)", "condition"), terms, size)[0], np.zeros(2)


def with_covariate(rng, donors: int) -> tuple[Design, np.ndarray]:
    """Cells of donors in two arms, with a score that varies from cell to cell."""
    donor = np.repeat(np.arange(donors), rng.poisson(CELLS, donors) + 10)
    X = np.column_stack([np.ones(donor.size), donor % 2, np.ones(donor.size)])
    size, score = rng.normal(0.0, simulate.SIZE_SD_CELL, donor.size), rng.normal(0.0, 1.0, (donor.size, 1))
    terms, names = [structures.intercept("donor", donor)], ("(Intercept)", "arm", "score")
    return structures.build(donor, X, names, terms, size, score, (0, 0, 1))[0], np.array([0.0, 0.0, SCORE])


def counts_of(design: Design, beta: np.ndarray, rng):
    """Draw genes of typical means and dispersions, whose donors differ in level and response; no other effects."""
    n = len(design.pattern)
    functions = np.column_stack([np.ones(n), design.functions])
    rows = design.X[design.pattern] * functions[:, design.basis]
    eta = rng.normal(-1.0, 1.2, GENES) + (rows @ beta + design.log_size)[:, None]
    for term in design.terms:
        for z, variance in zip(term.Z, (simulate.DONOR_VARIANCE, 0.04), strict=False):
            sd = np.sqrt(variance) * np.exp(0.5 * simulate.DONOR_VARIANCE_LOG_SD * rng.standard_normal(GENES))
            u = sd * rng.standard_normal((len(term.levels), GENES))
            eta += u[term.codes[design.pattern]] * z[design.pattern, None]
    phi = np.exp(rng.normal(simulate.LOG_PHI, simulate.LOG_PHI_SD, GENES))
    Y = rng.poisson(np.exp(eta) * rng.gamma(1.0 / phi, phi, (n, GENES)))
    return designs.counts(Y, [f"g{i}" for i in range(GENES)])


def null_pvalues(layout, donors: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-values of the second coefficient, which is 0: moderated, and of the t test of the same fits."""
    design, beta = layout(rng, donors)
    counts = counts_of(design, beta, rng)
    totals = np.array([counts.values[a:b].sum() for a, b in zip(counts.start[:-1], counts.start[1:], strict=True)])
    keep, second = totals >= 10, (Contrast("c", "", np.eye(len(beta))[1:2]),)
    fits = fitting.fit_shard(counts, design, keep)
    moderated = moderate.moderate(fits, np.log(np.maximum(totals, 1.0)))
    found = inference.test(counts, design, fits, moderated, second), wald.wald(fits, design, second)
    tested = np.isfinite(fits.loglik)
    assert tested[keep].mean() > 0.98
    return tuple(np.exp(effects.log_pvalue[tested, 0]) for effects in found)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "donors"), [(paired, 4), (with_covariate, 6)], ids=["slope", "covariate"])
def test_type_one_error(layout, donors):
    rng = np.random.default_rng(20261121)
    sets = [null_pvalues(layout, donors, rng) for _ in range(DATA_SETS)]
    moderated, plain = (np.concatenate(p) for p in zip(*sets, strict=True))
    n = len(moderated)
    rejected = {level: (int((moderated <= level).sum()), int((plain <= level).sum())) for level in (0.05, 0.01, 0.001)}
    print(n, "tests, rejected by the moderated test and by the t test:", rejected)
    low, high = stats.binom.interval(0.999, n, 0.05)
    assert low <= rejected[0.05][0] <= high
    assert rejected[0.001][0] <= stats.binom.ppf(0.999, n, 0.002)
    # With so few donors the t test has one or two degrees of freedom, whatever the other genes say.
    assert not low <= rejected[0.05][1] <= high
