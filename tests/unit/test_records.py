"""Records and seals: what was written comes back, or is refused by name, wherever a file is damaged."""

import contextlib
import dataclasses
import errno
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import io
from mlmgen.errors import UserError
from mlmgen.io import sealed
from mlmgen.types import Effects


@dataclass(frozen=True)
class Small:
    genes: tuple[str, ...]
    name: str
    beta: np.ndarray
    empty: np.ndarray


def small() -> Small:
    return Small(
        ("a", "NA ", "ü/1", ""), "x", np.array([[1.0, np.nan], [-0.0, np.inf]]), np.zeros((0, 3), dtype=np.int8)
    )


def test_a_record_comes_back(tmp_path):
    io.write_record(tmp_path / "a.npz", small(), {"method": "glmm", "settings": {"x": [1]}})
    record, meta = io.read_record(tmp_path / "a.npz", Small)
    assert meta == {"method": "glmm", "settings": {"x": [1]}} == io.read_record_meta(tmp_path / "a.npz")
    assert (record.genes, record.name) == (small().genes, "x")
    np.testing.assert_array_equal(record.beta, small().beta, strict=True)
    np.testing.assert_array_equal(np.signbit(record.beta), np.signbit(small().beta))
    np.testing.assert_array_equal(record.empty, small().empty, strict=True)
    described = io.describe_record(tmp_path / "a.npz")
    assert described == ("Small", meta, {"beta": (2, 2), "empty": (0, 3)})


def test_a_person_can_open_a_record(tmp_path):
    io.write_record(tmp_path / "a.npz", small(), {})
    with np.load(tmp_path / "a.npz") as stored:
        np.testing.assert_array_equal(stored["beta"], small().beta)


def test_records_have_the_same_bytes(tmp_path):
    io.write_record(tmp_path / "a.npz", small(), {"a": 1, "b": 2})
    io.write_record(tmp_path / "b.npz", small(), {"b": 2, "a": 1})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, bytes]:
    """A record of several blocks, and its bytes."""
    path = tmp_path_factory.mktemp("records") / "whole.npz"
    noise = np.random.default_rng(1).random((300, 300))
    io.write_record(path, replace(small(), beta=noise), {"settings": {"fit": {"family": "nb"}}})
    content = path.read_bytes()
    assert len(content) > 2 * sealed.BLOCK
    return path, content


def refused(path: Path, content: bytes) -> None:
    """Put a changed content into the file, which has to be refused by name."""
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        io.read_record(path, Small)
    assert error.value.where == str(path)
    # whose file it is cannot be told without
    has_seal = len(content) >= sealed.TRAILER.size and content.endswith(sealed.MAGIC)
    assert error.value.do == (sealed.AGAIN if has_seal else sealed.IF_OURS)


@given(st.data())
def test_a_record_that_is_cut_anywhere_is_refused(whole, data):
    path, content = whole
    refused(path, content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.data())
def test_a_record_with_any_bit_changed_is_refused(whole, data):
    path, content = whole
    # hypothesis prefers the ends, where the directory and the seal are
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    refused(path, content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])


def test_a_record_with_any_byte_of_its_directory_or_seal_changed_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    io.write_record(path, small(), {})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        directory = file.start_dir
    for place in (*range(40), *range(directory, len(content))):
        refused(path, content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :])


@given(st.binary(max_size=200))
def test_bytes_behind_or_instead_of_a_record_are_refused(whole, more):
    path, content = whole
    refused(path, more)
    if more:
        refused(path, content + more)


def test_all_records_that_cannot_be_read_are_named(tmp_path):
    paths = [tmp_path / f"{i}-of-3.npz" for i in (1, 2, 3)]
    for path in paths:
        io.write_record(path, small(), {})
    assert len(io.read_records(paths, Small)) == 3
    paths[0].unlink()
    with pytest.raises(UserError, match=r"there is no such file \(in .*1-of-3"):
        io.read_records(paths, Small)
    paths[2].write_bytes(b"")
    with pytest.raises(UserError, match=r"2 of 3 files cannot be used; the first: there is no .*1-of-3.*, .*3-of-3"):
        io.read_records(paths, Small)


def test_records_of_genes_that_were_not_fitted_take_little_space(tmp_path):
    io.write_record(tmp_path / "a.npz", replace(small(), beta=np.full((1000, 100), np.nan)), {})
    assert (tmp_path / "a.npz").stat().st_size < 0.02 * 1000 * 100 * 8


