"""Files: what is read from any .h5ad, what is written, and how damaged files are refused."""

import gzip
import json
import os
import stat
from dataclasses import replace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from mlmgen import io
from mlmgen.errors import UserError
from mlmgen.io import prepared as records_of_genes
from mlmgen.io import results
from mlmgen.types import Design, Groups, RandomTerm
from tests.reference import designs

ROWS = np.array([[1, 0, 2], [0, 0, 3], [4, 0, 0], [0, 5, 1]])


def adata(X=None, **obs) -> anndata.AnnData:
    X = sparse.csr_matrix(ROWS) if X is None else X
    index = [f"c{i}" for i in range(X.shape[0])]
    var = pd.DataFrame({"symbol": ["A", "", "C"][: X.shape[1]]}, index=[f"g{i}" for i in range(X.shape[1])])
    return anndata.AnnData(X, obs=pd.DataFrame(obs, index=index), var=var)


def written(tmp_path, data: anndata.AnnData):
    path = tmp_path / "data.h5ad"
    data.write_h5ad(path)
    return path


# ---- whole files


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "new" / "a.txt"
    io.write_text(path, "one")
    with pytest.raises(RuntimeError, match="stop"), io.atomic(path) as temporary:
        temporary.write_text("two")
        raise RuntimeError("stop")
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_temporary_file_is_beside_the_final_one(tmp_path):
    with io.atomic(tmp_path / "a.txt") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name != "a.txt"
        temporary.write_text("x")
    assert (tmp_path / "a.txt").read_text() == "x"


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "made" / "figures"
    for name in "ab":
        with io.replaced(folder) as temporary:
            (temporary / "in").mkdir()
            (temporary / "in" / name).write_text(name)
        assert [path.name for path in folder.rglob("*")] == ["in", name]
    with pytest.raises(RuntimeError, match="stop"), io.replaced(folder) as temporary:
        (temporary / "c").touch()
        raise RuntimeError("stop")
    assert sorted(path.name for path in (tmp_path / "made").rglob("*")) == ["b", "figures", "in"]


def test_long_names_can_be_written(tmp_path):
    io.write_text(tmp_path / ("n" * 255), "x")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("x")
    io.write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_json_keeps_order_and_refuses_nan(tmp_path):
    io.write_json(tmp_path / "a.json", {"z": 1, "a": ["ü"]})
    assert list(io.read_json(tmp_path / "a.json")) == ["z", "a"]
    with pytest.raises(ValueError, match="Out of range"):
        io.write_json(tmp_path / "a.json", float("nan"))


@pytest.mark.parametrize("content", [None, "{", "\x00"])
def test_a_missing_or_damaged_json(tmp_path, content):
    if content:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match="no such file" if content is None else "not a JSON file"):
        io.read_json(tmp_path / "a.json")


def test_checksum_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert io.checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# ---- what an .h5ad holds


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Categorical(["b", "a", None, "b"], categories=["x", "b", "a"]), ("a", "b")),
        (pd.Categorical([2, 10, 2, 2]), ("10", "2")),
        (["b", "a", "b", "b"], ("a", "b")),
        ([2, 10, 2, 2], ("10", "2")),
        ([1.0, 2.5, np.nan, 1.0], ("1", "2.5")),
        ([True, False, True, True], ("False", "True")),
        (pd.array([2, None, 1, 1], dtype="Int64"), ("1", "2")),
        (pd.array([True, None, True, True], dtype="boolean"), ("True",)),
    ],
)
def test_cell_types_of_every_kind_of_column(tmp_path, values, expected):
    path = written(tmp_path, adata(kind=values))
    assert io.cell_types(path, "kind") == expected
    from mlmgen.prepare import labels

    assert set(labels(io.read_obs(path, {"kind": "cell_type"})["kind"])) - {None} == set(expected)


def test_all_cells_are_one_type_without_a_column(tmp_path):
    assert io.cell_types(written(tmp_path, adata()), None) == ("all",)


