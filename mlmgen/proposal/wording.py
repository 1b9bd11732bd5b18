"""The evidence of a proposal in words and numbers."""

import re
from collections.abc import Iterator

import numpy as np

from mlmgen.errors import listing
from mlmgen.proposal import columns as looks
from mlmgen.proposal.columns import Column
from mlmgen.proposal.roles import Evidence, Roles
from mlmgen.proposal.structure import OF_CELLS, OVER_TIME, PAIRED, UNPAIRED, Structure
from mlmgen.proposal.vocabulary import points
from mlmgen.random_terms import quoted

ROLE_WORDS = {"donor": "a donor", "condition": "a condition", "cell_type": "cell types"}
OPTIONS = {"donor": "--donor", "condition": "--condition", "cell_type": "--cell-type"}
NAMED = {3: "named like {}", 2: "named like {}", 1: "with a name that may be of {}", 0: "with a name that says nothing"}
MOST_LEVELS, MOST_IDS = 8, 2000
FEWEST_OF_RANDOM = 5  # levels, from which a variance between them can be estimated


def is_cell_type(name: str) -> bool:
    """Tell whether a column is named like cell types."""
    return points(name, "cell_type") >= 2.0


def evidence(seen: Evidence, roles: Roles, structure: Structure) -> dict[str, str]:
    """Word why each key of the configuration has its value."""
    found = {
        "donor": _with_doubt("donor", roles, _donor(seen, roles)),
        "condition": _with_doubt("condition", roles, _condition(seen, roles)),
        "cell_type": _with_doubt("cell_type", roles, _cell_type(seen, roles)),
        "design": _design(seen, roles, structure) + _repeated(structure) + _recurring(roles, structure),
        "sample": _sample(seen, roles, structure),
    }
    if structure.methods:
        name = structure.time or roles.condition
        found["methods"] = f"pseudobulk would need a column of samples, such as donor and {name} joined"
    if structure.reference:
        level = structure.reference[roles.condition]
        by_order = f"{level}: no level is named like a control, so the first one; change it if it is another"
        found["reference"] = f"{level} is named like a control" if structure.by_name else by_order
    return found


def notes(seen: Evidence, roles: Roles, structure: Structure) -> tuple[str, ...]:
    """Word what the other columns are: batches, covariates of donors, copies, measurements of cells."""
    used = {roles.donor, roles.condition, roles.cell_type, structure.sample, structure.same_sample, structure.time}
    used |= {structure.repeated}
    used |= {name for name in seen.columns if _copies(seen, name, roles.donor)}
    others = [name for name in seen.columns if name not in used]
    worded = {name: note for name in others if (note := _note(seen, roles, name))}
    cells = [name for name in others if name not in worded]
    found = [f"{name}: {note}" for name, note in worded.items()]
    return (*found, f"not used: {listing(cells, 12)}") if cells else tuple(found)


def against(seen: Evidence, name: str) -> str:
    """Word why a column was not taken for the donor."""
    column = seen.columns[name]
    kinds = {"measured": "a measurement of cells", "trait": "a trait", "time": "a time", "clusters": "clusters"}
    kinds |= {"batch": "a batch", "condition": "a condition", "cell_type": "cell types"}
    like = next((word for role, word in kinds.items() if points(name, role) >= 1.0), "")
    return f"{len(column.levels):,} values" + (f", named like {like}" if like else ", a name that says nothing")


def _with_doubt(role: str, roles: Roles, text: str) -> str:
    confidence = roles.confidence.get(role, "sure")
    rival = roles.rivals.get(role)
    if confidence == "given":
        return f"{text}; as you said"
    if confidence == "sure":
        return text
    other = f"; if not, {OPTIONS[role]} {quoted_for_shell(rival)}" if rival else ""
    word = "likely" if confidence == "likely" else "not sure, please check"
    return f"{text} ({word}{other})"


def quoted_for_shell(name: str) -> str:
    """Write a name as a shell takes it."""
    import shlex

    return shlex.quote(name)


def _named(name: str, role: str) -> str:
    return NAMED[int(points(name, role))].format(ROLE_WORDS[role])


def _donor(seen: Evidence, roles: Roles) -> str:
    donor, condition = roles.donor, roles.condition
    column = seen.columns[donor]
    levels = looks.pairs(seen.codes[donor], seen.codes[condition])
    plural = "s" * int(levels.max(initial=0) > 1)
    text = f"{len(column.levels):,} values, each with cells in {_range(levels)} level{plural} of {condition}"
    text += f", {_range(column.cells)} cells; {_named(donor, 'donor')}"
    if points(donor, "donor") < 2.0 <= points(donor, "sample"):
        text += "; each sample is taken as a donor, which is right unless a donor gave several samples"
    if pair := _same_without_condition(seen, donor, condition):
        text += (
            f"; but {pair[0]} and {pair[1]} look like two samples of one donor: if they are, make a column of donors"
        )
    text += _without(column)
    copies = [name for name in seen.columns if name != donor and _copies(seen, name, donor)]
    return text + (f"; {listing(copies)} {'says' if len(copies) == 1 else 'say'} the same" if copies else "")


