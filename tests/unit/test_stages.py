"""The stages prepare, pseudobulk and contrasts from file to file."""

import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlmgen import io, names, sizefactors, splitting, stages_prepare
from mlmgen.errors import UserError
from mlmgen.io import runs
from tests.unit.stages_run import Run

GENES = 12
SHARED = Path(os.environ.get("MLMGEN_SHARED", Path(__file__).parents[3] / "shared"))


def study(seed: int = 1, paired: bool = False) -> anndata.AnnData:
    """Six donors, two arms, three cell types; type C has cells of two donors only."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(6), 40)
    arm = rng.integers(0, 2, donor.size) if paired else donor % 2
    kind = np.array(["A cells", "B", "C"])[rng.permutation(donor.size) % 3]
    kind[(kind == "C") & (donor > 1)] = "B"
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical([f"D{i + 1}" for i in donor]),
            "arm": pd.Categorical(np.array(["ctrl", "stim"])[arm]),
            "cell_type": pd.Categorical(kind),
            "age": (20 + 7 * (donor % 4)).astype(float),
            "depth": rng.uniform(0.5, 2, donor.size),
        },
        index=[f"cell{i}" for i in range(donor.size)],
    )
    X = sparse.csr_matrix(rng.poisson(1.0, (donor.size, GENES)).astype(np.float32))
    var = pd.DataFrame({"symbol": [f"S{i}" for i in range(GENES)]}, index=[f"G{i}" for i in range(GENES)])
    return anndata.AnnData(X, obs=obs, var=var)


def test_every_count_is_in_its_cell_type_and_in_its_sample(tmp_path, capsys):
    data = study(paired=True)
    run = Run(tmp_path, data, formula="~ arm + (1 | donor) + (1 | donor:arm)", gene_names="var/symbol")
    prepared, summed = run.prepare(), run.pseudobulk()
    assert [Path(path).stem for path in prepared] == [names.slug("A cells"), "B", "C"]
    for path, pseudobulk, kind in zip(prepared, summed, ["A cells", "B", "C"], strict=True):
        part, sums = anndata.read_h5ad(path), anndata.read_h5ad(pseudobulk)
        original = data[part.obs_names]
        assert set(original.obs["cell_type"]) == {kind}
        assert part.n_obs == (data.obs["cell_type"] == kind).sum()
        np.testing.assert_array_equal(part.X.toarray(), original.X.toarray())
        assert list(part.var_names) == list(data.var_names)
        assert list(part.var["gene_name"]) == list(data.var["symbol"])
        size = np.asarray(data.X.sum(axis=1)).ravel() / data.X.sum(axis=1).mean()
        np.testing.assert_allclose(part.obs["size_factor"], size[data.obs_names.get_indexer(part.obs_names)], rtol=1e-6)
        for sample in sums.obs_names:
            donor, arm = sample.split(":")
            cells = (part.obs["donor"] == donor) & (part.obs["arm"] == arm)
            np.testing.assert_array_equal(sums[sample].X.toarray()[0], part[cells.to_numpy()].X.toarray().sum(axis=0))
            assert sums.obs.loc[sample, "n_cells"] == cells.sum()
        pd.testing.assert_frame_equal(part.var, sums.var)
        of_cells, of_samples = io.read_meta(path), io.read_meta(pseudobulk)
        assert of_cells | {"seal": ""} == of_samples | {"seal": ""}
    meta = io.read_meta(prepared[0])
    assert meta["checksum"] == io.checksum(run.input)
    assert meta["settings"] == run.own_settings("prepare")
    assert (meta["cell_type"], meta["n_donors"], meta["skipped"]) == ("A cells", 6, "")
    assert "240 cells x 12 genes" in capsys.readouterr().err


def test_designs_of_the_cells_and_of_the_samples(tmp_path):
    run = Run(tmp_path, study(paired=True), formula="~ arm + (1 | donor) + (1 | donor:arm)")
    cells, samples = io.read_design(run.prepare()[0]), io.read_design(run.pseudobulk()[0])
    part = anndata.read_h5ad(run.paths("prepared")[0])
    assert [cells.donor.levels[i] for i in cells.donor.codes[cells.pattern]] == list(part.obs["donor"])
    assert list(cells.X[cells.pattern, 1]) == list((part.obs["arm"] == "stim").astype(float))
    assert (np.diff(cells.pattern) >= 0).all()
    assert [term.name for term in cells.terms] == ["donor", "donor:arm"]
    assert [term.name for term in samples.terms] == ["donor"]
    np.testing.assert_allclose(np.exp(samples.log_size).sum(), part.obs["size_factor"].sum())


@pytest.mark.parametrize("paired", [False, True])
def test_two_runs_give_the_same_bytes(tmp_path, paired):
    formula = "~ arm + age + (1 | donor)"
    first, second = (Run(tmp_path / name, study(paired=paired), formula=formula) for name in "ab")
    second.input = first.input
    second.set(formula=formula)
    for run in (first, second):
        run.prepare(), run.pseudobulk(), run.contrasts()
    written = [str(first.folder / name) for name in ("contrasts.json", "design.parquet", "design.tsv.gz")]
    for path in [*first.paths("prepared"), *first.paths("pseudobulk"), *written]:
        assert Path(path).read_bytes() == Path(path.replace(str(first.folder), str(second.folder))).read_bytes()


def test_the_layout_of_the_input_does_not_matter(tmp_path):
    data = study()
    variants = {"csr": data.X, "csc": data.X.tocsc(), "dense": data.X.toarray().astype(np.int64)}
    found = {}
    for kind, X in variants.items():
        run = Run(tmp_path / kind, anndata.AnnData(X, obs=data.obs, var=data.var))
        found[kind] = [io.read_counts(path, 0, GENES) for path in run.prepare()]
    for kind in ("csc", "dense"):
        for one, other in zip(found["csr"], found[kind], strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_array_equal(one.values, other.values)


def test_a_cell_type_with_too_few_donors_is_written_as_skipped(tmp_path, capsys):
    run = Run(tmp_path, study(), filters={"min_cells_per_donor": 2, "min_donors_per_arm": 3})
    prepared = run.prepare()
    why = io.read_meta(prepared[2])["skipped"]
    assert "fewer than two levels of arm have 3 donors" in why
    assert f"warning: C: skipped: {why}" in capsys.readouterr().err
    assert (
        io.read_gene_statistics(prepared[2])["total_count"].sum() == io.read_counts(prepared[2], 0, GENES).values.sum()
    )
    assert anndata.read_h5ad(run.pseudobulk()[2]).n_obs == 0
    assert list(run.contrasts()["cell_types"]) == ["A cells", "B"]


def test_cells_without_counts_are_left_out_but_count_for_the_mean(tmp_path):
    data = study()
    X = data.X.toarray()
    X[3] = 0
    run = Run(tmp_path, anndata.AnnData(X, obs=data.obs, var=data.var), cell_type=None)
    (path,) = run.prepare()
    part = anndata.read_h5ad(path)
    assert part.n_obs == data.n_obs - 1
    assert "cell3" not in part.obs_names
    np.testing.assert_allclose(part.obs.loc["cell0", "size_factor"], X[0].sum() / X.sum(axis=1).mean(), rtol=1e-6)
    assert run.contrasts()["warnings"] == ["cells without a single count are left out: 1"]
    run.set(cell_type=None, size_factors="obs/depth")
    assert anndata.read_h5ad(run.prepare()[0]).n_obs == data.n_obs


def test_selected_cell_types_share_the_size_factors_of_all(tmp_path):
    run = Run(tmp_path, study())
    every = anndata.read_h5ad(run.prepare()[1]).obs["size_factor"]
    run.set(cell_types=["B"])
    (alone,) = run.prepare()
    pd.testing.assert_series_equal(anndata.read_h5ad(alone).obs["size_factor"], every)


def test_tmm_takes_the_samples_of_all_selected_cell_types(tmp_path):
    data = study(paired=True)
    run = Run(tmp_path, data, size_factors="tmm", cell_types=["A cells", "B"])
    cells = data[data.obs["cell_type"].isin(["A cells", "B"])]
    name = cells.obs["donor"].astype(str) + cells.obs["arm"].astype(str)
    sums = pd.DataFrame(cells.X.toarray()).groupby(name.to_numpy()).sum()
    factor = dict(zip(sums.index, sizefactors.tmm(sums.to_numpy()), strict=True))
    total = np.asarray(data.X.sum(axis=1)).ravel()
    expected = pd.Series((total / total.mean()), data.obs_names)[cells.obs_names] * name.map(factor)
    for path in run.prepare():
        found = anndata.read_h5ad(path).obs["size_factor"]
        np.testing.assert_allclose(found, expected[found.index], rtol=1e-6)


def test_cells_that_were_not_split_are_refused(tmp_path):
    run = Run(tmp_path, study(paired=True))
    run.prepare()
    study(paired=True)[::-1].copy().write_h5ad(run.input)
    for what in (run.contrasts, lambda: stages_prepare.prepare(
        str(run.input), str(tmp_path / "split" / "B.h5"), run.cells, "x", "y", run.settings("prepare")
    )):  # fmt: skip
        with pytest.raises(UserError, match=r"the 240 cells of the input are not the 240 cells .*--forcerun split"):
            what()


def test_donors_in_a_column_with_a_name_of_ours(tmp_path):
    data = study(paired=True)
    data.obs["pattern"] = data.obs["donor"]
    run = Run(tmp_path, data, donor="pattern", formula="~ arm + (1 | pattern)")
    assert anndata.read_h5ad(run.prepare()[0]).var["n_donors_expressing"].max() == 6


def test_tmm_where_no_selected_cell_has_a_count(tmp_path):
    data = study()
    X = data.X.toarray()
    X[(data.obs["cell_type"] == "B").to_numpy()] = 0
    run = Run(tmp_path, anndata.AnnData(X, obs=data.obs, var=data.var), size_factors="tmm", cell_types=["B"])
    run.prepare()
    with pytest.raises(UserError, match="none of the 1 cell types can be analysed"):
        run.contrasts()


def test_errors_of_ours_are_not_taken_for_a_damaged_file(tmp_path):
    run = Run(tmp_path, study())
    run.split()
    with pytest.raises(KeyError, match="ours"), runs.reading(tmp_path / "split" / "B.h5"):
        raise KeyError("ours")


def test_samples_may_be_too_few_where_cells_are_not(tmp_path):
    data = study(paired=False)
    donor = data.obs["donor"].cat.codes.to_numpy()
    data.obs["sex"] = pd.Categorical(np.array(["f", "m"])[(donor // 2) % 2])
    data = data[~((data.obs["cell_type"] == "B") & (donor > 3))].copy()
    rng = np.random.default_rng(1)
    data.obs["mito"] = rng.uniform(0, 1, data.n_obs)
    run = Run(tmp_path, data, formula="~ arm + sex + mito + (1 | donor)", cell_types=["A cells", "B"],
              contrasts={"stim": "arm[stim] - arm[ctrl]"}, filters={"min_cells_expressing": 1})  # fmt: skip
    effects = run.tables()["effects"].set_index(["cell_type", "method"])
    why = io.read_meta(run.paths("pseudobulk")[1])["skipped"]
    assert why
    assert not io.read_meta(run.paths("prepared")[1])["skipped"]
    assert set(effects.loc[("B", "pseudobulk"), "reason"]) == {why}
    assert effects.loc[("B", "glmm"), "pvalue"].notna().any()


# ---- contrasts


def test_every_coefficient_is_tested_by_default(tmp_path):
    run = Run(tmp_path, study(), formula="~ arm + age + (1 | donor)", cell_types=["A cells", "B"])
    run.prepare()
    found = run.contrasts()
    assert found["contrasts"] == ["arm[T.stim]", "age"]
    assert found["cell_types"]["B"][1] == {"name": "age", "expression": "age", "weights": [[0.0, 0.0, 1.0]]}


def test_contrasts_keep_the_order_of_the_configuration(tmp_path):
    chosen = {"z": "arm[stim] - arm[ctrl]", "a": "-1 * arm[T.stim]"}
    run = Run(tmp_path, study(), contrasts=chosen)
    run.prepare()
    found = run.contrasts()
    assert found["contrasts"] == ["z", "a"]
    assert [c["weights"] for c in found["cell_types"]["B"]] == [[[0.0, 1.0]], [[0.0, -1.0]]]
    assert found["cell_types"]["B"][0]["expression"] == "arm[stim] - arm[ctrl]"


def test_a_list_is_one_joint_test(tmp_path):
    chosen = {"any": ["arm[stim] - arm[ctrl]", "age"], "mean": "mean(arm[stim]) - mean(arm[ctrl])"}
    run = Run(tmp_path, study(), formula="~ arm + age + (1 | donor)", contrasts=chosen, cell_types=["B"])
    run.prepare()
    joint, mean = run.contrasts()["cell_types"]["B"]
    assert joint["weights"] == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert joint["expression"] == "arm[stim] - arm[ctrl]; age"
    assert mean["weights"] == [[0.0, 1.0, 0.0]]


AGQ = {"estimation": "ml", "integration": "agq", "cell_types": ["B"]}


@pytest.mark.parametrize("formula", ["~ arm + (1 + arm | donor)", "~ arm + depth + (1 | donor)"])
def test_quadrature_of_a_model_that_it_does_not_cover_stops_before_any_fit(tmp_path, formula):
    run = Run(tmp_path, study(paired=True), formula=formula, **AGQ)
    run.prepare()
    with pytest.raises(UserError, match="integration agq needs one random intercept"):
        run.contrasts()
    assert not (tmp_path / "contrasts.json").exists()
    run.set(formula=formula, **AGQ | {"methods": ["pseudobulk"]})
    assert run.contrasts()["contrasts"]


def test_a_contrast_that_one_cell_type_lacks_is_left_out_there(tmp_path, capsys):
    data = study()
    dose = np.array(["0", "0", "low", "low", "high", "high"])[data.obs["donor"].cat.codes]
    data.obs["dose"] = pd.Categorical(dose, categories=["0", "low", "high"])
    data = data[~((data.obs["cell_type"] == "B") & (dose == "high"))].copy()
    chosen = {"high": "dose[high] - dose[low]", "low": "dose[low] - dose[0]"}
    run = Run(tmp_path, data, formula="~ dose + (1 | donor)", contrasts=chosen, cell_types=["A cells", "B"])
    run.prepare()
    found = run.contrasts()
    assert found["contrasts"] == ["high", "low"]
    assert [[c["name"] for c in found["cell_types"][kind]] for kind in ("A cells", "B")] == [["high", "low"], ["low"]]
    assert list(found["left_out"]["B"]) == ["high"]
    assert "warning: B: high cannot be estimated" in capsys.readouterr().err


def test_designs_are_described_before_any_fit(tmp_path, capsys):
    run = Run(tmp_path, study(paired=True), cell_types=["A cells", "B"], contrasts={"stim": "arm[stim] - arm[ctrl]"})
    run.prepare()
    found = run.contrasts()
    log = capsys.readouterr().err
    for kind in ("A cells", "B"):
        (row,) = found["design"][kind]
        assert (row["contrast"], row["replicate"], row["missing"]) == ("stim", "donor:arm", True)
        assert row["caution"].endswith("use ~ arm + (1 | donor) + (1 | donor:arm)")
        assert f"contrasts: {kind}, stim: within donors, 6 of 6 donors on both sides" in log
    table = pd.read_parquet(tmp_path / "design.parquet")
    assert table["cell_type"].tolist() == ["A cells", "B"]
    assert table["lfc_detectable"].tolist() == [found["design"][kind][0]["lfc_detectable"] for kind in ("A cells", "B")]
    text = pd.read_csv(tmp_path / "design.tsv.gz", sep="\t")
    assert list(text.columns) == list(table.columns)
    assert not any(f"warning: {kind}" in log for kind in ("A cells", "B"))


def test_what_is_wrong_with_a_design_is_in_the_log(tmp_path, capsys):
    data = study()
    data.obs["study"] = np.array(["x", "y"])[(data.obs["donor"].cat.codes > 2).astype(int)]
    data.obs["donor"] = pd.Categorical((data.obs["donor"].cat.codes % 3).astype(str))
    run = Run(tmp_path, data, cell_types=["A cells", "B"])
    prepared = run.prepare()
    message = "donor 0, 1, 2 occur in several levels of study ("
    assert any(text.startswith(message) for text in run.contrasts()["warnings"])
    assert message in capsys.readouterr().err
    assert "study" not in anndata.read_h5ad(prepared[0]).obs
    data = study()[study().obs["donor"].isin(["D1", "D2", "D3", "D4"])].copy()
    run = Run(tmp_path / "few", data, cell_types=["A cells", "B"])
    run.prepare()
    run.contrasts()
    few = "B: arm[T.stim] compares few donors (arm[ctrl]: 2, arm[stim]: 2)"
    assert f"contrasts: warning: {few}" in capsys.readouterr().err


def test_a_contrast_that_no_cell_type_has_is_an_error(tmp_path):
    run = Run(tmp_path, study(), contrasts={"good": "arm[T.stim]", "bad": "arm[T.stimm]"})
    run.prepare()
    with pytest.raises(UserError, match=r"stimm.*Did you mean 'arm\[T.stim\]'"):
        run.contrasts()
    assert not (tmp_path / "contrasts.json").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"contrasts": {"bad": "arm[T.stimm]"}}, r"Did you mean 'arm\[T.stim\]'"),
        ({"estimation": "ml", "integration": "agq", "formula": "~ arm + (1 + arm | donor)"}, "integration agq needs"),
        ({"filters": {"min_cells_per_donor": 500}}, "none of the 3 cell types can be analysed; A cells: no donor has"),
    ],
)
def test_what_is_to_come_is_checked_before_any_job(tmp_path, keys, message):
    run = Run(tmp_path, study(paired=True), **keys)
    with pytest.raises(UserError, match=message):
        run.check()


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_memory_changes_nothing_that_is_prepared(tmp_path, layout, monkeypatch):
    data = study(paired=True)
    X = {"csr": data.X, "csc": data.X.tocsc(), "dense": data.X.toarray()}[layout]
    written = []
    for name, most in (("much", splitting.MOST_VALUES), ("little", 100)):
        monkeypatch.setattr(splitting, "MOST_VALUES", most)
        monkeypatch.setattr(splitting, "MOST_KEPT", 4 * most)
        run = Run(tmp_path / name, anndata.AnnData(X, obs=data.obs, var=data.var))
        if written:
            run.input = written[0].input
            run.set()
        run.prepare()
        written.append(run)
    for much, little in zip(*(run.paths("prepared") + run.paths("pseudobulk") for run in written), strict=True):
        assert Path(much).read_bytes() == Path(little).read_bytes()
    with (
        runs.reading(written[1].folder / "split" / "B.h5") as many,
        runs.reading(written[0].folder / "split" / "B.h5") as one,
    ):
        assert len(many.runs) > len(one.runs) == 1


def test_a_cell_type_does_not_depend_on_the_others_that_are_chosen(tmp_path):
    run = Run(tmp_path, study())
    every = [Path(path).read_bytes() for path in run.prepare()]
    run.set(cell_types=["B", "C"])
    assert [Path(path).read_bytes() for path in run.prepare()] == every[1:]
    assert "cell_types" not in run.settings("prepare")
    run.set(size_factors="tmm", cell_types=["B", "C"])
    assert run.settings("prepare")["cell_types"] == ["B", "C"]


def test_cell_types_prepared_with_other_reference_levels_are_refused(tmp_path):
    data = study(paired=True)
    data = data[~((data.obs["cell_type"] == "B") & (data.obs["arm"] == "ctrl"))].copy()
    data.obs["arm"] = data.obs["arm"].cat.add_categories("x")
    data.obs.loc[(data.obs["cell_type"] == "B") & (data.obs["donor"].isin(["D1", "D2", "D3"])), "arm"] = "x"
    run = Run(tmp_path, data, cell_types=["B"])
    run.prepare()
    old = Path(run.paths("prepared")[0]).read_bytes()
    run.set(cell_types=["A cells", "B"])
    run.prepare()
    Path(run.paths("prepared")[1]).write_bytes(old)
    with pytest.raises(UserError, match=r"B was prepared with other reference levels, arm = stim .*arm = ctrl"):
        run.contrasts()


def test_runs_of_another_input_are_refused(tmp_path):
    one, other = (Run(tmp_path / name, study(seed)) for name, seed in (("a", 1), ("b", 2)))
    for run in (one, other):
        run.split()
    (one.folder / "split" / "B.h5").write_bytes((other.folder / "split" / "B.h5").read_bytes())
    with pytest.raises(UserError, match="the runs of B and the table of cells are of different inputs"):
        stages_prepare.prepare(
            str(one.input),
            str(one.folder / "split" / "B.h5"),
            one.cells,
            str(tmp_path / "x"),
            str(tmp_path / "y"),
            one.settings("prepare"),
        )


def test_a_coefficient_that_one_cell_type_lacks(tmp_path):
    data = study()
    dose = np.array(["0", "0", "low", "low", "high", "high"])[data.obs["donor"].cat.codes]
    data.obs["dose"] = pd.Categorical(dose)
    data = data[~((data.obs["cell_type"] == "B") & (dose == "high"))].copy()
    run = Run(tmp_path, data, formula="~ dose + (1 | donor)", cell_types=["A cells", "B"])
    run.prepare()
    found = run.contrasts()
    assert found["contrasts"] == ["dose[T.high]", "dose[T.low]"]
    assert [c["name"] for c in found["cell_types"]["B"]] == ["dose[T.low]"]
    assert found["left_out"]["B"] == {"dose[T.high]": "it has no such coefficient"}


def test_two_settings_are_enough_by_hand(tmp_path):
    run = Run(tmp_path, study(), filters={})
    run.split()
    files = (str(run.folder / "split" / "B.h5"), run.cells, *(str(tmp_path / name) for name in ("cells", "samples")))
    stages_prepare.prepare(str(run.input), *files, {"donor": "donor", "formula": "~ arm + (1 | donor)"})
    assert io.read_meta(tmp_path / "cells")["settings"] == run.own_settings("prepare")
    with pytest.raises(UserError, match="the key donor is missing"):
        stages_prepare.prepare(str(run.input), *files, {})


# ---- bad input


def with_obs(**columns) -> anndata.AnnData:
    data = study()
    for name, values in columns.items():
        data.obs[name] = values
    return data


def changed(change) -> anndata.AnnData:
    data = study()
    change(data)
    return data


BAD = {
    "missing formula column": (
        study,
        {"formula": "~ arms + (1 | donor)"},
        "obs has no column 'arms'.*Did you mean 'arm'",
    ),
    "missing donor column": (
        study,
        {"donor": "patient"},
        "obs has no column 'patient'.*configuration key donor.*donor, arm",
    ),
    "missing size factors": (study, {"size_factors": "obs/dept"}, "Did you mean 'depth'"),
    "missing layer": (study, {"counts": "layers/raw"}, "the file has no layers/raw"),
    "missing symbols": (study, {"gene_names": "var/symbols"}, "configuration key gene_names.*Did you mean 'symbol'"),
    "normalized": (lambda: changed(lambda d: setattr(d, "X", d.X.log1p())), {}, "not whole numbers.*normalized"),
    "duplicate cells": (
        lambda: changed(lambda d: setattr(d, "obs_names", ["x"] * d.n_obs)),
        {},
        "1 cell name occurs .* once: x",
    ),
    "duplicate genes": (
        lambda: changed(lambda d: setattr(d, "var_names", ["x"] * d.n_vars)),
        {},
        "1 gene name occurs .* once: x",
    ),
    "constant donor": (lambda: with_obs(donor="D1"), {}, "donor column 'donor' is constant"),
    "missing value": (
        lambda: with_obs(age=[np.nan] + [1.0] * 239),
        {"formula": "~ arm + age + (1 | donor)"},
        "'age' is missing",
    ),
    "no label": (
        lambda: with_obs(cell_type=pd.Categorical([None] + ["A"] * 239)),
        {},
        "1 of 240 cells have no cell type",
    ),
    "reference": (study, {"reference": {"arm": "control"}}, "reference level 'control' does not occur"),
    "reference column": (study, {"reference": {"sex": "f"}}, "reference level for 'sex'"),
    "formula": (study, {"formula": "~ arm +* age"}, "the formula cannot be read"),
    "collinear slopes": (
        study,
        {"formula": "~ arm + (1 + age + center(age) | donor)"},
        r"random slope of center\(age\) in .* cannot be estimated",
    ),
    "cells as replicates": (study, {"formula": "~ arm"}, "would take the 240 cells for the replicates"),
}


@pytest.mark.filterwarnings("ignore:.* names are not unique")
@pytest.mark.parametrize("problem", BAD)
def test_bad_input_stops_before_anything_is_written(tmp_path, problem):
    make, keys, message = BAD[problem]
    run = Run(tmp_path, make(), **keys)
    with pytest.raises(UserError, match=message):
        run.check()
        run.split()
    assert sorted(entry.name for entry in tmp_path.rglob("*") if entry.is_file()) == ["study.h5ad"]


def test_an_absent_cell_type(tmp_path):
    run = Run(tmp_path, study(), cell_types=["A cell"])
    with pytest.raises(UserError, match="Did you mean 'A cells'"):
        run.paths("prepared")


def test_outputs_must_match_the_cell_types(tmp_path):
    run = Run(tmp_path, study())
    with pytest.raises(UserError, match="1 outputs for 3 cell types"):
        stages_prepare.split(str(run.input), [str(tmp_path / "a.h5")], run.cells, run.settings("split"))


# ---- real data

REAL = {
    "kang18_pbmc": {"formula": "~ condition + (1 | donor) + (1 | donor:condition)"},
    "onek1k_40donors": {"formula": "~ condition + age + (1 | donor)"},
    "pig_small_airway_cftr": {"formula": "~ condition + (1 | donor)", "size_factors": "tmm"},
    "covid_pbmc_4donors": {"formula": "~ condition + (1 | donor)"},
    "ipf_20genes_57donors": {"formula": "~ condition + (1 | donor)", "size_factors": "obs/total_counts"},
    "nebula_sample": {"formula": "~ condition + X1 + X2 + (1 | donor)", "size_factors": "obs/offset"},
}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_data(tmp_path, name):
    source = SHARED / "data" / f"{name}.h5ad"
    if not source.is_file():
        pytest.skip(f"{source} is absent")
    data = anndata.read_h5ad(source)
    run = Run(tmp_path, data[:0])
    run.input = source
    run.set(**REAL[name], filters={})
    for path, summed in zip(run.prepare(), run.pseudobulk(), strict=True):
        part, sums = anndata.read_h5ad(path), anndata.read_h5ad(summed)
        assert (data[part.obs_names].X.tocsc() != part.X).nnz == 0
        if not io.read_meta(path)["skipped"]:
            assert sums.X.sum() == part.X.sum()
            np.testing.assert_array_equal(np.asarray(part.X.sum(axis=0)).ravel(), part.var["total_count"])
