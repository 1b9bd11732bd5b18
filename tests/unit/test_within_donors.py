"""Random terms that a design lacks, the formula that has them, and the formula for a data set."""

import numpy as np
import pandas as pd
import pytest

from mlmgen.contrasts import resolve
from mlmgen.design import build
from mlmgen.errors import UserError
from mlmgen.formula import parse
from mlmgen.within_donors import caution, completed, default_formula, fitting_formula, missing_terms

STIM = {"stim": "condition[stim] - condition[ctrl]"}


def visits(paired=True) -> pd.DataFrame:
    """Eight donors, two conditions, three days of fifteen cells each."""
    table = pd.MultiIndex.from_product([range(8), ("ctrl", "stim"), range(3), range(15)]).to_frame(index=False)
    table.columns = ["donor", "condition", "day", "cell"]
    if not paired:
        table = table[(table.donor % 2 == 1) == (table.condition == "stim")]
    names = {"donor": "D" + table.donor.astype(str), "day": table.day * 1.0, "age": 30.0 + table.donor}
    return table.assign(**names, sex=np.where(table.donor % 4 < 2, "f", "m"), pct=np.sin(np.arange(len(table))))


def lacking(formula, obs=None):
    design, _ = build(visits() if obs is None else obs, parse(formula), "donor")
    return design, missing_terms(design)


@pytest.mark.parametrize(
    ("formula", "texts"),
    [
        ("~ condition + (1 | donor)", ["(1 | donor:condition)"]),
        ("~ condition + (1 | donor) + (1 | donor:condition)", []),
        ("~ condition + (1 | donor/condition)", []),
        ("~ condition + (1 + condition | donor)", []),
        ("~ condition + (0 + condition || donor)", []),
        ("~ condition + day + (1 | donor)", ["(1 | donor:condition)", "(1 + day | donor)"]),
        ("~ condition + day + (1 + day | donor)", ["(1 | donor:condition)"]),
        ("~ log(day + 1) + (1 | donor)", ["(1 + day | donor)"]),
        ("~ within(day) + (1 | donor)", ["(1 + within(day) | donor)"]),
        ("~ within(day) + (1 + day | donor)", []),
        ("~ C(day) + (1 | donor)", ["(1 | donor:day)"]),
        ("~ age + sex + pct + (1 | donor)", []),
        ("~ condition * sex + (1 | donor)", ["(1 | donor:condition)"]),
    ],
)
def test_what_a_formula_lacks(formula, texts):
    assert [lack.text for lack in lacking(formula)[1]] == texts


def test_conditions_of_donors_lack_nothing():
    assert lacking("~ condition + (1 | donor)", visits(paired=False))[1] == ()


def test_the_term_that_is_lacking_is_the_one_a_formula_makes():
    for formula, text in [
        ("~ condition + (1 | donor)", "(1 | donor:condition)"),
        ("~ condition + sex + (1 | donor)", "(1 | donor:condition)"),
        ("~ day + (1 | donor)", "(0 + day | donor)"),
    ]:
        _, (lack,) = lacking(formula)
        whole, _ = build(visits(), parse(f"{formula} + {text}"), "donor")
        term = whole.terms[-1]
        assert (lack.term.name, lack.term.effects, lack.term.levels) == (term.name, term.effects, term.levels)
        np.testing.assert_array_equal(lack.term.codes, term.codes)
        np.testing.assert_array_equal(lack.term.Z, term.Z)


@pytest.mark.parametrize(
    ("formula", "factors", "numbers", "expected"),
    [
        ("~ a", (), (), "~ a + (1 | donor)"),
        ("~ a", ("a",), (), "~ a + (1 | donor) + (1 | donor:a)"),
        ("~ a + (1 | donor)", ("a", "b"), (), "~ a + (1 | donor) + (1 | donor:a) + (1 | donor:b)"),
        ("~ day + (1|donor)", (), ("day",), "~ day + (1 + day | donor)"),
        ("~ a * day", ("a",), ("day",), "~ a * day + (1 + day | donor) + (1 | donor:a)"),
        ("~ day + (1 | donor/visit)", (), ("day",), "~ day + (1 | donor/visit) + (0 + day | donor)"),
        ("~ `the arm`", ("the arm",), (), "~ `the arm` + (1 | donor) + (1 | donor:`the arm`)"),
    ],
)
def test_a_formula_is_completed(formula, factors, numbers, expected):
    assert completed(formula, "donor", factors, numbers) == expected
    parse(expected)
    assert completed("~ a", "the donor") == "~ a + (1 | `the donor`)"


@pytest.mark.parametrize("formula", ["~ condition", "~ condition + day + age", "~ C(day) * condition", "~ sex * age"])
def test_the_suggested_formula_lacks_nothing(formula):
    suggested = default_formula(visits(), formula, "donor")
    assert suggested.startswith(f"{formula} + (1 ")
    assert lacking(suggested)[1] == ()


def test_the_default_formulas():
    assert default_formula(visits(), "~ condition", "donor") == "~ condition + (1 | donor) + (1 | donor:condition)"
    assert default_formula(visits(paired=False), "~ condition", "donor") == "~ condition + (1 | donor)"
    assert default_formula(visits(), "~ sex + day", "donor") == "~ sex + day + (1 + day | donor)"
    with pytest.raises(UserError, match="conditoin"):
        default_formula(visits(), "~ conditoin", "donor")


def test_the_fitting_formula_keeps_what_is_there():
    design, lack = lacking("~ condition + age + (1 | sex) + (1 | donor)")
    assert fitting_formula(design, lack) == "~ condition + age + (1 | sex) + (1 | donor) + (1 | donor:condition)"


def test_the_words_of_a_caution():
    design, _ = lacking("~ condition + day + age + (1 | donor)")
    named = {**STIM, "age": "age", "all": ["condition[T.stim]", "day"]}
    stim, age, both = (caution(contrast, design) for contrast in resolve(named, design))
    assert stim == (
        "p-value too small: condition varies within donors, and the formula has no random effect for it; use "
        "~ condition + day + age + (1 | donor) + (1 | donor:condition)"
    )
    assert age == ""
    assert both == (
        "p-value too small: condition and day vary within donors, and the formula has no random effect for them; use "
        "~ condition + day + age + (1 + day | donor) + (1 | donor:condition)"
    )
