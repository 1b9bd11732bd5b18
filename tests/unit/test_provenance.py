"""Records of another configuration, version, input or gene list are refused by name; tables say what made them."""

import copy
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import (
    config,
    describe,
    io,
    provenance,
    run_report,
    stages_fit,
    stages_prepare,
    stages_stability,
    stages_tables,
)
from mlmgen.errors import UserError
from mlmgen.io import runs, sealed
from mlmgen.types import Effects, GeneFits, Moderated
from tests.unit.stages_run import Run
from tests.unit.test_stages import study

KEYS = {"cell_types": ["B"], "methods": ["glmm"], "filters": {"min_cells_per_donor": 2, "min_cells_expressing": 2}}
SHARDS = 3
CLASSES = {"fits": GeneFits, "moderated": Moderated, "tests": Effects}


class Sharded(Run):
    """One method, one cell type, three shards."""

    def shard(self, kind: str, i: int) -> str:
        return str(self.folder / kind / "glmm" / "B" / f"{i}-of-{SHARDS}.npz")

    @property
    def moderated(self) -> str:
        return str(self.folder / "moderated" / "glmm" / "B.npz")

    def fit(self, method: str = "glmm") -> None:
        (path,) = self.paths("prepared")
        for i in range(1, SHARDS + 1):
            stages_fit.fit(path, method, (i, SHARDS), self.shard("fits", i), self.settings("fit"), 1)
        self.moderate()
        for i in range(1, SHARDS + 1):
            self.test(i)

    def moderate(self, order=(1, 2, 3), settings: dict | None = None, output: str | None = None) -> None:
        fits = [self.shard("fits", i) for i in order]
        settings = self.settings("moderate") if settings is None else settings
        stages_fit.moderate(self.paths("prepared")[0], fits, output or self.moderated, settings, 1)

    def test(self, i: int, settings: dict | None = None, fits: int | None = None) -> None:
        files = (self.paths("prepared")[0], self.shard("fits", fits or i), self.moderated)
        settings = self.settings("test") if settings is None else settings
        stages_fit.test(*files, (i, SHARDS), self.shard("tests", i), settings, 1)

    def leave_out(self, method: str = "glmm") -> None:
        output, settings = str(self.record("stability", "glmm", "B")), self.settings("stability")
        folder = str(self.folder)
        stages_stability.stability(self.paths("prepared")[0], "glmm", ["glmm"], [SHARDS], folder, output, settings, 1)

    def gather(self, settings: dict | None = None) -> None:
        files = (self.paths("prepared"), str(self.folder / "contrasts.json"), str(self.input), ["glmm"], [SHARDS])
        settings = self.settings("tables") if settings is None else settings
        stages_tables.tables(*files, str(self.folder), settings, 1)

    def everything(self) -> None:
        self.prepare(), self.contrasts(), self.fit(), self.leave_out(), self.gather()


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Sharded:
    made = Sharded(tmp_path_factory.mktemp("complete") / "results" / "x", study(), **KEYS)
    made.everything()
    return made


@pytest.fixture
def made(complete, tmp_path) -> Sharded:
    """A copy of the complete run, which reads the same input."""
    folder = tmp_path / "results" / "x"
    shutil.copytree(complete.folder, folder)
    one = copy.copy(complete)
    one.folder = folder
    return one


def rewritten(path: str, cls: type, **meta) -> None:
    """Write a record again with changes of what it says about itself, as another run would have."""
    record, said = io.read_record(path, cls)
    io.write_record(path, record, provenance_of(said, meta))


def provenance_of(said: dict, changes: dict) -> dict:
    changed = copy.deepcopy(said)
    for key, value in changes.items():
        *groups, last = key.split("__")
        inner = changed
        for group in groups:
            inner = inner[group]
        inner[last] = value
    return changed


