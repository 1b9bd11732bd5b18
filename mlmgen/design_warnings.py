"""What in obs and formula is worth a warning but stops nothing."""

import numpy as np

from mlmgen.design_parts import Grouping, Parts, determines, quoted, same_groups
from mlmgen.errors import listing
from mlmgen.obs_columns import Variable, cross

# A column of so few different whole numbers may be codes of groups; with two the test is the same.
FEWEST_CODES, MOST_CODES = 3, 10
# Type-I error at 0.05 of a within-donor effect tested with (1 | donor) alone.
TYPE_I_WITHOUT_SAMPLE_TERM = 0.28


def warnings_of(parts: Parts) -> tuple[str, ...]:
    """Return the warnings about data that passed all checks."""
    return (*_mostly_constant(parts), *_missing_terms(parts), *_mixed_samples(parts), *_coded_numbers(parts))


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


def _missing_terms(parts: Parts) -> list[str]:
    """Warn where the replicate of a comparison has no random intercept."""
    warnings = []
    donor = quoted(parts.donor.name)
    for name in parts.within:
        variable = parts.fixed[name]
        if variable.is_factor and not any(_separates(term, variable, parts) for term in parts.terms):
            warnings.append(
                f"{name} varies within donors, but the formula has no random intercept for its replicate: "
                f"cell-level p-values of {name} will be too small (false positives up to "
                f"{TYPE_I_WITHOUT_SAMPLE_TERM} at 0.05); add (1 | {donor}:{quoted(name)})"
            )
    nested = [term.name for term in parts.terms if determines(term.codes, parts.donor.codes)]
    has_donor = any(same_groups(term.codes, parts.donor.codes) for term in parts.terms)
    if nested and not has_donor and parts.donor.name not in parts.fixed:
        warnings.append(
            f"the formula has no random intercept for {donor}: the groups of {listing(nested)} of one donor "
            f"count as independent replicates; add (1 | {donor})"
        )
    return warnings


def _separates(term: Grouping, variable: Variable, parts: Parts) -> bool:
    return determines(term.codes, variable.codes) and determines(term.codes, parts.donor.codes)


def _mixed_samples(parts: Parts) -> list[str]:
    return [
        f"{name} varies within the samples of {parts.sample.name!r}: pseudobulk sees only its mean in each sample; "
        "sample: null makes samples of donor x the factors that vary within donors"
        for name in parts.within
        if parts.fixed[name].is_factor and not determines(parts.sample.codes, parts.fixed[name].codes)
    ]


def _coded_numbers(parts: Parts) -> list[str]:
    """Warn of whole numbers that look like codes of groups."""
    return [
        f"{name} is stored as numbers and enters as a slope over its {variable.codes.max() + 1} values; "
        f"write C({quoted(name)}) in the formula if they are codes of groups"
        for name, variable in parts.fixed.items()
        if not variable.is_factor
        and FEWEST_CODES <= variable.codes.max() + 1 <= MOST_CODES
        and (variable.values % 1 == 0).all()
    ]
