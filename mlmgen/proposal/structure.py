"""The design that donor and condition make, unpaired, paired, over time or from cell to cell, and what follows."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen.errors import UserError
from mlmgen.groups import determines
from mlmgen.patterns import FEWEST_ROWS
from mlmgen.proposal import columns as looks
from mlmgen.proposal.columns import Column
from mlmgen.proposal.roles import Evidence, Roles
from mlmgen.proposal.vocabulary import SERIAL, control, points
from mlmgen.random_terms import quoted
from mlmgen.within_donors import completed, default_formula

if TYPE_CHECKING:
    import pandas as pd

UNPAIRED, PAIRED, OVER_TIME, OF_CELLS = "unpaired", "paired", "longitudinal", "cell-level"
# From this share of donors with cells in several levels a variable varies within donors.
VARIES = 0.5
MOST_TIMES = 50


class Recurring(NamedTuple):
    """An id of a donor that occurs in several levels, and may stand for several donors.

    ``variable`` is the column of the levels, ``levels`` the first two; ``lasting`` tells that a person has one value of
    it by its name, otherwise the ids are serial numbers.
    """

    variable: str
    donor: str
    levels: tuple[str, str]
    lasting: bool


@dataclass(frozen=True)
class Structure:
    """A design and what a configuration says about it.

    Attributes
    ----------
    kind : str
        ``unpaired``, ``paired``, ``longitudinal`` or ``cell-level``.
    time : str or None
        Numeric column of the visits of donors.
    sample : str or None
        Column to name in the configuration, None where samples follow from the formula.
    same_sample : str or None
        Column of samples that says what the formula says already.
    formula : str
    reference : dict of str to str
    by_name : bool
        Whether a level is named like a control, so that the reference is more than the first level.
    contrasts : dict of str to str
    methods : tuple of str
        Empty for both. Where a number varies within donors and no column names the samples, sums over samples cannot
        tell it apart.
    repeated : str or None
        Column of samples of which donors have several that no variable of the formula tells apart, so that the formula
        has a level for them.
    recurring : Recurring or None
        Why donors in several levels may be several donors of one name.
    """

    kind: str
    time: str | None
    sample: str | None
    same_sample: str | None
    formula: str
    reference: dict[str, str]
    by_name: bool
    contrasts: dict[str, str]
    methods: tuple[str, ...] = ()
    repeated: str | None = None
    recurring: Recurring | None = None


def structure(evidence: Evidence, roles: Roles, sample: str | None, obs: "pd.DataFrame") -> Structure:
    """Find the design.

    Parameters
    ----------
    evidence : Evidence
    roles : Roles
        With a donor and a condition.
    sample : str or None
        The column of samples, where the user has said so.
    obs : DataFrame
        All cells.
    """
    donor, condition = roles.donor, roles.condition
    column = evidence.columns[condition]
    time = _time(evidence, donor, condition)
    found = sample or _sample(evidence, donor, condition, time)
    kind = _kind(evidence, donor, condition, time)
    says_nothing = found is not None and not sample and _follows(evidence, found, donor, condition, time)
    fixed = quoted(condition) if time in (None, condition) else f"{quoted(condition)} * {quoted(time)}"
    named = found is not None and found != donor
    repeated = _repeated(evidence, found, donor, condition, time)
    formula = _formula(evidence, obs, f"~ {fixed}", donor, condition, time)
    number_within = time is not None or (column.kind == "number" and evidence.crossing(donor, condition) > 0.0)
    reference, by_name = ({}, False) if column.kind == "number" else _reference(column, obs[condition])
    return Structure(
        kind=kind,
        time=time,
        sample=None if says_nothing or found == donor else found,
        same_sample=found if says_nothing else None,
        formula=formula if repeated is None else _with_samples(formula, donor, repeated),
        reference={} if not reference else {condition: reference[0]},
        by_name=by_name,
        contrasts=_contrasts(column, reference, None if time == condition else time),
        methods=("glmm",) if number_within and not named else (),
        repeated=repeated,
        recurring=_recurring(evidence, donor, condition, time),
    )


def doubted(roles: Roles, found: Structure) -> Roles:
    """Mark donor and design as not sure where the donors in several levels may be several of one name."""
    if found.recurring is None:
        return roles
    donor = {} if roles.confidence.get("donor") == "given" else {"donor": "unsure"}
    return roles._replace(confidence=roles.confidence | donor | {"design": "unsure"})


def _time(evidence: Evidence, donor: str, condition: str) -> str | None:
    """Return the number that says when a donor was seen: several values a donor, many cells each."""
    for name in (condition, *evidence.columns):
        column = evidence.columns[name]
        fewest = 3 if name == condition else 2
        if column.kind != "number" or not fewest <= len(column.levels) <= MOST_TIMES:
            continue
        if name != condition and not points(name, "time"):
            continue
        visits = len(np.unique(evidence.codes[donor] * (len(column.levels) + 1) + evidence.codes[name]))
        if evidence.crossing(donor, name) >= VARIES and visits * FEWEST_ROWS <= len(evidence.codes[donor]):
            return name
    return None


def _sample(evidence: Evidence, donor: str, condition: str, time: str | None) -> str | None:
    """Return a column of samples: within donors, and one condition and time each; the coarsest."""
    constant = _known_of_samples(donor, condition, time)
    found = [
        name
        for name, column in evidence.columns.items()
        if column.could_be_labels
        and column.kind == "factor"
        and column.missing == 0
        and name not in constant
        and (points(name, "sample") >= 1.0 or evidence.is_product(name, donor, condition))
        and all(evidence.inside(name, other) for other in constant)
    ]
    coarsest = min(found, key=evidence.number, default=None)
    if coarsest is not None and _follows(evidence, coarsest, donor, condition, time):
        finer = [name for name in found if points(name, "taken") and _several(evidence, name, constant)]
        return min(finer, key=evidence.number, default=coarsest)
    return coarsest


def _known_of_samples(donor: str, condition: str, time: str | None) -> list[str]:
    return [donor, condition] if time in (None, condition) else [donor, condition, time]


def _several(evidence: Evidence, sample: str, constant: list[str]) -> bool:
    """Tell whether donors have several samples each of the same condition and time."""
    of_sample, donor, *others = looks.known(*(evidence.codes[name] for name in (sample, *constant)))
    own, unit = looks.joined(donor, of_sample), donor
    if not all(determines(own, other) for other in others):
        return False
    for other in others:
        unit = looks.joined(unit, other) + 1
    return looks.crossing(unit, of_sample) >= VARIES


def _repeated(evidence: Evidence, sample: str | None, donor: str, condition: str, time: str | None) -> str | None:
    """Return the column of samples that the formula needs a level for; where none lies in donors, one that recurs."""
    constant = _known_of_samples(donor, condition, time)
    if sample is not None and sample not in constant and _several(evidence, sample, constant):
        return sample
    if sample is not None and not _follows(evidence, sample, donor, condition, time):
        return None
    recur = [
        name
        for name, column in evidence.columns.items()
        if column.could_be_labels
        and column.missing == 0
        and name not in constant
        and points(name, "taken")
        and points(name, "batch") < 2.0
        and not evidence.inside(name, donor)
        and _several(evidence, name, constant)
    ]
    return min(recur, key=evidence.number, default=None)


def _with_samples(formula: str, donor: str, sample: str) -> str:
    """Add the samples of a donor as a level below it."""
    own, below = quoted(donor), quoted(sample)
    if f"(1 | {own})" in formula:
        return formula.replace(f"(1 | {own})", f"(1 | {own}/{below})", 1)
    return f"{formula} + (1 | {own}:{below})"


def _recurring(evidence: Evidence, donor: str, condition: str, time: str | None) -> Recurring | None:
    """Return an id in several levels of what a person has one of, or a serial number that is in every level."""
    ids = evidence.columns[donor].levels
    serial = bool(ids) and all(SERIAL.fullmatch(name) for name in ids)
    for name in dict.fromkeys([condition, *([time] if time else [])]):
        levels = evidence.columns[name].levels
        of_donor, of_level = looks.combinations(evidence.codes[donor], evidence.codes[name])
        found, places = np.unique(of_donor, return_counts=True)
        lasting = name == condition and points(name, "lasting") > 0.0
        again = serial and bool((places == len(np.unique(of_level))).any())
        if ids and levels and (places > 1).any() and (lasting or again):
            first = found[np.argmax(places)]
            one, other = of_level[of_donor == first][:2] - 1
            return Recurring(name, ids[first - 1], (levels[one], levels[other]), lasting)
    return None


def _kind(evidence: Evidence, donor: str, condition: str, time: str | None) -> str:
    if time is not None:
        return OVER_TIME
    if evidence.crossing(donor, condition) == 0.0:
        return UNPAIRED
    samples = [
        name
        for name, column in evidence.columns.items()
        if points(name, "sample") >= 2.0 and column.could_be_labels and evidence.inside(name, donor)
    ]
    if samples and all(evidence.crossing(name, condition) > 0.0 for name in samples if name != donor):
        return OF_CELLS if any(name != donor for name in samples) else PAIRED
    return PAIRED


def _follows(evidence: Evidence, sample: str, donor: str, condition: str, time: str | None) -> bool:
    """Tell whether samples are what donor and the factors of the formula make anyway."""
    if time is not None:
        return False
    if evidence.crossing(donor, condition) == 0.0:
        return evidence.same(sample, donor)
    return evidence.is_product(sample, donor, condition)


def _formula(evidence: Evidence, obs: "pd.DataFrame", fixed: str, donor: str, condition: str, time: str | None) -> str:
    names = list(dict.fromkeys([donor, condition, *([time] if time else [])]))
    known = obs[names].dropna()
    try:
        return default_formula(known, fixed, donor)
    except UserError:  # the check will say what is wrong; what is right for this structure stands in the configuration
        within = evidence.crossing(donor, condition) > 0.0
        number = evidence.columns[condition].kind == "number"
        factors = (condition,) if within and not number else ()
        return completed(fixed, donor, factors, (time,) if time else ())


def _reference(column: Column, values: "pd.Series") -> tuple[tuple[str, ...], bool]:
    """Return the levels, the reference first, and whether its name says that it is one."""
    of_control = control(column.levels)
    by_order = _first_category(values, column) or column.levels[0]
    first = by_order if of_control is None else column.levels[of_control]
    return (first, *(level for level in column.levels if level != first)), of_control is not None


def _first_category(values: "pd.Series", column: Column) -> str | None:
    """Return the first category where somebody has ordered them otherwise than by name."""
    categories = getattr(values.dtype, "categories", None)
    if categories is None or list(categories) == sorted(categories, key=str):
        return None
    return next((str(name).strip() for name in categories if str(name).strip() in column.levels), None)


def _contrasts(column: Column, levels: tuple[str, ...], time: str | None) -> dict[str, str]:
    """Write the contrasts; columns stand there without backticks, whatever their name."""
    name = column.name
    if not levels:
        return {f"per_{_plain(name)}": name}
    reference, *others = levels
    found = {}
    for level in others:
        key = f"{_plain(level)}_vs_{_plain(reference)}" if time is None else f"{_plain(level)}_over_{_plain(time)}"
        while key in found:
            key += "_"
        effect = f"{name}[{level}] - {name}[{reference}]"
        found[key] = effect if time is None else f"{name}[T.{level}]:{time}"
    return found


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "level"
