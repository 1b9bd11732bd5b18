"""The model matrix against formulaic on all cells, its cell-means rows, and linear dependence."""

import numpy as np
import pandas as pd
import pytest
from formulaic import Formula
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import cell_means
from mlmgen.dependence import dependencies, spans
from mlmgen.errors import UserError
from mlmgen.formula import categorical_variables, fixed_variables, parse, slope_variables
from mlmgen.model_matrix import model_matrix, offset
from mlmgen.obs_columns import read

N = 60


@pytest.fixture(scope="module")
def obs():
    rng = np.random.default_rng(5)
    columns = {
        "arm": rng.choice(["a", "b", "c"], N),
        "sex": rng.choice(["F", "M"], N),
        "pool": rng.choice([1, 2, 10], N),
        "age": rng.integers(20, 70, N),
        "mito": rng.random(N),
        "my level": rng.choice(["01", "a-b", "NA", "CD4+ T/NK"], N),
    }
    return pd.DataFrame(columns)


def built(obs, text, reference=None):
    formula = parse(text)
    names = [*fixed_variables(formula), *slope_variables(formula)]
    return model_matrix(formula, read(obs, names, categorical_variables(formula), reference, "a.h5ad"), len(obs))


def full(obs, fixed):
    """formulaic's own matrix, one row for each cell."""
    frame = obs.assign(arm=pd.Categorical(obs["arm"]), sex=pd.Categorical(obs["sex"]))
    expected = Formula(fixed).get_model_matrix(frame, context={})
    return tuple("(Intercept)" if name == "Intercept" else name for name in expected.columns), expected.to_numpy(float)


@pytest.mark.parametrize(
    "fixed",
    [
        "1",
        "arm",
        "arm * sex",
        "arm * age",
        "0 + arm + sex",
        "arm:sex",
        "C(pool) * arm",
        "C(arm, contr.sum)",
        "C(arm, contr.treatment('b')) + sex",
        "poly(age, 2) + arm",
        "bs(age, df=4) * sex",
        "cr(mito, df=4)",
        "center(age) + scale(mito)",
        "log(age) + I(mito ** 2) + np.sqrt(mito)",
        "{age > 40} + arm",
        "(arm + sex + mito) ** 2 - mito:sex",
    ],
)
def test_agrees_with_formulaic(obs, fixed):
    matrix = built(obs, f"~ {fixed} + (1 | donor)")
    names, expected = full(obs, fixed)
    assert matrix.names == names
    np.testing.assert_allclose(matrix.X[matrix.row], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "effects",
    [
        "1",
        "arm",
        "0 + arm",
        "arm - 1",
        "0 + age",
        "arm * age",
        "poly(age, 2)",
        "bs(mito, df=4)",
        "log(age):sex",
        "0 + arm:sex",
    ],
)
def test_slopes_are_coded_as_fixed_effects_are(obs, effects):
    matrix = built(obs, f"~ sex + ({effects} | donor) + (1 | lane)")
    names, expected = full(obs, effects)
    slopes, intercept = matrix.slopes
    assert (slopes.names, intercept.names) == (names, ("(Intercept)",))
    np.testing.assert_allclose(slopes.X[matrix.row], expected, rtol=1e-10, atol=1e-12)
    assert (intercept.X == 1).all()
    assert matrix.names == ("(Intercept)", "sex[T.M]")


def test_slopes_keep_reference_levels(obs):
    assert built(obs, "~ 1 + (arm | donor)", {"arm": "c"}).slopes[0].names == ("(Intercept)", "arm[T.a]", "arm[T.b]")


def test_offsets_are_summed(obs):
    formula = parse("~ arm + offset(log(age)) + offset(mito * 2)")
    variables = read(obs, ("age", "mito"), (), None, "a.h5ad")
    np.testing.assert_allclose(offset(formula, variables, N), np.log(obs["age"]) + 2 * obs["mito"], rtol=1e-14)
    assert not offset(parse("~ arm"), {}, N).any()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("offset(log(age - 30))", "offset(log(age - 30)) is not a finite number in"),
        ("offset(sex)", "offset(sex) is not one number for each cell: sex is a factor"),
        ("offset(poly(age, 2))", "offset(poly(age, 2)) is not one number for each cell: it has 2 columns"),
    ],
)
def test_offsets_that_are_no_numbers(obs, text, what):
    variables = read(obs, ("age", "mito", "sex"), (), None, "a.h5ad")
    with pytest.raises(UserError) as caught:
        offset(parse(f"~ arm + {text}"), variables, N)
    assert caught.value.what.startswith(what)
    assert caught.value.do


def test_one_row_for_each_combination(obs):
    assert built(obs, "~ arm * sex").X.shape == (6, 6)
    assert built(obs, "~ 1").X.shape == (1, 1)


def test_odd_levels(obs):
    matrix = built(obs, "~ `my level`", {"my level": "NA"})
    assert matrix.names == ("(Intercept)", "my level[T.01]", "my level[T.a-b]", "my level[T.CD4+ T/NK]")
    means = ["my level[NA]", "my level[01]", "my level[a-b]", "my level[CD4+ T/NK]"]
    assert list(matrix.means) == [*means, *(f"mean({name})" for name in means)]
    assert matrix.means["my level[a-b]"].tolist() == [1, 0, 1, 0]