def _same_without_condition(seen: Evidence, donor: str, condition: str) -> tuple[str, str] | None:
    """Return two ids that differ in the condition's name alone, where every id has such a companion."""
    ids, levels = seen.columns[donor].levels, seen.columns[condition].levels
    if seen.crossing(donor, condition) > 0.0 or not levels or len(ids) > MOST_IDS:
        return None
    names = "|".join(re.escape(level) for level in sorted(levels, key=len, reverse=True))
    bare: dict[str, list[str]] = {}
    for name in ids:
        rest = re.sub(rf"(?<![A-Za-z0-9])(?:{names})(?![A-Za-z0-9])", "", name, flags=re.IGNORECASE)
        bare.setdefault(re.sub(r"[^A-Za-z0-9]+", "", rest), []).append(name)
    groups = list(bare.values())
    return (groups[0][0], groups[0][1]) if all(len(group) > 1 for group in groups) and len(groups) > 1 else None


def _condition(seen: Evidence, roles: Roles) -> str:
    donor, condition = roles.donor, roles.condition
    column = seen.columns[condition]
    if column.kind == "number" and len(column.cells) > 2:
        return f"{_values(column)}; {_named(condition, 'condition')}{_without(column)}"
    both = looks.combinations(seen.codes[condition], seen.codes[donor])[0]
    donors = np.bincount(both, minlength=len(column.levels) + 1)[1:]
    shown = [
        f"{level} ({of_level:,} donor{'s' * int(of_level != 1)}, {cells:,} cells)"
        for level, of_level, cells in zip(column.levels, donors, column.cells, strict=True)
    ]
    return f"{listing(shown, MOST_LEVELS)}; {_named(condition, 'condition')}{_without(column)}"


def _without(column: Column) -> str:
    return f"; {column.missing:,} cells have no value, which stops a run" * (column.missing > 0)


def _cell_type(seen: Evidence, roles: Roles) -> str:
    if roles.cell_type is None:
        return "no column has cell types: all cells are fitted together"
    column = seen.columns[roles.cell_type]
    if column.kind == "constant":
        return "one value in all cells"
    text = f"{len(column.levels):,} values, {_range(column.cells)} cells"
    share = seen.explained.get(roles.cell_type, 0.0)
    if share > 0.0:
        text += f"; explains {100 * share:.0f} % of the variance of expression"
    text += f"; {_named(roles.cell_type, 'cell_type')}"
    finer = [
        name
        for name, other in seen.columns.items()
        if name != roles.cell_type and other.could_be_labels and points(name, "cell_type")
    ]
    text += f"; other columns of cell types: {listing(finer, 4)}" if finer else ""
    return text + (f"; {column.missing:,} cells have none and are left out" if column.missing else "")


def _design(seen: Evidence, roles: Roles, structure: Structure) -> str:
    donor, condition = roles.donor, roles.condition
    levels = looks.pairs(seen.codes[donor], seen.codes[condition])
    number, within = levels.size, int((levels > 1).sum())
    if structure.kind == UNPAIRED:
        return f"unpaired: each donor has one value of {condition}, so that donors are compared with donors"
    if structure.kind == PAIRED:
        how = "paired" if within == number else "partly paired"
        return (
            f"{how}: {within} of {number} donors have cells in several levels of {condition}, which is compared "
            f"within donors; the sample of a donor is the replicate"
        )
    if structure.kind == OVER_TIME:
        visits = round(seen.crossing(donor, structure.time) * number)
        return (
            f"longitudinal: {visits} of {number} donors were seen at several values of {structure.time}; donors may "
            f"differ in their course, so it is a random slope"
        )
    assert structure.kind == OF_CELLS
    return (
        f"cell-level: {condition} differs between cells of one sample, in {within} of {number} donors; "
        f"donors may respond differently, so the formula has a term for that"
    )


def _repeated(structure: Structure) -> str:
    name = structure.repeated
    return "" if name is None else f"; donors have several samples each ({name}), so the formula has a term for them"


def _recurring(roles: Roles, structure: Structure) -> str:
    """Word that donors in several levels may be several donors of one name, and what to do then."""
    if structure.recurring is None:
        return ""
    donor, (variable, name, (one, other), lasting) = roles.donor, structure.recurring
    why = f"one donor rarely has several values of {variable}"
    if not lasting:
        why = f"ids such as {name} are often given anew in each level of {variable}"
    text = (
        f" (not sure, please check: {why}); if {donor} {name} of {one} and of {other} are two different donors, join "
        f"both columns into one (donor = {variable} + {donor}) and run init again"
    )
    joined = structure.same_sample
    return text + (f"; {joined} has them joined already: --donor {quoted_for_shell(joined)}" if joined else "")


