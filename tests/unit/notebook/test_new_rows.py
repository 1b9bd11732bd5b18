"""Rows of new data are coded as those that were fitted: levels, knots, centres, means of donors, groups."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen.design_rows import design_rows
from mlmgen.errors import UserError
from mlmgen.notebook import responses
from mlmgen.notebook.designed import designed
from mlmgen.notebook.model import Options
from mlmgen.notebook.new_rows import new_rows

# Formulas are tried on a table of three donors.
pytestmark = pytest.mark.filterwarnings("ignore:.*(asks for|not vary within any group)")
OPTIONS = Options("gaussian", "reml", "laplace", 9, "compressed", 1)
FORMULAS = [
    "y ~ 1 + (1 | donor)",
    "y ~ arm + (1 | donor)",
    "y ~ arm * age + offset(log(volume)) + (1 | donor)",
    "y ~ C(batch) + center(age) + (1 + age | donor)",
    "y ~ bs(age, df=4) + (1 | donor/plate)",
    "y ~ poly(age, 2) + arm + (1 + poly(age, 2) | donor)",
    "y ~ within(age) + between(age) + (1 + within(age) | donor)",
    "y ~ 0 + arm + (0 + arm | donor) + (1 | plate)",
    "y ~ arm + age + (1 + age || donor) + offset(volume)",
    "y ~ log(volume):arm + scale(age) + (1 | donor:plate)",
    "y ~ arm + age",
]


def table(seed=1, n=60):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "arm": pd.Categorical(rng.choice(["b", "a", "c"], n), categories=["b", "a", "c"]),
            "batch": rng.integers(1, 4, n),
            "age": rng.normal(50, 10, n).round(2),
            "volume": rng.uniform(1, 5, n),
            "donor": rng.choice(["D1", "D2", "D10"], n),
            "plate": rng.choice(["p", "q"], n),
        },
        index=[f"r{i}" for i in range(n)],
    )


def model(formula, data=None, **more):
    return designed(responses.read(table() if data is None else data, formula, "gaussian"), None, None, OPTIONS, **more)


def message(*arguments, **options):
    with pytest.raises(UserError) as caught:
        new_rows(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_fitted_rows_come_back(formula):
    built = model(formula)
    fitted, back = design_rows(built.design), np.argsort(built.order)
    found = new_rows(built, table(), False)
    np.testing.assert_allclose(found.X, fitted.X[back], atol=1e-9)
    np.testing.assert_allclose(found.offset, fitted.offset[back], atol=1e-12)
    assert len(found.Z) == len(fitted.Z) == len(built.design.terms)
    for new, old, codes, group in zip(found.Z, fitted.Z, found.codes, fitted.codes, strict=True):
        np.testing.assert_allclose(new, old[:, back], atol=1e-9)
        np.testing.assert_array_equal(codes, group[back])


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FORMULAS), st.lists(st.integers(0, 59), min_size=1, max_size=6))
def test_a_row_does_not_depend_on_those_beside_it(formula, chosen):
    built = model(formula)
    every, some = new_rows(built, table(), False), new_rows(built, table().iloc[chosen], False)
    np.testing.assert_allclose(some.X, every.X[chosen], atol=1e-9)
    for few, all_codes in zip(some.codes, every.codes, strict=True):
        np.testing.assert_array_equal(few, all_codes[chosen])


def test_levels_keep_their_meaning_in_data_that_lack_some():
    built = model("y ~ arm + C(batch) + (1 | donor)")
    assert built.design.coefficients == ("(Intercept)", "arm[T.a]", "arm[T.c]", "C(batch)[T.2]", "C(batch)[T.3]")
    data = pd.DataFrame({"arm": ["c", "b"], "batch": [3.0, 1.0], "donor": ["D2", "D10"]})
    assert new_rows(built, data, False).X.tolist() == [[1, 0, 1, 0, 1], [1, 0, 0, 0, 0]]


def test_new_donors_have_their_own_mean():
    data = pd.DataFrame({"age": [40.0, 60.0, 45.0], "donor": ["new", "new", "D1"]})
    built = model("y ~ within(age) + between(age) + (1 | donor)")
    rows = new_rows(built, data, True)
    mean = table().loc[table()["donor"] == "D1", "age"].mean()
    np.testing.assert_allclose(rows.X, [[1, -10, 50], [1, 10, 50], [1, 45 - mean, mean]])
    assert rows.codes[0].tolist() == [-1, -1, built.design.terms[0].levels.index("D1")]


def test_a_new_sample_of_a_known_donor_is_new_for_one_term_only():
    built = model("y ~ 1 + (1 | donor/plate)", table().query("donor != 'D1' or plate != 'q'"))
    rows = new_rows(built, pd.DataFrame({"donor": ["D1"], "plate": ["q"]}), True)
    assert [codes[0] >= 0 for codes in rows.codes] == [True, False]


def test_columns_of_groups_may_be_left_out_for_new_groups():
    built = model("y ~ arm + (1 | donor/plate)")
    rows = new_rows(built, pd.DataFrame({"arm": ["a"]}), True)
    assert [codes.tolist() for codes in rows.codes] == [[-1], [-1]]
    assert "no column 'donor'" in message(built, pd.DataFrame({"arm": ["a"]}), False)


def test_problems_of_new_data():
    built = model("y ~ arm + log(age) + (1 | donor)")
    one = pd.DataFrame({"arm": ["a", "a"], "age": [1.0, 2.0], "donor": ["D1", "D7"]})
    text = message(built, one, False)
    assert "1 groups of donor were not fitted: D7" in text
    assert "new_groups=True" in text
    assert "levels that were not fitted: z, in 1 rows" in message(built, one.assign(arm=["a", "z"]), True)
    assert "missing or infinite in 1 of 2 rows, first in 1" in message(built, one.assign(age=[1.0, np.nan]), True)
    assert "log(age) is not a finite number in 1 of 2 rows" in message(built, one.assign(age=[1.0, -1.0]), True)
    assert "Did you mean 'age'?" in message(built, one.rename(columns={"age": "agee"}), True).replace("agee", "age")
    assert "fitted as a number" in message(built, one.assign(age=["x", "y"]), True)
    assert "no rows" in message(built, one.iloc[:0], True)
    assert "are a list" in message(built, [1], True)


def test_true_and_false_are_levels():
    data = table().assign(flag=np.arange(60) % 2 == 0)
    built = model("y ~ flag + (1 | donor)", data)
    assert new_rows(built, data.iloc[:2], False).X.tolist() == [[1, 1], [1, 0]]
