"""Fits of any multilevel model: slopes, crossed and deeply nested terms, cell-level covariates, every family, ML."""

from itertools import pairwise

import numpy as np
from scipy.special import chdtrc

from mlmgen.design_rows import DISPERSION, RESIDUAL
from mlmgen.kernels.multilevel import ModelResult, fit_models
from mlmgen.levels import Model, build_model, model_work
from mlmgen.status import Status
from mlmgen.threads import CHUNK, in_chunks
from mlmgen.types import Counts, Design, GeneFits
from mlmgen.variance_grid import (
    empty_profile,
    parameters_of,
    plan,
    profile,
    ridges,
    units,
    with_grid,
)

# Mean counts per cell up to which genes share a cubature: a higher mean needs more nodes, a mean above all of them
# every cell.
TIERS = ((1e-3, 0.1), (1e-3, 1.0), (1e-3, 30.0))


def fit_any(
    counts: Counts,
    design: Design,
    keep: np.ndarray,
    family: str,
    threads: int,
    progress,
    method: str,
    integration: str,
    nodes: int,
    likelihood: str,
    grid: bool = False,
    tests: bool = True,
) -> GeneFits:
    """Fit every kept gene; arguments as for ``fitting.fit_shard``, ``tests`` adds the p-values of the variances."""
    counts = responses(counts, design, family)
    unit = np.ones(len(counts.genes))
    if family == "gaussian":
        counts, unit = standardize(counts, design.pattern.size)
    result, tiers = None, models_of_tiers(counts, design, keep, family, method, likelihood, integration, nodes)
    for model, chosen in tiers:
        result = run_models(model, counts, chosen, threads, progress, tests, result)
    fits = _gene_fits(counts, design, model, family, method, in_units(result, unit, model, method))
    return profiled(fits, counts, design, tiers, family, threads) if grid and integration == "laplace" else fits


def models_of_tiers(
    counts: Counts, design: Design, keep, family: str, method: str, likelihood: str, integration="laplace", nodes=9
) -> list[tuple[Model, np.ndarray]]:
    """Return a model for each tier of genes, and the genes in it, (G,) bool."""
    return [
        (build_model(design, family, method, integration, nodes, "exact" if exact else "compressed", means), chosen)
        for exact, means, chosen in _tiers(counts, design, keep, family, likelihood)
    ]


def profiled(fits: GeneFits, counts: Counts, design: Design, tiers, family: str, threads: int) -> GeneFits:
    """Return fits with their variance grids; ``counts`` are responses in the kernels' units."""
    model = tiers[-1][0]
    chosen = plan(design, model)
    psi, scale = parameters_of(design, model, fits, family)
    found, ridge = empty_profile(len(fits.genes), chosen), ridges(model, fits)
    for of_tier, genes in tiers:
        profile(of_tier, chosen, counts, genes & np.isfinite(fits.loglik), ridge, psi, threads, found)
    return with_grid(fits, chosen, found, units(design, model, chosen, fits, scale))


def _tiers(counts: Counts, design: Design, keep, family: str, likelihood: str):
    """Split the genes by mean count: each tier shares a cubature that is good to its highest mean, or every cell.

    Yields whether every cell is kept, the range of means, and the genes (G,) bool. Only counts with cell-level
    functions have more than one tier; a gene's tier does not depend on the others.
    """
    if likelihood == "exact" or family == "gaussian" or not design.functions.shape[1]:
        yield likelihood == "exact", TIERS[-1], keep
        return
    total = np.bincount(
        np.repeat(np.arange(len(counts.genes)), np.diff(counts.start)), counts.values, len(counts.genes)
    )
    mean = total / design.pattern.size
    edges = [0.0, *(high for _, high in TIERS), np.inf]
    tiers = [(keep & (mean >= low) & (mean < high)) for low, high in pairwise(edges)]
    some = [i for i, chosen in enumerate(tiers) if chosen.any()] or [0]
    for i in some:
        yield i == len(TIERS), TIERS[min(i, len(TIERS) - 1)], tiers[i]


def responses(counts: Counts, design: Design, family: str) -> Counts:
    """Return what the kernels take: ones for detection, offsets subtracted from a gaussian response."""
    if family == "bernoulli":
        return Counts(counts.genes, counts.start, counts.rows, np.ones_like(counts.values))
    if family == "gaussian" and design.offset.any():
        G, n = len(counts.genes), design.offset.size
        values = np.tile(-design.offset, G)
        gene = np.repeat(np.arange(G), np.diff(counts.start))
        values[gene * n + counts.rows] += counts.values
        return Counts(counts.genes, np.arange(G + 1) * n, np.tile(np.arange(n, dtype=np.int32), G), values)
    return counts


