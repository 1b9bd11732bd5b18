"""Result tables: parquet for programs, tsv.gz for everything else."""

import gzip
import io
import json
import os
from typing import TYPE_CHECKING

import numpy as np

from mlmgen.errors import UserError
from mlmgen.io.files import IF_OURS, UNREADABLE, atomic

if TYPE_CHECKING:
    import pandas as pd

DIGITS = "%.6g"  # in the text; the parquet has every digit
GZIP_LEVEL = 4  # half the time of the default, 6, for files that are 7 % larger
ROWS = 50_000  # turned into text at a time
PROVENANCE = b"mlmgen"  # key of the parquet's metadata


def write_table(path: str | os.PathLike, table: "pd.DataFrame", provenance: dict | None = None) -> None:
    """Write a table as ``<path>.parquet`` and ``<path>.tsv.gz``.

    Parameters
    ----------
    path : path-like
        Without a suffix.
    table : DataFrame
        Its index is not written. Missing values are nulls, in the text empty; the text has six
        significant digits.
    provenance : dict, optional
        Where the table comes from, stored as JSON among the parquet's own metadata, where pandas does not mind it.
    """
    import pyarrow
    from pyarrow import parquet

    columns = pyarrow.Table.from_pandas(table, preserve_index=False)
    if provenance is not None:
        text = json.dumps(provenance, sort_keys=True, ensure_ascii=False, allow_nan=False)
        columns = columns.replace_schema_metadata({**(columns.schema.metadata or {}), PROVENANCE: text.encode()})
    with atomic(f"{os.fspath(path)}.parquet") as temporary:
        parquet.write_table(columns, temporary, compression="zstd", write_page_checksum=True)
    with (
        atomic(f"{os.fspath(path)}.tsv.gz") as temporary,
        open(temporary, "wb") as file,
        # gzip would store the temporary name and the time
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=GZIP_LEVEL, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        for start in range(0, max(len(table), 1), ROWS):
            part = _as_text(table.iloc[start : start + ROWS])
            part.to_csv(text, sep="\t", index=False, header=start == 0, na_rep="", lineterminator="\n")


def _as_text(table: "pd.DataFrame") -> "pd.DataFrame":
    """Write out the floating-point numbers: pandas' own ``float_format`` takes twice the time for the same text."""
    written = {}
    for name, column in table.items():
        if column.dtype.kind == "f":
            text = np.array([*map(DIGITS.__mod__, column.tolist())], dtype=object)
            text[column.isna()] = ""
            written[name] = text
    return table.assign(**written)


def read_provenance(path: str | os.PathLike) -> tuple[dict | None, int]:
    """Read where a table comes from and check its data.

    Parameters
    ----------
    path : path-like
        A parquet file.

    Returns
    -------
    provenance : dict or None
        None where the file has none.
    n_rows : int

    Raises
    ------
    UserError
        If the file is missing or damaged: pages carry checksums.
    """
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            found = (file.schema_arrow.metadata or {}).get(PROVENANCE)
            for _ in file.iter_batches():
                pass
            return (None if found is None else json.loads(found)), file.metadata.num_rows
    except FileNotFoundError:
        raise UserError("there is no such file", str(path), "Run the workflow first") from None
    except PermissionError:
        raise UserError("this file may not be read", str(path), UNREADABLE) from None
    except (ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"this is not a complete parquet file: {reason}", str(path), IF_OURS) from None
