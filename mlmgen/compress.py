r"""Compress all cells of a pattern to at most 14 nodes, once per fit.

Within a pattern eta is constant and the negative binomial likelihood needs only the linear
functionals sum_c w_c g(t_c) of the log size factors t_c, with g(t) = log(1 + phi e^(eta + t)) analytic
for \|Im t\| < pi. On Chebyshev nodes x_i of the pattern's range,

    weights = M m,   m_j = sum_c w_c T_j(x_c),   M_ij = (2 - [j = 0]) / K T_j(x_i)

reproduces them to the error of polynomial interpolation, rho^-K with
rho = (pi + sqrt(pi^2 + h^2)) / h for a half-range h. A pattern whose range is too wide for that is cut
into panels; a pattern of few distinct size factors keeps them as nodes, which is exact.
"""

from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import Structure
from mlmgen.kernels.gather import NODES
from mlmgen.types import Design, RandomTerm

INTERCEPT = "(Intercept)"
# Interpolation error (rho^-K) of the fit, and of the variance grid and the tests, where phi is fixed and
# both weights of a node merge into one.
FIT_ERROR, GRID_ERROR = 1e-8, 1e-5
# Half-range of t up to which 14 nodes interpolate to FIT_ERROR.
WIDEST_HALF_RANGE = 1.8
# Prior standard deviation (natural log) that keeps the effect of a separated gene finite; as strong as
# half a count in the empty group.
SEPARATED_SD = 3.0


class CellMap(NamedTuple):
    """Where each row of the data goes.

    pattern : (n,) uint32 engine pattern; slot : (n,) int32 node, -1 where moments stand for the row;
    x : (n,) t scaled to [-1, 1] for the moments.
    """

    pattern: np.ndarray
    slot: np.ndarray
    x: np.ndarray
    has_moments: bool


class Compressed(NamedTuple):
    """A design ready for the kernels.

    Attributes
    ----------
    structure : Structure
    cells : CellMap
    log_size : (K, P) t at the nodes; center, half : (P,) range of t; exposure, exposure_2 : (P,)
        sums of size factors and of their squares.
    transform : (K, K) M.
    reduction : (R, K, P) takes weights on the K nodes of each pattern to weights on R fewer nodes.
    size_reduced : (R, P) size factors at those.
    top, sub : int
        Position of the coarse and of the nested term in ``Design.terms``, -1 where there is none.
    most : (P,) total that a pattern cannot reach, or the number of its cells minus a half where ``binary``.
    binary : bool
        The response is detection: counts are one or zero, and nodes carry no counts.
    fixed_phi : float
        phi where it is not estimated: 0 is poisson, 1 bernoulli (see ``kernels.rows``).
    """

    structure: Structure
    cells: CellMap
    log_size: np.ndarray
    center: np.ndarray
    half: np.ndarray
    exposure: np.ndarray
    exposure_2: np.ndarray
    transform: np.ndarray
    reduction: np.ndarray
    size_reduced: np.ndarray
    top: int
    sub: int
    most: np.ndarray
    binary: bool = False
    fixed_phi: float = 0.0


def for_family(compressed: Compressed, family: str) -> Compressed:
    """Return the compressed design as the kernels read it for a family of counts."""
    if family != "bernoulli":
        return compressed
    number = np.bincount(compressed.cells.pattern, minlength=compressed.most.size)
    return compressed._replace(most=number - 0.5, binary=True, fixed_phi=1.0)


