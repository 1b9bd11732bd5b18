"""Write a large .h5ad, as anndata writes it, with bounded memory.

    python -m benchmarks.scale.generate --output million.h5ad
    python -m benchmarks.scale.generate --output hundred.h5ad --cells 100000 --genes 20000 --cell-types 10

CSR, float32 counts, int32 indices, compressed by gzip as ``write_h5ad(compression="gzip")`` does it. Donors of two
conditions come one after the other, cell types mixed, as samples are concatenated. A cell's library size and state
(one of a few of its donor and cell type, which makes counts overdispersed) are drawn, then its molecules, one by one,
from the genes' shares. A share of the genes differs between the conditions in each cell type; ``uns/truth`` says so,
and the summary of a run compares with it. The same arguments give the same data.
"""

import argparse
import itertools
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

CELLS_OF_BLOCK = 256  # drawn at a time: a million molecules
VALUES_OF_CHUNK = 1 << 16  # as h5py chooses for arrays of this length, within a factor of 2
LEVEL = 4  # gzip's, which h5py and so anndata take where none is said
SLOTS = 1 << 20  # molecules are drawn from a table with so many places, shared by the genes
STATES = 4  # of the cells of one type and donor

# Standard deviations of natural logs: of the genes' means, and of what makes cell types, donors and states of a donor's
# cells differ in a gene; of the library sizes of donors and of cells.
GENE_SD, CELL_TYPE_SD, DONOR_SD, STATE_SD = 2.0, 0.8, 0.3, 0.4
DONOR_SIZE_SD, SIZE_SD = 0.15, 0.35
# Genes that differ between the conditions in a cell type, and by how much, natural log.
SHARE_DIFFERENT, EFFECTS = 0.03, (0.4, 1.0)
# Cell types from common to rare.
RARER = 0.7
CONDITIONS = ("ctrl", "stim")


class Plan(NamedTuple):
    """What is written: sizes, the share of the counts that is not zero, the seed, gzip's level, and threads."""

    cells: int = 1_000_000
    genes: int = 30_000
    donors: int = 60
    cell_types: int = 12
    nonzero: float = 0.05
    seed: int = 1
    level: int = LEVEL
    threads: int = 2


class Population(NamedTuple):
    """What the cells are drawn from.

    ``donor`` and ``cell_type`` (n,) of each cell; ``log_mean`` (T, G) natural log of the share of each gene, ``effect``
    (T, G) of the second condition; ``size`` (n,) molecules expected of each cell.
    """

    donor: np.ndarray
    cell_type: np.ndarray
    log_mean: np.ndarray
    effect: np.ndarray
    size: np.ndarray


class Block(NamedTuple):
    """Cells one after the other: nonzeros of each, and their genes and counts."""

    per_cell: np.ndarray
    indices: np.ndarray
    values: np.ndarray


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--output", type=Path, required=True, metavar="FILE")
    for name, value in Plan()._asdict().items():
        arguments.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, metavar="N")
    chosen = vars(arguments.parse_args())
    output, started = chosen.pop("output"), time.monotonic()
    n = generate(output, Plan(**chosen), show=print)
    size, seconds = output.stat().st_size / 1e9, time.monotonic() - started
    print(f"{output}: {n:,} nonzero counts, {size:.2f} GB, {seconds:.0f} s")