FOREIGN = {
    "settings__fit__family": ("poisson", "fit.family is poisson there and nb in this run"),
    "settings__fit__method_version": (0, "fit.method_version is 0 there and "),
    "settings__prepare__formula": ("~ 1", "prepare.formula is ~ 1 there and ~ arm + (1 | donor) in this run"),
    "settings__split__counts": ("layers/raw", "split.counts is layers/raw there and X in this run"),
    "input": ("abc", "its input has the checksum abc..., that of this run "),
    "reference": ({"arm": "stim"}, "reference.arm is stim there and ctrl in this run"),
    "genes__names": ("abc", "its genes are not those of this run"),
    "genes__of": (13, "genes.of is 13 there and 12 in this run"),
    "cell_type": ("C", "cell_type is C there and B in this run"),
    "method": ("pseudobulk", "method is pseudobulk there and glmm in this run"),
}


@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize("stage", ["moderate", "test", "stability", "tables"])
def test_a_foreign_shard_is_refused_by_every_stage_that_reads_it(made, stage, key):
    value, message = FOREIGN[key]
    path = made.shard("tests" if stage in ("stability", "tables") else "fits", 2)
    rewritten(path, CLASSES["tests" if "tests" in path else "fits"], **{key: value})
    before = {file: file.read_bytes() for file in made.folder.glob("*.*")}
    run = {"moderate": made.moderate, "test": lambda: made.test(2), "stability": made.leave_out, "tables": made.gather}
    with pytest.raises(UserError) as error:
        run[stage]()
    assert message in str(error.value)
    assert str(error.value).startswith("1 file is not of this run: ")
    assert error.value.where == path
    assert error.value.do == f"Delete and run again: rm -r {path}"
    assert {file: file.read_bytes() for file in made.folder.glob("*.*")} == before


def test_foreign_fits_are_refused_even_where_all_of_them_agree(made):
    other = Sharded(made.folder.parent / "other", study(), **KEYS, family="poisson")
    other.input = made.input
    other.set(**KEYS, family="poisson")
    other.prepare(), other.fit()
    shutil.rmtree(made.folder / "fits")
    shutil.copytree(other.folder / "fits", made.folder / "fits")
    with pytest.raises(UserError, match=r"3 files are not of this run: fit.family is poisson there and nb in this run"):
        made.moderate()
    with pytest.raises(UserError, match=r"of this run: fit.family is poisson"):
        made.gather()
    shutil.copytree(other.folder / "prepared", made.folder / "prepared", dirs_exist_ok=True)
    made.set(**KEYS, formula="~ arm + age + (1 | donor)")
    with pytest.raises(UserError, match=r"prepare.formula is ~ arm \+ \(1 \| donor\) there and ~ arm \+ age"):
        made.moderate()


@pytest.mark.parametrize("order", [(1, 2), (2, 3), (1, 3, 2), (1, 2, 2), (1, 1, 2, 3), (3, 2, 1)])
def test_missing_duplicated_and_reordered_shards_are_refused(made, order):
    with pytest.raises(UserError, match=r"not of this run: .*shard is . of 3 there and . of") as error:
        made.moderate(order)
    wrong = [made.shard("fits", i) for place, i in enumerate(order, start=1) if i != place or len(order) != SHARDS]
    assert all(path in error.value.where for path in wrong[:4])


def test_a_shard_in_the_place_of_another_is_refused(made):
    shutil.copy(made.shard("tests", 1), made.shard("tests", 3))
    with pytest.raises(UserError, match=r"genes.start is 0 there and 8 in this run, .*shard is 1 of 3 there"):
        made.gather()
    with pytest.raises(UserError, match="shard is 2 of 3 there and 1 of 3 in this run"):
        made.test(1, fits=2)


def test_a_missing_shard_and_a_damaged_one_are_named_before_any_table(made):
    Path(made.shard("tests", 2)).unlink()
    with pytest.raises(UserError, match=r"there is no such file \(in .*tests/glmm/B/2-of-3.npz"):
        made.gather()
    Path(made.shard("tests", 1)).write_bytes(Path(made.shard("fits", 1)).read_bytes()[:-1])
    with pytest.raises(UserError, match="2 of 3 files cannot be used"):
        made.gather()


def test_many_foreign_files_are_named_by_their_folder():
    paths = [f"results/a b/fits/glmm/B/{i}-of-9.npz" for i in range(1, 10)]
    with pytest.raises(UserError) as error:
        provenance.refuse([(path, [("settings.fit.family", "nb", "poisson")]) for path in paths])
    assert error.value.what == "9 files are not of this run: fit.family is poisson there and nb in this run"
    assert error.value.where.endswith("... (9 in all)")
    assert error.value.do == "Delete and run again: rm -r 'results/a b/fits/glmm/B'"


