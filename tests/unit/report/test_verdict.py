"""The verdict reads well whatever was found: nothing, one gene, many; one cell type, all of them, none."""

import pytest

from mlmgen.report import attention, trust, verdict, wording
from mlmgen.report.wording import Facts
from mlmgen.status import Status

STIM = {"name": "stim", "expression": "condition[stim] - condition[ctrl]", "joint": False, "unit": ""}
STIM |= {"levels": ["stim", "ctrl"], "within": ""}
AGE = {"name": "per_year", "expression": "age", "joint": False, "unit": "per unit of age", "levels": None, "within": ""}
ANY = {"name": "any_dose", "expression": ["dose[low] - dose[none]", "dose[high] - dose[none]"]}
ANY |= {"joint": True, "unit": "", "levels": None, "within": ""}
METHODS = [{"key": "glmm"}, {"key": "pseudobulk"}]
TRUST = {"audit": [], "fits": [], "stability": [], "random_effects": []}
BETWEEN = {
    "comparison": "between donors",
    "arms": "condition[ctrl]: 4, condition[stim]: 3",
    "n_donors": 7,
    "n_donors_both": 0,
    "lfc_detectable": 1.0,
    "warning": "",
}
WITHIN = BETWEEN | {"comparison": "within donors", "n_donors_both": 7}


