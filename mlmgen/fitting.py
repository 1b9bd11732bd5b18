"""Fit all genes of a shard: counts and a design in, a ``GeneFits`` out."""

from collections.abc import Callable

import numpy as np
from scipy.special import chdtrc

from mlmgen.compress import SEPARATED_SD, Compressed, compress, for_family, is_nested_intercepts
from mlmgen.design_rows import DISPERSION, INTERCEPT
from mlmgen.errors import UserError
from mlmgen.kernels.engine import FitResult, fit_genes, fit_work
from mlmgen.multilevel import fit_any, responses
from mlmgen.status import Status
from mlmgen.threads import CHUNK, in_chunks
from mlmgen.types import Counts, Design, GeneFits
from mlmgen.variance_grid import AXES


def fit_shard(
    counts: Counts,
    design: Design,
    keep: np.ndarray,
    family: str = "nb",
    level: str = "cells",
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
    *,
    method: str = "reml",
    integration: str = "laplace",
    nodes: int = 9,
    likelihood: str = "compressed",
    grid: bool = True,
) -> GeneFits:
    """Fit every kept gene; REML fits with random effects are also profiled on the variance grid.

    Parameters
    ----------
    counts : Counts
        G genes on the rows of ``design``. For ``gaussian`` the values are the response as it stands, 0 where
        a row is not listed; for ``bernoulli`` a row is a success where it is listed.
    design : Design
        Of the cells, or of the samples (``design.for_samples``).
    keep : (G,) bool
        Genes that passed the filters; the others get the status ``FILTERED``.
    family : {"nb", "poisson", "bernoulli", "gaussian"}
        Of the cells. Sums over samples are always negative binomial: their dispersion is the
        variance between replicates.
    level : {"cells", "samples"}
        Which rows the design has.
    threads : int
        Results do not depend on it.
    progress : callable, optional
        Called with the number of genes just done.
    method : {"reml", "ml"}
    integration : {"laplace", "agq"}
        Adaptive Gauss-Hermite quadrature is for one random intercept, ML, and no cell-level functions.
    nodes : int
        Of the quadrature.
    likelihood : {"compressed", "exact"}
        Exact keeps every cell.
    grid : bool
        False leaves out the variance grid, which the moderated tests need.

    Raises
    ------
    UserError
        Where quadrature is asked for a model that it does not cover.
    """
    family = "nb" if level == "samples" else family
    refuse_quadrature(design, family, method, integration)
    if not (grid and has_own_engine(design, family, level, method, likelihood)):
        grid = grid and can_have_grid(design, level, method)
        return fit_any(counts, design, keep, family, threads, progress, method, integration, nodes, likelihood, grid)
    packed = for_family(compress(design), family)
    counts = responses(counts, design, family)
    active = active_parameters(packed, family, level)
    shape = grid_shape(active, level)
    result = run_fits(packed, counts, keep, active, shape, level == "samples", threads, progress)
    return _gene_fits(counts, design, packed, active, shape, result)


def has_grid(fits: GeneFits) -> bool:
    """Tell whether fits were profiled on the variance grid, so that they can be moderated."""
    return fits.grid_loglik.shape[1] > 0


def can_have_grid(design: Design, level: str, method: str) -> bool:
    """Tell whether a model that the general engine fits is profiled on the variance grid.

    Of samples only with slopes: elsewhere their dispersion is the variance between replicates, which is no axis there.
    """
    slopes = any(term.effects != (INTERCEPT,) for term in design.terms)
    return method == "reml" and bool(design.terms) and (level == "cells" or slopes)


def has_own_engine(design: Design, family: str, level: str, method: str, likelihood: str) -> bool:
    """Tell whether a model has the engine of nested random intercepts of counts by REML."""
    plain = family != "gaussian" and method == "reml" and likelihood == "compressed"
    return plain and is_nested_intercepts(design) and bool(design.terms or level == "samples")


def refuse_quadrature(design: Design, family: str, method: str, integration: str) -> None:
    """Raise a `UserError` where quadrature is asked for a model that it does not cover."""
    if integration == "laplace":
        return
    plain = len(design.terms) == 1 and len(design.terms[0].effects) == 1 and not design.functions.shape[1]
    if method == "ml" and plain and family != "gaussian":
        return
    terms = " + ".join(f"({' + '.join(term.effects)} | {term.name})" for term in design.terms) or "no random term"
    what = f"integration: agq was asked for estimation by {method}, family: {family} and {terms}"
    do = "Use it with one random intercept, estimation by ml and counts or detection, without continuous cell-level "
    raise UserError(what, "configuration key integration", do + "covariates; else use integration: laplace.")


def active_parameters(packed: Compressed, family: str, level: str) -> np.ndarray:
    """Return which of (sigma_top, sigma_sub, phi) are estimated, (3,) bool."""
    return np.array([packed.top >= 0, packed.sub >= 0, family == "nb" or level == "samples"])


def grid_shape(active: np.ndarray, level: str) -> np.ndarray:
    """Return the points of each axis of the variance grid, (3,) int64; 1 where a component stays at its estimate.

    The random intercepts are on the grid; for samples so is the dispersion, which is then the variance
    between replicates. The last component on the grid is the one between replicates and has most points.
    """
    shape = np.ones(3, dtype=np.int64)
    axes = np.flatnonzero(active & np.array([True, True, level == "samples"]))
    shape[axes] = AXES[axes.size]
    return shape


