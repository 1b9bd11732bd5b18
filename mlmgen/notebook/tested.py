"""Tests of contrasts of a fitted model, as a table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import special, stats

from mlmgen import contrasts as algebra
from mlmgen import inference
from mlmgen.errors import UserError
from mlmgen.notebook.model import FittedModel, sentences
from mlmgen.notebook.responses import COUNT_FAMILIES
from mlmgen.status import label
from mlmgen.types import Effects

LOG2 = np.log(2.0)
SMALLEST_PVALUE = np.finfo(float).tiny  # below it p-values lose digits; `statistic` keeps the ranking
# The workflow's columns, in log2, and those in the units of the linear predictor.
LOG2_COLUMNS = ("log2fc", "lfc_se", "ci_low", "ci_high")
PLAIN_COLUMNS = ("estimate", "std_error", "ci_low", "ci_high")


def test(
    model: FittedModel, contrasts: Mapping[str, str | Sequence[str]] | str | None = None, progress=None
) -> pd.DataFrame:
    """Test contrasts of every fitted response.

    Moderated likelihood-ratio tests where the variances are moderated; otherwise t and F tests with Satterthwaite's
    degrees of freedom.

    Parameters
    ----------
    model : FittedModel
    contrasts : mapping of name to expression, or to a list of them for a joint test, or one expression, optional
        As in the configuration; every coefficient but the intercept if not given.
    progress : callable, optional
        Called with the number of responses just done.

    Returns
    -------
    DataFrame
        One row per response x contrast, within a contrast the strongest evidence first: ``gene`` or ``response``,
        ``contrast``; of counts of an AnnData ``log2fc``, ``lfc_se``, ``ci_low``, ``ci_high`` in log2, as the workflow
        has them; of others ``estimate``, ``std_error``, ``ci_low``, ``ci_high`` in the units of the linear predictor
        (natural log, log odds, or those of a gaussian response), for counts with ``log2fc`` beside them; ``statistic``,
        of a data frame t or F with ``df``, of genes as in the workflow the normal or chi-square quantile of the
        p-value; ``df`` (missing where moderated), ``pvalue``, ``padj`` (Benjamini-Hochberg over the responses of a
        contrast; not for responses that were chosen from a fit), ``status``, ``reason``.

    Raises
    ------
    UserError
        Where a contrast cannot be read, or there is nothing to test.
    """
    resolved = algebra.resolve(contrasts, model.design)
    if not resolved:
        what = "there is nothing to test: the intercept is the only coefficient" if contrasts is None else "no contrast"
        do = "Give contrasts, as in test({'mean': '(Intercept)'})."
        raise UserError(what, "argument contrasts", do)
    o = model.options
    arguments = (model.counts, model.design, model.estimates, model.moderated, resolved)
    effects = inference.test(*arguments, o.family, "cells", o.threads, progress, o.likelihood)
    parts = [_one_contrast(model, effects, c, len(contrast.weights)) for c, contrast in enumerate(resolved)]
    return pd.concat(parts, ignore_index=True)


def _one_contrast(model: FittedModel, effects: Effects, c: int, rank: int) -> pd.DataFrame:
    pvalue = np.maximum(np.exp(effects.log_pvalue[:, c]), SMALLEST_PVALUE)
    columns = {
        model.responses.kind: np.asarray(model.responses.names, dtype=object),
        "contrast": effects.contrasts[c],
        **_sizes(model, effects, c),
        "statistic": _statistic(model, effects, c, rank),
        "df": effects.df[:, c],
        "pvalue": pvalue,
        **({"padj": adjusted(pvalue)} if model.whole else {}),
        "status": [label(value) for value in model.estimates.status],
        "reason": sentences(model),
    }
    order = np.argsort(-np.abs(effects.statistic[:, c]), kind="stable")
    return pd.DataFrame(columns).iloc[order]


def _statistic(model: FittedModel, effects: Effects, c: int, rank: int) -> np.ndarray:
    """Return t or F of a data frame's responses, otherwise the quantile of the p-value, (G,)."""
    quantile, df = effects.statistic[:, c], effects.df[:, c]
    if model.responses.kind == "gene" or model.moderated is not None:
        return quantile
    if rank == 1:
        return effects.estimate[:, c] / effects.std_error[:, c]
    return f_quantile(effects.log_pvalue[:, c], rank, df)


def f_quantile(log_pvalue: np.ndarray, rank: int, df: np.ndarray) -> np.ndarray:
    """Return the value of F with (rank, df) degrees of freedom whose tail is exp(log_pvalue), elementwise."""
    x = special.betaincinv(0.5 * df, 0.5 * rank, np.exp(log_pvalue))
    with np.errstate(divide="ignore"):
        return df * (1.0 - x) / (rank * x)


def _sizes(model: FittedModel, effects: Effects, c: int) -> dict[str, np.ndarray]:
    """Return the columns with the size of an effect, in the units of the data."""
    sizes = [getattr(effects, name)[:, c] for name in PLAIN_COLUMNS]
    counts = model.options.family in COUNT_FAMILIES
    if counts and model.responses.kind == "gene":
        return {name: size / LOG2 for name, size in zip(LOG2_COLUMNS, sizes, strict=True)}
    plain = dict(zip(PLAIN_COLUMNS, sizes, strict=True))
    return plain | {"log2fc": sizes[0] / LOG2} if counts else plain


def adjusted(pvalue: np.ndarray) -> np.ndarray:
    """Return Benjamini-Hochberg adjusted p-values; missing ones do not count and stay missing, (G,)."""
    found, tested = np.full(pvalue.shape, np.nan), np.isfinite(pvalue)
    if tested.any():
        found[tested] = stats.false_discovery_control(pvalue[tested])
    return found