def test_variables_behind_the_columns(obs):
    assert built(obs, "~ arm * center(age)").variables == (
        *((), ("arm",), ("arm",), ("age",)),
        *(("arm", "age"), ("arm", "age")),
    )


def test_means_hold_numbers_at_zero(obs):
    means = built(obs, "~ sex * age + C(pool)").means
    # (Intercept), sex[T.M], age, C(pool)[T.2], C(pool)[T.10], sex[T.M]:age
    assert means["sex[M]"].tolist() == [1, 1, 0, 0, 0, 0]
    assert means["pool[10]"].tolist() == [1, 0, 0, 0, 1, 0]


def test_means_hold_transformed_numbers_at_their_mean(obs):
    means = built(obs, "~ sex * log(age) + center(mito)").means
    log_age = np.log(obs["age"].mean())
    # (Intercept), sex[T.M], log(age), center(mito), sex[T.M]:log(age)
    np.testing.assert_allclose(means["sex[F]"], [1, 0, log_age, 0, 0], atol=1e-12)
    np.testing.assert_allclose(means["sex[M]"], [1, 1, log_age, 0, log_age], atol=1e-12)


def test_means_of_factors_that_interact(obs):
    means = built(obs, "~ arm * sex").means
    # (Intercept), arm[T.b], arm[T.c], sex[T.M], arm[T.b]:sex[T.M], arm[T.c]:sex[T.M]
    assert means["arm[c]:sex[M]"].tolist() == [1, 0, 1, 1, 0, 1]
    assert means["arm[a]:sex[F]"].tolist() == means["arm[a]"].tolist() == [1, 0, 0, 0, 0, 0]
    assert "arm[a]:sex[F]" not in built(obs, "~ arm + sex").means


def test_means_under_sum_coding(obs):
    means = built(obs, "~ C(arm, contr.sum)").means
    assert [means[f"arm[{level}]"].tolist() for level in "abc"] == [[1, 1, 0], [1, 0, 1], [1, -1, -1]]


def test_averaged_means_by_hand(obs):
    means = built(obs, "~ arm * sex + age").means
    age = obs["age"].mean()
    # (Intercept), arm[T.b], arm[T.c], sex[T.M], age, arm[T.b]:sex[T.M], arm[T.c]:sex[T.M]
    np.testing.assert_allclose(means["mean(arm[b])"], [1, 1, 0, 0.5, age, 0.5, 0])
    np.testing.assert_allclose(means["mean(sex[M])"], [1, 1 / 3, 1 / 3, 1, age, 1 / 3, 1 / 3])
    np.testing.assert_allclose(means["mean(arm[c]:sex[M])"], [1, 0, 1, 1, age, 0, 1])


def test_averaged_means_are_means_of_plain_ones(obs):
    """Without numbers the average over sex of arm[b]:sex[...] is mean(arm[b])."""
    means = built(obs, "~ arm * sex").means
    for arm in "abc":
        expected = (means[f"arm[{arm}]:sex[F]"] + means[f"arm[{arm}]:sex[M]"]) / 2
        np.testing.assert_allclose(means[f"mean(arm[{arm}])"], expected, atol=1e-15)


def test_averages_differ_from_plain_means_only_with_interactions(obs):
    for text, same in (("~ arm + sex + age", True), ("~ arm * sex + age", False), ("~ arm * age + sex", False)):
        means = built(obs, text).means
        plain = means["arm[b]"] - means["arm[a]"]
        average = means["mean(arm[b])"] - means["mean(arm[a])"]
        assert np.allclose(plain, average) == same


def test_averages_of_too_many_combinations_are_left_out(obs, monkeypatch):
    monkeypatch.setattr(cell_means, "MOST_AVERAGED", 5)
    means = built(obs, "~ arm + sex").means
    assert "mean(arm[a])" not in means
    assert "arm[a]" in means


def test_spans():
    one, x = np.ones((4, 1)), np.array([[0.0, 1, 0, 1]]).T
    assert spans(np.hstack([x, 1 - x]), one)
    assert not spans(x, one)
    assert spans(np.hstack([one, x]), np.hstack([1 - x, 2 * one]))
    assert not spans(np.hstack([one, x]), np.hstack([1 - x, x**2, np.arange(4.0)[:, None]]))


def test_dependencies_by_hand():
    one, x = np.ones(6), np.arange(6.0)
    assert dependencies(np.stack([one, x], axis=1)) == []
    assert dependencies(np.stack([one, x, 2 * x - 3], axis=1)) == [(2, (0, 1))]
    assert dependencies(np.stack([one, 0 * x, x, x], axis=1)) == [(1, ()), (3, (2,))]


def test_large_numbers_are_not_dependent():
    year = np.arange(2015.0, 2025.0)
    assert dependencies(np.stack([np.ones(10), year, year**2], axis=1)) == []


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rank=st.integers(1, 5), columns=st.integers(1, 6), scale=st.integers(-6, 6))
def test_dependencies_count_the_rank(seed, rank, columns, scale):
    rng = np.random.default_rng(seed)
    X = rng.integers(-3, 4, (12, rank)) @ rng.integers(-3, 4, (rank, columns)) * 10.0**scale
    assert columns - len(dependencies(X)) == np.linalg.matrix_rank(X)