def test_shards_of_two_releases_are_refused_but_stages_of_two_are_not(made):
    for i in (1, 2, 3):
        rewritten(made.shard("fits", i), GeneFits, versions__mlmgen="0.0.9")
    made.moderate()
    made.test(1)
    rewritten(made.shard("fits", 2), GeneFits, versions__mlmgen="0.0.8")
    with pytest.raises(UserError, match=r"versions.mlmgen is 0.0.8 there and 0.0.9 in this run \(in .*2-of-3"):
        made.moderate()


def test_other_versions_of_libraries_are_said_and_stored(made, capsys):
    rewritten(made.shard("fits", 2), GeneFits, versions__scipy="1.0.0")
    made.moderate()
    made.gather()
    line = f"scipy 1.0.0, {provenance.versions()['scipy']}"
    assert f"tables: warning: made with {line}: the last digits may differ" in capsys.readouterr().err
    assert f"scipy {line.removeprefix('scipy ')}" in "\n".join(described(made.folder))


def described(path: Path) -> list[str]:
    from mlmgen import description

    return list(description.lines(describe.described(Path(path))))


def test_a_command_by_hand_compares_the_files_with_each_other(made, tmp_path):
    output = str(tmp_path / "by_hand.npz")
    made.moderate(settings={}, output=output)
    by_hand, fits = (io.read_record_meta(path)["settings"] for path in (output, made.shard("fits", 1)))
    assert by_hand["fit"] == fits["fit"]
    for i in (1, 2, 3):
        made.test(i, settings={})
    made.gather(settings={"name": "x"})
    rewritten(made.shard("fits", 3), GeneFits, settings__fit__family="poisson")
    with pytest.raises(UserError, match=r"fit.family is poisson there and nb in this run \(in .*3-of-3"):
        made.moderate(settings={})


def test_counts_that_were_split_from_another_layer_are_refused(made):
    path = str(made.folder / "split" / "cells.npz")
    rewritten(path, runs.Cells, settings__counts="raw")
    arguments = (str(made.input), str(made.folder / "split" / "B.h5"), path, *made.paths("prepared"), "out.h5ad")
    with pytest.raises(UserError, match=r"split.counts is raw there and X in this run \(in .*cells.npz"):
        stages_prepare.prepare(*arguments, made.settings("prepare"), ["B"])
    assert not Path("out.h5ad").exists()


def test_contrasts_of_another_run_are_refused(made):
    path = made.folder / "contrasts.json"
    content = io.read_json(path)
    content["made_from"]["config"]["contrasts"]["contrasts"] = [["a", "arm[T.stim]"]]
    io.write_json(path, content)
    with pytest.raises(UserError, match=r"contrasts.contrasts is \[\[\"a\", \"arm\[T.stim\]\"\]\] there and null"):
        made.gather()


def test_records_say_what_they_are_made_from(complete):
    meta = io.read_record_meta(complete.shard("tests", 2))
    assert (meta["stage"], meta["method"], meta["cell_type"], meta["shard"]) == ("test", "glmm", "B", "2 of 3")
    assert (meta["genes"]["start"], meta["genes"]["stop"], meta["genes"]["of"]) == (4, 8, 12)
    assert meta["input"] == io.checksum(complete.input)
    assert set(meta["settings"]) == {"split", "prepare", "fit", "moderate", "test"}
    assert meta["settings"]["fit"] == json.loads(config.stage(complete.config, "fit"))
    assert set(meta["versions"]) == {"mlmgen", "python", "numpy", "scipy", "numba", "h5py"}


def test_a_stage_knows_the_settings_of_those_before_it(complete):
    settings = json.loads(config.chain(complete.config, "test"))
    assert set(settings.pop("before")) == {"split", "prepare", "fit", "moderate"}
    assert settings == json.loads(config.stage(complete.config, "test"))
    assert config.chain(complete.config, "split") == config.stage(complete.config, "split")
    without, with_audit = (config.load(complete.config | {"seed": 7, "audit": on}) for on in (False, True))
    assert config.chain(without, "tables") == config.chain(complete.config, "tables")
    assert json.loads(config.chain(with_audit, "tables"))["before"]["audit"]["seed"] == 7


