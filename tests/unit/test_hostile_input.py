"""Files that are damaged, lie or hold what nobody expects: a UserError that names the thing, or a correct result."""

import shutil
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from mlmgen import io, names
from mlmgen.errors import UserError
from mlmgen.prepare import check_unique, labels
from tests.unit.stores import ENDINGS, stored

COUNTS = np.array([[1, 0, 2], [0, 0, 3], [4, 0, 0], [0, 5, 1]])
ZARR = [f"a{ending}" for ending in ENDINGS[1:]]
PLACES = ("X", "raw", "layers/csc", "layers/dense")
NAMES = ["../x", "CD4+ T/NK", "a/b/../../c", ".", "..", "-rf", "$(touch x)", "a\nb", "n" * 300, "", "γδ T", " ", "con"]
NAMES += ["cd4+ t/nk", "~", "*", "{slug}", "a.h5ad", "NA", "nan", "None", "\u202etxt", "é", "e\u0301"]


def example() -> anndata.AnnData:
    X = sparse.csr_matrix(COUNTS.astype(np.float32))
    obs = pd.DataFrame(index=[f"c{i}" for i in range(4)])
    obs["kind"] = pd.Categorical(list("abba"), categories=list("xba"))
    obs["text"], obs["number"] = list("wxyz"), [0.5, np.nan, 2, 1]
    obs["maybe"] = pd.array([True, None, False, True], dtype="boolean")
    var = pd.DataFrame({"symbol": ["A", "", "C"], "true": [0.0, 1, 2]}, index=["g0", "g1", "g2"])
    data = anndata.AnnData(X, obs=obs, var=var)
    data.raw = data.copy()
    data.layers.update(csc=X.tocsc(), dense=COUNTS)
    data.uns["truth"] = {"contrast": "x", "columns": {"a": "true"}}
    return data


def read_everything(path: Path) -> list:
    """Call every function that reads the input; the errors that the user would see."""
    columns = ("kind", "text", "number", "maybe")
    calls = [lambda c=c: io.cell_types(path, c) for c in (*columns, None)]
    calls += [lambda c=c: list(io.blocks(path, c, 3)) for c in PLACES]
    calls += [lambda c=c: io.stored_values(path, c) for c in PLACES]
    calls += [lambda c=c: io.shape(path, c) for c in PLACES]
    calls += [lambda: io.obs_columns(path), lambda: io.read_obs(path, dict.fromkeys(columns, "key"))]
    calls += [lambda: io.read_genes(path, "X", "var/symbol"), lambda: io.read_genes(path, "raw")]
    calls += [lambda: io.alternatives(path, "X"), lambda: io.read_truth(path, "a")]
    errors = []
    for call in calls:
        try:
            call()
        except UserError as error:
            errors.append(str(error))
    return errors


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    found = {name: folder / name for name in ("plain.h5ad", "packed.h5ad", *ZARR)}
    example().write_h5ad(found["plain.h5ad"])
    example().write_h5ad(found["packed.h5ad"], compression="gzip")
    for name in ZARR:
        stored(example(), found[name])
    return found


@pytest.fixture
def changed(sound, tmp_path):
    """A copy to be changed: call it with a function of the open file."""

    def change(function) -> Path:
        path = shutil.copy(sound["plain.h5ad"], tmp_path / "a.h5ad")
        with h5py.File(path, "a") as file:
            function(file)
        return path

    return change


@pytest.mark.parametrize("name", ["plain.h5ad", "packed.h5ad", *ZARR])
def test_the_sound_file_has_no_errors(sound, name):
    assert read_everything(sound[name]) == []


# ---- damage