def test_a_missing_column_lists_those_that_exist(tmp_path):
    path = written(tmp_path, adata(donor=list("abab"), celltype=list("xxyy")))
    with pytest.raises(UserError) as error:
        io.cell_types(path, "cell_type")
    assert error.value.what == "obs has no column 'cell_type'"
    assert "configuration key cell_type" in error.value.where
    assert error.value.do == "Did you mean 'celltype'? The columns are donor, celltype"


def test_a_column_without_values(tmp_path):
    path = written(tmp_path, adata(kind=pd.Categorical([None] * 4, categories=["a"])))
    with pytest.raises(UserError, match="'kind' has no values"):
        io.cell_types(path, "kind")


def test_columns_written_by_old_versions_of_anndata(tmp_path):
    path = written(tmp_path, adata(kind=pd.Categorical(list("baba"))))
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        codes, categories = obs["kind/codes"][:], obs["kind/categories"][:]
        del obs["kind"]
        obs.create_dataset("kind", data=codes)
        obs.create_dataset("__categories/kind", data=categories, dtype=h5py.string_dtype())
        obs["kind"].attrs["categories"] = obs["__categories/kind"].ref
        obs["__categories/kind"].attrs["ordered"] = False
        obs.attrs["encoding-version"] = "0.1.0"
    assert io.cell_types(path, "kind") == ("a", "b")
    assert list(io.read_obs(path, {"kind": "cell_type"})["kind"]) == list("baba")


def test_a_missing_file_suggests_the_nearest(tmp_path):
    written(tmp_path, adata())
    with pytest.raises(UserError, match=r"Did you mean 'data.h5ad'\? The data sets there are data.h5ad"):
        io.shape(tmp_path / "date.h5ad", "X")
    with pytest.raises(UserError, match="no such folder"):
        io.shape(tmp_path / "no" / "data.h5ad", "X")


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + b"0" * 100])
def test_files_that_are_not_hdf5(tmp_path, content):
    (tmp_path / "a.h5ad").write_bytes(content)
    with pytest.raises(UserError, match="not a complete HDF5 file"):
        io.cell_types(tmp_path / "a.h5ad", None)


def test_a_truncated_file(tmp_path):
    path = written(tmp_path, adata())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="truncated"):
        io.cell_types(path, None)


def test_hdf5_files_of_others(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["matrix"] = [1, 2]
    with pytest.raises(UserError, match="no obs and no var"):
        io.cell_types(tmp_path / "a.h5ad", None)
    with pytest.raises(UserError, match="this is a folder"):
        io.cell_types(tmp_path, None)


# ---- counts of the input


def test_a_missing_matrix_lists_those_that_exist(tmp_path):
    data = adata()
    data.layers["counts"] = data.X
    path = written(tmp_path, data)
    with pytest.raises(UserError) as error:
        list(io.blocks(path, "layers/count", 9))
    assert error.value.what == "the file has no layers/count"
    assert error.value.do == "Did you mean 'layers/counts'? It has X, layers/counts"
    with pytest.raises(UserError, match="no column 'name'"):
        io.read_genes(path, "X", "var/name")


def test_alternatives_are_the_matrices_of_whole_numbers(tmp_path):
    data = adata(np.log1p(ROWS))
    data.layers.update(counts=sparse.csr_matrix(ROWS), scaled=ROWS - 1.0, halves=ROWS / 2)
    data.raw = adata(ROWS.astype(float))
    assert io.alternatives(written(tmp_path, data), "X") == ["raw", "layers/counts"]


def test_truth_of_simulated_data(tmp_path):
    data = adata()
    data.var["true_T"] = [0.0, 1.0, -np.inf]
    data.uns["truth"] = {"contrast": "condition[b] - condition[a]", "columns": {"T": "true_T"}}
    path = written(tmp_path, data)
    expression, log2fc = io.read_truth(path, "T")
    assert expression == "condition[b] - condition[a]"
    np.testing.assert_array_equal(log2fc, [0.0, 1.0, -np.inf])
    assert io.read_truth(path, "B") is None


def test_real_data_have_no_truth(tmp_path):
    assert io.read_truth(written(tmp_path, adata()), "T") is None


# ---- prepared files


def design() -> Design:
    donors = Groups("donor", ("D1", "D2"), np.array([0, 1, 1], dtype=np.int32))
    samples = Groups("donor:arm", ("D1:a", "D2:a", "D2:b/c"), np.array([0, 1, 2], dtype=np.int32))
    Z = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    return Design(
        formula="~ arm + mt + (mt | donor) + (1 | donor:arm)",
        coefficients=("(Intercept)", "arm[T.b/c]", "mt"),
        X=np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]),
        basis=np.array([0, 0, 1], dtype=np.int32),
        functions=np.array([[0.25], [0.5], [0.125], [0.0]]),
        function_names=("mt",),
        terms=(
            RandomTerm("donor", donors.levels, donors.codes, ("(Intercept)", "mt"), Z, np.array([0, 1], np.int32)),
            designs.intercepts("donor:arm", samples.levels, samples.codes),
        ),
        donor=donors,
        sample=samples,
        pattern=np.array([0, 1, 1, 2], dtype=np.int32),
        log_size=np.array([0.1, -0.2, 0.0, 1.5]),
        offset=np.array([0.0, -0.1, 0.0, 0.5]),
        means={"arm[a]": np.array([1.0, 0.0, 0.0]), "arm[b/c]": np.array([1.0, 1.0, 0.0])},
        within=("arm",),
    )


