"""What may change places if a contrast is zero: units with labels, strata of units, and the distinct splits.

A null audit permutes the labels of one variable and keeps everything else of the design. It holds the null hypothesis
only if it exchanges what the design lets be exchanged: a property of donors between donors, a condition that each donor
has been in between the samples of that donor.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlmgen.design_parts import Parts
from mlmgen.expressions import WITHIN
from mlmgen.formula import Formula, split_variables
from mlmgen.groups import determines
from mlmgen.model_matrix import ModelMatrix
from mlmgen.obs_columns import Variable, cross, factor
from mlmgen.types import Contrast

# Arrangements that are all listed; 8 against 8 donors have 12,870, 14 pairs 16,384.
MOST_LISTED = 20_000
# Random arrangements drawn for each split that is wanted, of which the best balanced are taken.
DRAWS = 50
# Beyond so many units random arrangements are balanced as they come, and would not fit in memory together.
MOST_RANKED = 5_000
# Levels whose relabelings are looked through for equivalent ones: 120 orders.
MOST_RELABELED = 5
# A number with so few values is a grouping of donors.
FEW_VALUES = 2
MOST_DISTINCT = 1e15  # counts beyond are reported as this
ROUNDING = 1e-8
BETWEEN_DONORS, BETWEEN_CELLS = "between donors", "between cells of a sample"


@dataclass(frozen=True)
class Exchange:
    """Units, U of them, whose labels change places within strata.

    Attributes
    ----------
    columns : tuple of str
        The obs columns that are permuted, together.
    kind : str
        How they change places, in words: ``between donors`` (or ``between groups of litter``), ``within donors``,
        ``between samples of a donor``, ``between cells of a sample``.
    unit : (n,) int64
        The unit of each cell.
    label : (U,) int64
        The level of each unit, or the rank of its value.
    stratum : (U,) int64
        Labels change places within a stratum alone.
    values : (L,) float64
        Of a number, the value of each label; empty for a factor.
    mirrors : (M, L) int64
        Relabelings that leave a two-sided test as it is, such as swapping both arms; the first changes nothing.
    """

    columns: tuple[str, ...]
    kind: str
    unit: np.ndarray
    label: np.ndarray
    stratum: np.ndarray
    values: np.ndarray
    mirrors: np.ndarray


def find(parts: Parts, matrix: ModelMatrix, formula: Formula, contrast: Contrast, obs) -> tuple[Exchange | None, str]:
    """Find what a contrast's null hypothesis lets change places.

    * A variable that is constant within donors: the donors' labels, among donors that share all other factors of the
      fixed effects. Where the donors lie in groups of a random term within which the variable is constant too (wards,
      litters), these groups exchange.
    * A factor that varies within donors: each donor's levels, all samples of a level together, donor by donor.
    * A number that varies within donors: its values among the samples of a donor, or among the cells of a sample
      where it varies there.

    Of a factor only levels that the contrast compares change places. Of several variables (an interaction) one that
    all of the contrast's coefficients have is permuted, preferably one that is constant within donors: the effects of
    the others then stay where they are.

    Parameters
    ----------
    parts : Parts
    matrix : ModelMatrix
    formula : Formula
    contrast : Contrast
    obs : DataFrame
        The cells of ``parts``.

    Returns
    -------
    exchange : Exchange or None
    reason : str
        Why there is none; empty where there is one.
    """
    used = np.flatnonzero(np.any(contrast.weights != 0.0, axis=0))
    sets = [set(matrix.variables[j]) for j in used if matrix.variables[j]]
    common = [name for name in parts.fixed if sets and all(name in one for one in sets)]
    if not common:
        return None, "no single variable stands behind all coefficients of the contrast"
    name = min(common, key=lambda one: one in parts.within)
    split, variable = split_variables(formula).get(name), parts.fixed[name]
    if split is not None and split.kind != WITHIN:
        return None, f"{name} is a mean over cells, which have no label in common to exchange"
    kind, unit, stratum = _units(parts, variable)
    if split is not None and split.group:
        stratum = cross(stratum, factor(obs, split.group, "").codes[np.unique(unit, return_index=True)[1]])[0]
    columns = (name,) if split is None else split.columns
    codes = variable.codes if split is None else _joint(obs, columns)
    weights = _level_weights(variable, matrix, contrast)
    values = np.empty(0) if variable.is_factor else _values(variable, codes)
    return _exchange(columns, kind, (unit, codes, stratum), variable, weights, values)


def _units(parts: Parts, variable: Variable) -> tuple[str, np.ndarray, np.ndarray]:
    """Return in words what the units are, the unit of each cell (n,), and the stratum of each unit (U,)."""
    donor, sample, codes = parts.donor.codes, parts.sample.codes, variable.codes
    if determines(donor, codes):
        wider = [g for g in parts.groups if determines(donor, g.codes) and determines(g.codes, codes)]
        group = min([parts.donor, *wider], key=lambda g: len(g.levels))
        unit, within = group.codes, None
        kind = BETWEEN_DONORS if group is parts.donor else f"between groups of {group.name}"
    elif variable.is_factor:
        kind, unit, within = "within donors", cross(donor, codes)[0], donor
    elif determines(sample, codes):
        kind, unit, within = "between samples of a donor", sample, donor
    else:
        kind, unit, within = BETWEEN_CELLS, np.arange(parts.n), sample
    unit, first = cross(unit)
    shared = [np.zeros(len(first), dtype=np.int64)] if within is None else [within[first]]
    for other in parts.fixed.values():
        grouping = other.is_factor or other.codes.max() < FEW_VALUES
        if other is not variable and grouping and determines(unit, other.codes):
            shared.append(other.codes[first])
    return kind, unit, cross(*shared)[0]


def _joint(obs, columns: tuple[str, ...]) -> np.ndarray:
    return cross(*(np.unique(obs[c].to_numpy(), return_inverse=True)[1].astype(np.int64) for c in columns))[0]


def _values(variable: Variable, codes: np.ndarray) -> np.ndarray:
    """Return a value for each label; those of ``within()`` differ between cells with the same label: their mean."""
    return np.bincount(codes, variable.values) / np.bincount(codes)


def _level_weights(variable: Variable, matrix: ModelMatrix, contrast: Contrast) -> np.ndarray:
    """Write a contrast as weights on the means of a factor's levels, (L, r); (L, 0) where it cannot be written so."""
    for pattern in ("{}[{}]", "mean({}[{}])"):
        names = [pattern.format(variable.name, level) for level in variable.levels]
        if not names or any(name not in matrix.means for name in names):
            continue
        means = np.array([matrix.means[name] for name in names])
        weights = np.linalg.lstsq(means.T, contrast.weights.T, rcond=None)[0]
        if np.abs(means.T @ weights - contrast.weights.T).max() < ROUNDING * np.abs(contrast.weights).max():
            return weights
    return np.empty((len(variable.levels), 0))


