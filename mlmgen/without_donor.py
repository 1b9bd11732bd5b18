"""A design without one of its donors: rows, patterns and groups taken out, and what can still be estimated."""

import dataclasses
from typing import NamedTuple

import numpy as np

from mlmgen.dependence import dependencies
from mlmgen.groups import same_groups
from mlmgen.types import Contrast, Counts, Design, Groups, RandomTerm

# A contrast is lost where its weights are off by more than this, relative to the largest, from a combination of rows.
ESTIMABLE = 1e-6


class Rest(NamedTuple):
    """What is left without a donor.

    Attributes
    ----------
    design : Design
        Without coefficients that are combinations of others in the remaining rows.
    counts : Counts
    kept : (k,) int64
        The coefficients that are left, among those of the full design.
    span : (k, p) float64
        Every column of the full design as a combination of the columns left, in the remaining rows.
    """

    design: Design
    counts: Counts
    kept: np.ndarray
    span: np.ndarray


def without_donor(design: Design, counts: Counts, donor: str) -> Rest:
    """Take a donor out of a design and its counts; rows, patterns, levels and size factors stay as they were.

    Coefficients that cannot be told apart any more are left out, as are random effects that are
    combinations of others and random terms of one group or with the groups and effects of another term.

    Parameters
    ----------
    design : Design
    counts : Counts
        On the rows of the design.
    donor : str
        One of ``design.donor.levels``.
    """
    patterns = design.donor.codes != design.donor.levels.index(donor)
    rows = patterns[design.pattern]
    part = dataclasses.replace(
        design,
        X=design.X[patterns],
        functions=design.functions[rows],
        terms=tuple(_part_of_term(term, patterns) for term in design.terms),
        donor=_part_of_groups(design.donor, patterns),
        sample=_part_of_groups(design.sample, patterns),
        pattern=(np.cumsum(patterns) - 1)[design.pattern[rows]].astype(design.pattern.dtype),
        log_size=design.log_size[rows],
        offset=design.offset[rows],
    )
    columns = columns_of(part, part.X, part.basis)
    kept = _independent(columns)
    span = np.linalg.lstsq(columns[:, kept], columns, rcond=None)[0]
    estimable = {name: row[kept] for name, row in part.means.items() if _is_spanned(row[None], kept, span)}
    reduced = dataclasses.replace(
        part,
        coefficients=tuple(part.coefficients[j] for j in kept),
        X=np.ascontiguousarray(part.X[:, kept]),
        basis=part.basis[kept],
        means=estimable,
        terms=_useful(tuple(_independent_effects(part, term) for term in part.terms), part.donor.name),
    )
    return Rest(_without_unused_functions(reduced), _part_of_counts(counts, rows), kept, span)


def remaining_contrast(contrast: Contrast, rest: Rest) -> Contrast | None:
    """Return a contrast on the coefficients that are left; None where it cannot be estimated any more."""
    if not _is_spanned(contrast.weights, rest.kept, rest.span):
        return None
    return dataclasses.replace(contrast, weights=np.ascontiguousarray(contrast.weights[:, rest.kept]))


def saturated(design: Design) -> bool:
    """Tell whether a design leaves nothing to estimate the variation between samples or donors from."""
    units = [design.sample.codes]
    if any(same_groups(term.codes, design.donor.codes) for term in design.terms):
        units.append(design.donor.codes)
    plain = design.X[:, design.basis == 0]
    for unit in units:
        first, place = np.unique(unit, return_index=True, return_inverse=True)[1:]
        constant = (plain == plain[first][place]).all(axis=0)
        between = plain[first][:, constant]
        if between.shape[1] - len(dependencies(between)) >= len(between):
            return True
    return False


def _is_spanned(weights: np.ndarray, kept: np.ndarray, span: np.ndarray) -> bool:
    """Tell whether weights (r, p) are those of means of rows: then the kept coefficients alone give the contrast."""
    return bool(np.abs(weights[:, kept] @ span - weights).max() <= ESTIMABLE * np.abs(weights).max())


def _part_of_groups(groups: Groups, patterns: np.ndarray) -> Groups:
    levels, codes = _renumbered(groups.levels, groups.codes[patterns])
    return Groups(groups.name, levels, codes)


def _part_of_term(term: RandomTerm, patterns: np.ndarray) -> RandomTerm:
    levels, codes = _renumbered(term.levels, term.codes[patterns])
    return dataclasses.replace(term, levels=levels, codes=codes, Z=np.ascontiguousarray(term.Z[:, patterns]))


def _renumbered(levels: tuple[str, ...], codes: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Leave out the levels that do not occur; the others keep their order."""
    present, new = np.unique(codes, return_inverse=True)
    return tuple(levels[code] for code in present), new.astype(np.int32)


def _part_of_counts(counts: Counts, rows: np.ndarray) -> Counts:
    """Keep some of the rows, (n,) bool, and number them anew."""
    kept = rows[counts.rows]
    start = np.r_[0, np.cumsum(kept)][counts.start].astype(np.int64)
    number = (np.cumsum(rows) - 1).astype(np.int32)
    return Counts(counts.genes, start, number[counts.rows[kept]], counts.values[kept])


def columns_of(design: Design, coefficients: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return columns of coefficients (P, c) on the patterns, or on all rows where cell-level functions enter."""
    if not basis.any():
        return coefficients
    functions = np.column_stack([np.ones(design.pattern.size), design.functions])
    return coefficients[design.pattern] * functions[:, basis]


def _independent(columns: np.ndarray) -> np.ndarray:
    dependent = {j for j, _ in dependencies(columns)}
    return np.array([j for j in range(columns.shape[1]) if j not in dependent], dtype=np.int64)


def _independent_effects(design: Design, term: RandomTerm) -> RandomTerm:
    """Leave out the effects of a term that are combinations of its others, such as the slope of a constant."""
    kept = _independent(columns_of(design, term.Z.T, term.basis))
    effects = tuple(term.effects[j] for j in kept)
    return dataclasses.replace(term, effects=effects, Z=np.ascontiguousarray(term.Z[kept]), basis=term.basis[kept])


def _useful(terms: tuple[RandomTerm, ...], donor: str) -> tuple[RandomTerm, ...]:
    """Leave out terms of one group, and those whose groups and effects another term has; the donor's stays."""
    ranked = sorted(range(len(terms)), key=lambda i: terms[i].name != donor)
    kept: list[int] = []
    for i in ranked:
        term = terms[i]
        doubled = any(same_groups(term.codes, terms[j].codes) and term.effects == terms[j].effects for j in kept)
        if len(term.levels) > 1 and term.effects and not doubled:
            kept.append(i)
    return tuple(terms[i] for i in sorted(kept))


def _without_unused_functions(design: Design) -> Design:
    """Leave out the cell-level functions that no column has any more, and number the others anew."""
    used = np.unique(np.concatenate([design.basis, *(term.basis for term in design.terms)]))
    chosen = used[used > 0]
    if chosen.size == design.functions.shape[1]:
        return design
    number = np.zeros(design.functions.shape[1] + 1, dtype=np.int32)
    number[chosen] = np.arange(1, chosen.size + 1)
    return dataclasses.replace(
        design,
        basis=number[design.basis],
        functions=np.ascontiguousarray(design.functions[:, chosen - 1]),
        function_names=tuple(design.function_names[k - 1] for k in chosen),
        terms=tuple(dataclasses.replace(term, basis=number[term.basis]) for term in design.terms),
    )
