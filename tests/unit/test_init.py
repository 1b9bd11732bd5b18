"""`mlmgen init`: real and made studies, under the names that laboratories give their columns, and under none."""

import dataclasses
import os
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from mlmgen import checking, io
from mlmgen.errors import UserError
from mlmgen.proposal import columns as looks
from mlmgen.proposal import expression, roles, vocabulary
from mlmgen.proposal.init import init
from mlmgen.proposal.proposal import propose
from mlmgen.proposal.structure import OF_CELLS, PAIRED, UNPAIRED

SHARED = Path(os.environ.get("MLMGEN_SHARED", Path(__file__).parents[3] / "shared")) / "data"
GENES = 60
TYPES = ("B cells", "Monocytes", "T cells")


# ---- made studies


def study(path: Path, obs: pd.DataFrame, kind: str = "cell_type", **layers) -> str:
    """Write cells whose expression depends on their type; return the path."""
    rng = np.random.default_rng(0)
    types = pd.factorize(obs[kind])[0] if kind in obs else np.zeros(len(obs), dtype=int)
    means = rng.gamma(0.5, 4.0, size=(types.max() + 1, GENES))
    counts = rng.poisson(means[types]).astype(np.int32)
    obs = obs.set_index(pd.Index([f"AAAC{i:05d}-1" for i in range(len(obs))]))
    made = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(GENES)]))
    for name, function in layers.items():
        made.layers[name] = function(counts)
    made.write_h5ad(path)
    return str(path)


