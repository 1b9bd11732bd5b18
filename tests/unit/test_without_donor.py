"""Designs without a donor, against designs built anew from the cells of the others."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlmgen import contrasts, formula
from mlmgen.design import build, for_samples
from mlmgen.types import Counts, Design
from mlmgen.without_donor import Rest, remaining_contrast, saturated, without_donor

CELLS = 30


def obs(seed: int = 3) -> pd.DataFrame:
    """Six donors with cells in both conditions; batch b3 is that of donor D6 alone, and pct varies by cell."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(6), CELLS)
    return pd.DataFrame(
        {
            "donor": [f"D{i + 1}" for i in donor],
            "condition": np.array(["ctrl", "stim"])[rng.integers(0, 2, donor.size)],
            "batch": np.where(donor == 5, "b3", np.where(donor % 2, "b2", "b1")),
            "sex": np.where(donor < 3, "f", "m"),
            "pct": rng.normal(5.0, 1.0, donor.size),
            "day": rng.integers(0, 3, donor.size).astype(float),
        }
    )


def counts_of(n: int, seed: int = 4) -> Counts:
    """Three genes; the second has counts in the last rows only."""
    rng = np.random.default_rng(seed)
    dense = rng.poisson(0.7, (3, n)) * np.array([[True], [False], [True]])
    dense[1, -3:] = 2
    gene, rows = np.nonzero(dense)
    start = np.searchsorted(gene, np.arange(4)).astype(np.int64)
    return Counts(("a", "b", "c"), start, rows.astype(np.int32), dense[gene, rows].astype(float))


def dense_of(counts: Counts, n: int) -> np.ndarray:
    full = np.zeros((len(counts.genes), n))
    full[np.repeat(np.arange(len(counts.genes)), np.diff(counts.start)), counts.rows] = counts.values
    return full


def designs(text: str, donor: str, sample=None) -> tuple[Design, Rest, Design, np.ndarray]:
    """The full design, what is left of it, the design built anew, and the counts of its rows."""
    table, size = obs(), np.random.default_rng(7).uniform(0.5, 2.0, 6 * CELLS)
    parsed, others = formula.parse(text), (table["donor"] != donor).to_numpy()
    full, order = build(table, parsed, "donor", sample, size_factor=size)
    counts = counts_of(len(table))
    expected, again = build(table[others].reset_index(drop=True), parsed, "donor", sample, size_factor=size[others])
    rest = without_donor(full, counts, donor)
    rows = np.empty((3, len(table)))
    rows[:, order] = dense_of(counts, len(table))
    return full, rest, expected, rows[:, others][:, again]


def assert_same(found: Design, expected: Design) -> None:
    for field in dataclasses.fields(Design):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "terms":
            assert len(left) == len(right)
            for a, b in zip(left, right, strict=True):
                assert (a.name, a.levels, a.effects) == (b.name, b.levels, b.effects)
                for name in ("codes", "Z", "basis"):
                    np.testing.assert_allclose(getattr(a, name), getattr(b, name), err_msg=name)
        elif field.name in ("donor", "sample"):
            assert (left.name, left.levels) == (right.name, right.levels)
            np.testing.assert_array_equal(left.codes, right.codes)
        elif field.name == "means":
            # Averages stay those over all donors' levels and numbers, where these can be estimated.
            cells = {name for name in right if not name.startswith("mean(")}
            assert {name for name in left if not name.startswith("mean(")} == cells
            for name in cells:
                np.testing.assert_array_equal(left[name], right[name], err_msg=name)
        elif isinstance(right, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_allclose(left, right, rtol=1e-14, err_msg=field.name)
        else:
            assert left == right, field.name


FORMULAS = (
    "~ condition + (1 | donor)",
    "~ sex + (1 | donor)",
    "~ condition * sex + (1 | donor) + (1 | donor:condition)",
    "~ condition + batch + (1 | donor)",
    "~ condition + (1 | donor) + (1 | batch)",
    "~ condition + day + (1 + condition | donor)",
    "~ condition + pct + (1 + pct || donor)",
    "~ condition:pct + offset(log(pct)) + (1 | donor)",
)


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("donor", ["D1", "D3", "D6"])
def test_a_design_without_a_donor_is_that_of_the_other_donors(text, donor):
    _, rest, expected, rows = designs(text, donor)
    assert_same(rest.design, expected)
    np.testing.assert_array_equal(dense_of(rest.counts, rest.design.pattern.size), rows)
    assert rest.counts.start[-1] == len(rest.counts.rows) == len(rest.counts.values)


def test_sums_of_samples_lose_the_rows_of_the_donor():
    full, _, expected, _ = designs("~ condition + batch + (1 | donor)", "D6")
    samples = for_samples(full)
    counts = counts_of(len(samples.X))
    rest = without_donor(samples, counts, "D6")
    assert_same(rest.design, for_samples(expected))
    of_others = samples.donor.codes != samples.donor.levels.index("D6")
    np.testing.assert_array_equal(
        dense_of(rest.counts, of_others.sum()), dense_of(counts, len(samples.X))[:, of_others]
    )


def test_a_contrast_is_left_where_the_other_donors_can_estimate_it():
    full, rest, _, _ = designs("~ condition + batch + (1 | donor)", "D6")
    of_batch, of_condition, of_others = contrasts.resolve(
        {"a": "batch[b3] - batch[b1]", "b": "condition[stim] - condition[ctrl]", "c": "batch[b2] - batch[b1]"}, full
    )
    assert rest.design.coefficients == ("(Intercept)", "condition[T.stim]", "batch[T.b2]")
    assert remaining_contrast(of_batch, rest) is None
    np.testing.assert_array_equal(remaining_contrast(of_condition, rest).weights, [[0, 1, 0]])
    np.testing.assert_array_equal(remaining_contrast(of_others, rest).weights, [[0, 0, 1]])
    joint = contrasts.resolve({"any": ["batch[b3] - batch[b1]", "batch[b2] - batch[b1]"]}, full)[0]
    assert remaining_contrast(joint, rest) is None


def test_a_contrast_survives_the_loss_of_its_reference_level():
    """Only D1 is of the reference level; the difference of the two others stays, on other coefficients."""
    table = obs()
    table["dose"] = table["donor"].map({"D1": "a", "D2": "b", "D3": "c", "D4": "b", "D5": "c", "D6": "b"})
    full, _ = build(table, formula.parse("~ dose + (1 | donor)"), "donor")
    rest = without_donor(full, counts_of(len(table)), "D1")
    difference, to_reference = contrasts.resolve({"a": "dose[c] - dose[b]", "b": "dose[c] - dose[a]"}, full)
    left = remaining_contrast(difference, rest)
    assert remaining_contrast(to_reference, rest) is None
    rows = {tuple(row) for row in rest.design.X}
    assert len(rows) == 2
    value = {level: row for level, row in rest.design.means.items() if level in ("dose[b]", "dose[c]")}
    np.testing.assert_allclose(left.weights[0], value["dose[c]"] - value["dose[b]"])


def test_designs_without_degrees_of_freedom_are_seen():
    table = obs()
    few = table[table["donor"].isin(["D1", "D4", "D5"])].reset_index(drop=True)
    full, _ = build(few, formula.parse("~ sex + (1 | donor)"), "donor")
    counts = counts_of(len(few))
    assert not saturated(full)
    assert saturated(without_donor(full, counts, "D5").design)
    assert saturated(for_samples(without_donor(full, counts, "D4").design))
    one_arm = without_donor(full, counts, "D1")
    assert one_arm.design.coefficients == ("(Intercept)",)
    assert not saturated(one_arm.design)
