"""What is said about a design before any fit: every finding on a design made for it, and on one without it."""

import numpy as np
import pandas as pd
import pytest

from mlmgen import columns, tables
from mlmgen.contrasts import resolve
from mlmgen.design import build
from mlmgen.design_lint import Row, degrees, line, lint, typical_mean
from mlmgen.formula import parse

STIM = {"stim": "condition[stim] - condition[ctrl]"}
SIMPLE, NESTED = "~ condition + (1 | donor)", "~ condition + (1 | donor) + (1 | donor:condition)"


def study(donors=8, cells=30, paired=False, **columns):
    """Donors of so many cells a sample, alternately ctrl and stim; paired ones have both."""
    rows = [
        {"donor": f"D{d}", "condition": condition, "age": 30.0 + 3 * d % 17}
        for d in range(donors)
        for condition in (("ctrl", "stim") if paired else (("ctrl", "stim")[d % 2],))
        for _ in range(cells)
    ]
    table = pd.DataFrame(rows)
    return table.assign(**{name: make(table) for name, make in columns.items()})


def rows(obs, formula, contrasts=None, sample=None, mean=0.5) -> tuple[Row, ...]:
    design, _ = build(obs, parse(formula), "donor", sample)
    return lint("B cells", design, resolve(STIM if contrasts is None else contrasts, design), mean)


def test_a_comparison_between_donors():
    (row,) = rows(study(), SIMPLE)
    assert row[:9] == ("B cells", "stim", "between donors", "condition[ctrl]: 4, condition[stim]: 4", 8, 0, 4, 8, 4)
    assert (row.cells_per_donor_min, row.cells_per_donor_median, row.cells_per_donor_max) == (30, 30.0, 30)
    assert (row.replicate, row.n_replicates, row.df, row.missing) == ("donor", 8, 6.0, False)
    assert (row.confounding, row.confounded_with, row.warning, row.caution) == (0.0, "", "", "")
    assert line(row) == (
        "B cells, stim: between donors, 8 donors (condition[ctrl]: 4, condition[stim]: 4); replicates 8 x donor with "
        f"6 df; a log2 fold change of {row.lfc_detectable:.2g} has 80 % power at p = 0.001 in a typical gene (0.5 "
        "counts a cell)"
    )


def test_a_comparison_within_donors():
    (row,) = rows(study(paired=True), NESTED)
    assert (row.comparison, row.n_donors, row.n_donors_both, row.n_samples, row.n_samples_smallest) == (
        *("within donors", 8, 8, 16, 8),
    )
    assert (row.replicate, row.n_replicates, row.df, row.missing) == ("donor:condition", 16, 7.0, False)
    assert "8 of 8 donors on both sides (condition[ctrl]: 8, condition[stim]: 8)" in line(row)
    (slope,) = rows(study(paired=True), "~ condition + (1 + condition | donor)")
    assert (slope.replicate, slope.n_replicates, slope.df, slope.caution) == ("donor", 8, 7.0, "")


def test_a_replicate_that_the_formula_lacks():
    (row,) = rows(study(paired=True), SIMPLE)
    assert (row.replicate, row.n_replicates, row.df, row.missing) == ("donor:condition", 16, 7.0, True)
    assert row.caution == (
        f"p-value too small: condition varies within donors, and the formula has no random effect for it; use {NESTED}"
    )
    assert "replicates 16 x donor:condition, not in the formula, with 7 df" in line(row)
    (whole,) = rows(study(paired=True), NESTED)
    assert row.lfc_detectable == whole.lfc_detectable


def test_only_the_contrasts_concerned_are_cautioned():
    named = {**STIM, "age": "age", "both": "condition[T.stim]:age"}
    assert [bool(row.caution) for row in rows(study(paired=True), "~ condition * age + (1 | donor)", named)] == [
        1,
        0,
        1,
    ]


def test_donors_on_one_side_beside_pairs():
    few = pd.concat([study(2, paired=True), study(10).query("donor not in ('D0', 'D1')")])
    (row,) = rows(few, NESTED)
    assert (row.comparison, row.n_donors, row.n_donors_both) == ("partly within donors", 10, 2)
    assert row.warning == (
        "stim is compared within 2 of 10 donors only: the others, on one side each, add how donors differ"
    )
    assert 1.0 < row.df < 10.0
    many = pd.concat([study(8, paired=True), study(10).query("donor not in @study().donor")])
    (row,) = rows(many, NESTED)
    assert (row.comparison, row.n_donors_both, row.warning) == ("partly within donors", 8, "")


