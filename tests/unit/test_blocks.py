"""The counts of the input in blocks: the same matrix whatever the file, in order, with bounded memory."""

import subprocess
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from mlmgen import io
from mlmgen.errors import UserError
from mlmgen.io import store
from mlmgen.io.blocks import _ahead
from tests.unit.stores import ENDINGS, stored

READER = "mlmgen-read"
MOST = 400_000
ROWS = np.array([[1, 0, 2], [0, 0, 3], [4, 0, 0], [0, 5, 1], [0, 0, 0], [7, 8, 9]])
FORMATS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
MATRICES = arrays.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 7)), elements=st.integers(0, 3))


def written(path: Path, X, place: str = "X", **options) -> Path:
    data = anndata.AnnData(X if place == "X" else sparse.csr_matrix(X.shape), **options)
    if place == "raw":
        data.raw = anndata.AnnData(X)
    elif place != "X":
        data.layers[place.removeprefix("layers/")] = X
    return stored(data, path)


def written_by_hand(path: Path, matrix, **packing) -> Path:
    """Write nothing but what is read: the names of rows and columns and one matrix, exactly as given."""
    with h5py.File(path, "w") as file:
        for name, size in zip(("obs", "var"), matrix.shape, strict=True):
            file.create_group(name).attrs["_index"] = "_index"
            file[name].create_dataset("_index", data=[f"{name}{i}" for i in range(size)])
        if not sparse.issparse(matrix):
            file.create_dataset("X", data=matrix, **packing)
            return path
        group = file.create_group("X")
        group.attrs.update({"encoding-type": f"{matrix.format}_matrix", "shape": matrix.shape})
        for name in ("data", "indices", "indptr"):
            group.create_dataset(name, data=getattr(matrix, name), **packing)
    return path


def open_files() -> int:
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def readers() -> int:
    return sum(thread.name.startswith(READER) for thread in threading.enumerate())


def assembled(path, place="X", most=4, shape=ROWS.shape) -> np.ndarray:
    """Put blocks together, checking that each is in order, sound and small."""
    found = np.full(shape, -1)
    row, gene = 0, 0
    for first_row, first_gene, X in io.blocks(path, place, most):
        assert (first_row, first_gene) == (row, gene)
        assert X.format == "csr"
        assert X.dtype == np.int32
        assert X.data.all()
        X.check_format()
        assert sparse.csr_matrix((X.data, X.indices, X.indptr), shape=X.shape).has_canonical_format
        assert X.nnz <= most or 1 in X.shape
        found[row : row + X.shape[0], gene : gene + X.shape[1]] = X.toarray()
        row, gene = (0, gene + X.shape[1]) if X.shape[1] < shape[1] else (row + X.shape[0], 0)
    assert (row, gene) in ((shape[0], 0), (0, shape[1]))
    return found


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("place", ["X", "raw", "layers/a b"])
def test_every_format_and_place(tmp_path, ending, kind, place):
    path = written(tmp_path / f"a{ending}", FORMATS[kind](ROWS), place)
    for most in (1, 4, 1000):
        np.testing.assert_array_equal(assembled(path, place, most), ROWS)


@settings(max_examples=50)
@given(MATRICES.filter(np.any), st.sampled_from(list(FORMATS)), st.sampled_from(DTYPES), st.integers(1, 30), st.data())
def test_every_type_and_packing(tmp_path_factory, values, kind, dtype, most, data):
    stored = FORMATS[kind](values.astype(dtype if dtype != "float16" or kind == "dense" else "float32"))
    if kind != "dense":
        for name in ("indices", "indptr"):
            setattr(
                stored, name, getattr(stored, name).astype(data.draw(st.sampled_from(["int32", "int64", "uint16"])))
            )
    packing = data.draw(st.sampled_from([{}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True}]))
    chunks = data.draw(st.sampled_from([None, 1, 3]))
    if chunks:
        packing = packing | {
            "chunks": (chunks,) if kind != "dense" else (chunks, 1),
            "maxshape": (None,) * stored_rank(kind),
        }
    path = written_by_hand(tmp_path_factory.mktemp("packing") / "a.h5ad", stored, **packing)
    np.testing.assert_array_equal(assembled(path, "X", most, values.shape), values)


