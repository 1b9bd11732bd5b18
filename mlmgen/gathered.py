"""Everything that a run has computed, read and checked before any table is made."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mlmgen import io, provenance, shards
from mlmgen.audit import Audit
from mlmgen.stability import LeftOut
from mlmgen.types import Effects, GeneFits, Moderated

# Stage: folder and class of its records.
OF_SHARDS = {"fit": ("fits", GeneFits), "test": ("tests", Effects)}
OF_CELL_TYPES = {"moderate": ("moderated", Moderated), "stability": ("stability", LeftOut), "audit": ("audit", Audit)}


class Gathered(NamedTuple):
    """The records of a run, all of one configuration, input and gene list."""

    sources: dict[str, provenance.Source]
    """By path, the prepared file of each cell type."""
    records: dict[tuple[str, str, str], list]
    """By stage, path of the prepared file, and method; one for each shard."""
    metas: list[dict]
    """Of all records."""


def gather(
    folder: Path, prepared: Sequence[str], methods: Sequence[str], n_shards: Sequence[int], settings: dict
) -> Gathered:
    """Read all records of a run.

    Parameters
    ----------
    folder : Path
        The run's folder.
    prepared : sequence of str
        One file for each cell type; the file's stem names the cell type's folders.
    methods : sequence of str
    n_shards : sequence of int
        Of each method in the first cell type, then in the second, and so on.
    settings : dict
        Of the stage tables: ``stability`` and ``audit`` say whether there are records of them.

    Returns
    -------
    Gathered

    Raises
    ------
    UserError
        Where files are missing, damaged, or not of this run, with all their names.
    """
    sources, records, found = {}, {}, []
    for path in prepared:
        sources[path] = provenance.source(path, io.read_meta(path), io.read_gene_statistics(path)["gene"], settings)
    pairs = [(path, method) for path in prepared for method in methods]
    for (path, method), n in zip(pairs, n_shards, strict=True):
        for stage, paths, cls in _files(folder, Path(path).stem, method, n, settings):
            read = io.read_records(paths, cls)
            records[stage, path, method] = [record for record, _ in read]
            # The file of the sums is not read here: `moderate` and `test` have compared it.
            exact = method == "glmm" or stage == "audit"
            source = sources[path] if exact else provenance.of_another_level(sources[path])
            found += _expected(stage, paths, [meta for _, meta in read], source, method, settings)
    provenance.check(found)
    return Gathered(sources, records, [one.meta for one in found])


def _files(folder: Path, slug: str, method: str, n: int, settings: dict) -> Iterator[tuple[str, list[Path], type]]:
    """List the stages, their files and the class of their records, for one method in one cell type."""
    for stage, (name, cls) in OF_SHARDS.items():
        yield stage, [folder / name / method / slug / f"{i}-of-{n}.npz" for i in range(1, n + 1)], cls
    for stage, (name, cls) in OF_CELL_TYPES.items():
        if stage == "moderate" or settings.get(stage):
            yield stage, [folder / name / method / f"{slug}.npz"], cls


def _expected(stage, paths, metas, source, method, settings) -> list[provenance.Found]:
    if stage in OF_SHARDS:
        return shards.found(stage, paths, metas, source, method, settings)
    wanted = provenance.expected(stage, source, method, settings)
    return [provenance.Found(str(path), meta, wanted) for path, meta in zip(paths, metas, strict=True)]