def generate(path: Path, plan: Plan, show: Callable[[str], None] = lambda line: None) -> int:
    """Write the data set and return the number of its nonzeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    population = populate(plan)
    with h5py.File(path, "w") as file, ThreadPoolExecutor(plan.threads) as pool:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        _write_tables(file, plan, population)
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array([plan.cells, plan.genes], dtype=np.int64)
        columns = {"data": np.float32, "indices": np.int32}
        writers = [Column(group, name, dtype, plan.level, pool, plan.threads) for name, dtype in columns.items()]
        per_cell = []
        for block in _ahead(pool, _blocks(plan, population), 2 * plan.threads):
            per_cell.append(block.per_cell)
            for column, values in zip(writers, (block.values, block.indices), strict=True):
                column.append(values)
            done = len(per_cell) * CELLS_OF_BLOCK
            if len(per_cell) % 400 == 0:
                show(f"{done:,} of {plan.cells:,} cells")
        for column in writers:
            column.finish()
        pointers = np.r_[0, np.cumsum(np.concatenate(per_cell), dtype=np.int64)]
        kind = np.int32 if pointers[-1] < 2**31 else np.int64
        packing = {"compression": "gzip", "compression_opts": plan.level}
        group.create_dataset("indptr", data=pointers.astype(kind), **packing)
    return int(pointers[-1])


def populate(plan: Plan) -> Population:
    """Draw donors, cell types, library sizes, and the genes' shares, scaled to the wanted share of nonzeros."""
    rng = np.random.default_rng([plan.seed, 0])
    donor = np.sort(np.arange(plan.cells) % plan.donors)
    common = np.arange(1, plan.cell_types + 1) ** -RARER
    weights = rng.dirichlet(30.0 * common / common.mean(), plan.donors)
    drawn = rng.random(plan.cells)
    cell_type = (drawn[:, None] > np.cumsum(weights, axis=1)[donor, :-1]).sum(axis=1)
    own = rng.normal(0.0, CELL_TYPE_SD, (plan.cell_types, plan.genes))
    log_mean = rng.normal(0.0, GENE_SD, plan.genes) + own
    different = rng.random(log_mean.shape) < SHARE_DIFFERENT
    size = rng.uniform(*EFFECTS, log_mean.shape) * rng.choice([-1.0, 1.0], log_mean.shape)
    log_mean -= np.log(np.exp(log_mean).sum(axis=1, keepdims=True))
    log_size = rng.normal(0.0, DONOR_SIZE_SD, plan.donors)[donor] + rng.normal(0.0, SIZE_SD, plan.cells)
    of_cell = molecules(log_mean, log_size, cell_type, plan) * np.exp(log_size)
    return Population(donor, cell_type.astype(np.int16), log_mean, np.where(different, size, 0.0), of_cell)


def molecules(log_mean: np.ndarray, log_size: np.ndarray, cell_type: np.ndarray, plan: Plan) -> float:
    """Return the molecules of a cell of size 1 that leave the wanted share of the counts not zero."""
    rng = np.random.default_rng([plan.seed, 3])
    share = np.exp(log_mean + np.hypot(DONOR_SD, STATE_SD) * rng.standard_normal(log_mean.shape))
    share /= share.sum(axis=1, keepdims=True)
    cells = np.bincount(cell_type, minlength=len(share)) / len(cell_type)
    sizes = np.exp(np.quantile(log_size, [0.1, 0.3, 0.5, 0.7, 0.9]))
    low, high = 1.0, 1e7
    for _ in range(30):
        middle = np.sqrt(low * high)
        expected = np.mean([cells @ (1.0 - np.exp(-middle * s * share)).mean(axis=1) for s in sizes])
        low, high = (middle, high) if expected < plan.nonzero else (low, middle)
    return float(low)


def _blocks(plan: Plan, population: Population) -> Iterator[Callable[[], Block]]:
    """Yield functions that draw the blocks in order."""
    starts = np.searchsorted(population.donor, np.arange(plan.donors + 1))
    number = 0
    for donor, (first, last) in enumerate(itertools.pairwise(starts)):
        tables = _tables(plan, population, donor)
        for start in range(first, last, CELLS_OF_BLOCK):
            rows = slice(start, min(start + CELLS_OF_BLOCK, last))
            yield partial(draw, plan, population, tables, rows, number)
            number += 1


