"""Contrasts as weights on the coefficients."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import contrasts, design, formula
from mlmgen.contrasts import resolve
from mlmgen.errors import UserError


def designed(text, columns, reference=None):
    obs = pd.DataFrame(columns)
    obs["donor"] = [f"D{i % 6}" for i in range(len(obs))]
    return design.build(obs, formula.parse(text), "donor", reference=reference)[0]


@pytest.fixture(scope="module")
def three_arms():
    return designed("~ arm + age + (1 | donor)", {"arm": ["a", "b", "c"] * 12, "age": np.arange(36.0)})


@pytest.fixture(scope="module")
def factorial():
    columns = {"arm": ["a", "b"] * 20, "sex": ["F", "F", "M", "M"] * 10, "age": np.arange(40.0) % 7}
    return designed("~ arm * sex + arm:age + age + (1 | donor)", columns)


# Coefficients of three_arms: (Intercept), arm[T.b], arm[T.c], age.
@pytest.mark.parametrize(
    ("expression", "weights"),
    [
        ("arm[b] - arm[a]", [0, 1, 0, 0]),
        ("arm[a] - arm[b]", [0, -1, 0, 0]),
        ("-arm[b] + arm[c]", [0, -1, 1, 0]),
        ("arm[T.b]", [0, 1, 0, 0]),
        ("arm[T.c] - arm[T.b]", [0, -1, 1, 0]),
        ("0.5 * (arm[b] + arm[c]) - arm[a]", [0, 0.5, 0.5, 0]),
        ("(arm[b] + arm[c]) / 2 - arm[a]", [0, 0.5, 0.5, 0]),
        ("0.5 arm[b] + .5arm[c] - 1e0 * arm[a]", [0, 0.5, 0.5, 0]),
        ("arm[b] * 2 - 2 * arm[a]", [0, 2, 0, 0]),
        ("-(arm[a] - (arm[b] - -1 * age))", [0, 1, 0, 1]),
        ("10 * age", [0, 0, 0, 10]),
        ("10age", [0, 0, 0, 10]),
        ("`age`", [0, 0, 0, 1]),
        ("`arm`[b]-`arm`[a]", [0, 1, 0, 0]),
        ("arm[b] - arm[a] + arm[T.c]", [0, 1, 1, 0]),
        ("(1/3) * (arm[b] + arm[c] + arm[a]) - arm[a]", [0, 1 / 3, 1 / 3, 0]),
        ("(Intercept) + arm[T.b]", [1, 1, 0, 0]),
    ],
)
def test_weights(three_arms, expression, weights):
    (contrast,) = resolve({"x": expression}, three_arms)
    np.testing.assert_allclose(contrast.weights, [weights], atol=1e-15)
    assert (contrast.name, contrast.expression) == ("x", expression)


def test_interactions(factorial):
    names = ("(Intercept)", "arm[T.b]", "sex[T.M]", "age", "arm[T.b]:sex[T.M]", "arm[T.b]:age")
    assert factorial.coefficients == names
    expressions = {
        "at the reference": "arm[b] - arm[a]",
        "in men": "arm[b]:sex[M] - arm[a]:sex[M]",
        "difference": "arm[b]:sex[M] - arm[a]:sex[M] - (arm[b]:sex[F] - arm[a]:sex[F])",
        "coefficient": "arm[T.b]:sex[T.M]",
        "by hand": "arm[T.b] + arm[T.b]:sex[T.M]",
        "backticks": "`arm`[b]:`sex`[M] - arm[a]:sex[M]",
    }
    weights = {contrast.name: contrast.weights[0].tolist() for contrast in resolve(expressions, factorial)}
    assert weights["at the reference"] == [0, 1, 0, 0, 0, 0]
    assert weights["in men"] == weights["by hand"] == weights["backticks"] == [0, 1, 0, 0, 1, 0]
    assert weights["difference"] == weights["coefficient"] == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("expression", "weights"),
    [
        ("mean(arm[b]) - mean(arm[a])", [0, 1, 0, 0, 0.5, 3]),
        ("mean(`arm`[b]) - mean(arm[a])", [0, 1, 0, 0, 0.5, 3]),
        ("mean(sex[M]) - mean(sex[F])", [0, 0, 1, 0, 0.5, 0]),
        ("mean(arm[b]:sex[M]) - mean(arm[a]:sex[M])", [0, 1, 0, 0, 1, 3]),
        ("mean(sex[M]:arm[b]) - mean(sex[M]:arm[a])", [0, 1, 0, 0, 1, 3]),
        ("sex[M]:arm[b] - sex[M]:arm[a]", [0, 1, 0, 0, 1, 0]),
        ("2 * (mean(arm[b]) - arm[a])", [0, 2, 1, 6, 1, 6]),
        ("(arm[b]:sex[M] - arm[a]:sex[M]) - (arm[b]:sex[F] - arm[a]:sex[F])", [0, 0, 0, 0, 1, 0]),
        ("0.5 * (arm[b]:sex[M] - arm[a]:sex[M]) + (arm[b]:sex[F] - arm[a]:sex[F]) / 2", [0, 1, 0, 0, 0.5, 0]),
    ],
)
def test_averages_and_differences_of_differences(factorial, expression, weights):
    """Weights are written for a mean age of 3."""
    mean_age = (np.arange(40) % 7).mean()
    expected = np.array(weights, dtype=float)
    expected[[3, 5]] *= mean_age / 3
    np.testing.assert_allclose(resolve({"x": expression}, factorial)[0].weights, [expected], atol=1e-14)


def test_names_of_splits_and_functions():
    columns = {"pct": np.sin(np.arange(24.0)) + 2, "time": np.arange(24.0) % 5, "lane": ["u", "v"] * 12}
    of_design = designed("~ within(pct) + between(pct) + within(log(pct), lane) + poly(time, 2) + (1 | donor)", columns)
    names = list(of_design.coefficients)
    for expression, atoms in [
        ("between(pct) - within(pct)", {"between(pct)": 1, "within(pct)": -1}),
        ("between(pct)-2within(pct)", {"between(pct)": 1, "within(pct)": -2}),
        ("(within(log(pct), lane) - between(pct)) / 2", {"within(log(pct), lane)": 0.5, "between(pct)": -0.5}),
        ("within(log(pct),lane)", {"within(log(pct), lane)": 1}),
        ("poly(time, 2)[2] - poly(time, 2)[1]", {"poly(time, 2)[2]": 1, "poly(time, 2)[1]": -1}),
        ("`within(pct)`", {"within(pct)": 1}),
    ]:
        expected = np.zeros(len(names))
        for name, weight in atoms.items():
            expected[names.index(name)] = weight
        assert resolve({"x": expression}, of_design)[0].weights.tolist() == [expected.tolist()]


def test_one_expression_is_its_own_name(three_arms):
    (found,) = resolve("arm[b] - arm[a]", three_arms)
    assert (found.name, found.expression) == ("arm[b] - arm[a]", "arm[b] - arm[a]")


def test_contrasts_need_names(three_arms):
    with pytest.raises(UserError, match=r"the contrasts are a list .* as in {'effect': 'arm\[b\] - arm\[a\]'}"):
        resolve(["arm[b] - arm[a]"], three_arms)


def test_a_level_alone_suggests_its_mean(three_arms):
    with pytest.raises(UserError, match=r"no coefficient or mean 'b' in this design .* Did you mean 'arm\[b\]'\?"):
        resolve({"x": "b - a"}, three_arms)


def test_atoms_are_the_sum_as_written(three_arms):
    found = contrasts.atoms("0.5 * (arm[b] + arm[c]) - arm[a] - 2 age", three_arms, "here")
    assert found == [(0.5, "arm[b]"), (0.5, "arm[c]"), (-1.0, "arm[a]"), (-2.0, "age")]
    with pytest.raises(UserError, match="in here"):
        contrasts.atoms("arm[d]", three_arms, "here")


def test_joint_tests(three_arms):
    both = ["arm[b] - arm[a]", "arm[c] - arm[a]"]
    first, second, alone = resolve({"any": both, "and age": [*both, "2 * age"], "one": ["age"]}, three_arms)
    assert first.weights.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert (first.name, first.expression) == ("any", "arm[b] - arm[a]; arm[c] - arm[a]")
    assert second.weights.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]]
    assert (alone.weights.tolist(), alone.expression) == ([[0, 0, 0, 1]], "age")
    assert resolve({"any": tuple(both)}, three_arms)[0].weights.shape == (2, 4)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([], "the list of a joint test is empty"),
        (["age", "arm[b] - arm[a]", "2 * age"], "'2 * age' follows from 'age' in the same joint test"),
        (
            ["arm[b] - arm[a]", "arm[c] - arm[b]", "age", "arm[c] - arm[a]"],
            "'arm[c] - arm[a]' follows from 'arm[b] - arm[a]', 'arm[c] - arm[b]' in the same joint test",
        ),
        (["age", "arm[b]"], "the weights of the means in 'arm[b]' sum to 1"),
        (["age", ""], "the contrast is empty or not a text: ''"),
        (["age", ["age"]], "the contrast is empty or not a text: ['age']"),
        (["age", "agee"], "there is no coefficient or mean 'agee' in this design"),
    ],
)
def test_joint_tests_that_cannot_be_read(three_arms, rows, what):
    with pytest.raises(UserError) as caught:
        resolve({"any": rows}, three_arms)
    assert caught.value.what == what
    assert caught.value.where == "configuration key contrasts.any"
    assert caught.value.do


def test_default_is_every_coefficient_but_the_intercept(three_arms):
    contrasts = resolve(None, three_arms)
    assert [c.name for c in contrasts] == ["arm[T.b]", "arm[T.c]", "age"]
    np.testing.assert_array_equal([c.weights[0] for c in contrasts], np.eye(4)[1:])
    assert {c.weights.shape for c in contrasts} == {(1, 4)}


def test_default_without_variables_is_nothing():
    assert resolve(None, designed("~ (1 | donor)", {"x": range(12)})) == ()


ODD_LEVELS = ["01", "a-b", "NA", "CD4+ T/NK", "two words", "a[b]", "a]", "x*(y", "T.b", "é", "a:b", "1e5"]


@pytest.mark.parametrize("level", ODD_LEVELS)
def test_odd_levels(level):
    of_design = designed("~ `my arm` + (1 | donor)", {"my arm": ["zz", level] * 12}, {"my arm": "zz"})
    for text in (f"my arm[{level}] - my arm[zz]", f"`my arm`[{level}] - `my arm`[zz]", f"my arm[T.{level}]"):
        assert resolve({"x": text}, of_design)[0].weights.tolist() == [[0, 1]]


def test_without_intercept_levels_are_means():
    of_design = designed("~ 0 + arm + (1 | donor)", {"arm": ["a", "b"] * 12})
    assert resolve({"x": "arm[b] - arm[a]"}, of_design)[0].weights.tolist() == [[-1, 1]]
    with pytest.raises(UserError, match=r"sum to 1 .*arm\[b\] - arm\[a\]"):
        resolve({"x": "arm[b]"}, of_design)
    with pytest.raises(UserError, match="no intercept"):
        resolve(None, of_design)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("arm[b]", "sum to 1"),
        ("arm[b] + arm[a]", "sum to 2"),
        ("arm[b] - arm[b]", "compares nothing"),
        ("arm[T.b] - arm[b] + arm[a]", "compares nothing"),
        ("arm[b] - 2", "number -2 in"),
        ("arm[b] -", "too early"),
        ("arm[b] arm[a]", r"'arm\[a\]' is not expected: arm\[b\] arm\[a\]  <- here, at character 8"),
        ("arm[b] * arm[a]", "product of two"),
        ("2 / age", "only a number"),
        ("age / 0", "other than 0"),
        ("(arm[b] - arm[a]", "parenthesis is not closed"),
        ("arm[b] - arm[a])", r"'\)' is not expected"),
        ("arm[b - arm[a]", "bracket is not closed"),
        ("`age", "backtick is not closed"),
        ("", "empty"),
        (None, "empty"),
    ],
)
def test_refuses(three_arms, expression, reason):
    with pytest.raises(UserError, match=reason) as caught:
        resolve({"effect": expression}, three_arms)
    assert caught.value.where == "configuration key contrasts.effect"


@pytest.mark.parametrize(
    ("expression", "atom", "near"),
    [
        ("arm[d] - arm[a]", "arm[d]", "arm["),
        ("arms[b] - arm[a]", "arms[b]", "arm[b]"),
        ("arm[b]:sex[M]", "arm[b]:sex[M]", "arm[b]"),
        ("agee", "agee", "age"),
        ("arm[CD4+ T(x)] - arm[a]", "arm[CD4+ T(x)]", ""),
        ("mean(arm[d]) - mean(arm[a])", "mean(arm[d])", "mean(arm["),
        ("log(age, 2) - age", "log(age, 2)", ""),
        ("arm[x) y] - arm[a]", "arm[x) y]", "arm["),
    ],
)
def test_unknown_name_lists_what_there_is(three_arms, expression, atom, near):
    with pytest.raises(UserError) as caught:
        resolve({"x": expression}, three_arms)
    assert repr(atom) in caught.value.what
    assert near in caught.value.do.partition("?")[0]
    assert "coefficients are: (Intercept), arm[T.b], arm[T.c], age;" in caught.value.do
    assert "means are: arm[a], arm[b], arm[c]. mean(arm[a]) averages it over the other factors." in caught.value.do


@given(weights=st.lists(st.integers(-5, 5), min_size=3, max_size=3).filter(any))
def test_linear(three_arms, weights):
    """Any weights that sum to zero give the difference of the means' rows."""
    weights = [*weights[:2], -sum(weights[:2])]
    if not any(weights):
        return
    levels = ("a", "b", "c")
    text = " + ".join(f"{w} * arm[{level}]" for w, level in zip(weights, levels, strict=True)).replace("+ -", "- ")
    expected = sum(w * three_arms.means[f"arm[{level}]"] for w, level in zip(weights, levels, strict=True))
    np.testing.assert_array_equal(resolve({"x": text}, three_arms)[0].weights, [expected])
