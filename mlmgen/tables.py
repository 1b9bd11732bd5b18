"""From records of arrays to the result tables; columns are declared in `mlmgen.columns`."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlmgen import columns, fdr
from mlmgen.design_rows import DISPERSION, RESIDUAL, components_of
from mlmgen.fitting import has_grid
from mlmgen.moderate import FEW_GENES, covariances, on_grid
from mlmgen.shrinkage import shrink
from mlmgen.status import HELP, Status, label
from mlmgen.types import Design, Effects, GeneFits, Moderated
from mlmgen.variance_partition import component_fractions

LOG2 = np.log(2.0)
NOT_TESTED = "the fit converged, but not the likelihoods that its test needs: not tested"
SMALLEST_PVALUE = np.finfo(float).tiny  # below it p-values lose digits; `statistic` keeps the ranking


@dataclasses.dataclass(frozen=True)
class Results:
    """What one method found in one cell type, all shards, the gene axis first.

    Attributes
    ----------
    cell_type, method, family : str
    n_cells, n_donors, n_samples : int
    rows : int
        Rows that were fitted: cells, or samples for pseudobulk.
    gene_names : tuple of str, length G
    statistics : dict of str to (G,) array
        ``mean_count`` (per cell), ``pct_cells``, ``total_count``, ``n_cells_expressing``, ``n_donors_expressing``.
    reasons : tuple of str, length G
        Why a gene was filtered; empty for the others.
    left_out : dict of str to str
        Contrasts that cannot be estimated in this cell type, and why.
    design : Design or None
        Of the rows that were fitted; None for a cell type that is skipped.
    fits : GeneFits
    moderated : Moderated
    effects : Effects
    cautions : dict of str to str
        What is wrong with the p-values of a contrast, by its name.
    """

    cell_type: str
    method: str
    family: str
    n_cells: int
    n_donors: int
    n_samples: int
    rows: int
    gene_names: tuple[str, ...]
    statistics: dict
    reasons: tuple[str, ...]
    left_out: dict
    design: Design | None
    fits: GeneFits
    moderated: Moderated
    effects: Effects
    cautions: dict = dataclasses.field(default_factory=dict)


def effects(results: Sequence[Results], contrasts: Sequence[str], weighted: bool = False) -> pd.DataFrame:
    """Build the table of effects: one row per cell type x gene x contrast x method.

    Parameters
    ----------
    results : sequence of Results
    contrasts : sequence of str
        In the order of the configuration. Every cell type gets rows for all of them.
    weighted : bool
        Whether false discovery rates are those of weighted p-values, see `mlmgen.fdr`.

    Returns
    -------
    DataFrame
        Columns as in ``columns.TABLES["effects"]``; within a cell type, contrast and method the
        strongest evidence comes first and missing statistics last.
    """
    parts = [_ranked(_one_contrast(result, contrast, weighted)) for result in results for contrast in contrasts]
    table = typed([part | {"padj": np.nan, "padj_global": np.nan} for part in parts], "effects")
    weight = np.concatenate([np.empty(0), *(part["weight"] for part in parts)])
    table["padj"] = adjusted(table, ["cell_type", "contrast", "method"], weight)
    table["padj_global"] = adjusted(table, ["contrast", "method"], weight)
    return table


def adjusted(table: pd.DataFrame, groups: list[str], weight: np.ndarray | None = None) -> np.ndarray:
    """Benjamini-Hochberg within groups of rows; rows without a p-value do not count and stay missing.

    Parameters
    ----------
    table : DataFrame
        With a column ``pvalue``.
    groups : list of str
    weight : (rows,) float64, optional
        As for `mlmgen.fdr.adjusted`.

    Returns
    -------
    (rows,) float64
    """
    padj = np.full(len(table), np.nan)
    pvalue = table["pvalue"].to_numpy()
    for rows in table.groupby(groups, observed=True, sort=False).indices.values():
        padj[rows] = fdr.adjusted(pvalue[rows], None if weight is None else weight[rows])
    return padj


def designs(rows: Sequence[dict], methods: Sequence[str] = ("glmm", "pseudobulk")) -> pd.DataFrame:
    """Build the table of designs: one row per cell type x contrast.

    Parameters
    ----------
    rows : sequence of dict
        Each of a `mlmgen.design_lint.Row`.
    methods : sequence of str
        Of the run: what is wrong with p-values of the cells is left out where cells are not tested.
    """
    made = {}
    cautions = [f"glmm: {row['caution']}" if row["caution"] and "glmm" in methods else "" for row in rows]
    warnings = ["; ".join(filter(None, (c, row["warning"]))) for c, row in zip(cautions, rows, strict=True)]
    rows = [row | {"warning": warning} for row, warning in zip(rows, warnings, strict=True)]
    for column in columns.TABLES["design"]:
        dtype = column.dtype if column.dtype != "str" else object
        made[column.name] = pd.Series([row[column.name] for row in rows], dtype=dtype)
    return pd.DataFrame(made)


def coefficients(results: Sequence[Results]) -> pd.DataFrame:
    """Build the table of fixed effects as fitted: one row per cell type x fitted gene x method x coefficient."""
    parts = []
    for result in results:
        fits, fitted = result.fits, _fitted(result)
        columns = {"estimate": fits.beta, "std_error": fits.std_error, "std_error_full": fits.std_error_full}
        values = {name: column[fitted].ravel() for name, column in columns.items()}
        parts.append(_crossed(result, fitted, "coefficient", fits.coefficients) | values)
    return typed(parts, "coefficients")


def variances(results: Sequence[Results]) -> pd.DataFrame:
    """Build the table of variances: one row per cell type x fitted gene x method x component."""
    parts = []
    for result in results:
        fits, moderated, fitted = result.fits, result.moderated, _fitted(result)
        columns = {
            "variance_reml": fits.variance,
            "variance": moderated.variance,
            "ci_low": moderated.ci_low,
            "ci_high": moderated.ci_high,
            "correlation": correlations(result),
            "pvalue": fits.variance_pvalue,
            "fraction": fractions(result),
        }
        values = {name: column[fitted].ravel() for name, column in columns.items()}
        parts.append(_crossed(result, fitted, "component", fits.components) | values)
    return typed(parts, "variances")


def priors(results: Sequence[Results]) -> pd.DataFrame:
    """Build the table of priors: one row per cell type x method x variance component, covariances left out."""
    parts = []
    for result in results:
        fitted, pairs = learned_from(result.fits), covariances(result.fits.components)
        of_variances = [v for v in range(len(result.fits.components)) if v not in pairs]
        mean, slope, sd = result.moderated.prior[of_variances].T
        mean = mean + (result.fits.grid_unit[fitted][:, of_variances].mean(axis=0) if fitted.any() else 0.0)
        name = "n_cells_expressing" if result.family == "bernoulli" else "total_count"
        total = np.log(np.maximum(np.asarray(result.statistics[name], dtype=float)[fitted], 1.0))
        parts.append(
            {
                "cell_type": result.cell_type,
                "method": result.method,
                "component": np.array([result.fits.components[v] for v in of_variances], dtype=object),
                "n_genes": int(fitted.sum()),
                "mean_log_total": total.mean() if fitted.any() else np.nan,
                "log_variance": mean,
                "slope": slope,
                "sd": sd,
                "variance": np.exp(mean),
                "reason": np.array([without_prior(result, v) for v in of_variances], dtype=object),
            }
        )
    return typed(parts, "priors")


def learned_from(fits: GeneFits) -> np.ndarray:
    """Return which genes a prior is, or would be, learned from, (G,) bool."""
    return on_grid(fits) if has_grid(fits) else np.isfinite(fits.loglik)


def without_prior(result: Results, v: int) -> str:
    """Say in words why a component has no prior; empty where it has one."""
    fits, n = result.fits, int(learned_from(result.fits).sum())
    if np.isfinite(result.moderated.prior[v, 0]):
        return ""
    if fits.components[v] in (DISPERSION, RESIDUAL) and (result.method == "glmm" or has_grid(fits)):
        return "not between replicates: each gene has data enough of its own"
    if n < FEW_GENES and fits.method == "reml":
        return f"{n:,} genes are fewer than the {FEW_GENES} that a prior needs: t tests with few degrees of freedom"
    if not has_grid(fits):
        return "variances of this model are not moderated: t tests with Satterthwaite's degrees of freedom"
    return (
        "of more than three variances, whole terms are moderated, those with most groups: scaled with the first effect"
    )


def fits(results: Sequence[Results]) -> pd.DataFrame:
    """Build the table of fits: one row per cell type x gene x method."""
    parts = [
        _per_gene(result)
        | _criteria(result)
        | {
            "n_samples": result.n_samples,
            "n_iter": result.fits.n_iter,
            **{name: result.statistics[name] for name in ("total_count", "n_cells_expressing", "n_donors_expressing")},
        }
        for result in results
    ]
    return typed(parts, "fits")


def fractions(result: Results) -> np.ndarray:
    """Share of each component in the variance that the fixed effects leave, see `mlmgen.variance_partition`.

    Returns
    -------
    (G, V) float64
        A random slope counts with its mean over the rows, a covariance with both of its entries.
    """
    variance = result.moderated.variance
    if result.design is None:
        return np.full(variance.shape, np.nan)
    mean = np.asarray(result.statistics["total_count"], dtype=float) / result.rows
    return component_fractions(result.design, result.fits.components, variance, result.family, mean)


def correlations(result: Results) -> np.ndarray:
    """Correlation of the two effects of each component that is a covariance, as fitted.

    Returns
    -------
    (G, V) float64
        NaN for variances, and where one of the two variances is zero.
    """
    fits, found = result.fits, np.full(result.fits.variance.shape, np.nan)
    if result.design is None:
        return found
    parts = components_of(result.design.terms, fits.components)
    place = {part: v for v, part in enumerate(parts)}
    for v, (term, i, j) in enumerate(parts):
        if i != j:
            product = fits.variance[:, place[term, i, i]] * fits.variance[:, place[term, j, j]]
            with np.errstate(divide="ignore", invalid="ignore"):
                found[:, v] = fits.variance[:, v] / np.sqrt(product)
    return found


def _criteria(result: Results) -> dict:
    """The log-likelihood and what is made of it; every row counts in BIC, as in lme4 and glmmTMB."""
    fits, k = result.fits, len(result.fits.coefficients) + len(result.fits.components)
    return {
        "estimation": fits.method,
        "loglik": fits.loglik,
        "n_parameters": k,
        "aic": 2.0 * k - 2.0 * fits.loglik,
        "bic": np.log(max(result.rows, 1)) * k - 2.0 * fits.loglik,
    }


def _fitted(result: Results) -> np.ndarray:
    return result.fits.status != Status.FILTERED


def _reasons(result: Results) -> np.ndarray:
    """One sentence per gene: its filter, or the help text of a status that is not plain convergence."""
    texts = {status: "" if status == Status.CONVERGED else HELP[status] for status in Status}
    pairs = zip(result.reasons, result.fits.status.tolist(), strict=True)
    return np.array([why or texts[status] for why, status in pairs], dtype=object)


def _per_gene(result: Results) -> dict:
    """The columns that effects and fits share."""
    statistics, names = result.statistics, {int(status): label(status) for status in Status}
    return {
        "cell_type": result.cell_type,
        "gene": np.asarray(result.fits.genes, dtype=object),
        "gene_name": np.asarray(result.gene_names, dtype=object),
        "method": result.method,
        "mean_count": np.asarray(statistics["mean_count"]),
        "pct_cells": np.asarray(statistics["pct_cells"]),
        "n_cells": result.n_cells,
        "n_donors": result.n_donors,
        "status": np.array([names[status] for status in result.fits.status.tolist()], dtype=object),
        "reason": _reasons(result),
    }


def _one_contrast(result: Results, contrast: str, weighted: bool) -> dict:
    """The rows of one contrast, on the log2 scale; statistics are missing where there is no test."""
    part = _per_gene(result) | {"contrast": contrast, "weight": np.ones(len(result.fits.genes))}
    effect = ("log2fc", "lfc_se", "ci_low", "ci_high")
    if contrast not in result.effects.contrasts:
        missing = np.full(len(result.fits.genes), np.nan)
        part |= dict.fromkeys((*effect, "log2fc_shrunken", "statistic", "df", "pvalue"), missing)
        untested = f"not tested in this cell type: {result.left_out.get(contrast, 'no gene was fitted')}"
        return part | {"reason": np.array([why or untested for why in result.reasons], dtype=object)}
    c = result.effects.contrasts.index(contrast)
    sources = ("estimate", "std_error", "ci_low", "ci_high")
    for name, source in zip(effect, sources, strict=True):
        part[name] = getattr(result.effects, source)[:, c] / LOG2
    part["statistic"] = result.effects.statistic[:, c]
    part["df"] = result.effects.df[:, c]
    part["pvalue"] = pvalues(result)[:, c]
    columns = (getattr(result.effects, source)[:, c] for source in ("estimate", "std_error", "statistic"))
    part["log2fc_shrunken"] = shrink(*columns) / LOG2
    if weighted:
        part["weight"] = weights_of_tests(result, c)
    untested = np.isnan(part["pvalue"]) & (part["reason"] == "")
    part["reason"] = np.where(untested, NOT_TESTED, part["reason"])
    if caution := result.cautions.get(contrast):
        part["reason"] = _with_caution(part["reason"], part["pvalue"], caution)
    return part


def _with_caution(reasons: np.ndarray, pvalue: np.ndarray, caution: str) -> np.ndarray:
    """Add a caution to the reasons of the genes that were tested."""
    texts = [f"{why}; {caution}" if why else caution for why in reasons]
    return np.where(np.isfinite(pvalue), np.array(texts, dtype=object), reasons)


def pvalues(result: Results) -> np.ndarray:
    """Return the p-values of all contrasts, (G, C), at least `SMALLEST_PVALUE`."""
    return np.maximum(np.exp(result.effects.log_pvalue), SMALLEST_PVALUE)


def weights_of_tests(result: Results, c: int) -> np.ndarray:
    """Return the weights of a contrast's tests in weighted false discovery rates, (G,); see `mlmgen.fdr.weights`."""
    total = np.asarray(result.statistics["total_count"], dtype=float)
    return fdr.weights(result.effects.std_error[:, c], result.effects.log_pvalue[:, c], total)