def run_fits(packed, counts, keep, active, shape, samples, threads, progress, profile: bool = True) -> FitResult:
    """Run ``fit_genes`` over chunks of genes on the threads."""
    G, p = len(counts.genes), packed.structure.X.shape[0]
    longest = int(np.diff(counts.start).max(initial=0))
    shapes = {"beta": (G, p), "se": (G, p), "psi": (G, 3), "loglik": (G,), "without": (G, 3), "box": (G, 3, 2)}
    shapes |= {"covariance": (G, p, p), "V": (G, 3, 3)}
    shapes["profile"] = (G, int(shape.prod()) if profile else 0)
    result = FitResult(
        status=np.full(G, int(Status.FILTERED), np.int8),
        evaluations=np.zeros(G, np.int32),
        **{name: np.full(size, np.nan) for name, size in shapes.items()},
    )
    ridge = separated_ridge(packed)

    def run(work_packed, first):
        last = min(first + CHUNK, G)
        fit_genes(
            work_packed[1], counts.start, counts.rows, counts.values, keep, first, last, active, samples, ridge, shape,
            work_packed[0], result,
        )  # fmt: skip
        return last - first

    in_chunks(run, lambda: thread_work(packed, longest), range(0, G, CHUNK), threads, progress)
    return result


def separated_ridge(packed: Compressed) -> np.ndarray:
    """Return the prior precisions of the coefficients of a separated gene: none for an intercept, (p,)."""
    constant = np.ptp(packed.structure.X, axis=1) == 0.0
    return np.where(constant, 0.0, SEPARATED_SD**-2)


def thread_work(packed: Compressed, longest: int):
    """Allocate a thread's work and a compressed design with a ridge array of its own, which the thread may write."""
    own = packed._replace(structure=packed.structure._replace(ridge=packed.structure.ridge.copy()))
    return fit_work(own, longest), own


def _gene_fits(counts, design, packed, active, shape, result) -> GeneFits:
    """Put the engine's (top, sub, phi) in the order of the formula's terms."""
    columns, components = [], []
    for position, term in enumerate(design.terms):
        columns.append(0 if position == packed.top else 1)
        components.append(term.name)
    if active[2]:
        columns.append(2)
        components.append(DISPERSION)
    ratio = 2.0 * np.maximum(result.loglik[:, None] - result.without[:, columns], 0.0)
    pvalue = np.where(ratio > 0.0, 0.5 * chdtrc(1.0, ratio), 1.0)
    pvalue[np.isnan(ratio)] = np.nan
    (G, p), variance = result.beta.shape, result.psi[:, columns]
    return GeneFits(
        genes=tuple(counts.genes),
        coefficients=design.coefficients,
        components=tuple(components),
        method="reml",
        beta=result.beta,
        std_error=result.se,
        std_error_full=np.sqrt(np.einsum("gii->gi", result.covariance)),
        covariance=result.covariance,
        sensitivity=np.zeros((G, 0, p, p)),
        variance=variance,
        variance_se=_variance_errors(variance, columns, result.V),
        variance_pvalue=pvalue,
        loglik=result.loglik,
        status=result.status,
        n_iter=result.evaluations,
        grid_shape=shape[columns],
        grid_low=result.box[:, columns, 0],
        grid_high=result.box[:, columns, 1],
        grid_unit=np.zeros((G, len(columns))),
        grid_loglik=_in_order(result.profile, shape, columns),
    )


def _variance_errors(variance, columns, V) -> np.ndarray:
    """Return standard errors of log variances from those of standard deviations, and those of rho; NaN at zero."""
    out = np.full(variance.shape, np.nan)
    for v, column in enumerate(columns):
        # d log sigma^2 / d sigma = 2 / sigma.
        slope = 0.5 * np.sqrt(variance[:, v]) if column < 2 else np.ones(len(variance))
        np.divide(np.sqrt(V[:, column, column]), slope, out=out[:, v], where=variance[:, v] > 0)
    return out


def _in_order(profile, shape, columns):
    """Transpose the grid from the engine's order of components to that of the formula."""
    missing = [v for v in range(3) if v not in columns]
    grid = profile.reshape(-1, *shape).transpose(0, *(1 + v for v in [*columns, *missing]))
    return np.ascontiguousarray(grid).reshape(profile.shape)


def concatenate(shards: list[GeneFits]) -> GeneFits:
    """Join the shards of one cell type and method in the order given."""
    first = shards[0]
    joined = {name: np.concatenate([getattr(s, name) for s in shards]) for name in _PER_GENE}
    genes = tuple(gene for s in shards for gene in s.genes)
    shared = {name: getattr(first, name) for name in ("coefficients", "components", "method", "grid_shape")}
    return GeneFits(genes=genes, **shared, **joined)


_PER_GENE = ("beta", "std_error", "std_error_full", "covariance", "sensitivity", "variance", "variance_se")
_PER_GENE += ("variance_pvalue", "loglik", "status", "n_iter")
_PER_GENE += ("grid_low", "grid_high", "grid_unit", "grid_loglik")