META = {
    "settings": {"donor": "donor", "b": [1, None]},
    "reference": {"arm": "a"},
    "warnings": ["one ü", "two"],
    "cell_type": "T/NK",
    "skipped": "",
    "checksum": "0" * 64,
    "n_cells": 4,
    "n_donors": 2,
    "mlmgen": "0",
    "anndata": "0",
}


def tables(symbols: bool = True) -> tuple[sparse.csc_matrix, pd.DataFrame, pd.DataFrame]:
    obs = pd.DataFrame({"donor": pd.Categorical(["D1", "D2", "D2", "D2"])}, index=list("wxyz"))
    var = pd.DataFrame({"gene_name": ["A", "B", "C"]} if symbols else {}, index=["g/0", "NA", "g2"])
    var["n_cells_expressing"] = np.array([2, 1, 3], dtype=np.int32)
    var["n_donors_expressing"] = np.array([2, 1, 2], dtype=np.int32)
    var["total_count"] = [5.0, 5.0, 6.0]
    var["mean_count"] = [1.25, 1.25, 1.5]
    var["pct_cells"] = [50.0, 25.0, 75.0]
    return sparse.csc_matrix(ROWS.astype(np.int32)), obs, var


def prepared(tmp_path, name="p.h5ad", built=None, meta=META, symbols=True):
    X, obs, var = tables(symbols)
    io.write_prepared(tmp_path / name, [X], obs, lambda: var, built, meta)
    return tmp_path / name


def same_design(a: Design, b: Design) -> None:
    for name in ("formula", "coefficients", "function_names", "within"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("X", "basis", "functions", "pattern", "log_size", "offset"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    for term, other in zip((*a.terms, a.donor, a.sample), (*b.terms, b.donor, b.sample), strict=True):
        assert (term.name, term.levels) == (other.name, other.levels)
        np.testing.assert_array_equal(term.codes, other.codes, strict=True)
    for term, other in zip(a.terms, b.terms, strict=True):
        assert term.effects == other.effects
        for name in ("Z", "basis"):
            np.testing.assert_array_equal(getattr(term, name), getattr(other, name), strict=True)
    assert list(a.means) == list(b.means)
    for name, row in a.means.items():
        np.testing.assert_array_equal(row, b.means[name], strict=True)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"terms": ()},
        {"within": ()},
        {"means": {}},
        {"function_names": (), "functions": np.empty((4, 0))},
        {"coefficients": ("(Intercept)",), "X": np.ones((3, 1)), "basis": np.zeros(1, np.int32), "means": {}},
    ],
)
def test_a_design_comes_back(tmp_path, change):
    built = replace(design(), **change)
    same_design(io.read_design(prepared(tmp_path, built=built)), built)


