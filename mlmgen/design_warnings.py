"""What in obs and formula is worth a warning but stops nothing."""

import re

import numpy as np

from mlmgen.design_parts import Grouping, Parts
from mlmgen.design_terms import Term, has_slope, intercepts
from mlmgen.errors import listing
from mlmgen.expressions import split_source
from mlmgen.groups import determines, same_groups
from mlmgen.model_matrix import INTERCEPT, ModelMatrix
from mlmgen.obs_columns import Variable, cross
from mlmgen.patterns import FEWEST_ROWS
from mlmgen.random_terms import quoted

# A column of so few different whole numbers may be codes of groups; with two the test is the same.
FEWEST_CODES, MOST_CODES = 3, 10
# Type-I error at 0.05 of a within-donor effect tested with (1 | donor) alone.
TYPE_I_WITHOUT_SAMPLE_TERM = 0.28
# Parts of a donor, in the names of columns that are often numbered anew in each donor, and such numbers.
PARTS_OF_DONORS = re.compile(r"sample|biopsy|specimen|section|slice|aliquot|replicate|well", re.IGNORECASE)
ANEW = re.compile(r"[A-Za-z]*[ _.-]?[0-9]{1,2}")


def warnings_of(parts: Parts, terms: tuple[Term, ...], matrix: ModelMatrix) -> tuple[str, ...]:
    """Return the warnings about data that passed all checks."""
    return (
        *_mostly_constant(parts),
        *_missing_terms(parts, terms),
        *flat_slopes(parts, terms, matrix),
        *many_variances(terms),
        *_mixed_samples(parts),
        *_numbered_anew(parts, terms),
        *_coded_numbers(parts, terms),
    )


def _mostly_constant(parts: Parts) -> list[str]:
    """Warn of variables that are constant in most donors but not in all, naming the exceptions."""
    warnings = []
    for name in parts.within:
        variable = parts.fixed[name]
        first = cross(parts.donor.codes, variable.codes)[1]
        exceptions = np.flatnonzero(np.bincount(parts.donor.codes[first]) > 1)
        donors = int((np.bincount(parts.donor.codes) > 1).sum())  # those with one cell say nothing
        if 2 * exceptions.size >= donors:
            continue
        shown = listing(f"{parts.donor.levels[d]} ({_values_of(parts, variable, d)})" for d in exceptions)
        warnings.append(
            f"{name} is constant in {donors - exceptions.size} of {donors} donors, but not in {shown}; "
            f"if that is a labelling error, correct it: as it stands, {name} counts as varying within donors"
        )
    return warnings


def _values_of(parts: Parts, variable: Variable, donor: int) -> str:
    """Write the values that a donor has, with their numbers of cells."""
    codes = variable.codes[parts.donor.codes == donor]
    if not variable.is_factor:
        return f"{np.unique(codes).size} values"
    counts = np.bincount(codes, minlength=len(variable.levels))
    return listing((f"{variable.levels[i]}: {counts[i]} cells" for i in np.flatnonzero(counts)), 4)


def _missing_terms(parts: Parts, terms: tuple[Term, ...]) -> list[str]:
    """Warn where the replicate of a comparison has no random term."""
    warnings = []
    donor, random = quoted(parts.donor.name), intercepts(terms)
    for name in parts.within:
        variable = parts.fixed[name]
        if any(_separates(group, variable, parts) for group in random) or has_slope(terms, name, parts.donor.codes):
            continue
        if variable.is_factor:
            warnings.append(
                f"{name} varies within donors, but the formula has no random intercept for its replicate: "
                f"cell-level p-values of {name} will be too small (false positives up to "
                f"{TYPE_I_WITHOUT_SAMPLE_TERM} at 0.05); add (1 | {donor}:{quoted(name)})"
            )
        elif _is_of_samples(parts, variable):
            warnings.append(
                f"{name} varies within donors, but the formula has no random slope of it: "
                f"cell-level p-values of {name} will be too small; write (1 + {quoted(name)} | {donor})"
            )
    nested = [group.name for group in random if determines(group.codes, parts.donor.codes)]
    has_donor = any(same_groups(group.codes, parts.donor.codes) for group in random)
    if nested and not has_donor and parts.donor.name not in parts.fixed:
        warnings.append(
            f"the formula has no random intercept for {donor}: the groups of {listing(nested)} of one donor "
            f"count as independent replicates; add (1 | {donor})"
        )
    return warnings


