"""Random effects of groups, and predictions for known and new groups."""

import numpy as np
import pandas as pd
from scipy import special

from mlmgen import conditional
from mlmgen.design_rows import Rows, design_rows
from mlmgen.errors import UserError
from mlmgen.notebook.model import FittedModel
from mlmgen.notebook.new_rows import new_rows
from mlmgen.notebook.responses import size_factor
from mlmgen.status import Status

# A data frame of them takes two gigabytes.
MOST_PREDICTIONS = 20_000_000


def random_effects(model: FittedModel) -> pd.DataFrame:
    """Return the effects of every group, shrunken and unpooled.

    Returns
    -------
    DataFrame
        One row per fitted response x term x group x effect: ``gene`` or ``response``, ``term``, ``group``, ``effect``;
        ``estimate``, the conditional mode (BLUP), and its ``std_error`` given the fixed effects and variances;
        ``unpooled`` and ``unpooled_se``, from the group's own rows alone. Natural log, log odds or the units of a
        gaussian response.
    """
    o = model.options
    terms = conditional.modes(model.counts, model.design, model.estimates, o.family, o.likelihood)
    fitted = model.estimates.status != Status.FILTERED
    genes = np.asarray(model.responses.names, dtype=object)[fitted]
    parts = [_of_term(model.responses.kind, genes, term, fitted) for term in terms]
    columns = [model.responses.kind, "term", "group", "effect", "estimate", "std_error", "unpooled", "unpooled_se"]
    if not parts:
        return pd.DataFrame({name: [] for name in columns})
    place = np.concatenate([np.repeat(np.arange(len(genes)), len(part) // max(len(genes), 1)) for part in parts])
    table = pd.concat(parts, ignore_index=True)
    return table.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)[columns]


def _of_term(kind: str, genes: np.ndarray, term, fitted: np.ndarray) -> pd.DataFrame:
    levels, effects = np.asarray(term.levels, dtype=object), np.asarray(term.effects, dtype=object)
    numbers = ("estimate", "std_error", "unpooled", "unpooled_se")
    return pd.DataFrame(
        {
            kind: np.repeat(genes, len(levels) * len(effects)),
            "term": term.term,
            "group": np.tile(np.repeat(levels, len(effects)), len(genes)),
            "effect": np.tile(effects, len(genes) * len(levels)),
            **{name: getattr(term, name)[fitted].ravel() for name in numbers},
        }
    )


def predict(
    model: FittedModel, data=None, new_groups: bool = False, level: float = 0.95, size_factors=None
) -> pd.DataFrame:
    """Predict the linear predictor and the mean at rows.

    Parameters
    ----------
    model : FittedModel
    data : DataFrame or AnnData, optional
        New rows; the fitted rows with their size factors if not given.
    new_groups : bool
        Whether groups that were not fitted are allowed: they get the fixed effects, and the variance between groups in
        their interval. Columns of grouping factors may then be left out.
    level : float
        Of the intervals.
    size_factors : {"obs/<column>"}, array, or None
        Of the new rows; 1 if not given.

    Returns
    -------
    DataFrame
        One row per fitted response x row: ``gene`` or ``response``, ``row`` (its name), ``estimate`` on the scale of
        the linear predictor, offsets included, and its ``std_error``; ``mean``, the estimate on the scale of the
        response (of a new group that of a typical one, not the average over groups), with ``ci_low``, ``ci_high``.
    """
    if not 0.0 < level < 1.0:
        raise UserError(f"the level of the intervals is {level}", "argument level", "Give a number between 0 and 1.")
    rows, names = _rows(model, data, new_groups, size_factors)
    _refuse_too_many(model, len(names))
    o = model.options
    eta, variance = conditional.predict_rows(
        model.counts, model.design, model.estimates, o.family, o.likelihood, rows.X, rows.Z, rows.codes
    )
    fitted = model.estimates.status != Status.FILTERED
    eta, error = eta[fitted] + rows.offset, np.sqrt(variance[fitted])
    z = special.ndtri(0.5 + level / 2.0)
    genes = np.asarray(model.responses.names, dtype=object)[fitted]
    return pd.DataFrame(
        {
            model.responses.kind: np.repeat(genes, len(names)),
            "row": np.tile(np.asarray(names, dtype=object), len(genes)),
            "estimate": eta.ravel(),
            "std_error": error.ravel(),
            "mean": inverse_link(eta, o.family).ravel(),
            "ci_low": inverse_link(eta - z * error, o.family).ravel(),
            "ci_high": inverse_link(eta + z * error, o.family).ravel(),
        }
    )


def _refuse_too_many(model: FittedModel, n: int) -> None:
    """Refuse predictions that no one could read or hold in memory."""
    G, kind = len(model.responses.names), model.responses.kind
    if n * G > MOST_PREDICTIONS:
        do = f"Give fewer rows, or name {kind}s: fit[{list(model.responses.names[:2])}].predict(...)."
        raise UserError(f"{n:,} rows of {G:,} {kind}s are {n * G:,} predictions", "argument data", do)


def _rows(model: FittedModel, data, new_groups: bool, size_factors) -> tuple[Rows, pd.Index]:
    """Return the rows to predict and their names."""
    if data is None:
        rows, back = design_rows(model.design), np.argsort(model.order)
        Z, codes = tuple(z[:, back] for z in rows.Z), tuple(c[back] for c in rows.codes)
        return Rows(rows.X[back], Z, codes, rows.offset[back]), model.responses.table.index
    table = data.obs if hasattr(data, "obs") and hasattr(data, "var_names") else data
    rows = new_rows(model, table, new_groups)
    size = size_factor(size_factors, table, None, "the new data")
    return rows if size is None else rows._replace(offset=rows.offset + np.log(size)), table.index


def inverse_link(eta: np.ndarray, family: str) -> np.ndarray:
    """Return the mean of a linear predictor, elementwise; infinite at the open end of a separated gene's interval."""
    if family == "gaussian":
        return eta
    with np.errstate(over="ignore"):
        return special.expit(eta) if family == "bernoulli" else np.exp(eta)
