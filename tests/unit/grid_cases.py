"""Models fitted on a variance grid, and the covariances at its points by the slow twins."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mlmgen import fitting, moderate, multilevel, variance_grid
from mlmgen.levels import Model, build_model
from mlmgen.types import Counts, Design, GeneFits, Moderated
from tests.reference import multilevel as twin
from tests.reference.model_tests import stretched
from tests.unit import structures

SIZES = {"genes": moderate.FEW_GENES, "donors": 8, "cells": 20}


class GridCase(NamedTuple):
    """Genes of a structure with their fits and posteriors."""

    design: Design
    counts: Counts
    family: str
    model: Model
    plan: variance_grid.GridPlan
    fits: GeneFits
    moderated: Moderated


def totals(counts: Counts) -> np.ndarray:
    """Return the log of each gene's total, (G,)."""
    return np.log(np.maximum([counts.values[a:b].sum() for a, b in pairwise(counts.start)], 1.0))


def fit(
    design: Design, counts: Counts, family: str = "nb", threads: int = 1, likelihood: str = "compressed"
) -> GridCase:
    """Fit and moderate every gene."""
    keep = np.ones(len(counts.genes), dtype=bool)
    fits = fitting.fit_shard(counts, design, keep, family, threads=threads, likelihood=likelihood)
    model = build_model(design, family, "reml", likelihood=likelihood)
    chosen = variance_grid.plan(design, model)
    return GridCase(design, counts, family, model, chosen, fits, moderate.moderate(fits, totals(counts)))


def grid_case(name: str, family: str = "nb", likelihood: str = "exact", **sizes) -> GridCase:
    """Fit an example of a structure."""
    return fit(*structures.example(name, family, **SIZES | sizes), family, likelihood=likelihood)


def rows(case: GridCase, g: int) -> twin.Rows:
    """Return a gene as the twin takes it, a gaussian one in the kernels' units."""
    found = twin.expand(case.design, case.counts, g, case.family)
    if case.family != "gaussian":
        return found
    unit = multilevel.standardize(case.counts, len(found.y))[1][g]
    return found._replace(y=found.y / unit, offset=found.offset / unit)


def point(case: GridCase, g: int, k: int) -> tuple[list[np.ndarray], float]:
    """Return the factor of each term and phi at point k of a gene's grid, components in their order.

    Of a gaussian response the factors are relative to its residual standard deviation.
    """
    fits, design = case.fits, case.design
    index = np.unravel_index(k, fits.grid_shape)
    named = dict(zip(fits.components, fits.variance[g], strict=True))
    phi = float(named.get("dispersion", named.get("residual", 0.0)))
    covariances, place = [], 0
    for term, columns in zip(design.terms, case.model.columns, strict=True):
        names = twin.component_names(term.name, term.effects)
        covariance = np.array([[named[name] for name in line] for line in names])
        z = case.model.z_scale[columns] / (np.sqrt(phi) if case.family == "gaussian" else 1.0)
        covariances.append(capped(covariance) * np.outer(z, z))
    effects = [(t, e) for t, term in enumerate(design.terms) for e in range(len(term.effects))]
    whole = len(effects) > 3
    for t, term in enumerate(design.terms):
        q = len(term.effects)
        for e in range(1 if whole else q):
            v, points = place + e, fits.grid_shape[place + e]
            if points > 1:
                log_variance = np.linspace(fits.grid_low[g, v], fits.grid_high[g, v], points)[index[v]]
                covariances[t] = stretched(covariances[t], -1 if whole else e, np.exp(log_variance))
        z = case.model.z_scale[case.model.columns[t]]
        covariances[t] = covariances[t] / np.outer(z, z)
        place += q * (q + 1) // 2
    return [twin.factor(covariance) for covariance in covariances], phi


def capped(covariance: np.ndarray, largest: float = 0.9) -> np.ndarray:
    """Return a covariance matrix with all correlations shrunken in proportion until none is above ``largest``."""
    sd = np.sqrt(np.diag(covariance))
    both = np.outer(sd, sd)
    correlation = np.divide(covariance, both, out=np.zeros_like(covariance), where=both > 0)
    np.fill_diagonal(correlation, 0.0)
    most = np.abs(correlation).max(initial=0.0)
    correlation *= min(1.0, largest / most) if most > 0 else 1.0
    return both * correlation + np.diag(np.diag(covariance))
