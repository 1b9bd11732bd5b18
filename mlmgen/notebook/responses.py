"""From an AnnData or a DataFrame to responses: what is explained, the table that explains it, the size factors."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from mlmgen import sizefactors
from mlmgen.errors import UserError, listing, nearest

FAMILIES = ("nb", "poisson", "bernoulli", "gaussian")
# What R and statsmodels call them.
OTHER_NAMES = {
    **dict.fromkeys(("negbin", "negativebinomial", "nbinom", "nbinom2"), "nb"),
    **dict.fromkeys(("binomial", "logistic", "logit", "binary"), "bernoulli"),
    **dict.fromkeys(("normal", "linear", "lognormal"), "gaussian"),
}
# Share of all counts from which one gene is most of what size factors are made of.
LARGEST_SHARE = 0.25
COUNT_FAMILIES = ("nb", "poisson")
# The response of a formula: a plain name or one in backticks, then the tilde.
LEFT = re.compile(r"\s*(`[^`]*`|[^~`]*?)\s*~(.*)", re.DOTALL)
ANNDATA, FRAME = "the AnnData", "the data frame"
LAYERS = "Set layer to X, raw or layers/<name>."
# Stored values that tell whether a layer seems to hold counts.
LOOKED_AT = 1 << 17


@dataclass(frozen=True)
class Responses:
    """One or many responses of n rows.

    Attributes
    ----------
    kind : {"gene", "response"}
        What the tables call them: genes of an AnnData, columns of a DataFrame.
    names : tuple of str, length G
    values : (n, G) CSC float64, or None
        As the family takes them, rows in the order of the data, no stored zeros; None where a model holds them as
        `Counts` instead.
    table : (n rows) DataFrame
        obs, or the data frame.
    size_factor : (n,) float64 or None
    formula : str
        The right-hand side, with its tilde.
    where : str
        The data, for messages.
    """

    kind: str
    names: tuple[str, ...]
    values: sparse.csc_matrix | None
    table: pd.DataFrame
    size_factor: np.ndarray | None
    formula: str
    where: str


def read(
    data,
    formula: str,
    family: str,
    size_factors="auto",
    layer: str | None = None,
    responses: Sequence[str] | None = None,
) -> Responses:
    """Read the responses of an AnnData (genes) or of a DataFrame (columns).

    Parameters are those of `mlmgen.notebook.api.fit`.

    Raises
    ------
    UserError
        Where a response is missing, or is not what the family models.
    """
    if family not in FAMILIES:
        plain = re.sub("[^a-z0-9]", "", str(family).lower())
        do = f"{nearest(OTHER_NAMES.get(plain, plain), FAMILIES)}The families are {listing(FAMILIES)}."
        raise UserError(f"there is no family {family!r}", "argument family", do)
    if not isinstance(formula, str):
        raise UserError(f"the formula is not a text: {formula!r}", "argument formula", "Write it in quotes.")
    responses = [responses] if isinstance(responses, str) else responses
    if responses is not None and len(responses) == 0:
        raise UserError("no response is named", "argument responses", "Name some, or leave it out for all genes.")
    if isinstance(data, pd.DataFrame):
        if layer is not None:
            raise UserError("a data frame has no layers", "argument layer", "Leave it out.")
        return _of_frame(data, formula, family, size_factors, responses)
    if all(hasattr(data, name) for name in ("X", "obs", "var_names")):
        return _of_anndata(data, formula, family, size_factors, layer, responses)
    what = f"the data are a {type(data).__name__}"
    raise UserError(what, "argument data", "Give an AnnData or a pandas DataFrame.")


def split(formula: str) -> tuple[str, str]:
    """Split a formula into its response, empty where there is none, and the rest with its tilde."""
    found = LEFT.fullmatch(formula)
    return (found[1].strip("`"), f"~{found[2]}") if found else ("", formula)


def detected(values: sparse.csc_matrix) -> sparse.csc_matrix:
    """Return 1 for every positive value, same shape."""
    return sparse.csc_matrix((np.ones(values.nnz), values.indices, values.indptr), shape=values.shape)


def size_factor(size_factors, table: pd.DataFrame, total: np.ndarray | None, where: str) -> np.ndarray | None:
    """Return the size factor of each row.

    Parameters
    ----------
    size_factors : {"library", "obs/<column>"}, (n,) array, or None
    table : DataFrame
        n rows.
    total : (n,) float64 or None
        Total count of each row, for ``library``; None where that has no meaning.
    where : str

    Returns
    -------
    (n,) float64 or None
    """
    if size_factors is None:
        return None
    if not isinstance(size_factors, str):
        values = np.asarray(size_factors)
        if values.shape != (len(table),):
            do = "Give one number for each row."
            what = f"size factors of the shape {values.shape} for {len(table):,} rows"
            raise UserError(what, "argument size_factors", do)
        return sizefactors.given(values, "given as an array", table.index)
    if size_factors == "library" and total is not None:
        return _library(total, where)
    column = size_factors.removeprefix("obs/")
    if column not in table.columns:
        allowed = "obs/<column>, an array, or None" if total is None else "library, obs/<column>, an array, or None"
        do = f"{nearest(column, table.columns)}Use {allowed}; the columns are {listing(table.columns, 40)}."
        raise UserError(f"there are no size factors {size_factors!r}", f"{where}, argument size_factors", do)
    return sizefactors.given(table[column].to_numpy(), column, table.index)


def _library(total: np.ndarray, where: str) -> np.ndarray:
    empty = int((total == 0).sum())
    if empty:
        what = f"{empty:,} of {total.size:,} cells have not a single count, and so no library size"
        raise UserError(what, where, "Leave these cells out, or give size_factors.")
    return sizefactors.library(total)


def _of_anndata(data, formula, family, size_factors, layer, responses) -> Responses:
    left, right = split(formula)
    if left:
        do = "Leave out what is before the '~'; responses=[...] chooses genes."
        raise UserError(f"{left!r} stands before the '~', but every gene is a response", "argument formula", do)
    matrix, names = _matrix(data, layer)
    place = f"{ANNDATA}, {layer or 'X'}"
    repeated = pd.Index(names)[pd.Index(names).duplicated()]
    if len(repeated):
        do = "Call adata.var_names_make_unique()."
        raise UserError(f"{len(repeated):,} gene names occur more than once: {listing(repeated, 5)}", place, do)
    values = _columns(matrix, names, data.obs.index, place, lambda: _alternatives(data, layer))
    automatic = isinstance(size_factors, str) and size_factors == "auto"
    kind = "library" if automatic else size_factors
    total = np.asarray(values.sum(axis=1)).ravel()
    if automatic:
        _warn_of_few_genes(np.asarray(values.sum(axis=0)).ravel(), names)
    size = size_factor(kind, data.obs, total, ANNDATA)
    if responses is not None:
        chosen = _chosen(responses, names, "gene")
        values, names = values[:, chosen], [names[i] for i in chosen]
    if family == "gaussian":
        values = _log_normalized(values, size)
        size = None
    return Responses("gene", tuple(map(str, names)), _family_values(values, family), data.obs, size, right, ANNDATA)


def _warn_of_few_genes(totals: np.ndarray, names: Sequence[str]) -> None:
    """Warn where the size factors are mostly the count of one gene, as in an AnnData that was cut to some genes."""
    largest, total = int(np.argmax(totals)) if totals.size else 0, totals.sum()
    if total > 0 and totals[largest] > LARGEST_SHARE * total:
        share = f"{names[largest]} has {totals[largest] / total:.0%} of the counts of {len(names):,} genes"
        message = (
            f"{share}, so that size factors are largely its own counts: give the whole AnnData and name the genes to "
            "fit by responses=[...], or give size_factors; size_factors='library' says that they are meant"
        )
        warnings.warn(message, stacklevel=5)


def _of_frame(frame, formula, family, size_factors, responses) -> Responses:
    left, right = split(formula)
    if left and responses is not None:
        do = "Leave one of them out."
        raise UserError(f"the formula names the response {left!r}, and responses others", "argument responses", do)
    names = [left] if left else list(responses or [])
    if not names:
        do = 'Write the response before the "~", as in "Reaction ~ Days + (1 | Subject)", or give responses=[...].'
        raise UserError("no response is named", "argument formula", do)
    if len(frame) == 0:
        raise UserError("there are no rows", FRAME, "Give a table with data.")
    _chosen(names, [str(name) for name in frame.columns], "column")
    columns = [_numbers(frame, name) for name in names]
    values = sparse.csc_matrix(np.column_stack(columns))
    if family != "gaussian":
        _refuse_not_counts(values, names, frame.index, FRAME)
    kind = None if isinstance(size_factors, str) and size_factors == "auto" else size_factors
    size = size_factor(kind, frame, None, FRAME)
    return Responses("response", tuple(names), _family_values(values, family), frame, size, right, FRAME)


def _chosen(wanted: Sequence[str], present: Sequence[str], what: str) -> list[int]:
    """Return the places of names among those present."""
    place = {str(name): i for i, name in enumerate(present)}
    for name in wanted:
        if name not in place:
            hint = "Compute it as a column first. " if re.search(r"[(*/+-]", str(name)) else ""
            do = f"{nearest(name, present)}{hint}The {what}s are: {listing(present, 20)}."
            raise UserError(f"there is no {what} {name!r} to be the response", "argument formula or responses", do)
    return [place[name] for name in wanted]


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as float64, refusing what is not a number or is missing."""
    column, where = frame[name], f"{FRAME}, column {name!r}"
    if column.ndim > 1:
        raise UserError(f"two columns are called {name!r}", FRAME, "Rename one of them.")
    types = pd.api.types
    if not types.is_numeric_dtype(column.dtype) or types.is_complex_dtype(column.dtype):
        example = f", as data[{name!r}] == {str(column.iloc[0])!r}" if 0 < column.nunique() <= 2 else ""
        do = f"Give numbers; an outcome of two levels as 0 and 1 or as True and False{example}."
        raise UserError(f"the response {name!r} has the type {column.dtype}, not numbers", where, do)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        first = frame.index[int(np.flatnonzero(bad)[0])]
        what = f"the response {name!r} is missing or infinite in {int(bad.sum()):,} of {bad.size:,} rows, first {first}"
        raise UserError(what, where, f"Leave these rows out: frame.dropna(subset=[{name!r}]).")
    return values