def cells(donors: int = 8, each: int = 60, seed: int = 1) -> pd.DataFrame:
    """Cells of donors, with a type; the first half of the donors are cases."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(donors), each)
    obs = pd.DataFrame({"donor": [f"P{d + 1}" for d in code]})
    obs["cell_type"] = rng.choice(TYPES, len(obs))
    obs["condition"] = np.where(code < donors // 2, "case", "control")
    return obs


def paired(donors: int = 6, each: int = 60) -> pd.DataFrame:
    obs = cells(donors, each)
    obs["condition"] = np.tile(np.repeat(["stim", "ctrl"], each // 2), donors)
    return obs


def found(tmp_path: Path, obs: pd.DataFrame, kind: str = "cell_type", **given):
    return propose(study(tmp_path / "study.h5ad", obs, kind), given)


def written(tmp_path: Path, monkeypatch, obs: pd.DataFrame, **given) -> dict:
    """Write a study and its configuration, check it, and return the configuration."""
    monkeypatch.chdir(tmp_path)
    study(tmp_path / "study.h5ad", obs)
    init("study.h5ad", **given)
    checking.check("config.yaml", cores=2)
    return yaml.safe_load(Path("config.yaml").read_text())


def test_unpaired(tmp_path, monkeypatch, capsys):
    config = written(tmp_path, monkeypatch, cells())
    assert config["donor"] == "donor"
    assert config["cell_type"] == "cell_type"
    assert config["formula"] == "~ condition + (1 | donor)"
    assert config["reference"] == {"condition": "control"}
    assert config["contrasts"] == {"case_vs_control": "condition[case] - condition[control]"}
    assert config["input"] == "study.h5ad"
    assert config["name"] == "study"
    text = capsys.readouterr().out
    assert "unpaired" in text
    assert "8 values, each with cells in 1 level of condition, 60 cells; named like a donor" in " ".join(text.split())
    assert "mlmgen check config.yaml" in text
    assert "mlmgen run config.yaml" in text


def test_paired_gets_the_sample_level_effect(tmp_path, monkeypatch):
    config = written(tmp_path, monkeypatch, paired())
    assert config["formula"] == "~ condition + (1 | donor) + (1 | donor:condition)"
    assert config["reference"] == {"condition": "ctrl"}


def test_paired_with_a_column_of_samples_says_nothing_new(tmp_path):
    obs = paired()
    obs["library_id"] = obs["donor"] + "_" + obs["condition"]
    proposal = found(tmp_path, obs)
    assert proposal.roles.donor == "donor"
    assert proposal.structure.kind == PAIRED
    assert (proposal.structure.sample, proposal.structure.same_sample) == (None, "library_id")


def test_samples_that_are_finer_are_named(tmp_path, monkeypatch):
    obs = cells(8, 60)
    obs["sample"] = obs["donor"] + np.tile(np.repeat(["_a", "_b"], 30), 8)
    config = written(tmp_path, monkeypatch, obs)
    assert (config["donor"], config["sample"]) == ("donor", "sample")
    assert config["formula"] == "~ condition + (1 | donor/sample)"


def test_longitudinal_gets_a_random_slope(tmp_path, monkeypatch):
    obs = cells(8, 90)
    obs["day"] = np.tile(np.repeat([0, 7, 28], 30), 8)
    obs["visit"] = obs["donor"] + "-d" + obs["day"].astype(str)
    config = written(tmp_path, monkeypatch, obs)
    assert config["formula"] == "~ condition * day + (1 + day | donor)"
    assert config["sample"] == "visit"
    assert config["contrasts"] == {"case_over_day": "condition[T.case]:day"}


def test_two_visits_of_two_groups(tmp_path, monkeypatch):
    obs = cells(8, 60)
    obs["day"] = np.tile(np.repeat([0, 14], 30), 8)
    obs["sample"] = obs["donor"] + "-d" + obs["day"].astype(str)
    config = written(tmp_path, monkeypatch, obs)
    assert config["formula"] == "~ condition * day + (1 + day | donor)"
    assert config["sample"] == "sample"


def test_longitudinal_of_one_group(tmp_path, monkeypatch):
    obs = cells(8, 90).drop(columns="condition")
    obs["week"] = np.tile(np.repeat([0, 2, 4], 30), 8)
    obs["sample_id"] = obs["donor"] + "-w" + obs["week"].astype(str)
    obs["sex"] = np.where(obs["donor"].isin(["P1", "P2", "P5"]), "F", "M")
    config = written(tmp_path, monkeypatch, obs)
    assert config["formula"] == "~ week + (1 + week | donor)"
    assert config["contrasts"] == {"per_week": "week"}


def test_visits_without_a_column_leave_pseudobulk_out(tmp_path, monkeypatch, capsys):
    obs = cells(8, 90).drop(columns="condition")
    obs["week"] = np.tile(np.repeat([0, 2, 4], 30), 8)
    config = written(tmp_path, monkeypatch, obs)
    assert (config["formula"], config["methods"]) == ("~ week + (1 + week | donor)", ["glmm"])
    assert "pseudobulk would need a column of samples" in " ".join(capsys.readouterr().out.split())


def test_what_the_check_will_say_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    obs = cells()
    obs.loc[:5, "donor"] = None
    study(tmp_path / "study.h5ad", obs)
    init("study.h5ad")
    text = " ".join(capsys.readouterr().out.split())
    assert "The check will not pass yet: obs column 'donor' is missing" in text
    assert "6 cells have no value, which stops a run" in text


def test_batches_around_donors_are_not_donors(tmp_path):
    obs = cells(12, 40)
    obs["batch"] = "pool" + (pd.factorize(obs["donor"])[0] // 2).astype(str)
    proposal = found(tmp_path, obs)
    assert proposal.roles.donor == "donor"
    assert any(note.startswith("batch: 6 values, donors lie within them") for note in proposal.notes)
    assert any("each has one value of condition only" in note for note in proposal.notes)
    nameless = {"donor": "a", "batch": "b", "condition": "c", "cell_type": "d"}
    unnamed = found(tmp_path, obs.rename(columns=nameless), kind="d")
    assert (unnamed.roles.donor, unnamed.roles.condition, unnamed.roles.cell_type) == ("a", "c", "d")
    assert unnamed.roles.confidence["donor"] != "sure"


def test_condition_of_cells(tmp_path, monkeypatch):
    obs = cells(8, 60)
    obs["sample"] = obs["donor"] + "_1"
    obs["infected"] = np.random.default_rng(2).choice(["yes", "no"], len(obs))
    proposal = found(tmp_path, obs.drop(columns="condition"))
    assert proposal.structure.kind == OF_CELLS
    obs["sample"] = obs["donor"] + np.tile(np.repeat(["_1", "_2"], 30), 8)
    proposal = found(tmp_path, obs.drop(columns="condition"))
    assert proposal.structure.kind == OF_CELLS
    assert proposal.structure.formula == "~ infected + (1 | donor) + (1 | donor:infected)"
    assert proposal.structure.reference == {"infected": "no"}


def test_only_samples_are_donors(tmp_path, monkeypatch):
    config = written(tmp_path, monkeypatch, cells().rename(columns={"donor": "orig.ident", "condition": "group"}))
    assert config["donor"] == "orig.ident"
    assert config["formula"] == "~ group + (1 | orig.ident)"
    assert "unless a donor gave several samples" in " ".join(Path("config.yaml").read_text().replace("#", "").split())


def test_samples_of_the_same_donor_are_suspected_by_their_names(tmp_path):
    obs = paired().rename(columns={"donor": "sample"})
    obs["sample"] = obs["sample"].str.cat(obs["condition"], sep="_")
    obs["condition"] = obs["condition"].str.upper()
    proposal = found(tmp_path, obs)
    assert proposal.roles.donor == "sample"
    assert "P1_ctrl and P1_stim look like two samples of one donor" in proposal.evidence["donor"]
    fine = found(tmp_path, cells().assign(donor=cells()["donor"].str.cat(cells()["condition"], sep="-")))
    assert "look like" not in fine.evidence["donor"]


@pytest.mark.parametrize("within", [False, True])
def test_conditions_of_numbers_and_truth_values(within, tmp_path, monkeypatch):
    obs = paired() if within else cells()
    obs["donor"] = 100 + pd.factorize(obs["donor"])[0]
    obs["condition"] = obs["condition"].isin(["case", "stim"])
    config = written(tmp_path, monkeypatch, obs.rename(columns={"condition": "treated"}))
    assert config["reference"] == {"treated": "False"}
    assert config["formula"] == "~ treated + (1 | donor)" + " + (1 | donor:treated)" * within
    obs["condition"] = obs["condition"].astype(int)
    config = written(tmp_path, monkeypatch, obs.rename(columns={"condition": "cc"}), force=True)
    assert config["contrasts"] == {"per_cc": "cc"}
    assert config["formula"] == ("~ cc + (1 + cc | donor)" if within else "~ cc + (1 | donor)")
    assert config.get("methods") == (["glmm"] if within else None)


def test_names_and_levels_of_any_kind_pass_the_check(tmp_path, monkeypatch):
    obs = cells().rename(columns={"donor": "patient id", "condition": "Disease: state", "cell_type": "cell type (l2)"})
    obs["Disease: state"] = obs["Disease: state"].map({"case": 'COVID-19 [severe], "ICU"', "control": "no"})
    config = written(tmp_path, monkeypatch, obs)
    assert config["donor"] == "patient id"
    assert config["reference"] == {"Disease: state": "no"}
    assert config["cell_type"] == "cell type (l2)"


def test_more_than_two_levels_are_compared_with_the_control(tmp_path, monkeypatch):
    obs = cells(9, 60)
    obs["condition"] = obs["donor"].map(dict(zip(obs["donor"].unique(), ["low", "none", "high"] * 3, strict=True)))
    config = written(tmp_path, monkeypatch, obs.rename(columns={"condition": "dose"}))
    assert list(config["contrasts"]) == ["high_vs_none", "low_vs_none"]


def test_cells_without_a_type_are_left_out_by_name(tmp_path, monkeypatch):
    obs = cells()
    obs.loc[::10, "cell_type"] = None
    config = written(tmp_path, monkeypatch, obs)
    assert config["cell_types"] == list(TYPES)


def test_one_cell_type(tmp_path, monkeypatch):
    config = written(tmp_path, monkeypatch, cells().drop(columns="cell_type"))
    assert config["cell_type"] is None
    named = cells().assign(cell_type="microglia")
    assert written(tmp_path, monkeypatch, named, force=True)["cell_type"] == "cell_type"


def test_counts_are_where_whole_numbers_are(tmp_path):
    obs = cells()
    path = study(tmp_path / "a.h5ad", obs, counts=lambda X: X)
    made = anndata.read_h5ad(path)
    made.X = np.log1p(made.X.astype(float))
    made.write_h5ad(path)
    assert propose(path, {}).counts.value == "layers/counts"
    del made.layers["counts"]
    made.write_h5ad(path)
    with pytest.raises(UserError, match=r"no matrix has raw counts: X; each has fractions"):
        propose(path, {})


def test_symbols_are_found_beside_ids(tmp_path):
    path = study(tmp_path / "a.h5ad", cells())
    made = anndata.read_h5ad(path)
    made.var["feature_name"] = list(made.var_names)
    made.var_names = [f"ENSG{i:011d}" for i in range(GENES)]
    made.write_h5ad(path)
    assert propose(path, {}).gene_names.value == "var/feature_name"


def test_zarr(tmp_path):
    path = study(tmp_path / "a.h5ad", cells())
    with warnings.catch_warnings(action="ignore"):  # anndata announces its next format
        anndata.read_h5ad(path).write_zarr(tmp_path / "a.zarr")
    assert propose(str(tmp_path / "a.zarr"), {}).roles[:3] == ("donor", "condition", "cell_type")


def test_without_a_donor_it_says_what_was_considered(tmp_path):
    rng = np.random.default_rng(1)
    obs = cells().drop(columns="donor")
    obs["leiden"] = pd.factorize(obs["cell_type"])[0].astype(str)
    obs["n_genes"] = rng.integers(200, 5000, len(obs))
    obs["phase"] = rng.choice(["G1", "S", "G2M"], len(obs))
    with pytest.raises(UserError, match="no column of obs can be told to be the donor") as stop:
        found(tmp_path, obs)
    assert "leiden (3 values, named like clusters)" in stop.value.what
    assert "--donor COLUMN" in stop.value.do


def test_names_of_cells_may_hold_the_donor(tmp_path):
    path = study(tmp_path / "a.h5ad", cells())
    made = anndata.read_h5ad(path)
    made.obs_names = [f"{donor}_{i}" for i, donor in enumerate(made.obs["donor"])]
    made.obs = made.obs[["condition", "cell_type"]]
    made.write_h5ad(path)
    with pytest.raises(UserError, match=r"names of the cells begin with 8 different parts \(P1, P2, P3"):
        propose(path, {})


def test_what_the_user_says_decides(tmp_path):
    obs = paired()
    obs["lane"] = "L" + (pd.factorize(obs["donor"])[0] % 4).astype(str)
    proposal = found(tmp_path, obs, donor="lane", cell_type="none")
    assert (proposal.roles.donor, proposal.roles.cell_type) == ("lane", None)
    assert proposal.roles.confidence["donor"] == "given"
    with pytest.raises(UserError, match=r"(?s)no column 'doner' .*option --donor.*Did you mean 'donor'"):
        found(tmp_path, obs, donor="doner")
    with pytest.raises(UserError, match="one value in all cells"):
        found(tmp_path, obs.assign(project="x"), condition="project")


def test_a_configuration_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study(tmp_path / "study.h5ad", cells())
    Path("config.yaml").write_text("mine")
    with pytest.raises(UserError, match="already a file"):
        init("study.h5ad")
    assert Path("config.yaml").read_text() == "mine"
    init("study.h5ad", force=True)
    assert "donor: donor" in Path("config.yaml").read_text()


def test_every_key_of_the_schema_is_in_the_text(tmp_path, monkeypatch):
    from mlmgen.config import load, schema

    monkeypatch.chdir(tmp_path)
    study(tmp_path / "study.h5ad", cells())
    init("study.h5ad")
    text = Path("config.yaml").read_text()
    for key in schema()["properties"]:
        if key != "cell_types":
            assert f"\n{key}:" in text or f"\n# {key}:" in text, key
    uncommented = "\n".join(line.removeprefix("# ") for line in text.splitlines() if ": " not in line or "#" in line)
    assert uncommented
    assert max(map(len, text.splitlines())) <= 120
    load(yaml.safe_load(text))


def test_the_defaults_can_be_uncommented(tmp_path, monkeypatch):
    """Every commented key, with the # taken away, is the default that the schema has."""
    import re

    from mlmgen.config import load

    monkeypatch.chdir(tmp_path)
    study(tmp_path / "study.h5ad", cells())
    init("study.h5ad")
    text = Path("config.yaml").read_text()
    before = load(yaml.safe_load(text))
    head, tail = text.split("# Everything below keeps its default")
    opened = re.sub(r"^# ((?:[a-z_]+:|  [a-z_]+:).*)$", r"\1", tail, flags=re.MULTILINE)
    assert opened.count("\nfilters:\n") == 1
    assert load(yaml.safe_load(f"{head}# {opened}")) == before


