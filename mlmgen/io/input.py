"""The input, an .h5ad file or zarr store: columns of obs and var, names of genes, the truth of simulated data."""

import contextlib
import os
from typing import TYPE_CHECKING

import numpy as np

from mlmgen.errors import UserError
from mlmgen.io import layout, store
from mlmgen.io.store import Array, Group, strings

if TYPE_CHECKING:
    import pandas as pd

LOOKED_AT = 1 << 17  # stored values that tell whether a matrix holds counts


def read_obs(path: str | os.PathLike, wanted: dict[str, str]) -> "pd.DataFrame":
    """Read columns of obs.

    Parameters
    ----------
    path : path-like
        An .h5ad file or zarr store.
    wanted : dict of str to str
        Column to the configuration key that names it, for messages.

    Returns
    -------
    DataFrame
        One row per cell, the index its name.

    Raises
    ------
    UserError
        If a column is missing, with those that exist.
    """
    import pandas as pd

    with layout.opened(path) as file:
        obs = file["obs"]
        for column, key in wanted.items():
            layout.check_column(obs, column, key)
        index = layout.index(obs)
        values = {column: _column(obs, column) for column in wanted}
        return pd.DataFrame(values, index=pd.Index(index, dtype=object))


def _column(frame: Group, column: str):
    """Read one column in the encoding of any anndata since 0.7."""
    layout.check_length(frame, column)
    where = f"{store.place(frame)}, {store.name(frame)} column {column!r}"
    with store.damage_refused(where):
        return _values(frame[column], where)


def _values(stored: Group | Array, where: str):
    import pandas as pd
    from anndata.io import read_elem

    if "categories" in stored.attrs:
        categories, codes = strings(stored.file[stored.attrs["categories"]]), stored[:]
        layout.check_codes(codes, categories, where)
        return pd.Categorical.from_codes(codes, categories)
    if "encoding-type" in stored.attrs:
        return read_elem(stored)
    if not store.is_array(stored):
        raise UserError("this column is stored in an unknown way", where, layout.REWRITE)
    return strings(stored) if store.is_text(stored) else stored[:]


def read_genes(
    path: str | os.PathLike, counts: str, gene_names: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the names of the genes.

    Parameters
    ----------
    path : path-like
        An .h5ad file or zarr store.
    counts : str
        ``X``, ``raw`` or ``layers/<name>``.
    gene_names : str or None
        ``var/<column>``; with ``raw`` a column of ``raw.var``.

    Returns
    -------
    genes : (G,) object of str
        The index of var.
    gene_names : (G,) object of str, or None
        The column; where it is empty or missing, the gene itself.

    Raises
    ------
    UserError
        If the column is missing, with those that exist.
    """
    with layout.opened(path) as file:
        layout.matrix(file, counts)
        var = layout.genes(file, counts)
        genes = layout.index(var)
        return genes, None if gene_names is None else _symbols(var, gene_names.removeprefix("var/"), genes)


def _symbols(var: Group, column: str, genes: np.ndarray) -> np.ndarray:
    import pandas as pd

    layout.check_column(var, column, "gene_names")
    values = pd.Series(_column(var, column)).astype(object)
    return np.array([g if pd.isna(v) or v == "" else str(v) for v, g in zip(values, genes, strict=True)], dtype=object)


def alternatives(path: str | os.PathLike, counts: str) -> list[str]:
    """Return the other matrices of a file that seem to hold counts, as the configuration names them.

    The first stored values of each decide: all finite, whole and not negative.
    """
    with layout.opened(path) as file:
        names = [name for name in layout.sources(file) if name != counts]
    return [name for name in names if _whole(path, name)]


def _whole(path: str | os.PathLike, counts: str) -> bool:
    with contextlib.suppress(UserError), layout.opened(path) as file:  # a damaged one is no alternative
        layout.checked_shape(file, counts)
        stored = layout.matrix(file, counts)
        if store.is_array(stored):
            values = stored[: max(1, LOOKED_AT // max(stored.shape[1], 1))]
        else:
            values = stored["data"][:LOOKED_AT]
        whole = values.dtype.kind in "buif" and np.isfinite(values).all() and (values >= 0).all()
        return bool(whole and values.size and (values == np.rint(values)).all())
    return False


def read_truth(path: str | os.PathLike, cell_type: str) -> tuple[str, np.ndarray] | None:
    """Read the true effects of a simulated data set.

    Parameters
    ----------
    path : path-like
        An .h5ad file or zarr store.
    cell_type : str

    Returns
    -------
    (expression, log2fc) or None
        The contrast and its true log2 fold change in this cell type, (G,) float64; None for real data.
    """
    with layout.opened(path) as file:
        contrast, column = (store.find(file, f"uns/truth/{name}") for name in ("contrast", f"columns/{cell_type}"))
        if contrast is None or column is None or not store.is_array(column):
            return None
        true = _column(file["var"], store.scalar(column))
        return store.scalar(contrast), np.asarray(true, dtype=np.float64)