def _matrix(data, layer: str | None):
    """Return the matrix of a layer and the names of its genes."""
    if layer in (None, "X"):
        matrix, names = data.X, data.var_names
    elif layer == "raw":
        if data.raw is None:
            raise UserError("the AnnData has no raw", "argument layer", LAYERS)
        matrix, names = data.raw.X, data.raw.var_names
    else:
        name = layer.removeprefix("layers/")
        if name not in data.layers:
            do = f"{nearest(name, data.layers)}{LAYERS} The layers are: {listing(data.layers) or 'none'}."
            raise UserError(f"the AnnData has no layer {name!r}", "argument layer", do)
        matrix, names = data.layers[name], data.var_names
    if matrix is None:
        raise UserError("the AnnData has no X", "argument layer", LAYERS)
    return (matrix.to_memory() if hasattr(matrix, "to_memory") else matrix), list(names)


def _columns(matrix, names, rows, where: str, alternatives=tuple) -> sparse.csc_matrix:
    """Return counts as CSC float64 of their own, checked."""
    if matrix.dtype.kind not in "buif":
        raise UserError(f"the values are of type {matrix.dtype}, not numbers", where, "Give raw counts.")
    values = sparse.csc_matrix(matrix, dtype=np.float64, copy=True)
    values.sum_duplicates()
    values.eliminate_zeros()
    _refuse_not_counts(values, names, rows, where, alternatives)
    return values


