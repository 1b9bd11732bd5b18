"""Rows of the linear predictor for new data, coded exactly as the data that a model was fitted to."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlmgen.design_parts import Parts, read_parts
from mlmgen.design_rows import Rows
from mlmgen.errors import UserError, listing, nearest
from mlmgen.evaluation import evaluate
from mlmgen.expressions import WITHIN, Split
from mlmgen.formula import split_variables
from mlmgen.model_matrix import model_matrix
from mlmgen.names import text
from mlmgen.notebook.model import FittedModel
from mlmgen.obs_columns import Variable, is_factor_column
from mlmgen.types import RandomTerm

WHERE = "the new data"
SHOWN_ROWS = 3


def new_rows(model: FittedModel, data: pd.DataFrame, new_groups: bool) -> Rows:
    """Evaluate the fixed and random effects of a model at the rows of a table.

    Factors keep the levels, splines and polynomials the knots and centres of the fitted data; ``between(x)`` is the
    mean of a known donor in the fitted data, and of a new donor in the new data.

    Parameters
    ----------
    model : FittedModel
    data : (r rows) DataFrame
        The columns of the formula; those of grouping factors may be missing where new groups are allowed.
    new_groups : bool
        Whether groups that were not fitted are allowed.

    Returns
    -------
    Rows
        The offset holds the formula's offset terms.

    Raises
    ------
    UserError
        For missing columns and values, levels that were not fitted, and new groups that are not allowed.
    """
    if not isinstance(data, pd.DataFrame):
        raise UserError(
            f"the new data are a {type(data).__name__}", "argument data", "Give a DataFrame or AnnData.obs."
        )
    if len(data) == 0:
        raise UserError("there are no rows to predict", WHERE, "Give a table with data.")
    formula, responses = model.formula, model.responses
    parts = read_parts(responses.table, formula, model.donor, None, model.reference, responses.where)
    fitted, matrix = parts.variables | parts.offsets, model_matrix(formula, parts.variables, parts.n)
    values = _frame(fitted, _new_values(model, fitted, data), len(data))
    X = evaluate(matrix.spec, values)[0] + 0.0
    effects = [
        (part.name, columns.names, evaluate(columns.spec, values)[0].T + 0.0)
        for part, columns in zip(formula.random, matrix.slopes, strict=True)
    ]
    Z = tuple(_of_term(term, effects) for term in model.design.terms)
    codes = tuple(_groups(term, parts, model, data, new_groups) for term in model.design.terms)
    offset = np.zeros(len(data))
    for expression in formula.offsets:
        offset += evaluate(f"0 + I({expression})", values)[0][:, 0]
    for names, columns in [(model.design.coefficients, X.T), *((names, columns) for _, names, columns in effects)]:
        _refuse_not_finite(columns, names, data)
    _refuse_not_finite(offset[None], ("the offset",), data)
    return Rows(X, Z, codes, offset)


def _of_term(term: RandomTerm, effects: list[tuple[str, tuple[str, ...], np.ndarray]]) -> np.ndarray:
    """Return the columns of a random term, (q, r), from those of the parts of the formula."""
    for name, names, columns in effects:
        if name == term.name and set(term.effects) <= set(names):
            return np.ascontiguousarray(columns[[names.index(effect) for effect in term.effects]])
    raise AssertionError(f"no random term of {term.name} has the effects {term.effects}")


def _frame(fitted: Mapping[str, Variable], values: Mapping[str, np.ndarray], n: int) -> pd.DataFrame:
    """Build the table that formulaic sees: codes of factors and values of numbers at n new rows."""
    columns = {
        name: pd.Categorical.from_codes(values[name], categories=list(variable.categories))
        if variable.is_factor
        else values[name]
        for name, variable in fitted.items()
    }
    return pd.DataFrame(columns, index=range(n))


def _new_values(model: FittedModel, fitted: Mapping[str, Variable], data: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return codes of factors and values of numbers at the new rows."""
    splits = split_variables(model.formula)
    return {
        name: _split(model, splits[name], data)
        if name in splits
        else _codes(variable, _column(data, name))
        if variable.is_factor
        else _numbers(name, _column(data, name))
        for name, variable in fitted.items()
    }


def _column(data: pd.DataFrame, name: str) -> pd.Series:
    if name not in data.columns:
        do = f"{nearest(name, data.columns)}The columns are: {listing(data.columns, 40)}."
        raise UserError(f"there is no column {name!r}, which the formula uses", WHERE, do)
    return data[name]


