"""Files for other programs: text tables and AnnData, the same bytes for the same content."""

import contextlib
import gzip
import io
import os
from typing import TYPE_CHECKING

from mlmgen.errors import UserError
from mlmgen.io.files import atomic

if TYPE_CHECKING:
    import anndata
    import pandas as pd

# Suffix, and what separates the columns.
TEXT = {".tsv": "\t", ".csv": ",", ".tsv.gz": "\t", ".csv.gz": ","}
MISSING = "NA"  # as R writes it; pandas reads it as missing too
GZIP_LEVEL = 4  # as of the result tables
FAST = 1  # of gzip: counts of samples take a fifth of their size


def write_export(path: str | os.PathLike, table: "pd.DataFrame", index: str | None = None) -> None:
    """Write a table as text, as the suffix says (`TEXT`), with every digit that tells a number apart.

    Parameters
    ----------
    path : path-like
    table : DataFrame
    index : str, optional
        The header of the index, which is written in front; without one it is left out.
    """
    name = os.fspath(path)
    separator = next(TEXT[suffix] for suffix in sorted(TEXT, key=len, reverse=True) if name.endswith(suffix))
    options = {"sep": separator, "na_rep": MISSING, "lineterminator": "\n", "index": index is not None}
    with atomic(path) as temporary, contextlib.ExitStack() as opened:
        file = opened.enter_context(open(temporary, "wb"))
        if name.endswith(".gz"):  # which would store the temporary name and the time
            packing = {"filename": "", "mode": "wb", "compresslevel": GZIP_LEVEL, "mtime": 0}
            file = opened.enter_context(gzip.GzipFile(fileobj=file, **packing))
        text = opened.enter_context(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        table.to_csv(text, index_label=index, **options)


def write_anndata(path: str | os.PathLike, adata: "anndata.AnnData") -> None:
    """Write an AnnData as .h5ad, compressed as every reader of HDF5 knows."""
    with atomic(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip", compression_opts=FAST)


def read_anndata(path: str | os.PathLike) -> "anndata.AnnData":
    """Read an .h5ad as a whole.

    Raises
    ------
    UserError
        If it is missing or no .h5ad.
    """
    import anndata

    try:
        return anndata.read_h5ad(path)
    except FileNotFoundError:
        raise UserError("there is no such file", os.fspath(path), "Give the .h5ad with the cells") from None
    except Exception as error:  # anndata's readers raise whatever the damage leads to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"this cannot be read: {reason}", os.fspath(path), "Give the .h5ad with the cells") from None
