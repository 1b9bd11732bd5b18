"""The precision of a typical gene's contrasts: against dense algebra, and textbook formulas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlmgen import design_power as powers
from mlmgen.contrasts import resolve
from mlmgen.design import build
from mlmgen.formula import parse
from mlmgen.replicates import Replicate, replicate
from mlmgen.types import Design, RandomTerm
from tests.reference.designs import intercepts
from tests.unit.structures import STRUCTURES, design_of

STIM = "condition[stim] - condition[ctrl]"


def study(donors, cells, paired=False) -> pd.DataFrame:
    """So many donors an arm, or in both arms, with so many cells of size 1 a sample."""
    sample = [(f"D{d}", c) for d in range(donors if paired else 2 * donors) for c in ("ctrl", "stim")]
    sample = [s for i, s in enumerate(sample) if paired or i % 2 == i // 2 % 2]
    return pd.DataFrame([s for s in sample for _ in range(cells)], columns=["donor", "condition"])


def of(obs, formula) -> tuple[Design, np.ndarray]:
    design, _ = build(obs, parse(formula), "donor")
    (contrast,) = resolve(STIM, design)
    return design, contrast.weights[0]


def dense(design: Design, mean_count: float) -> tuple[np.ndarray, np.ndarray]:
    """X and the covariance of the working responses of the cells, from the definition."""
    functions = np.column_stack([np.ones(len(design.pattern)), design.functions])
    X = design.X[design.pattern] * functions[:, design.basis]
    size = np.exp(design.log_size)
    mu = mean_count * size / size.mean()
    V = np.diag(1.0 / mu + powers.DISPERSION)
    for term in design.terms:
        Z = term.Z[:, design.pattern] * functions.T[term.basis]
        G, groups = powers.assumed_covariance(design, term), term.codes[design.pattern]
        V += (Z.T @ G @ Z) * (groups[:, None] == groups)
    return X, V


@pytest.mark.parametrize("name", STRUCTURES)
def test_variances_are_those_of_the_mixed_model(name):
    design = design_of(name, donors=6, cells=10)
    X, V = dense(design, 0.7)
    information = powers.information(design, 0.7)
    covariance = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    for weights in np.eye(X.shape[1]):
        assert powers.variance(information, weights) == pytest.approx(weights @ covariance @ weights, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in STRUCTURES if name != "none"])
def test_shares_of_the_terms_and_the_counts_add_up(name):
    design = design_of(name, donors=6, cells=10)
    X, V = dense(design, 0.7)
    weights = np.eye(X.shape[1])[1]
    of_cell = np.linalg.solve(V, X) @ np.linalg.solve(X.T @ np.linalg.solve(V, X), weights)
    size = np.exp(design.log_size)
    counts = float(of_cell**2 @ (1.0 / (0.7 * size / size.mean()) + powers.DISPERSION))
    information = powers.information(design, 0.7)
    total = powers.variance(information, weights)
    assert powers.shares(information, weights).sum() == pytest.approx(total - counts, rel=1e-6)


def test_two_groups_of_donors_by_hand():
    design, weights = of(study(4, 60), "~ condition + (1 | donor)")
    # mean 0.5: 1 / 0.5 + 0.4 a cell
    expected = 2 * (powers.DONOR_VARIANCE + (2.0 + 0.4) / 60) / 4
    assert powers.variance(powers.information(design, 0.5), weights) == pytest.approx(expected)


@pytest.mark.parametrize(
    "random", ["(1 | donor) + (1 | donor:condition)", "(1 + condition | donor)", "(0 + condition | donor)"]
)
def test_pairs_by_hand_however_they_are_written(random):
    design, weights = of(study(4, 60, paired=True), f"~ condition + {random}")
    expected = 2 * (powers.RESPONSE_VARIANCE + (2.0 + 0.4) / 60) / 4
    assert powers.variance(powers.information(design, 0.5), weights) == pytest.approx(expected)


def test_power_of_a_t_test_by_hand():
    for df, shift in [(4.0, 9.0), (10.0, 5.0), (60.0, 4.0)]:
        critical = stats.t.isf(powers.LEVEL / 2, df)
        assert powers.power_of(shift, 1.0, df) == pytest.approx(stats.nct.sf(critical, df, shift), abs=2e-3)
    assert powers.power_of(4.0, 1.0, powers.MOST_DF) == pytest.approx(stats.norm.sf(3.29 - 4.0), abs=2e-3)
    assert powers.power_of(0.0, 1.0, 5.0) == pytest.approx(powers.LEVEL, rel=0.1)


@settings(max_examples=30)
@given(st.floats(1.0, 1e4), st.floats(0.05, 2.0))
def test_the_detectable_effect_has_the_power(df, se):
    effect = powers.detectable(se, df) * np.log(2.0)
    assert powers.power_of(effect, se, df) == pytest.approx(powers.POWER, abs=1e-6)
    assert effect / se > stats.norm.isf(powers.LEVEL / 2)


def test_more_donors_help_more_than_more_cells():
    def found(donors, cells):
        design, weights = of(study(donors, cells), "~ condition + (1 | donor)")
        information, repeated = powers.information(design, 0.5), replicate(design, weights[None])
        return powers.power(design, information, weights, repeated, 0.5).log2fc

    assert found(8, 50) < found(4, 100) < found(4, 50)


def test_moderation_adds_what_the_counts_do_not_say():
    design, weights = of(study(4, 60), "~ condition + (1 | donor)")
    found = powers.power(design, powers.information(design, 0.5), weights, Replicate("donor", 8, 6.0, "", 6.0), 0.5)
    share = powers.DONOR_VARIANCE / (powers.DONOR_VARIANCE + 2.4 / 60)
    assert found.df == 6.0
    assert found.df_moderated == pytest.approx(6.0 + powers.PRIOR_DF / share**2)
    slope, weights = of(study(4, 60, paired=True), "~ condition + (1 + condition | donor)")
    found = powers.power(slope, powers.information(slope, 0.5), weights, Replicate("donor", 4, 3.0, "", 3.0), 0.5)
    # Differences between two conditions of a donor: responses, and the counts of both.
    share = 2 * powers.RESPONSE_VARIANCE / (2 * powers.RESPONSE_VARIANCE + 2 * 2.4 / 60)
    assert found.df == 3.0
    assert found.df_moderated == pytest.approx(3.0 + powers.PRIOR_DF / share**2)


def test_degrees_of_freedom_between_pairs_and_groups():
    pairs, groups = study(6, 40, paired=True), study(6, 40)
    formula = "~ condition + (1 | donor) + (1 | donor:condition)"
    found = []
    for obs in (pairs, pd.concat([pairs.query("donor in ('D0', 'D1')"), groups.query("donor not in ('D0', 'D1')")])):
        design, weights = of(obs, formula)
        repeated = replicate(design, weights[None])
        found.append((repeated, powers.power(design, powers.information(design, 0.5), weights, repeated, 0.5).df))
    (whole, of_pairs), (mixed, between) = found
    assert whole == Replicate("donor:condition", 12, 10.0, "donor", 5.0)
    assert of_pairs == pytest.approx(5.0)
    assert mixed == Replicate("donor:condition", 14, 12.0, "donor", 1.0)
    assert 5.0 < between < 12.0


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_do_not_matter(scale):
    obs = study(6, 20).assign(x=lambda t: np.sin(np.arange(len(t))))
    found = []
    for factor in (1.0, scale):
        design, _ = build(obs.assign(x=obs.x * factor), parse("~ condition + x + (1 + x || donor)"), "donor")
        information = powers.information(design, 0.5)
        variances = [powers.variance(information, weights) for weights in np.eye(3)]
        found.append([*variances[:2], variances[2] * factor**2])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_the_assumed_covariances():
    design, _ = of(study(4, 20, paired=True), "~ condition + (1 + condition | donor)")
    donor, response = powers.DONOR_VARIANCE, powers.RESPONSE_VARIANCE
    np.testing.assert_allclose(powers.assumed_covariance(design, design.terms[0]), np.diag([donor, 2 * response]))
    levels, _ = of(study(4, 20, paired=True), "~ condition + (0 + condition | donor)")
    both = donor + response * np.eye(2)
    np.testing.assert_allclose(powers.assumed_covariance(levels, levels.terms[0]), both)
    batch = intercepts("batch", ("a", "b"), np.arange(len(design.X)) % 2)
    np.testing.assert_allclose(powers.assumed_covariance(design, batch), [[response]])
    number = RandomTerm(
        "donor", batch.levels, batch.codes, ("day",), np.array([[0.0, 4.0]] * 4).reshape(1, 8), batch.basis
    )
    np.testing.assert_allclose(powers.assumed_covariance(design, number), [[2 * response / 16]])