def _codes(variable: Variable, column: pd.Series) -> np.ndarray:
    place = {level: i for i, level in enumerate(variable.levels)}
    names = ["" if missing else text(value) for value, missing in zip(column, column.isna(), strict=True)]
    unknown = [name for name in dict.fromkeys(names) if name not in place]
    if unknown:
        rows = sum(name in unknown for name in names)
        do = f"{nearest(unknown[0], place)}Its levels are: {listing(place)}."
        raise UserError(
            f"{variable.name} has levels that were not fitted: {listing(unknown)}, in {rows:,} rows", WHERE, do
        )
    return np.array([place[name] for name in names], dtype=np.int64)


def _numbers(name: str, column: pd.Series) -> np.ndarray:
    if is_factor_column(column) and not pd.api.types.is_bool_dtype(column.dtype):
        raise UserError(f"{name} was fitted as a number and is {column.dtype} here", WHERE, "Give numbers.")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        rows = listing(column.index[np.flatnonzero(bad)[:SHOWN_ROWS]])
        what = f"{name} is missing or infinite in {int(bad.sum()):,} of {bad.size:,} rows, first in {rows}"
        raise UserError(what, WHERE, "Fill in the values or leave these rows out.")
    return values


def _split(model: FittedModel, wanted: Split, data: pd.DataFrame) -> np.ndarray:
    """Return ``within()`` or ``between()`` of a covariate: known groups keep their mean of the fitted rows."""
    table, group = model.responses.table, wanted.group or model.donor
    old = _expression(wanted, table)
    new = _expression(wanted, data)
    names = [text(value) for value in table[group]]
    new_names = [text(value) for value in _column(data, group)]
    means = pd.Series(new).groupby(new_names).mean().to_dict() | pd.Series(old).groupby(names).mean().to_dict()
    between = np.array([means[name] for name in new_names])
    return new - between if wanted.kind == WITHIN else between


def _expression(wanted: Split, data: pd.DataFrame) -> np.ndarray:
    columns = {column: _numbers(column, _column(data, column)) for column in wanted.columns}
    return evaluate(f"0 + I({wanted.expression})", pd.DataFrame(columns, index=range(len(data))))[0][:, 0]


def _groups(term: RandomTerm, parts: Parts, model: FittedModel, data: pd.DataFrame, new_groups: bool) -> np.ndarray:
    """Return the group of each new row in a random term, -1 for those that were not fitted."""
    position = next(k for k, part in enumerate(model.formula.random) if part.name == term.name)
    columns = model.formula.random[position].groups
    missing = [name for name in columns if name not in data.columns]
    if missing:
        if new_groups:
            return np.full(len(data), -1, dtype=np.int32)
        do = f"Add it, or allow new groups: predict(data, new_groups=True). The columns are: {listing(data.columns)}."
        raise UserError(f"there is no column {missing[0]!r}, the groups of ({term.name})", WHERE, do)
    old, new = _keys(model.responses.table, columns), _keys(data, columns)
    group = dict(zip(old, parts.groups[position].codes.tolist(), strict=True))
    codes = np.array([group.get(key, -1) for key in new], dtype=np.int32)
    if (codes < 0).any() and not new_groups:
        unknown = list(dict.fromkeys(":".join(key) for key, code in zip(new, codes, strict=True) if code < 0))
        do = f"Allow them: predict(data, new_groups=True). The groups are: {listing(term.levels)}."
        raise UserError(f"{len(unknown):,} groups of {term.name} were not fitted: {listing(unknown)}", WHERE, do)
    return codes


def _keys(data: pd.DataFrame, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return each row's levels of some columns as text."""
    return list(zip(*([text(value) for value in data[name]] for name in columns), strict=True))


def _refuse_not_finite(columns: np.ndarray, names: tuple[str, ...], data: pd.DataFrame) -> None:
    """Raise a UserError for columns (k, r) with values at which the formula is not defined."""
    bad = ~np.isfinite(columns)
    if bad.any():
        j = int(np.flatnonzero(bad.any(axis=1))[0])
        rows = listing(data.index[np.flatnonzero(bad[j])[:SHOWN_ROWS]])
        what = f"{names[j]} is not a finite number in {int(bad[j].sum()):,} of {len(data):,} rows, first in {rows}"
        raise UserError(what, WHERE, "Give values at which the formula is defined.")
