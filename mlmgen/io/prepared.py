"""Prepared and pseudobulk files: gene-major counts with their design, as .h5ad.

A person opens them with ``anndata.read_h5ad``; fit jobs read slices of them with h5py alone.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mlmgen.errors import UserError
from mlmgen.io import layout, sealed
from mlmgen.io.files import atomic
from mlmgen.types import Counts, Design, Groups, RandomTerm

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

LAYOUT_VERSION = 3
CHUNK = 1 << 18  # values, 1 MB of int32: a shard reads few chunks, and little that it does not need
TOGETHER = 1 << 24  # values of a part of the genes, when some of them are read: 64 MB of each array
STATISTICS = ("n_cells_expressing", "n_donors_expressing", "total_count", "mean_count", "pct_cells")
JSON = ("settings", "reference")  # dicts that are stored as text
ARRAYS = ("data", "indices")
PLAIN = ("formula", "X", "basis", "functions", "pattern", "log_size", "offset")
NAMES = ("coefficients", "function_names", "within")
GROUPS = ("donor", "sample")


def write_prepared(
    path: str | os.PathLike,
    parts: Iterable["sparse.csc_matrix"],
    obs: "pd.DataFrame",
    var: Callable[[], "pd.DataFrame"],
    design: Design | None,
    meta: dict,
) -> None:
    """Write the counts of one cell type with everything that a fit needs.

    Parameters
    ----------
    path : path-like
    parts : iterable of (n, g) CSC
        Counts of successive genes, rows in the order of the design, row indices increasing within a gene. How the
        genes are cut does not change the file.
    obs : DataFrame
        n rows.
    var : callable
        Called after the last part: a DataFrame of G rows, the index the gene; columns as in `STATISTICS`, and
        ``gene_name`` where there are symbols.
    design : Design or None
        None for a cell type that is skipped.
    meta : dict
        ``settings``, ``reference`` (dicts), ``warnings`` (list of str), and text or numbers: ``cell_type``,
        ``skipped``, ``checksum``, ``n_cells``, ``n_donors``, versions.
    """
    from anndata.io import write_elem

    texts = {name: json.dumps(meta[name], sort_keys=True, ensure_ascii=False) for name in JSON}
    stored = {**meta, **texts, "warnings": _text(meta["warnings"]), "layout": LAYOUT_VERSION}
    if design is not None:
        stored["design"] = _packed(design)
    with atomic(path) as temporary, sealed.writing(temporary) as raw, h5py.File(raw, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        _write_csc(file, parts, len(obs))
        write_elem(file, "obs", obs)
        write_elem(file, "var", var())
        write_elem(file, "uns", {"mlmgen": stored})


def _write_csc(file: h5py.File, parts: Iterable["sparse.csc_matrix"], n_rows: int) -> None:
    """Write X in anndata's encoding, in chunks that suit reading a range of genes."""
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csc_matrix", "encoding-version": "0.1.0"})
    packing = {"chunks": (CHUNK,), "maxshape": (None,), "compression": "lzf", "shuffle": True}
    for name in ARRAYS:
        group.create_dataset(name, shape=(0,), dtype=np.int32, **packing)
    lengths, waiting = [np.zeros(1, dtype=np.int64)], {name: np.empty(0, dtype=np.int32) for name in ARRAYS}
    for X in parts:
        lengths.append(np.diff(X.indptr).astype(np.int64))
        waiting = {name: np.concatenate([waiting[name], getattr(X, name)]) for name in ARRAYS}
        waiting = _write_chunks(group, waiting, len(waiting["data"]) // CHUNK * CHUNK)
    _write_chunks(group, waiting, len(waiting["data"]))
    pointers = np.cumsum(np.concatenate(lengths))
    fits = pointers[-1] <= np.iinfo(np.int32).max  # one type for all, or scipy copies the matrix
    group.create_dataset("indptr", data=pointers.astype(np.int32 if fits else np.int64))
    group.attrs["shape"] = np.array([n_rows, len(pointers) - 1], dtype=np.int64)


def _write_chunks(group: h5py.Group, values: dict[str, np.ndarray], stop: int) -> dict[str, np.ndarray]:
    """Append values up to `stop` chunk by chunk, so that the file is the same however they came; return the rest."""
    for start in range(0, stop, CHUNK):
        for name, array in values.items():
            chunk, stored = array[start : min(start + CHUNK, stop)], group[name]
            stored.resize(len(stored) + len(chunk), axis=0)
            stored[len(stored) - len(chunk) :] = chunk
    return {name: array[stop:] for name, array in values.items()}


def _text(values) -> np.ndarray:
    return np.array([str(value) for value in values], dtype=object)


def _packed(design: Design) -> dict:
    """Lay a design out as plain arrays; names never become keys, which may not hold a slash."""
    p = len(design.coefficients)
    means = list(design.means.values())
    parts = {key: _packed_groups(getattr(design, key)) for key in GROUPS}
    parts |= {f"term_{i}": _packed_term(term) for i, term in enumerate(design.terms)}
    return {
        **{name: getattr(design, name) for name in PLAIN},
        **{name: _text(getattr(design, name)) for name in NAMES},
        "means_names": _text(design.means),
        "means": np.array(means, dtype=np.float64).reshape(len(means), p),
        "n_terms": len(design.terms),
        **{f"{key}_{field}": value for key, part in parts.items() for field, value in part.items()},
    }


def _packed_groups(groups: Groups | RandomTerm) -> dict:
    return {"name": groups.name, "levels": _text(groups.levels), "codes": np.asarray(groups.codes, dtype=np.int32)}


def _packed_term(term: RandomTerm) -> dict:
    return {**_packed_groups(term), "effects": _text(term.effects), "Z": term.Z, "basis": term.basis}


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[h5py.File, h5py.Group]]:
    """Open a file that `write_prepared` wrote: the file and what mlmgen says about it."""
    with sealed.hdf5(path) as (file, _):
        meta = file.get("uns/mlmgen")
        if meta is None or meta["layout"][()] != LAYOUT_VERSION:
            raise UserError("this was not written by this version of mlmgen", str(path), sealed.AGAIN)
        yield file, meta