@pytest.mark.parametrize("name", ["plain.h5ad", "packed.h5ad"])
def test_a_file_cut_anywhere(sound, tmp_path, name):
    whole = sound[name].read_bytes()
    for size in np.unique(
        np.concatenate([np.linspace(0, len(whole) - 1, 25).astype(int), [1, 8, 100, len(whole) - 2]])
    ):
        path = tmp_path / "cut.h5ad"
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="not a complete HDF5 file") as error:
            io.cell_types(path, "kind")
        assert error.value.where == str(path)
    assert len(read_everything(path)) == 23


@settings(max_examples=15)
@given(st.sampled_from(ZARR), st.sampled_from(["gone", "empty", "cut", "changed"]), st.data())
def test_a_store_with_one_bad_file(sound, tmp_path_factory, name, how, data):
    path = tmp_path_factory.mktemp("bad") / "a.zarr"
    shutil.copytree(sound[name], path)
    files = sorted(entry.relative_to(path) for entry in path.rglob("*") if entry.is_file())
    file = path / data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 0x55
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "cut": content[:place], "changed": content}[how])
    read_everything(path)


def test_compressed_values_that_are_damaged(changed):
    path = changed(lambda file: replace(file, "X/data", np.ones(6), compression="gzip", chunks=(6,)))
    with h5py.File(path, "a") as file:
        file["X/data"].id.write_direct_chunk((0,), b"no gzip")
    with pytest.raises(UserError) as error:
        list(io.blocks(path, "X", 9))
    assert error.value.where == f"{path}, X"
    assert "this cannot be read" in error.value.what


# ---- structure


def replace(file: h5py.File, name: str, values, **options) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values, **options)
    file[name].attrs.update(attributes)


LIES = {
    "too short": ("X/indptr", [0, 2, 3, 6]),
    "not from 0": ("X/indptr", [1, 2, 3, 4, 6]),
    "decreasing": ("X/indptr", [0, 3, 2, 4, 6]),
    "beyond": ("X/indptr", [0, 2, 3, 4, 7]),
    "huge": ("X/indptr", [0, 2, 2**62, 2**62, 6]),
    "of floats": ("X/indptr", [0, 2, 3, 4, 6.0]),
    "in two dimensions": ("X/indptr", [[0, 2, 3, 4, 6]]),
    "negative index": ("X/indices", [0, 2, -1, 0, 1, 2]),
    "index beyond": ("X/indices", [0, 2, 3, 0, 1, 2]),
    "huge index": ("X/indices", [0, 2, 2**40, 0, 1, 2]),
    "few indices": ("X/indices", [0, 2, 2, 0, 1]),
    "few values": ("X/data", [1, 2, 3, 4.0]),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("most", [1, 100])
def test_sparse_matrices_that_lie(changed, lie, most):
    name, values = LIES[lie]
    path = changed(lambda file: replace(file, name, np.array(values)))
    with pytest.raises(UserError, match="the sparse matrix X contradicts itself"):
        list(io.blocks(path, "X", most))


@pytest.mark.parametrize(
    ("name", "values"), [("layers/csc/indptr", [0, 2, 9, 6]), ("layers/csc/indices", [0, 4, 3, 0, 1, 3])]
)
def test_matrices_by_gene_that_lie(changed, name, values):
    path = changed(lambda file: replace(file, name, np.array(values)))
    with pytest.raises(UserError, match="the sparse matrix layers/csc contradicts itself"):
        list(io.blocks(path, "layers/csc", 2))


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2**40, 3), (3,), (4, 3, 1), (4.0, 3.0), "4x3"])
def test_a_shape_that_is_not_that_of_obs_and_var(changed, shape):
    path = changed(lambda file: file["X"].attrs.__setitem__("shape", shape))
    for call in (lambda: io.shape(path, "X"), lambda: list(io.blocks(path, "X", 9))):
        with pytest.raises(UserError, match=r"the matrix has|X is not a matrix but csr_matrix"):
            call()


def removed(*gone):
    def remove(file):
        for name in gone:
            del file[name]

    return remove


def attribute(name, key, value):
    return lambda file: file[name].attrs.__setitem__(key, value)


