r"""The sparse factor of a multilevel model: any nesting of random effects, bordered by crossed and fixed effects.

    eta_c = x_c'beta + z_c'T v,    v ~ N(0, I)

The nested grouping factors form a tree (sample in donor in site). A cell's row touches the effects of
one node at each level, its path, and the border: crossed effects and, under REML, beta. Eliminating the
nodes level by level from the leaves fills nothing but the blocks of ancestors and the border, so that
H = Z~'WZ~ + I is factored at a cost linear in the number of nodes. Columns are numbered along the path in the order of
elimination: R tree columns (deepest level first), then the B columns of the border.

Rows enter by pattern: a row is sum_k c_k Z[:, k, p] with cell-level functions c (c_0 = 1), so that all the
algebra sees of the data are the sums W[k, m, p] = sum_c w_c c_k c_l. Arrays have the pattern or the node
last; inner loops run over it.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import backward, cholesky, forward
from mlmgen.kernels.families import copy, dot, total_of
from mlmgen.kernels.policy import kernel


class Tree(NamedTuple):
    """What all genes of a fit share.

    Attributes
    ----------
    Z : (R + C, M, P) random columns: tree columns, deepest level first, then the C columns of crossed terms.
    X : (p, M, P) fixed columns.
    level : (R,) level of a tree column, 0 the deepest; node : (L, P) the node of a pattern at each level.
    up : (L, L, N) node at level b that holds node n of level a, for a <= b; nodes : (L,) their numbers.
    border : (C, P) place in the border of a crossed column in each pattern; places 0 to ``crossed`` are theirs.
    rows, cols : (T,) parameter a adds psi_a Z[rows[a]] to the scaled column cols[a].
    ridge : (p,) prior precisions of beta.
    """

    Z: np.ndarray
    X: np.ndarray
    level: np.ndarray
    node: np.ndarray
    up: np.ndarray
    nodes: np.ndarray
    border: np.ndarray
    crossed: int
    rows: np.ndarray
    cols: np.ndarray
    ridge: np.ndarray


class TreeWork(NamedTuple):
    """Scratch of one thread.

    Zs : (R + C, M, P) scaled columns Z T; s : (M, P) coefficients of the linear predictor, d_s of its step.
    v, r_v, d_v : (R, N) tree effects, gradient and step; b, r_b, d_b : (crossed + p,) the border's.
    L : (R, R + B, N) factor; S : (B, B) factor of the border.
    G : (M, P) and W : (M, M, P) sums of score and weight; A : (M, R + B, P) solutions along the path.
    """

    Zs: np.ndarray
    s: np.ndarray
    d_s: np.ndarray
    v: np.ndarray
    r_v: np.ndarray
    d_v: np.ndarray
    b: np.ndarray
    r_b: np.ndarray
    d_b: np.ndarray
    L: np.ndarray
    S: np.ndarray
    G: np.ndarray
    W: np.ndarray
    A: np.ndarray
    WZ: np.ndarray
    product: np.ndarray
    zeta: np.ndarray


def tree_workspace(tree: Tree) -> TreeWork:
    """Allocate the scratch of one thread."""
    C, M, P = tree.Z.shape
    R, p = tree.level.size, tree.X.shape[0]
    B, N = tree.crossed + p, tree.up.shape[2]
    shapes = [(C, M, P), (M, P), (M, P), (R, N), (R, N), (R, N), B, B, B, (R, R + B, N), (B, B), (M, P), (M, M, P)]
    return TreeWork(*(np.zeros(shape) for shape in [*shapes, (M, R + B, P), (M, P), P, (M, P)]))


@kernel
def scale_columns(tree, wk, psi):
    """Write the scaled random columns for the entries psi of the relative covariance factors."""
    wk.Zs[:] = 0.0
    for a in range(tree.rows.shape[0]):
        value = psi[a]
        if value == 0.0:
            continue
        for k in range(wk.Zs.shape[1]):
            z, out = tree.Z[tree.rows[a], k], wk.Zs[tree.cols[a], k]
            for q in range(out.shape[0]):
                out[q] += value * z[q]


@kernel
def predict(tree, wk, v, b, out):
    """Write the coefficients (M, P) of the linear predictor for effects v and border b."""
    R, C, p = tree.level.shape[0], tree.border.shape[0], tree.X.shape[0]
    for k in range(out.shape[0]):
        eta = out[k]
        for q in range(eta.shape[0]):
            eta[q] = 0.0
        for j in range(R):
            z, x, node = wk.Zs[j, k], v[j], tree.node[tree.level[j]]
            for q in range(eta.shape[0]):
                eta[q] += z[q] * x[node[q]]
        for c in range(C):
            z, place = wk.Zs[R + c, k], tree.border[c]
            for q in range(eta.shape[0]):
                eta[q] += z[q] * b[place[q]]
        for f in range(p):
            x, value = tree.X[f, k], b[tree.crossed + f]
            for q in range(eta.shape[0]):
                eta[q] += value * x[q]


@kernel
def gather_effects(tree, wk, G, r_v, r_b, restricted):
    """Write Z~'G: the sums of a per-pattern (M, P) array over the columns of H (fixed ones if ``restricted``)."""
    R, C, p = tree.level.shape[0], tree.border.shape[0], tree.X.shape[0]
    for j in range(R):
        level = tree.level[j]
        out, node = r_v[j, : tree.nodes[level]], tree.node[level]
        for n in range(out.shape[0]):
            out[n] = 0.0
        for k in range(G.shape[0]):
            z, g = wk.Zs[j, k], G[k]
            for q in range(g.shape[0]):
                out[node[q]] += z[q] * g[q]
    for a in range(r_b.shape[0]):
        r_b[a] = 0.0
    for c in range(C):
        place = tree.border[c]
        for k in range(G.shape[0]):
            z, g = wk.Zs[R + c, k], G[k]
            for q in range(g.shape[0]):
                r_b[place[q]] += z[q] * g[q]
    if restricted:
        for f in range(p):
            for k in range(G.shape[0]):
                r_b[tree.crossed + f] += dot(tree.X[f, k], G[k])