def read_meta(path: str | os.PathLike) -> dict:
    """Read what is said about a prepared or pseudobulk file, without the design.

    Returns
    -------
    dict
        ``settings`` and ``reference`` (level of each factor) dicts, ``warnings`` a tuple of str; ``cell_type``,
        ``skipped`` (empty, or why no gene is fitted), ``checksum`` text; ``n_cells``, ``n_donors`` int; and the
        versions.
    """
    with _opened(path) as (_, meta):
        found = {name: _value(meta[name]) for name in meta if name != "design"}
    found["seal"] = sealed.read_digest(path)
    return found | {name: json.loads(found[name]) for name in JSON}


def _value(stored: h5py.Dataset):
    """Return a dataset as text, a tuple of text, a number or an array."""
    if h5py.check_string_dtype(stored.dtype) is not None:
        return tuple(stored.asstr()[:]) if stored.shape else stored.asstr()[()]
    value = stored[()]
    return value if stored.shape else value.item()


def read_design(path: str | os.PathLike) -> Design:
    """Read the design of a prepared or pseudobulk file.

    Raises
    ------
    UserError
        If the cell type was skipped and has none.
    """
    with _opened(path) as (_, meta):
        if "design" not in meta:
            why = meta["skipped"].asstr()[()]
            raise UserError(f"this cell type is skipped: {why}", str(path), "Relax the filters")
        stored = {name: _value(dataset) for name, dataset in meta["design"].items()}
    return Design(
        **{name: stored[name] for name in (*PLAIN, *NAMES)},
        **{key: _part(Groups, key, stored) for key in GROUPS},
        terms=tuple(_part(RandomTerm, f"term_{i}", stored) for i in range(stored["n_terms"])),
        means=dict(zip(stored["means_names"], stored["means"], strict=True)),
    )


