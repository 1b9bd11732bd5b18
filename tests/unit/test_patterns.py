"""What varies within patterns: which columns become functions, and which share one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import design
from mlmgen.design_parts import read_parts
from mlmgen.formula import parse
from mlmgen.model_matrix import model_matrix
from mlmgen.patterns import FEWEST_ROWS

N = 1200


def cells(seed: int = 1) -> pd.DataFrame:
    """Ten donors in both conditions, with numbers of donors, of visits and of cells."""
    rng = np.random.default_rng(seed)
    donor = rng.integers(0, 10, N)
    columns = {
        "donor": np.array([f"D{i}" for i in range(10)])[donor],
        "condition": rng.choice(["ctrl", "stim"], N),
        "batch": rng.choice(["a", "b", "c"], N),
        "age": 20.3 + 3.1 * donor,
        "time": rng.integers(0, 4, N) * 1.5,
        "pct": rng.random(N) * 10,
        "pseudotime": rng.random(N),
    }
    return pd.DataFrame(columns)


def built(text: str, obs: pd.DataFrame | None = None, **arguments):
    obs = cells() if obs is None else obs
    return design.build(obs, parse(text), "donor", **arguments)[0]


FORMULAS = [
    ("~ condition * pct + (1 | donor)", (0, 0, 1, 1), ("pct",)),
    ("~ condition:pct + (1 | donor)", (0, 1, 1), ("pct",)),
    ("~ condition + I(pct / 100):age + pct + (1 | donor)", (0, 0, 1, 1), ("pct",)),
    ("~ center(pct) * condition + (pct | donor)", (0, 1, 0, 1), ("center(pct)", "pct")),
    ("~ condition * age * pct + (1 | donor)", (0, 0, 0, 1, 0, 1, 1, 1), ("pct",)),
    ("~ poly(pct, 2) + condition + (1 | donor)", (0, 1, 2, 0), ("poly(pct, 2)[1]", "poly(pct, 2)[2]")),
    ("~ pct * pseudotime + (1 | donor)", (0, 1, 2, 3), ("pct", "pseudotime", "pct:pseudotime")),
    ("~ time + {pct > 5} + (1 | donor)", (0, 0, 0), ()),
    ("~ {pct > 5} * pseudotime + (1 | donor)", (0, 0, 1, 1), ("pseudotime",)),
    (
        "~ 0 + condition + condition:bs(pct, df=3) + (1 | donor)",
        (0, 0, 1, 1, 2, 2, 3, 3),
        tuple(f"bs(pct, df=3)[{i}]" for i in (1, 2, 3)),
    ),
    ("~ within(pct) * condition + between(pct) + (1 | donor)", (0, 1, 0, 0, 1), ("within(pct)",)),
    ("~ log(pct) + (1 + condition:log(pct) | donor)", (0, 1), ("log(pct)",)),
]


@pytest.mark.parametrize(("text", "basis", "names"), FORMULAS, ids=[text for text, _, _ in FORMULAS])
def test_functions(text, basis, names):
    found = built(text)
    assert sorted(found.function_names) == sorted(names)
    place = {name: k + 1 for k, name in enumerate(found.function_names)}
    wanted = [0 if k == 0 else place[names[k - 1]] for k in basis]
    assert dict(zip(found.coefficients, found.basis.tolist(), strict=True)) == dict(
        zip(found.coefficients, wanted, strict=True)
    )
    assert found.functions.shape == (N, len(names))


@pytest.mark.parametrize("text", [text for text, _, _ in FORMULAS])
def test_patterns_times_functions_are_formulaics_columns(text):
    obs, formula = cells(), parse(text)
    found, order = design.build(obs, formula, "donor")
    parts = read_parts(obs, formula, "donor")
    matrix = model_matrix(formula, parts.variables, N)
    functions = np.column_stack([np.ones(N), found.functions])
    X = found.X[found.pattern] * functions[:, found.basis]
    np.testing.assert_allclose(X, matrix.X[matrix.row][order], rtol=1e-11, atol=1e-13)
    for term, columns in zip(found.terms, matrix.slopes, strict=True):
        Z = term.Z[:, found.pattern] * functions.T[term.basis]
        np.testing.assert_allclose(Z.T, columns.X[matrix.row][order], rtol=1e-11, atol=1e-13)


def test_coefficients_of_a_shared_function_are_exact():
    found = built("~ condition * pct + pct:age + (1 | donor)")
    stim = found.X[:, found.coefficients.index("condition[T.stim]")]
    ages = 20.3 + 3.1 * found.donor.codes
    assert found.X[:, found.coefficients.index("condition[T.stim]:pct")].tolist() == stim.tolist()
    assert found.X[:, found.coefficients.index("pct:age")].tolist() == np.round(ages, 12).tolist()
    assert found.X[:, found.coefficients.index("pct")].tolist() == [1.0] * len(stim)


def test_a_pattern_shares_factors_groups_and_what_repeats():
    """Donor x condition, times visits where they are few, times batches where they are random groups."""
    assert len(built("~ condition * pct + (1 | donor)").X) == 20
    assert len(built("~ condition * pct + time + (1 | donor)").X) == 80
    assert len(built("~ condition * pct + (1 | donor) + (1 | batch)").X) == 60
    assert len(built("~ pct + (1 + condition | donor)").X) == 20
    assert len(built("~ pct + (1 + time | donor)").X) == 40


def test_numbers_are_patterns_up_to_one_for_fourteen_rows():
    """100 donors x values: patterns for 1400 cells, a function for 1399."""
    for n, columns in ((FEWEST_ROWS * 100, ()), (FEWEST_ROWS * 100 - 1, ("x",))):
        donor, x = np.divmod(np.arange(n) % 100, 10)
        obs = pd.DataFrame({"donor": donor.astype(str), "x": x * 1.0, "y": np.arange(n) % 2 == 1})
        assert built("~ x + (1 | donor)", obs).function_names == columns


def test_the_column_with_fewer_values_goes_first():
    """Either would leave few enough patterns, both together too many."""
    obs = cells().assign(few=np.arange(N) % 3, many=np.arange(N) % 7)
    for text in ("~ many + few + (1 | donor)", "~ few + many + (1 | donor)"):
        found = built(text, obs)
        assert found.function_names == ("many",)
        assert len(found.X) == 30


def test_small_tables_of_rows_are_functions():
    """Ten days of eighteen subjects, as in a sleep study: each row is a day of its own."""
    obs = pd.DataFrame({"subject": np.repeat([f"S{i}" for i in range(18)], 10), "days": np.tile(np.arange(10.0), 18)})
    found, _ = design.build(obs, parse("~ days + (days | subject)"), "subject")
    assert (found.X.shape, found.functions.shape, found.function_names) == ((18, 2), (180, 1), ("days",))
    assert (found.basis.tolist(), found.terms[0].basis.tolist()) == ([0, 1], [0, 1])
    assert (found.X == 1).all()


def test_donors_with_zeros_alone():
    obs = cells()
    obs.loc[obs["donor"] == "D3", "pct"] = 0.0
    found = built("~ condition * pct + (1 | donor)", obs)
    assert found.function_names == ("pct",)
    assert (found.X[:, 2] == 1).all()


def test_functions_follow_the_order_of_the_rows():
    obs = cells()
    found, order = design.build(obs, parse("~ pct + pseudotime + (1 | donor)"), "donor")
    np.testing.assert_array_equal(found.functions, obs[["pct", "pseudotime"]].to_numpy()[order])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.integers(-6, 6))
def test_the_unit_of_a_number_changes_its_function_alone(seed, scale):
    obs = cells(seed)
    text = "~ condition * pct + (1 + pct | donor)"
    one, two = built(text, obs), built(text, obs.assign(pct=obs["pct"] * 2.0**scale))
    np.testing.assert_array_equal(one.X, two.X)
    np.testing.assert_array_equal(one.functions * 2.0**scale, two.functions)