def test_samples_that_hold_both_arms():
    (row,) = rows(study(paired=True), SIMPLE, sample="donor")
    assert row.comparison == "between cells"


def test_slopes_of_numbers():
    obs = study(paired=True, day=lambda t: np.arange(len(t)) // 15 % 2 * 1.0, pct=lambda t: np.sin(np.arange(len(t))))
    found = rows(obs, "~ age + day + pct + (1 + day | donor)", {name: name for name in ("age", "day", "pct")})
    assert [row.comparison for row in found] == ["between donors", "within donors", "between cells"]
    assert [row.replicate for row in found] == ["donor", "donor", "cell"]
    assert [row.n_replicates for row in found] == [8, 8, len(obs)]
    assert [row.df for row in found] == [6.0, 7.0, len(obs) - 4.0]
    assert all(row.arms == "" and f"per unit of {row.contrast} has 80 % power" in line(row) for row in found)
    assert "within donors, 8 of 8 donors; replicates 8 x donor" in line(found[1])


def test_a_joint_test_has_no_power():
    obs = study(9, dose=lambda t: np.array(["0", "lo", "hi"])[t.donor.str[1:].astype(int) % 3])
    (row,) = rows(obs, "~ dose + (1 | donor)", {"any": ["dose[lo] - dose[0]", "dose[hi] - dose[0]"]})
    assert row.lfc_detectable is row.power_twofold is None
    assert (row.arms, row.df) == ("dose[0]: 3, dose[lo]: 3, dose[hi]: 3", 6.0)
    assert line(row).endswith("a joint test has no one effect to have power for")


@pytest.mark.parametrize(("donors", "expected"), [(4, True), (5, True), (6, False)])
def test_warns_of_few_donors(donors, expected):
    (row,) = rows(study(donors), SIMPLE)
    assert bool(row.warning) == expected
    if expected:
        assert row.warning == (
            f"stim compares few donors ({row.arms}): how much donors differ is then known from the other genes alone; "
            "add donors, or take discoveries as hints"
        )


def flipped(number):
    """Return the condition of each donor, changed for the first donors."""
    return lambda t: np.where((t.condition == "stim") ^ (t.donor.str[1:].astype(int) < number), "b2", "b1")


@pytest.mark.parametrize(("number", "expected"), [(1, True), (8, False)])
def test_warns_of_variables_that_nearly_coincide(number, expected):
    (row,) = rows(study(24, batch=flipped(number)), "~ condition + batch + (1 | donor)")
    # of equally many cells a donor, R^2 of two columns of donors
    a = np.arange(24) % 2
    b = a ^ (np.arange(24) < number)
    np.testing.assert_allclose(row.confounding, np.corrcoef(a, b)[0, 1] ** 2, atol=1e-5)
    assert (row.confounded_with == "batch") == expected
    assert bool(row.warning) == expected
    if expected:
        assert row.warning == (
            f"stim is nearly confounded with batch: the other variables take away {100 * row.confounding:.0f} % of "
            "what the data say about it, and its effect can hardly be told from theirs"
        )


def test_warns_of_an_effect_far_from_the_data():
    obs = study(24, age=lambda t: 80.0 + t.donor.str[1:].astype(int) % 5)
    (row,) = rows(obs, "~ condition * age + (1 | donor)")
    assert row.warning.startswith("stim is the effect at age = 0, far from the data, which costs ")
    assert row.warning.endswith("; write center(age) in the formula to have it at the mean")
    (row,) = rows(obs, "~ condition * center(age) + (1 | donor)")
    assert row.warning == ""


def test_warns_of_an_effect_at_one_of_many_levels():
    obs = study(24, paired=True, site=lambda t: "s" + (t.donor.str[1:].astype(int) % 8).astype(str))
    formula = "~ condition * site + (1 | donor) + (1 | donor:condition)"
    (row,) = rows(obs, formula)
    assert row.arms == "condition[ctrl]:site[s0]: 3, condition[stim]:site[s0]: 3"
    assert (row.n_donors, row.confounding) == (3, pytest.approx(7 / 8))
    assert row.warning.startswith("stim is the effect at the reference level of site alone, which costs 8")
    assert row.warning.endswith("average over its levels, as in mean(condition[stim]) - mean(condition[ctrl])")
    (row,) = rows(obs, formula, {"stim": "mean(condition[stim]) - mean(condition[ctrl])"})
    assert (row.n_donors, row.n_donors_both, row.warning) == (24, 24, "")


def test_warns_of_replicates_that_are_coarser_than_donors():
    pools = {"pool": lambda t: "p" + (t.donor.str[1:].astype(int) % 6).astype(str)}
    (row,) = rows(study(24, **pools), "~ condition + (1 | donor) + (1 | pool)")
    assert (row.replicate, row.n_replicates, row.df) == ("pool", 6, 4.0)
    assert row.warning == (
        "stim does not vary within the groups of pool: its replicates are the 6 groups of pool, not the 24 donors"
    )
    crossed = {"pool": lambda t: "p" + (t.donor.str[1:].astype(int) // 6).astype(str)}
    (row,) = rows(study(24, **crossed), "~ condition + (1 | donor) + (1 | pool)")
    assert (row.replicate, row.warning) == ("donor", "")


def test_pseudobulk_alone_needs_no_random_term():
    (row,) = rows(study(), "~ condition")
    assert (row.replicate, row.n_replicates, row.df, row.missing) == ("donor", 8, 6.0, False)
    assert row.lfc_detectable == rows(study(), SIMPLE)[0].lfc_detectable


def test_the_order_of_the_cells_does_not_matter():
    obs = study(paired=True, day=lambda t: np.arange(len(t)) // 15 % 2 * 1.0)
    formula = "~ condition + day + age + (1 | donor) + (1 | donor:condition)"
    names = {**STIM, "day": "day", "age": "age"}
    first = rows(obs, formula, names)
    assert first == rows(obs.sample(frac=1, random_state=3), formula, names)


def test_the_typical_gene_is_the_median_of_the_expressed():
    statistics = {
        "n_cells_expressing": np.array([9, 10, 50, 400, 300]),
        "n_donors_expressing": np.array([4, 4, 4, 4, 1]),
        "mean_count": np.array([0.01, 0.02, 0.1, 3.0, 9.0]),
    }
    assert typical_mean(statistics, 500) == 0.1
    assert typical_mean(statistics, 2000) == pytest.approx((0.1 + 3.0) / 2)
    assert typical_mean({name: values[:1] for name, values in statistics.items()}, 500) == 0.5


def test_degrees_of_freedom_in_words():
    assert [degrees(df) for df in (7.0, 6.2345, 4531.2)] == ["7", "6.2", "4,531"]


def test_rows_are_the_registered_columns():
    table = tables.designs([row._asdict() for row in rows(study(), SIMPLE)])
    assert list(table.columns) == columns.names("design")
    assert set(columns.names("design")) == set(Row._fields) - {"caution", "missing"}
    assert {c.name: c.dtype for c in columns.TABLES["design"]} == {n: str(d) for n, d in table.dtypes.items()}
    joint = rows(study(), SIMPLE)[0]._replace(lfc_detectable=None, power_twofold=None)
    assert tables.designs([joint._asdict()])["lfc_detectable"].isna().all()
    lacking = rows(study(4, paired=True), SIMPLE)[0]._replace(warning="few")._asdict()
    assert tables.designs([lacking])["warning"].item() == f"glmm: {lacking['caution']}; few"
    assert tables.designs([]).shape == (0, len(columns.TABLES["design"]))


@pytest.mark.parametrize("power", ["I(age**2)", "np.log(age)"])
def test_a_function_of_another_variable_keeps_its_own_column(power):
    obs = study(donors=8)
    obs["age"] = 30.0 + 5.0 * obs.groupby("donor", sort=False).ngroup()
    design, _ = build(obs, parse(f"~ condition + age + {power} + (1 | donor)"), "donor")
    found = lint("B cells", design, resolve(None, design), 0.5)
    assert any("confounded with age" in row.warning for row in found)
