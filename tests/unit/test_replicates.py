"""The most degrees of freedom that the replicates of a contrast allow, of designs counted by hand."""

import numpy as np
import pandas as pd
import pytest

from mlmgen.contrasts import resolve
from mlmgen.design import build
from mlmgen.formula import parse
from mlmgen.replicates import intercepts, most_degrees_of_freedom, separates_donors

DONORS = 6
VISITS = 4


def obs(paired=True, alone=0):
    """Four cells a sample; a sample is a donor, or a donor x condition; ``alone`` donors have stim cells only."""
    rows = [
        {"donor": f"D{d}", "condition": condition, "arm": "ab"[d % 2], "day": float(cell), "plate": f"p{cell % 3}"}
        for d in range(DONORS)
        for condition in (["ctrl", "stim"][d < alone :] if paired else [["ctrl", "stim"][d % 2]])
        for cell in range(VISITS)
    ]
    return pd.DataFrame(rows).assign(pct=lambda frame: np.linspace(0, 1, len(frame)) ** 2)


def most(formula, contrast, data=None):
    design, _ = build(obs() if data is None else data, parse(formula), "donor")
    (found,) = resolve({"it": contrast}, design)
    return most_degrees_of_freedom(design, found.weights)


STIM = "condition[stim] - condition[ctrl]"


@pytest.mark.parametrize(
    ("formula", "contrast", "expected"),
    [
        # Between donors: the t test of two groups of donors.
        ("~ arm + (1 | donor)", "arm[T.b]", DONORS - 2),
        ("~ arm + pct + (1 | donor)", "arm[T.b]", DONORS - 2),
        ("~ arm + (1 | donor) + (1 | donor:condition)", "arm[T.b]", DONORS - 2),
        # Within donors: the paired t test, of one difference a donor; also where both effects are written by levels.
        ("~ condition + (1 + condition | donor)", STIM, DONORS - 1),
        ("~ condition + (1 + condition || donor)", STIM, DONORS - 1),
        ("~ condition + (0 + condition | donor)", STIM, DONORS - 1),
        ("~ 0 + condition + (1 + condition | donor)", STIM, DONORS - 1),
        # One slope a donor, as the 18 - 1 of sleepstudy; compared between arms N - 2.
        ("~ day + (1 + day | donor)", "day", DONORS - 1),
        ("~ day + (0 + day | donor)", "day", DONORS - 1),
        ("~ center(day) + (1 + day | donor)", "center(day)", DONORS - 1),
        ("~ arm * day + (1 + day | donor)", "arm[T.b]:day", DONORS - 2),
        ("~ arm * day + (1 + day | donor)", "day", DONORS - 2),
        ("~ pct + (1 + pct | donor)", "pct", DONORS - 1),
        # Samples are the replicates; what the donors share is up to Satterthwaite.
        ("~ condition + (1 | donor) + (1 | donor:condition)", STIM, 2 * DONORS - 2),
        ("~ condition + (1 | donor:condition)", STIM, 2 * DONORS - 2),
        # Nothing random carries the effect: its replicates are the rows.
        ("~ pct + (1 | donor)", "pct", 2 * DONORS * VISITS - 2),
        ("~ arm + pct + (1 | donor)", "pct", 2 * DONORS * VISITS - 3),
        ("~ condition + (1 | donor)", STIM, 2 * DONORS * VISITS - 2),
        ("~ condition * arm", "condition[T.stim]:arm[T.b]", 2 * DONORS * VISITS - 4),
        # A contrast is as well known as the worse of its parts.
        ("~ arm + pct + (1 | donor)", "arm[T.b] + pct", DONORS - 2),
        ("~ arm + pct + (1 | donor)", ["arm[T.b]", "pct"], DONORS - 2),
        # The coarsest of crossed factors that carry it.
        ("~ arm + (1 | donor) + (1 | plate)", "(Intercept)", 3 - 1),
    ],
)
def test_degrees_of_freedom_counted_by_hand(formula, contrast, expected):
    assert most(formula, contrast) == expected


def test_two_groups_of_donors_that_have_one_condition_each():
    assert most("~ condition + (1 | donor)", STIM, obs(paired=False)) == DONORS - 2


def test_donors_without_a_pair_are_told_from_pairs():
    """Four pairs and two donors that were only stimulated: a paired comparison beside a mean that differs."""
    assert most("~ condition + (1 + condition | donor)", STIM, obs(alone=2)) == DONORS - 2


def test_there_is_always_one():
    data = obs(paired=False).query("donor in ('D0', 'D1')")
    assert most("~ condition + (1 | donor)", STIM, data) == 1


def test_intercepts_are_found_also_where_they_are_written_by_levels():
    for formula, names in [
        ("~ condition + (0 + condition | donor)", ["donor"]),
        ("~ day + (0 + day | donor) + (1 | donor:condition)", ["donor:condition"]),
        ("~ day + (1 + day || donor)", ["donor"]),
        ("~ day + (1 | plate)", ["plate"]),
    ]:
        design, _ = build(obs(), parse(formula), "donor")
        assert [term.name for term in intercepts(design)] == names
        assert separates_donors(design) == (names != ["plate"])
