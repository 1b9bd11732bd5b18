"""Estimates of what jobs take: structures as the design sees them, times as the machine does, the same everywhere."""

import time

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlmgen import config, costs, fitting, formula, io, names, sizing
from mlmgen import design as designs
from mlmgen.types import Counts

DONORS, EACH = 12, 60


def cells(donors: int = DONORS, each: int = EACH) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    donor = np.repeat(np.arange(donors), each)
    n = len(donor)
    columns = {
        "donor": pd.Categorical.from_codes(donor, [f"D{d:03d}" for d in range(donors)]),
        "site": pd.Categorical.from_codes(donor // 3, [f"S{s:03d}" for s in range(-(-donors // 3))]),
        "condition": pd.Categorical.from_codes(np.arange(n) % 2, ["ctrl", "stim"]),
        "batch": pd.Categorical.from_codes(np.arange(n) // 2 % 3, ["a", "b", "c"]),
        "cell_type": pd.Categorical.from_codes((np.arange(n) % 5 == 0).astype(int), ["B", "NK"]),
        "age": (20 + 3 * donor).astype(float),
        "score": rng.normal(size=n),
    }
    return pd.DataFrame(columns, index=[f"cell{i}" for i in range(n)])


def written(path, obs: pd.DataFrame, genes: int = 30, kind: str = "csr", nonzero: float = 0.3) -> str:
    rng = np.random.default_rng(2)
    X = sparse.random(len(obs), genes, nonzero, format="csr", random_state=rng, dtype=np.float32).ceil()
    data = anndata.AnnData(X.toarray() if kind == "dense" else X.asformat(kind), obs=obs)
    data.var_names = [f"G{g}" for g in range(genes)]
    data.write_h5ad(path)
    return str(path)


def settings(path: str, text: str = "~ condition + (1 | donor)", **others) -> dict:
    return config.load({"input": path, "donor": "donor", "formula": text} | others)


def estimated(path: str, text: str = "~ condition + (1 | donor)", **others) -> dict:
    chosen = settings(path, text, **others)
    return sizing.estimate(path, chosen, names.file_names(io.cell_types(path, chosen["cell_type"])))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return written(tmp_path_factory.mktemp("sizing") / "cells.h5ad", cells())


FORMULAS = (
    "~ condition + (1 | donor)",
    "~ condition + age + (1 | donor) + (1 | donor:condition)",
    "~ condition * age + (1 + condition | donor)",
    "~ condition + (1 + score || donor) + (1 | batch)",
    "~ condition + (1 | site/donor)",
    "~ condition + score + (0 + condition | donor)",
    "~ bs(age, df=4) + (1 | donor)",
    "~ condition + log(age) + (1 | site) + (1 | donor) + (1 | donor:condition)",
    "~ condition",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_random_terms_are_those_of_the_formula(text):
    parts = formula.parse(text).random
    found = sizing.random_terms(text)[1]
    assert [set(term.groups) for term in found] == [set(part.groups) for part in parts]
    for term, part in zip(found, parts, strict=True):
        assert ("1" in term.effects) == part.effects.startswith("1")
        assert [e for e in term.effects if e != "1"] == [e for e in part.effects.split(" + ") if e not in ("0", "1")]


@pytest.mark.parametrize("text", FORMULAS[:-1])
def test_the_structure_is_that_of_the_design(path, text):
    obs = cells()
    design, _ = designs.build(obs, formula.parse(text), "donor", size_factor=np.ones(len(obs)))
    shape = shape_of(path, text, cell_type=None)
    assert shape.donors == DONORS
    assert shape.patterns == design.X.shape[0]
    assert shape.covariates == design.functions.shape[1]
    assert shape.rows == design.pattern.size
    assert shape.groups == max(len(term.levels) for term in design.terms)
    assert shape.nested == fitting.has_own_engine(design, "nb", "cells", "reml", "compressed") or shape.covariates
    assert 0.5 <= shape.coefficients / len(design.coefficients) <= 2.0


def shape_of(path, text, method="glmm", **others):
    chosen = settings(path, text, **others)
    found = io.outline(path, "X", lambda names: names)
    return sizing._shape(sizing._structure(found, chosen), 0, method)


def test_cell_types_have_their_own_cells(path):
    sizes, obs = estimated(path), cells()
    X = anndata.read_h5ad(path).X
    for name in ("B", "NK"):
        chosen = (obs["cell_type"] == name).to_numpy()
        assert sizes[name].cells == chosen.sum()
        assert sizes[name].nonzeros == X[chosen].nnz
        assert sizes[name].donors == DONORS


@pytest.mark.parametrize("kind", ["csc", "dense"])
def test_other_layouts_are_about_the_same(path, kind, tmp_path):
    other = estimated(written(tmp_path / "other.h5ad", cells(), kind=kind))
    for slug, sizes in estimated(path).items():
        assert other[slug].shards == sizes.shards
        assert 0.2 < other[slug].nonzeros / sizes.nonzeros < 5.0


def test_columns_of_any_kind(path, tmp_path):
    """Text, numbers, booleans and missing values count as the same categories would."""
    obs = cells()
    obs["donor"] = obs["donor"].cat.codes.to_numpy() * 1.5
    obs["condition"] = (obs["condition"] == "stim").to_numpy()
    obs["cell_type"] = obs["cell_type"].cat.codes.astype(str)
    obs.loc[obs.index[:5], "donor"] = np.nan
    data = anndata.AnnData(anndata.read_h5ad(path).X, obs=obs)
    data.strings_to_categoricals = lambda *args: None
    data.write_h5ad(tmp_path / "kinds.h5ad")
    other, sizes = estimated(str(tmp_path / "kinds.h5ad")), estimated(path)
    assert [s.cells for s in other.values()] == [s.cells for s in sizes.values()]
    assert [s.shards for s in other.values()] == [s.shards for s in sizes.values()]


def test_missing_columns_are_for_others_to_say(path):
    assert estimated(path, "~ nothing + (1 | nobody)", donor="no such", cell_type=None)["all"].shards["glmm"] == 1


def test_a_small_data_set_has_one_shard(path):
    for sizes in estimated(path).values():
        assert sizes.shards == {"glmm": 1, "pseudobulk": 1}
        for rule in ("fit", "moderate", "test", "stability", "audit"):
            assert sizing.megabytes(rule, "glmm", sizes) == sizing.LEAST_MEGABYTES
            assert sizing.minutes(rule, "glmm", sizes) == sizing.LEAST_MINUTES
            assert sizing.megabytes(rule, "glmm", sizes, attempt=3) == 3 * sizing.LEAST_MEGABYTES


def test_the_report_holds_the_tables_and_what_is_known_of_the_cells(path):
    sizes = list(estimated(path).values())
    many = [one._replace(cells=500_000) for one in sizes]
    assert sizing.megabytes("report", "", sizes) >= sizing.megabytes("tables", "", sizes)
    assert sizing.megabytes("report", "", many) >= sizing.megabytes("tables", "", sizes) + 600
    assert sizing.LEAST_MINUTES <= sizing.minutes("report", "", sizes) < 60


def test_figures_hold_the_tables_and_take_minutes_at_most(path):
    sizes = list(estimated(path).values())
    assert sizing.megabytes("figures", "", sizes) == sizing.megabytes("tables", "", sizes)
    assert sizing.LEAST_MINUTES < sizing.minutes("figures", "", sizes) < sizing.minutes("figures", "", 60 * sizes) < 60


def test_the_number_of_shards_can_be_given(path):
    assert all(sizes.shards == {"glmm": 7, "pseudobulk": 7} for sizes in estimated(path, shards=7).values())


def outlined(path, cells: int, genes: int, stored: int, text: str = "~ condition + (1 | donor)", **others):
    """The sizes of a file that holds no count but says how many there are."""
    rng = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        for name, number in (("obs", cells), ("var", genes)):
            frame = file.create_group(name)
            frame.attrs["_index"] = "name"
            frame["name"] = np.zeros(number, dtype="S1")
        file["obs"].attrs["column-order"] = ["donor", "condition", "cell_type", "score"]
        donor = np.sort(rng.integers(0, 60, cells))
        for name, codes in (("donor", donor), ("condition", donor % 2), ("cell_type", rng.integers(0, 12, cells))):
            column = file["obs"].create_group(name)
            column.attrs["encoding-type"] = "categorical"
            column["codes"] = codes.astype(np.int8)
            column["categories"] = np.array([f"{name}{c:02d}".encode() for c in range(codes.max() + 1)])
        file["obs/score"] = rng.normal(size=cells)
        X = file.create_group("X")
        X.attrs.update({"encoding-type": "csr_matrix", "shape": np.array([cells, genes])})
        X["indptr"] = np.linspace(0, stored, cells + 1).astype(np.int64)
        X.create_dataset("data", (stored,), np.float32, chunks=(1 << 16,))
    return estimated(str(path), text, **others)


def test_a_million_cells_take_less_than_a_second(tmp_path):
    outlined(tmp_path / "million.h5ad", 1_000_000, 30_000, 1_500_000_000)
    started = time.process_time()
    sizes = estimated(str(tmp_path / "million.h5ad"), "~ condition + score + (1 | donor)")
    assert time.process_time() - started < 1.0
    assert len(sizes) == 12


def test_shards_follow_from_memory_and_time(tmp_path):
    fast = outlined(tmp_path / "fast.h5ad", 120_000, 30_000, 180_000_000)
    assert {sizes.shards["glmm"] for sizes in fast.values()} == {1}
    whole = outlined(tmp_path / "whole.h5ad", 200_000, 30_000, 1_500_000_000, cell_type=None)["all"]
    assert 5 < whole.shards["glmm"] <= sizing.MOST_SHARDS
    assert whole.shards["pseudobulk"] == 1
    assert whole.megabytes["fit", "glmm"] <= sizing.MEMORY_OF_SHARD
    slow = outlined(tmp_path / "slow.h5ad", 600_000, 30_000, 900_000_000, likelihood="exact")
    assert all(1 < sizes.shards["glmm"] <= sizing.MOST_SHARDS for sizes in slow.values())
    assert all(sizes.seconds["fit", "glmm"] <= sizing.SECONDS_OF_SHARD for sizes in slow.values())


def test_shards_depend_on_nothing_that_a_fit_does_not_depend_on(tmp_path):
    slow = outlined(tmp_path / "slow.h5ad", 600_000, 30_000, 900_000_000, likelihood="exact")
    path = str(tmp_path / "slow.h5ad")
    contrasts = {f"c{i}": "condition[condition01] - condition[condition00]" for i in range(10)}
    others = estimated(path, likelihood="exact", contrasts=contrasts, methods=["glmm"], audit=True, fdr="weighted")
    assert [s.shards for s in others.values()] == [s.shards for s in slow.values()]
    longer = (others["cell_type00"].seconds["test", "glmm"], slow["cell_type00"].seconds["test", "glmm"])
    assert longer[0] > 2 * longer[1]
    chosen = settings(path, likelihood="exact")
    assert slow["cell_type00"].shards["glmm"] > 1
    alone = sizing.estimate(path, chosen, {"cell_type03": "cell_type03"})
    assert alone == {"cell_type03": slow["cell_type03"]}


@pytest.mark.parametrize("text", ["~ site + (1 | donor)", "~ condition + (1 + condition | donor)"])
def test_a_fit_takes_about_what_is_estimated(tmp_path, text):
    """Within a factor of 4, on a machine that may be busy: the least of three times."""
    obs, genes, each = cells(donors=24, each=100), 150, 250
    design, _ = designs.build(obs, formula.parse(text), "donor", size_factor=np.ones(len(obs)))
    rng = np.random.default_rng(4)
    rows = np.concatenate([np.sort(rng.choice(len(obs), each, replace=False)) for _ in range(genes)]).astype(np.int32)
    start = np.arange(genes + 1, dtype=np.int64) * each
    counts = Counts(tuple(f"G{g}" for g in range(genes)), start, rows, 1.0 + rng.poisson(0.5, rows.size))
    path = written(tmp_path / "cells.h5ad", obs)
    shape = shape_of(path, text, cell_type=None)
    expected = costs.fit_milliseconds(shape, settings(path, text), each)[0]
    assert 0.25 < milliseconds(counts, design) / expected < 4.0


def milliseconds(counts: Counts, design) -> float:
    """CPU time of a gene's fit, compiled."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        fitting.fit_shard(counts, design, np.ones(len(counts.genes), dtype=bool))
        taken.append(time.process_time() - started)
    return 1e3 * min(taken) / len(counts.genes)


def test_the_fits_of_a_gene_hold_about_what_is_estimated(tmp_path):
    obs = cells()
    text = "~ condition + (1 + condition | donor)"
    design, _ = designs.build(obs, formula.parse(text), "donor", size_factor=np.ones(len(obs)))
    rng = np.random.default_rng(5)
    rows = np.concatenate([np.sort(rng.choice(len(obs), 90, replace=False)) for _ in range(20)]).astype(np.int32)
    counts = Counts(tuple("abcdefghijklmnopqrst"), np.arange(21) * 90, rows, np.ones(rows.size))
    fits = fitting.fit_shard(counts, design, np.ones(20, dtype=bool))
    held = sum(value.nbytes for value in vars(fits).values() if isinstance(value, np.ndarray)) / 20
    shape = shape_of(written(tmp_path / "cells.h5ad", obs), text, cell_type=None)
    assert held == pytest.approx(costs.bytes_of_fit(shape), rel=0.3)
