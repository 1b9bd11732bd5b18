"""Words that several sentences share, and what they are made of."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from mlmgen import formula

NAMES = {"glmm": "cells", "pseudobulk": "pseudobulk"}
TITLES = {"glmm": "Cells (mixed model)", "pseudobulk": "Pseudobulk (sums per sample)"}
MOST_NAMED = 6
ARM = re.compile(r"(?P<factor>[^\[\],]+)\[(?P<level>[^\[\]]+)\]: (?P<n>\d+)")
LEVEL_OF = r"(?:mean\()?\s*(?P<{0}>[^\[\]()]+)\[(?P<{1}>[^\[\]]+)\]\s*\)?"
COEFFICIENT = re.compile(r"(?P<a>[^\[\]:]+)\[T\.(?P<x>[^\[\]]+)\]")
DIFFERENCE = re.compile(rf"\s*{LEVEL_OF.format('a', 'x')}\s*-\s*{LEVEL_OF.format('b', 'y')}\s*")
AVERAGE = "mean("


class Facts(NamedTuple):
    """What the words are made of: parts of the page's data, as `mlmgen.report.payload` describes them."""

    cell_types: list[dict]
    contrasts: list[dict]
    methods: list[dict]
    counts: list[dict]
    agreement: list[dict]
    designs: list[dict]
    trust: dict
    fdr_name: str
    warnings: list[str]
    donors: list[str]


def number(n: int, one: str, many: str = "") -> str:
    """Write a number with its noun: ``1 gene``, ``2,780 genes``."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def joined(names: list[str], most: int = MOST_NAMED) -> str:
    """Join names as in a sentence: ``A, B and C``, ``A, B and 4 more``."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def sentence(text: str) -> str:
    """Begin with a capital and end with a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def where(facts: Facts, t: int) -> str:
    """Name a cell type after ``in``; all cells where the data have no cell types."""
    name = facts.cell_types[t]["name"]
    return "all cells together" if name == "all" else name


def two_levels(expression: object, reference: Mapping[str, str]) -> list[str] | None:
    """Return the levels that a contrast compares, None where it is not of two levels of a factor.

    Parameters
    ----------
    expression : object
        Such as ``condition[stim] - condition[ctrl]`` or the coefficient ``condition[T.stim]``.
    reference : mapping of str to str
        Reference level of each factor.
    """
    if not isinstance(expression, str):
        return None
    if (found := COEFFICIENT.fullmatch(expression)) and found["a"] in reference:
        return [found["x"], str(reference[found["a"]])]
    found = DIFFERENCE.fullmatch(expression)
    same = found and found["a"].strip() == found["b"].strip() and expression.count(AVERAGE) != 1
    return [found["x"], found["y"]] if same else None


def within(expression: object, text: str, reference: Mapping[str, str]) -> str:
    """Say for which levels of others a difference or a slope holds, where its variable interacts with them.

    ``condition[stim]`` is the mean at the reference levels of the other factors and at 0 of the numbers, or at their
    mean where the formula transforms them; ``mean(condition[stim])`` is averaged over the levels, at the means of the
    numbers (`mlmgen.cell_means.cell_means`).

    Parameters
    ----------
    expression : object
        As for `two_levels`, or the name of a number.
    text : str
        The formula.
    reference : mapping of str to str
        Reference level of each factor.

    Returns
    -------
    str
        Such as ``in healthy (the reference of disease)``; empty without an interaction.
    """
    if not isinstance(expression, str):
        return ""
    coefficient = COEFFICIENT.fullmatch(expression)
    difference = two_levels(expression, reference) and DIFFERENCE.fullmatch(expression)
    name = (coefficient or difference)["a"].strip() if coefficient or difference else expression.strip()
    parsed = formula.parse(text)
    terms = [term for term in formula.term_variables(parsed) if name in term]
    others = dict.fromkeys(other for term in terms for other in term if other != name)
    average, computed = AVERAGE in expression, formula.computed_variables(parsed.fixed)
    return joined([_held(other, reference, average, other in computed, not difference) for other in others], 9)


def _held(other: str, reference: Mapping[str, str], average: bool, computed: bool, coefficient: bool) -> str:
    """Say at which value of a variable that it interacts with an effect is taken."""
    if other in reference:
        return f"on average over {other}" if average else f"in {reference[other]} (the reference of {other})"
    if computed and coefficient:
        return f"where the term of {other} is 0"
    return f"at the mean of {other}" if average or computed else f"at {other} 0"


def differ(contrast: dict, several: bool) -> str:
    """Say what genes do in a contrast: ``differ between stim and ctrl``, ``change with age (per_year)``."""
    s = "" if several else "s"
    at = f" {contrast['within']}" if contrast["within"] else ""
    if contrast["levels"]:
        return f"differ{s} between {contrast['levels'][0]} and {contrast['levels'][1]}{at}"
    if contrast["joint"]:
        return f"differ{s} in {contrast['name']} (a joint test)"
    if contrast["unit"]:
        return f"change{s} with {contrast['expression']}{at} ({contrast['name']})"
    return f"differ{s} in {contrast['name']}"


def arms(design: dict) -> str:
    """Write the arms of a design as people do: ``4 WT, 3 CFTRKO``; as they are where factors are combined."""
    found = [match.groupdict() for match in ARM.finditer(design["arms"])]
    if len({one["factor"].strip() for one in found}) == 1:
        return ", ".join(f"{one['n']} {one['level']}" for one in found)
    return design["arms"]
