"""The input .h5ad: columns of obs and var, and the counts as a CSR matrix."""

import os
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mlmgen.errors import UserError
from mlmgen.io import layout

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

BLOCK = 1 << 26  # values of a dense matrix held at a time: 0.5 GB as float64
LOOKED_AT = 1 << 17  # stored values that tell whether a matrix holds counts


def read_obs(path: str | os.PathLike, wanted: dict[str, str]) -> "pd.DataFrame":
    """Read columns of obs.

    Parameters
    ----------
    path : path-like
        An .h5ad file.
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
        values = {column: _column(obs[column], file) for column in wanted}
        return pd.DataFrame(values, index=pd.Index(layout.index(obs), dtype=object))


def _column(stored: h5py.Group | h5py.Dataset, file: h5py.File):
    """Read one column in the encoding of any anndata since 0.7."""
    import pandas as pd
    from anndata.io import read_elem

    if "categories" in stored.attrs:
        return pd.Categorical.from_codes(stored[:], layout.strings(file[stored.attrs["categories"]]))
    if "encoding-type" in stored.attrs:
        return read_elem(stored)
    return layout.strings(stored) if h5py.check_string_dtype(stored.dtype) is not None else stored[:]


def read_matrix(
    path: str | os.PathLike, counts: str, gene_names: str | None = None
) -> tuple["sparse.csr_matrix", np.ndarray, np.ndarray | None]:
    """Read the counts and the names of the genes.

    Parameters
    ----------
    path : path-like
        An .h5ad file.
    counts : str
        ``X``, ``raw`` or ``layers/<name>``.
    gene_names : str or None
        ``var/<column>``; with ``raw`` a column of ``raw.var``.

    Returns
    -------
    X : (n, G) CSR, dtype as stored
        Whatever the file holds, not yet checked to be counts.
    genes : (G,) object of str
    gene_names : (G,) object of str, or None
    """
    with layout.opened(path) as file:
        stored = layout.matrix(file, counts)
        var = file["raw/var"] if counts == "raw" else file["var"]
        genes = layout.index(var)
        symbols = None if gene_names is None else _symbols(var, gene_names.removeprefix("var/"), genes)
        X = _dense(stored) if isinstance(stored, h5py.Dataset) else _sparse(stored, str(path))
    return X, genes, symbols


def _symbols(var: h5py.Group, column: str, genes: np.ndarray) -> np.ndarray:
    """Return a text column of var; where it is empty or missing, the gene itself."""
    import pandas as pd

    layout.check_column(var, column, "gene_names")
    values = pd.Series(_column(var[column], var.file)).astype(object)
    return np.array([g if pd.isna(v) or v == "" else str(v) for v, g in zip(values, genes, strict=True)], dtype=object)


def _dense(stored: h5py.Dataset) -> "sparse.csr_matrix":
    """Read a dense matrix in blocks of rows, so that only its nonzeros stay in memory."""
    from scipy import sparse

    n, genes = stored.shape
    rows = max(1, BLOCK // max(genes, 1))
    blocks = [sparse.csr_matrix(stored[start : start + rows]) for start in range(0, n, rows)]
    return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((n, genes), dtype=stored.dtype)


def _sparse(stored: h5py.Group, path: str) -> "sparse.csr_matrix":
    from scipy import sparse

    kind = stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", "csr"))
    make, major = (sparse.csc_matrix, 1) if str(kind).startswith("csc") else (sparse.csr_matrix, 0)
    size = layout.matrix_shape(stored)
    data, indices, indptr = (stored[name][:] for name in ("data", "indices", "indptr"))
    sound = len(indptr) == size[major] + 1 and indptr[0] == 0 and indptr[-1] == len(data) == len(indices)
    sound = sound and (np.diff(indptr) >= 0).all()
    # scipy does not look, and would read other memory
    if not sound or (len(indices) and not 0 <= indices.min() <= indices.max() < size[1 - major]):
        what = f"the sparse matrix {stored.name} contradicts itself"
        raise UserError(what, path, "Write the file again with anndata")
    return make((data, indices, indptr), shape=size).tocsr()


def alternatives(path: str | os.PathLike, counts: str) -> list[str]:
    """Return the other matrices of a file that seem to hold counts, as the configuration names them.

    The first stored values of each decide: all finite, whole and not negative.
    """
    with layout.opened(path) as file:
        return [name for name in layout.sources(file) if name != counts and _whole(layout.matrix(file, name))]


def _whole(stored: h5py.Group | h5py.Dataset) -> bool:
    if isinstance(stored, h5py.Dataset):
        values = stored[: max(1, LOOKED_AT // max(stored.shape[1], 1))]
    else:
        values = stored["data"][:LOOKED_AT]
    return bool(values.size and np.isfinite(values).all() and (values >= 0).all() and (values == np.rint(values)).all())


def read_truth(path: str | os.PathLike, cell_type: str) -> tuple[str, np.ndarray] | None:
    """Read the true effects of a simulated data set.

    Parameters
    ----------
    path : path-like
        An .h5ad file.
    cell_type : str

    Returns
    -------
    (expression, log2fc) or None
        The contrast and its true log2 fold change in this cell type, (G,) float64; None for real data.
    """
    with layout.opened(path) as file:
        truth = file.get("uns/truth")
        if not isinstance(truth, h5py.Group) or "contrast" not in truth or f"columns/{cell_type}" not in truth:
            return None
        column = truth[f"columns/{cell_type}"].asstr()[()]
        return truth["contrast"].asstr()[()], np.asarray(file["var"][column][:], dtype=np.float64)
