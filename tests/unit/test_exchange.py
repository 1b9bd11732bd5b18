"""What changes places under the null hypothesis, against brute force and by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import contrasts, design, exchange, formula
from mlmgen.design_parts import read_parts
from mlmgen.model_matrix import model_matrix

CELLS = 3


def cells(donors: dict, repeats: int = CELLS) -> pd.DataFrame:
    """One row for each entry of the columns, repeated."""
    table = pd.DataFrame(donors)
    return table.loc[table.index.repeat(repeats)].reset_index(drop=True)


def found(obs: pd.DataFrame, text: str, contrast, sample=None):
    """The exchange of a contrast, or the reason."""
    parsed = formula.parse(text)
    parts = read_parts(obs, parsed, "donor", sample)
    matrix = model_matrix(parsed, parts.variables, parts.n)
    laid, _ = design.build(obs, parsed, "donor", sample)
    (resolved,) = contrasts.resolve({"c": contrast}, laid)
    one, reason = exchange.find(parts, matrix, parsed, resolved, obs)
    assert (one is None) == bool(reason)
    return reason if one is None else one


def arms(labels: str) -> pd.DataFrame:
    return cells({"donor": [f"D{i}" for i in range(len(labels))], "arm": list(labels)})


def pairs(present: list[str]) -> pd.DataFrame:
    """Donors with samples of the levels that each entry spells."""
    rows = [(f"D{i}", level) for i, levels in enumerate(present) for level in levels]
    return cells({"donor": [d for d, _ in rows], "arm": [a for _, a in rows]})


def all_splits(one, number: int = 10**6) -> np.ndarray:
    return np.array(list(exchange.splits(one, number, (1,)))).reshape(-1, len(one.label))


# Brute force


def spans(labels, weights: np.ndarray) -> tuple:
    """Projections on the model of the labels and on that of the null hypothesis, rounded."""
    X = np.eye(len(weights))[list(labels)]
    null = np.linalg.svd(weights.T)[2][np.linalg.matrix_rank(weights) :].T
    return tuple(tuple((A @ np.linalg.pinv(A)).round(6).ravel() + 0.0) for A in (X, X @ null))


def brute_force(labels, strata, weights) -> int:
    """Count the classes of arrangements whose models with and without the contrast are the same."""
    compared = np.abs(weights).max(axis=1) > 0
    seen = set()
    for order in itertools.permutations(range(len(labels))):
        new = [labels[i] for i in order]
        kept = all(
            strata[i] == strata[place] and (compared[labels[place]] or new[place] == labels[place])
            for place, i in enumerate(order)
        )
        if kept:
            seen.add(spans(new, weights))
    return len(seen) - 1


CONTRASTS = {
    2: [("arm[b] - arm[a]", [[-1.0], [1.0]])],
    3: [
        ("arm[b] - arm[a]", [[-1.0], [1.0], [0.0]]),
        ("0.5 * (arm[b] + arm[c]) - arm[a]", [[-1.0], [0.5], [0.5]]),
        ("arm[c] - 0.25 * arm[b] - 0.75 * arm[a]", [[-0.75], [-0.25], [1.0]]),
        (["arm[b] - arm[a]", "arm[c] - arm[a]"], [[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]]),
    ],
}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_splits_of_donors_are_those_of_brute_force(data):
    levels = data.draw(st.sampled_from([2, 3]))
    labels = data.draw(st.lists(st.integers(0, levels - 1), min_size=levels + 1, max_size=6))
    labels = [*range(levels), *labels][:6]
    expression, weights = data.draw(st.sampled_from(CONTRASTS[levels]))
    one = found(arms("".join("abc"[i] for i in labels)), "~ arm + (1 | donor)", expression)
    expected = brute_force(labels, [0] * len(labels), np.array(weights))
    if isinstance(one, str):
        assert expected == 0
        return
    splits = all_splits(one)
    assert len(splits) == len({tuple(s) for s in splits}) == expected == exchange.number_of_splits(one)
    assert one.kind == "between donors"
    classes = {spans(s, np.array(weights)) for s in splits}
    assert len(classes) == expected
    assert spans(one.label, np.array(weights)) not in classes


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=4, max_size=7))
def test_splits_within_strata_are_those_of_brute_force(donors):
    arm, sex = zip(*donors, strict=True)
    if len(set(arm)) < 2 or len(set(sex)) < 2 or len(set(donors)) < 3:
        return
    obs = cells(
        {"donor": [f"D{i}" for i in range(len(arm))], "arm": ["ab"[a] for a in arm], "sex": ["fm"[s] for s in sex]}
    )
    one = found(obs, "~ arm + sex + (1 | donor)", "arm[b] - arm[a]")
    kept = {
        tuple(arm[i] for i in order)
        for order in itertools.permutations(range(len(arm)))
        if all(sex[i] == sex[place] for place, i in enumerate(order))
    }
    mirrored = {min(new, other) if (other := tuple(1 - a for a in new)) in kept else new for new in kept}
    if isinstance(one, str):
        assert len(mirrored) == 1
        assert "change places" in one
    else:
        assert len(all_splits(one)) == len(mirrored) - 1 == exchange.number_of_splits(one)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "ab", "ab"]), min_size=2, max_size=6))
def test_paired_splits_flip_donors(present):
    if not {"a", "b"} <= set("".join(present)):
        return
    flips, complete = present.count("ab"), all(levels == "ab" for levels in present)
    if flips == 0:
        return
    expected = 2**flips // (2 if complete else 1) - 1
    one = found(pairs(present), "~ arm + (1 | donor) + (1 | donor:arm)", "arm[b] - arm[a]")
    if expected == 0:
        assert "where they are, or to the mirror image" in one
        return
    assert one.kind == "within donors"
    assert len(all_splits(one)) == expected == exchange.number_of_splits(one)


# By hand


def test_four_against_four_has_its_balanced_splits_first():
    one = found(arms("aaaabbbb"), "~ arm + (1 | donor)", "arm[b] - arm[a]")
    splits = all_splits(one)
    assert len(splits) == 34  # 8! / (4! 4!) / 2, without the observed one
    of_first = (splits[:, :4] == 0).sum(axis=1)
    assert (of_first[:18] == 2).all()
    assert set(of_first[18:]) == {1, 3}


def test_three_against_four_has_no_mirrors():
    one = found(arms("aaabbbb"), "~ arm + (1 | donor)", "arm[b] - arm[a]")
    assert len(all_splits(one)) == 34
    assert len(one.mirrors) == 1


def test_balanced_flips_come_first():
    one = found(pairs(["ab"] * 6), "~ arm + (1 | donor) + (1 | donor:arm)", "arm[b] - arm[a]")
    flipped = (all_splits(one) != one.label).sum(axis=1) // 2
    assert (flipped[:10] == 3).all()  # 6! / (3! 3!) / 2
    assert (np.minimum(flipped[10:], 6 - flipped[10:]) < 3).all()


def test_many_donors_are_drawn_balanced_distinct_and_by_the_seed_alone():
    one = found(arms("a" * 20 + "b" * 20), "~ arm + (1 | donor)", "arm[b] - arm[a]")
    first, again = (np.array(list(itertools.islice(exchange.splits(one, 20, (7,)), 20))) for _ in range(2))
    other = np.array(list(itertools.islice(exchange.splits(one, 20, (8,)), 20)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert ((first[:, :20] == 0).sum(axis=1) == 10).all()
    assert (first.sum(axis=1) == 20).all()
    assert len({tuple(s) for s in first}) == 20
    assert exchange.number_of_splits(one) == pytest.approx(68923264410.0 - 1)  # 40! / (20! 20!) / 2


def test_levels_that_are_not_compared_stay():
    one = found(arms("aabbcc"), "~ arm + (1 | donor)", "arm[c] - arm[b]")
    splits = all_splits(one)
    assert len(splits) == 2
    assert (splits[:, :2] == one.label[:2]).all()


def test_donors_that_differ_in_another_factor_do_not_exchange():
    donors = {"donor": list("ABCDEF"), "arm": list("aabbab"), "sex": list("ffffmm"), "age": [30, 40, 50, 60, 35, 45]}
    one = found(cells(donors), "~ arm + sex + age + (1 | donor)", "arm[b] - arm[a]")
    assert len(all_splits(one)) == 6 * 2 // 2 - 1
    assert all(sorted(s[:4]) == [0, 0, 1, 1] and sorted(s[4:]) == [0, 1] for s in all_splits(one))


def test_litters_exchange_where_the_arm_is_the_litters():
    donors = {"donor": list("ABCDEFGH"), "litter": list("wwxxyyzz"), "arm": list("aaaabbbb")}
    one = found(cells(donors), "~ arm + (1 | litter/donor)", "arm[b] - arm[a]")
    assert one.kind == "between groups of litter"
    assert len(one.label) == 4
    assert len(all_splits(one)) == 2


def test_numbers_of_donors_exchange_whole():
    donors = {"donor": list("ABCDE"), "age": [20.0, 30.0, 30.0, 50.0, 70.0]}
    one = found(cells(donors), "~ age + (1 | donor)", "age")
    splits = all_splits(one)
    assert len(splits) == 60 - 1
    assert all(sorted(s) == [0, 1, 1, 2, 3] for s in splits)
    spread = exchange.imbalance(one, splits)
    assert (np.diff(spread) > -1e-9).all()
    assert spread[0] < 0.01


def test_an_arm_written_as_a_number_has_mirrors():
    donors = {"donor": list("ABCDEFGH"), "arm": [0, 0, 0, 0, 1, 1, 1, 1]}
    assert len(all_splits(found(cells(donors), "~ arm + (1 | donor)", "arm"))) == 34


def test_days_exchange_between_the_samples_of_a_donor():
    rows = [(d, day) for d in "ABC" for day in (0.0, 7.0, 28.0)]
    table = cells({"donor": [d for d, _ in rows], "day": [t for _, t in rows], "visit": [f"{d}{t}" for d, t in rows]})
    one = found(table, "~ day + (1 + day | donor) + (1 | visit)", "day", sample="visit")
    assert one.kind == "between samples of a donor"
    assert exchange.number_of_splits(one) == 6**3 - 1
    assert all(sorted(s[:3]) == [0, 1, 2] for s in all_splits(one))


@pytest.mark.parametrize("variable", ["pct", "within(pct)"])
def test_covariates_of_cells_exchange_within_samples(variable):
    table = pairs(["ab"] * 3)
    table["pct"] = np.arange(len(table), dtype=float) ** 1.5
    one = found(table, f"~ arm + {variable} + (1 | donor) + (1 | donor:arm)", variable)
    assert one.kind == "between cells of a sample"
    assert exchange.number_of_splits(one) == 6**6 - 1
    split = next(exchange.splits(one, 20, (1,)))
    changed = exchange.permuted(table, one, split)
    assert list(changed.columns) == list(table.columns)
    for _, rows in table.groupby(["donor", "arm"]):
        assert sorted(changed.loc[rows.index, "pct"]) == sorted(rows["pct"])
    assert not changed["pct"].equals(table["pct"])


def test_an_interaction_permutes_what_is_constant_within_donors():
    rows = [(f"D{i}", sex, arm) for i, sex in enumerate("ffffmmmm") for arm in "ab"]
    table = cells(dict(zip(("donor", "sex", "arm"), zip(*rows, strict=True), strict=True)))
    one = found(table, "~ arm * sex + (1 | donor) + (1 | donor:arm)", "arm[T.b]:sex[T.m]")
    assert one.columns == ("sex",)
    assert len(all_splits(one)) == 34
    averaged = found(table, "~ arm * sex + (1 | donor) + (1 | donor:arm)", "mean(arm[b]) - mean(arm[a])")
    assert averaged.columns == ("arm",)
    assert exchange.number_of_splits(averaged) == 2**8 / 2 - 1


@pytest.mark.parametrize(
    ("table", "text", "contrast", "reason"),
    [
        (
            cells({"donor": [*"ABCDEFGH"], "arm": [*"aabbbbbb"], "site": [*"wwwwxxxx"], "sex": [*"ffmmffmm"]}),
            "~ arm + site + sex + (1 | donor)",
            "arm[b] - arm[a]",
            "no two labels of arm can change places between donors, and only donors with the same other factors",
        ),
        (arms("ab" * 1), "~ arm + (1 | donor)", "arm[b] - arm[a]", "to where they are, or to the mirror image"),
        (
            arms("aabb").assign(pct=np.arange(12.0)),
            "~ arm + between(pct) + (1 | donor)",
            "between(pct)",
            "between(pct) is a mean over cells",
        ),
        (
            arms("aaabbb").assign(age=np.repeat([1.0, 2, 4, 8, 16, 30], 3)),
            "~ arm + age + (1 | donor)",
            "arm[T.b] + age",
            "no single variable",
        ),
    ],
    ids=["strata", "one-split", "between", "two-variables"],
)
def test_reasons(table, text, contrast, reason):
    assert reason in found(table, text, contrast)


def test_permuted_obs_keeps_types_and_everything_else():
    table = arms("aabb").assign(arm=lambda t: pd.Categorical(t["arm"], categories=["b", "unused", "a"]), other=1.5)
    one = found(table, "~ arm + (1 | donor)", "arm[b] - arm[a]")
    same = exchange.permuted(table, one, one.label)
    pd.testing.assert_frame_equal(same, table)
    for split in all_splits(one):
        changed = exchange.permuted(table, one, split)
        assert changed["arm"].dtype == table["arm"].dtype
        assert (changed["arm"] == np.array(["a", "b"])[split[one.unit]]).all()
        pd.testing.assert_frame_equal(changed.drop(columns="arm"), table.drop(columns="arm"))
        assert (table["arm"] == list("aaaaaabbbbbb")).all()


@given(st.lists(st.integers(0, 2), max_size=7))
def test_orders_of_labels_are_those_of_itertools(labels):
    labels = tuple(sorted(labels))
    listed = list(exchange._permutations(labels))
    assert len(listed) == len(set(listed))
    assert set(listed) == set(itertools.permutations(labels))


def test_many_labels_are_permuted_without_recursion():
    labels = (0,) * 1500 + (1,)
    assert sum(1 for _ in exchange._permutations(labels)) == 1501
    assert list(exchange._permutations((0, 0, 1))) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