# ---- what a design cannot tell apart


def disease(donors: int = 12, each: int = 40) -> pd.DataFrame:
    return cells(donors, each).rename(columns={"condition": "disease"})


def note_of(proposal, name: str) -> str:
    return next(note for note in proposal.notes if note.startswith(f"{name}: "))


@pytest.mark.parametrize("name", ["batch", "seq_run", "lane", "pool", "site"])
def test_a_batch_that_coincides_with_the_condition_is_no_copy_of_it(name, tmp_path):
    obs = disease()
    obs[name] = np.where(obs["disease"] == "case", "B1", "B2")
    note = note_of(found(tmp_path, obs), name)
    assert f"{name} and disease cannot be told apart: an effect of {name} is counted as one of disease" in note
    assert "no formula mends it" in note
    assert "in other words" not in note
    assert "add +" not in note


def test_samples_of_each_condition_in_a_batch_of_their_own(tmp_path):
    obs = paired()
    obs["batch"] = np.where(obs["condition"] == "stim", 1, 2)
    assert "batch and condition cannot be told apart" in note_of(found(tmp_path, obs), "batch")


def test_a_trait_that_coincides_with_the_condition_is_no_copy_of_it(tmp_path):
    obs = disease()
    obs["sex"] = np.where(obs["disease"] == "case", "F", "M")
    obs["diagnosis"] = np.where(obs["disease"] == "case", "MS", "HC")
    proposal = found(tmp_path, obs, condition="disease")
    assert "sex and disease cannot be told apart" in note_of(proposal, "sex")
    assert note_of(proposal, "diagnosis") == "diagnosis: the same as disease in other words"


