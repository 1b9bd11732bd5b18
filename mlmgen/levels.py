"""Any design as the multilevel kernels take it: the tree of its random terms and the layout of its rows."""

from typing import NamedTuple

import numpy as np

from mlmgen.compress import (
    SEPARATED_SD,
    CellMap,
    Nodes,
    chebyshev_transform,
    panels,
    place_nodes,
)
from mlmgen.cubature import MEANS, Cubature, choose
from mlmgen.kernels.families import Gene, Sums
from mlmgen.kernels.gather import LONG, NODES
from mlmgen.kernels.model_rows import BERNOULLI, NB, NORMAL, POISSON, Layout, ModelWork
from mlmgen.kernels.rows import CELLS, GAUSSIAN, PATTERNS, Elements, Moments, Rows
from mlmgen.kernels.search import Terms, quest_space
from mlmgen.kernels.tree import Tree, tree_workspace
from mlmgen.types import Design

# Decimals at which scaled rows of the model matrix are the same.
ROUNDING = 9
FAMILIES = {"nb": NB, "poisson": POISSON, "bernoulli": BERNOULLI, "gaussian": NORMAL}


class NodeMap(NamedTuple):
    """What ``gather`` reads of a compressed design, see ``compress.Compressed``."""

    cells: CellMap
    size: np.ndarray
    weight: np.ndarray
    log_size: np.ndarray
    center: np.ndarray
    half: np.ndarray
    transform: np.ndarray
    binary: bool


class Model(NamedTuple):
    """A design ready for the multilevel kernels.

    Attributes
    ----------
    tree, terms, layout : as the kernels take them.
    all : Elements
        The cells that stand for all cells where there are cell-level functions.
    x_scale : (p,) and z_scale : (R + C,) root mean square of each column; the kernels see columns divided by it.
    columns : tuple of (q,) int64
        Scaled columns of each term of the design.
    ridge : (p,) prior precisions of the coefficients of a separated gene.
    """

    tree: Tree
    terms: Terms
    layout: Layout
    all: Elements
    x_scale: np.ndarray
    z_scale: np.ndarray
    columns: tuple[np.ndarray, ...]
    ridge: np.ndarray


class _Grouping(NamedTuple):
    """Terms of the design that share their groups."""

    members: tuple[int, ...]
    codes: np.ndarray
    count: int


def build_model(
    design: Design,
    family: str,
    method: str,
    integration: str = "laplace",
    nodes: int = 9,
    likelihood: str = "compressed",
    means: tuple[float, float] = MEANS,
) -> Model:
    """Lay a design out for the multilevel kernels; arguments as for ``fitting.fit_shard``.

    ``means`` is the range of mean counts per cell for which the cubature is checked.
    """
    kind = GAUSSIAN if family == "gaussian" else CELLS if design.functions.shape[1] else PATTERNS
    panel, pattern_of_panel = panels(design) if kind == PATTERNS else (design.pattern, np.arange(len(design.X)))
    functions, center, spread = _standardize(design.functions)
    number = np.bincount(panel, minlength=pattern_of_panel.size).astype(float)
    sums = _cross_products(functions, panel, pattern_of_panel.size)
    X = _coefficients(design.X.T, design.basis, center, spread)[:, :, pattern_of_panel]
    X, x_scale = _scaled(X, sums)
    tree, terms, z_scale, columns = _tree(design, pattern_of_panel, X, center, spread, sums)
    reach = np.r_[1.0, np.abs(functions).max(axis=0, initial=0.0)]
    terms = terms._replace(reach=reach)
    if integration == "agq":
        x, w = np.polynomial.hermite.hermgauss(nodes)
        terms = terms._replace(x=x, log_w=np.log(w))
    layout = _layout(design, kind, panel, functions, X, sums, number, family, method, likelihood)
    constant = (np.ptp(X[:, 0], axis=1) == 0.0) & (X[:, 1:] == 0.0).all(axis=(1, 2))
    ridge = np.where(constant, 0.0, SEPARATED_SD**-2) / x_scale**2
    everything = _elements(0, functions.shape[1] + 1, 0)
    if kind == CELLS:
        exact, panel = likelihood == "exact", np.asarray(panel, dtype=np.int64)
        everything = all_cells(design, functions, choose(panel, design.log_size, functions, exact=exact, means=means))
    return Model(tree, terms, layout, everything, x_scale, z_scale, columns, ridge)


