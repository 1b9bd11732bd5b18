"""Splitting a formula into fixed effects, random terms and offsets, and pointing at what cannot be read."""

import pytest

from mlmgen.errors import UserError
from mlmgen.expressions import Split, split_source
from mlmgen.formula import (
    categorical_variables,
    computed_variables,
    fixed_variables,
    offset_variables,
    parse,
    slope_variables,
    split_variables,
    term_variables,
    variables,
)
from mlmgen.random_terms import RandomPart


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
    assert (formula.fixed, formula.random) == (fixed, tuple(RandomPart(groups) for groups in random))
    assert (formula.offsets, formula.splits) == ((), ())


@pytest.mark.parametrize(
    ("term", "parts", "shown"),
    [
        ("(x | d)", [("d", "1 + x", True)], "(1 + x | d)"),
        ("(1 + x | d)", [("d", "1 + x", True)], "(1 + x | d)"),
        ("(1 || d)", [("d", "1", False)], "(1 || d)"),
        ("(1+x||d)", [("d", "1+x", False)], "(1+x || d)"),
        ("(0 + x | d)", [("d", "0 + x", True)], "(0 + x | d)"),
        ("(x - 1 | d)", [("d", "x - 1", True)], "(x - 1 | d)"),
        ("(x + y | d/e)", [("d", "1 + x + y", True), ("d:e", "1 + x + y", True)], "(1 + x + y | d)"),
        ("(a * x | d:e)", [("d:e", "1 + a * x", True)], "(1 + a * x | d:e)"),
        ("(poly(x, 2) | d)", [("d", "1 + poly(x, 2)", True)], "(1 + poly(x, 2) | d)"),
        ("(log(x | y) | d)", [("d", "1 + log(x | y)", True)], "(1 + log(x | y) | d)"),
        ("(within(x) || d)", [("d", "1 + `within(x)`", False)], "(1 + within(x) || d)"),
        ("(`my x` | `my d`)", [("my d", "1 + `my x`", True)], "(1 + `my x` | my d)"),
        ("(1 | d) + (0 + x | d)", [("d", "1", True), ("d", "0 + x", True)], "(1 | d)"),
        ("(1 | d) + (x | e)", [("d", "1", True), ("e", "1 + x", True)], "(1 | d)"),
    ],
)
def test_random_slopes(term, parts, shown):
    formula = parse(f"~ a + {term} + b")
    assert formula.fixed == "1 + a + b"
    assert [(part.name, part.effects, part.correlated) for part in formula.random] == parts
    assert formula.random[0].text == shown


@pytest.mark.parametrize(
    ("text", "fixed", "offsets"),
    [
        ("~ a + offset(log(v)) + (1 | d)", "1 + a", ("log(v)",)),
        ("~ offset(v) + a", "1 + a", ("v",)),
        ("~ offset(v)", "1", ("v",)),
        ("~ a + offset( `my v` ) + offset(w / 2)", "1 + a", ("`my v`", "w / 2")),
        ("~ 0 + a + offset(log(within(v) + 1))", "0 + a", ("log(`within(v)` + 1)",)),
    ],
)
def test_offsets(text, fixed, offsets):
    formula = parse(text)
    assert (formula.fixed, formula.offsets) == (fixed, offsets)


def test_within_and_between_become_variables():
    formula = parse(
        "~ a * within(x) + between(log( `n u`), s) + poly(within(x), 2) + {between(x) > 1} + (within(y) | d)"
    )
    assert formula.fixed == ("1 + a * `within(x)` + `between(log(n u), s)` + poly(`within(x)`, 2) + {`between(x)` > 1}")
    assert split_variables(formula) == {
        "within(x)": Split("within(x)", "within", "x", ("x",), ""),
        "between(log(n u), s)": Split("between(log(n u), s)", "between", "log(`n u`)", ("n u",), "s"),
        "between(x)": Split("between(x)", "between", "x", ("x",), ""),
        "within(y)": Split("within(y)", "within", "y", ("y",), ""),
    }
    assert set(fixed_variables(formula)) == {"a", "within(x)", "between(log(n u), s)", "between(x)"}
    assert slope_variables(formula) == ("within(y)",)
    assert set(variables(formula)) == {"a", "x", "n u", "s", "y", "d"}