def compress(design: Design) -> Compressed:
    """Build the nodes, the groups and the map of the rows for a design of at most two nested random intercepts."""
    top, sub = nesting(design.terms)
    panel, pattern_of_panel = panels(design)
    order, top_codes, sub_codes = _group_order(design, pattern_of_panel, top, sub)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    pattern = rank[panel].astype(np.uint32)
    pattern_of_panel, top_codes, sub_codes = pattern_of_panel[order], top_codes[order], sub_codes[order]
    top_codes, sub_codes, parent = _renumber(top_codes, sub_codes, sub >= 0)
    nodes = place_nodes(pattern, design.log_size, order.size)
    size = np.exp(nodes.log_size) * (nodes.log_size > -np.inf)
    structure = Structure(
        size=size,
        cells=nodes.weight,
        X=np.ascontiguousarray(design.X[pattern_of_panel].T),
        ridge=np.zeros(design.X.shape[1]),
        top=top_codes,
        sub=sub_codes,
        parent=parent,
    )
    totals = [np.bincount(pattern, np.exp(k * design.log_size), order.size) for k in (1, 2)]
    log_size = np.where(np.isfinite(nodes.log_size), nodes.log_size, 0.0)
    cells = CellMap(pattern, nodes.slot, nodes.x, bool((nodes.slot < 0).any()))
    reduction, size_reduced = _reduce(nodes)
    transform = chebyshev_transform(size.shape[0])
    return Compressed(
        structure, cells, log_size, nodes.center, nodes.half, *totals, transform, reduction, size_reduced, top, sub,
        np.full(order.size, np.inf),
    )  # fmt: skip


def is_nested_intercepts(design: Design) -> bool:
    """Tell whether a design has no cell-level functions and no, one, or two nested random intercepts."""
    plain = all(term.effects == (INTERCEPT,) for term in design.terms)
    if not plain or design.functions.shape[1] or len(design.terms) > 2:
        return False
    return len(design.terms) < 2 or sum(nested(*pair) for pair in (design.terms, design.terms[::-1])) == 1


def nesting(terms: tuple[RandomTerm, ...]) -> tuple[int, int]:
    """Return the positions of the coarse and of the nested random intercept, -1 where there is none."""
    if len(terms) < 2:
        return len(terms) - 1, -1
    return (0, 1) if nested(terms[1], terms[0]) else (1, 0)


def nested(inner: RandomTerm, outer: RandomTerm) -> bool:
    """Tell whether each group of ``inner`` lies in one group of ``outer``."""
    pairs = np.unique(np.stack([inner.codes, outer.codes]), axis=1)
    return np.unique(pairs[0]).size == pairs.shape[1]


def chebyshev_nodes(K: int) -> np.ndarray:
    """Return the K Chebyshev points of the first kind on [-1, 1]."""
    return np.cos((2 * np.arange(K) + 1) * np.pi / (2 * K))


def chebyshev_values(x: np.ndarray, K: int) -> np.ndarray:
    """Return T_j(x) for j < K, (K, len(x))."""
    return np.cos(np.outer(np.arange(K), np.arccos(np.clip(x, -1.0, 1.0))))


def chebyshev_transform(K: int) -> np.ndarray:
    """Return M, which takes K Chebyshev moments to weights on the nodes, (K, K)."""
    M = np.ascontiguousarray(chebyshev_values(chebyshev_nodes(K), K).T) * 2.0 / K
    M[:, 0] = 1.0 / K
    return M


def node_count(half: float, error: float) -> int:
    """Return the nodes at which interpolation over a half-range errs by less than ``error``, at most NODES."""
    rho = (np.pi + np.hypot(np.pi, half)) / half
    return int(np.clip(np.ceil(-np.log(error) / np.log(rho)), 4, NODES))