@pytest.mark.parametrize(
    ("of_donor", "random"), [("AAABBBCCCDDD", True), ("AABBCCDDEEFF", True), ("AAABBBCCCCCC", False)]
)
def test_batches_inside_a_condition_are_no_fixed_effect(of_donor, random, tmp_path, monkeypatch):
    obs = disease()
    obs["batch"] = [of_donor[d] for d in pd.factorize(obs["donor"])[0]]
    note = note_of(found(tmp_path, obs), "batch")
    assert "each has one value of disease only; do not add + batch" in note
    assert ("+ (1 | batch) is possible" in note) == random
    with pytest.raises(UserError):
        checked(tmp_path, monkeypatch, obs, "~ disease + batch + (1 | donor)")
    if random:
        checked(tmp_path, monkeypatch, obs, "~ disease + (1 | batch) + (1 | donor)")


def checked(tmp_path: Path, monkeypatch, obs: pd.DataFrame, formula: str) -> None:
    """Check the proposal with another formula."""
    monkeypatch.chdir(tmp_path)
    study(tmp_path / "study.h5ad", obs)
    init("study.h5ad", force=True)
    config = yaml.safe_load(Path("config.yaml").read_text())
    Path("config.yaml").write_text(yaml.safe_dump(config | {"formula": formula}))
    checking.check("config.yaml", cores=2)