def array(name, *values):
    return lambda file: replace(file, name, *values)


STRUCTURES = {
    "no matrix": (removed("X"), "the file has no X"),
    "no values": (removed("X/data"), "the sparse matrix X contradicts itself"),
    "a table": (lambda file: (removed("X")(file), file.copy("obs", "X")), "X is not a matrix but dataframe"),
    "one dimension": (lambda file: (removed("X")(file), file.create_dataset("X", data=[1.0])), "X is not a matrix"),
    "no obs": (removed("obs"), "the file has no obs"),
    "obs is an array": (lambda file: (removed("obs")(file), file.create_dataset("obs", data=[1])), "before 0.7"),
    "no cell names": (removed("obs/_index"), "there are no names of the rows"),
    "wrong name of the index": (attribute("var", "_index", "nobody"), "there are no names of the rows"),
    "index is no name": (attribute("var", "_index", 3), "there are no names of the rows"),
    "index is a column of categories": (attribute("obs", "_index", "kind"), "there are no names of the rows"),
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_structures_that_are_no_anndata(changed, case):
    change, expected = STRUCTURES[case]
    path = changed(change)
    with pytest.raises(UserError, match=expected):
        list(io.blocks(path, "X", 9))
    read_everything(path)


COLUMNS = {
    "codes beyond": (array("obs/kind/codes", np.array([0, 1, 3, 2], "i1")), "not numbers from -1 to 2|cannot be read"),
    "codes of text": (array("obs/kind/codes", list("abba")), "not numbers from -1 to 2|cannot be read"),
    "few codes": (array("obs/kind/codes", np.array([0, 1], "i1")), "does not have one value for each of the 4 rows"),
    "no codes": (removed("obs/kind/codes"), "does not have one value|cannot be read"),
    "categories twice": (array("obs/kind/categories", list("xaa")), "same category twice|must be unique"),
    "unknown": (lambda file: file["obs"].create_group("odd"), "no column 'kind'|kind"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_that_lie(changed, case):
    change, expected = COLUMNS[case]
    path = changed(change)
    if case == "unknown":
        attribute_path = changed(lambda file: (removed("obs/kind")(file), file["obs"].create_group("kind")))
        path, expected = attribute_path, "does not have one value"
    for call in (lambda: io.cell_types(path, "kind"), lambda: io.read_obs(path, {"kind": "cell_type"})):
        with pytest.raises(UserError, match=expected) as error:
            call()
        assert "kind" in str(error.value) or "categorical" in error.value.what
        assert str(path) in error.value.where


# ---- values


VALUES = {
    "text": (list("abcdef"), "the values are of type object, not numbers"),
    "complex": (np.arange(6) * 1j, "the values are of type complex128, not numbers"),
    "fractions": ([1, 2, 3.5, 4, 5, 1], "is not a whole number (3.5): these are normalized values"),
    "normalized": (np.log1p([1, 2, 3, 4, 5, 1]), "are not whole numbers (0.693147, 1.09861, 1.38629)"),
    "large": (np.array([1, 2**31, 1, 1, 1, 1]), "is above 2^31 - 1 (2.14748e+09)"),
    "huge": ([1, 1e300, 1, 1, 1, 1], "is above 2^31 - 1 (1e+300)"),
    "largest": (np.full(6, 2**64 - 1, dtype=np.uint64), "are above 2^31 - 1"),
    "negative": ([1, -1, 1, 1, 1, 1], "is negative (-1)"),
    "nan": ([1, np.nan, 1, 1, 1, 1], "is not finite (nan)"),
    "infinite": ([1, 1, -np.inf, 1, 1, np.inf], "are not finite (-inf, inf)"),
    "half floats": (np.array([1, 60000, np.inf, 1, 1, 1], np.float16), "is not finite (inf)"),
    "zeros": (np.zeros(6), "there is not a single count"),
}


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("case", VALUES)
def test_values_that_are_no_counts(changed, case, kind):
    values, expected = VALUES[case]

    def change(file):
        if kind == "sparse":
            return replace(file, "X/data", values)
        dense = np.zeros((4, 3), dtype=np.asarray(values).dtype)
        dense[np.nonzero(COUNTS)] = values
        del file["X"]
        return file.create_dataset("X", data=dense.astype(object) if case == "text" else dense)

    path = changed(change)
    with pytest.raises(UserError) as error:
        list(io.blocks(path, "X", 100))
    assert expected in error.value.what
    assert error.value.where == f"{path}, X"
    if case not in ("text", "complex", "zeros"):
        assert error.value.do == "Set counts to raw or layers/csc or layers/dense, where whole numbers are"


def test_a_damaged_layer_is_no_alternative(changed):
    def change(file):
        replace(file, "X/data", np.full(6, 0.5))
        replace(file, "layers/csc/data", list("abcdef"))
        del file["layers/dense"], file["raw/X/data"]
        file["layers/dense"] = h5py.SoftLink("/nowhere")
        file["layers/table"] = file["obs"]

    path = changed(change)
    with pytest.raises(UserError, match="No other matrix of this file holds whole numbers"):
        list(io.blocks(path, "X", 9))


# ---- columns of obs


KINDS = {
    "bool": np.array([True, False, True, True]),
    "int8": np.array([1, -2, 1, 1], dtype=np.int8),
    "uint64": np.array([1, 2**63, 1, 1], dtype=np.uint64),
    "float32": np.array([1, 2.5, np.nan, np.inf], dtype=np.float32),
    "nullable int": pd.array([1, None, 3, 1], dtype="Int16"),
    "nullable bool": pd.array([True, None, True, True], dtype="boolean"),
    "nullable text": pd.array(["a", None, "", "b"], dtype="string"),
    "text": np.array(["a", "γδ", "", "a"], dtype=object),
    "categories": pd.Categorical(["a", None, "γδ", "a"], categories=["unused", "γδ", "a"]),
    "categories of bools": pd.Categorical([True, False, None, True]),
    "categories of ints": pd.Categorical([3, 1, None, 1], categories=[2, 1, 3]),
    "categories of floats": pd.Categorical([1.0, 2.5, None, 1.0]),
}
EMPTY = {
    "all NaN": np.full(4, np.nan),
    "no category": pd.Categorical([None] * 4),
    "unused categories": pd.Categorical([None] * 4, categories=["a"]),
    "all missing": pd.array([None] * 4, dtype="Int64"),
}


def with_column(tmp_path: Path, values, ending: str) -> Path:
    table = pd.DataFrame({"column": values}, index=list("wxyz"))
    return stored(anndata.AnnData(COUNTS, obs=table), tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".h5ad", ".3.zarr"])
@pytest.mark.parametrize("kind", [*KINDS, *EMPTY])
def test_columns_of_every_kind(tmp_path, kind, ending):
    values = (KINDS | EMPTY)[kind]
    path = with_column(tmp_path, values, ending)
    column = io.read_obs(path, {"column": "cell_type"})["column"]
    expected = [None if pd.isna(value) else names.text(value) for value in pd.Series(values).tolist()]
    assert list(labels(column)) == expected
    if kind in EMPTY:
        with pytest.raises(UserError, match="obs column 'column' has no values"):
            io.cell_types(path, "column")
    else:
        assert io.cell_types(path, "column") == tuple(sorted(set(expected) - {None}))


def test_times_are_no_cell_types(tmp_path):
    path = with_column(tmp_path, pd.Categorical(pd.to_datetime(["2020", "2021", "2020", "2020"])), ".3.zarr")
    with pytest.raises(UserError, match=r"obs/column/categories holds datetime64\[ns\], not labels"):
        io.cell_types(path, "column")


# ---- names


def test_names_of_cell_types_stay_in_their_folder(tmp_path):
    rows = len(NAMES)
    data = anndata.AnnData(np.ones((rows, 2)), obs=pd.DataFrame({"kind": NAMES}, index=map(str, range(rows))))
    data.write_h5ad(tmp_path / "a.h5ad")
    present = io.cell_types(tmp_path / "a.h5ad", "kind")
    assert present == tuple(sorted(NAMES))
    files = names.select(present, "all", "kind")
    assert set(files.values()) == set(NAMES)
    (tmp_path / "out").mkdir()
    for file in files:
        path = tmp_path / "out" / f"{file}.h5ad"
        assert path.resolve().parent == (tmp_path / "out").resolve()
        path.write_text("x")
    assert len(list((tmp_path / "out").iterdir())) == rows


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["plain.h5ad", ZARR[1]])
def test_any_cell_type_can_be_asked_for_its_truth(sound, kind, name):
    assert io.read_truth(sound[kind], name) is None
    with pytest.raises(UserError, match="the file has no layers/"):
        io.shape(sound[kind], f"layers/{name}")
    with pytest.raises(UserError, match="obs has no column"):
        io.cell_types(sound[kind], name)


TEXTS = st.text(st.characters(), max_size=300) | st.sampled_from(NAMES) | st.text("aAbB. -_/", max_size=6)


def is_file_name(text: str) -> bool:
    plain = "/" not in text and "\\" not in text and "\0" not in text and text not in ("", ".", "..")
    return plain and not text.startswith(("-", ".")) and len(text.encode("ascii")) + len(".h5ad.tmp") < 200


@given(st.lists(TEXTS, min_size=1, max_size=8, unique=True), st.data())
def test_file_names_are_safe_and_unique(cell_types, data):
    # names that are the file names of others
    cell_types = list(dict.fromkeys(cell_types + [names.slug(name) for name in cell_types[:2]]))
    cell_types = list(dict.fromkeys(cell_types + list(names.select(cell_types, "all", None))[:2]))
    files = names.select(cell_types, "all", "kind")
    assert list(files.values()) == cell_types
    assert all(map(is_file_name, files))
    assert len({file.casefold() for file in files}) == len(cell_types)
    some = data.draw(st.lists(st.sampled_from(cell_types), min_size=1, unique=True))
    chosen = names.select(cell_types, some, "kind")
    assert set(chosen.values()) == set(some)
    assert chosen.items() <= files.items()


@given(TEXTS)
def test_an_unknown_cell_type_is_a_user_error(name):
    with pytest.raises(UserError, match="no cell is of the cell type"):
        names.select([f"{name}x", f"{name}y"], [name], "kind")


@pytest.mark.parametrize("ending", [".h5ad", ".3.zarr"])
def test_repeated_names_of_cells_and_genes_are_named(tmp_path, ending):
    data = anndata.AnnData(COUNTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the repeated names
        data.obs_names, data.var_names = list("abca"), ["g", "h/1", "h/1"]
    path = stored(data, tmp_path / f"a{ending}")
    cells, genes = np.asarray(io.read_obs(path, {}).index), io.read_genes(path, "X")[0]
    assert (list(cells), list(genes)) == (list("abca"), ["g", "h/1", "h/1"])
    for found, kind, name in ((cells, "cell", "a"), (genes, "gene", "h/1")):
        with pytest.raises(UserError, match=f"1 {kind} name occurs more than once: {name}"):
            check_unique(found, kind, "a", "b")
    assert sum(block.counts.sum() for block in io.blocks(path, "X", 3)) == COUNTS.sum()


def test_text_that_is_no_unicode(changed):
    latin = np.array([b"caf\xe9", b"x", b"x", b"x"], dtype="S4")
    path = changed(lambda file: replace(file, "obs/text", latin.astype(object), dtype=h5py.string_dtype("utf-8")))
    assert io.cell_types(path, "text") == ("caf\ufffd", "x")