SETTINGS = st.recursive(
    st.none() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.text("xy", min_size=1, max_size=2), inner, max_size=3),
)


@given(st.dictionaries(st.text("xy", min_size=1), SETTINGS), st.dictionaries(st.text("xy", min_size=1), SETTINGS))
def test_no_difference_means_equal(one, other):
    assert (provenance.differences(one, other) == []) == (one == other)
    assert provenance.differences(one, one) == []
    there = [(key, b, a) for key, a, b in provenance.differences(one, other)]
    assert provenance.differences(other, one) == there


# ---- tables


def test_tables_carry_their_provenance_and_pandas_does_not_mind(complete):
    said = io.read_json(complete.folder / "provenance.json")
    files = said.pop("files")
    for path in sorted(complete.folder.glob("*.parquet")):
        own, rows = io.read_provenance(path)
        assert len(pd.read_parquet(path)) == rows
        if path.stem != "design":
            assert own == said
            assert files[path.name] == {"sha256": io.checksum(path), "rows": rows}
    assert said["formula"] == "~ arm + (1 | donor)"
    assert said["input"] == {"path": str(complete.input), "sha256": io.checksum(complete.input)}
    assert set(said["config"]) == {
        "split", "prepare", "contrasts", "fit", "moderate", "test", "stability", "tables",
    }  # fmt: skip
    assert {"numpy", "pandas", "anndata", "h5py", "formulaic", "pyarrow", "snakemake", "python"} <= set(
        said["versions"]
    )
    assert set(files) == {path.name for path in complete.folder.iterdir() if path.is_file()} - {
        "provenance.json", "contrasts.json", "design.parquet", "design.tsv.gz", "study.h5ad",
    }  # fmt: skip


def test_provenance_has_the_same_bytes_and_no_name_of_the_run(made, complete):
    made.set(**KEYS, name="other")
    made.gather()
    for name in ("provenance.json", "effects.parquet"):
        if name == "effects.parquet":
            assert (made.folder / name).read_bytes() == (complete.folder / name).read_bytes()
    own, other = (io.read_json(folder / "provenance.json") for folder in (made.folder, complete.folder))
    assert own["run"] == other["run"]
    made.set(**KEYS)
    made.gather()
    assert (made.folder / "provenance.json").read_bytes() == (complete.folder / "provenance.json").read_bytes()


def test_pages_of_tables_carry_checksums(tmp_path):
    table = pd.DataFrame({"x": np.random.default_rng(1).random(5000)})
    io.write_table(tmp_path / "a", table, {"run": "x"})
    path = tmp_path / "a.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:20_000] + bytes([content[20_000] ^ 1]) + content[20_001:])
    with pytest.raises(UserError, match=r"not a complete parquet file.*a.parquet\)"):
        io.read_provenance(path)


# ---- describe


def test_a_complete_run_is_described_without_warnings(complete, capsys):
    describe.describe(str(complete.folder))
    text = capsys.readouterr().out
    assert "complete results of run" in text
    assert "warnings" not in text
    for part in ("~ arm + (1 | donor)", "every coefficient", "B: 130 cells, 6 donors, shards: glmm 3", "family nb"):
        assert part in text
    describe.describe(str(complete.folder), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["warnings"] == []
    assert found["files"]["effects.parquet"]["state"] == "complete"


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("effects.parquet", "table of 12 rows, of run "),
        ("effects.tsv.gz", "table of 12 rows, of run "),
        ("design.parquet", "table of 1 rows"),
        ("provenance.json", "complete results of run"),
        ("fits/glmm/B/2-of-3.npz", "GeneFits of the stage fit, glmm, B, shard 2 of 3, genes 4 to 8 of 12"),
        ("moderated/glmm/B.npz", "Moderated of the stage moderate, glmm, B, genes 0 to 12 of 12"),
        ("prepared/B.h5ad", "counts of B, 130 cells, 6 donors, 12 genes"),
        ("pseudobulk/B.h5ad", "counts of B, 130 cells, 6 donors, 12 genes"),
        ("contrasts.json", "contrasts of B: arm[T.stim]"),
    ],
)
def test_every_file_is_described(complete, path, part):
    lines = described(complete.folder / path)
    assert part in lines[0]
    assert any("~ arm + (1 | donor)" in line for line in lines)
    assert "  warnings" not in lines


