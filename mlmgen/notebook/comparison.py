r"""Compare models of the same data: AIC, BIC, likelihood ratios of nested models.

A variance that is zero under the smaller model lies on the boundary of its range. With d parameters added,
one variance (and its covariances) among them, the likelihood ratio is 1/2 chi2_(d-1) + 1/2 chi2_d (Self and Liang 1987,
J Am Stat Assoc 82:605; Stram and Lee 1994, Biometrics 50:1171). With several variances added at once the same
mixture is an upper bound of the p-value (Perlman 1969, Ann Math Stat 40:549).
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from mlmgen.design_rows import components_of, design_rows
from mlmgen.errors import UserError, listing
from mlmgen.groups import same_groups
from mlmgen.notebook.fitted import refitted
from mlmgen.notebook.model import FittedModel, in_data_order
from mlmgen.notebook.model_summary import criteria
from mlmgen.notebook.responses import COUNT_FAMILIES

# What a least-squares fit of a column may leave where it lies in the span of others, beside its length.
IN_SPAN = 1e-7
NOT_NESTED = "not nested"


def compare(models: Sequence[FittedModel], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare models from the fewest parameters upwards, each with the one before.

    Parameters
    ----------
    models : sequence of FittedModel
        Of the same responses and rows. REML likelihoods are comparable between models with the same fixed effects
        only; otherwise those fitted by REML are fitted again by ML.
    names : sequence of str, optional
        One for each model; formulas if not given.

    Returns
    -------
    DataFrame
        One row per response x model: ``gene`` or ``response``, ``model``, ``estimation`` (reml or ml),
        ``n_parameters``, ``loglik``, ``aic``, ``bic``; and of the test against the row before: ``chisq``, ``df``,
        ``pvalue`` and ``distribution``, missing where the models are not nested.

    Raises
    ------
    UserError
        Where the models are of different data.
    """
    if len(models) < 2:
        do = "Give two or more, as in compare(empty, intercept, slope)."
        raise UserError(f"{len(models)} model to compare", "arguments of compare", do)
    labels = _labels(models) if names is None else [str(name) for name in names]
    if len(labels) != len(models):
        what = f"{len(labels)} names for {len(models)} models"
        raise UserError(what, "argument names", "Give one for each.")
    for other in models[1:]:
        _refuse_other_data(models[0], other)
    models = comparable(models)
    order = sorted(range(len(models)), key=lambda i: criteria(models[i])[0])
    models, labels = [models[i] for i in order], [labels[i] for i in order]
    tests = [None, *(likelihood_ratio(small, big) for small, big in itertools.pairwise(models))]
    return _table(models, labels, tests)


def comparable(models: Sequence[FittedModel]) -> list[FittedModel]:
    """Return the models with comparable likelihoods: all by REML where the fixed effects are the same, else by ML."""
    return [refitted(model, "ml") for model in models] if needs_ml(models) else list(models)


def needs_ml(models: Sequence[FittedModel]) -> bool:
    """Tell whether some models have likelihoods by REML that cannot be compared with the others."""
    by_reml = [model.options.method == "reml" for model in models]
    if not any(by_reml):
        return False
    return not (all(by_reml) and all(same_fixed_effects(models[0], other) for other in models[1:]))


def likelihood_ratio(small: FittedModel, big: FittedModel) -> tuple[np.ndarray, int, np.ndarray, str] | None:
    """Return statistic (G,), parameters added, p-values (G,) and the distribution's name; None if not nested."""
    added = criteria(big)[0] - criteria(small)[0]
    if added <= 0 or not nested(small, big):
        return None
    statistic = np.maximum(2.0 * (big.estimates.loglik - small.estimates.loglik), 0.0)
    boundary = n_variances(big) > n_variances(small)
    name = f"1/2 chi2({added - 1}) + 1/2 chi2({added})" if boundary else f"chi2({added})"
    return statistic, added, mixture_pvalue(statistic, added, boundary), name


def mixture_pvalue(statistic: np.ndarray, added: int, boundary: bool) -> np.ndarray:
    """Return P(chi2_d > statistic), or that of 1/2 chi2_(d-1) + 1/2 chi2_d at a boundary; chi2_0 is 0."""
    upper = chdtrc(float(added), statistic)
    if not boundary:
        return upper
    lower = chdtrc(float(added - 1), statistic) if added > 1 else np.where(statistic > 0, 0.0, 1.0)
    return np.where(np.isnan(statistic), np.nan, 0.5 * lower + 0.5 * upper)


