"""Tidy tables of a fitted model, and its summary in words."""

import numpy as np
import pandas as pd

from mlmgen import variance_partition
from mlmgen.contrasts import example
from mlmgen.design_rows import DISPERSION, components_of
from mlmgen.moderate import intervals
from mlmgen.notebook.model import FittedModel, sentences, totals
from mlmgen.status import Status, label
from mlmgen.types import Contrast
from mlmgen.wald import wald

LEVEL = 0.95
INTERVAL = {"ci_low": "2.5 %", "ci_high": "97.5 %"}
UNITS = {"nb": ", natural log", "poisson": ", natural log", "bernoulli": ", log odds", "gaussian": ""}
# What an outcome means, beside its number in a summary.
GLOSS = {
    Status.BOUNDARY: " (a variance at zero: an ordinary outcome)",
    Status.SEPARATED: " (no counts in one of the groups compared: the effect is held finite)",
    Status.NOT_CONVERGED: " (stopped early: treat with caution)",
    Status.DIVERGED: " (a variance ran off: too few counts)",
    Status.NOT_FINITE: " (no numbers)",
    Status.FILTERED: " (fits says why)",
}
FAMILY_WORDS = {
    "nb": "negative binomial, log link",
    "poisson": "Poisson, log link",
    "bernoulli": "Bernoulli, logit link",
    "gaussian": "gaussian",
}


def coefficients(model: FittedModel) -> pd.DataFrame:
    """Return the fixed effects: one row per response x coefficient.

    Returns
    -------
    DataFrame
        ``gene`` or ``response``, ``coefficient``, ``estimate``, ``std_error`` (given the fitted variances, as
        lme4 reports it), ``std_error_full`` (with the uncertainty of the variances). Natural log, log odds, or
        the units of a gaussian response. Responses that were not fitted have no rows.
    """
    fits = model.estimates
    columns = {"estimate": fits.beta, "std_error": fits.std_error, "std_error_full": fits.std_error_full}
    return _crossed(model, "coefficient", fits.coefficients, columns)


def variances(model: FittedModel) -> pd.DataFrame:
    """Return the variance components: one row per response x component.

    Returns
    -------
    DataFrame
        ``gene`` or ``response``; ``component``, with slopes also covariances such as ``donor: (Intercept), Days``;
        ``variance_reml``, the estimate as fitted (by ML where the fit is by ML); ``variance``, its posterior mean
        where it is moderated, otherwise the estimate again; ``ci_low`` and ``ci_high``, 95 %, missing at the boundary;
        ``correlation``, of a covariance; ``pvalue`` of variance 0; ``fraction`` of the variance that the fixed effects
        leave.
    """
    fits, variance = model.estimates, current_variances(model)
    low, high = variance_intervals(model)
    arguments = (model.design, fits.components, variance, model.options.family, mean_response(model))
    columns = {
        "variance_reml": fits.variance,
        "variance": variance,
        "ci_low": low,
        "ci_high": high,
        "correlation": correlations(model),
        "pvalue": fits.variance_pvalue,
        "fraction": variance_partition.component_fractions(*arguments),
    }
    return _crossed(model, "component", fits.components, columns)


def fits(model: FittedModel) -> pd.DataFrame:
    """Return how each response was fitted and how well: one row per response.

    Returns
    -------
    DataFrame
        ``gene`` or ``response``; ``estimation``, reml or ml; ``loglik`` with every constant; ``n_parameters``,
        coefficients and variance components; ``aic``; ``bic``, with the number of rows as lme4 has it; ``r2_marginal``
        and ``r2_conditional`` (Nakagawa); ``n_rows``; ``n_donors``; ``n_iter``; ``status``; ``reason``.
    """
    estimates, n = model.estimates, model.design.pattern.size
    marginal, conditional = r_squared(model)
    k, aic, bic = criteria(model)
    return pd.DataFrame(
        {
            model.responses.kind: np.asarray(estimates.genes, dtype=object),
            "estimation": estimates.method,
            "loglik": estimates.loglik,
            "n_parameters": k,
            "aic": aic,
            "bic": bic,
            "r2_marginal": marginal,
            "r2_conditional": conditional,
            "n_rows": n,
            "n_donors": len(model.design.donor.levels),
            "n_iter": estimates.n_iter,
            "status": [label(value) for value in estimates.status],
            "reason": sentences(model),
        }
    )