def _exchange(columns, kind, codes, variable, weights, values) -> tuple[Exchange | None, str]:
    """Put an exchange together, or say why nothing changes places."""
    unit, of_cell, stratum = codes
    label = of_cell[np.unique(unit, return_index=True)[1]]
    L = int(of_cell.max()) + 1
    compared = np.arange(L)
    if weights.size:
        compared = np.flatnonzero(np.abs(weights).max(axis=1) > ROUNDING * np.abs(weights).max())
    # Units of other levels stay as they are: a stratum for each of their levels has nothing to exchange.
    stratum = cross(stratum, np.where(np.isin(label, compared), 0, 1 + label))[0]
    mirrors = _mirrors(label, stratum, compared, weights, values, plain=columns == (variable.name,))
    exchange = Exchange(columns, kind, unit, label, stratum, values, mirrors)
    distinct = number_of_splits(exchange)
    if distinct >= 1:
        return exchange, ""
    name = columns[0]
    if cross(stratum, label)[0].max() == stratum.max():
        share = ", and only donors with the same other factors of the formula are exchanged" * (kind == BETWEEN_DONORS)
        return None, f"no two labels of {name} can change places {kind}{share}"
    return None, f"the labels of {name} can only change places {kind} to where they are, or to the mirror image"


def _mirrors(label, stratum, compared, weights, values, plain: bool) -> np.ndarray:
    """Find the relabelings that are reachable within the strata and leave a two-sided test as it is."""
    L = int(label.max()) + 1
    same, orders = np.arange(L), [np.arange(L)]
    if values.size:
        symmetric = np.ptp(values + values[::-1]) < ROUNDING * max(np.abs(values).max(), 1.0)
        candidates = [same[::-1]] if L == 2 or (L > 2 and symmetric and plain) else []
    elif len(compared) > MOST_RELABELED:
        candidates = []
    else:
        candidates = [_relabeled(L, compared, order) for order in itertools.permutations(compared)]
        candidates = [order for order in candidates if _same_test(weights, order, len(compared))]
    for order in candidates:
        old, new = np.sort(stratum * L + label), np.sort(stratum * L + order[label])
        if (order != same).any() and (old == new).all():
            orders.append(order)
    return np.array(orders)


