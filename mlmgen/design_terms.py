"""The random terms of a design on its cells: their effects, and which of them can be estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlmgen.dependence import dependencies, spans
from mlmgen.design_parts import Grouping, Parts
from mlmgen.errors import UserError, listing
from mlmgen.expressions import split_source
from mlmgen.formula import WHERE, Formula, effect_variables
from mlmgen.groups import determines, same_groups
from mlmgen.model_matrix import INTERCEPT, Columns, ModelMatrix
from mlmgen.obs_columns import cross
from mlmgen.random_terms import RandomPart

# Rows that show a slope to be over numbers before a million of them are sorted.
SOME_ROWS = 1000


@dataclass(frozen=True)
class Term:
    """One covariance matrix of the random part, on n cells.

    Attributes
    ----------
    text : str
        The term as a formula has it, for example ``(1 + x | donor)``.
    group : Grouping
    effects : tuple of str, length q
    Z : (U, q) float64
        Value of each effect in each row of the model matrix.
    variables : tuple of tuple of str, length q
        The variables behind each effect.
    """

    text: str
    group: Grouping
    effects: tuple[str, ...]
    Z: np.ndarray
    variables: tuple[tuple[str, ...], ...]

    @property
    def is_intercept(self) -> bool:
        """Whether an intercept is all there is."""
        return self.effects == (INTERCEPT,)

    @property
    def kind(self) -> str:
        """The words for it in a message: ``random intercept`` or ``random term``."""
        return "random intercept" if self.is_intercept else "random term"


def random_terms(formula: Formula, parts: Parts, matrix: ModelMatrix) -> tuple[Term, ...]:
    """Return the random terms in the order of the formula; ``(1 + x || donor)`` is one for each column.

    Raises
    ------
    UserError
        Where the columns of a term are linearly dependent.
    """
    terms = []
    for part, group, columns in zip(formula.random, parts.groups, matrix.slopes, strict=True):
        _refuse_dependent_effects(part.text, columns.names, columns.X)
        terms += _terms_of(part, group, columns, range(len(columns.names)))
    return tuple(terms)


def estimable_terms(
    formula: Formula, parts: Parts, matrix: ModelMatrix
) -> tuple[tuple[Term, ...], tuple[tuple[str, str], ...]]:
    """Return the random terms that some of the cells of the data allow, and what is left out.

    Effects that are combinations of the others, such as the slope of what is constant here, leave their term;
    `useful_terms` says which terms are left out altogether.

    Returns
    -------
    terms : tuple of Term
    left_out : tuple of (what, why)
    """
    terms, left_out = [], []
    for part, group, columns in zip(formula.random, parts.groups, matrix.slopes, strict=True):
        dropped = dict(dependencies(columns.X))
        for name, why in _lost_slopes(part.effects, columns, dropped, parts).items():
            left_out.append((f"the random slope of {name} in {part.text}", why))
        terms += _terms_of(part, group, columns, [j for j in range(len(columns.names)) if j not in dropped])
    kept, useless = useful_terms(tuple(terms), parts, matrix)
    return kept, (*left_out, *((f"the {term.kind} {term.text}", why) for term, why in useless))


def useful_terms(
    terms: tuple[Term, ...], parts: Parts, matrix: ModelMatrix
) -> tuple[tuple[Term, ...], tuple[tuple[Term, str], ...]]:
    """Split the random terms into those that can be estimated and the others with the reason.

    A term that has one group, or whose effects are among those of another term, has no variance of its own.
    """
    ranked = sorted(range(len(terms)), key=lambda i: terms[i].group.name != parts.donor.name)
    left_out: dict[int, str] = {}
    for place, i in enumerate(ranked):
        term = terms[i]
        if len(term.group.levels) < 2:
            left_out[i] = f"all cells belong to one group, {term.group.levels[0]}"
            continue
        for other in ranked:
            later = other in ranked[place:]
            if other == i or other in left_out or (later and _is_part(terms[other], term, matrix)):
                continue
            why = _why_part(term, terms[other], matrix)
            if why:
                left_out[i] = why
                break
    kept = tuple(term for i, term in enumerate(terms) if i not in left_out)
    return kept, tuple((terms[i], left_out[i]) for i in ranked if i in left_out)


def intercepts(terms: tuple[Term, ...]) -> tuple[Grouping, ...]:
    """Return the grouping factors whose effects include an intercept, also where it is written by levels."""
    found = []
    for name in dict.fromkeys(term.group.name for term in terms):
        own = [term for term in terms if term.group.name == name]
        Z = np.column_stack([term.Z for term in own])
        if any(INTERCEPT in term.effects for term in own) or spans(Z, np.ones((len(Z), 1))):
            found.append(own[0].group)
    return tuple(found)


def has_slope(terms: tuple[Term, ...], variable: str, groups: np.ndarray) -> bool:
    """Tell whether a variable, or its ``within()``, has a random slope by groups within ``groups``, (n,) codes."""
    of_groups = [term for term in terms if determines(term.group.codes, groups)]
    slopes = {split_source(name) for term in of_groups for names in term.variables for name in names}
    return split_source(variable) in slopes


def _terms_of(part: RandomPart, group: Grouping, columns: Columns, chosen: Sequence[int]) -> list[Term]:
    """Return the terms that some of the columns of a part of the formula make."""
    found = []
    for own in [list(chosen)] if part.correlated else [[j] for j in chosen]:
        names, variables = tuple(columns.names[j] for j in own), tuple(columns.variables[j] for j in own)
        if names:
            found.append(Term(part.text, group, names, columns.X[:, own], variables))
    return found


def _lost_slopes(
    effects: str, columns: Columns, dropped: Mapping[int, tuple[int, ...]], parts: Parts
) -> dict[str, str]:
    """Say why slopes of a part of the formula are lost; a factor with one level has no column to drop."""
    constant = {}
    for name in effect_variables(effects):
        variable = parts.variables[name]
        if variable.codes.max() == 0:
            value = variable.levels[0] if variable.is_factor else f"{variable.values[0]:g}"
            constant[name] = f"{name} is {value} in all {parts.n:,} cells"
    found = {}
    for j, involved in dropped.items():
        why = next((constant[name] for name in columns.variables[j] if name in constant), "")
        found[columns.names[j]] = why or _dependent(columns.names, involved)
    here = {name for variables in columns.variables for name in variables}
    return found | {name: why for name, why in constant.items() if name not in here}


def _dependent(names: tuple[str, ...], involved: tuple[int, ...]) -> str:
    """Say how an effect depends on others."""
    if [names[k] for k in involved] == [INTERCEPT]:
        return "it is constant, as the intercept is"
    others = listing(names[k] for k in involved)
    return f"it is a combination of {others}" if others else "it is always 0"


def _refuse_dependent_effects(text: str, names: tuple[str, ...], Z: np.ndarray) -> None:
    found = dependencies(Z)
    if not found:
        return
    j, involved = found[0]
    what = f"the random slope of {names[j]} in {text} cannot be estimated: {_dependent(names, involved)}"
    raise UserError(what, WHERE, f"Take {names[j]} out of {text}.")


def _is_part(term: Term, other: Term, matrix: ModelMatrix) -> bool:
    return bool(_why_part(term, other, matrix))


def _why_part(term: Term, other: Term, matrix: ModelMatrix) -> str:
    """Say why the covariance of one term is among those that another can have; empty if it is not."""
    if same_groups(term.group.codes, other.group.codes):
        if not spans(other.Z, term.Z):
            return ""
        if term.effects == other.effects:
            return f"it has the same groups as {other.group.name}"
        return f"its effects are among those of {other.text}"
    if not term.is_intercept or len(other.effects) < 2 or not determines(term.group.codes, other.group.codes):
        return ""
    # An effect for each distinct row of Z: the groups within a group of the other term are nothing new.
    if len(np.unique(other.Z[:SOME_ROWS], axis=0)) > len(other.effects):
        return ""
    rows, kind = np.unique(other.Z, axis=0, return_inverse=True)
    saturated = len(rows) == len(other.effects)
    inside = determines(cross(other.group.codes, kind.ravel()[matrix.row])[0], term.group.codes)
    return f"{other.text} has an effect for each of its groups already" if saturated and inside else ""
