"""Splitting a formula into fixed effects and random intercepts, and pointing at what cannot be read."""

import pytest

from mlmgen.errors import UserError
from mlmgen.formula import (
    categorical_variables,
    computed_variables,
    fixed_variables,
    parse,
    term_variables,
    variables,
)


@pytest.mark.parametrize(
    ("text", "fixed", "random"),
    [
        ("~ condition + (1 | donor)", "1 + condition", (("donor",),)),
        ("condition+(1|donor)", "1 + condition", (("donor",),)),
        ("~ (1 | donor) + condition", "1 + condition", (("donor",),)),
        ("~ (1 | donor)", "1", (("donor",),)),
        ("~ condition", "1 + condition", ()),
        ("~ 1 + condition", "1 + condition", ()),
        ("~ 0 + condition + (1 | donor)", "0 + condition", (("donor",),)),
        ("~ condition + (1 | donor) - 1", "condition - 1", (("donor",),)),
        ("~ a + (1 | donor) + (1 | donor:a)", "1 + a", (("donor",), ("donor", "a"))),
        ("~ a + (1 | donor/sample)", "1 + a", (("donor",), ("donor", "sample"))),
        ("~ (1|a/b/c) + x", "1 + x", (("a",), ("a", "b"), ("a", "b", "c"))),
        ("~ (1|a:b/c)", "1", (("a", "b"), ("a", "b", "c"))),
        ("~ (a + b)**2 + (1 | d)", "1 + (a + b)**2", (("d",),)),
        ("~ a\n  + (1 | d)\n", "1 + a", (("d",),)),
        ("~ `my age` + (1 | `my donor`:a)", "1 + `my age`", (("my donor", "a"),)),
        ("~ log(x | y) + (1 | d)", "1 + log(x | y)", (("d",),)),
    ],
)
def test_parts(text, fixed, random):
    formula = parse(text)
    assert (formula.fixed, formula.random) == (fixed, random)


def test_text_is_on_one_line():
    assert parse(" ~ a\n+ (1 | d) ").text == "~ a + (1 | d)"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("~ condition +* age", 13, "incorrectly used"),
        ("~ condition age", 3, "missing operator"),
        ("~ a + C(b + (1 | d)", 7, "a ) is missing"),
        ("~ a + `b", 7, "a ` is missing"),
        ("~ a +", 5, "insufficient arguments"),
        ("~ a + (1 | d) +", 15, "insufficient arguments"),
        ("~ (1 | d) +", 11, "nothing follows"),
        ("~ * a", 3, "incorrectly used"),
        ("~ a $ b", 5, "unknown operator"),
        ("~ a + 'b'", 7, "string literals"),
        ("~ a + 1.5", 7, "numeric literals"),
        ("counts ~ a", 1, "response is always the gene"),
        ("~ a ~ b", 5, "second '~'"),
        ("~ .", 3, "wildcard"),
        ("~ a | donor", 5, "outside parentheses"),
        ("~ a + (1 | donor", 7, "not closed"),
        ("~ a + (x | donor)", 7, "random slope"),
        ("~ a + (1 + x | donor)", 7, "random slope"),
        ("~ a + (1 || donor)", 11, "name of an obs column"),
        ("~ a + (1 | )", 12, "name of an obs column"),
        ("~ a + (1 | donor/)", 18, "name of an obs column"),
        ("~ a + (1 | my-donor)", 12, "name of an obs column"),
        ("~ a * (1 | donor)", 7, "summand of its own"),
        ("~ a - (1 | donor)", 7, "summand of its own"),
        ("~ (a + (1 | donor))", 8, "summand of its own"),
        ("~ a + (1 | d) + (1 | d)", 17, "twice"),
        ("~ a + (1 | d:c) + (1 | c:d)", 19, "twice"),
        ("~ a + (1 | d:d)", 7, "named twice"),
        ("~ a + cener(b)", 7, "no function 'cener'"),
        ("~ a + lag(b)", 7, "order of the cells"),
        ("~ a + log(b +)", 7, "not a valid expression"),
        ("~ 0 + (1 | d)", 1, "neither an intercept nor a variable"),
    ],
)
def test_points_at_the_place(text, place, reason):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert reason in caught.value.what
    assert caught.value.what.endswith(f"<- here, at character {place}")
    assert caught.value.where == "configuration key formula"


def test_quotes_the_formula_up_to_the_place():
    with pytest.raises(UserError, match=r": ~ condition \+\*  <- here, at character 13 "):
        parse("~ condition +* age")


def test_suggests_the_near_function():
    with pytest.raises(UserError) as caught:
        parse("~ cener(age)")
    assert caught.value.do.startswith("Did you mean 'center'?")


@pytest.mark.parametrize("text", ["", "  ", "~", None, 3, ["~ a"]])
def test_empty(text):
    with pytest.raises(UserError, match="empty or not a text"):
        parse(text)


def test_variables_in_order_fixed_first():
    formula = parse("~ b * np.log(`n u`) + C(a, contr.treatment('x')) + bs(age, df=4) + percent.mt + (1 | d/b)")
    assert fixed_variables(formula) == ("b", "n u", "a", "age", "percent.mt")
    assert variables(formula) == ("b", "n u", "a", "age", "percent.mt", "d")
    assert ("b", "n u") in term_variables(formula)
    assert computed_variables(formula) == {"n u", "age"}


def test_categorical_only_where_always_inside_c():
    assert categorical_variables(parse("~ C(a) + C(b) + b:x + C(`c d`)")) == ("a", "c d")
