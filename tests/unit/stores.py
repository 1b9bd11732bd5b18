"""Data sets in every format that the input may have."""

import warnings
from pathlib import Path

import anndata

ENDINGS = (".h5ad", ".2.zarr", ".3.zarr", ".shards.zarr")
SETTINGS = {".2": {"zarr_write_format": 2}, ".3": {"zarr_write_format": 3}}
SETTINGS[".shards"] = {"zarr_write_format": 3, "auto_shard_zarr_v3": True}


def stored(data: anndata.AnnData, path: Path, **options) -> Path:
    """Write data in the format that the ending says, nullable text with the rest."""
    settings = SETTINGS.get(Path(path.stem).suffix, {}) if path.suffix == ".zarr" else {}
    with anndata.settings.override(allow_write_nullable_strings=True, **settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats to come or to go, and of repeated names
        (data.write_zarr if path.suffix == ".zarr" else data.write_h5ad)(path, **options)
    return path