def _refuse_not_counts(values: sparse.csc_matrix, names, rows, where: str, alternatives=tuple) -> None:
    data = values.data
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(data) & (data >= 0) & (data == np.rint(data)))
    if not bad.any():
        return
    at = int(np.flatnonzero(bad)[0])
    column = int(np.searchsorted(values.indptr, at, side="right")) - 1
    within = slice(values.indptr[column], values.indptr[column + 1])
    first = within.start + int(np.argmin(np.where(bad[within], values.indices[within], values.shape[0])))
    value, row = data[first], rows[values.indices[first]]
    kind = "negative" if value < 0 else "not a whole number" if np.isfinite(value) else "not finite"
    seen = f"{names[column]!r} has {int(bad[within].sum()):,} values that are not counts"
    others = alternatives()
    do = f"Set layer to {' or '.join(others)}, where whole numbers are." if others else "Give raw counts"
    do = do if others else f"{do}, or family='gaussian' for measurements." if where == FRAME else f"{do}."
    raise UserError(f"{seen}: {value:g} in row {row} is {kind}", f"{where}, {names[column]!r}", do)


def _alternatives(data, layer: str | None) -> list[str]:
    """Name the other matrices of an AnnData that seem to hold counts."""
    places = {"X": data.X, **{f"layers/{name}": data.layers[name] for name in data.layers}}
    if data.raw is not None:
        places["raw"] = data.raw.X
    current = layer or "X"
    return [name for name, matrix in places.items() if name not in (current, f"layers/{current}") and _whole(matrix)]


def _whole(matrix) -> bool:
    stored = getattr(matrix, "data", None) if sparse.issparse(matrix) else matrix
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "buif":
        return False
    values = stored.ravel()[:LOOKED_AT]
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values == np.rint(values)).all())


def _log_normalized(values: sparse.csc_matrix, size: np.ndarray | None) -> sparse.csc_matrix:
    """Return log1p(count / size factor), zeros staying zeros."""
    data = values.data if size is None else values.data / size[values.indices]
    return sparse.csc_matrix((np.log1p(data), values.indices, values.indptr), shape=values.shape)


def _family_values(values: sparse.csc_matrix, family: str) -> sparse.csc_matrix:
    """Return what the family models; the matrix given is not to be used afterwards."""
    values.eliminate_zeros()
    values.sort_indices()
    return detected(values) if family == "bernoulli" else values