def standardize(counts: Counts, n: int) -> tuple[Counts, np.ndarray]:
    """Divide each gaussian response of n rows by its standard deviation; return it and the divisors (G,).

    The search, its tolerances and the smallest residual variance then do not depend on the unit.
    """
    unit, values = np.ones(len(counts.genes)), counts.values.copy()
    for g, (a, b) in enumerate(pairwise(counts.start)):
        own = values[a:b]
        mean = own.sum() / n
        square = ((own - mean) ** 2).sum() + (n - own.size) * mean**2
        # A constant response has nothing but rounding beside its mean.
        unit[g] = np.sqrt(square / n) if square > 1e-24 * n * mean**2 else abs(mean) or 1.0
        own /= unit[g]
    return Counts(counts.genes, counts.start, counts.rows, values), unit


def in_units(result: ModelResult, unit: np.ndarray, model: Model, method: str) -> ModelResult:
    """Return fits of responses divided by ``unit`` as those of the responses themselves."""
    if (unit == 1.0).all():
        return result
    m = model.layout.number.sum() - (model.tree.X.shape[0] if method == "reml" else 0)
    square, shift = (unit**2)[:, None, None], m * np.log(unit)
    return result._replace(
        beta=result.beta * unit[:, None],
        se=result.se * unit[:, None],
        scale=result.scale * unit**2,
        loglik=result.loglik - shift,
        without=result.without - shift[:, None],
        covariance=result.covariance * square,
        sensitivity=result.sensitivity * square[..., None],
    )


def run_models(
    model: Model, counts: Counts, keep, threads: int, progress, tests: bool = True, result: ModelResult | None = None
) -> ModelResult:
    """Run ``fit_models`` over chunks of genes on the threads; ``result`` is filled where it is given."""
    G, p, T = len(counts.genes), model.tree.X.shape[0], model.tree.rows.size
    shapes = {"beta": (G, p), "se": (G, p), "psi": (G, T + 1), "scale": G, "loglik": G}
    shapes |= {"without": (G, T + 1 if tests else 0), "covariance": (G, p, p), "sensitivity": (G, T + 1, p, p)}
    shapes |= {"V": (G, T + 1, T + 1), "d_scale": (G, T + 1)}
    if result is None:
        arrays = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
        status, evaluations = np.full(G, int(Status.FILTERED), np.int8), np.zeros(G, np.int32)
        result = ModelResult(status=status, evaluations=evaluations, **arrays)

    def run(work, first):
        last = min(first + CHUNK, G)
        fit_models(
            model.layout, model.terms, counts.start, counts.rows, counts.values, keep, first, last, model.ridge,
            work, result,
        )  # fmt: skip
        return int(keep[first:last].sum())

    longest = int(np.diff(counts.start).max(initial=0))
    in_chunks(run, lambda: model_work(model, longest), range(0, G, CHUNK), threads, progress)
    return result


def _gene_fits(counts, design, model, family, method, result) -> GeneFits:
    """Take the scales off and name the components."""
    G = len(counts.genes)
    x = model.x_scale
    names, variance, error, pvalue = _components(design, model, family, method, result)
    V = len(names)
    covariance = result.covariance / np.outer(x, x)
    with np.errstate(invalid="ignore"):
        full = np.sqrt(np.einsum("gii->gi", covariance))
    return GeneFits(
        genes=tuple(counts.genes),
        coefficients=design.coefficients,
        components=names,
        method=method,
        beta=result.beta / x,
        std_error=result.se / x,
        std_error_full=full,
        covariance=covariance,
        sensitivity=result.sensitivity / np.outer(x, x),
        variance=variance,
        variance_se=error,
        variance_pvalue=pvalue,
        loglik=result.loglik - (np.log(x).sum() if method == "reml" else 0.0),
        status=result.status,
        n_iter=result.evaluations,
        grid_shape=np.zeros(V, dtype=np.int64),
        grid_low=np.full((G, V), np.nan),
        grid_high=np.full((G, V), np.nan),
        grid_unit=np.zeros((G, V)),
        grid_loglik=np.zeros((G, 0)),
    )


