"""Files: the only code that knows formats. Importing it loads h5py and numpy, nothing heavier."""

from mlmgen.io.files import atomic, checksum, read_json, write_json, write_text
from mlmgen.io.input import alternatives, read_matrix, read_obs, read_truth
from mlmgen.io.layout import cell_types, obs_columns, shape
from mlmgen.io.prepared import (
    read_counts,
    read_design,
    read_gene_statistics,
    read_meta,
    read_prepared_cells,
    write_prepared,
)
from mlmgen.io.records import read_record, write_record
from mlmgen.io.results import write_table

__all__ = [
    "alternatives",
    "atomic",
    "cell_types",
    "checksum",
    "obs_columns",
    "read_counts",
    "read_design",
    "read_gene_statistics",
    "read_json",
    "read_matrix",
    "read_meta",
    "read_obs",
    "read_prepared_cells",
    "read_record",
    "read_truth",
    "shape",
    "write_json",
    "write_prepared",
    "write_record",
    "write_table",
    "write_text",
]