def _relabeled(L: int, compared: np.ndarray, order: tuple) -> np.ndarray:
    relabeled = np.arange(L)
    relabeled[compared] = order
    return relabeled


def _same_test(weights: np.ndarray, order: np.ndarray, compared: int) -> bool:
    """Tell whether the contrast of relabeled levels has the same two-sided test; two levels can only be swapped."""
    if not weights.size:
        return compared == 2
    rank = np.linalg.matrix_rank(weights, tol=ROUNDING)
    return bool(np.linalg.matrix_rank(np.hstack([weights, weights[order]]), tol=ROUNDING) == rank)


def number_of_splits(exchange: Exchange) -> float:
    """Count the distinct splits, without the observed one and its mirrors.

    No relabeling leaves a split as it is, so that the arrangements fall into classes of as many as there are mirrors.
    """
    return min(_arrangements(exchange) / len(exchange.mirrors) - 1.0, MOST_DISTINCT)


def _arrangements(exchange: Exchange) -> float:
    """Count the arrangements of the labels within strata; infinity where they are too many for a float."""
    log, total = 0.0, 1
    sizes = np.bincount(exchange.stratum)
    for s in np.flatnonzero(sizes > 1):
        labels = exchange.label[exchange.stratum == s]
        log += math.lgamma(sizes[s] + 1) - sum(math.lgamma(k + 1) for k in np.bincount(labels))
        if log < math.log(MOST_DISTINCT) + 1.0:
            total *= math.factorial(int(sizes[s])) // math.prod(math.factorial(int(k)) for k in np.bincount(labels))
    return float(total) if log < math.log(MOST_DISTINCT) + 1.0 else math.inf


