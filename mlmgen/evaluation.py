"""Evaluate fixed effects with formulaic, whose columns get their names here."""

import re
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from formulaic import Formula as FixedEffects
from formulaic import ModelSpec
from formulaic.errors import DataMismatchWarning

from mlmgen.errors import UserError
from mlmgen.formula import WHERE
from mlmgen.obs_columns import Variable

INTERCEPT = "(Intercept)"


def evaluate(fixed: str | ModelSpec, frame: pd.DataFrame) -> tuple[np.ndarray, ModelSpec]:
    """Run formulaic; numbers that are not finite are left for the caller to find.

    Parameters
    ----------
    fixed : str or ModelSpec
        Fixed effects, or what formulaic knows of them from an earlier table.
    frame : DataFrame
        U rows.

    Returns
    -------
    matrix : (U, p) float64
    spec : ModelSpec

    Raises
    ------
    UserError
        Where a term cannot be evaluated.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DataMismatchWarning)
            effects = FixedEffects(fixed) if isinstance(fixed, str) else fixed
            matrix = effects.get_model_matrix(frame, context={}, na_action="ignore", output="pandas")
    except Exception as error:  # whatever a term's expression may raise
        reason = " ".join(str(error).split())
        do = "Correct the term; numbers take log(), center(), bs() and the like, text and categories are factors."
        raise UserError(f"the formula cannot be evaluated: {reason}", WHERE, do) from error
    return matrix.to_numpy(dtype=np.float64), matrix.model_spec


def frame(found: Mapping[str, Variable], cells: np.ndarray) -> pd.DataFrame:
    """Build the table that formulaic sees: variables at some cells."""
    columns = {
        name: pd.Categorical.from_codes(variable.codes[cells], categories=list(variable.categories))
        if variable.is_factor
        else variable.values[cells]
        for name, variable in found.items()
    }
    return pd.DataFrame(columns, index=range(len(cells)))


def column_names(spec: ModelSpec, found: Mapping[str, Variable]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the names of the columns of a matrix and the variables behind each."""
    factors = [
        (factor.expr, found[name]) for factor, used in spec.factor_variables.items() for name in used & set(found)
    ]
    names, variables = [], []
    for term in spec.structure:
        used = {name for part in term.scoped_terms for factor in part.factors for name in factor.factor.variables}
        for name in term.columns:
            variables.append(tuple(v for v in found if v in used))
            plain = re.sub(r"`((?:within|between)\([^`]*\))`", r"\1", name)
            names.append(INTERCEPT if name == "Intercept" and not used else _with_baseline(plain, factors))
    return tuple(names), tuple(variables)


def _with_baseline(name: str, factors: list[tuple[str, Variable]]) -> str:
    """Name the level compared with where it is not the reference that was asked for: ``batch[T.3 vs 2]``."""
    for expression, variable in factors:
        if variable.missing_reference:
            for level in variable.levels[1:]:
                plain = re.escape(f"{expression}[T.{level}]")
                full = f"{expression}[T.{level} vs {variable.levels[0]}]"
                name = re.sub(f"(^|:){plain}(?=:|$)", lambda match, full=full: match[1] + full, name)
    return name