@kernel
def _weigh(W, z, out):
    """Write W z, (M, P), for one column z (M, P)."""
    M, P = z.shape
    for k in range(M):
        target = out[k]
        for q in range(P):
            target[q] = 0.0
        for m in range(M):
            w, x = W[k, m], z[m]
            for q in range(P):
                target[q] += w[q] * x[q]


@kernel
def _inner(z, Wx, out):
    """Write sum_k z_k (Wx)_k for each pattern."""
    a, b = z[0], Wx[0]
    for q in range(out.shape[0]):
        out[q] = a[q] * b[q]
    for k in range(1, z.shape[0]):
        a, b = z[k], Wx[k]
        for q in range(out.shape[0]):
            out[q] += a[q] * b[q]


@kernel
def _scatter(x, place, out):
    for q in range(x.shape[0]):
        out[place[q]] += x[q]


@kernel
def _assemble_tree(tree, wk, restricted):
    """Add the cross products of every tree column with itself and what follows it to L."""
    R, C, p = tree.level.shape[0], tree.border.shape[0], tree.X.shape[0]
    for j in range(R):
        node = tree.node[tree.level[j]]
        N = tree.nodes[tree.level[j]]
        wk.L[j, j:, :N] = 0.0
        _weigh(wk.W, wk.Zs[j], wk.WZ)
        for i in range(j, R):
            _inner(wk.Zs[i], wk.WZ, wk.product)
            _scatter(wk.product, node, wk.L[j, i])
        for c in range(C):
            _inner(wk.Zs[R + c], wk.WZ, wk.product)
            place = tree.border[c]
            for q in range(wk.product.shape[0]):
                wk.L[j, R + place[q], node[q]] += wk.product[q]
        if restricted:
            for f in range(p):
                _inner(tree.X[f], wk.WZ, wk.product)
                _scatter(wk.product, node, wk.L[j, R + tree.crossed + f])


@kernel
def _assemble_border(tree, wk, restricted):
    """Fill the lower triangle of S with the cross products of the border, priors included."""
    R, C, p, first = tree.level.shape[0], tree.border.shape[0], tree.X.shape[0], tree.crossed
    wk.S[:] = 0.0
    for c in range(C):
        place = tree.border[c]
        _weigh(wk.W, wk.Zs[R + c], wk.WZ)
        for d in range(c + 1):
            other = tree.border[d]
            _inner(wk.Zs[R + d], wk.WZ, wk.product)
            for q in range(wk.product.shape[0]):
                wk.S[max(place[q], other[q]), min(place[q], other[q])] += wk.product[q]
        if restricted:
            for f in range(p):
                _inner(tree.X[f], wk.WZ, wk.product)
                _scatter(wk.product, place, wk.S[first + f])
    for a in range(first):
        wk.S[a, a] += 1.0
    if restricted:
        for f in range(p):
            _weigh(wk.W, tree.X[f], wk.WZ)
            for g in range(f + 1):
                _inner(tree.X[g], wk.WZ, wk.product)
                wk.S[first + f, first + g] = total_of(wk.product)
            wk.S[first + f, first + f] += tree.ridge[f]


@kernel
def _eliminate(tree, wk, j, B):
    """Eliminate tree column j: scale its column of the factor, update the tree columns after it."""
    R, level = tree.level.shape[0], tree.level[j]
    N = tree.nodes[level]
    column = wk.L[j]
    pivot = column[j, :N]
    for n in range(N):
        pivot[n] = math.sqrt(1.0 + pivot[n])
    for i in range(j + 1, R + B):
        row = column[i, :N]
        for n in range(N):
            row[n] /= pivot[n]
    for j2 in range(j + 1, R):
        first, target, up = column[j2, :N], wk.L[j2], tree.up[level, tree.level[j2]]
        if tree.level[j2] == level:
            for i in range(j2, R + B):
                row, out = column[i, :N], target[i, :N]
                for n in range(N):
                    out[n] -= first[n] * row[n]
        else:
            for i in range(j2, R + B):
                row, out = column[i, :N], target[i]
                for n in range(N):
                    out[up[n]] -= first[n] * row[n]