def splits(exchange: Exchange, number: int, seed: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Give distinct splits, those in which each new arm has like shares of the original arms first.

    A real effect stays in the data. In a split whose new arm is mostly one original arm it is a part of the permuted
    contrast, which then is not null; where each new arm has like shares of the original arms it cancels there and
    only adds to the variance between donors. For genes without an effect any split that is chosen by the labels alone,
    not by counts, is as good as any other.

    Parameters
    ----------
    exchange : Exchange
    number : int
        How many will be used. Where all can be listed all follow, for those that cannot be fitted; otherwise enough
        to choose from.
    seed : tuple of int
        Of the choice between splits that are equally balanced.

    Yields
    ------
    (U,) int64
        The new label of each unit. No two are mirrors of each other, none is the observed one or its mirror.
    """
    rng = np.random.default_rng(seed)
    if _arrangements(exchange) <= MOST_LISTED:
        found = _listed(exchange)
    elif len(exchange.label) > MOST_RANKED:
        for _ in range(DRAWS * number):
            yield _shuffled(exchange, rng)
        return
    else:
        found = np.array([_shuffled(exchange, rng) for _ in range(DRAWS * number)])
    found = _distinct(exchange, found)
    order = np.lexsort((rng.random(len(found)), imbalance(exchange, found).round(9)))
    yield from found[order]


def _listed(exchange: Exchange) -> np.ndarray:
    """List all arrangements of the labels within strata, (A, U)."""
    members = [np.flatnonzero(exchange.stratum == s) for s in range(int(exchange.stratum.max()) + 1)]
    each = [list(_permutations(tuple(sorted(exchange.label[m].tolist())))) for m in members]
    units = np.concatenate(members)
    found = np.array([np.concatenate(one) for one in itertools.product(*each)], dtype=np.int64)
    listed = np.empty_like(found)
    listed[:, units] = found
    return listed


def _permutations(labels: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Give the distinct orders of sorted labels that may repeat, each the next in lexicographic order."""
    order = list(labels)
    while True:
        yield tuple(order)
        left = next((i for i in range(len(order) - 2, -1, -1) if order[i] < order[i + 1]), None)
        if left is None:
            return
        right = next(j for j in range(len(order) - 1, left, -1) if order[j] > order[left])
        order[left], order[right] = order[right], order[left]
        order[left + 1 :] = order[:left:-1]


def _shuffled(exchange: Exchange, rng: np.random.Generator) -> np.ndarray:
    """Shuffle the labels within strata, (U,)."""
    place = np.argsort(exchange.stratum, kind="stable")
    new = np.empty_like(exchange.label)
    new[place] = exchange.label[np.lexsort((rng.random(len(place)), exchange.stratum))]
    return new


def _distinct(exchange: Exchange, found: np.ndarray) -> np.ndarray:
    """Keep one split of each class of mirrors, its first in lexicographic order, but none of the observed one's."""
    seen = {_first(exchange.label, exchange.mirrors)}
    kept = []
    for one in found:
        key = _first(one, exchange.mirrors)
        if key not in seen:
            seen.add(key)
            kept.append(key)
    return np.array(kept, dtype=np.int64).reshape(len(kept), len(exchange.label))


def _first(split: np.ndarray, mirrors: np.ndarray) -> tuple[int, ...]:
    return min(tuple(relabeled) for relabeled in mirrors[:, split].tolist())


def imbalance(exchange: Exchange, found: np.ndarray) -> np.ndarray:
    """Measure how far new arms are from equal shares of the original arms, (S,).

    Parameters
    ----------
    exchange : Exchange
    found : (S, U) int64

    Returns
    -------
    (S,) float64
        Of a factor the squared differences between the table of original and new labels and that of equal shares,
        summed; of a number the squared correlation of original and new values. Units that stay do not count.
    """
    old = exchange.label
    sizes = np.zeros((int(exchange.stratum.max()) + 1, int(old.max()) + 1))
    np.add.at(sizes, (exchange.stratum, old), 1)
    moving = ((sizes > 0).sum(axis=1) > 1)[exchange.stratum]
    if exchange.values.size:
        x, y = exchange.values[old[moving]], exchange.values[found[:, moving]]
        x, y = x - x.mean(), y - y.mean(axis=1, keepdims=True)
        return (y @ x) ** 2 / ((x @ x) * (y**2).sum(axis=1))
    original = (old[moving, None] == np.arange(sizes.shape[1])).astype(float)
    total, score = original.sum(axis=0), np.zeros(len(found))
    for j in range(sizes.shape[1]):
        table = (found[:, moving] == j).astype(float) @ original
        score += ((table - total * total[j] / moving.sum()) ** 2).sum(axis=1)
    return score


def permuted(obs, exchange: Exchange, split: np.ndarray):
    """Return obs with the columns of an exchange permuted as a split says.

    Parameters
    ----------
    obs : DataFrame
    exchange : Exchange
    split : (U,) int64
        The new label of each unit.
    """
    of_cell = exchange.label[exchange.unit]
    # Labels that change places are those of a cell: the columns keep their type and categories.
    source = np.unique(of_cell, return_index=True)[1][split[exchange.unit]]
    changed = {name: obs[name].array.take(source) for name in exchange.columns}
    return obs.assign(**changed)