def test_advice_on_a_fixed_batch_is_of_full_rank(tmp_path, monkeypatch):
    obs = disease()
    obs["batch"] = [("AAABBBBBBCCC")[d] for d in pd.factorize(obs["donor"])[0]]
    assert "add + batch to the formula if they matter" in note_of(found(tmp_path, obs), "batch")
    checked(tmp_path, monkeypatch, obs, "~ disease + batch + (1 | donor)")
    levels = dict(zip(obs["donor"].unique(), ["control", "mild", "severe"] * 4, strict=True))
    obs["disease"] = obs["donor"].map(levels)
    obs["batch"] = np.where(obs["disease"] == "severe", "B3", np.where(obs["donor"].isin(["P1", "P2"]), "B1", "B2"))
    note = note_of(found(tmp_path, obs), "batch")
    assert "do not add + batch: its effects and those of disease cannot be told apart" in note
    with pytest.raises(UserError):
        checked(tmp_path, monkeypatch, obs, "~ disease + batch + (1 | donor)")


def test_a_finer_grade_of_the_condition_is_not_to_be_added(tmp_path):
    obs = disease()
    grades = dict(zip(obs["donor"].unique(), ["mild", "severe"] * 3 + ["none"] * 6, strict=True))
    obs["severity"] = obs["donor"].map(grades)
    assert "do not add + severity" in note_of(found(tmp_path, obs, condition="disease"), "severity")
    obs["sex"] = obs["donor"].map(dict(zip(obs["donor"].unique(), "FM" * 6, strict=True)))
    assert "add + sex to the formula" in note_of(found(tmp_path, obs, condition="disease"), "sex")


# ---- ids that recur


def mice(levels=("KO", "WT"), name: str = "genotype") -> pd.DataFrame:
    obs = paired(4, 80).rename(columns={"donor": "mouse", "condition": name})
    obs["mouse"] = obs["mouse"].str[1:].astype(int)
    return obs.assign(**{name: obs[name].map({"stim": levels[0], "ctrl": levels[1]})})


SAID = "are two different donors, join both columns into one (donor = {} + {}) and run init again"


@pytest.mark.parametrize("given", [{}, {"donor": "mouse"}])
def test_ids_that_recur_in_what_a_donor_has_one_of(given, tmp_path, monkeypatch, capsys):
    config = written(tmp_path, monkeypatch, mice(), **given)
    assert config["formula"] == "~ genotype + (1 | mouse) + (1 | mouse:genotype)"
    said = "if mouse 1 of KO and of WT " + SAID.format("genotype", "mouse")
    printed = " ".join(capsys.readouterr().out.split())
    assert said in printed
    assert f"Look at the {'' if given else 'donor and the '}design first" in printed
    assert said in " ".join(Path("config.yaml").read_text().replace("#", "").split())
    confidence = propose("study.h5ad", given).roles.confidence
    assert (confidence["donor"], confidence["design"]) == ("given" if given else "unsure", "unsure")