def facts(called=(((46, 24, 22), (48, 24, 24)),), contrasts=(STIM,), designs=None, names=None, **others) -> Facts:
    """Facts of cell types whose numbers of calls are given: of each combination and method (called, up, down)."""
    n = len(contrasts)
    names = names or [f"T{k}" for k in range(len(called) // n)]
    counts = [
        {"t": k // n, "c": k % n, "m": m, "tested": 563, "called": one[0], "up": one[1], "down": one[2]}
        for k, methods in enumerate(called)
        for m, one in enumerate(methods)
    ]
    both = [
        {"t": k // n, "c": k % n, "both": min(one[0] for one in methods), "only": [1, 3], "disagree": 0}
        for k, methods in enumerate(called)
        if len(methods) > 1
    ]
    pairs = [{"t": k // n, "c": k % n} for k in range(len(called))]
    rows = [dict(BETWEEN if designs is None else designs, **pair) for pair in pairs]
    base = {
        "cell_types": [{"name": name, "n_cells": 802, "n_donors": 7, "skipped": ""} for name in names],
        "contrasts": list(contrasts),
        "methods": METHODS[: max((len(methods) for methods in called), default=2)],
        "counts": counts,
        "agreement": both,
        "designs": rows,
        "trust": TRUST,
        "fdr_name": "Benjamini-Hochberg",
        "warnings": [],
        "donors": [f"D{k}" for k in range(7)],
    }
    return Facts(**(base | others))


NONE, ONE, MANY = ((0, 0, 0), (0, 0, 0)), ((1, 0, 1), (2, 1, 1)), ((2780, 794, 1986), (2704, 772, 1932))


def test_one_cell_type_is_one_sentence_that_can_be_quoted():
    said = verdict.verdict(facts(names=["B cells"]))
    expected = (
        "In B cells, 46 of 563 tested genes differ between stim and ctrl at a false discovery rate of 5 % (cells; "
        "24 up, 22 down), 48 from pseudobulk; 46 by both. 7 donors gave cells (4 ctrl, 3 stim)."
    )
    assert said["headline"] == expected
    assert said["sentences"] == [{"text": expected, "t": 0, "c": 0}]
    assert said["nothing"] == ""
    assert said["audit"] == []
    assert "audit: true" in said["audit_hint"]


def test_cell_types_come_by_the_number_of_discoveries():
    said = verdict.verdict(facts([NONE, MANY, ONE], designs=WITHIN, names=["A", "CD14+ Monocytes", "C"]))
    assert said["headline"] == (
        "2 of 3 cell types have genes that differ between stim and ctrl at a false discovery rate of 5 % (most in "
        "CD14+ Monocytes: 2,780 of 563 tested genes)."
    )
    assert [one["t"] for one in said["sentences"]] == [1, 2, 0]
    first, second, third = (one["text"] for one in said["sentences"])
    assert first.endswith("7 donors gave cells in both arms.")
    assert second.startswith(
        "In C, 1 of 563 tested genes differs between stim and ctrl at a false discovery rate of 5 %"
    )
    assert "(cells; 0 up, 1 down), 2 from pseudobulk; 1 by both." in second
    assert third.startswith(
        "In A, no gene differs between stim and ctrl at a false discovery rate of 5 %, neither from cells nor from "
        "pseudobulk (563 tested)."
    )


@pytest.mark.parametrize(
    ("called", "start"),
    [
        ([MANY, MANY], "All 2 cell types have genes that differ between stim and ctrl"),
        ([MANY, NONE], "1 of 2 cell types has genes that differ between stim and ctrl"),
        ([NONE, NONE], "No gene differs between stim and ctrl in any of 2 cell types at"),
    ],
)
def test_the_headline_counts_cell_types(called, start):
    assert verdict.verdict(facts(called))["headline"].startswith(start)


def test_nothing_significant_says_how_small_an_effect_could_have_been_found():
    said = verdict.verdict(facts([NONE]))
    assert said["nothing"] == (
        "That nothing was found does not mean that nothing differs. An effect on a typical gene has to be about 1 "
        "(log2; 2-fold) to be found in four of five cases. Smaller effects may be there: more donors would find them, "
        "more cells of the same donors hardly."
    )
    assert verdict.verdict(facts([NONE, ONE]))["nothing"] == ""
    unknown = facts([NONE], designs=BETWEEN | {"lfc_detectable": None})
    assert "has to be" not in verdict.verdict(unknown)["nothing"]


def test_pseudobulk_alone_may_find_what_cells_do_not():
    text = verdict.verdict(facts([((0, 0, 0), (2, 1, 1))]))["headline"]
    assert "0 of 563 tested genes differ between" in text
    assert "(cells), 2 from pseudobulk" in text


def test_several_contrasts_are_comparisons_and_slopes_are_changes():
    said = verdict.verdict(facts([NONE, ONE], contrasts=(STIM, AGE)))
    assert said["headline"].startswith("1 of 2 comparisons (cell type and contrast) has genes that differ at")
    assert "(T0, per_year: 1 of 563 tested genes)" in said["headline"]
    assert "1 of 563 tested genes changes with age (per_year) at" in said["sentences"][0]["text"]
    sizes = verdict.detectable_sizes(facts([NONE, ONE], contrasts=(STIM, AGE)).designs, [STIM, AGE])
    assert sizes == "1 (log2; 2-fold) in stim and 1 (log2 per unit of age) in per_year"


def test_a_joint_test_has_no_direction():
    text = verdict.verdict(facts([((3, None, None),)], contrasts=(ANY,)))["headline"]
    assert "3 of 563 tested genes differ in any_dose (a joint test) at a false discovery rate of 5 % (cells)." in text
    assert "any of dose[low] - dose[none]; dose[high]" in verdict.lead(facts([((3, None, None),)], contrasts=(ANY,)))


def test_all_cells_together_are_not_a_cell_type():
    said = verdict.verdict(facts([MANY], names=["all"]))
    assert said["headline"].startswith("In all cells together, 2,780 of")
    assert "in all cells together, 802 cells of 7 donors" in said["lead"]


def test_nothing_tested_at_all():
    said = verdict.verdict(facts([], cell_types=[{"name": "A", "n_cells": 3, "n_donors": 0, "skipped": "no donor"}]))
    assert said["headline"] == "Nothing could be tested: see below why."
    assert said["nothing"] == ""
    assert [one["title"] for one in said["attention"]] == ["Not analysed: A"]


@pytest.mark.parametrize(
    ("expression", "levels"),
    [
        ("condition[stim] - condition[ctrl]", ["stim", "ctrl"]),
        ("mean(condition[T 2]) - mean(condition[T 1])", ["T 2", "T 1"]),
        ("condition[stim] - sex[f]", None),
        ("condition[T.stim]", ["stim", "ctrl"]),
        ("sex[T.m]", None),
        ("condition[T.stim]:age", None),
        ("2 * condition[a] - condition[b]", None),
        (["condition[a] - condition[b]"], None),
        ("mean(condition[a]) - condition[b]", None),
    ],
)
def test_two_levels_of_a_factor_are_named(expression, levels):
    assert wording.two_levels(expression, {"condition": "ctrl"}) == levels


HEALTHY = "in healthy (the reference of disease)"


@pytest.mark.parametrize(
    ("expression", "formula", "said"),
    [
        ("condition[stim] - condition[ctrl]", "~ condition + disease + (1 | donor)", ""),
        ("condition[stim] - condition[ctrl]", "~ disease * condition + (1 | donor)", HEALTHY),
        ("condition[T.stim]", "~ disease * condition + (1 | donor)", HEALTHY),
        ("mean(condition[stim]) - mean(condition[ctrl])", "~ disease * condition", "on average over disease"),
        ("condition[T.stim]", "~ condition + condition:age + disease + (1 | donor)", "at age 0"),
        ("condition[stim] - condition[ctrl]", "~ condition * center(age)", "at the mean of age"),
        ("condition[T.stim]", "~ condition * center(age)", "where the term of age is 0"),
        ("mean(condition[stim]) - mean(condition[ctrl])", "~ condition * age", "at the mean of age"),
        ("condition[stim] - condition[ctrl]", "~ condition * disease + condition:age", f"{HEALTHY} and at age 0"),
        ("age", "~ age * disease", HEALTHY),
        ("disease[T.ill]:condition[T.stim]", "~ disease * condition", ""),
        (["condition[stim] - condition[ctrl]"], "~ disease * condition", ""),
    ],
)
def test_a_difference_with_an_interaction_says_where_it_holds(expression, formula, said):
    reference = {"condition": "ctrl", "disease": "healthy"}
    assert wording.within(expression, formula, reference) == said


def test_the_headline_says_where_a_difference_holds():
    said = verdict.verdict(facts([MANY], contrasts=(STIM | {"within": HEALTHY},)))["headline"]
    assert f"differ between stim and ctrl {HEALTHY} at a false discovery rate" in said


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ("dose[a]: 4, dose[b]: 3", "5 donors gave cells, 2 of them in both arms."),
        ("dose[a]: 4, dose[b]: 3, dose[c]: 3", "5 donors gave cells, 2 of them in every arm."),
    ],
)
def test_donors_of_some_arms_are_counted_in_every_arm(arms, said):
    some = BETWEEN | {"comparison": "partly within donors", "arms": arms, "n_donors": 5, "n_donors_both": 2}
    assert verdict.verdict(facts([MANY], designs=some))["headline"].endswith(said)


def judged(rate: float, low: float, high: float, error: float, n: int) -> dict:
    row = {"reason": "", "n_tests": 100, "n_splits": n, "type1_05": rate, "type1_05_se": error}
    return row | {"type1_05_low": low, "type1_05_high": high}


@pytest.mark.parametrize(
    ("row", "short", "text"),
    [
        (judged(0.05, 0.049, 0.051, 0.001, 2), "cannot tell", "too few permutations to tell whether p-values hold"),
        (judged(0.05, 0.049, 0.051, 0.001, 20), "holds", "p-values hold"),
        (
            judged(0.01, 0.009, 0.011, 0.001, 20),
            "too large",
            "p-values are larger than they need be, as they are where",
        ),
        (judged(0.10, 0.099, 0.101, 0.001, 20), "too small", "p-values are too small here, read them with caution"),
        (judged(0.07, 0.049, 0.091, 0.02, 20), "cannot tell", "p-values may be too small, but the permutations differ"),
        (judged(0.05, 0, 1, 0, 20) | {"n_tests": 0}, "not audited", "no gene could be tested"),
        (judged(0.05, 0, 1, 0, 20) | {"reason": "one arm holds all"}, "not audited", "one arm holds all"),
    ],
)
def test_the_audit_has_a_short_verdict_for_each_of_its_texts(row, short, text):
    found, said = trust._verdict(row)
    assert found == short
    assert said.startswith(text)


def audited(verdict_: str, text: str, share: float | None, t: int = 0) -> dict:
    row = {"verdict": verdict_, "text": text, "type1_05": share, "t": t, "c": 0, "method": "glmm"}
    return row | {"cell_type": f"T{t}", "contrast": "stim"}


def test_the_audit_is_said_once_where_it_says_the_same():
    rows = [audited("holds", "p-values hold", 0.049), audited("holds", "p-values hold", 0.052, 1)]
    said = verdict.verdict(facts([MANY, MANY], trust=TRUST | {"audit": rows}))
    assert said["audit"] == [
        {
            "text": "In all cell types, contrasts and methods: p-values hold. With permuted labels 4.9 to 5.2 % of "
            "p-values were below 0.05, where 5 % should be.",
            "level": "good",
        }
    ]
    assert said["audit_hint"] == ""
    assert not [one for one in said["attention"] if one["kind"] == "audit"]


def test_p_values_that_are_too_small_need_attention():
    rows = [
        audited("holds", "p-values hold", 0.049),
        audited("too small", "p-values are too small here, read them with caution", 0.093, 1),
        audited("not audited", "all donors are of one arm", None),
    ]
    said = verdict.verdict(facts([MANY, MANY], trust=TRUST | {"audit": rows}))
    assert [one["level"] for one in said["audit"]] == ["warning", "note", "good"]
    assert said["audit"][1]["text"] == "T0, stim (cells): not audited, all donors are of one arm."
    (one,) = [one for one in said["attention"] if one["kind"] == "audit"]
    assert one == {
        "level": "warning",
        "kind": "audit",
        "title": "P-values of T1, stim (cells)",
        "text": "With permuted labels, where nothing differs, p-values are too small here, read them with caution: "
        "9.3 % of them were below 0.05, where 5 % should be.",
        "t": 1,
        "c": 0,
    }


def ledger(**counts) -> dict:
    return {"t": 0, "m": 0, "counts": [counts.get(status.name.lower(), 0) for status in Status]}


def test_failed_fits_are_a_note_and_many_of_them_a_warning():
    few = facts(trust=TRUST | {"fits": [ledger(converged=990, diverged=9, not_converged=1, filtered=9000)]})
    (one,) = attention.attention(few)
    assert (one["level"], one["title"]) == ("note", "10 fits failed")
    assert one["text"].startswith("In T0 (cells: 1 not_converged and 9 diverged).")
    many = facts(trust=TRUST | {"fits": [ledger(converged=90, diverged=10)]})
    (one,) = attention.attention(many)
    assert (one["level"], one["title"], one["t"]) == ("warning", "10 fits failed in T0", 0)
    assert one["text"].startswith("Of 100 fitted genes (cells): 10 diverged.")
    assert attention.attention(facts(trust=TRUST | {"fits": [ledger(boundary=50, separated=3)]})) == []


def test_warnings_come_first_and_say_what_they_are_about():
    stability = {"t": 0, "c": 0, "m": 0, "asked": 20, "yes": 11, "no": 8, "not_estimable": 1, "not_fitted": 0}
    stability["donors"] = [{"donor": "D3", "n": 8}, {"donor": "D1", "n": 1}]
    far = {"t": 0, "m": 0, "term": "donor", "effect": "(Intercept)", "levels": [
        {"level": "D3", "n_genes": 150, "rms_z": 2.1}, {"level": "D4", "n_genes": 150, "rms_z": 1.1},
        {"level": "D5", "n_genes": 3, "rms_z": 4.0}, {"level": "D6", "n_genes": 0, "rms_z": None},
    ]}  # fmt: skip
    found = attention.attention(
        facts(
            designs=BETWEEN | {"warning": "few donors"},
            trust=TRUST | {"stability": [stability], "random_effects": [far]},
            agreement=[{"t": 0, "c": 0, "both": 5, "only": [1, 3], "disagree": 400}],
            warnings=["the file has no raw counts of 3 genes"],
        )
    )
    assert [(one["level"], one["kind"]) for one in found] == [
        ("warning", "design"),
        ("warning", "disagreement"),
        ("warning", "stability"),
        ("note", "data"),
        ("note", "data"),
    ]
    assert [one["title"] for one in found] == [
        "Design of stim: T0",
        "The methods disagree in 400 tests",
        "9 results in T0 rest on one donor",
        "D3 is unlike the others",
        "About the data",
    ]
    assert found[2]["text"].endswith("The donors needed: D3 (8) and D1 (1).")
    assert found[4]["text"] == "The file has no raw counts of 3 genes."
    assert all(one["text"][-1] == "." for one in found)


def test_few_results_that_rest_on_one_donor_are_one_note():
    row = {"c": 0, "asked": 200, "yes": 198, "no": 1, "not_fitted": 0, "donors": []}
    rows = [{**row, "t": t, "m": m, "not_estimable": t} for t in (0, 1) for m in (0, 1)]
    (one,) = attention.attention(facts([MANY, MANY], trust=TRUST | {"stability": rows}))
    assert (one["level"], one["title"], one["t"]) == ("note", "3 results rest on one donor", None)
    assert one["text"] == "Of leading genes, fitted again without each donor in turn: T0 (1 of 200) and T1 (2 of 200)."


def test_cell_types_that_were_skipped_for_one_reason_are_one_note():
    names = [
        {"name": f"T{k}", "n_cells": 5, "n_donors": 1, "skipped": "no donor has 10 cells" * (k > 0)} for k in range(20)
    ]
    (one,) = attention.attention(facts(cell_types=names))
    assert one["title"] == "Not analysed: T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11 and 8 more"
    assert (one["t"], one["text"]) == (None, "No donor has 10 cells.")


def test_sixty_cell_types_have_a_short_headline_and_a_sentence_each():
    said = verdict.verdict(facts([MANY] * 59 + [NONE]))
    assert len(said["headline"]) < 200
    assert said["headline"].startswith("59 of 60 cell types have")
    assert len(said["sentences"]) == 60


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["A"], "A"), (["A", "B"], "A and B"), (list("ABCDEFGH"), "A, B, C, D, E and 3 more")]
)
def test_names_are_joined_as_in_a_sentence(names, text):
    assert wording.joined(names) == text


def test_arms_are_written_as_people_do():
    assert wording.arms({"arms": "condition[WT]: 4, condition[KO]: 3"}) == "4 WT, 3 KO"
    both = "condition[WT]: 4, sex[f]: 3"
    assert wording.arms({"arms": both}) == both