def panels(design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Cut the patterns into panels narrow enough to interpolate; return each row's panel and each panel's pattern."""
    P = design.X.shape[0]
    low, high = np.full(P, np.inf), np.full(P, -np.inf)
    np.minimum.at(low, design.pattern, design.log_size)
    np.maximum.at(high, design.pattern, design.log_size)
    pieces = np.maximum(1, np.ceil((high - low) / (2 * WIDEST_HALF_RANGE))).astype(np.int64)
    width = np.maximum((high - low) / pieces, 1e-300)
    piece = ((design.log_size - low[design.pattern]) / width[design.pattern]).astype(np.int64)
    piece = np.clip(piece, 0, pieces[design.pattern] - 1)
    keys, panel = np.unique(design.pattern.astype(np.int64) * (pieces.max() + 1) + piece, return_inverse=True)
    return panel, keys // (pieces.max() + 1)


def _group_order(design: Design, pattern_of_panel, top: int, sub: int):
    """Order the panels by (top, sub); without a random term every panel is a group of its own."""
    alone = np.arange(pattern_of_panel.size)
    top_codes = design.terms[top].codes[pattern_of_panel].astype(np.int64) if top >= 0 else alone
    sub_codes = design.terms[sub].codes[pattern_of_panel].astype(np.int64) if sub >= 0 else top_codes
    return np.lexsort((alone, sub_codes, top_codes)), top_codes, sub_codes


def _renumber(top_codes, sub_codes, nested: bool):
    """Renumber sorted group codes from 0; return top and sub of each pattern and the top of each sub, uint32."""
    new_top = np.r_[True, np.diff(top_codes) != 0]
    new_sub = new_top | np.r_[True, np.diff(sub_codes) != 0]
    top, sub = (np.cumsum(new_top) - 1).astype(np.uint32), (np.cumsum(new_sub) - 1).astype(np.uint32)
    none = np.zeros(0, np.uint32)
    return (top, sub, top[new_sub]) if nested else (top, none, none)


class Nodes(NamedTuple):
    """Nodes of every pattern: log_size, weight (K, P); center, half (P,); slot, x (n,), see ``CellMap``."""

    log_size: np.ndarray
    weight: np.ndarray
    center: np.ndarray
    half: np.ndarray
    slot: np.ndarray
    x: np.ndarray


def place_nodes(pattern: np.ndarray, t: np.ndarray, P: int, every_cell: bool = False) -> Nodes:
    """Place the nodes of every pattern and weigh them with all of its cells; -inf marks an unused node.

    ``every_cell`` keeps each distinct size factor as a node, however many there are.
    """
    order = np.lexsort((t, pattern))
    sorted_pattern, sorted_t = pattern[order], t[order]
    first = np.r_[True, (np.diff(sorted_pattern) != 0) | (np.diff(sorted_t) != 0)]
    distinct = np.bincount(sorted_pattern[first], minlength=P)
    start = np.r_[0, np.cumsum(np.bincount(sorted_pattern, minlength=P))]
    low, high = sorted_t[start[:-1]], sorted_t[start[1:] - 1]
    center, half = 0.5 * (low + high), np.maximum(0.5 * (high - low), 1e-12)
    most = node_count(half.max(), FIT_ERROR)
    exact = (distinct <= most) | every_cell
    K = most if not exact.all() else int(distinct.max())
    node_t, weight = np.full((K, P), -np.inf), np.zeros((K, P))
    index = np.cumsum(first) - 1 - np.r_[0, np.cumsum(distinct)][sorted_pattern]
    slot, x = np.full(t.size, -1, dtype=np.int32), np.zeros(t.size)
    kept = exact[sorted_pattern]
    slot[order[kept]] = index[kept]
    node_t[index[kept], sorted_pattern[kept]] = sorted_t[kept]
    np.add.at(weight, (index[kept], sorted_pattern[kept]), 1.0)
    rough = ~exact[pattern]
    x[rough] = np.clip((t[rough] - center[pattern[rough]]) / half[pattern[rough]], -1.0, 1.0)
    M = chebyshev_transform(K)
    for p in np.flatnonzero(~exact):
        node_t[:, p] = center[p] + half[p] * chebyshev_nodes(K)
        weight[:, p] = M @ chebyshev_values(x[order[start[p] : start[p + 1]]], K).sum(axis=1)
    return Nodes(node_t, weight, center, half, slot, x)


def _reduce(nodes: Nodes) -> tuple[np.ndarray, np.ndarray]:
    """Return the reduction to fewer nodes (R, K, P) and the size factors there (R, P)."""
    K, P = nodes.log_size.shape
    R = min(K, node_count(nodes.half.max(), GRID_ERROR))
    points, M = chebyshev_nodes(R), chebyshev_transform(R)
    reduction, size = np.zeros((R, K, P)), np.zeros((R, P))
    used = np.isfinite(nodes.log_size)
    for p in range(P):
        n = int(used[:, p].sum())
        if n <= R:
            reduction[np.arange(n), np.arange(n), p] = 1.0
            size[:n, p] = np.exp(nodes.log_size[:n, p])
        else:
            x = (nodes.log_size[:n, p] - nodes.center[p]) / nodes.half[p]
            reduction[:, :n, p] = M @ chebyshev_values(x, R)
            size[:, p] = np.exp(nodes.center[p] + nodes.half[p] * points)
    return reduction, size