def test_meta_and_statistics_come_back(tmp_path):
    path = prepared(tmp_path, built=design())
    assert io.read_meta(path).items() >= (META | {"warnings": ("one ü", "two")}).items()
    statistics = io.read_gene_statistics(path)
    assert statistics["gene"] == ("g/0", "NA", "g2")
    assert statistics["gene_name"] == ("A", "B", "C")
    np.testing.assert_array_equal(statistics["n_donors_expressing"], np.array([2, 1, 2], dtype=np.int32), strict=True)
    np.testing.assert_array_equal(statistics["pct_cells"], [50.0, 25.0, 75.0])
    assert "gene_name" not in io.read_gene_statistics(prepared(tmp_path, "q.h5ad", symbols=False))
    assert io.read_meta(prepared(tmp_path, "r.h5ad", meta=META | {"warnings": []}))["warnings"] == ()


@given(st.integers(0, 3), st.integers(0, 3))
def test_counts_of_a_range_of_genes(tmp_path_factory, start, stop):
    path = prepared(tmp_path_factory.mktemp("range"), built=design())
    stop = max(start, stop)
    found = io.read_counts(path, start, stop)
    assert found.genes == ("g/0", "NA", "g2")[start:stop]
    assert (found.start.dtype, found.rows.dtype, found.values.dtype) == (np.int64, np.int32, np.float64)
    dense = np.zeros((4, stop - start))
    for gene in range(stop - start):
        part = slice(found.start[gene], found.start[gene + 1])
        assert (np.diff(found.rows[part]) > 0).all()
        dense[found.rows[part], gene] = found.values[part]
    np.testing.assert_array_equal(dense, ROWS[:, start:stop])


def test_a_person_can_open_it(tmp_path):
    read = anndata.read_h5ad(prepared(tmp_path, built=design()))
    assert isinstance(read.X, sparse.csc_matrix | sparse.csc_array)
    assert read.X.dtype == np.int32
    np.testing.assert_array_equal(read.X.toarray(), ROWS)
    assert list(read.obs["donor"]) == ["D1", "D2", "D2", "D2"]
    assert list(read.var_names) == ["g/0", "NA", "g2"]
    assert read.uns["mlmgen"]["cell_type"] == "T/NK"
    assert list(read.uns["mlmgen"]["design"]["coefficients"]) == ["(Intercept)", "arm[T.b/c]", "mt"]