@pytest.mark.parametrize(
    ("name", "source"),
    [("within(x)", "x"), ("between(log(x), s)", "log(x)"), ("within(log(x + 1))", "log(x + 1)"), ("x", "x")],
)
def test_covariate_of_a_split(name, source):
    assert split_source(name) == source


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
        ("~ a + ( | donor)", 7, "nothing stands before the '|'"),
        ("~ a + (0 | donor)", 8, "neither an intercept nor a variable"),
        ("~ a + (1 + * x | donor)", 10, "incorrectly used"),
        ("~ a + (b c | donor)", 8, "missing operator"),
        ("~ a + (1 + cener(x) | donor)", 12, "no function 'cener'"),
        ("~ a + (1 ||| donor)", 12, "name of an obs column"),
        ("~ a + (1 | b + c)", 12, "name of an obs column"),
        ("~ a + (1 | )", 12, "name of an obs column"),
        ("~ a + (1 | donor/)", 18, "name of an obs column"),
        ("~ a + (1 | my-donor)", 12, "name of an obs column"),
        ("~ a * (1 | donor)", 7, "summand of its own"),
        ("~ a - (1 | donor)", 7, "summand of its own"),
        ("~ (a + (1 | donor))", 8, "summand of its own"),
        ("~ a + (1 | d) + (1 | d)", 17, "the random intercept of d is there twice"),
        ("~ a + (1 | d) + (1 + x | d)", 17, "the random intercept of d is there twice"),
        ("~ a + (x | d) + (0 + x | d)", 17, "the random slope of x by d is there twice"),
        ("~ a + (0 + x:b | d:c) + (b * x || c:d)", 25, "the random slope of b:x by c:d is there twice"),
        ("~ a + (1 | d:c) + (1 | c:d)", 19, "twice"),
        ("~ a + (1 | d:d)", 7, "named twice"),
        ("~ a + cener(b)", 7, "no function 'cener'"),
        ("~ a + lag(b)", 7, "order of the cells"),
        ("~ a + log(b +)", 7, "not a valid expression"),
        ("~ 0 + (1 | d)", 3, "neither an intercept nor a variable"),
        ("~ a + {b + }", 8, "not a valid expression"),
        ("~ a * offset(x)", 7, "offset(x) is not a summand of its own"),
        ("~ (a + offset(x))", 8, "offset(x) is not a summand of its own"),
        ("~ a - offset(x)", 7, "offset(x) is not a summand of its own"),
        ("~ a + log(offset(x))", 7, "offset() is not a term of its own"),
        ("~ a + (offset(x) | d)", 8, "offset() is not a term of its own"),
        ("~ a + offset()", 7, "offset() is empty"),
        ("~ a + offset(log(b +))", 14, "not a valid expression"),
        ("~ a + offset(x", 7, "a ) is missing"),
        ("~ within(x, y, z)", 3, "within() takes a covariate and, if wanted, one obs column of groups"),
        ("~ between(x, log(y))", 3, "between() takes a covariate and, if wanted, one obs column of groups"),
        ("~ between(x=y)", 3, "between() takes a covariate and, if wanted, one obs column of groups"),
        ("~ within(2)", 3, "within() has no obs column to average"),
        ("~ within(between(x))", 3, "cannot hold each other"),
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
    assert computed_variables(formula.fixed) == {"n u", "age"}
    assert offset_variables(parse("~ b + offset(log(`n u` * v))")) == ("n u", "v")


def test_variables_of_slopes_and_offsets_come_before_the_groups():
    formula = parse("~ b + (log(x) + b | d) + offset(v)")
    assert variables(formula) == ("b", "x", "v", "d")
    assert slope_variables(formula) == ("x", "b")


def test_categorical_only_where_always_inside_c():
    assert categorical_variables(parse("~ C(a) + C(b) + b:x + C(`c d`)")) == ("a", "c d")
    assert categorical_variables(parse("~ C(a) + C(b) + (b | d) + (0 + C(e) | d)")) == ("a", "e")