def partition(model: FittedModel) -> pd.DataFrame:
    """Return the variance partition: one row per response x level of the data.

    Returns
    -------
    DataFrame
        ``gene`` or ``response``; ``level``, a grouping factor or ``residual``; ``n_groups``; ``variance`` of the
        linear predictor; ``fraction`` of it; ``icc``, the correlation of two rows in the same group.
    """
    arguments = (model.estimates.components, current_variances(model), model.options.family, mean_response(model))
    found = variance_partition.partition(model.design, *arguments)
    columns = {"variance": found.variance, "fraction": found.fraction, "icc": found.icc}
    table = _crossed(model, "level", found.levels, columns)
    table.insert(2, "n_groups", np.tile(found.n_groups, len(table) // len(found.levels)))
    return table


def r_squared(model: FittedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return Nakagawa's marginal and conditional R^2, (G,) each."""
    arguments = (model.estimates.beta, current_variances(model), model.options.family, mean_response(model))
    return variance_partition.r_squared(model.design, model.estimates.components, *arguments)


def criteria(model: FittedModel) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of parameters, AIC and BIC, (G,) each; of a REML fit they are of the REML likelihood."""
    estimates = model.estimates
    k = len(estimates.coefficients) + len(estimates.components)
    return k, 2.0 * k - 2.0 * estimates.loglik, np.log(model.design.pattern.size) * k - 2.0 * estimates.loglik


def current_variances(model: FittedModel) -> np.ndarray:
    """Return the variances that are reported: moderated where they are, otherwise as fitted, (G, V)."""
    return model.estimates.variance if model.moderated is None else model.moderated.variance


def variance_intervals(model: FittedModel, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals of the variance components, (G, V) each.

    Posterior where a component is moderated; otherwise from its standard error, see `mlmgen.moderate`.
    """
    low, high = intervals(model.estimates, level)
    if model.moderated is None:
        return low, high
    posterior = np.isfinite(model.moderated.ci_low)
    return np.where(posterior, model.moderated.ci_low, low), np.where(posterior, model.moderated.ci_high, high)


def is_covariance(model: FittedModel) -> np.ndarray:
    """Return which components are covariances, (V,) bool."""
    return np.array([i != j for _, i, j in components_of(model.design.terms, model.estimates.components)], dtype=bool)


def correlations(model: FittedModel) -> np.ndarray:
    """Return the correlations of the components that are covariances, (G, V); NaN for the others."""
    variance = model.estimates.variance
    of = components_of(model.design.terms, model.estimates.components)
    found = np.full(variance.shape, np.nan)
    place = {part: v for v, part in enumerate(of)}
    for v, (term, i, j) in enumerate(of):
        if i != j:
            product = variance[:, place[term, i, i]] * variance[:, place[term, j, j]]
            with np.errstate(divide="ignore", invalid="ignore"):
                found[:, v] = variance[:, v] / np.sqrt(product)
    return found


def mean_response(model: FittedModel) -> np.ndarray:
    """Return the mean of each response over the rows, (G,) float64."""
    return totals(model.counts) / model.design.pattern.size


def describe(model: FittedModel) -> str:
    """Write a summary: of one response its estimates, of many how they ended, and what can be asked for."""
    names, design, o = model.responses.names, model.design, model.options
    left = names[0] if len(names) == 1 else f"{len(names):,} {model.responses.kind}s"
    groups = {term.name: len(term.levels) for term in design.terms}
    counted = ", ".join(f"{count:,} {name}" for name, count in groups.items()) or "no random effects"
    how = {"laplace": "Laplace", "agq": f"adaptive quadrature with {o.nodes} nodes"}[o.integration]
    how = o.method.upper() if o.family == "gaussian" else f"{o.method.upper()}, {how}"
    many = len(names) > 1
    return "\n".join(
        [
            f"{left} {model.formula.text}",
            f"{FAMILY_WORDS[o.family]}; {how}; {design.pattern.size:,} rows: {counted}",
            *(_many_responses(model) if many else _one_response(model)),
            "",
            f"Tables: .coefficients .variances .fits .variance_partition{f' [{names[0]!r}]' if many else ''}",
            f"Methods: .test({example(design)!r}) .random_effects() .predict() .marginal_effects() .gee() .refit()",
        ]
    )


def _one_response(model: FittedModel) -> list[str]:
    row = fits(model).iloc[0]
    if row["status"] == label(Status.FILTERED):
        return [f"not fitted: {row['reason']}"]
    if not np.isfinite(row["loglik"]):
        return [f"{row['status']}: {row['reason']}"]
    criteria = f"log-likelihood {row['loglik']:.3f}, AIC {row['aic']:.2f}, BIC {row['bic']:.2f}"
    r2 = f"R2 marginal {row['r2_marginal']:.3f}, conditional {row['r2_conditional']:.3f}"
    ended = f"{row['status']}: {row['reason']}" if row["reason"] else row["status"]
    fixed = f"fixed effects{UNITS[model.options.family]}"
    return [f"{criteria}; {r2}", ended, *_variance_table(model), "", fixed, _text(_coefficient_table(model))]


def _variance_table(model: FittedModel) -> list[str]:
    """Write the variance components with their standard deviations; nothing where there are none."""
    table = variances(model).set_index("component")
    if table.empty:
        return []
    shown = table[["variance", "ci_low", "ci_high", "correlation", "fraction"]].rename(columns=INTERVAL)
    shown.insert(1, "sd", np.sqrt(table["variance"].where(~is_covariance(model) & (table.index != DISPERSION))))
    return ["", "variance components", _text(shown.dropna(axis=1, how="all"))]


def _coefficient_table(model: FittedModel) -> pd.DataFrame:
    """Return estimates, with t tests where there is no moderated test."""
    estimates = model.estimates
    shown = {"estimate": estimates.beta[0], "std_error": estimates.std_error_full[0]}
    if model.moderated is None:
        rows = zip(estimates.coefficients, np.eye(len(estimates.coefficients)), strict=True)
        found = wald(estimates, model.design, tuple(Contrast(name, name, row[None]) for name, row in rows))
        shown |= {
            "2.5 %": found.ci_low[0],
            "97.5 %": found.ci_high[0],
            "t": found.estimate[0] / found.std_error[0],
            "df": found.df[0],
            "pvalue": np.maximum(np.exp(found.log_pvalue[0]), np.finfo(float).tiny),
        }
    return pd.DataFrame(shown, index=list(estimates.coefficients))


def _many_responses(model: FittedModel) -> list[str]:
    status = model.estimates.status
    counted = {s: int((status == s).sum()) for s in Status}
    ended = [f"{count:>9,} {label(s)}{GLOSS.get(s, '')}" for s, count in counted.items() if count]
    moderated = "variances are moderated across responses" if model.moderated else "variances are not moderated"
    return [*ended, moderated, f"coefficients: {', '.join(model.estimates.coefficients)}"]


def _text(table: pd.DataFrame) -> str:
    table.index.name = None
    return table.to_string(float_format=lambda value: f"{value:.4g}", na_rep="")


def _crossed(model: FittedModel, name: str, levels: tuple[str, ...], columns: dict) -> pd.DataFrame:
    """Return one row per fitted response x level from (G, levels) arrays, the levels of a response together."""
    fitted = model.estimates.status != Status.FILTERED
    genes = np.asarray(model.estimates.genes, dtype=object)[fitted]
    keys = {
        model.responses.kind: np.repeat(genes, len(levels)),
        name: np.tile(np.asarray(levels, dtype=object), len(genes)),
    }
    return pd.DataFrame(keys | {column: values[fitted].ravel() for column, values in columns.items()})