def component_names(design: Design, family: str) -> tuple[str, ...]:
    """Return the names of the components of a design in the order of ``GeneFits.variance``."""
    names = []
    for term in design.terms:
        if term.effects == ("(Intercept)",):
            names.append(term.name)
            continue
        names += [f"{term.name}: {effect}" for effect in term.effects]
        rows, cols = np.tril_indices(len(term.effects), -1)
        names += [f"{term.name}: {term.effects[j]}, {term.effects[i]}" for i, j in zip(rows, cols, strict=True)]
    return (*names, *{"nb": [DISPERSION], "gaussian": [RESIDUAL]}.get(family, []))


def factors(model: Model, psi: np.ndarray) -> list[np.ndarray]:
    """Return the relative covariance factor of each term in the kernels' units, (G, q, q), from psi (G, T + 1)."""
    out = []
    for first, q in zip(model.terms.first, model.terms.size, strict=True):
        T = np.zeros((len(psi), q, q))
        T[:, *np.tril_indices(q)] = psi[:, first : first + q * (q + 1) // 2]
        out.append(T)
    return out


def _components(design, model, family, method, result):
    """Return names, estimates, standard errors and p-values of the components."""
    scale = result.scale if family == "gaussian" else np.ones_like(result.scale)
    m = max(model.layout.number.sum() - (model.tree.X.shape[0] if method == "reml" else 0), 1.0)
    # Relative variance of the residual variance given theta, and of its derivative by theta.
    free = 2.0 / m if family == "gaussian" else 0.0
    d_scale = result.d_scale if family == "gaussian" else np.zeros_like(result.d_scale)
    estimates, errors, pvalues = [], [], []
    for t, T in enumerate(factors(model, result.psi)):
        z, first, q = model.z_scale[model.columns[t]], model.terms.first[t], T.shape[1]
        sigma = T @ T.transpose(0, 2, 1)
        lower = list(zip(*np.tril_indices(q, -1), strict=True))
        for i, j in [(i, i) for i in range(q)] + lower:
            slope = np.zeros_like(d_scale)
            for k in range(j + 1):
                slope[:, first + i * (i + 1) // 2 + k] += T[:, j, k]
            for k in range(min(i, j) + 1 if i != j else i + 1):
                slope[:, first + j * (j + 1) // 2 + k] += T[:, i, k]
            value = sigma[:, i, j]
            slope = (slope + value[:, None] * d_scale) * scale[:, None]
            square = np.einsum("ga,gab,gb->g", slope, result.V, slope) + free * (value * scale) ** 2
            error = np.sqrt(np.maximum(square, 0.0))
            estimates.append(value * scale / (z[i] * z[j]))
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.where(value > 0, error / (value * scale), np.nan)
            errors.append(relative if i == j else error / (z[i] * z[j]))
            pvalues.append(_without(result, first + i * (i + 1) // 2 + i, q - 1) if i == j else np.full(len(T), np.nan))
    if family == "nb":
        rho = result.psi[:, -1]
        estimates.append(2.0 * np.sinh(0.5 * rho) ** 2)
        errors.append(np.where(rho > 0, np.sqrt(result.V[:, -1, -1]), np.nan))
        pvalues.append(_without(result, result.psi.shape[1] - 1, 0))
    elif family == "gaussian":
        estimates.append(result.scale)
        errors.append(np.sqrt(np.maximum(np.einsum("ga,gab,gb->g", d_scale, result.V, d_scale), 0.0) + free))
        pvalues.append(np.full(len(result.scale), np.nan))
    stack = [np.array(part).reshape(len(part), len(result.loglik)).T for part in (estimates, errors, pvalues)]
    return component_names(design, family), *(np.ascontiguousarray(part) for part in stack)


def _without(result: ModelResult, column: int, covariances: int) -> np.ndarray:
    """Return the boundary likelihood-ratio p-value, 1/2 chi2_k + 1/2 chi2_(k+1) with k covariances dropped."""
    if result.without.shape[1] == 0:
        return np.full(len(result.loglik), np.nan)
    ratio = 2.0 * np.maximum(result.loglik - result.without[:, column], 0.0)
    below = chdtrc(covariances, ratio) if covariances else np.where(ratio > 0, 0.0, 1.0)
    return np.where(np.isnan(ratio), np.nan, 0.5 * below + 0.5 * chdtrc(covariances + 1.0, ratio))
