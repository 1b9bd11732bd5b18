"""What stops a run or a cell type before any fit, and what is only warned of."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlmgen import design
from mlmgen.design_rank import why_not_samples
from mlmgen.errors import UserError
from mlmgen.formula import parse

SHARED = Path(os.environ.get("MLMGEN_SHARED", Path(__file__).parents[3] / "shared")) / "data"
SIMPLE = "~ condition + (1 | donor)"
NESTED = "~ condition + (1 | donor) + (1 | donor:condition)"


def study(**columns):
    """Eight donors of five cells, four in each condition."""
    donor = np.repeat([f"D{i}" for i in range(8)], 5)
    obs = pd.DataFrame({"donor": donor, "condition": np.repeat(["ctrl", "stim"], 20), "cell_type": "T"})
    obs.index = [f"cell{i}" for i in range(40)]
    return obs.assign(**columns)


def paired():
    return study(condition=["ctrl", "stim"] * 20)


def problem(obs, formula=SIMPLE, donor="donor", **arguments) -> UserError:
    with pytest.raises(UserError) as caught:
        design.check(obs, parse(formula), donor, where="a.h5ad", **arguments)
    error = caught.value
    assert error.what
    assert error.where
    assert error.do.endswith(".")
    assert "\n" not in str(error)
    return error


def test_good_data_pass_in_silence():
    assert design.check(study(), parse(SIMPLE), "donor", also=["cell_type"]) == ()
    assert design.check(paired(), parse(NESTED), "donor", reference={"condition": "stim"}) == ()


def test_missing_formula_column():
    error = problem(study(), "~ conditoin + (1 | donor)")
    assert error.what == "there is no obs column 'conditoin'"
    assert error.where == "configuration key formula, file a.h5ad"
    assert error.do == "Did you mean 'condition'? The obs columns are: donor, condition, cell_type."


@pytest.mark.parametrize(
    ("arguments", "key"),
    [({"donor": "patient"}, "donor"), ({"sample": "lane"}, "sample"), ({"also": ["celltype"]}, "obs of")],
)
def test_missing_other_column(arguments, key):
    error = problem(study(), **arguments)
    assert key in error.where
    assert "donor, condition, cell_type" in error.do


def test_a_column_name_that_needs_backticks():
    error = problem(study(**{"my-age": np.arange(40.0)}), "~ my-age + (1 | donor)")
    assert "'my'" in error.what
    assert "write `my-age` in backticks" in error.do


def test_duplicate_obs_column():
    obs = study()
    obs.insert(0, "x", obs["condition"])
    obs.columns = ["condition", *obs.columns[1:]]
    assert "two obs columns are called 'condition'" in problem(obs).what


@pytest.mark.parametrize("column", ["donor", "condition", "cell_type", "batch"])
@pytest.mark.parametrize("value", [None, np.nan, ""])
def test_missing_values(column, value):
    obs = study(batch=["b1", "b2"] * 20)
    obs[column] = obs[column].astype(object)
    obs.iloc[[3, 7], list(obs.columns).index(column)] = value
    error = problem(obs, "~ condition + (1 | donor) + (1 | batch)", also=["cell_type"])
    assert error.what == f"obs column {column!r} is missing (NaN or empty) in 2 of 40 cells, first in cell3, cell7"
    assert error.where == f"a.h5ad, obs['{column}']"


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_missing_values_of_any_type(dtype):
    obs = study()
    obs["condition"] = obs["condition"].where(obs.index != "cell0").astype(dtype)
    assert "missing (NaN or empty) in 1 of 40 cells" in problem(obs).what


def test_the_text_na_is_a_level():
    obs = study(condition=np.repeat(["NA", "nan"], 20))
    assert design.check(obs, parse(SIMPLE), "donor") == ()


def test_missing_and_infinite_numbers():
    ages = np.repeat(np.arange(8.0), 5)
    with_nan, with_inf = ages.copy(), ages.copy()
    with_nan[2], with_inf[2] = np.nan, np.inf
    formula = "~ condition + age + (1 | donor)"
    assert "'age' is missing" in problem(study(age=with_nan), formula).what
    assert "1 cells have an infinite age" in problem(study(age=with_inf), formula).what
    nullable = pd.array([None, *ages[1:].astype(int)], dtype="Int64")
    assert "'age' is missing" in problem(study(age=nullable), formula).what


def test_dates_are_no_variable():
    obs = study(day=pd.date_range("2020-01-01", periods=40))
    assert "datetime64" in problem(obs, "~ condition + day + (1 | donor)").what


def test_no_cells():
    assert "no cells" in problem(study().iloc[:0]).what


def test_donor_is_constant():
    error = problem(study(donor="D1"))
    assert error.what == "donor column 'donor' is constant: all 40 cells belong to D1"


def test_donor_is_unique_per_cell():
    assert "unique per cell: 40 values in 40 cells" in problem(study(donor=range(40))).what
    nearly = [f"c{i}" for i in range(39)] + ["c0"]
    assert "nearly unique per cell: 39 values in 40 cells" in problem(study(donor=nearly)).what


@pytest.mark.parametrize("column", [["ctrl"] * 40, np.ones(40), [True] * 40])
def test_a_constant_variable(column):
    error = problem(study(x=column), "~ condition + x + (1 | donor)")
    assert "'x' is constant" in error.what
    assert "all 40 cells" in error.what


def test_fewer_than_two_donors_in_an_arm():
    obs = study()
    obs["condition"] = np.where(obs["donor"] == "D7", "stim", "ctrl")
    error = problem(obs)
    assert error.what == "fewer than 2 donors in 1 of the 2 levels of 'condition': stim (1)"
    assert error.where == "a.h5ad, obs['condition']"
    assert error.do == "Merge levels, leave these cells out or add donors."  # fewer than 2 cannot be allowed
    assert "or lower filters.min_donors_per_arm" in problem(obs, min_donors_per_arm=5).do
    assert design.check(obs, parse(SIMPLE), "donor", min_donors_per_arm=1) == ()


def test_a_number_stored_as_text():
    obs = study(age=np.repeat([str(age) for age in range(30, 38)], 5))
    assert "store it as numbers" in problem(obs, "~ age + (1 | donor)", min_donors_per_arm=2).do


def test_condition_confounded_with_batch():
    obs = study(batch=np.repeat(["b1", "b2", "b10", "b11"], 10))
    error = problem(obs, "~ condition + batch + (1 | donor)")
    assert error.what == (
        "the design is rank-deficient, column batch[T.b11] cannot be told apart from the others: every level of batch "
        "occurs with only one of condition (b1 with ctrl, b2 with ctrl, b10 with stim, b11 with stim)"
    )
    assert "Take one of batch, condition" in error.do
    assert "a batch can be a random intercept" in error.do
    two = problem(study(batch=np.repeat(["b1", "b2"], 20)), "~ condition + batch + (1 | donor)")
    assert two.do.endswith("these data cannot tell their effects apart.")


def test_crossed_and_several_random_terms_are_fine():
    obs = study(lane=["l1", "l2", "l3", "l4", "l5"] * 8, site=np.tile(np.repeat(["s1", "s2"], 5), 4))
    assert design.check(obs, parse("~ condition + (1 | donor) + (1 | lane)"), "donor", methods=["glmm"]) == ()
    nested = "~ condition + (1 | site) + (1 | donor) + (1 | donor:lane2)"
    obs["lane2"] = ["l1", "l2", "l2", "l1", "l1"] * 8
    assert design.check(obs, parse(nested), "donor", methods=["glmm"]) == ()


@pytest.mark.parametrize("formula", ["~ condition", "~ condition + (1 | site)"])
def test_cells_cannot_be_the_replicates_of_the_glmm(formula):
    obs = study(site=np.tile(np.repeat(["s1", "s2"], 5), 4))
    error = problem(obs, formula, methods=["pseudobulk", "glmm"])
    assert "8 donors of 'donor': the glmm would take the 40 cells for the replicates" in error.what
    assert error.do == "Add (1 | donor) in the formula, or leave glmm out of methods."
    assert design.check(obs, parse(formula), "donor", methods=["pseudobulk"]) == ()


def test_the_advice_for_pairs_has_their_replicate():
    needed = "(1 | donor) + (1 | donor:condition)"
    error = problem(paired(), "~ condition", methods=["glmm"])
    assert error.do == f"Add {needed} in the formula, or leave glmm out of methods."
    fixed = problem(paired(), "~ condition + donor", methods=["glmm"])
    assert fixed.do.startswith(f"Write {needed} for donor in the formula")


@pytest.mark.parametrize(
    ("random", "terms"),
    [
        ("(0 + x | donor)", "random terms, (0 + x | donor),"),
        ("(1 | site) + (0 + x || donor)", "random terms, (1 | site), (0 + x || donor),"),
        ("(1 | site)", "random intercepts, (1 | site),"),
    ],
)
def test_slopes_alone_do_not_separate_donors(random, terms):
    obs = study(site=np.tile(np.repeat(["s1", "s2"], 5), 4), x=np.arange(40.0) ** 2)
    error = problem(obs, f"~ condition + x + {random}", methods=["glmm"])
    assert error.what.startswith(f"the formula's {terms} do not separate the 8 donors of 'donor'")


@pytest.mark.parametrize("random", ["(x | donor)", "(0 + arm | donor)", "(0 + arm || donor)"])
def test_slopes_with_intercepts_separate_donors(random):
    obs = study(x=np.arange(40.0) ** 2, arm=["a", "b"] * 20)
    design.check(obs, parse(f"~ condition + x + {random}"), "donor", methods=["glmm"])


def test_groups_within_donors_can_be_the_replicates():
    obs = study(well=np.repeat([f"w{i}" for i in range(16)], [3, 2] * 8))
    (warning,) = design.check(obs, parse("~ condition + (1 | well)"), "donor", methods=["glmm"])
    assert "the groups of well of one donor count as independent replicates; add (1 | donor)" in warning


def test_two_names_for_one_variable():
    obs = study(arm=np.repeat(["a", "b"], 20))
    error = problem(obs, "~ condition + arm + (1 | donor)")
    assert "arm and condition always change together (a with ctrl, b with stim)" in error.what


def test_a_number_confounded_with_a_factor():
    obs = study(dose=np.repeat([0.0, 2.5], 20))
    error = problem(obs, "~ condition + dose + (1 | donor)")
    assert "dose and condition always change together (0 with ctrl, 2.5 with stim)" in error.what


def test_condition_missing_in_an_arm():
    obs = study(sex=["F", "M"] * 20)
    obs = obs[(obs["condition"] == "ctrl") | (obs["sex"] == "F")]
    error = problem(obs, "~ condition * sex + (1 | donor)")
    assert "no cells have condition = stim with sex = M" in error.what
    obs = study(sex=["F", "M"] * 20)
    obs = obs[(obs["condition"] == "stim") | (obs["sex"] == "F")]
    assert "no cells have condition = ctrl with sex = M" in problem(obs, "~ condition * sex + (1 | donor)").what


def test_a_sum_of_columns():
    x, y = np.arange(40.0) % 7, np.arange(40.0) % 5
    error = problem(study(x=x, y=y, z=x + y), "~ x + y + z + (1 | donor)")
    assert "z is a combination of x, y" in error.what


def test_more_coefficients_than_donors():
    obs = study(**{f"x{i}": np.repeat(np.eye(8)[i], 5) for i in range(8)})
    error = problem(obs, "~ condition + x0 + x1 + x2 + x4 + x5 + x6 + (1 | donor)")
    assert "8 coefficients for 8 values of donor" in error.what


def test_fixed_donors_in_a_paired_design_are_fine():
    (warning,) = design.check(paired(), parse("~ condition + donor"), "donor")
    assert "(1 | donor:condition)" in warning


@pytest.mark.parametrize(
    ("reference", "what", "do"),
    [
        ({"condition": "control"}, "reference level 'control' does not occur in 'condition'", "levels are: ctrl, stim"),
        ({"conditions": "ctrl"}, "'conditions', which is not in the fixed effects", "Did you mean 'condition'?"),
        ({"age": 3}, "'age' is a number and has no reference", "Write C(age)"),
        ({"code": 1}, "reference level 1 does not occur in 'code'", "Put the level in quotes"),
    ],
)
def test_reference_levels(reference, what, do):
    obs = study(age=np.repeat(np.arange(8.0), 5), code=np.tile(["01", "02"], 20))
    error = problem(obs, "~ condition + age + code + (1 | donor)", reference=reference)
    assert what in error.what
    assert do in error.do
    assert error.where.startswith("configuration key reference.")


def test_reference_of_numbers_and_booleans():
    obs = study(code=np.tile([1, 2, 3, 4], 10), treated=np.repeat([True, False], 20))
    formula = parse("~ C(code) + treated + (1 | donor) + (1 | donor:code)")
    assert design.check(obs, formula, "donor", reference={"code": 2, "treated": True}) == ()
    assert design.references(obs, formula, {"code": 2}) == {"code": "2", "treated": "False"}
    slopes = parse("~ within(code) + (1 + treated | donor)")
    assert design.references(obs, slopes, {"treated": True}) == {"treated": "True"}
    design.check(
        paired().assign(x=np.arange(40.0)), parse("~ x + (condition | donor)"), "donor", reference={"condition": "stim"}
    )


def test_a_random_intercept_with_the_groups_of_another():
    error = problem(study(), NESTED)
    assert "(1 | donor:condition) cannot be estimated: it has the same groups as donor" in error.what
    assert error.do == "Take (1 | donor:condition) out of the formula."


def test_a_random_slope_with_the_effects_of_another():
    error = problem(paired(), "~ condition + (1 | donor:condition) + (1 + condition | donor)")
    assert error.what == (
        "the random intercept (1 | donor:condition) cannot be estimated: "
        "(1 + condition | donor) has an effect for each of its groups already"
    )
    error = problem(paired().assign(x=np.arange(40.0)), "~ x + (x | donor) + (0 + x | donor:cell_type)")
    assert error.what.startswith("the random term (0 + x | donor:cell_type) cannot be estimated: its effects are among")
    assert error.do == "Take (0 + x | donor:cell_type) out of the formula."


def test_collinear_slopes():
    error = problem(study(x=np.arange(40.0), y=np.arange(40.0) * 2), "~ x + (1 + x + y | donor)")
    assert error.what == ("the random slope of y in (1 + x + y | donor) cannot be estimated: it is a combination of x")
    assert error.do == "Take y out of (1 + x + y | donor)."


def test_a_constant_slope():
    error = problem(study(x=1.5), "~ condition + (x | donor)")
    assert error.what == "'x' is constant: it is 1.5 in all 40 cells"


def test_a_random_intercept_with_one_group():
    error = problem(study(site="Oslo"), "~ condition + (1 | donor) + (1 | site)")
    assert "all cells belong to one group, Oslo" in error.what


def test_a_random_intercept_with_a_group_per_cell():
    error = problem(study(barcode=[f"c{i}" for i in range(40)]), "~ condition + (1 | donor) + (1 | barcode)")
    assert "a group for each of the 40 cells" in error.what


def test_fixed_and_random():
    assert "both a fixed effect and a random" in problem(paired(), "~ condition + donor + (1 | donor)").what
    assert "both a fixed effect and a random" in problem(paired(), "~ donor + (1 + condition | donor)").what
    obs = paired().assign(x=np.arange(40.0))
    design.check(obs, parse("~ condition + donor + x + (0 + x | donor)"), "donor")


def test_splits_of_what_does_not_vary():
    obs = study(age=np.repeat(np.arange(8.0), 5), dose=np.tile([0.1, 0.2, 0.3, 0.4, 0.7], 8))
    error = problem(obs, "~ condition + within(age) + (1 | donor)")
    assert error.what == "age does not vary within groups: within(age) is 0 in all 40 cells"
    assert error.do == "Write age for within(age), or take it out of the formula."
    error = problem(obs, "~ condition + between(dose) + within(dose) + (1 | donor)")
    assert error.what == "dose does not vary between groups: between(dose) is 0.34 in all 40 cells"
    all_three = problem(obs.assign(x=np.arange(40.0)), "~ x + within(x) + between(x) + (1 | donor)")
    assert "between(x) is a combination of x, within(x)" in all_three.what
    assert all_three.do.startswith("Take one of between(x), x, within(x) out of the formula; these data cannot tell")


def test_a_column_that_is_the_same_in_all_cells():
    error = problem(study(x=np.arange(40.0)), "~ condition + {x > -1} + (1 | donor)")
    assert error.what.endswith("x > -1 is the same in all cells")
    assert error.do == "Take x > -1 out of the formula."


def test_offsets_must_be_numbers():
    assert "offset(log(x)) is not a finite" in problem(study(x=np.arange(40.0)), f"{SIMPLE} + offset(log(x))").what
    error = problem(study(), f"{SIMPLE} + offset(x)")
    assert error.what == "there is no obs column 'x'"


def test_pseudobulk_needs_columns_that_differ_between_samples():
    obs = study(x=np.sin(np.arange(40.0)))
    error = problem(obs, "~ condition + within(x) + (1 | donor)", methods=["pseudobulk"])
    assert error.what == "pseudobulk sees only the mean of each sample, and within(x) averages to 0 in every sample"
    assert error.do.startswith("Leave pseudobulk out of methods, set sample to")
    design.check(obs, parse("~ condition + within(x) + between(x) + (1 | donor)"), "donor", methods=["glmm"])
    balanced = problem(study(x=np.tile([1.0, 2, 3, 4, 5], 8)), "~ condition + x + (1 | donor)", methods=["pseudobulk"])
    assert (
        balanced.what
        == "pseudobulk sees only the mean of each sample, and x cannot be told apart from the others there"
    )
    many = problem(obs, "~ condition * bs(x, df=4) + (1 | donor)", methods=["pseudobulk"])
    assert many.what == (
        "pseudobulk has 8 samples for 10 coefficients: nothing is left to estimate the variation between them"
    )


def test_sums_of_a_cell_type_that_cannot_be_fitted():
    obs = study(x=np.sin(np.arange(40.0)))
    for text, why in (("condition + x", ""), ("condition + within(x)", "within(x) averages to 0 in every sample")):
        cells, _ = design.build(obs, parse(f"~ {text} + (1 | donor)"), "donor")
        assert why_not_samples(design.for_samples(cells)).endswith(why)
        assert bool(why) == bool(why_not_samples(design.for_samples(cells)))


def test_a_term_that_cannot_be_evaluated():
    error = problem(study(), "~ log(condition) + (1 | donor)")
    assert "cannot be evaluated" in error.what
    assert "log(condition)" in error.what


def test_a_transformation_that_is_not_defined():
    error = problem(study(x=np.arange(40.0)), "~ log(x) + (1 | donor)")
    assert error.what == "log(x) is not a finite number in 1 of 40 cells"


def test_levels_left_out_by_the_formula_are_not_dropped_in_silence():
    error = problem(study(), "~ C(condition, levels=['ctrl']) + (1 | donor)")
    assert "outside of the nominated levels" in error.what


def test_warns_of_a_factor_constant_in_most_donors():
    obs = study()
    obs.loc["cell0", "condition"] = "stim"
    warning, second = design.check(obs, parse(SIMPLE), "donor")
    assert "condition is constant in 7 of 8 donors, but not in D0 (ctrl: 4 cells, stim: 1 cells)" in warning
    assert "(1 | donor:condition)" in second


def test_warns_of_a_number_constant_in_most_donors():
    age = np.repeat(np.arange(8.0) + 30.5, 5)
    age[0] = 99
    (warning,) = design.check(study(age=age), parse("~ condition + age + (1 | donor)"), "donor")
    assert "age is constant in 7 of 8 donors, but not in D0 (2 values)" in warning


def test_warns_of_a_paired_design_without_its_replicate():
    (warning,) = design.check(paired(), parse(SIMPLE), "donor")
    assert "condition varies within donors" in warning
    assert "add (1 | donor:condition)" in warning
    obs = paired().rename(columns={"condition": "the arm"}).assign(lane=paired()["donor"] + paired()["condition"])
    (warning,) = design.check(obs, parse("~ `the arm` + (1 | donor)"), "donor")
    assert "add (1 | donor:`the arm`)" in warning
    assert design.check(obs, parse("~ `the arm` + (1 | donor) + (1 | lane)"), "donor") == ()


def test_a_random_slope_is_the_replicate_of_a_factor_too():
    for random, expected in (("(condition | donor)", 0), ("(0 + condition | donor)", 0), ("(1 | donor)", 1)):
        warnings = design.check(paired(), parse(f"~ condition + {random}"), "donor")
        assert sum("varies within donors" in text for text in warnings) == expected


def visits(**columns):
    """Eight donors seen at 0, 1 and 2 months, forty cells a visit."""
    donor, inside = np.divmod(np.arange(960), 120)
    table = {"donor": [f"D{i}" for i in donor], "month": inside // 40 * 1.0, "condition": np.where(donor < 4, "c", "s")}
    return pd.DataFrame(table | columns)


def test_warns_of_numbers_of_visits_without_a_replicate():
    intercept, mixed, codes = design.check(visits(), parse("~ condition * month + (1 | donor)"), "donor")
    assert intercept == (
        "month varies within donors, but the formula has no random slope of it: cell-level p-values of month will be "
        "too small; write (1 + month | donor)"
    )
    assert "month varies within the samples of 'donor': pseudobulk sees only its mean in each sample" in mixed
    assert "set sample to the obs column of the visit" in mixed
    assert "C(month)" in codes
    obs = visits(visit=(np.arange(960) // 40).astype(str))
    for random in ("(month | donor)", "(1 | donor) + (1 | visit)", "(within(month) | donor)"):
        found = design.check(obs, parse(f"~ condition * month + {random}"), "donor", sample="visit")
        assert not any("replicate" in text or "random slope" in text or "pseudobulk" in text for text in found)
        assert any("C(month)" in text for text in found) == ("month" not in random)


def test_numbers_of_cells_need_no_replicate():
    obs = visits(pct=np.sin(np.arange(960.0)))
    assert design.check(obs, parse("~ condition + pct + (1 | donor)"), "donor") == ()


def test_warns_of_slopes_that_do_not_vary_within_groups():
    obs = study(age=np.repeat(np.arange(8.0) + 30.5, 5))
    (warning,) = design.check(obs, parse("~ condition + (1 + age | donor)"), "donor")
    assert warning == (
        "age does not vary within any group of donor: its variance in (1 + age | donor) can hardly be told from that "
        "of the other effects; leave age out of (1 + age | donor)"
    )
    (warning,) = design.check(obs, parse("~ condition + (0 + condition | donor)"), "donor")
    assert warning.startswith("condition[ctrl], condition[stim] do not vary within any group of donor: their variances")
    assert design.check(obs, parse("~ condition + (0 + condition || donor)"), "donor") == ()


def test_warns_of_more_variances_than_groups():
    obs = study(x=np.sin(np.arange(40.0)), y=np.cos(np.arange(40.0)), z=np.arange(40.0) % 7)
    (warning,) = design.check(obs, parse("~ condition + (x + y + z | donor)"), "donor")
    assert warning == (
        "(1 + x + y + z | donor) asks for 10 variances and covariances from 8 groups of donor; "
        "(1 + x + y + z || donor) asks for 4 variances"
    )


def test_warns_of_mixed_samples():
    warnings = design.check(paired(), parse(NESTED), "donor", sample="donor")
    assert len(warnings) == 1
    assert "condition varies within the samples of 'donor'" in warnings[0]


def test_warns_of_samples_that_are_numbered_anew_in_each_donor():
    obs = study(biopsy=np.tile([1, 1, 2, 2, 3], 8), region=np.tile(list("aabbc"), 8))
    (warning,) = design.check(obs, parse("~ condition + (1 | donor) + (1 | biopsy)"), "donor")
    assert warning == (
        "biopsy 1 occurs in 8 donors, and (1 | biopsy) takes its cells for one biopsy; if each donor's are numbered "
        "anew, write (1 | donor:biopsy)"
    )
    for random in ("(1 | donor/biopsy)", "(1 | donor) + (1 | region)"):
        assert design.check(obs, parse(f"~ condition + {random}"), "donor") == ()
    apart = obs.assign(biopsy=obs["donor"] + "_" + obs["biopsy"].astype(str))
    assert design.check(apart, parse("~ condition + (1 | donor) + (1 | biopsy)"), "donor") == ()


def test_a_sample_of_two_donors_is_an_error():
    obs = study(sample=np.repeat([f"S{i}" for i in range(4)], 10))
    error = problem(obs, sample="sample")
    assert error.what == "4 samples hold cells of more than one donor, such as S0 (D0, D1)"


def test_warns_of_numbers_that_may_be_codes():
    (warning,) = design.check(study(pool=np.tile([1, 2, 3, 4], 10)), parse("~ pool + (1 | donor)"), "donor")
    assert "write C(pool)" in warning


def review(obs, formula=SIMPLE, **arguments):
    return design.review(obs, parse(formula), "donor", **arguments)


def test_review_of_a_good_cell_type():
    assert review(study()) == ("", ())


def test_review_skips_for_want_of_donors():
    assert review(study().iloc[:0])[0] == "it has no cells"
    assert review(study().iloc[:5])[0] == "all its cells belong to one donor, D0"
    reason = "fewer than two levels of condition have 2 donors (ctrl: 4, stim: 1)"
    assert review(study().iloc[:25]) == (reason, ())
    assert review(study().iloc[:20])[0] == "fewer than two levels of condition have 2 donors (ctrl: 4)"
    assert review(study().iloc[:25], min_donors_per_arm=1) == ("", ())


def test_review_skips_a_design_that_is_confounded_here():
    obs = study(batch=["b1", "b2"] * 20)
    formula = "~ condition + batch + (1 | donor)"
    assert review(obs, formula) == ("", ())
    reason, _ = review(obs[(obs["condition"] == "ctrl") == (obs["batch"] == "b1")], formula)
    assert "batch and condition always change together" in reason


def test_review_skips_a_number_that_is_constant_here():
    reason, _ = review(study(age=30.0), "~ condition + age + (1 | donor)")
    assert reason == "'age' is constant: it is 30 in all 40 cells"


def test_review_loses_the_slope_of_what_is_constant_here():
    """Only a slope has it: the fixed effects keep their meaning, so the cell type is fitted without it."""
    for random, columns, kept in [
        ("(1 + age | donor)", {"age": 30}, ["(Intercept)"]),
        ("(1 + age || donor)", {"age": 30}, ["(Intercept)"]),
        ("(1 + lane | donor)", {"lane": "b"}, ["(Intercept)"]),
        ("(1 + lane + age | donor)", {"lane": "b", "age": np.arange(40) % 7}, ["(Intercept)", "age"]),
    ]:
        name, value = next(iter(columns.items()))
        obs, formula = study(**columns), f"~ condition + {random}"
        seen = f"the random slope of {name} in {random} is left out: {name} is {value} in all 40 cells"
        assert review(obs, formula) == ("", (seen,))
        built, _ = design.build(obs, parse(formula), "donor")
        assert [effect for term in built.terms for effect in term.effects] == kept
    assert review(study(lane="b"), "~ condition + (0 + lane | donor)") == ("", ())
    obs = study(age=np.repeat(np.arange(8.0), 5))
    formula = "~ condition + (1 | donor) + (0 + within(age) | donor)"
    seen = "the random slope of within(age) in (0 + within(age) | donor) is left out: within(age) is 0 in all 40 cells"
    assert review(obs, formula) == ("", (seen,))
    assert [term.effects for term in design.build(obs, parse(formula), "donor")[0].terms] == [("(Intercept)",)]


def test_review_loses_slopes_that_cannot_be_told_apart_here():
    obs = study(x=np.sin(np.arange(40.0)), y=np.cos(np.arange(40.0)))
    formula = "~ condition + (1 + x + y | donor)"
    assert review(obs, formula) == ("", ())
    (warning,) = review(obs.assign(y=2 * obs["x"]), formula)[1]
    assert warning == "the random slope of y in (1 + x + y | donor) is left out: it is a combination of x"


def test_review_warns_of_slopes_that_are_flat_here():
    formula = "~ condition + (1 + condition | donor)"
    assert review(paired(), formula) == ("", ())
    one_each = paired()[(paired()["donor"].str[1:].astype(int) % 2 == 0) == (paired()["condition"] == "ctrl")]
    (warning,) = review(one_each, formula)[1]
    assert warning.startswith("condition[T.stim] does not vary within any group of donor: its variance")


def test_review_skips_a_saturated_design():
    obs = study(age=np.repeat(np.arange(8.0), 5))
    reason, _ = review(obs.iloc[:10], "~ age + (1 | donor)")
    assert "2 coefficients for 2 values of donor" in reason


def test_review_warns():
    arms = np.repeat(["A", "B", "C"], [15, 20, 5])
    reason, warnings = review(study(condition=arms), reference={"condition": "Z"})
    assert reason == ""
    assert warnings == (
        "condition = C has 1 donor here: effects of it rest on few replicates",
        "condition = Z does not occur here: the level compared with is A",
    )
    reason, warnings = review(study(), NESTED)
    assert warnings == ("the random intercept (1 | donor:condition) is left out: it has the same groups as donor",)


def test_review_skips_where_an_interaction_loses_its_reference():
    obs = study(sex=["F", "M"] * 20)
    reason, _ = review(obs, "~ condition * sex + (1 | donor)", reference={"condition": "Z"})
    assert reason == "condition = Z, the reference level, does not occur"


def read_shared(name: str) -> pd.DataFrame:
    path = SHARED / f"{name}.h5ad"
    if not path.exists():
        pytest.skip(f"no {path.name}: set MLMGEN_SHARED to the folder that holds data/{path.name}")
    import anndata

    return anndata.read_h5ad(path, backed="r").obs


@pytest.mark.shared
def test_kang():
    obs = read_shared("kang18_pbmc")
    (warning,) = design.check(obs, parse(SIMPLE), "donor", also=["cell_type"])
    assert "(1 | donor:condition)" in warning
    assert design.check(obs, parse(NESTED), "donor") == ()
    reasons = {name: review(cells, NESTED)[0] for name, cells in obs.groupby("cell_type", observed=True)}
    assert [name for name, reason in reasons.items() if reason] == ["Erythroid"]


@pytest.mark.shared
def test_onek1k_pools_hold_one_donor():
    error = problem(read_shared("onek1k_40donors"), "~ condition + batch + (1 | donor)")
    assert "fewer than 2 donors in 20 of the 29 levels of 'batch'" in error.what
    assert "(1 | batch)" in error.do


@pytest.mark.shared
def test_pig_region_is_constant():
    error = problem(read_shared("pig_small_airway_cftr"), "~ condition + region + (1 | donor)")
    assert "'region' is constant" in error.what