def model_work(model: Model, longest: int) -> ModelWork:
    """Allocate the scratch of one thread for genes of up to ``longest`` nonzeros."""
    tree = model.tree._replace(ridge=model.tree.ridge.copy())
    wk, layout = tree_workspace(tree), model.layout
    p, M, P = tree.X.shape
    T = tree.rows.size
    K = layout.compressed.size.shape[0]
    views = {"g": wk.G[0], "w": wk.W[0, 0]}
    sums = Sums(**{name: views.get(name, np.zeros(P)) for name in Sums._fields})
    gene = Gene(np.zeros((K, P)), np.zeros(P), np.zeros(LONG + 4), np.zeros(longest + 1), np.zeros(4))
    pair = _pairs(M)
    own = _elements(longest if layout.functions.shape[0] else 0, M, P)
    moments = Moments(layout.cross, np.zeros((M, P)), np.zeros(P), np.zeros(2))
    everything = model.all._replace(**{name: np.zeros_like(model.all.size) for name in _SCRATCH})
    rows = Rows(
        _kind(layout), layout.compressed.size, layout.compressed.weight, gene, sums, everything, own, pair,
        np.zeros((M, P)), moments, np.zeros((M, P)), np.zeros((pair.max() + 1, P)),
    )  # fmt: skip
    n, q = T + 1 + p, int(model.terms.size.max(initial=1))
    return ModelWork(
        tree, wk, rows, quest_space(n, q), np.zeros((NODES, P)), np.zeros(longest + 1), np.zeros((2, n)), np.zeros(p),
        np.zeros((2, P)), np.zeros((T + 2, p, p)), np.zeros((T + 1, p)), np.zeros((p, p)), np.zeros(p),
        np.zeros(layout.most.size),
    )  # fmt: skip


_SCRATCH = ("s", "w", "dw", "w_phi", "g_phi")


def _kind(layout: Layout) -> int:
    return GAUSSIAN if layout.family == NORMAL else CELLS if layout.functions.shape[0] else PATTERNS


def _standardize(functions: np.ndarray):
    """Return the functions with mean 0 and standard deviation 1, their means and standard deviations."""
    if functions.shape[1] == 0:
        return np.zeros((len(functions), 0)), np.zeros(0), np.ones(0)
    center, spread = functions.mean(axis=0), functions.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return (functions - center) / spread, center, spread