def test_foreign_records_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    io.write_record(path, small(), {})
    with pytest.raises(UserError, match="holds Small in layout 2, not Effects"):
        io.read_record(path, Effects)
    np.savez(path, x=np.arange(3))
    with pytest.raises(UserError, match="damaged or not mlmgen's"):
        io.read_record(path, Small)
    sealed.seal(path)
    with pytest.raises(UserError, match="damaged or not mlmgen's: 'record is not"):
        io.read_record(path, Small)
    with pytest.raises(UserError, match="no such file"):
        io.read_record(tmp_path / "none.npz", Small)


def test_a_record_with_other_fields_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Other:
        genes: tuple[str, ...]

    Other.__name__ = "Small"
    io.write_record(tmp_path / "a.npz", Other(("a",)), {})
    with pytest.raises(UserError, match="another version of mlmgen"):
        io.read_record(tmp_path / "a.npz", Small)


# ---- seals


@given(st.integers(0, 3 * sealed.BLOCK), st.integers(0, 3 * sealed.BLOCK), st.integers(1, 2 * sealed.BLOCK))
def test_a_sealed_file_reads_as_before(tmp_path_factory, size, start, length):
    path = tmp_path_factory.mktemp("sealed") / "a"
    content = np.random.default_rng(size).bytes(size)
    path.write_bytes(content)
    sealed.seal(path)
    with sealed.Sealed(path) as file:
        file.seek(start)
        assert file.read(length) == content[start : start + length]
        assert file.seek(0, os.SEEK_END) == size
        assert file.read(1) == b""


def test_only_blocks_that_are_read_are_looked_at(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(3 * sealed.BLOCK))
    sealed.seal(path)
    with open(path, "r+b") as file:
        file.seek(2 * sealed.BLOCK)
        file.write(b"x")
    with sealed.Sealed(path) as file:
        assert len(file.read(2 * sealed.BLOCK)) == 2 * sealed.BLOCK
        with pytest.raises(UserError, match="bytes 524,288 to 786,432 have changed"):
            file.read(1)


def h5(file) -> None:
    with h5py.File(file, "w") as content:
        content["names"] = np.array(["a", "ü"], dtype=object)
        content.create_dataset("x", data=np.arange(60_000.0), chunks=(8192,))
        content.attrs["n"] = 3


def test_hdf5_in_a_seal(tmp_path):
    path = tmp_path / "a.h5"
    with io.atomic(path) as temporary, sealed.writing(temporary) as file:
        h5(file)
    for source in (sealed.Sealed(path), path):  # a person opens it as ever
        with h5py.File(source) as content:
            np.testing.assert_array_equal(content["x"][:], np.arange(60_000.0))
            assert list(content["names"].asstr()) == ["a", "ü"]


def test_hdf5_with_any_bit_changed_is_refused_or_the_same(tmp_path):
    path = tmp_path / "a.h5"
    with sealed.writing(path) as file:
        h5(file)
    content = path.read_bytes()
    rng = np.random.default_rng(5)
    for place in (*range(100), *rng.integers(0, len(content), 100)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :])
        with pytest.raises(UserError, match="damaged or not mlmgen's"), h5py.File(sealed.Sealed(path)) as found:
            found["x"][:], found["names"].asstr()[:], dict(found.attrs)


# ---- prepared files and runs


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """A small study, split and prepared."""
    from tests.unit.stages_run import Run
    from tests.unit.test_stages import study

    made = Run(tmp_path_factory.mktemp("counts"), study(), cell_types=["B"])
    made.prepare()
    return made


def everything(path: str) -> list:
    """All that `mlmgen.io` reads of a prepared file."""
    X, obs, var = io.read_prepared_cells(path)
    one = io.read_counts(path, 2, 7)
    parts = [io.read_meta(path), dataclasses.asdict(io.read_design(path)), dataclasses.asdict(one)]
    return [*parts, io.read_gene_statistics(path), X.toarray(), obs.to_dict("list"), var.to_dict("list")]


