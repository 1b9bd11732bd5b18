"""The Python API: models of an AnnData or a data frame, with their tables; start reading at `api`."""