@pytest.mark.parametrize("genes", [[], [0], [1, 2], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize(("apart", "together"), [(1, 1), (100, 3), (100, 100)])
def test_counts_of_some_genes(tmp_path, monkeypatch, genes, apart, together):
    """However they are read: one by one, some together, or all with what lies between them."""
    path, genes = prepared(tmp_path, built=design()), np.array(genes, dtype=int)
    whole, all_obs, all_var = io.read_prepared_cells(path)
    monkeypatch.setattr(records_of_genes, "CHUNK", apart)
    monkeypatch.setattr(records_of_genes, "TOGETHER", together)
    found = io.read_some_counts(path, genes)
    assert found.genes == tuple(all_var.index[genes])
    assert found.start[-1] == len(found.rows) == len(found.values)
    for h, gene in enumerate(genes):
        one, span = io.read_counts(path, gene, gene + 1), slice(found.start[h], found.start[h + 1])
        np.testing.assert_array_equal(found.rows[span], one.rows)
        np.testing.assert_array_equal(found.values[span], one.values)
    X, obs, var = io.read_prepared_cells(path, genes)
    np.testing.assert_array_equal(X.toarray(), whole[:, genes].toarray())
    pd.testing.assert_frame_equal(obs, all_obs)
    pd.testing.assert_frame_equal(var, all_var.iloc[genes])


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first, second = prepared(tmp_path, "1.h5ad", design()), prepared(tmp_path / "other", "2.h5ad", design())
    assert first.read_bytes() == second.read_bytes()


def test_a_skipped_cell_type_has_counts_but_no_design(tmp_path):
    path = prepared(tmp_path, meta=META | {"skipped": "only one donor"})
    assert io.read_meta(path)["skipped"] == "only one donor"
    assert io.read_counts(path, 0, 3).values.sum() == ROWS.sum()
    with pytest.raises(UserError, match="this cell type is skipped: only one donor"):
        io.read_design(path)


def test_a_pseudobulk_file_of_a_skipped_cell_type_has_no_rows(tmp_path):
    X, obs, var = tables()
    io.write_prepared(tmp_path / "a.h5ad", [X[:0]], obs.iloc[:0], lambda: var, None, META | {"skipped": "why"})
    assert io.read_counts(tmp_path / "a.h5ad", 0, 3).start.tolist() == [0, 0, 0, 0]
    assert anndata.read_h5ad(tmp_path / "a.h5ad").shape == (0, 3)


def test_other_files_are_not_taken_for_prepared_ones(tmp_path):
    with pytest.raises(UserError, match="damaged or not mlmgen's"):
        io.read_meta(written(tmp_path, adata()))


# ---- tables


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "gene": ["a", "tab\there", "ü"],
            "cell_type": pd.Categorical(["x", "y", "x"]),
            "pvalue": [1e-300, np.nan, 0.123456789],
            "n": np.array([1, 2, 3], dtype=np.int32),
        }
    )


def test_tables_for_programs_and_for_people(tmp_path):
    io.write_table(tmp_path / "effects.v1", frame())
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "effects.v1.parquet"), frame())
    with gzip.open(tmp_path / "effects.v1.tsv.gz", "rt", encoding="utf-8") as text:
        lines = text.read().split("\n")
    assert lines == ["gene\tcell_type\tpvalue\tn", "a\tx\t1e-300\t1", '"tab\there"\ty\t\t2', "ü\tx\t0.123457\t3", ""]


def test_the_text_of_a_table_is_that_of_pandas(tmp_path, monkeypatch):
    """Numbers are written out in parts, by a faster way than that of pandas."""
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1 / 3, 1e-300, 123456.7, 1234567.8, 5e-324]
    table = pd.DataFrame(
        {"a b": values, "single": np.float32(values), "n": range(11), "text": ["x\ty", '"'] + 9 * [None]}
    )
    monkeypatch.setattr(results, "ROWS", 4)
    for name, part in (("all", table), ("none", table.iloc[:0])):
        io.write_table(tmp_path / name, part)
        expected = part.to_csv(sep="\t", index=False, float_format="%.6g", na_rep="", lineterminator="\n")
        assert gzip.decompress((tmp_path / f"{name}.tsv.gz").read_bytes()).decode() == expected


def test_tables_have_the_same_bytes(tmp_path):
    io.write_table(tmp_path / "a", frame())
    io.write_table(tmp_path / "other" / "b", frame())
    for suffix in (".parquet", ".tsv.gz"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / "other" / f"b{suffix}").read_bytes()


def test_what_is_written_as_settings_is_sorted(tmp_path):
    with h5py.File(prepared(tmp_path, built=design())) as file:
        text = file["uns/mlmgen/settings"].asstr()[()]
    assert text == json.dumps(META["settings"], sort_keys=True)


def test_places_that_cannot_be_files_are_said(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "file" / "a", tmp_path / "file" / "b" / "a", tmp_path / ("a" * 300)):
        with pytest.raises(UserError, match="cannot write") as error:
            io.write_text(path, "x")
        assert error.value.do == "Choose another place"
    with pytest.raises(FileNotFoundError), io.atomic(tmp_path / "x"):
        (tmp_path / "other" / "missing").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