def _tables(plan: Plan, population: Population, donor: int) -> np.ndarray:
    """Return the genes of `SLOTS` molecules for each cell type and state of a donor, (T * STATES, SLOTS) int32."""
    rng = np.random.default_rng([plan.seed, 1, donor])
    mean = population.log_mean + rng.normal(0.0, DONOR_SD, population.log_mean.shape)
    mean += population.effect * (donor % len(CONDITIONS))
    tables = np.empty((len(mean) * STATES, SLOTS), dtype=np.int32)
    for k in range(len(tables)):
        share = np.exp(mean[k // STATES] + STATE_SD * rng.standard_normal(plan.genes))
        ends = np.rint(np.cumsum(share) * (SLOTS / share.sum()) + rng.uniform(-0.5, 0.5)).astype(np.int64)
        ends[-1] = SLOTS
        slots = np.diff(np.clip(ends, 0, SLOTS), prepend=0)
        tables[k] = np.repeat(np.arange(plan.genes, dtype=np.int32), slots)
    return tables


def draw(plan: Plan, population: Population, tables: np.ndarray, rows: slice, number: int) -> Block:
    """Draw the counts of a block of cells of one donor."""
    rng = np.random.default_rng([plan.seed, 2, number])
    n = rows.stop - rows.start
    total = rng.poisson(population.size[rows])
    table = population.cell_type[rows].astype(np.int64) * STATES + rng.integers(0, STATES, n)
    slot = rng.integers(0, SLOTS, total.sum(), dtype=np.int32)
    of_cell = zip(table, np.split(slot, np.cumsum(total)[:-1]), strict=True)
    genes = np.concatenate([tables[t].take(slots) for t, slots in of_cell])
    key = np.sort(np.repeat(np.arange(n, dtype=np.int32) * np.int32(plan.genes), total) + genes)
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if key.size else np.zeros(0, dtype=np.int64)
    cell, gene = np.divmod(key[first], np.int32(plan.genes))
    values = np.diff(first, append=key.size).astype(np.float32)
    return Block(np.bincount(cell, minlength=n), gene, values)


def _ahead(pool: ThreadPoolExecutor, functions: Iterator[Callable], number: int) -> Iterator:
    """Call functions on the pool, at most so many before their results are taken, and yield the results in order."""
    waiting: deque[Future] = deque()
    for function in functions:
        waiting.append(pool.submit(function))
        if len(waiting) >= number:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Column:
    """A compressed dataset that grows: chunks are compressed on threads and written as they are."""

    def __init__(self, group: h5py.Group, name: str, dtype, level: int, pool: ThreadPoolExecutor, threads: int):
        chunks, packing = (VALUES_OF_CHUNK,), {"compression": "gzip", "compression_opts": level}
        self.dataset = group.create_dataset(name, (0,), dtype, chunks=chunks, maxshape=(None,), **packing)
        self.pool, self.level, self.most = pool, level, 4 * threads
        self.left: list[np.ndarray] = []
        self.waiting: deque[Future] = deque()
        self.length = self.written = 0

    def append(self, values: np.ndarray) -> None:
        """Add values, and write the chunks that are full."""
        self.left.append(values)
        self.length += len(values)
        if sum(map(len, self.left)) < VALUES_OF_CHUNK:
            return
        joined = np.concatenate(self.left)
        whole = len(joined) // VALUES_OF_CHUNK * VALUES_OF_CHUNK
        for chunk in np.split(joined[:whole], whole // VALUES_OF_CHUNK):
            self._submit(chunk)
        self.left = [joined[whole:]]

    def finish(self) -> None:
        """Write what is left."""
        rest = np.concatenate(self.left) if self.left else np.zeros(0, self.dataset.dtype)
        if rest.size:
            self._submit(np.pad(rest, (0, VALUES_OF_CHUNK - rest.size)))
        while self.waiting:
            self._write()
        self.dataset.resize((self.length,))

    def _submit(self, chunk: np.ndarray) -> None:
        self.waiting.append(self.pool.submit(zlib.compress, chunk.tobytes(), self.level))
        if len(self.waiting) > self.most:
            self._write()

    def _write(self) -> None:
        start = self.written * VALUES_OF_CHUNK
        self.dataset.resize((start + VALUES_OF_CHUNK,))
        self.dataset.id.write_direct_chunk((start,), self.waiting.popleft().result())
        self.written += 1


def _write_tables(file: h5py.File, plan: Plan, population: Population) -> None:
    """Write obs, var and the truth."""
    names = [f"type-{t + 1:02d}" for t in range(plan.cell_types)]
    donors = [f"D{d + 1:03d}" for d in range(plan.donors)]
    obs = {
        "donor": pd.Categorical.from_codes(population.donor, donors),
        "condition": pd.Categorical.from_codes(population.donor % len(CONDITIONS), CONDITIONS),
        "cell_type": pd.Categorical.from_codes(population.cell_type, names),
    }
    index = pd.Index([f"cell{i + 1:07d}" for i in range(plan.cells)])
    write_elem(file, "obs", pd.DataFrame(obs, index=index), dataset_kwargs={"compression": "gzip"})
    columns = {name: f"true_log2fc_{t + 1}" for t, name in enumerate(names)}
    log2fc = population.effect / np.log(2.0)
    genes = [f"GENE{g + 1:05d}" for g in range(plan.genes)]
    var = pd.DataFrame(dict(zip(columns.values(), log2fc, strict=True)), index=genes)
    write_elem(file, "var", var)
    low, high = CONDITIONS
    truth = {"contrast": f"condition[{high}] - condition[{low}]", "columns": columns}
    write_elem(file, "uns", {"truth": truth})


if __name__ == "__main__":
    main()