@pytest.mark.parametrize("name", ["genotype", "Disease", "diagnosis", "sex", "SLE_status", "group"])
def test_what_does_not_change_within_a_person(name, tmp_path):
    obs = paired().rename(columns={"condition": name})
    proposal = found(tmp_path, obs, condition=name)
    assert f"one donor rarely has several values of {name}" in proposal.evidence["design"]
    assert SAID.format(name, "donor") in proposal.evidence["design"]


@pytest.mark.parametrize(("text", "doubted"), [("{}", True), ("rep{}", True), ("Mouse_{}", True), ("pt10{}", False)])
def test_serial_numbers_in_every_level_of_a_treatment(text, doubted, tmp_path):
    obs = mice(("drug", "vehicle"), "treatment").rename(columns={"mouse": "donor"})
    obs["donor"] = [text.format(i) for i in obs["donor"]]
    proposal = found(tmp_path, obs)
    assert proposal.structure.kind == PAIRED
    assert (SAID.format("treatment", "donor") in proposal.evidence["design"]) == doubted
    assert ("design" in proposal.roles.confidence) == doubted


def test_serial_numbers_of_unpaired_donors_are_no_doubt(tmp_path):
    obs = disease()
    obs["donor"] = obs["donor"].str[1:].astype(int)
    assert "design" not in found(tmp_path, obs).roles.confidence


def test_a_column_that_joins_ids_and_levels_is_named(tmp_path):
    obs = mice()
    obs["sample"] = obs["genotype"] + "_" + obs["mouse"].astype(str)
    proposal = found(tmp_path, obs, donor="mouse")
    assert "sample has them joined already: --donor sample" in proposal.evidence["design"]


# ---- values that are missing


def test_cells_without_a_condition_make_no_pairs(tmp_path):
    obs = cells(8, 40).rename(columns={"condition": "disease"})
    obs["sample"] = obs["donor"] + np.tile(np.repeat(["_a", "_b"], 20), 8)
    obs["disease"] = obs["disease"].mask(np.random.default_rng(0).permutation(len(obs)) < 30)
    proposal = found(tmp_path, obs.drop(columns="sample"))
    assert proposal.structure.kind == UNPAIRED
    assert proposal.structure.formula == "~ disease + (1 | donor)"
    assert proposal.evidence["design"].startswith("unpaired: each donor has one value of disease")
    assert "each with cells in 1 level of disease" in proposal.evidence["donor"]
    assert "30 cells have no value, which stops a run" in proposal.evidence["condition"]
    assert found(tmp_path, obs).structure.repeated == "sample"


def test_cells_without_a_donor_are_no_donor(tmp_path):
    obs = cells(8, 40)
    obs["donor"] = obs["donor"].mask(np.random.default_rng(0).permutation(len(obs)) < 30)
    proposal = found(tmp_path, obs)
    assert "case (4 donors, 160 cells), control (4 donors, 160 cells)" in proposal.evidence["condition"]
    first, second = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 1, 0, 1, 2])
    assert looks.pairs(first, second).tolist() == [1, 2]
    assert looks.crossing(first, second) == 0.5


# ---- several samples of a donor


def biopsies(recurring: bool = False) -> pd.DataFrame:
    obs = disease(8, 60)
    place = np.tile(np.repeat(["b1", "b2", "b3"], 20), 8)
    return obs.assign(biopsy=place if recurring else obs["donor"] + "_" + place)


@pytest.mark.parametrize("recurring", [False, True])
@pytest.mark.parametrize("also", [False, True])
def test_several_samples_of_a_donor_are_a_level(recurring, also, tmp_path, monkeypatch, capsys):
    obs = biopsies(recurring)
    obs = obs.assign(sample_name=obs["donor"].str.replace("P", "S")) if also else obs
    config = written(tmp_path, monkeypatch, obs)
    assert config["donor"] in ("donor", "sample_name")
    assert config["formula"] == f"~ disease + (1 | {config['donor']}/biopsy)"
    assert config.get("sample") == (None if recurring else "biopsy")
    printed = " ".join(capsys.readouterr().out.split())
    assert "several samples each (biopsy), so the formula has a term for them" in printed
    assert ("the ids of biopsy recur" in printed) == recurring
    assert "No errors" in printed


def test_several_samples_of_paired_donors(tmp_path, monkeypatch):
    obs = paired(6, 80)
    obs["sample"] = obs["donor"] + obs["condition"] + np.tile(np.repeat(["_1", "_2"], 20), 12)
    config = written(tmp_path, monkeypatch, obs)
    assert config["formula"] == "~ condition + (1 | donor/sample) + (1 | donor:condition)"
    assert config["sample"] == "sample"