def test_what_split_wrote_is_described(complete):
    checksum = io.checksum(complete.input)
    lines = described(complete.folder / "split" / "B.h5")
    with runs.reading(complete.folder / "split" / "B.h5") as found:
        seen = f"{found.n_cells:,} cells, 12 genes, {len(found.runs)} runs"
    assert lines[0].endswith(f"counts of B in the order of the input, {seen}")
    assert any(checksum in line for line in lines)
    lines = described(complete.cells)
    assert lines[0].endswith("Cells of the stage split")
    assert any(str(complete.input) in line for line in lines)
    version = config.METHOD_VERSIONS["split"]
    assert any(f"split, version {version}: " in line and "counts X" in line for line in lines)


def test_size_factors_of_all_cells_are_described(tmp_path):
    made = Sharded(tmp_path / "results" / "x", study(), **KEYS, size_factors="tmm")
    made.prepare()
    lines = described(made.folder / "split" / "size_factors.npz")
    assert lines[0].endswith("Factors of the stage prepare")
    assert any("size_factors tmm" in line for line in lines)
    assert any("~ arm + (1 | donor)" in line for line in lines)


def test_contrasts_of_other_tables_and_those_left_out_are_said(made):
    path = made.folder / "contrasts.json"
    stored = io.read_json(path)
    stored["left_out"]["B"] = {"x": "no donor has it"}
    stored["made_from"]["config"]["prepare"]["formula"] = "~ 1"
    io.write_json(path, stored)
    (one,) = warnings(path)
    assert one.startswith("it does not belong to the tables beside it: prepare.formula is ~ 1 there and ~ arm")
    assert "    B, x: no donor has it" in described(path)
    io.write_json(path, {"a": 1})
    with pytest.raises(UserError, match="does not say where it comes from"):
        describe.described(path)


