"""The leading genes of every contrast, with their donors: as many as the page has room for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlmgen import story
from mlmgen.findings import Findings
from mlmgen.report.packing import rounded
from mlmgen.report.tested import Tested
from mlmgen.report.trust import keys_of, plain, records

if TYPE_CHECKING:
    import pandas as pd

# Of a number as it stands in the page, and of a gene beside its samples and groups.
BYTES_OF_NUMBER, BYTES_OF_GENE = 3.2, 500
MOST_OF_TEST, MOST = 60, 1500  # genes of a cell type and contrast; pairs of a gene and a cell type, which take time
OF_SAMPLES = ("mean", "ci_low", "ci_high", "pct_cells", "total_count")
OF_GROUPS = ("estimate", "std_error", "unpooled", "unpooled_se")
OF_EFFECTS = ("log2fc", "lfc_se", "ci_low", "ci_high", "log2fc_shrunken", "pvalue", "padj", "padj_global", "df")
OF_VARIANCES = ("variance", "variance_reml", "ci_low", "ci_high", "correlation", "pvalue", "fraction")
OF_FITS = ("status", "reason", "n_cells_expressing", "n_donors_expressing", "total_count", "mean_count", "pct_cells")

Stories = Callable[[str, Sequence[str]], Mapping[str, story.OfCellType]]


def choose(tested: Tested, numbers: Mapping[int, int], budget: int) -> dict[int, list[int]]:
    """Choose genes by cell type: the strongest of every test in turn, until the room or the time is used up.

    Parameters
    ----------
    tested : Tested
    numbers : mapping of int to int
        How many numbers the detail of a gene has in each cell type, by its place.
    budget : int
        Bytes.

    Returns
    -------
    dict of int to list of int
        Places of genes by place of the cell type, increasing.
    """
    chosen: dict[int, dict[int, None]] = {own.t: {} for own in tested.cell_types}
    left, pairs = float(budget), 0
    for t, gene in dict.fromkeys(_in_turn(tested)):
        cost = BYTES_OF_GENE + BYTES_OF_NUMBER * numbers.get(t, 0)
        if cost > left or pairs >= MOST:
            break
        chosen[t][gene] = None
        left, pairs = left - cost, pairs + 1
    return {t: sorted(genes) for t, genes in chosen.items()}


def _in_turn(tested: Tested) -> Iterator[tuple[int, int]]:
    """Yield cell types and genes: the strongest of every test, the second, ..., and then these in other cell types."""
    tests = [(own, test) for own in tested.cell_types for test in own.tests.values()]
    ranked = [(own, np.argsort(np.where(test.tested, test.pvalue, np.inf), kind="stable")) for own, test in tests]
    seen: dict[int, None] = {}
    for rank in range(MOST_OF_TEST):
        for (own, order), (_, test) in zip(ranked, tests, strict=True):
            if rank < test.tested.sum():
                gene = int(own.gene[order[rank]])
                seen.setdefault(gene)
                yield own.t, gene
    fitted = {own.t: set(own.gene.tolist()) for own in tested.cell_types}
    yield from ((t, gene) for gene in seen for t, genes in fitted.items() if gene in genes)


def sizes(findings: Findings) -> dict[int, int]:
    """Return how many numbers the detail of a gene has in each cell type: those of its samples and its groups.

    Of groups no more are known before the fits are read than that there are about as many as donors and samples.
    """
    one = findings.fits[["cell_type", "n_donors", "n_samples"]].drop_duplicates("cell_type")
    numbers = {name: int(4.5 * samples + 4 * (donors + samples)) for name, donors, samples in one.to_numpy()}
    return {t: numbers.get(name, 0) for t, name in enumerate(findings.provenance["cell_types"])}


def detail(findings: Findings, tested: Tested, t: int, genes: Sequence[int], stories: Stories) -> dict | None:
    """Return samples and groups of some genes of a cell type; None where nothing is known.

    Parameters
    ----------
    findings : Findings
    tested : Tested
    t : int
    genes : sequence of int
    stories : callable
        Takes a cell type and genes, returns what `mlmgen.story.stories` does.
    """
    name = list(findings.provenance["cell_types"])[t]
    found = stories(name, [tested.genes[g] for g in genes])
    if not found:
        return None
    place, first = {tested.genes[g]: g for g in genes}, next(iter(found.values()))
    return {
        "samples": _of_samples(first.samples),
        "groups": [{**keys, "level": part["level"].astype(str).tolist()} for keys, part in _terms(first.groups)],
        "genes": {str(place[gene]): _of_gene(findings, one) for gene, one in found.items()},
    }


def _of_samples(samples: "pd.DataFrame") -> dict:
    """Return what all genes share about samples."""
    known = ("donor", "sample", "n_cells", *OF_SAMPLES)
    variables = {}
    for name in samples.columns:
        if name not in known:
            values = samples[name]
            number = values.dtype.kind in "iuf"
            variables[name] = rounded(values, 4) if number else [str(value) for value in values]
    text = {name: samples[name].astype(str).tolist() for name in ("donor", "sample")}
    return {**text, "n_cells": [int(n) for n in samples["n_cells"]], "variables": variables}


def _terms(groups: "pd.DataFrame"):
    for (term, effect), part in groups.groupby(["term", "effect"], sort=False):
        yield {"term": term, "effect": effect}, part


def _of_gene(findings: Findings, one: story.OfCellType) -> dict:
    samples = {name: rounded(one.samples[name], 5 if name == "total_count" else 3) for name in OF_SAMPLES}
    groups = [{name: rounded(part[name]) for name in OF_GROUPS} for _, part in _terms(one.groups)]
    effects = [_row(findings, row, (*OF_EFFECTS, "status", "reason")) for row in records(one.effects)]
    variances = [_row(findings, row, ("component", *OF_VARIANCES)) for row in records(one.variances)]
    fits = [_row(findings, row, OF_FITS) for row in records(one.fits)]
    return {"samples": samples, "groups": groups, "variances": variances, "effects": effects, "fit": fits}


def _row(findings: Findings, row: dict, names: Sequence[str]) -> dict:
    keys = {key: place for key, place in keys_of(findings, row).items() if key != "t"}
    return {**keys, **plain({name: row[name] for name in names})}


def diagnostics(findings: Findings, cell_type: str) -> list[dict]:
    """Return how the random effects of a cell type lie, by term and effect, of the first method."""
    found, t = story.diagnostics(findings, cell_type), list(findings.provenance["cell_types"]).index(cell_type)
    parts = []
    for keys, levels in _terms(found.levels):
        own = (found.quantiles["term"] == keys["term"]) & (found.quantiles["effect"] == keys["effect"])
        quantiles = {name: rounded(found.quantiles.loc[own, name]) for name in ("expected", "observed")}
        rows = [plain(row, 3) for row in records(levels.drop(columns=["term", "effect"]))]
        parts.append({"t": t, "m": 0, **keys, "levels": rows, **quantiles})
    return parts
