"""Real nulls: donors of one condition split at random into two arms, cell type by cell type. Nothing is different."""

import itertools
import os
from functools import cache
from math import comb
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.calibration.settings import UNPAIRED
from benchmarks.calibration.simulated import DataSet, data_set, generator
from mlmgen import counts as counting
from mlmgen import design as designing
from mlmgen import sizefactors
from mlmgen.formula import parse

FOLDER = Path(os.environ.get("MLMGEN_SHARED", Path(__file__).parents[3] / "shared")) / "data"
# Fewest cells of a donor, the default of the configuration.
FEWEST_CELLS = 10


class Null(NamedTuple):
    """Donors of a file to split: ``arm`` so many on each side, of those in ``condition`` (all donors where empty)."""

    name: str
    file: str
    cell_type: str
    condition: str
    arm: int


def _nulls() -> list[Null]:
    """List what has donors enough: 8 in Kang, 27 to 40 in OneK1K; the 4 wild-type pigs only make 2 v 2."""
    found = [Null(f"onek1k {t}, 3 v 3", "onek1k_40donors.h5ad", t, "", 3) for t in ONEK1K]
    common = ("CD4 T cells", "CD14+ Monocytes")
    kang = [(condition, t, 4) for condition in ("ctrl", "stim") for t in common]
    kang += [("stim", "B cells", 3), *((condition, t, 3) for condition in ("ctrl", "stim") for t in common)]
    found += [Null(f"kang {c} {t}, {arm} v {arm}", "kang18_pbmc.h5ad", t, c, arm) for c, t, arm in kang]
    for arm, types in ((10, ONEK1K), (5, ONEK1K), (15, ONEK1K[:3])):
        found += [Null(f"onek1k {t}, {arm} v {arm}", "onek1k_40donors.h5ad", t, "", arm) for t in types]
    pigs = ("Secretory cell", "Endothelial cell", "Immune cell")
    found += [Null(f"pig wild type {t}, 2 v 2", "pig_small_airway_cftr.h5ad", t, "WT", 2) for t in pigs]
    return found


ONEK1K = ("cd4nc", "bmem", "monoc", "mononc")
REAL = {null.name: null for null in _nulls()}


def missing(null: Null) -> str:
    """Say why a null cannot be studied; empty if it can."""
    path = FOLDER / null.file
    if not path.exists():
        return f"{path.name} is not in {FOLDER}"
    usable = len(donors(null))
    if usable < 2 * null.arm:
        return f"{usable} donors have {FEWEST_CELLS} cells or more, {2 * null.arm} are needed"
    return ""


def number_of_splits(null: Null) -> int:
    """Return how many different splits there are."""
    usable = len(donors(null))
    return comb(usable, 2 * null.arm) * comb(2 * null.arm, null.arm) // 2


def split(null: Null, number: int) -> DataSet:
    """Return split ``number`` as a data set: each another where there are few, drawn at random where there are many."""
    obs, X, genes = cells(null)
    first, second = arms(donors(null), null, number)
    chosen = np.flatnonzero(obs["donor"].isin([*first, *second]).to_numpy())
    arm = np.where(obs["donor"].iloc[chosen].isin(second), "b", "a")
    table = pd.DataFrame({"donor": obs["donor"].iloc[chosen].astype(str).to_numpy(), "condition": arm})
    size = sizefactors.library(obs["total"].to_numpy()[chosen])
    design, order = designing.build(table, parse(UNPAIRED), "donor", size_factor=size)
    unknown = np.full(len(genes), np.nan)
    chosen = counting.gene_major(X, chosen[order])
    return data_set(chosen, genes, design, np.zeros(len(genes)), unknown[:, None], unknown)


def arms(usable: list[str], null: Null, number: int) -> tuple[list[str], list[str]]:
    """Return the donors of the two arms of a split."""
    if number_of_splits(null) > 1000:
        drawn = list(generator(null.name, number).permutation(usable)[: 2 * null.arm])
        return drawn[: null.arm], drawn[null.arm :]
    every = _every_split(tuple(usable), null.arm)
    # In a fixed random order, so that the first splits are not all alike.
    first, second = every[generator(null.name, 0).permutation(len(every))[(number - 1) % len(every)]]
    return list(first), list(second)


@cache
def _every_split(usable: tuple[str, ...], arm: int) -> list[tuple]:
    found = []
    for group in itertools.combinations(usable, 2 * arm):
        halves = ((group[0], *rest) for rest in itertools.combinations(group[1:], arm - 1))
        found += [(half, tuple(d for d in group if d not in half)) for half in halves]
    return found


@cache
def donors(null: Null) -> list[str]:
    """Return the donors with cells enough."""
    number = cells(null)[0]["donor"].astype(str).value_counts()
    return sorted(number.index[number >= FEWEST_CELLS])


@cache
def cells(null: Null) -> tuple:
    """Return obs with the total count of each cell, the counts (n, G) CSR, and the genes, of one cell type."""
    data = _file(null.file)
    chosen = (data.obs["cell_type"] == null.cell_type).to_numpy()
    if null.condition:
        chosen &= (data.obs["condition"] == null.condition).to_numpy()
    X = data.X.tocsr()[chosen]
    obs = data.obs.loc[chosen, ["donor"]].assign(total=X @ np.ones(X.shape[1]))
    return obs, X, list(data.var_names)


@cache
def _file(name: str):
    import anndata

    return anndata.read_h5ad(FOLDER / name)