@pytest.mark.parametrize("name", ["prepared/B.h5ad", "split/B.h5"])
def test_every_byte_is_looked_at_in_pieces(made, name, monkeypatch):
    monkeypatch.setattr(io, "read_counts", None)  # holds all counts
    monkeypatch.setattr(describe, "PIECE", 1000)
    path = made.folder / name
    assert warnings(path) == []
    monkeypatch.setattr(sealed, "BLOCK", 512)
    content = path.read_bytes()
    sealed_bytes = content[: sealed.TRAILER.unpack(content[-sealed.TRAILER.size :])[0]]
    path.write_bytes(sealed_bytes)
    sealed.seal(path)
    content = path.read_bytes()
    blocks = range(0, len(sealed_bytes), 512)
    for place in (0, blocks[len(blocks) // 2], len(sealed_bytes) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match="have changed since they were written"):
            describe.described(path)


def test_shards_of_an_earlier_cut_are_not_counted(made):
    for kind in ("fits", "tests"):
        for name in ("1-of-2.npz", "1-of-1.npz"):
            shutil.copy(made.shard(kind, 1), Path(made.shard(kind, 1)).parent / name)
            os.utime(Path(made.shard(kind, 1)).parent / name, (1e9, 1e9))  # complete or not, they are older
    assert describe.described(made.folder)["cell_types"]["B"]["shards"] == {"glmm": SHARDS}
    for name, seconds in (("1-of-1.npz", 2e9), ("1-of-2.npz", 3e9)):
        os.utime(made.folder / "fits" / "glmm" / "B" / name, (seconds, seconds))
    assert describe.described(made.folder)["cell_types"]["B"]["shards"] == {"glmm": 1}
    (made.folder / "fits" / "glmm" / "B" / "1-of-2.npz").unlink()
    (made.folder / "provenance.json").unlink()
    done = describe.described(made.folder)["done"]
    assert (done["fit"], done["test"]) == (1, SHARDS)


def test_records_of_cell_types_that_are_no_longer_analysed_say_nothing(made):
    (made.folder / "provenance.json").unlink()
    stale = made.folder / "fits" / "glmm" / "A" / "1-of-1.npz"
    stale.parent.mkdir()
    shutil.copy(made.shard("fits", 1), stale)
    rewritten(str(stale), GeneFits, settings__fit__family="poisson")
    os.utime(stale, (1e9, 1e9))
    assert describe.described(made.folder)["config"]["fit"]["family"] == "nb"
    assert run_report.news(made.folder, made.config) == []
    os.utime(stale, (3e9, 3e9))  # as the newest of all, it is what a killed run did last
    assert describe.described(made.folder)["config"]["fit"]["family"] == "poisson"
    stale.write_bytes(b"")
    assert describe.described(made.folder)["config"]["fit"]["family"] == "nb"


def warnings(path: Path) -> list[str]:
    return describe.described(Path(path))["warnings"]


def test_what_does_not_belong_together_is_said(made, complete):
    other = Sharded(made.folder.parent / "other", study(), **KEYS)
    other.input = made.input
    other.set(**KEYS, fdr="weighted")
    shutil.copytree(made.folder, other.folder, dirs_exist_ok=True)
    other.gather()
    shutil.copy(other.folder / "fits.parquet", made.folder / "fits.parquet")
    (one,) = warnings(made.folder)
    assert one.startswith("fits.parquet is not the file that was written with the others: ")
    assert "tables.fdr is weighted there and bh in the others" in one
    assert described(made.folder)[0].endswith(tuple("0123456789abcdef"))
    assert "incomplete results" in described(made.folder)[0]
    assert warnings(made.folder / "fits.parquet") == [one]
    shutil.copy(other.folder / "fits.parquet", made.folder / "mine.parquet")
    assert any(text.startswith("mine.parquet does not belong") for text in warnings(made.folder))
    (made.folder / "effects.parquet").unlink()
    assert any(text.startswith("effects.parquet is missing: run the workflow") for text in warnings(made.folder))


def test_tables_older_than_what_they_are_made_from(made, tmp_path):
    written = (made.folder / "provenance.json").stat().st_mtime
    os.utime(made.shard("fits", 1), (written + 5, written + 5))
    (one,) = warnings(made.folder)
    assert one.startswith("1 files are newer than the tables (fits/glmm/B/1-of-3.npz)")
    os.utime(made.shard("fits", 1), (written - 5, written - 5))
    os.utime(made.folder / "provenance.json", (1e9, 1e9))
    assert any(
        text.startswith(f"the input {made.input} was changed after the tables") for text in warnings(made.folder)
    )


def test_an_unfinished_run_is_described_as_such(made):
    (made.folder / "provenance.json").unlink()
    found = describe.described(made.folder)
    assert found["kind"] == "unfinished run"
    assert found["done"]["fit"] == 3
    assert found["config"]["fit"]["family"] == "nb"
    assert found["warnings"][0].startswith("there is no provenance.json, which is written when all tables are complete")
    assert "effects.parquet" in found["warnings"][1]
    assert "unfinished run" in described(made.folder)[0]
    assert warnings(made.folder / "effects.parquet")[0].startswith("there is no provenance.json beside it")


def test_what_cannot_be_described(made, tmp_path):
    cases = {
        tmp_path / "absent": "no such file",
        tmp_path / "empty": "nothing of mlmgen",
        made.folder / "summary.txt": "says nothing of its origin.*Give the folder",
        tmp_path / "exports": "nothing of mlmgen",
        tmp_path / "foreign.h5ad": "not a file that a run of mlmgen has made.*Give the folder of a run",
        tmp_path / "foreign" / "contrasts.json": "not a file that a run of mlmgen has made",
        tmp_path / "notes.docx": "only files",
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "deseq2.tsv.gz").write_text("x")
    (tmp_path / "foreign.h5ad").write_bytes(made.input.read_bytes())
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "contrasts.json").write_text('{"a": 1}')
    (tmp_path / "notes.docx").touch()
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "a.parquet")
    cases |= {tmp_path / "a.parquet": "does not say where it comes from"}
    shutil.copy(made.folder / "effects.tsv.gz", tmp_path)
    cases |= {tmp_path / "effects.tsv.gz": "does not say"}
    (tmp_path / "b.parquet").write_bytes((made.folder / "effects.parquet").read_bytes()[:-100])
    cases |= {tmp_path / "b.parquet": "not a complete parquet file"}
    for path, message in cases.items():
        with pytest.raises(UserError, match=message) as error:
            describe.described(path)
        assert not error.value.do.startswith("Delete")