def nested(small: FittedModel, big: FittedModel) -> bool:
    """Tell whether the smaller model is a special case of the bigger."""
    families = small.options.family == big.options.family or (small.options.family, big.options.family) == (
        "poisson",
        "nb",
    )
    one, other = _of_data(small), _of_data(big)
    if not (families and np.allclose(one.offset, other.offset) and in_span(one.X, other.X)):
        return False
    return all(
        any(same_groups(codes, c) and in_span(Z.T, W.T) for W, c in zip(other.Z, other.codes, strict=True))
        for Z, codes in zip(one.Z, one.codes, strict=True)
    )


def same_fixed_effects(one: FittedModel, other: FittedModel) -> bool:
    """Tell whether two models have the same columns in their fixed effects, in any order."""
    names, others = one.estimates.coefficients, other.estimates.coefficients
    if set(names) != set(others) or one.order.size != other.order.size:
        return False
    a, b = _of_data(one), _of_data(other)
    return np.allclose(a.X, b.X[:, [others.index(name) for name in names]]) and np.allclose(a.offset, b.offset)


def in_span(columns: np.ndarray, of: np.ndarray) -> bool:
    """Tell whether each of the columns (n, k) is a combination of the others (n, p)."""
    scale = np.linalg.norm(columns, axis=0)
    left = columns - of @ np.linalg.lstsq(of, columns, rcond=None)[0]
    return bool((np.linalg.norm(left, axis=0) <= IN_SPAN * scale).all())


def n_variances(model: FittedModel) -> int:
    """Return how many components are variances, not covariances."""
    return sum(i == j for _, i, j in components_of(model.design.terms, model.estimates.components))


def _of_data(model: FittedModel):
    """Return the rows of a model in the order of the data."""
    rows, back = design_rows(model.design), np.argsort(model.order)
    return rows._replace(
        X=rows.X[back],
        Z=tuple(Z[:, back] for Z in rows.Z),
        codes=tuple(codes[back] for codes in rows.codes),
        offset=rows.offset[back],
    )


def _refuse_other_data(one: FittedModel, other: FittedModel) -> None:
    a, b, do = one.responses, other.responses, "Fit all models to the same rows of the same table."
    if a.names != b.names:
        seen = f"{listing(a.names, 3)} and {listing(b.names, 3)}"
        raise UserError(f"the models are of different responses: {seen}", "arguments of compare", do)
    rows = [model.design.pattern.size for model in (one, other)]
    if rows[0] != rows[1] or (in_data_order(one) != in_data_order(other)).nnz:
        seen = f"{rows[0]:,} and {rows[1]:,} rows"
        raise UserError(f"the models are of different data ({seen})", "arguments of compare", do)
    first, second = one.options, other.options
    counts = {first.family, second.family} <= set(COUNT_FAMILIES)
    if first.family != second.family and not counts:
        what = f"likelihoods of the families {first.family} and {second.family} have different units"
        raise UserError(what, "arguments of compare", "Compare models of one family, or nb with poisson.")
    if first.integration != second.integration:
        what = f"the likelihoods are integrated differently: {first.integration} and {second.integration}"
        raise UserError(what, "arguments of compare", "Use the same integration for all models.")


def _labels(models: Sequence[FittedModel]) -> list[str]:
    """Name models by their formulas, and by their families where those differ; repeated names get a number."""
    families = {model.options.family for model in models}
    plain = [
        model.formula.text if len(families) == 1 else f"{model.options.family}: {model.formula.text}"
        for model in models
    ]
    return [
        name if plain.count(name) == 1 else f"{name} [{plain[: i + 1].count(name)}]" for i, name in enumerate(plain)
    ]


def _table(models: list[FittedModel], labels: list[str], tests: list) -> pd.DataFrame:
    """Put models of one response together, in their order."""
    parts = []
    for model, label, test in zip(models, labels, tests, strict=True):
        k, aic, bic = criteria(model)
        missing = np.full(len(aic), np.nan)
        first = "" if model is models[0] else NOT_NESTED
        statistic, added, pvalue, name = test or (missing, np.nan, missing, first)
        columns = {
            model.responses.kind: np.asarray(model.responses.names, dtype=object),
            "model": label,
            "estimation": model.estimates.method,
            "n_parameters": k,
            "loglik": model.estimates.loglik,
            "aic": aic,
            "bic": bic,
            "chisq": statistic,
            "df": float(added),
            "pvalue": pvalue,
            "distribution": name,
        }
        parts.append(pd.DataFrame(columns))
    G = len(models[0].responses.names)
    by_response = np.arange(len(models) * G).reshape(len(models), G).T.ravel()
    return pd.concat(parts, ignore_index=True).iloc[by_response].reset_index(drop=True)
