"""Files: the only code that knows formats. Importing it loads h5py and numpy, nothing heavier."""

from mlmgen.io.benchmarks import read_benchmarks
from mlmgen.io.blocks import Block, blocks, some_counts, stored_values
from mlmgen.io.exports import read_anndata, write_anndata, write_export
from mlmgen.io.files import atomic, checksum, delete_leftovers, read_json, replaced, together, write_json, write_text
from mlmgen.io.input import alternatives, read_genes, read_obs, read_truth
from mlmgen.io.layout import cell_types, matrices, obs_columns, shape, var_columns
from mlmgen.io.outline import Column, Outline, labels, outline
from mlmgen.io.prepared import (
    read_counts,
    read_design,
    read_gene_statistics,
    read_meta,
    read_prepared_cells,
    read_some_counts,
    write_prepared,
)
from mlmgen.io.records import describe_record, read_record, read_record_meta, read_records, write_record
from mlmgen.io.results import read_provenance, write_table

__all__ = [
    "Block",
    "Column",
    "Outline",
    "alternatives",
    "atomic",
    "blocks",
    "cell_types",
    "checksum",
    "delete_leftovers",
    "describe_record",
    "labels",
    "matrices",
    "obs_columns",
    "outline",
    "read_anndata",
    "read_benchmarks",
    "read_counts",
    "read_design",
    "read_gene_statistics",
    "read_genes",
    "read_json",
    "read_meta",
    "read_obs",
    "read_prepared_cells",
    "read_provenance",
    "read_record",
    "read_record_meta",
    "read_records",
    "read_some_counts",
    "read_truth",
    "replaced",
    "shape",
    "some_counts",
    "stored_values",
    "together",
    "var_columns",
    "write_anndata",
    "write_export",
    "write_json",
    "write_prepared",
    "write_record",
    "write_table",
    "write_text",
]
