"""From responses to a designed model: donor, references, order, what is refused before any fit."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from mlmgen.errors import UserError
from mlmgen.notebook import responses
from mlmgen.notebook.designed import designed, why_not_fitted
from mlmgen.notebook.model import Options, check_options, in_data_order, totals
from tests.unit.notebook.test_responses import FEW_GENES, cells

pytestmark = [pytest.mark.filterwarnings(FEW_GENES), pytest.mark.filterwarnings("ignore:.* asks for")]


def options(**more):
    return Options(
        **(
            {
                "family": "nb",
                "method": "reml",
                "integration": "laplace",
                "nodes": 9,
                "likelihood": "compressed",
                "threads": 1,
            }
            | more
        )
    )


def frame():
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "y": rng.poisson(4, 24),
            "school": np.repeat(list("abcd"), 6),
            "class": np.tile(["x", "x", "x", "y", "y", "y"], 4),
            "dose": pd.Categorical(np.tile(["mid", "low", "high"], 8), categories=["low", "none", "mid", "high"]),
            "sex": np.tile(["m", "f"], 12),
        }
    )


def build(formula, data=None, donor=None, reference=None, **more):
    data = frame() if data is None else data
    chosen = options(**more)
    return designed(responses.read(data, formula, chosen.family), donor, reference, chosen)


def message(*arguments, **more):
    with pytest.raises(UserError) as caught:
        build(*arguments, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("formula", "donor"),
    [
        ("y ~ sex + (1 | school)", "school"),
        ("y ~ sex + (1 | school/class)", "school"),
        ("y ~ 1 + (1 | class:school)", "class"),
    ],
)
def test_the_donor_is_the_coarsest_factor_of_the_first_random_term(formula, donor):
    assert build(formula).design.donor.name == donor
    assert build(formula, donor="school").design.donor.name == "school"


def test_rows_without_random_terms_are_their_own_replicates():
    model = build("y ~ sex")
    assert model.donor == "row"
    assert len(model.design.donor.levels) == 24
    taken = build("y ~ sex + row", frame().assign(row=np.arange(24.0) % 5))
    assert taken.donor == "mlmgen_row"
    with pytest.raises(UserError, match="no random term and no donor is given"):
        designed(responses.read(cells(), "~ 1", "nb"), None, None, options())


def test_responses_are_sorted_as_the_design():
    shuffled = frame().sample(frac=1.0, random_state=3)
    model = build("y ~ sex + (1 | school)", shuffled)
    y = np.zeros(24)
    y[model.counts.rows] = model.counts.values
    np.testing.assert_array_equal(y, shuffled["y"].to_numpy()[model.order])
    donors = np.array(model.design.donor.levels)[model.design.donor.codes[model.design.pattern]]
    assert donors.tolist() == shuffled["school"].iloc[model.order].tolist() == sorted(shuffled["school"])


def test_a_categorical_keeps_its_first_level_that_occurs():
    model = build("y ~ dose + sex + (1 | school)")
    assert model.reference == {"dose": ("low", "mid", "high")}
    assert model.design.coefficients == ("(Intercept)", "dose[T.mid]", "dose[T.high]", "sex[T.m]")
    high = build("y ~ dose + (1 | school)", reference={"dose": "high"}).design
    assert high.coefficients == ("(Intercept)", "dose[T.low]", "dose[T.mid]")
    assert list(high.means)[:3] == ["dose[high]", "dose[low]", "dose[mid]"]
    ordered = build("y ~ sex + (1 | school)", reference={"sex": ["m", "f"]}).design
    assert ordered.coefficients == ("(Intercept)", "sex[T.f]")
    assert "sex[T.f]" in build("y ~ sex + (1 | school)", reference={"sex": "m"}).design.coefficients


def test_the_order_of_a_categorical_is_that_of_its_polynomial():
    """Orthogonal polynomials of low < mid < high: -1, 0, 1 and 1, -2, 1, each of unit length."""
    dose = frame()["dose"].to_numpy()
    model = build("y ~ C(dose, contr.poly) + (1 | school)")
    rows = model.design.X[model.design.pattern]
    for level, linear, quadratic in [("low", -1, 1), ("mid", 0, -2), ("high", 1, 1)]:
        own = rows[dose[model.order] == level]
        expected = np.tile([1, linear / np.sqrt(2), quadratic / np.sqrt(6)], (len(own), 1))
        np.testing.assert_allclose(own, expected, atol=1e-12)


def test_slopes_have_references_too():
    model = build("y ~ 1 + (1 + dose | school)")
    assert model.reference == {"dose": ("low", "mid", "high")}
    assert model.design.terms[0].effects == ("(Intercept)", "dose[T.mid]", "dose[T.high]")
    model = build("y ~ 1 + (1 + sex | school)", reference={"sex": "m"})
    assert model.design.terms[0].effects == ("(Intercept)", "sex[T.f]")
    assert build("y ~ 1 + (0 + dose | school)").design.terms[0].effects == ("dose[low]", "dose[mid]", "dose[high]")


def test_references_that_do_not_exist():
    assert "'age' is a number and has no reference level" in message(
        "y ~ age + (1 | school)", frame().assign(age=np.arange(24) % 5), reference={"age": 3}
    )
    coded = frame().assign(age=np.arange(24) % 5)
    assert "C(age)[T.0]" in build("y ~ C(age) + (1 | school)", coded, reference={"age": 3}).design.coefficients
    assert "not in the fixed effects" in message("y ~ sex + (1 | school)", reference={"school": "a"})
    twice = pd.concat([frame(), frame()[["sex"]]], axis=1)
    assert "two obs columns are called 'sex'" in message("y ~ sex + (1 | school)", twice)
    assert "Did you mean 'dose'?" in message("y ~ dose + (1 | school)", reference={"dos": "low"})
    text = message("y ~ dose + (1 | school)", reference={"dose": "hgih"})
    assert "Did you mean 'high'?" in text
    assert "the reference level 'none' does not occur" in message("y ~ dose + (1 | school)", reference={"dose": "none"})


def test_only_the_columns_of_the_formula_are_kept():
    assert list(build("y ~ sex + (1 | school)").responses.table.columns) == ["school", "sex"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"method": "REML"}, "there is no method 'REML'"),
        ({"integration": "gauss"}, "there is no integration 'gauss'"),
        ({"likelihood": "full"}, "there is no likelihood 'full'"),
        ({"integration": "agq"}, "adaptive quadrature .* is for maximum likelihood"),
    ],
)
def test_options_that_do_not_exist(more, words):
    with pytest.raises(UserError, match=words):
        check_options(options(**more))


def test_random_terms_that_cannot_be_estimated_are_refused():
    one = frame().assign(all="one")
    assert "(1 | all) cannot be estimated: all cells belong to one group" in message(
        "y ~ sex + (1 | school) + (1 | all)", one
    )
    rows = frame().assign(id=np.arange(24).astype(str))
    assert "a group for each of the 24 rows" in message("y ~ sex + (1 | id)", rows, family="gaussian")
    assert build("y ~ sex + (1 | school) + (1 | id)", rows, family="poisson").design.terms[1].name == "id"
    assert "'y' is both the response and a variable" in message("y ~ sex + y + (1 | school)")
    assert "missing" in message("y ~ sex + (1 | school)", frame().assign(sex=["m", None] * 12))


def test_random_terms_are_named_with_their_own_argument():
    text = message("y ~ sex + (1 | schol)")
    assert "there is no obs column 'schol' (in argument formula, the data frame). Did you mean 'school'?" in text
    assert "(in configuration key donor" in message("y ~ sex + (1 | school)", donor="schol")


def test_models_that_leave_nothing_to_estimate_are_refused():
    assert "'all' is constant: it is one in all 24 cells" in message("y ~ all", frame().assign(all="one"))
    assert "'school' is both a fixed effect and a random intercept" in message("y ~ school + (1 | school)")
    rows = frame().assign(id=np.arange(24))
    assert "nothing is left to estimate the variation between them" in message("y ~ C(id)", rows, family="gaussian")


def test_references_are_a_mapping():
    assert "as in reference={'condition': 'ctrl'}" in message("y ~ sex + (1 | school)", reference="f")


def test_idle_variances_of_a_data_frame_are_warned_of():
    age = frame().assign(age=np.repeat([30.0, 40.0, 50.0, 61.0], 6), x=np.sin(np.arange(24)), z=np.arange(24) % 5)
    with pytest.warns(UserWarning, match="age does not vary within any group of school"):
        build("y ~ sex + (1 + age | school)", age)
    with pytest.warns(UserWarning, match="asks for 6 variances and covariances from 4 groups"):
        build("y ~ sex + (1 + x + z | school)", age)


def test_cells_that_count_as_replicates_are_warned_of():
    data = cells()
    data.obs["arm"] = list("xxyy")
    seen = "no random intercept separates the 2 donors of 'donor': the 4 cells count as replicates, and p-values of arm"
    data = ad.concat([data] * 4, index_unique="-")
    data.obs["donor"] = [f"d{i // 2}" for i in range(16)]
    with pytest.warns(UserWarning, match=seen.replace("2 donors", "8 donors").replace("4 cells", "16 cells")):
        designed(responses.read(data, "~ arm", "nb"), "donor", None, options())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(*FEW_GENES.split(":", 1))
        designed(responses.read(data, "~ 1", "nb"), "donor", None, options())
        designed(responses.read(data, "~ arm + (1 | donor)", "nb"), "donor", None, options())


def test_anndata_is_warned_of_what_makes_tests_too_bold():
    data = cells()
    data.obs["arm"] = list("xyxy")
    with pytest.warns(UserWarning, match="arm varies within donors"):
        designed(responses.read(data, "~ arm + (1 | donor)", "nb"), None, None, options())


def test_responses_that_cannot_be_fitted_say_why():
    columns = pd.DataFrame({"zero": [0, 0, 0], "ones": [1, 1, 1], "some": [1, 0, 1]})
    words = {}
    for family in ("nb", "bernoulli", "gaussian"):
        words[family] = why_not_fitted(responses.read(columns, "~ 1", family, responses=list(columns)), family)
    assert words == {
        "nb": ("it is 0 in every row", "", ""),
        "bernoulli": ("it is 0 in every row", "it is positive in every row", ""),
        "gaussian": ("it is 0 in every row", "it is constant", ""),
    }


def test_totals_of_responses():
    data = responses.read(frame().assign(none=0), "~ sex + (1 | school)", "nb", responses=["none", "y"])
    model = designed(data, None, None, options())
    assert totals(model.counts).tolist() == [0.0, frame()["y"].sum()]
    assert model.responses.values is None
    np.testing.assert_array_equal(in_data_order(model).toarray(), frame().assign(none=0)[["none", "y"]])