@kernel
def factor_tree(tree, wk, restricted):
    """Factor H at the weights ``wk.W``; return its log determinant, NaN where it is not positive definite."""
    R, B = tree.level.shape[0], tree.crossed + (tree.X.shape[0] if restricted else 0)
    _assemble_tree(tree, wk, restricted)
    _assemble_border(tree, wk, restricted)
    log_det = 0.0
    for j in range(R):
        _eliminate(tree, wk, j, B)
        N = tree.nodes[tree.level[j]]
        pivot = wk.L[j, j]
        for n in range(N):
            log_det += math.log(pivot[n])
        for a in range(B):
            for c in range(a + 1):
                wk.S[a, c] -= dot(wk.L[j, R + a, :N], wk.L[j, R + c, :N])
    return 2.0 * log_det + cholesky(wk.S[:B, :B])


@kernel
def solve_tree(tree, wk, restricted):
    """Solve H d = r with the current factor, (r_v, r_b) to (d_v, d_b)."""
    R, B = tree.level.shape[0], tree.crossed + (tree.X.shape[0] if restricted else 0)
    for j in range(R):
        N = tree.nodes[tree.level[j]]
        copy(wk.r_v[j, :N], wk.d_v[j])
    for a in range(wk.d_b.shape[0]):
        wk.d_b[a] = wk.r_b[a] if a < B else 0.0
    for j in range(R):
        level = tree.level[j]
        N = tree.nodes[level]
        y, pivot = wk.d_v[j, :N], wk.L[j, j]
        for n in range(N):
            y[n] /= pivot[n]
        for j2 in range(j + 1, R):
            row, out, up = wk.L[j, j2], wk.d_v[j2], tree.up[level, tree.level[j2]]
            for n in range(N):
                out[up[n]] -= row[n] * y[n]
        for a in range(B):
            wk.d_b[a] -= dot(wk.L[j, R + a, :N], y)
    forward(wk.S[:B, :B], wk.d_b[:B])
    backward(wk.S[:B, :B], wk.d_b[:B])
    for reverse in range(R):
        j = R - 1 - reverse
        level = tree.level[j]
        N = tree.nodes[level]
        y, pivot = wk.d_v[j, :N], wk.L[j, j]
        for j2 in range(j + 1, R):
            row, other, up = wk.L[j, j2], wk.d_v[j2], tree.up[level, tree.level[j2]]
            for n in range(N):
                y[n] -= row[n] * other[up[n]]
        for a in range(B):
            row, value = wk.L[j, R + a], wk.d_b[a]
            for n in range(N):
                y[n] -= row[n] * value
        for n in range(N):
            y[n] /= pivot[n]


@kernel
def start_paths(tree, wk, restricted):
    """Write the scaled rows of every pattern and function into ``wk.A``, columns along the path."""
    R, C, p, B = tree.level.shape[0], tree.border.shape[0], tree.X.shape[0], tree.crossed
    for k in range(wk.A.shape[0]):
        wk.A[k, R:] = 0.0
        for j in range(R):
            target, z = wk.A[k, j], wk.Zs[j, k]
            for q in range(z.shape[0]):
                target[q] = z[q]
        for c in range(C):
            place, z = tree.border[c], wk.Zs[R + c, k]
            for q in range(z.shape[0]):
                wk.A[k, R + place[q], q] += z[q]
        if restricted:
            for f in range(p):
                target, x = wk.A[k, R + B + f], tree.X[f, k]
                for q in range(x.shape[0]):
                    target[q] = x[q]


@kernel
def solve_path(level, node, wk, B, y):
    """Replace rows y (R + B, P), columns along their paths, by the path's part of H^-1 y.

    Forward substitution touches only the path and the border, and the path's part of the back substitution
    needs nothing else.
    """
    R = level.shape[0]
    P = y.shape[1]
    for j in range(R):
        own, place, column = y[j], node[level[j]], wk.L[j]
        pivot = column[j]
        for q in range(P):
            own[q] /= pivot[place[q]]
        for i in range(j + 1, R + B):
            row, out = column[i], y[i]
            for q in range(P):
                out[q] -= row[place[q]] * own[q]
    for a in range(B):
        out = y[R + a]
        for c in range(a):
            value, other = wk.S[a, c], y[R + c]
            for q in range(P):
                out[q] -= value * other[q]
        inverse = 1.0 / wk.S[a, a]
        for q in range(P):
            out[q] *= inverse
    for reverse in range(B):
        a = B - 1 - reverse
        out = y[R + a]
        for c in range(a + 1, B):
            value, other = wk.S[c, a], y[R + c]
            for q in range(P):
                out[q] -= value * other[q]
        inverse = 1.0 / wk.S[a, a]
        for q in range(P):
            out[q] *= inverse
    for reverse in range(R):
        j = R - 1 - reverse
        own, place, column = y[j], node[level[j]], wk.L[j]
        for i in range(j + 1, R + B):
            row, other = column[i], y[i]
            for q in range(P):
                own[q] -= row[place[q]] * other[q]
        pivot = column[j]
        for q in range(P):
            own[q] /= pivot[place[q]]