def _part(kind: type, key: str, stored: dict) -> Groups | RandomTerm:
    return kind(**{field.name: stored[f"{key}_{field.name}"] for field in dataclasses.fields(kind)})


def read_gene_statistics(path: str | os.PathLike) -> dict:
    """Read what is known of every gene at the level of cells.

    Returns
    -------
    dict
        ``gene``: tuple of str; ``gene_name``: tuple of str, where there are symbols; ``n_cells_expressing``,
        ``n_donors_expressing`` int32, ``total_count``, ``mean_count`` (counts per cell), ``pct_cells`` (0 to
        100) float64, all (G,).
    """
    with _opened(path) as (file, _):
        var = file["var"]
        found = {"gene": tuple(layout.index(var))}
        if "gene_name" in var:
            found["gene_name"] = tuple(layout.strings(var["gene_name"]))
        return found | {name: var[name][:] for name in STATISTICS}


def read_counts(path: str | os.PathLike, start: int, stop: int) -> Counts:
    """Read the counts of the genes from `start` up to, without, `stop`."""
    with _opened(path) as (file, _):
        names = file["var"][file["var"].attrs["_index"]]
        X = file["X"]
        pointers = X["indptr"][start : stop + 1].astype(np.int64)
        first, last = (pointers[0], pointers[-1]) if len(pointers) else (0, 0)
        return Counts(
            genes=tuple(names.asstr()[start:stop]),
            start=pointers - first,
            rows=X["indices"][first:last].astype(np.int32, copy=False),
            values=X["data"][first:last].astype(np.float64),
        )


def read_some_counts(path: str | os.PathLike, genes: np.ndarray) -> Counts:
    """Read the counts of some genes, (H,) increasing places; what lies between them is hardly held."""
    with _opened(path) as (file, _):
        names = file["var"][file["var"].attrs["_index"]].asstr()[:]
        values, rows, start = _some_genes(file["X"], np.asarray(genes))
        return Counts(tuple(names[genes]), start, rows, values.astype(np.float64))


def _some_genes(X: h5py.Group, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read data, indices and pointers of some genes; those with less than a chunk between them are read together."""
    pointers = X["indptr"][:].astype(np.int64)
    first, last = pointers[genes], pointers[genes + 1]
    start = np.r_[0, np.cumsum(last - first)]
    found = {name: np.empty(start[-1], X[name].dtype) for name in ("data", "indices")}
    begin = 0
    while begin < len(genes):
        end = begin + 1
        while end < len(genes) and first[end] - last[end - 1] < CHUNK and last[end] - first[begin] < TOGETHER:
            end += 1
        wanted = np.concatenate([np.arange(f, t) for f, t in zip(first[begin:end], last[begin:end], strict=True)])
        for name, values in found.items():
            stored = X[name][first[begin] : last[end - 1]]
            values[start[begin] : start[end]] = stored[wanted - first[begin]]
        begin = end
    return found["data"], found["indices"], start


def read_prepared_cells(
    path: str | os.PathLike, genes: np.ndarray | None = None
) -> tuple["sparse.csc_matrix", "pd.DataFrame", "pd.DataFrame"]:
    """Read counts, obs and var of a prepared file.

    Parameters
    ----------
    path : path-like
    genes : (H,) int, optional
        Increasing places of the genes that are wanted, all where none are given.

    Returns
    -------
    X : (n, G) CSC int32
    obs, var : DataFrame
        Of all or of the chosen genes.
    """
    from anndata.io import read_elem
    from scipy import sparse

    with _opened(path) as (file, _):
        obs, var = read_elem(file["obs"]), read_elem(file["var"])
        if genes is None:
            return read_elem(file["X"]), obs, var
        parts = _some_genes(file["X"], np.asarray(genes))
        return sparse.csc_matrix(parts, shape=(len(obs), len(genes))), obs, var.iloc[genes]


# A field added to Design must be stored as well.
assert {f.name for f in dataclasses.fields(Design)} == {*PLAIN, *NAMES, *GROUPS, "terms", "means"}
