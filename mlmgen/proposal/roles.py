"""Which columns are donor, condition and cell type: points for names and for structure, the best three together."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mlmgen.groups import determines, same_groups
from mlmgen.proposal import columns as looks
from mlmgen.proposal.columns import Column
from mlmgen.proposal.vocabulary import control, named_like_cells, points

# Variance of expression that a column explains, below which it names no cell types.
LEAST_EXPLAINED = 0.05
# A coarser column that explains as much of what a finer one does is preferred.
AS_GOOD = 0.9
# Points below which there is no donor: neither a name nor a structure speaks for any column.
LEAST_FOR_DONOR = 3.0
# Share of cells with both values, from which those without are left out where two columns are compared.
ENOUGH_KNOWN = 0.5
# Points between the best column and the next from which a choice is sure, or likely.
SURE, LIKELY = 2.0, 0.8
MOST_CANDIDATES = 14  # for each role
NESTED, CROSSED = "nested", "crossed"


@dataclass(frozen=True)
class Evidence:
    """What is known of the columns together.

    Attributes
    ----------
    columns : dict of str to Column
    codes : dict of str to (m,) int64
        From 0, of at most `mlmgen.proposal.columns.MOST_CELLS` cells.
    explained : dict of str to float
        Share of the variance of expression.
    known : dict
        Answers of `crossing` and `inside` that were asked for before.
    """

    columns: Mapping[str, Column]
    codes: Mapping[str, np.ndarray]
    explained: Mapping[str, float]
    known: dict = field(default_factory=dict)

    def crossing(self, first: str, second: str) -> float:
        """Return the share of the levels of one column that have several levels of another."""
        return self._asked(("crossing", first, second), lambda a, b: looks.crossing(a, b))

    def inside(self, first: str, second: str) -> bool:
        """Tell whether each level of the first column lies in one level of the second."""
        return self._asked(("inside", first, second), determines)

    def same(self, first: str, second: str) -> bool:
        """Tell whether two columns group the cells alike."""
        return self.inside(first, second) and self.inside(second, first)

    def is_product(self, fine: str, first: str, second: str) -> bool:
        """Tell whether the levels of a column are the combinations of two others."""
        return self._asked(
            ("product", fine, first, second),
            lambda codes, a, b: same_groups(codes, looks.joined(a, b)),
        )

    def _asked(self, key: tuple, answer):
        if key not in self.known:
            codes = tuple(self.codes[name] for name in key[1:])
            found = looks.known(*codes)
            self.known[key] = answer(*(found if len(found[0]) >= ENOUGH_KNOWN * len(codes[0]) else codes))
        return self.known[key]

    def aliased(self, name: str, condition: str) -> bool:
        """Tell whether a column beside the condition makes fixed effects that cannot be told apart."""
        numbers = [self.columns[one].kind == "number" for one in (name, condition)]
        if all(numbers):
            return self.same(name, condition) and self.number(name) <= 2
        if any(numbers):  # the number says nothing more than the factor
            return self.inside(condition, name) if numbers[0] else self.inside(name, condition)
        return not self._asked(("connected", name, condition), looks.connected)

    def number(self, name: str) -> int:
        """Return the number of levels."""
        return len(self.columns[name].levels)


class Roles(NamedTuple):
    """The columns chosen, None where there is none, and how sure each choice is: sure, likely or unsure.

    ``rivals`` names the next best column of a role that is not sure.
    """

    donor: str | None
    condition: str | None
    cell_type: str | None
    confidence: dict[str, str]
    rivals: dict[str, str]


class _Three(NamedTuple):
    points: float
    donor: str
    condition: str
    cell_type: str | None


def choose(evidence: Evidence, fixed: Mapping[str, str | None]) -> Roles:
    """Choose the columns.

    Parameters
    ----------
    evidence : Evidence
    fixed : mapping of str to str or None
        Roles that the user has decided: ``donor``, ``condition``, ``cell_type``; a cell type of None is none.

    Returns
    -------
    Roles
        Without a donor where no column can be one.
    """
    candidates = [name for name, column in evidence.columns.items() if column.could_be_labels]
    donors = _best(evidence, candidates, donor_points, fixed.get("donor"))
    unlike_types = [name for name in candidates if points(name, "cell_type") < 2.0]
    conditions = _best(evidence, unlike_types, condition_points, fixed.get("condition"))
    kinds = [None, *_best(evidence, candidates, cell_type_points, None)]
    if "cell_type" in fixed:
        kinds = [fixed["cell_type"]]
    single = {
        "donor": {name: donor_points(evidence, name) for name in donors},
        "condition": {name: condition_points(evidence, name) for name in conditions},
        "cell_type": {name: cell_type_points(evidence, name) for name in kinds},
    }
    found = [
        _Three(of_pair + of_three + single["cell_type"][t], d, c, t)
        for d, c in itertools.product(donors, conditions)
        if d != c and (of_pair := single["donor"][d] + single["condition"][c] + pair_points(evidence, d, c)) > -8
        for t in kinds
        if t not in (d, c) and (of_three := _together(evidence, d, c, t)) > -90
    ]
    if not found:
        return Roles(_donor_alone(evidence, donors, fixed), None, None, {}, {})
    best = max(found, key=lambda three: three.points)  # the first of equals, in the order of the file
    of_donor = single["donor"][best.donor] + pair_points(evidence, best.donor, best.condition)
    if "donor" not in fixed and of_donor < LEAST_FOR_DONOR:
        # a column that is like a donor, but with none of the conditions: it is the condition that is missing
        return Roles(_donor_alone(evidence, donors, fixed), None, None, {}, {})
    return _with_confidence(evidence, best, found, fixed)


def _donor_alone(evidence: Evidence, donors: list[str], fixed: Mapping) -> str | None:
    """Return the donor where no column can be the condition; None where none is like one."""
    best = max(donors, key=lambda name: donor_points(evidence, name), default=None)
    return best if best is None or "donor" in fixed or donor_points(evidence, best) >= LEAST_FOR_DONOR else None


def _best(evidence: Evidence, candidates: list[str], score, fixed: str | None) -> list[str]:
    """Return the candidates of a role that could win, at most `MOST_CANDIDATES` in the order of the file."""
    if fixed is not None:
        return [fixed]
    ranked = sorted(candidates, key=lambda name: -score(evidence, name))[:MOST_CANDIDATES]
    return [name for name in candidates if name in ranked]


def _with_confidence(evidence: Evidence, best: _Three, found: list[_Three], fixed: Mapping) -> Roles:
    confidence, rivals = {}, {}
    for role in ("donor", "condition", "cell_type"):
        own = getattr(best, role)
        if role in fixed:
            confidence[role] = "given"
            continue
        others = [
            three
            for three in found
            if (name := getattr(three, role)) != own
            and not (own is not None and name is not None and evidence.same(own, name))
        ]
        rival = max(others, key=lambda three: three.points, default=None)
        margin = best.points - rival.points if rival else np.inf
        named = own is not None and points(own, role) >= 1.0
        sure = margin >= SURE and (named or (role == "cell_type"))
        confidence[role] = "sure" if sure else "likely" if margin >= LIKELY else "unsure"
        if not sure and rival is not None and getattr(rival, role) is not None:
            rivals[role] = getattr(rival, role)
    return Roles(best.donor, best.condition, best.cell_type, confidence, rivals)


def donor_points(evidence: Evidence, name: str) -> float:
    """Return how much a column by itself looks like donors."""
    column, number = evidence.columns[name], evidence.number(name)
    found = 1.2 * points(name, "donor") - 1.5 * _anti(name, "measured", "trait", "time", "clusters")
    found -= 1.0 * (points(name, "donor") >= 2.0 and points(name, "batch") >= 2.0)  # donor x batch
    if not points(name, "donor"):
        found -= 0.8 * points(name, "condition") + 0.8 * points(name, "cell_type") + 0.6 * points(name, "batch")
    found += 0.0 if number >= 4 else -0.5 if number == 3 else -2.5
    found += 0.5 if np.median(column.cells) >= 10 else -0.5
    found -= 1.5 * (column.missing > 0) + 0.5 * (column.kind == "number")
    # ids count donors; conditions and types have words
    found += 0.3 if sum(any(map(str.isdigit, level)) for level in column.levels) * 2 > number else 0.0
    found -= 1.0 * named_like_cells(column.levels)
    return found


def condition_points(evidence: Evidence, name: str) -> float:
    """Return how much a column by itself looks like a condition."""
    column, number = evidence.columns[name], evidence.number(name)
    found = 1.2 * points(name, "condition") - 1.5 * _anti(name, "measured", "clusters")
    if points(name, "condition") < 2.0:
        found -= 0.6 * max(points(name, "donor"), points(name, "cell_type"), points(name, "batch"))
    if points(name, "trait") and points(name, "condition") < 2.0:
        found -= 0.8  # a trait is a covariate where anything else was done
    found += 0.8 if number == 2 else 0.5 if number <= 4 else 0.0 if number <= 8 else -0.25 * min(number - 8, 16)
    found += 1.0 * (control(column.levels) is not None) - 1.0 * named_like_cells(column.levels)
    found -= 1.5 * (column.missing > 0) + 0.3 * (column.kind == "number")
    return found


def cell_type_points(evidence: Evidence, name: str | None) -> float:
    """Return how much a column by itself looks like cell types; None is a study of one."""
    if name is None:
        return 0.6
    column, share = evidence.columns[name], evidence.explained.get(name, 0.0)
    most = max(evidence.explained.values(), default=0.0)
    found = points(name, "cell_type") - 1.5 * _anti(name, "measured", "trait", "time")
    found += 0.9 * (re.sub(r"[^a-z]", "", name.lower()) in ("celltype", "celltypes", "annotation"))
    if points(name, "cell_type") < 2.0:
        found -= 0.6 * max(points(name, "donor"), points(name, "condition"), points(name, "batch"))
    if column.kind == "constant":
        return found if points(name, "cell_type") >= 2.0 else -99.0
    found += 2.0 * share / most if share >= LEAST_EXPLAINED else -1.0
    found -= 1.0 * (column.missing > 0) + 0.8 * column.numbered + 0.7 * (points(name, "clusters") > 0)
    found += 0.5 * named_like_cells(column.levels) - (len(column.levels) > 60)
    coarser = [
        other
        for other, explains in evidence.explained.items()
        if other != name and explains >= AS_GOOD * share and evidence.number(other) < evidence.number(name)
    ]
    return found - 0.7 * (share >= LEAST_EXPLAINED and bool(coarser))


def pair_points(evidence: Evidence, donor: str, condition: str) -> float:
    """Return how well two columns go together as donor and condition."""
    if evidence.same(donor, condition):
        return -99.0
    crossing, number = evidence.crossing(donor, condition), evidence.number(donor)
    found = 0.5 if number > evidence.number(condition) else -2.5
    if crossing == 0.0:
        arms = _donors_of_each(evidence, donor, condition)
        found += 2.5 if arms[-2] >= 2 else -1.0
        found -= 1.2 * _is_sample_of_another(evidence, donor, condition)
    else:
        sampled = any(
            evidence.is_product(other, donor, condition)
            for other in evidence.columns
            if other not in (donor, condition) and evidence.columns[other].could_be_labels
        )
        found += crossing * (3.0 if sampled else 1.2)
    if points(donor, "donor") >= 2.0:
        return found  # what is finer are its samples
    finer = [
        other
        for other, column in evidence.columns.items()
        if column.kind == "factor"
        and column.could_be_labels
        and evidence.number(other) > number
        and evidence.inside(other, donor)
        and not points(other, "cell_type")
        and not evidence.is_product(other, donor, condition)
    ]
    return found - 1.2 * bool(finer)


def _donors_of_each(evidence: Evidence, donor: str, condition: str) -> np.ndarray:
    """Count the donors of each level of a condition, sorted; two levels at least."""
    found = np.sort(looks.pairs(evidence.codes[condition], evidence.codes[donor]))
    return found if found.size > 1 else np.array([0, *found])


def _is_sample_of_another(evidence: Evidence, fine: str, condition: str) -> bool:
    """Tell whether the levels of a column are another column's, times the condition: samples of paired donors."""
    return any(
        3 <= evidence.number(other) < evidence.number(fine)
        and evidence.number(other) > evidence.number(condition)
        and points(other, "batch") == 0.0
        and evidence.is_product(fine, other, condition)
        for other, column in evidence.columns.items()
        if other not in (fine, condition) and column.could_be_labels
    )


def _together(evidence: Evidence, donor: str, condition: str, cell_type: str | None) -> float:
    """Return the points of three columns together: cell types occur in several donors and conditions."""
    if cell_type is None or evidence.columns[cell_type].kind == "constant":
        return 0.0
    shared = min(evidence.crossing(cell_type, donor), evidence.crossing(cell_type, condition))
    if evidence.same(cell_type, donor) or evidence.same(cell_type, condition):
        return -99.0
    inside = evidence.inside(donor, cell_type) or evidence.inside(cell_type, donor)
    return -6.0 if inside else -2.0 * (shared < 0.5)


def _anti(name: str, *roles: str) -> float:
    return max(points(name, role) for role in roles)
