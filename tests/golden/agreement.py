"""When do a fit of mlmgen and one of glmmTMB agree?"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from mlmgen.types import Counts, Design, GeneFits
from tests.reference import designs, laplace

BETA = 1e-4
# Variances and dispersions: relative to the value, or to this floor.
VARIANCE, VARIANCE_FLOOR = 1e-3, 0.01
LOGLIK = 1e-4
# A log-likelihood higher by more than this is a better optimum, not rounding.
HIGHER = 1e-6


class Verdict(NamedTuple):
    """Names of the genes compared, of those whose optimum is better than glmmTMB's, and what is wrong with others."""

    compared: list[str]
    better: list[str]
    wrong: dict[str, str]


def expected(table: pd.DataFrame) -> dict[str, dict]:
    """Index a long table of estimates by gene: beta, variance by component, loglik, converged."""
    genes = {}
    for gene, rows in table.groupby("gene", sort=False):
        kind = rows.component
        genes[gene] = {
            "beta": rows.estimate[kind == "fixed"].to_numpy(),
            "variance": dict(zip(rows.term[kind == "variance"], rows.estimate[kind == "variance"], strict=True)),
            "loglik": rows.estimate[kind == "loglik"].item(),
            "converged": bool(rows.converged.iloc[0]),
        }
    return genes


def deviations(design: Design, fits: GeneFits, variances) -> tuple[list[float], float]:
    """Split variances in the order of the components into standard deviations of the terms and phi."""
    named = dict(zip(fits.components, variances, strict=True))
    return [np.sqrt(named[term.name]) for term in design.terms], named.get("dispersion", 0.0)


def own_loglik(design: Design, counts: Counts, fits: GeneFits, gene: int) -> float:
    """Return the twin's REML log-likelihood at mlmgen's variances: independent of mlmgen's own arithmetic."""
    return laplace.laplace_reml(designs.cells(design, counts, gene), *deviations(design, fits, fits.variance[gene]))


def grid_variances(fits: GeneFits, gene: int) -> np.ndarray:
    """Return the (K, V) variances of a gene's grid; the last component varies fastest."""
    axes = []
    for v, count in enumerate(fits.grid_shape):
        ends = (fits.grid_low[gene, v], fits.grid_high[gene, v])
        axes.append(np.exp(np.linspace(*ends, count)) if count > 1 else fits.variance[gene, v : v + 1])
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def compare(fits: GeneFits, design: Design, counts: Counts, golden: dict[str, dict]) -> Verdict:
    """Compare every gene that glmmTMB converged on."""
    verdict = Verdict([], [], {})
    for g, gene in enumerate(fits.genes):
        if gene not in golden or not golden[gene]["converged"]:
            continue
        theirs = golden[gene]
        verdict.compared.append(gene)
        value = np.array([theirs["variance"][name] for name in fits.components])
        allowed = VARIANCE * np.maximum(value, VARIANCE_FLOOR)
        off = {
            "beta": np.abs(fits.beta[g] - theirs["beta"]).max() / BETA,
            "variance": (np.abs(fits.variance[g] - value) / allowed).max(initial=0),
            "loglik": abs(fits.loglik[g] - theirs["loglik"]) / LOGLIK,
        }
        if all(ratio <= 1 for ratio in off.values()):
            continue
        gain = own_loglik(design, counts, fits, g) - theirs["loglik"]
        if gain > HIGHER and abs(fits.loglik[g] - theirs["loglik"] - gain) < LOGLIK:
            verdict.better.append(f"{gene} (log-likelihood higher by {gain:.1e})")
        else:
            ratios = ", ".join(f"{name} {ratio:.2g}" for name, ratio in off.items())
            verdict.wrong[gene] = f"differences in units of the tolerance: {ratios}; log-likelihood gain {gain:.1e}"
    return verdict
