"""The design of a cell type: patterns, groups, samples, sizes."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import design
from mlmgen.errors import UserError
from mlmgen.formula import parse

SHARED = Path(os.environ.get("MLMGEN_SHARED", Path(__file__).parents[3] / "shared")) / "data"
NESTED = parse("~ condition + (1 | donor) + (1 | donor:condition)")


def paired():
    """Three donors, two conditions, donor D10 without stim; ten cells."""
    donor = ["D10", "D2", "D2", "D1", "D10", "D1", "D2", "D1", "D2", "D1"]
    condition = ["ctrl", "stim", "ctrl", "ctrl", "ctrl", "stim", "stim", "ctrl", "stim", "stim"]
    return pd.DataFrame({"donor": donor, "condition": condition}, index=[f"cell{i}" for i in range(10)])


def test_paired_by_hand():
    size = np.arange(1.0, 11.0)
    built, order = design.build(paired(), NESTED, "donor", size_factor=size)
    assert order.tolist() == [3, 7, 5, 9, 2, 1, 6, 8, 0, 4]
    assert built.coefficients == ("(Intercept)", "condition[T.stim]")
    assert built.pattern.tolist() == [0, 0, 1, 1, 2, 3, 3, 3, 4, 4]
    assert built.X.tolist() == [[1, 0], [1, 1], [1, 0], [1, 1], [1, 0]]
    np.testing.assert_array_equal(built.log_size, np.log(size[order]))
    donor, sample = built.terms
    assert (donor.name, donor.levels, donor.codes.tolist()) == ("donor", ("D1", "D2", "D10"), [0, 0, 1, 1, 2])
    names = ("D1:ctrl", "D1:stim", "D2:ctrl", "D2:stim", "D10:ctrl")
    assert (sample.name, sample.levels, sample.codes.tolist()) == ("donor:condition", names, [0, 1, 2, 3, 4])
    assert (built.sample.levels, built.sample.codes.tolist()) == (names, [0, 1, 2, 3, 4])
    assert built.donor.codes.tolist() == donor.codes.tolist()
    assert built.within == ("condition",)
    assert {name: row.tolist() for name, row in built.means.items()} == {
        "condition[ctrl]": [1, 0],
        "condition[stim]": [1, 1],
        "mean(condition[ctrl])": [1, 0],
        "mean(condition[stim])": [1, 1],
    }
    assert (donor.effects, donor.Z.tolist(), donor.basis.tolist()) == (("(Intercept)",), [[1] * 5], [0])
    assert (built.basis.tolist(), built.functions.shape, built.function_names) == ([0, 0], (10, 0), ())
    assert not built.offset.any()
    assert (built.pattern.dtype, built.log_size.dtype, built.X.dtype) == (np.int32, np.float64, np.float64)
    assert {term.codes.dtype for term in (*built.terms, built.donor, built.sample)} == {np.dtype(np.int32)}


def test_reference_level_first():
    built, order = design.build(paired(), NESTED, "donor", reference={"condition": "stim"})
    assert built.coefficients == ("(Intercept)", "condition[T.ctrl]")
    assert built.sample.levels == ("D1:stim", "D1:ctrl", "D2:stim", "D2:ctrl", "D10:ctrl")
    assert order.tolist() == [5, 9, 3, 7, 1, 6, 8, 2, 0, 4]
    assert built.means["condition[stim]"].tolist() == [1, 0]


def test_unpaired_sample_is_the_donor():
    obs = pd.DataFrame({"donor": list("aabbccdd"), "condition": ["x"] * 4 + ["y"] * 4})
    built, _ = design.build(obs, parse("~ condition + (1 | donor)"), "donor")
    assert (built.sample.name, built.sample.levels, built.within) == ("donor", ("a", "b", "c", "d"), ())


def test_numbers_that_vary_within_donors_make_functions_but_no_samples():
    obs = paired().assign(mito=np.arange(10.0))
    built, order = design.build(obs, parse("~ condition + mito + (1 | donor)"), "donor")
    assert built.X.tolist() == [[1, 0, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 1]]
    assert built.within == ("condition", "mito")
    assert len(built.sample.levels) == 5
    assert (built.basis.tolist(), built.function_names) == ([0, 0, 1], ("mito",))
    np.testing.assert_array_equal(built.functions[:, 0], order)


def test_given_sample():
    obs = paired().assign(lane=["s1", "s10", "s2", "s3", "s1", "s4", "s10", "s3", "s10", "s4"])
    built, _ = design.build(obs, NESTED, "donor", sample="lane")
    assert built.sample.name == "lane"
    assert built.sample.levels == ("s3", "s4", "s2", "s10", "s1")  # by donor, then natural order


def test_sample_of_two_donors():
    obs = paired().assign(lane=["s1", "s1"] + ["s2"] * 8)
    with pytest.raises(UserError, match=r"2 samples hold cells of more than one donor, such as s1 \(D2, D10\)"):
        design.build(obs, NESTED, "donor", sample="lane")


def test_sample_names_do_not_collide():
    obs = pd.DataFrame({"donor": ["a", "a", "a:b", "a:b"] * 2, "c": ["b:c", "x", "c", "x"] * 2})
    built, _ = design.build(obs, parse("~ c + (1 | donor)"), "donor")
    assert sorted(built.sample.levels) == sorted(["a:b\\:c", "a:x", "a\\:b:c", "a\\:b:x"])


@pytest.mark.parametrize("donors", [[1, 2, 10], [1.0, 2.0, 10.0], ["1", "2", "10"], pd.Categorical(["1", "2", "10"])])
def test_donor_names_of_any_type(donors):
    obs = pd.DataFrame({"donor": pd.Series(donors).repeat(4).to_numpy(), "condition": ["a", "b"] * 6})
    built, _ = design.build(obs, parse("~ condition + (1 | donor)"), "donor")
    assert built.donor.levels == ("1", "2", "10")


def test_a_numeric_donor_in_the_fixed_effects_is_a_factor():
    obs = pd.DataFrame({"donor": [1, 2, 3] * 4, "condition": ["a", "b"] * 6})
    built, _ = design.build(obs, parse("~ condition + donor"), "donor")
    assert built.coefficients == ("(Intercept)", "condition[T.b]", "donor[T.2]", "donor[T.3]")


def test_unused_categories_are_dropped():
    obs = paired()
    obs["condition"] = pd.Categorical(obs["condition"], categories=["other", "stim", "ctrl"])
    obs["donor"] = pd.Categorical(obs["donor"], categories=["D0", "D1", "D2", "D10"])
    built, _ = design.build(obs, NESTED, "donor")
    assert built.coefficients == ("(Intercept)", "condition[T.stim]")
    assert built.donor.levels == ("D1", "D2", "D10")


def test_absent_reference_is_named_in_the_coefficients():
    obs = pd.DataFrame({"donor": list("abcdef") * 2, "arm": ["B", "C", "B"] * 4})
    built, _ = design.build(obs, parse("~ arm + (1 | donor)"), "donor", reference={"arm": "A"})
    assert built.coefficients == ("(Intercept)", "arm[T.C vs B]")


def test_terms_that_cannot_be_estimated_are_left_out():
    obs = pd.DataFrame({"donor": list("aabbccdd"), "condition": ["x"] * 4 + ["y"] * 4, "batch": ["one"] * 8})
    formula = parse("~ condition + (1 | batch) + (1 | donor:condition) + (1 | donor)")
    built, _ = design.build(obs, formula, "donor")
    assert [term.name for term in built.terms] == ["donor"]


def test_size_factors():
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UserError, match="1 of 10 size factors"):
            design.build(paired(), NESTED, "donor", size_factor=np.r_[bad, np.ones(9)])
    assert not design.build(paired(), NESTED, "donor")[0].log_size.any()


def test_offsets_add_to_the_size_factors():
    size, volume = np.arange(1.0, 11.0), np.linspace(0.5, 2, 10)
    formula = parse("~ condition + offset(log(volume)) + offset(volume) + (1 | donor)")
    built, order = design.build(paired().assign(volume=volume), formula, "donor", size_factor=size)
    added = np.log(volume) + volume
    np.testing.assert_allclose(built.offset, added[order], rtol=1e-15)
    np.testing.assert_allclose(built.log_size, (np.log(size) + added)[order], rtol=1e-15)
    assert built.coefficients == ("(Intercept)", "condition[T.stim]")
    samples = design.for_samples(built)
    whole = np.bincount(built.sample.codes[built.pattern], np.exp(built.log_size))
    alone = np.bincount(built.sample.codes[built.pattern], size[order])
    np.testing.assert_allclose(samples.log_size, np.log(whole), rtol=1e-14)
    np.testing.assert_allclose(samples.log_size - samples.offset, np.log(alone), rtol=1e-13, atol=1e-13)


def test_random_slopes_by_hand():
    """Terms of a factor, of a number, without correlations, nested; three donors and ten cells."""
    obs = paired().assign(dose=np.where(paired()["condition"] == "stim", 2.0, 0.5))
    text = "~ condition + (1 + condition | donor) + (0 + dose | batch) + (1 + dose || batch2/donor)"
    obs = obs.assign(batch=["x", "y"] * 5, batch2=["u"] * 4 + ["v"] * 6)
    built, order = design.build(obs, parse(text), "donor")
    names = ["donor", "batch", "batch2", "batch2", "batch2:donor", "batch2:donor"]
    effects = [("(Intercept)", "condition[T.stim]"), ("dose",), *[("(Intercept)",), ("dose",)] * 2]
    assert [term.name for term in built.terms] == names
    assert [term.effects for term in built.terms] == effects
    sorted_obs = obs.iloc[order]
    stim, dose = (sorted_obs["condition"] == "stim").to_numpy(float), sorted_obs["dose"].to_numpy()
    columns = {"(Intercept)": np.ones(10), "condition[T.stim]": stim, "dose": dose}
    for term in built.terms:
        assert (term.Z.dtype, term.basis.dtype, term.codes.dtype) == (np.float64, np.int32, np.int32)
        assert not term.basis.any()
        for z, effect in zip(term.Z, term.effects, strict=True):
            assert z[built.pattern].tolist() == columns[effect].tolist()
    donors = sorted_obs["donor"].to_numpy()
    assert donors.tolist() == [built.terms[0].levels[code] for code in built.terms[0].codes[built.pattern]]
    assert built.terms[4].levels == ("u:D1", "u:D2", "u:D10", "v:D1", "v:D2", "v:D10")


def test_slopes_over_cells_share_the_functions_of_the_fixed_effects():
    obs = paired().assign(mito=np.arange(10.0), time=np.linspace(0, 1, 10) ** 2)
    built, order = design.build(obs, parse("~ condition * mito + (1 + mito + time | donor)"), "donor")
    assert built.function_names == ("mito", "time")
    assert built.basis.tolist() == [0, 0, 1, 1]
    assert built.terms[0].basis.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(
        built.functions, np.column_stack([np.arange(10.0), np.linspace(0, 1, 10) ** 2])[order]
    )
    assert built.X[:, 3].tolist() == built.X[:, 1].tolist()


def test_within_and_between_by_hand():
    obs = pd.DataFrame({"donor": list("aabbb"), "lane": list("xyxyy"), "x": [1.0, 3.0, 6.0, 7.0, 8.0]})
    text = "~ within(x) + between(x) + within(log(x), lane) + (1 + within(x) | donor)"
    obs = pd.concat([obs] * 2, ignore_index=True)
    built, order = design.build(obs, parse(text), "donor")
    assert built.coefficients == ("(Intercept)", "within(x)", "between(x)", "within(log(x), lane)")
    assert built.function_names == ("within(x)", "within(log(x), lane)")
    np.testing.assert_allclose(built.functions[:, 0], np.array([-1, 1, -1, 0, 1] * 2)[order], atol=1e-15)
    assert built.X[built.pattern, 2].tolist() == [2] * 4 + [7] * 6
    log, lane = np.log(obs["x"]), obs["lane"]
    expected = log - log.groupby(lane).transform("mean")
    np.testing.assert_allclose(built.functions[:, 1], expected.to_numpy()[order], atol=1e-15)
    assert built.terms[0].effects == ("(Intercept)", "within(x)")
    assert built.terms[0].basis.tolist() == [0, 1]
    assert built.within == ("within(x)", "within(log(x), lane)")


def test_within_of_what_varies_between_donors_alone_is_exactly_zero():
    obs = pd.DataFrame({"donor": list("aaabbbcc"), "x": [0.1] * 3 + [0.7] * 3 + [0.3] * 2, "y": range(8)})
    with pytest.raises(UserError, match=r"within\(x\) is always 0"):
        design.build(obs, parse("~ within(x) + y + (1 | donor)"), "donor")


@pytest.mark.parametrize(
    ("formula", "what"),
    [
        ("~ within(log(x)) + (1 | donor)", "within(log(x)) needs one finite number for each cell, which log(x) is not"),
        ("~ between(poly(x, 2)) + (1 | donor)", "between(poly(x, 2)) needs one finite number for each cell"),
        (
            "~ within(condition) + (1 | donor)",
            "within(condition) needs a number, but obs column 'condition' holds text",
        ),
    ],
)
def test_what_cannot_be_split(formula, what):
    with pytest.raises(UserError) as caught:
        design.build(paired().assign(x=np.arange(10.0)), parse(formula), "donor")
    assert caught.value.what.startswith(what)
    assert caught.value.do.endswith(".")


def longitudinal():
    """Six donors seen at two to four of the visits 0, 1.5, 3 and 6 months, thirty cells a visit, two arms."""
    visits = {"D1": [0, 1.5, 3, 6], "D2": [0, 6], "D3": [1.5, 3], "D4": [0, 1.5, 6], "D5": [0, 3, 6], "D6": [3, 6]}
    rows = [(donor, time) for donor, times in visits.items() for time in times for _ in range(30)]
    obs = pd.DataFrame(rows, columns=["donor", "time"])
    return obs.assign(arm=np.where(obs["donor"].isin(["D1", "D3", "D5"]), "drug", "placebo"))


def test_longitudinal_designs_keep_donors_with_missing_visits():
    obs = longitudinal().sample(frac=1.0, random_state=3)
    obs["visit"] = obs["donor"] + "@" + obs["time"].astype(str)
    formula = parse("~ arm * time + (1 + time | donor) + (1 | visit)")
    assert design.check(obs, formula, "donor", sample="visit", methods=["glmm", "pseudobulk"]) == ()
    assert design.review(obs, formula, "donor", sample="visit") == ("", ())
    built, order = design.build(obs, formula, "donor", sample="visit")
    slope, visit = built.terms
    assert slope.levels == ("D1", "D2", "D3", "D4", "D5", "D6")
    assert (slope.effects, slope.basis.tolist()) == (("(Intercept)", "time"), [0, 0])
    assert slope.Z[1].tolist() == [0, 1.5, 3, 6, 0, 6, 1.5, 3, 0, 1.5, 6, 0, 3, 6, 3, 6]
    assert np.bincount(slope.codes).tolist() == [4, 2, 2, 3, 3, 2]
    assert (len(visit.levels), built.functions.shape) == (16, (480, 0))
    np.testing.assert_array_equal(built.X[built.pattern, 2], obs["time"].to_numpy()[order])
    samples = design.for_samples(built)
    assert [(term.name, term.effects) for term in samples.terms] == [("donor", ("(Intercept)",))]
    assert samples.X[:, 2].tolist() == slope.Z[1].tolist()


def test_for_samples_by_hand():
    size = np.arange(1.0, 11.0)
    cells, _ = design.build(paired(), NESTED, "donor", size_factor=size)
    samples = design.for_samples(cells)
    assert samples.pattern.tolist() == [0, 1, 2, 3, 4]
    assert samples.X.tolist() == [[1, 0], [1, 1], [1, 0], [1, 1], [1, 0]]
    np.testing.assert_allclose(np.exp(samples.log_size), [4 + 8, 6 + 10, 3, 2 + 7 + 9, 1 + 5], rtol=1e-14)
    assert [(term.name, term.codes.tolist()) for term in samples.terms] == [("donor", [0, 0, 1, 1, 2])]
    assert samples.sample.levels == cells.sample.levels
    assert samples.donor.codes.tolist() == [0, 0, 1, 1, 2]


def test_for_samples_averages_what_varies_within_samples():
    obs = paired().assign(mito=np.r_[0.1, np.arange(1.0, 10.0)], age=np.where(paired()["donor"] == "D1", 0.1, 0.7))
    cells, _ = design.build(obs, parse("~ condition + mito + age + (1 | donor)"), "donor")
    samples = design.for_samples(cells)
    np.testing.assert_allclose(samples.X[:, 2], [(3 + 7) / 2, (5 + 9) / 2, 2, (1 + 6 + 8) / 3, (0.1 + 4) / 2])
    assert samples.X[:, 3].tolist() == [0.1, 0.1, 0.7, 0.7, 0.7]  # exactly, where it does not vary


def test_for_samples_drops_groups_that_cut_through_samples():
    obs = paired().assign(sample=paired()["donor"])
    cells, _ = design.build(obs, NESTED, "donor", sample="sample")
    assert [term.name for term in cells.terms] == ["donor", "donor:condition"]
    assert design.for_samples(cells).terms == ()


@pytest.mark.parametrize(
    ("terms", "kept"),
    [
        ("(1 + condition | donor)", ["donor"]),
        ("(0 + condition | donor)", ["donor"]),  # the same model in other words
        ("(0 + condition || donor)", ["donor"]),
        ("(1 | donor) + (0 + mito | donor)", ["donor"]),
        ("(1 + mito || donor) + (1 | donor:condition)", ["donor"]),
        ("(0 + mito | donor)", []),
        ("(0 + age | donor)", []),
        ("(1 + condition | site) + (mito | donor)", ["site", "donor"]),
    ],
)
def test_for_samples_keeps_intercepts_alone_of_few_samples(terms, kept):
    obs = paired().assign(mito=np.arange(10.0), age=paired()["donor"].str[1:].astype(float))
    obs["site"] = np.where(obs["donor"] == "D1", "s", "t")
    cells, _ = design.build(obs, parse(f"~ condition + {terms}"), "donor")
    samples = design.for_samples(cells)
    assert [(term.name, term.effects) for term in samples.terms] == [(name, ("(Intercept)",)) for name in kept]
    for term in samples.terms:
        assert (term.Z.tolist(), term.basis.tolist()) == ([[1] * 5], [0])


@pytest.mark.parametrize(
    ("terms", "kept"),
    [
        ("(1 + day | donor)", [("donor", ("(Intercept)", "day"))]),
        ("(1 + day || donor)", [("donor", ("(Intercept)",)), ("donor", ("day",))]),
        ("(1 + day + mito | donor)", [("donor", ("(Intercept)", "day"))]),
        ("(1 | donor) + (0 + mito | donor)", [("donor", ("(Intercept)",))]),
        # As many effects as visits: the dispersion has to stand for the slopes.
        ("(1 + day + I(day**2) + I(day**3) | donor)", [("donor", ("(Intercept)",))]),
    ],
)
def test_for_samples_keeps_slopes_of_many_visits(terms, kept):
    donors, visits = np.repeat(np.arange(8), 8), np.tile(np.repeat(np.arange(4.0), 2), 8)
    obs = pd.DataFrame({"donor": [f"D{d}" for d in donors], "day": visits, "mito": np.arange(64.0) % 7})
    obs["sample"] = obs["donor"] + "-" + obs["day"].astype(str)
    cells, _ = design.build(obs, parse(f"~ day + {terms}"), "donor", "sample")
    samples = design.for_samples(cells)
    assert [(term.name, term.effects) for term in samples.terms] == kept
    days = np.array([float(level.split("-")[1]) for level in samples.sample.levels])
    for term in samples.terms:
        assert term.codes.shape == (32,)
        expected = [days if effect == "day" else np.ones(32) for effect in term.effects]
        np.testing.assert_array_equal(term.Z, expected)


def test_for_samples_averages_functions_with_their_coefficients():
    obs = paired().assign(mito=np.r_[0.1, np.arange(1.0, 10.0)], age=paired()["donor"].str[1:].astype(float))
    cells, _ = design.build(obs, parse("~ condition * mito + mito:age + (1 + mito | donor)"), "donor")
    assert cells.function_names == ("mito",)
    samples = design.for_samples(cells)
    mean = np.array([(3 + 7) / 2, (5 + 9) / 2, 2, (1 + 6 + 8) / 3, (0.1 + 4) / 2])
    stim, age = [0, 1, 0, 1, 0], np.array([1, 1, 2, 2, 10])
    assert samples.coefficients == ("(Intercept)", "condition[T.stim]", "mito", "condition[T.stim]:mito", "mito:age")
    np.testing.assert_allclose(samples.X, np.column_stack([np.ones(5), stim, mean, stim * mean, age * mean]))
    assert (samples.basis.tolist(), samples.functions.shape, samples.function_names) == ([0] * 5, (5, 0), ())


def random_obs(seed: int, n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    donor = rng.integers(0, 6, n)
    columns = {
        "donor": np.array([f"D{i}" for i in range(6)])[donor],
        "condition": rng.choice(["ctrl", "stim"], n),
        "age": np.array([21.5, 34.0, 47.25, 50.0, 63.125, 70.0])[donor],
        "mito": np.round(rng.random(n), 1),
    }
    return pd.DataFrame(columns)


FORMULAS = [
    "~ condition + (1 | donor) + (1 | donor:condition)",
    "~ condition * age + mito + (1 | donor)",
    "~ condition + bs(mito, df=4) + center(age) + (1 | donor)",
    "~ condition * within(mito) + between(mito) + offset(log(age)) + (1 + within(mito) | donor)",
    "~ condition:mito + {mito > 0.5} + (0 + condition + center(age):mito || donor)",
]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), text=st.sampled_from(FORMULAS))
def test_order_of_cells_does_not_matter(seed, text):
    obs = random_obs(3)
    shuffle = np.random.default_rng(seed).permutation(len(obs))
    size = np.random.default_rng(9).random(len(obs)) + 0.5
    one, order = design.build(obs, parse(text), "donor", size_factor=size)
    two, shuffled = design.build(obs.iloc[shuffle], parse(text), "donor", size_factor=size[shuffle])
    for name in ("X", "basis", "pattern"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.function_names == two.function_names
    for a, b in zip((*one.terms, one.donor, one.sample), (*two.terms, two.donor, two.sample), strict=True):
        assert (a.name, a.levels, a.codes.tolist()) == (b.name, b.levels, b.codes.tolist())
    for a, b in zip(one.terms, two.terms, strict=True):
        assert (a.effects, a.Z.tolist(), a.basis.tolist()) == (b.effects, b.Z.tolist(), b.basis.tolist())
    assert one.means.keys() == two.means.keys()
    for name, row in one.means.items():
        np.testing.assert_array_equal(row, two.means[name])
    back = shuffle[shuffled]
    for name in ("functions", "offset", "log_size"):
        np.testing.assert_array_equal(getattr(one, name)[np.argsort(order)], getattr(two, name)[np.argsort(back)])
    for pattern in range(one.X.shape[0]):
        assert sorted(back[two.pattern == pattern]) == order[one.pattern == pattern].tolist()
    assert (np.diff(shuffled)[np.diff(two.pattern) == 0] > 0).all()


def rows(built):
    """The model matrix, one row for each cell."""
    functions = np.column_stack([np.ones(len(built.pattern)), built.functions])
    return built.X[built.pattern] * functions[:, built.basis]


@settings(max_examples=15, deadline=None)
@given(names=st.permutations(["D10", "d", "01", "NA", "a b", "7"]), text=st.sampled_from(FORMULAS))
def test_names_of_donors_only_permute_them(names, text):
    obs = random_obs(4)
    new = dict(zip(sorted(set(obs["donor"])), names, strict=True))
    one, order = design.build(obs, parse(text), "donor")
    two, renamed = design.build(obs.assign(donor=obs["donor"].map(new)), parse(text), "donor")
    assert one.coefficients == two.coefficients
    cells = np.argsort(order), np.argsort(renamed)
    np.testing.assert_allclose(rows(one)[cells[0]], rows(two)[cells[1]], rtol=1e-12, atol=1e-12)
    assert (np.diff(one.pattern) >= 0).all()
    assert (np.diff(two.pattern) >= 0).all()
    donors = [np.array(d.donor.levels)[d.donor.codes[d.pattern]][c] for d, c in zip((one, two), cells, strict=True)]
    assert [new[name] for name in donors[0]] == donors[1].tolist()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_reference_level_changes_no_fit(seed):
    """The columns of the model matrix span the same space."""
    obs = random_obs(seed)
    formula = parse("~ condition * age + (1 | donor)")
    one, order = design.build(obs, formula, "donor", reference={"condition": "ctrl"})
    two, other = design.build(obs, formula, "donor", reference={"condition": "stim"})
    A, B = one.X[one.pattern][np.argsort(order)], two.X[two.pattern][np.argsort(other)]
    np.testing.assert_allclose(A @ np.linalg.lstsq(A, B, rcond=None)[0], B, atol=1e-8)


def test_build_refuses_dependent_columns():
    obs = pd.DataFrame({"donor": list("abcd") * 3, "x": ["u", "u", "v", "v"] * 3, "z": ["p", "p", "q", "q"] * 3})
    with pytest.raises(UserError, match="rank-deficient"):
        design.build(obs, parse("~ x + z + (1 | donor)"), "donor")


def test_input_is_not_changed():
    obs = random_obs(1)
    before = obs.copy(deep=True)
    design.build(obs, parse(FORMULAS[2]), "donor")
    pd.testing.assert_frame_equal(obs, before)


def read_shared(name: str) -> pd.DataFrame:
    path = SHARED / f"{name}.h5ad"
    if not path.exists():
        pytest.skip(f"no {path.name}: set MLMGEN_SHARED to the folder that holds data/{path.name}")
    import anndata

    return anndata.read_h5ad(path, backed="r").obs


@pytest.mark.shared
def test_kang_is_paired():
    obs = read_shared("kang18_pbmc")
    obs = obs[obs["cell_type"] == "CD14+ Monocytes"]
    built, order = design.build(obs, NESTED, "donor", reference={"condition": "ctrl"})
    assert built.X.shape == (16, 2)
    assert [len(term.levels) for term in built.terms] == [8, 16]
    donors = obs["donor"].astype(str).to_numpy()[order]
    assert donors.tolist() == [built.donor.levels[code] for code in built.donor.codes[built.pattern]]
    assert [term.name for term in design.for_samples(built).terms] == ["donor"]


@pytest.mark.shared
def test_onek1k_has_numbers_and_donors_without_pairs():
    obs = read_shared("onek1k_40donors")
    formula = parse("~ condition + age + (1 | donor)")
    assert design.check(obs, formula, "donor") == ()
    built, _ = design.build(obs[obs["cell_type"] == "cd4nc"], formula, "donor")
    assert built.X.shape == (40, 3)
    assert built.within == ()
    assert built.sample.levels[:3] == ("SAMP1", "SAMP2", "SAMP3")


@pytest.mark.shared
def test_nebula_condition_varies_from_cell_to_cell():
    obs = read_shared("nebula_sample")
    built, _ = design.build(obs, parse("~ condition + X1 + X2 + (1 | donor)"), "donor")
    assert built.within == ("condition", "X1")
    assert len(built.sample.levels) == 60
    assert design.for_samples(built).X.shape == (60, 4)