@pytest.mark.parametrize("level", ["prepared", "pseudobulk"])
def test_prepared_files_with_any_bit_changed_or_cut_are_refused_or_read_the_same(counts, level):
    (path,) = counts.paths(level)
    whole = Path(path).read_bytes()
    before = repr(everything(path))
    rng = np.random.default_rng(3)
    # a file of one block: all of it is looked at whatever is read
    assert len(whole) < 2 * sealed.BLOCK
    for place in rng.integers(0, len(whole), 40):
        flipped = whole[:place] + bytes([whole[place] ^ 1 << rng.integers(8)]) + whole[place + 1 :]
        for content in (flipped, whole[:place]):
            Path(path).write_bytes(content)
            try:
                after = repr(everything(path))
            except UserError as error:
                assert error.where == path  # noqa: PT017 (or it is the same)
            else:
                assert after == before
    Path(path).write_bytes(whole)
    assert repr(everything(path)) == before


def test_runs_with_any_bit_changed_are_refused(counts):
    from mlmgen.io import runs

    path = counts.folder / "split" / "B.h5"
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    for place in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.integers(8)]) + whole[place + 1 :])
        with pytest.raises(UserError, match="damaged or not mlmgen's") as error, runs.reading(path) as found:
            runs.merged(found, (0, found.n_genes), np.arange(found.n_cells))
        assert error.value.where == str(path)
    path.write_bytes(whole)
    with runs.reading(path) as found:
        runs.merged(found, (0, found.n_genes), np.arange(found.n_cells))


# ---- disks


LIMITED = """
import resource, signal, sys
import numpy as np
from mlmgen import io
from mlmgen.errors import UserError
from mlmgen.io import sealed
import tests.unit.test_records as cases
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
path = sys.argv[1]
def record():
    io.write_record(path, cases.replace(cases.small(), beta=np.random.default_rng(1).random((300, 300))), {})
def hdf5():
    with io.atomic(path) as temporary, sealed.writing(temporary) as file:
        cases.h5(file)
def text():
    io.write_text(path, "x" * 30_000)
try:
    locals()[sys.argv[2]]()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["record", "hdf5", "text"])
def test_a_file_that_may_not_grow_leaves_the_earlier_one(tmp_path, kind):
    """As on a full disk, without the rights to make one; libhdf5 itself would crash."""
    path = tmp_path / "a"
    path.write_text("earlier")
    command = [sys.executable, "-c", LIMITED, str(path), kind]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("cannot write: File too large"), finished.stdout
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["a"]


# ---- several files at once


def test_files_move_together_and_the_last_one_last(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("earlier")
    (tmp_path / "done").write_text("earlier")
    moved = []
    replace_ = os.replace
    monkeypatch.setattr(os, "replace", lambda one, other: (moved.append(Path(other).name), replace_(one, other)))
    with io.together(tmp_path, last="done") as temporary:
        for name in ("done", "a", "z"):
            (temporary / name).write_text("new")
        assert (tmp_path / "a").read_text() == "earlier"
    assert moved == ["a", "z", "done"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(("a", "z", "done"), "new")


def test_a_failure_moves_none_of_them(tmp_path):
    (tmp_path / "a").write_text("earlier")
    with (
        pytest.raises(UserError, match=r"cannot write: No space left on device \(in "),
        io.together(tmp_path, last="done") as temporary,
    ):
        (temporary / "a").write_text("new")
        raise OSError(errno.ENOSPC, "full")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "earlier"}


def test_between_two_renames_the_set_does_not_look_complete(tmp_path, monkeypatch):
    (tmp_path / "done").write_text("earlier")

    def killed(one, other):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt), io.together(tmp_path, last="done") as temporary:
        (temporary / "a").write_text("new")
    assert not (tmp_path / "done").exists()


def test_what_killed_jobs_left_is_deleted_unless_it_is_new(tmp_path):
    old, new = tmp_path / "fits" / ".a.npz.0123456789abcdef.tmp", tmp_path / ".b.0123456789abcdef.tmp"
    folder, kept = tmp_path / ".tables.0123456789abcdef.tmp", tmp_path / ".other.tmp"
    old.parent.mkdir()
    folder.mkdir()
    for path in (old, new, kept, folder / "effects.parquet"):
        path.write_text("x")
    for path in (old, kept, folder / "effects.parquet", folder):
        os.utime(path, (100, 100))
    assert io.delete_leftovers(tmp_path, before=200) == [str(folder), str(old)]
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([kept.name, new.name, "fits"])


# ---- JSON


def test_json_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "a.json"
    io.write_json(path, {"weights": [0.1, 2.0], "name": "ü"})
    assert io.read_json(path) == {"weights": [0.1, 2.0], "name": "ü"}
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with contextlib.suppress(UserError):  # or it was white space
            assert io.read_json(path) == {"weights": [0.1, 2.0], "name": "ü"}