def stored_rank(kind: str) -> int:
    return 2 if kind == "dense" else 1


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_unsorted_repeated_and_stored_zeros(tmp_path, kind):
    parts = np.array([5, 1, 0, 2, 3.0]), np.array([2, 0, 1, 0, 1]), np.array([0, 4, 5])
    matrix = sparse.csr_matrix(parts, shape=(2, 3)) if kind == "csr" else sparse.csc_matrix(parts, shape=(3, 2))
    expected = np.array([[3, 0, 5], [0, 3, 0]])
    expected = expected if kind == "csr" else expected.T
    path = written_by_hand(tmp_path / "a.h5ad", matrix)
    for most in (1, 9):
        np.testing.assert_array_equal(assembled(path, "X", most, expected.shape), expected)
    assert io.stored_values(path, "X") == 5


def test_true_and_false_are_counts(tmp_path):
    np.testing.assert_array_equal(assembled(written_by_hand(tmp_path / "a.h5ad", ROWS > 0)), ROWS > 0)


def test_repeated_entries_that_add_up_to_more_than_fits(tmp_path):
    parts = np.array([2**31 - 1, 1]), np.array([1, 1]), np.array([0, 2])
    path = written_by_hand(tmp_path / "a.h5ad", sparse.csr_matrix(parts, shape=(1, 2)))
    with pytest.raises(UserError, match=r"above 2\^31 - 1"):
        list(io.blocks(path, "X", 10))


def test_the_message_counts_what_was_read_so_far(tmp_path):
    values = ROWS.astype(float)
    values[3, 1] = 0.5
    reading = io.blocks(written(tmp_path / "a.h5ad", sparse.csr_matrix(values)), "X", 3)
    assert next(reading).counts.nnz == 3
    with pytest.raises(UserError) as error:
        list(reading)
    assert error.value.what.startswith("1 of the first 6 stored values is not a whole number (0.5)")
    assert error.value.where == f"{tmp_path / 'a.h5ad'}, X"
    assert readers() == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_a_matrix_without_a_count(tmp_path, kind):
    path = written(tmp_path / "a.h5ad", FORMATS[kind](np.zeros((3, 2))))
    with pytest.raises(UserError, match="there is not a single count"):
        list(io.blocks(path, "X", 10))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("kind", FORMATS)
def test_no_cells_or_no_genes(tmp_path, kind, shape):
    path = written_by_hand(tmp_path / "a.h5ad", FORMATS[kind](np.zeros(shape)))
    with pytest.raises(UserError, match=f"the matrix has {shape[0]} cells and {shape[1]} genes"):
        list(io.blocks(path, "X", 10))


def test_how_much_there_is(tmp_path):
    assert io.stored_values(written(tmp_path / "a.h5ad", sparse.csr_matrix(ROWS)), "X") == np.count_nonzero(ROWS)
    assert io.stored_values(written(tmp_path / "b.h5ad", ROWS), "X") is None


def test_names_of_genes(tmp_path):
    data = anndata.AnnData(ROWS, var={"symbol": ["A", "", "A"]})
    data.raw = anndata.AnnData(ROWS[:, :2], var={"name": ["x", "y"]})
    path = stored(data, tmp_path / "a.h5ad")
    assert [list(names) for names in io.read_genes(path, "X", "var/symbol")] == [["0", "1", "2"], ["A", "1", "A"]]
    assert [list(names) for names in io.read_genes(path, "raw", "var/name")] == [["0", "1"], ["x", "y"]]
    assert io.read_genes(path, "X")[1] is None
    with pytest.raises(UserError, match="raw/var has no column 'symbol'"):
        io.read_genes(path, "raw", "var/symbol")


# ---- one block ahead, in a thread that ends


def test_one_block_is_read_while_the_caller_works_and_no_more():
    begun, second = [], threading.Event()

    def spans():
        for first in range(9):
            begun.append(first)
            yield first, first + 1

    def read(first, last):
        assert threading.current_thread().name.startswith(READER)
        if first == 1:
            second.set()
        return first

    reading = _ahead(read, spans())
    assert next(reading) == 0
    assert second.wait(10)
    assert begun == [0, 1]
    assert next(reading) == 1
    assert begun == [0, 1, 2]
    reading.close()
    assert readers() == 0
    assert list(_ahead(read, spans())) == list(range(9))
    assert readers() == 0