def _separates(group: Grouping, variable: Variable, parts: Parts) -> bool:
    return determines(group.codes, variable.codes) and determines(group.codes, parts.donor.codes)


def _is_of_samples(parts: Parts, variable: Variable) -> bool:
    """Tell whether a number was measured on visits or wells of a donor rather than on cells."""
    return len(cross(parts.donor.codes, variable.codes)[1]) * FEWEST_ROWS <= parts.n


def flat_slopes(parts: Parts, terms: tuple[Term, ...], matrix: ModelMatrix) -> list[str]:
    """Warn of slopes over what does not vary within any group."""
    warnings = []
    with_intercept = {term.group.name for term in terms if INTERCEPT in term.effects}
    for term in terms:
        codes = term.group.codes
        first = np.unique(codes, return_index=True)[1]
        values = [column[matrix.row] for column in term.Z.T]
        flat = [
            effect
            for effect, z in zip(term.effects, values, strict=True)
            if effect != INTERCEPT and (z == z[first][codes]).all()
        ]
        alone = len(term.effects) == 1 and term.group.name not in with_intercept
        if flat and not alone:
            does, other = ("does", "its variance") if len(flat) == 1 else ("do", "their variances")
            warnings.append(
                f"{listing(flat)} {does} not vary within any group of {term.group.name}: {other} in {term.text} can "
                f"hardly be told from that of the other effects; leave {listing(flat)} out of {term.text}"
            )
    return warnings


def many_variances(terms: tuple[Term, ...]) -> list[str]:
    """Warn of covariance matrices with more entries than there are groups."""
    warnings = []
    for term in terms:
        q, groups = len(term.effects), len(term.group.levels)
        if q > 1 and q * (q + 1) // 2 > groups:
            warnings.append(
                f"{term.text} asks for {q * (q + 1) // 2} variances and covariances from {groups} groups of "
                f"{term.group.name}; {term.text.replace('|', '||')} asks for {q} variances"
            )
    return warnings


def _mixed_samples(parts: Parts) -> list[str]:
    """Warn of what varies within samples, where pseudobulk has only a mean."""
    warnings = []
    for name in parts.within:
        variable = parts.fixed[name]
        seen = (
            f"{name} varies within the samples of {parts.sample.name!r}: pseudobulk sees only its mean in each sample"
        )
        if determines(parts.sample.codes, variable.codes):
            continue
        if variable.is_factor:
            do = "sample: null makes samples of donor x the factors that vary within donors"
            warnings.append(f"{seen}; {do}")
        elif _is_of_samples(parts, variable):
            warnings.append(f"{seen}; set sample to the obs column of the visit or whatever {name} was measured on")
    return warnings


def _numbered_anew(parts: Parts, terms: tuple[Term, ...]) -> list[str]:
    """Warn of samples in the formula that lie in several donors because each donor's are numbered from 1."""
    warnings = []
    donor = parts.donor
    for term in terms:
        group = term.group
        crosses = not determines(group.codes, donor.codes) and not determines(donor.codes, group.codes)
        if not crosses or not PARTS_OF_DONORS.search(group.name) or not all(map(ANEW.fullmatch, group.levels)):
            continue
        first = cross(group.codes, donor.codes)[1]
        donors = np.bincount(group.codes[first])
        own = quoted(group.name)
        warnings.append(
            f"{group.name} {group.levels[donors.argmax()]} occurs in {donors.max()} {donor.name}s, and {term.text} "
            f"takes its cells for one {group.name}; if each {donor.name}'s are numbered anew, write "
            f"{term.text.replace(f'| {own})', f'| {quoted(donor.name)}:{own})')}"
        )
    return warnings


def _coded_numbers(parts: Parts, terms: tuple[Term, ...]) -> list[str]:
    """Warn of whole numbers that look like codes of groups."""
    return [
        f"{name} is stored as numbers and enters as a slope over its {variable.codes.max() + 1} values; "
        f"write C({quoted(name)}) in the formula if they are codes of groups"
        for name, variable in parts.fixed.items()
        if not variable.is_factor
        and FEWEST_CODES <= variable.codes.max() + 1 <= MOST_CODES
        and (variable.values % 1 == 0).all()
        and split_source(name) == name
        and not has_slope(terms, name, np.zeros(parts.n, dtype=np.int64))
    ]