def test_several_samples_of_a_visit(tmp_path, monkeypatch):
    obs = cells(8, 120)
    obs["day"] = np.tile(np.repeat([0, 7, 28], 40), 8)
    place = np.tile(np.repeat(["a", "b"], 20), 24)
    obs["sample"] = obs["donor"] + "-d" + obs["day"].astype(str) + place
    config = written(tmp_path, monkeypatch, obs)
    assert config["formula"] == "~ condition * day + (1 + day | donor) + (1 | donor:sample)"


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (("IFN", "ctrl"), "ctrl"),
        (("AD", "Healthy control"), "Healthy control"),
        (("KO", "WT"), "WT"),
        (("drug", "vehicle", "none"), "vehicle"),
        (("0", "10", "100"), "0"),
        (("False", "True"), "False"),
        (("post", "pre"), "pre"),
        (("a", "b"), None),
        (("Control_1", "Control_2", "x"), None),
    ],
)
def test_controls_by_their_names(levels, expected):
    place = vocabulary.control(levels)
    assert (None if place is None else levels[place]) == expected


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("patient_id", "donor"),
        ("PatientID", "donor"),
        ("ind", "donor"),
        ("disease__ontology_label", "condition"),
        ("stim", "condition"),
        ("celltype.l2", "cell_type"),
        ("Cell Type", "cell_type"),
        ("subclass", "cell_type"),
        ("orig.ident", "sample"),
        ("library_id", "batch"),
        ("percent.mt", "measured"),
        ("nCount_RNA", "measured"),
        ("doublet_score", "measured"),
        ("RNA_snn_res.0.8", "clusters"),
        ("seurat_clusters", "clusters"),
    ],
)
def test_words_of_names(name, role):
    assert vocabulary.points(name, role) == 3.0
    others = {"donor", "condition", "cell_type"} - {role}
    assert all(vocabulary.points(name, other) < 3.0 for other in others)


# ---- real studies

# Whether all cells are of one type, and the design.
REAL = {
    "covid_pbmc_4donors": ("cell_type", UNPAIRED, "healthy"),
    "ipf_20genes_57donors": (None, UNPAIRED, "Control"),
    "kang18_pbmc": ("cell_type", PAIRED, "ctrl"),
    "nebula_sample": (None, OF_CELLS, "control"),
    "onek1k_40donors": ("cell_type", UNPAIRED, "sex1"),
    "pig_small_airway_cftr": ("cell_type", UNPAIRED, "WT"),
}
NAMES = ("donor", "condition", "cell_type", "sample", "cell_type_fine", "batch", "cell_type_author")
LABORATORIES = (
    NAMES,
    ("ind", "stim", "cell.type", "orig.ident", "celltype.l2", "pool", "author_label"),
    ("patient_id", "disease__ontology_label", "cell_type__ontology_label", "biosample_id", "l2", "library_id", "old"),
    ("donor_id", "Status", "subclass", "library_id", "cluster_label", "seq_batch", "cluster"),
    ("Subject", "group", "annotation", "sample_name", "annotation_fine", "Batch", "x"),
    ("individual", "treatment", "predicted.celltype.l1", "gem_id", "predicted.celltype.l2", "chip", "x"),
    ("mouse", "genotype", "CellType", "SampleID", "subtype", "lane", "x"),
    ("replicate", "label", "cell_type", "s", "louvain_named", "plate", "x"),
    ("Donor", "Diagnosis", "Cell class", "Library", "sub", "site", "x"),
    ("pt", "arm", "celltypist", "channel", "seurat_clusters", "run", "x"),
)
NAMELESS = tuple("abcdefg")
# What names must help with: every donor has both, and nothing says that this is no batch of cells.
UNDECIDABLE = ("nebula_sample",)


def with_distractors(obs: pd.DataFrame) -> pd.DataFrame:
    """Add what files have besides: traits, batches, lanes, phases, qc, clusters, barcodes."""
    rng, n = np.random.default_rng(0), len(obs)
    code = pd.factorize(obs["donor"].astype(str))[0]
    obs = obs.copy()
    obs.insert(0, "gender", rng.choice(["M", "F"], code.max() + 1)[code])
    obs.insert(0, "orig_ident", "SeuratProject")
    obs["age_years"] = rng.integers(20, 80, code.max() + 1)[code]
    obs["lane"] = rng.choice(["L1", "L2", "L3", "L4"], n)
    obs["Phase"] = rng.choice(["G1", "S", "G2M"], n)
    obs["n_counts"], obs["percent.mt"] = rng.integers(500, 30000, n), rng.random(n) * 10
    types = pd.factorize(obs["cell_type"].astype(str))[0]
    obs.insert(2, "leiden", pd.Categorical([str(t * 2 + (rng.random() < 0.4)) for t in types]))
    obs["doublet_score"], obs["predicted_doublet"] = rng.random(n), rng.random(n) < 0.05
    obs["barcodes"] = [f"AC{i:07d}" for i in range(n)]
    return obs