def _sample(seen: Evidence, roles: Roles, structure: Structure) -> str:
    if structure.sample is not None:
        return f"{seen.number(structure.sample):,} values, finer than donors and conditions"
    if structure.repeated is not None:
        return (
            f"the ids of {structure.repeated} recur in several donors, so it cannot be named here; pseudobulk adds up "
            f"all cells of a donor. For sums of each sample make a column of {roles.donor} and {structure.repeated}"
        )
    if structure.same_sample is not None:
        same = "the donors" if structure.kind == UNPAIRED else "donor and condition"
        return f"{structure.same_sample} says what {same} say already"
    if structure.kind == OVER_TIME:
        return f"no column names the visits: make one of donor and {structure.time}, so that sums are taken per visit"
    return ""


def _note(seen: Evidence, roles: Roles, name: str) -> str:
    """Word what one more column is; empty for a measurement of cells."""
    column = seen.columns[name]
    if column.kind in ("id", "empty", "constant") or points(name, "measured") or points(name, "cell_type") >= 2.0:
        return ""
    condition = roles.condition
    if points(name, "batch") >= 2.0 and column.could_be_labels:
        return "; ".join(_batch(seen, roles, name, column))
    other_trait = points(name, "trait") and not points(condition, "trait") and points(name, "condition") < 2.0
    if other_trait and _copies(seen, name, condition):
        return f"{_values(column)}; {_coincides(name, condition)}"
    same = next((role for role in (roles.donor, roles.condition, roles.cell_type) if _copies(seen, name, role)), None)
    if same is not None:
        return f"the same as {same} in other words"
    if column.kind != "number" and not column.could_be_labels:
        return ""
    if seen.inside(roles.donor, name) and len(column.cells) > 1:
        if seen.aliased(name, condition):
            return f"constant in each donor ({_values(column)}); {_cannot_stand(name, condition)}"
        return f"constant in each donor ({_values(column)}); to adjust for it, add + {quoted(name)} to the formula"
    if points(name, "trait") or points(name, "time") or points(name, "condition") >= 2.0:
        return f"varies within donors ({_values(column)}); add + {quoted(name)} to the formula if it matters"
    return ""


def _copies(seen: Evidence, name: str, role: str | None) -> bool:
    labels = role is not None and seen.columns[name].could_be_labels and seen.columns[role].could_be_labels
    labels = labels and not (seen.columns[name].kind == "number" and points(name, "trait"))  # an age each
    return labels and seen.same(name, role)


def _values(column: Column) -> str:
    if column.kind == "number":
        known = column.values[np.isfinite(column.values)]
        return f"numbers from {known.min():g} to {known.max():g}"
    return listing(column.levels, 4)


def _batch(seen: Evidence, roles: Roles, name: str, column: Column) -> Iterator[str]:
    donor, condition, number = roles.donor, roles.condition, len(column.cells)
    around = seen.inside(donor, name)
    donors = looks.pairs(seen.codes[name], seen.codes[donor])
    alone = int((donors == 1).sum())
    if around:
        yield f"{number:,} values, donors lie within them ({alone:,} of them have one donor)"
    else:
        yield f"{number:,} values, donors have cells in {_several(seen, donor, name)} of them"
    if seen.same(name, condition):
        yield _coincides(name, condition)
    elif alone == number:
        yield "too few donors each to tell them apart"
    elif seen.crossing(name, condition) == 0.0:
        yield f"each has one value of {condition} only; {_cannot_stand(name, condition)}"
        if looks.pairs(seen.codes[condition], seen.codes[name]).min() > 1:
            yield f"+ (1 | {quoted(name)}) is possible, as each value of {condition} has several of them"
        else:
            yield f"an effect of {name} is counted as one of {condition}"
    elif around and number >= FEWEST_OF_RANDOM:
        yield f"add + (1 | {quoted(name)}) to the formula if they matter"
    elif seen.aliased(name, condition):
        yield _cannot_stand(name, condition)
    elif around:
        yield f"add + {quoted(name)} to the formula if they matter"


def _coincides(name: str, condition: str) -> str:
    return (
        f"{name} and {condition} cannot be told apart: an effect of {name} is counted as one of {condition}, and no "
        "formula mends it"
    )


def _cannot_stand(name: str, condition: str) -> str:
    return f"do not add + {quoted(name)}: its effects and those of {condition} cannot be told apart"


def _several(seen: Evidence, donor: str, name: str) -> str:
    return _range(looks.pairs(seen.codes[donor], seen.codes[name]))


def _range(numbers: np.ndarray) -> str:
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
