"""Choosing cells, size factors and designs, without files."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlmgen import formula as formulas
from mlmgen import prepare
from mlmgen.errors import UserError

SETTINGS = {
    "donor": "donor",
    "sample": None,
    "cell_type": "cell_type",
    "size_factors": "library",
    "reference": {},
    "filters": {"min_cells_per_donor": 2, "min_donors_per_arm": 2},
}
FORMULA = formulas.parse("~ arm + (1 | donor)")


def cells(per_donor: dict[str, int], arms: dict[str, str]) -> pd.DataFrame:
    """Cells of donors one after the other."""
    donor = [name for name, n in per_donor.items() for _ in range(n)]
    obs = pd.DataFrame({"donor": donor, "arm": [arms[name] for name in donor]})
    obs.index = [f"c{i}" for i in range(len(obs))]
    return obs


FOUR = cells({"D2": 3, "D10": 3, "D1": 3, "D3": 3}, {"D2": "a", "D10": "b", "D1": "a", "D3": "b"})


def plan(obs: pd.DataFrame = FOUR, formula=FORMULA, **settings) -> prepare.Plan:
    return prepare.plan(obs, formula, SETTINGS | settings, "a.h5ad")[0]


def cell_type(obs: pd.DataFrame, shared: prepare.Plan | None = None) -> prepare.CellType:
    return prepare.cell_type("T", 100 + np.arange(len(obs)), obs, np.ones(len(obs)), shared or plan())


def test_used_columns_name_their_key():
    settings = SETTINGS | {"size_factors": "obs/depth", "sample": "well"}
    formula = formulas.parse("~ arm + age + (1 | donor) + (1 | donor:batch)")
    assert prepare.used_columns(settings, formula) == {
        "arm": "formula",
        "age": "formula",
        "donor": "donor",
        "batch": "formula",
        "cell_type": "cell_type",
        "well": "sample",
        "depth": "size_factors",
    }


def test_used_columns_of_slopes_splits_and_offsets():
    formula = formulas.parse("~ within(log(pct), lane) + offset(log(volume)) + (1 + time | donor)")
    used = prepare.used_columns(SETTINGS, formula)
    assert {name for name, key in used.items() if key == "formula"} == {"pct", "lane", "volume", "time"}


def test_repeated_names_are_refused():
    prepare.check_unique(np.array(["a", "b"], dtype=object), "gene", "X", "Rename")
    with pytest.raises(UserError, match="2 gene names occur more than once: b, a"):
        prepare.check_unique(np.array(["a", "b", "b", "a", "b"], dtype=object), "gene", "X", "Rename")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Categorical(["x", None, "y"]), ["x", None, "y"]),
        (["x", None, "y"], ["x", None, "y"]),
        ([1, 2, 1], ["1", "2", "1"]),
        ([1.0, np.nan, 0.5], ["1", None, "0.5"]),
        ([True, False, True], ["True", "False", "True"]),
        (pd.array([1, None, 3], dtype="Int64"), ["1", None, "3"]),
    ],
)
def test_labels_are_text(values, expected):
    assert list(prepare.labels(pd.Series(values))) == expected


def test_cells_of_selected_types():
    obs = pd.DataFrame({"kind": ["T", "B", None, "T"]})
    assert prepare.codes(obs, "kind", ["T"], False, "").tolist() == [0, -1, -1, 0]
    assert prepare.codes(obs, None, ["all"], True, "").tolist() == [0, 0, 0, 0]
    with pytest.raises(UserError, match="1 of 4 cells have no cell type"):
        prepare.codes(obs, "kind", ["B", "T"], True, "")


def test_rows_are_sorted_by_donor_and_keep_their_order_within():
    part = cell_type(FOUR)
    assert part.rows.tolist() == [106, 107, 108, 100, 101, 102, 109, 110, 111, 103, 104, 105]  # D1 D2 D3 D10
    assert part.design.donor.levels == ("D1", "D2", "D3", "D10")
    assert (part.n_donors, part.skipped, part.warnings) == (4, "", ())


def test_size_factors_follow_the_rows():
    size = np.arange(1.0, 13.0)
    part = prepare.cell_type("T", np.arange(12), FOUR, size, plan())
    np.testing.assert_allclose(np.exp(part.design.log_size), size[part.rows])


def test_small_donors_are_left_out_by_name():
    obs = pd.concat([FOUR, cells({"D4": 1, "D20": 1}, {"D4": "a", "D20": "b"})])
    part = cell_type(obs)
    assert part.warnings == ("donors with fewer than 2 cells are left out: D4 (1), D20 (1)",)
    assert (part.n_donors, len(part.rows)) == (4, 12)


def test_a_cell_type_with_too_few_donors_in_an_arm_is_skipped():
    part = cell_type(FOUR[FOUR["donor"] != "D3"])
    assert part.design is None
    assert "fewer than two levels of arm have 2 donors" in part.skipped
    assert part.rows.tolist() == [106, 107, 108, 100, 101, 102, 103, 104, 105]  # D1 D2 D10
    assert part.n_donors == 3


def test_a_cell_type_without_a_large_donor_is_skipped():
    part = cell_type(FOUR.iloc[[0, 3, 6, 9]])
    assert part.skipped == "no donor has 2 cells (min_cells_per_donor); the most is 1"
    assert (len(part.rows), part.n_donors, part.warnings) == (0, 0, ())


def test_the_reference_is_that_of_all_cells():
    """In a cell type that lacks the first level the contrast must not change its meaning silently."""
    arms = dict(zip(("D1", "D2", "D3", "D4", "D5", "D6"), "aabbcc", strict=True))
    obs = cells(dict.fromkeys(arms, 2), arms)
    shared = plan(obs)
    assert shared.reference == {"arm": "a"}
    whole = cell_type(obs, shared)
    assert whole.design.coefficients == ("(Intercept)", "arm[T.b]", "arm[T.c]")
    part = cell_type(obs[obs["arm"] != "a"], shared)
    assert "arm[T.c]" not in part.design.coefficients
    assert part.warnings


def test_a_problem_of_all_cells_stops():
    with pytest.raises(UserError, match="fewer than 2 donors"):
        plan(FOUR[FOUR["donor"] != "D3"])


def counts_of(obs: pd.DataFrame, seed: int = 1) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(2.0, (len(obs), 30)).astype(np.int32))


def size_factors(kind: str, obs: pd.DataFrame, selected: np.ndarray, X, **settings) -> np.ndarray:
    return prepare.size_factors(kind, obs, selected, X, np.asarray(X.sum(axis=1)).ravel(), plan(obs, **settings))


def test_library_relates_to_all_cells_of_the_file():
    chosen = np.arange(6, 12)
    found = prepare.size_factors("library", FOUR.iloc[chosen], np.arange(12.0), chosen, None)
    np.testing.assert_allclose(found, chosen / 5.5)


def test_tmm_multiplies_library_sizes():
    chosen, factor = np.array([3, 5]), np.array([0.5, 2.0])
    found = prepare.size_factors("tmm", FOUR.iloc[chosen], np.arange(12.0), chosen, factor)
    np.testing.assert_allclose(found, [0.5 * 3 / 5.5, 2 * 5 / 5.5])


def test_samples_are_split_by_what_varies_within_donors():
    assert prepare.samples(FOUR, plan()).tolist() == [2] * 3 + [1] * 3 + [0] * 3 + [3] * 3
    obs = FOUR.assign(arm=["a", "b", "b"] * 4)
    assert len(set(prepare.samples(obs, plan(obs)))) == 8
    well = obs.assign(well=obs["donor"])
    assert len(set(prepare.samples(well, plan(well, sample="well")))) == 4


def test_samples_are_not_split_by_the_factors_of_slopes():
    obs = FOUR.assign(side=["l", "r", "r"] * 4)
    shared = plan(obs, formulas.parse("~ arm + (1 + side | donor)"))
    assert shared.reference == {"arm": "a", "side": "l"}
    assert len(set(prepare.samples(obs, shared))) == 4


def test_given_size_factors_matter_for_selected_cells_only():
    obs = FOUR.assign(depth=[0.0, *range(1, 12)])
    chosen = np.arange(1, 12)
    found = prepare.size_factors("obs/depth", obs.iloc[chosen], np.ones(12), chosen, None)
    assert found.tolist() == [float(i) for i in range(1, 12)]
    with pytest.raises(UserError, match=r"1 of 12 size factors .*cell c0 has 0"):
        prepare.size_factors("obs/depth", obs, np.ones(12), np.arange(12), None)


def test_tables_of_cells_and_samples():
    from mlmgen.design import for_samples

    obs = FOUR.assign(arm=["a", "b", "b"] * 4, age=FOUR["donor"].map({"D1": 1.0, "D2": 2.0, "D3": 3.0, "D10": 4.0}))
    obs["mt"] = np.arange(12.0)
    part = cell_type(obs, plan(obs))
    table = prepare.cell_table(obs.iloc[part.rows - 100], np.ones(12), part.design)
    assert list(table["sample"][:3]) == ["D1:a", "D1:b", "D1:b"]
    assert table["pattern"].tolist() == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]
    sums = prepare.sample_table(table, part.design, for_samples(part.design))
    assert sums.index.tolist() == ["D1:a", "D1:b", "D2:a", "D2:b", "D3:a", "D3:b", "D10:a", "D10:b"]
    assert sums["n_cells"].tolist() == [1, 2] * 4
    assert sums["size_factor"].tolist() == pytest.approx([1, 2] * 4)
    assert sums["arm"].tolist() == ["a", "b"] * 4
    assert sums["age"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert "mt" not in sums


def test_sums_have_the_size_factor_without_the_offset():
    from mlmgen.design import for_samples

    obs = FOUR.assign(volume=np.linspace(1, 2, 12))
    shared = plan(obs, formulas.parse("~ arm + offset(log(volume)) + (1 | donor)"))
    size = np.arange(1.0, 13.0)
    part = prepare.cell_type("T", np.arange(12), obs, size, shared)
    table = prepare.cell_table(obs.iloc[part.rows], size[part.rows], part.design)
    sums = prepare.sample_table(table, part.design, for_samples(part.design))
    assert sums["size_factor"].tolist() == pytest.approx([7 + 8 + 9, 1 + 2 + 3, 10 + 11 + 12, 4 + 5 + 6])


def test_a_slope_that_cannot_be_estimated_in_a_cell_type():
    obs = pd.concat([FOUR] * 2, ignore_index=True).assign(time=np.tile([0.0, 1, 2], 8), site=["s", "t"] * 12)
    shared = plan(obs, formulas.parse("~ arm + (time | donor) + (1 | site)"))
    assert [term.effects for term in cell_type(obs, shared).design.terms] == [("(Intercept)", "time"), ("(Intercept)",)]
    part = cell_type(obs[obs["site"] == "s"], shared)
    assert part.warnings == ("the random intercept (1 | site) is left out: all cells belong to one group, s",)
    assert [term.name for term in part.design.terms] == ["donor"]
    part = cell_type(obs[obs["time"] == 1], shared)
    seen = "the random slope of time in (1 + time | donor) is left out: time is 1 in all 8 cells"
    assert (part.skipped, part.warnings) == ("", (seen,))
    assert [term.effects for term in part.design.terms] == [("(Intercept)",), ("(Intercept)",)]


def test_a_column_of_the_users_called_sample_stays():
    obs = FOUR.assign(sample=FOUR["donor"] + "!")
    part = cell_type(obs)
    table = prepare.cell_table(obs.iloc[part.rows - 100], np.ones(12), part.design)
    assert table["sample"].iloc[0] == "D1!"
    assert table["mlmgen_sample"].iloc[0] == "D1"