@pytest.fixture(scope="module")
def looked_at():
    """The obs of a real file and some of its counts, read once."""
    cache = {}

    def read(name: str):
        path = SHARED / f"{name}.h5ad"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        if name not in cache:
            columns = dict.fromkeys(io.obs_columns(path), "obs")
            cache[name] = (io.read_obs(path, columns), io.some_counts(path, "X", 2_000_000))
        return cache[name]

    return read


def chosen(obs: pd.DataFrame, counts, names: dict[str, str]) -> tuple[roles.Roles, roles.Evidence]:
    """Choose the columns under other names."""
    columns = {name: looks.column(name, obs[name]) for name in obs.columns}
    shares = expression.explained(*counts, {name: c.codes + 1 for name, c in columns.items() if c.could_be_labels})
    renamed = {names.get(n, n): dataclasses.replace(c, name=names.get(n, n)) for n, c in columns.items()}
    evidence = roles.Evidence(renamed, looks.thinned(renamed), {names.get(n, n): s for n, s in shares.items()})
    return roles.choose(evidence, {}), evidence


@pytest.mark.shared
@pytest.mark.parametrize("distracted", [False, True])
@pytest.mark.parametrize("laboratory", LABORATORIES, ids=lambda names: names[0])
@pytest.mark.parametrize("name", REAL)
def test_real_studies_under_names_of_laboratories(name, laboratory, distracted, looked_at):
    obs, counts = looked_at(name)
    obs = with_distractors(obs) if distracted else obs
    names = dict(zip(NAMES, laboratory, strict=True))
    found, evidence = chosen(obs, counts, names)
    assert found.donor == names["donor"] or evidence.same(found.donor, names["donor"])
    assert found.condition == names["condition"] or evidence.same(found.condition, names["condition"])
    expected = REAL[name][0]
    assert found.cell_type == (names[expected] if expected else None)


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_real_studies_without_names(name, looked_at):
    """Structure and expression alone tell; what they cannot is not guessed, and nothing is called sure."""
    obs, counts = looked_at(name)
    names = {column: f"v{i}" for i, column in enumerate(obs.columns)}
    found, evidence = chosen(obs, counts, names)
    if name in UNDECIDABLE:
        assert found.donor is None
        return
    assert evidence.same(found.donor, names["donor"])
    assert evidence.same(found.condition, names["condition"])
    expected = REAL[name][0]
    assert found.cell_type == (names[expected] if expected else None)
    assert found.confidence["donor"] != "sure"


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_real_configurations_pass_the_check(name, tmp_path, monkeypatch, capsys):
    path = SHARED / f"{name}.h5ad"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    monkeypatch.chdir(tmp_path)
    proposal = propose(str(path), {})
    assert proposal.structure.kind == REAL[name][1]
    assert proposal.structure.reference == {"condition": REAL[name][2]}
    init(str(path))
    assert yaml.safe_load(Path("config.yaml").read_text())["donor"] == "donor"
    checking.check("config.yaml", cores=2)
    assert "No errors" in capsys.readouterr().out


def test_the_configuration_does_not_overwrite_the_data_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(study(tmp_path / "study.h5ad", cells()))
    before = path.read_bytes()
    (tmp_path / "folder").mkdir()
    os.link(path, "linked.yaml")
    for output, message in (
        ("study.h5ad", "this is the data file itself"),
        ("linked.yaml", "this is the data file itself"),
        ("notes.txt", r"ends in \.txt.*End the name in one of \.yaml"),
        ("folder", "this is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            init("study.h5ad", output, force=True)
    assert path.read_bytes() == before
    init("study.h5ad", "new/sub/c.yaml")
    assert Path("new/sub/c.yaml").is_file()


def test_a_file_without_cells_says_so(tmp_path):
    path = study(tmp_path / "study.h5ad", cells())
    anndata.read_h5ad(path)[:0].write_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(UserError, match="the file has 0 cells and 60 genes"):
        propose(str(tmp_path / "none.h5ad"), {})


def test_cell_types_are_no_condition_unless_they_are_named(tmp_path):
    obs = cells().drop(columns="condition")
    with pytest.raises(UserError, match="no column of obs can be told to be the condition"):
        found(tmp_path, obs)
    obs["annotation"] = np.tile(["x", "y"], len(obs) // 2)
    given = found(tmp_path, obs, condition="cell_type", cell_type="annotation")
    assert given.roles.condition == "cell_type"
