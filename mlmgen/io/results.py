"""Result tables: parquet for programs, tsv.gz for everything else."""

import gzip
import io
import os
from typing import TYPE_CHECKING

from mlmgen.io.files import atomic

if TYPE_CHECKING:
    import pandas as pd

DIGITS = "%.6g"  # in the text; the parquet has every digit
GZIP_LEVEL = 6


def write_table(path: str | os.PathLike, table: "pd.DataFrame") -> None:
    """Write a table as ``<path>.parquet`` and ``<path>.tsv.gz``.

    Parameters
    ----------
    path : path-like
        Without a suffix.
    table : DataFrame
        Its index is not written. Missing values are nulls, in the text empty; the text has six
        significant digits.
    """
    import pyarrow
    from pyarrow import parquet

    columns = pyarrow.Table.from_pandas(table, preserve_index=False)
    with atomic(f"{os.fspath(path)}.parquet") as temporary:
        parquet.write_table(columns, temporary, compression="zstd")
    with (
        atomic(f"{os.fspath(path)}.tsv.gz") as temporary,
        open(temporary, "wb") as file,
        # gzip would store the temporary name and the time
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=GZIP_LEVEL, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        table.to_csv(text, sep="\t", index=False, float_format=DIGITS, na_rep="", lineterminator="\n")
