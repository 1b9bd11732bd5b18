"""Random terms on cells: which can be estimated, and which of them are replicates."""

import numpy as np
import pandas as pd
import pytest

from mlmgen import design, replicates
from mlmgen.design_parts import read_parts
from mlmgen.design_terms import has_slope, intercepts, random_terms, useful_terms
from mlmgen.errors import UserError
from mlmgen.formula import parse
from mlmgen.model_matrix import model_matrix

N = 96


def cells() -> pd.DataFrame:
    """Eight donors in both conditions and three visits; two donors a site; two wells a sample."""
    index = np.arange(N)
    donor, inside = np.divmod(index, 12)
    columns = {
        "donor": [f"D{i}" for i in donor],
        "site": [f"S{i}" for i in donor // 2],
        "condition": np.where(inside % 2, "stim", "ctrl"),
        "well": [f"W{d}{i}" for d, i in zip(donor, inside % 4, strict=True)],
        "time": (inside // 4) * 1.0,
        "pct": np.sin(index),
        "age": 30.0 + donor,
        "one": 1.0,
    }
    return pd.DataFrame(columns)


def terms_of(random: str, fixed: str = "condition"):
    formula = parse(f"~ {fixed} + {random}")
    parts = read_parts(cells(), formula, "donor")
    matrix = model_matrix(formula, parts.variables, N)
    return random_terms(formula, parts, matrix), parts, matrix


@pytest.mark.parametrize(
    ("random", "expected"),
    [
        ("(1 | donor)", ["donor: (Intercept)"]),
        ("(time | donor)", ["donor: (Intercept), time"]),
        ("(1 + time || donor)", ["donor: (Intercept)", "donor: time"]),
        ("(0 + condition || donor)", ["donor: condition[ctrl]", "donor: condition[stim]"]),
        ("(1 | site/donor)", ["site: (Intercept)", "site:donor: (Intercept)"]),
        ("(0 + time | site/donor)", ["site: time", "site:donor: time"]),
        ("(1 | donor) + (0 + time | donor)", ["donor: (Intercept)", "donor: time"]),
    ],
)
def test_terms_and_their_effects(random, expected):
    terms = terms_of(random)[0]
    assert [f"{term.group.name}: {', '.join(term.effects)}" for term in terms] == expected


@pytest.mark.parametrize(
    ("random", "why"),
    [
        ("(1 | donor) + (1 | donor:age)", {"(1 | donor:age)": "it has the same groups as donor"}),
        ("(0 + time | donor:age) + (0 + time | donor)", {"(0 + time | donor:age)": "it has the same groups as donor"}),
        ("(1 | donor:age) + (time | donor)", {"(1 | donor:age)": "its effects are among those of (1 + time | donor)"}),
        ("(1 | donor) + (0 + time | donor)", {}),
        ("(1 + time || donor)", {}),
        (
            "(1 | donor) + (0 + condition | donor)",
            {"(1 | donor)": "its effects are among those of (0 + condition | donor)"},
        ),
        ("(0 + condition || donor)", {}),
        (
            "(1 | donor:condition) + (condition | donor)",
            {"(1 | donor:condition)": "(1 + condition | donor) has an effect for each of its groups already"},
        ),
        ("(1 | donor:condition) + (1 + time | donor)", {}),
        ("(1 | well) + (condition | donor)", {}),
        ("(1 | donor:condition) + (1 + condition || donor)", {}),
        ("(1 | one)", {"(1 | one)": "all cells belong to one group, 1"}),
        ("(1 | donor) + (1 | site) + (1 | condition:site)", {}),
    ],
)
def test_useful_terms(random, why):
    terms, parts, matrix = terms_of(random, fixed="pct")
    kept, left_out = useful_terms(terms, parts, matrix)
    assert {term.text: reason for term, reason in left_out} == why
    assert [term for term in terms if term.text not in why] == list(kept)


@pytest.mark.parametrize(
    ("random", "what"),
    [
        ("(one | donor)", "the random slope of one in (1 + one | donor) cannot be estimated: it is constant"),
        (
            "(0 + pct + I(2 * pct) | donor)",
            "the random slope of I(2 * pct) in (0 + pct + I(2 * pct) | donor) cannot be ",
        ),
        ("(condition + {condition == 'stim'} || donor)", "the random slope of condition == 'stim' in"),
        ("(age + center(age) | donor)", "the random slope of center(age) in (1 + age + center(age) | donor)"),
    ],
)
def test_dependent_slopes_are_refused_by_name(random, what):
    with pytest.raises(UserError) as caught:
        terms_of(random)
    assert caught.value.what.startswith(what)
    assert caught.value.do.startswith("Take ")


INTERCEPTS = [
    ("(1 | donor)", ["donor"]),
    ("(time | donor)", ["donor"]),
    ("(0 + condition | donor)", ["donor"]),
    ("(0 + condition || donor)", ["donor"]),
    ("(0 + time | donor)", []),
    ("(0 + condition:time | donor)", []),
    ("(1 | site) + (0 + time | donor)", ["site"]),
    ("(0 + pct | well)", []),
]


@pytest.mark.parametrize(("random", "names"), INTERCEPTS)
def test_intercepts_in_cells_and_in_the_design(random, names):
    assert [group.name for group in intercepts(terms_of(random)[0])] == names
    built, _ = design.build(cells(), parse(f"~ condition + {random}"), "donor")
    assert [term.name for term in replicates.intercepts(built)] == names
    assert replicates.separates_donors(built) == (names == ["donor"])


def test_slopes_of_a_variable():
    donor = read_parts(cells(), parse("~ pct"), "donor").donor.codes
    for random, name, expected in [
        ("(condition | donor)", "condition", True),
        ("(condition:time | donor)", "condition", True),
        ("(within(time) | donor)", "time", True),
        ("(time | well)", "within(time)", True),
        ("(condition | site)", "condition", False),
        ("(1 | donor:condition)", "condition", False),
    ]:
        assert has_slope(terms_of(random)[0], name, donor) == expected


# nrow(lFormula(y ~ condition + <term>, ...)$reTrms$Zt) of lme4 1.1.31, and its cnms in formulaic's spelling.
LME4 = [
    ("(time | donor)", 16, ["(Intercept),time"]),
    ("(0 + condition | donor)", 16, ["condition[ctrl],condition[stim]"]),
    ("(time - 1 | donor)", 8, ["time"]),
    ("(time || donor)", 16, ["(Intercept)", "time"]),
    ("(1 | site/donor)", 12, ["(Intercept)", "(Intercept)"]),
    ("(condition * pct | donor)", 32, ["(Intercept),condition[T.stim],pct,condition[T.stim]:pct"]),
    ("(1 + time | site/donor)", 24, ["(Intercept),time", "(Intercept),time"]),
    ("(0 + time:condition | donor)", 16, ["time:condition[ctrl],time:condition[stim]"]),
    ("(poly(time, 2) | donor)", 24, ["(Intercept),poly(time, 2)[1],poly(time, 2)[2]"]),
    ("(1 | donor:condition)", 16, ["(Intercept)"]),
]


@pytest.mark.parametrize(("random", "columns", "effects"), LME4)
def test_random_effects_are_those_of_lme4(random, columns, effects):
    built, _ = design.build(cells(), parse(f"~ condition + {random}"), "donor")
    assert [",".join(term.effects) for term in built.terms] == effects
    assert sum(len(term.levels) * len(term.effects) for term in built.terms) == columns
