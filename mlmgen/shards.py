"""Shards: the genes that each covers, and what the files of a cell type's shards have to be."""

from collections.abc import Sequence

from mlmgen.provenance import Found, Source, expected


def bounds(shard: tuple[int, int], n_genes: int) -> tuple[int, int]:
    """Return the first gene of a shard and the one after its last; shards differ by at most one gene.

    Parameters
    ----------
    shard : (int, int)
        Which of how many, counted from 1.
    n_genes : int
    """
    index, number = shard
    return (index - 1) * n_genes // number, index * n_genes // number


def found(
    stage: str, paths: Sequence, metas: Sequence[dict], source: Source, method: str, settings: dict
) -> list[Found]:
    """Put what the files of all shards of a cell type have to be beside what they say.

    Parameters
    ----------
    stage : str
        The stage that wrote them.
    paths : sequence of path-like
        In the order of the shards.
    metas : sequence of dict
        Meta of each.
    source : Source
    method : {"glmm", "pseudobulk"}
    settings : dict
        Of the stage that reads them, with those of earlier ones.

    Returns
    -------
    list of Found
        For `mlmgen.provenance.check`: one that is missing, there twice or in another place differs.
    """
    return [
        one(stage, path, meta, source, method, settings, (i, len(paths)))
        for i, (path, meta) in enumerate(zip(paths, metas, strict=True), start=1)
    ]


def one(stage: str, path, meta: dict, source: Source, method: str, settings: dict, shard: tuple[int, int]) -> Found:
    """Put what the file of a shard has to be beside what it says; parameters as of `found`."""
    covered = bounds(shard, len(source.genes))
    return Found(str(path), meta, expected(stage, source, method, settings, shard, covered))