@pytest.mark.parametrize("end", ["closed", "forgotten", "failed"])
def test_abandoned_reading_leaves_no_thread_and_no_file(tmp_path, end):
    path = written(tmp_path / "a.h5ad", sparse.csr_matrix(ROWS))
    before = open_files()
    reading = io.blocks(path, "X", 2)
    next(reading)
    assert open_files() > before
    if end == "closed":
        reading.close()
    elif end == "forgotten":
        del reading
    else:
        with pytest.raises(ZeroDivisionError):
            for _ in io.blocks(path, "X", 2):
                raise ZeroDivisionError
        reading.close()
    assert (open_files(), readers()) == (before, 0)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "unsorted"])
def test_memory_is_bounded(tmp_path, kind):
    """With the widest types, the caller holding its block while the next is read."""
    rng = np.random.default_rng(0)
    n, genes = 20_000, 100
    X = rng.integers(1, 1000, (n, genes)).astype(float)
    if kind == "dense":
        written_by_hand(tmp_path / "a.h5ad", X)
    else:
        X = sparse.csc_matrix(X) if kind == "csc" else sparse.csr_matrix(X)
        X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
        if kind == "unsorted":
            X.indices = X.indices.reshape(n, genes)[:, ::-1].ravel()
        written_by_hand(tmp_path / "a.h5ad", X, compression="lzf")
    del X
    next(io.blocks(tmp_path / "a.h5ad", "X", 1000))  # imports
    tracemalloc.start()
    try:
        blocks = 0
        for _ in io.blocks(tmp_path / "a.h5ad", "X", MOST):
            blocks += 1
            threading.Event().wait(0.05)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert blocks == 5
    assert peak < 40 * MOST + 16 * n


# ---- zarr


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_a_zarr_store_reads_as_the_file(tmp_path, ending):
    table = {
        "kind": ["a", "b", "a", "b", "c d", "a"],
        "donor": np.array([1, 2, 3, 1, 2, 3]),
        "share": [0.5, np.nan, 1, 2, 3, 4],
        "treated": [True, False] * 3,
    }
    data = anndata.AnnData(ROWS, obs=table, var={"symbol": ["A", "", "C"], "true_a": [0.0, 1.0, -np.inf]})
    data.obs["kind"] = data.obs["kind"].astype("category")
    data.obs["maybe"] = np.array([1, None, 2, 3, None, 4], dtype=object)
    data.obs["maybe"] = data.obs["maybe"].astype("Int64")
    data.uns["truth"] = {"contrast": "x", "columns": {"a": "true_a"}}
    file, folder = stored(data, tmp_path / "a.h5ad"), stored(data, tmp_path / f"a{ending}")
    assert io.shape(folder, "X") == (6, 3)
    assert io.obs_columns(folder) == io.obs_columns(file)
    for column in io.obs_columns(file):
        assert io.cell_types(folder, column) == io.cell_types(file, column)
    wanted = dict.fromkeys(io.obs_columns(file), "obs")
    assert io.read_obs(folder, wanted).astype(str).equals(io.read_obs(file, wanted).astype(str))
    assert list(io.read_genes(folder, "X", "var/symbol")[1]) == ["A", "1", "C"]
    expression, log2fc = io.read_truth(folder, "a")
    assert (expression, list(log2fc)) == ("x", [0.0, 1.0, -np.inf])
    assert io.read_truth(folder, "b") is None
    with pytest.raises(UserError, match="Did you mean 'donor'") as error:
        io.cell_types(folder, "donors")
    assert error.value.where == f"{folder}, configuration key cell_type"