def _coefficients(values: np.ndarray, basis: np.ndarray, center: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return columns (q, P) times their functions as coefficients (q, M, P) of the standardized functions."""
    out = np.zeros((values.shape[0], center.size + 1, values.shape[1]))
    for j, k in enumerate(basis):
        if k == 0:
            out[j, 0] = values[j]
        else:
            out[j, 0], out[j, k] = values[j] * center[k - 1], values[j] * spread[k - 1]
    return out


def _cross_products(functions: np.ndarray, panel: np.ndarray, P: int) -> np.ndarray:
    """Return the sums over each pattern's cells of c_k c_l, (M, M, P)."""
    M = functions.shape[1] + 1
    columns = [np.ones(len(panel)), *functions.T]
    out = np.empty((M, M, P))
    for k in range(M):
        for m in range(k + 1):
            out[k, m] = out[m, k] = np.bincount(panel, columns[k] * columns[m], P)
    return out


def _scaled(columns: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide columns (q, M, P) by their root mean square over the cells."""
    square = np.einsum("jkp,klp,jlp->j", columns, sums, columns) / sums[0, 0].sum()
    scale = np.sqrt(np.where(square > 0, square, 1.0))
    return np.ascontiguousarray(columns / scale[:, None, None]), scale


def _groupings(design: Design, pattern_of_panel: np.ndarray) -> tuple[list[_Grouping], list[_Grouping]]:
    """Split the grouping factors into a chain of nested ones, the finest first, and those crossed with it."""
    groupings: list[_Grouping] = []
    for t, term in enumerate(design.terms):
        codes = np.unique(term.codes[pattern_of_panel], return_inverse=True)[1]
        for i, other in enumerate(groupings):
            if np.array_equal(other.codes, codes) or _same(other.codes, codes):
                groupings[i] = other._replace(members=(*other.members, t))
                break
        else:
            groupings.append(_Grouping((t,), codes, int(codes.max()) + 1))
    chain: list[_Grouping] = []
    crossed: list[_Grouping] = []
    for grouping in sorted(groupings, key=lambda g: -g.count):
        finer = chain[-1] if chain else None
        fits = finer is None or np.unique(np.stack([finer.codes, grouping.codes]), axis=1).shape[1] == finer.count
        (chain if fits else crossed).append(grouping)
    return chain, crossed


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    pairs = np.unique(np.stack([first, second]), axis=1).shape[1]
    return pairs == first.max() + 1 == second.max() + 1


def _tree(design: Design, pattern_of_panel, X, center, spread, sums):
    """Lay out the random columns; return the tree, the terms, the columns' scales and each term's columns."""
    chain, crossed = _groupings(design, pattern_of_panel)
    P, M = pattern_of_panel.size, X.shape[1]
    Z, level, border, columns = [], [], [], {}
    for depth, grouping in enumerate(chain):
        for t in grouping.members:
            columns[t] = len(Z) + np.arange(len(design.terms[t].effects))
            Z.extend(_term_columns(design.terms[t], pattern_of_panel, center, spread))
            level.extend([depth] * columns[t].size)
    place = 0
    for grouping in crossed:
        for t in grouping.members:
            q = len(design.terms[t].effects)
            columns[t] = len(Z) + np.arange(q)
            Z.extend(_term_columns(design.terms[t], pattern_of_panel, center, spread))
            border.extend(place + grouping.codes * q + e for e in range(q))
            place += grouping.count * q
    columns = tuple(columns[t] for t in range(len(design.terms)))
    Z, z_scale = _scaled(np.array(Z).reshape(len(Z), M, P), sums)
    lower = [np.tril_indices(c.size) for c in columns]
    counts = np.array([g.count for g in chain], dtype=np.int64)
    widest = int(counts.max(initial=1))
    up = np.zeros((len(chain), len(chain), widest), np.uint32)
    for a, finer in enumerate(chain):
        for b in range(a, len(chain)):
            up[a, b][finer.codes] = chain[b].codes
    tree = Tree(
        Z=Z,
        X=X,
        level=np.array(level, dtype=np.int64),
        node=np.array([g.codes for g in chain], dtype=np.uint32).reshape(len(chain), P),
        up=up,
        nodes=counts,
        border=np.array(border, dtype=np.uint32).reshape(len(border), P),
        crossed=place,
        rows=np.concatenate([c[i] for c, (i, _) in zip(columns, lower, strict=True)] or [np.zeros(0, np.int64)]),
        cols=np.concatenate([c[j] for c, (_, j) in zip(columns, lower, strict=True)] or [np.zeros(0, np.int64)]),
        ridge=np.zeros(X.shape[0]),
    )
    sizes = np.array([c.size for c in columns], dtype=np.int64)
    first = np.r_[0, np.cumsum(sizes * (sizes + 1) // 2)][: sizes.size].astype(np.int64)
    heads = np.array([c[0] for c in columns], dtype=np.int64)
    return tree, Terms(first, sizes, heads, np.ones(M), np.zeros(0), np.zeros(0)), z_scale, columns


def _term_columns(term, pattern_of_panel, center, spread) -> np.ndarray:
    return _coefficients(term.Z, term.basis, center, spread)[:, :, pattern_of_panel]


def _layout(design, kind, panel, functions, X, sums, number, family, method, likelihood) -> Layout:
    P = number.size
    size = np.exp(design.log_size)
    exposure, exposure_2 = (np.bincount(panel, size**k, P) for k in (1, 2))
    mean = sums[0] / number
    X_mean = np.ascontiguousarray(np.einsum("jkp,kp->jp", X, mean))
    X_row, row = np.unique(X_mean.round(ROUNDING), axis=1, return_inverse=True)
    cells = np.bincount(row.ravel(), number)
    whole = np.einsum("ikp,kmp,jmp->ij", X, sums, X)
    return Layout(
        family=FAMILIES[family],
        restricted=method == "reml",
        compressed=_node_map(design, kind, panel, P, family == "bernoulli", likelihood == "exact"),
        pattern=np.asarray(panel, dtype=np.int64),
        size=size,
        functions=np.ascontiguousarray(functions.T),
        X_mean=X_mean,
        X_within=(whole - (X_mean * number) @ X_mean.T) / number.sum(),
        row=row.ravel().astype(np.uint32),
        X_row=np.ascontiguousarray(X_row),
        most=cells - 0.5 if family == "bernoulli" else np.full(cells.size, np.inf),
        number=number,
        exposure=exposure,
        exposure_2=exposure_2,
        cross=np.ascontiguousarray(sums),
    )


def _node_map(design, kind, panel, P: int, binary: bool, exact: bool) -> NodeMap:
    """Place the nodes of the patterns; without patterns of cells the map is empty."""
    if kind != PATTERNS:
        empty, none = np.zeros((1, P)), np.zeros(0)
        cells = CellMap(np.zeros(0, np.uint32), np.zeros(0, np.int32), none, False)
        return NodeMap(cells, empty, empty, empty, np.zeros(P), np.zeros(P), np.zeros((1, 1)), binary)
    placed: Nodes = place_nodes(panel, design.log_size, P, exact)
    used = placed.log_size > -np.inf
    log_size = np.where(used, placed.log_size, 0.0)
    cells = CellMap(panel.astype(np.uint32), placed.slot, placed.x, bool((placed.slot < 0).any()))
    size = np.exp(log_size) * used
    transform = chebyshev_transform(size.shape[0])
    return NodeMap(cells, size, placed.weight, log_size, placed.center, placed.half, transform, binary)


def all_cells(design: Design, functions: np.ndarray, chosen: Cubature) -> Elements:
    """List the cells that stand for all, with their weights; ``functions`` (n, m) as they are in the model."""
    M, P = functions.shape[1] + 1, len(design.X)
    elements = _elements(chosen.index.size, M, P)
    elements.size[:] = np.exp(design.log_size[chosen.index])
    elements.weight[:] = chosen.weight
    columns, pair = [np.ones(chosen.index.size), *functions[chosen.index].T], _pairs(M)
    for k in range(M):
        for m in range(k + 1):
            elements.products[pair[k, m]] = columns[k] * columns[m]
    elements.start[1:] = np.cumsum(np.bincount(design.pattern[chosen.index], minlength=P))
    return elements


def _pairs(M: int) -> np.ndarray:
    """Return the row of each product c_k c_l, the M functions themselves first."""
    pair = np.zeros((M, M), dtype=np.int64)
    pair[:, 0] = pair[0, :] = np.arange(M)
    following = M
    for k in range(1, M):
        for m in range(1, k + 1):
            pair[k, m] = pair[m, k] = following
            following += 1
    return pair


def _elements(N: int, M: int, P: int) -> Elements:
    scratch = {name: np.zeros(N) for name in _SCRATCH}
    return Elements(np.zeros(N), np.zeros(N), np.zeros((M * (M + 1) // 2, N)), np.zeros(P + 1, np.int64), **scratch)
