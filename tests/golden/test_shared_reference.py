"""mlmgen against glmmTMB on real data, all genes of the reference fits; skipped where the data are absent."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlmgen import fitting
from mlmgen.status import Status
from tests.golden import agreement
from tests.reference import designs, laplace

SHARED = Path(os.environ.get("MLMGEN_SHARED", Path(__file__).parents[3] / "shared"))
REFERENCE = SHARED / "reference"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference fits in {REFERENCE}: set MLMGEN_SHARED"),
]
# set, model, most genes that may be counted as better optima than glmmTMB's
REML_FITS = [
    ("onek1k_mononc", "ri", 3),
    ("pig_secretory", "ri", 3),
    ("covid_mono", "ri", 3),
    ("ipf", "ri", 0),
    ("kang_mono", "nested", 8),
]
TERMS = {"ri": ["donor"], "nested": ["donor", "sample"]}


def read(name, model):
    """Return design and counts of a reference input; the covariates are those of its fits."""
    obs = pd.read_csv(REFERENCE / "inputs" / f"{name}_obs.csv.gz")
    Y = pd.read_csv(REFERENCE / "inputs" / f"{name}_counts.csv.gz")
    columns, levels = designs.dummy(obs.condition)
    names = ["(Intercept)", *(f"condition{level}" for level in levels)]
    fixed = [np.ones((len(obs), 1)), columns]
    if "age_z" in obs:
        names.append("age_z")
        fixed.append(obs[["age_z"]].to_numpy())
    groups = {term: obs[term].to_numpy() for term in TERMS[model]}
    sample = obs["sample"].to_numpy()
    design, order = designs.build(obs.donor, np.hstack(fixed), names, groups, obs.size_factor, sample)
    return design, designs.counts(Y.to_numpy()[order], Y.columns)


def golden(name, model, family, method):
    table = pd.read_csv(REFERENCE / f"{name}__{model}__{family}__{method}.csv.gz")
    covariance = table.component.str.startswith("cov:")
    table.loc[covariance, "term"] = table.component[covariance].str.removeprefix("cov:")
    table.loc[table.component == "dispersion", "term"] = "dispersion"
    table.loc[covariance | (table.component == "dispersion"), "component"] = "variance"
    return agreement.expected(table)


def fitted(name, model, family):
    design, counts = read(name, model)
    return design, counts, fitting.fit_shard(counts, design, np.ones(len(counts.genes), bool), family, "cells", 1, None)


@pytest.mark.parametrize(("name", "model", "most_better"), REML_FITS)
def test_reml_agrees_with_glmmtmb(name, model, most_better, record_property):
    design, counts, fits = fitted(name, model, "nb")
    theirs = golden(name, model, "nbinom2", "REML")
    verdict = agreement.compare(fits, design, counts, theirs)
    record_property("better", verdict.better)
    print(f"{name}: {len(verdict.compared)} genes; optimum better than glmmTMB's: {verdict.better}")
    assert not verdict.wrong
    assert len(verdict.compared) == sum(gene["converged"] for gene in theirs.values())
    assert len(verdict.better) <= most_better


@pytest.mark.parametrize(("name", "model", "most_better"), REML_FITS)
def test_no_gene_ends_below_glmmtmb(name, model, most_better):
    # Also where glmmTMB says that it did not converge: its last words are still a point of the same function.
    design, counts, fits = fitted(name, model, "nb")
    theirs = golden(name, model, "nbinom2", "REML")
    below = {}
    for g, gene in enumerate(fits.genes):
        if gene not in theirs or fits.status[g] == Status.SEPARATED:
            continue
        cells = designs.cells(design, counts, g)
        variance = theirs[gene]["variance"]
        sd = [np.sqrt(max(variance[term.name], 0.0)) for term in design.terms]
        other = laplace.laplace_reml(cells, sd, min(variance["dispersion"], 1e6))
        own = agreement.own_loglik(design, counts, fits, g)
        if own < other - agreement.HIGHER:
            below[gene] = f"{other - own:.1e}"
    assert not below


def test_poisson_reml_is_the_twins():
    # The stored Poisson fits are ML and mlmgen's are REML: both are judged by the twin.
    design, counts, fits = fitted("onek1k_mononc", "ri", "poisson")
    theirs = golden("onek1k_mononc", "ri", "poisson", "ML")
    compared = 0
    for g, gene in enumerate(fits.genes):
        if gene not in theirs or not theirs[gene]["converged"]:
            continue
        compared += 1
        cells = designs.cells(design, counts, g)
        variance = theirs[gene]["variance"]["donor"]
        assert laplace.laplace_ml(cells, theirs[gene]["beta"], [np.sqrt(variance)], 0.0) == pytest.approx(
            theirs[gene]["loglik"], abs=1e-6
        )
        own = agreement.own_loglik(design, counts, fits, g)
        assert fits.loglik[g] == pytest.approx(own, abs=1e-4)
        for factor in (0.98, 1.02):
            sd = [np.sqrt(factor * fits.variance[g, 0] + (factor > 1) * 1e-5)]
            assert laplace.laplace_reml(cells, sd, 0.0) <= own + agreement.HIGHER
        assert fits.beta[g] == pytest.approx(laplace.mode(cells, [np.sqrt(fits.variance[g, 0])], 0.0).beta, abs=1e-5)
        # REML gives back the degrees of freedom that ML spends on the coefficients.
        assert variance <= fits.variance[g, 0] + 1e-4
    assert compared >= 35
