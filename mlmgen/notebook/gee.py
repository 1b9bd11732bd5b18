"""Generalized estimating equations through statsmodels: a check of the fixed effects that needs no random effects."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlmgen.design_rows import DISPERSION, design_rows
from mlmgen.errors import UserError, listing, nearest
from mlmgen.notebook.model import FittedModel, positions


def gee(model: FittedModel, responses: Sequence[str] | None = None, groups: str | None = None) -> pd.DataFrame:
    """Fit named responses by GEE with an exchangeable working correlation within groups.

    The family and the offset are those of the model; the dispersion of nb is held at the model's estimate. GEE
    estimates population-averaged effects: of a log link they are those of the mixed model but for the intercept (higher
    by half the variance of the random effects) and for random slopes; of a logit link they are nearer to zero.

    Parameters
    ----------
    model : FittedModel
    responses : sequence of str, optional
        Names of responses; all of them where there is one.
    groups : str, optional
        The donor, or the grouping factor of a random term, as the formula has it.

    Returns
    -------
    DataFrame
        One row per response x coefficient: ``gene`` or ``response``, ``coefficient``, ``estimate`` and ``std_error`` of
        the mixed model, ``estimate_gee`` and ``std_error_gee`` (robust), ``correlation`` within groups.

    Raises
    ------
    UserError
        Where a name is unknown or statsmodels is not installed.
    """
    api = _statsmodels()
    rows, places = design_rows(model.design), _places(model, responses)
    codes = _group_codes(model, groups or model.donor)
    sort = np.argsort(codes, kind="stable")
    parts = []
    for g in places:
        family = _family(api, model, g)
        offset = None if model.options.family == "gaussian" and not rows.offset.any() else rows.offset[sort]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # statsmodels warns of few groups, which the standard errors show
            fitted = api.GEE(
                _values(model, g)[sort], rows.X[sort], codes[sort], family=family, offset=offset,
                cov_struct=api.cov_struct.Exchangeable(),
            ).fit()  # fmt: skip
        parts.append(
            pd.DataFrame(
                {
                    model.responses.kind: model.responses.names[g],
                    "coefficient": model.estimates.coefficients,
                    "estimate": model.estimates.beta[g],
                    "std_error": model.estimates.std_error[g],
                    "estimate_gee": fitted.params,
                    "std_error_gee": fitted.bse,
                    "correlation": float(np.squeeze(fitted.cov_struct.dep_params)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _statsmodels():
    try:
        import statsmodels.api as api
    except ImportError:
        do = "Install it: pip install statsmodels."
        raise UserError("statsmodels is not installed", "the Python environment", do) from None
    return api


def _places(model: FittedModel, responses: Sequence[str] | None) -> list[int]:
    names = model.responses.names
    if responses is None:
        if len(names) > 1:
            what = f"no response is named among {len(names):,}"
            raise UserError(what, "argument responses", f"Name those to check: gee({list(names[:2])}).")
        responses = names
    responses = [responses] if isinstance(responses, str) else responses
    places = positions(model, responses)
    for name, g in zip(responses, places, strict=True):
        if not np.isfinite(model.estimates.loglik[g]):
            raise UserError(f"{name!r} has no fit", "argument responses", "Choose others; fits says why.")
    return places


def _group_codes(model: FittedModel, groups: str) -> np.ndarray:
    design = model.design
    known = {design.sample.name: design.sample, **{t.name: t for t in design.terms}, design.donor.name: design.donor}
    if groups not in known:
        do = f"{nearest(groups, known)}Use {listing(known)}."
        raise UserError(f"there are no groups {groups!r} in the model", "argument groups", do)
    return known[groups].codes[design.pattern]


def _values(model: FittedModel, g: int) -> np.ndarray:
    """Return one response on the rows of the design, (n,) float64."""
    counts, values = model.counts, np.zeros(model.design.pattern.size)
    own = slice(counts.start[g], counts.start[g + 1])
    values[counts.rows[own]] = counts.values[own]
    return values


def _family(api, model: FittedModel, g: int):
    families, name = api.families, model.options.family
    if name == "nb":
        phi = model.estimates.variance[g, model.estimates.components.index(DISPERSION)]
        return families.NegativeBinomial(alpha=phi) if phi > 0 else families.Poisson()
    return {"poisson": families.Poisson, "bernoulli": families.Binomial, "gaussian": families.Gaussian}[name]()