def zipped(folder: Path) -> Path:
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w") as file:
        for entry in sorted(folder.rglob("*")):
            if entry.is_file():
                file.write(entry, entry.relative_to(folder))
    return path


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_a_zipped_zarr_store(tmp_path, ending):
    path = zipped(written(tmp_path / f"a{ending}", sparse.csc_matrix(ROWS)))
    np.testing.assert_array_equal(assembled(path), ROWS)
    with pytest.raises(UserError) as error:
        io.shape(path, "raw")
    assert error.value.where == f"{path}, configuration key counts"


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_a_zarr_store_that_was_copied_in_part(tmp_path, part, ending):
    path = written(tmp_path / f"a{ending}", sparse.csr_matrix(ROWS + 1))
    chunks = [file for file in (path / "X" / part).rglob("*") if file.is_file() and file.name.isdigit()]
    assert chunks
    for chunk in chunks:
        chunk.unlink()
    with pytest.raises(UserError, match=r"missing|contradicts itself"):
        list(io.blocks(path, "X", 4))


@pytest.mark.parametrize(
    ("packing", "files"),
    [({"chunks": (100,)}, 11), ({"chunks": (100,), "shards": (700,)}, 2), ({"chunks": (100,), "zarr_format": 2}, 11)],
)
def test_lost_files_are_counted(tmp_path, packing, files):
    array = zarr.create_array(tmp_path / "a", data=np.arange(1, 1051), **packing)
    assert store.missing_chunks(array) == 0
    chunks = [file for file in (tmp_path / "a").rglob("*") if file.is_file() and file.name.isdigit()]
    assert len(chunks) == files
    chunks[0].unlink()
    assert store.missing_chunks(zarr.open_array(tmp_path / "a", mode="r")) == 1


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_a_chunk_of_zeros_is_not_a_missing_one(tmp_path, ending):
    first = ROWS * np.array([1, 0, 0])  # all indices are 0: zarr writes no chunk
    path = written(tmp_path / f"a{ending}", sparse.csr_matrix(first))
    np.testing.assert_array_equal(assembled(path), first)


def test_folders_and_zip_files_that_are_no_stores(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(UserError, match="a folder, but not a zarr store"):
        io.shape(tmp_path / "a.zarr", "X")
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(UserError, match="not a complete zarr store"):
        io.shape(tmp_path / "a.zarr", "X")
    (tmp_path / "b.zarr.zip").write_text("x")
    with pytest.raises(UserError, match="not a complete zip file"):
        io.shape(tmp_path / "b.zarr.zip", "X")
    with zipfile.ZipFile(tmp_path / "b.zarr.zip", "w") as file:
        file.writestr("inner/zarr.json", "{}")
    with pytest.raises(UserError, match="not a complete zarr store"):
        io.shape(tmp_path / "b.zarr.zip", "X")
    with pytest.raises(UserError, match=r"Did you mean 'a.zarr'\? The data sets there are a.zarr, b.zarr.zip"):
        io.shape(tmp_path / "aa.zarr", "X")


def test_the_checksum_of_a_folder_is_of_names_and_contents(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "x").mkdir(parents=True)
        (tmp_path / folder / "x" / "0").write_bytes(b"abc")
        (tmp_path / folder / ".zattrs").write_bytes(b"{}")
    sums = [io.checksum(tmp_path / "a")]
    assert io.checksum(tmp_path / "b") == sums[0]
    (tmp_path / "b" / "x" / "0").write_bytes(b"abd")
    sums.append(io.checksum(tmp_path / "b"))
    (tmp_path / "b" / "x" / "0").write_bytes(b"abc")
    (tmp_path / "b" / "x" / "0").rename(tmp_path / "b" / "x" / "1")
    sums.append(io.checksum(tmp_path / "b"))
    assert len(set(sums)) == 3
    with pytest.raises(UserError, match="cannot read: No such file"):
        io.checksum(tmp_path / "c")


def test_what_the_parsing_of_a_snakefile_imports(tmp_path):
    path = written(tmp_path / "a.h5ad", sparse.csr_matrix(ROWS))
    code = (
        "import sys; from mlmgen import io;"
        f"io.shape({str(path)!r}, 'X'); io.cell_types({str(path)!r}, None); io.stored_values({str(path)!r}, 'X');"
        "print(*[name for name in ('zarr', 'anndata', 'pandas', 'scipy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