def test_what_is_beside_the_tables_is_listed(made):
    (made.folder / "report.html").touch()
    lines = described(made.folder)
    assert "    report.html" in lines[lines.index("  beside the tables") :]


# ---- runs


def benchmark(folder: Path, name: str, seconds: float, memory: str, ended: float) -> None:
    path = folder / "benchmarks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{memory}\n")
    os.utime(path, (ended, ended))


def test_a_run_says_when_where_and_how_long(made):
    for name, seconds, memory in (("fit/glmm/B/1-of-2.tsv", 2.0, "310.5"), ("fit/glmm/B/2-of-2.tsv", 3.0, "-")):
        benchmark(made.folder, name, seconds, memory, 1010.0)
    benchmark(made.folder, "tables.tsv", 1.5, "NA", 1020.0)
    (made.folder / "benchmarks" / "broken.tsv").write_text("s\n")
    left = made.folder / "fits" / ".x.npz.0123456789abcdef.tmp"
    left.write_text("x")
    os.utime(left, (500, 500))
    run_report.finish(made.folder, {"input": "a.h5ad"}, started=1000.0, cores=2)
    found = io.read_json(made.folder / "run.json")
    assert found["run"] == io.read_json(made.folder / "provenance.json")["run"]
    assert (found["started"], found["seconds"], found["jobs"]) == ("1970-01-01T00:16:40+00:00", 20.0, 3)
    assert found["rules"]["fit"] == {"jobs": 2, "seconds": 5.0, "longest": 3.0, "memory_mb": 310.5}
    assert found["rules"]["tables"]["memory_mb"] is None
    assert found["config"] == {"input": "a.h5ad"}
    assert found["host"]["cpu"]
    assert not left.exists()
    text = "\n".join(described(made.folder))
    assert "fit: 2 jobs, 5 s in all, longest 3.0 s, at most 310 MB" in text
    assert warnings(made.folder) == []
    assert "job times" in described(made.folder / "run.json")[0]


def test_a_run_of_nothing_leaves_the_report(made):
    benchmark(made.folder, "tables.tsv", 1.5, "NA", 900.0)
    run_report.finish(made.folder, {}, started=1000.0)
    assert not (made.folder / "run.json").exists()


def test_what_has_changed_is_said_before_a_run(made, monkeypatch):
    assert run_report.news(made.folder, made.config) == []
    assert run_report.news(made.folder / "absent", made.config) == []
    monkeypatch.setitem(config.METHOD_VERSIONS, "fit", config.METHOD_VERSIONS["fit"] + 1)
    new = config.METHOD_VERSIONS["fit"]
    line = f"fit {new - 1} -> {new}: results of an earlier version of this method are redone"
    assert run_report.news(made.folder, made.config) == [line]
    (made.folder / "provenance.json").unlink()  # of a run that did not end
    assert run_report.news(made.folder, made.config) == [line]
    made.set(**KEYS, family="poisson")
    second = "fit.family was nb and is poisson: fit and what follows are redone"
    assert run_report.news(made.folder, made.config) == [second, line]


def test_stages_that_a_run_does_not_have_are_no_news(made):
    found = io.read_json(made.folder / "provenance.json")
    found["config"]["audit"] = json.loads(config.stage(made.config, "audit"))
    found["config"]["stability"]["method_version"] = 0
    io.write_json(made.folder / "provenance.json", found)
    made.set(**KEYS, seed=7)
    (one,) = run_report.news(made.folder, made.config)
    assert one.startswith("stability 0 -> ")
    made.set(**KEYS, seed=7, stability=False)
    (one,) = run_report.news(made.folder, made.config)
    assert one.startswith("tables.stability was true and is false")
    made.set(**KEYS, seed=7, audit=True)
    assert "audit.seed was 1 and is 7: audit and what follows are redone" in run_report.news(made.folder, made.config)
