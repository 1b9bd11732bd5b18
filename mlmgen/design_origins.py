"""Columns of obs that say where cells come from (study, batch, pool): donor ids that collide, conditions that coincide.

These columns are rarely in the formula, and what goes wrong with them shows in no fit.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mlmgen.errors import listing
from mlmgen.groups import determines
from mlmgen.names import text
from mlmgen.obs_columns import natural_key

# Words in the names of columns. One person is rarely in two studies, but often in several runs.
STUDIES = ("study", "dataset", "cohort", "project", "series", "experiment", "source", "site", "center", "centre")
STUDIES += ("institute", "hospital", "lab")
RUNS = ("batch", "pool", "library", "lane", "run", "chip", "plate", "chemistry", "technology", "platform", "assay")
# What a person has one of.
TRAITS = ("sex", "gender", "age", "ethnicity", "race", "genotype", "species", "strain")
# Such as 7, D7, donor_07 or Patient 12: ids that are given anew in every study.
SHORT_ID = re.compile(r"[A-Za-z]*[ _.-]?[0-9]{1,2}")
# Fewer donors or samples a level, and the level is one of them under another name.
FEWEST_A_LEVEL = 2
MOST_SHOWN = 4


def origin_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns whose names say that they are an origin or a trait of the donor, in their order."""
    return tuple(name for name in columns if _has_word(name, (*STUDIES, *RUNS, *TRAITS)))


def origin_warnings(
    obs: pd.DataFrame, donor: str, variables: Sequence[str], sample: str | None = None
) -> tuple[str, ...]:
    """Warn of donor ids that collide between origins, and of conditions that each origin has one of.

    Parameters
    ----------
    obs : DataFrame
        The n cells that are analysed, with the donor, the variables and the columns that `origin_columns` finds.
    donor : str
    variables : sequence of str
        Factors of the fixed effects.
    sample : str, optional
        obs column of the sample; without it donor x the variables.

    Returns
    -------
    tuple of str
    """
    words, taken = (*STUDIES, *RUNS), (donor, sample, *variables)
    measured = set(obs.select_dtypes("float").columns)  # a coordinate of a cell's center is no site
    origins = [c for c in obs.columns if _has_word(c, words) and c not in measured and c not in taken]
    traits = [c for c in obs.columns if _has_word(c, TRAITS)]
    found = []
    for origin in origins:
        levels = _levels(obs[origin])
        known = np.flatnonzero([level is not None for level in levels])
        cells = obs.iloc[known].assign(**{origin: levels[known]})
        if 1 < cells[origin].nunique() < len(cells):
            collision = _collision(cells, donor, origin, variables, traits)
            found += [collision] if collision else _coincidences(cells, donor, origin, variables)
    return tuple(found)


def _collision(cells: pd.DataFrame, donor: str, origin: str, variables: Sequence[str], traits: Sequence[str]) -> str:
    """Word the suspicion that one id stands for several donors; empty without evidence."""
    ids = pd.Series(_levels(cells[donor]), index=cells.index, dtype=object)
    pairs = pd.DataFrame({"id": ids, "level": cells[origin]}).drop_duplicates()
    shared = pairs.groupby("level")["id"].transform("size") >= FEWEST_A_LEVEL
    places = pairs[shared].groupby("id")["level"].agg(lambda levels: sorted(levels, key=natural_key))
    cut = sorted((name for name, levels in places.items() if len(levels) > 1), key=natural_key)
    if not cut:
        return ""
    of_cut = {name: places[name] for name in cut}
    short = all(SHORT_ID.fullmatch(name) for name in cut)
    why = _disagreement(cells, ids, origin, of_cut, traits, "with different", every=False)
    if not why and (short or _has_word(origin, STUDIES)):
        why = _disagreement(cells, ids, origin, of_cut, variables, "each time with another", every=True)
    same = pairs[shared].groupby("level")["id"].agg(frozenset)
    if not why and short and same.duplicated().any():
        why = f"and {listing(sorted(same.index[same.duplicated(keep=False)], key=natural_key), MOST_SHOWN)} have the "
        why += "same short ids"
    if not why:
        return ""
    return (
        f"{donor} {listing(cut, MOST_SHOWN)} occur{'s' * (len(cut) == 1)} in several levels of {origin} ({why}): if "
        f"these are different {donor}s, they are now counted as one; give each an id of its own, such as "
        f"{origin} and {donor} joined, and run again"
    )


def _disagreement(
    cells: pd.DataFrame, ids: pd.Series, origin: str, of_cut: Mapping, columns: Sequence[str], words: str, every: bool
) -> str:
    """Say in which column an id has disjoint values in two origins, some id or every one; empty if in none."""
    for column in columns:
        table = pd.DataFrame({"id": ids, "level": cells[origin], "value": _levels(cells[column])}).drop_duplicates()
        seen = table.groupby(["id", "level"])["value"].agg(lambda values: frozenset(values.dropna()))
        differ = {}
        for name, levels in of_cut.items():
            one, other = seen[name, levels[0]], seen[name, levels[1]]
            if one and other and not one & other:
                differ[name] = f"{_one(one)} in {levels[0]}, {_one(other)} in {levels[1]}"
        if differ and (not every or len(differ) == len(of_cut)):
            name, how = next(iter(differ.items()))
            return f"{words} {column}: {name} is {how}"
    return ""


def _coincidences(cells: pd.DataFrame, donor: str, origin: str, variables: Sequence[str]) -> list[str]:
    """Warn of variables of which every level of an origin has one."""
    found = []
    codes = pd.factorize(cells[origin])[0]
    for name in variables:
        values = _levels(cells[name])
        of_value = pd.factorize(values)[0]
        units = len(pd.DataFrame({"donor": cells[donor], "value": values}).drop_duplicates())
        levels = codes.max() + 1
        if of_value.max() == 0 or units < FEWEST_A_LEVEL * levels or not determines(codes, of_value):
            continue
        first = np.unique(codes, return_index=True)[1]
        shown = sorted(
            zip(cells[origin].to_numpy()[first], values[first], strict=True), key=lambda p: natural_key(p[0])
        )
        pairs = listing((f"{place}: {value}" for place, value in shown), MOST_SHOWN)
        found.append(
            f"every {origin} has one {name} only ({pairs}): what differs between the levels of {origin} is counted as "
            f"an effect of {name}, and no formula can tell them apart"
        )
    return found


def _has_word(name: str, words: Sequence[str]) -> bool:
    """Tell whether one of the words is in a column's name: ``Batch_ID``, ``dataSet``, ``seq.run``, not ``brunch``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).lower()
    pieces = [piece.rstrip("0123456789") for piece in re.split(r"[^a-z0-9]+", spaced)]
    joined = [a + b for a, b in itertools.pairwise(pieces)]
    return any(piece in words or piece.removesuffix("s") in words for piece in (*pieces, *joined))


def _levels(column: pd.Series) -> np.ndarray:
    """Return a column as text, None where a value is missing, (n,) object."""
    values = column.astype("category")
    names = np.array([text(value) for value in values.cat.categories.tolist()] + [None], dtype=object)
    return names[values.cat.codes.to_numpy()]


def _one(values: frozenset) -> str:
    return " or ".join(sorted(values, key=natural_key)[:2])