def _ranked(part: dict) -> dict:
    """Order rows by the evidence; ties and missing statistics keep the order of the genes."""
    order = np.argsort(-np.abs(part["statistic"]), kind="stable")
    return {name: value[order] if isinstance(value, np.ndarray) else value for name, value in part.items()}


def _crossed(result: Results, fitted: np.ndarray, name: str, levels: Sequence[str]) -> dict:
    """The keys of genes x levels, the levels of a gene together."""
    genes = np.asarray(result.fits.genes, dtype=object)[fitted]
    return {
        "cell_type": result.cell_type,
        "gene": np.repeat(genes, len(levels)),
        "method": result.method,
        name: np.tile(np.asarray(levels, dtype=object), len(genes)),
    }


def typed(parts: Sequence[dict], table: str) -> pd.DataFrame:
    """Join parts and give the columns of the registry their order and types; scalars are repeated.

    Parameters
    ----------
    parts : sequence of dict of str to array, text or number
        Each with every column of the table; others are left out.
    table : str
        A key of ``columns.TABLES``.
    """
    joined = {}
    for column in columns.TABLES[table]:
        text = column.dtype in ("category", "str")
        dtype = object if text else column.dtype
        pieces = [np.broadcast_to(np.asarray(part[column.name], dtype=dtype), _rows(part)) for part in parts]
        values = np.concatenate([np.empty(0, dtype=dtype), *pieces])
        joined[column.name] = pd.Series(values, dtype="category" if column.dtype == "category" else dtype)
    return pd.DataFrame(joined)


def _rows(part: dict) -> int:
    """The rows of a part: the length of its arrays."""
    return next(len(values) for values in part.values() if np.ndim(values) == 1)
