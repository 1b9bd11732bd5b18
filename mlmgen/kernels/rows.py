r"""What a gene's rows contribute: sums of score, weight and derivatives over the cells of each pattern.

The linear predictor of cell c in pattern p is sum_k s[k, p] c_k with cell-level functions c (c_0 = 1). Three
layouts of the rows give the same sums G[k, p] = sum g c_k and W[k, m, p] = sum w c_k c_l:

* patterns: no cell-level functions; a few nodes a pattern stand for all cells (``families``);
* cells: a weighted subset of the cells stands for all of them, the gene's nonzeros enter one by one;
* gaussian: sufficient statistics, responses centered within patterns.

bernoulli (logit of a count above zero) is the negative binomial kernel at phi = 1 without counts on the nodes.
"""

from typing import NamedTuple

import numpy as np

from mlmgen.kernels.elementary import exp, log1p_with_reciprocal
from mlmgen.kernels.families import (
    SMALL,
    Gene,
    Sums,
    all_derivatives,
    copy,
    dot,
    histogram,
    likelihood_and_weight,
    score_and_weight,
    total_of,
)
from mlmgen.kernels.policy import kernel

PATTERNS, CELLS, GAUSSIAN = 0, 1, 2


class Elements(NamedTuple):
    """Cells sorted by pattern.

    size, weight : (N,) size factor, and number of cells or count; products : (M (M + 1) / 2, N) c_k c_l, of which
    the first M are the functions themselves; start : (P + 1,) first element of each pattern;
    s, w, dw, w_phi, g_phi : (N,) scratch.
    """

    size: np.ndarray
    weight: np.ndarray
    products: np.ndarray
    start: np.ndarray
    s: np.ndarray
    w: np.ndarray
    dw: np.ndarray
    w_phi: np.ndarray
    g_phi: np.ndarray


class Moments(NamedTuple):
    """Sufficient statistics of a gaussian response.

    cross : (M, M, P) sums of c_k c_l; y : (M, P) sums of (y - mean) c_k; mean : (P,) mean response of the pattern;
    numbers : (2,) sum of (y - mean)^2 within patterns, number of cells.
    """

    cross: np.ndarray
    y: np.ndarray
    mean: np.ndarray
    numbers: np.ndarray


class Rows(NamedTuple):
    """One gene's data. ``kind`` says which of the layouts is filled; pair : (M, M) row of ``products`` for (k, m).

    sums.g and sums.w are views of the callers' G[0] and W[0, 0]; total : (M, P) sums of y c_k;
    g_phi : (M, P) derivative of G by phi.
    """

    kind: int
    size: np.ndarray
    cells: np.ndarray
    gene: Gene
    sums: Sums
    all: Elements
    own: Elements
    pair: np.ndarray
    total: np.ndarray
    moments: Moments
    g_phi: np.ndarray
    leverage: np.ndarray


@kernel
def evaluate(rows, phi, s, G, W):
    """Fill the sums of score G and weight W at the coefficients s of the linear predictor."""
    if rows.kind == PATTERNS:
        _eta(rows, s)
        score_and_weight(rows.size, rows.cells, rows.gene, phi, rows.sums)
    elif rows.kind == CELLS:
        _begin(rows, G, W)
        _cells_weights(rows.all, 1.0, phi, s, rows.pair, G, W)
        _cells_weights(rows.own, phi, phi, s, rows.pair, G, W)
    else:
        _gaussian(rows.moments, s, G, W)


@kernel
def log_likelihood(rows, phi, s, G, W):
    """Return the log-likelihood with all constants and fill W (of counts; a gaussian one is profiled)."""
    if rows.kind == PATTERNS:
        _eta(rows, s)
        return likelihood_and_weight(rows.size, rows.cells, rows.gene, phi, rows.sums)
    value, _ = differentiate(rows, phi, s, G, W)
    return value


@kernel
def differentiate(rows, phi, s, G, W):
    """Fill G, W, ``g_phi`` and what ``leverage_sums`` needs; return the log-likelihood and its derivative by phi.

    For a gaussian response the first value is minus the residual sum of squares.
    """
    if rows.kind == PATTERNS:
        _eta(rows, s)
        value, slope = all_derivatives(rows.size, rows.cells, rows.gene, phi, rows.sums)
        copy(rows.sums.g_phi, rows.g_phi[0])
        return value, slope
    if rows.kind == CELLS:
        _begin(rows, G, W)
        rows.g_phi[:] = 0.0
        value, slope = histogram(rows.gene, phi)
        for k in range(s.shape[0]):
            value += dot(rows.total[k], s[k])
        v1, d1 = _cells_derivatives(rows.all, 1.0, 0.0, phi, s, rows.pair, G, W, rows.g_phi)
        v2, d2 = _cells_derivatives(rows.own, 0.0, 1.0, phi, s, rows.pair, G, W, rows.g_phi)
        return value + rows.gene.numbers[2] + v1 + v2, slope + d1 + d2
    return -_gaussian(rows.moments, s, G, W), 0.0


@kernel
def leverage_sums(rows, kappa):
    """Write kappa[k] = sum h dw/deta c_k / 2 and return sum h dw/dphi, h = c'Qc with Q = ``rows.leverage``."""
    if rows.kind == GAUSSIAN:
        kappa[:] = 0.0
        return 0.0
    if rows.kind == PATTERNS:
        q, dw, out = rows.leverage[0], rows.sums.dw, kappa[0]
        for p in range(out.shape[0]):
            out[p] = 0.5 * q[p] * dw[p]
        return dot(q, rows.sums.w_phi)
    kappa[:] = 0.0
    return _cells_leverage(rows.all, rows.leverage, kappa) + _cells_leverage(rows.own, rows.leverage, kappa)


@kernel
def _eta(rows, s):
    copy(s[0], rows.sums.eta)


@kernel
def _begin(rows, G, W):
    W[:] = 0.0
    for k in range(G.shape[0]):
        own, total = G[k], rows.total[k]
        for q in range(own.shape[0]):
            own[q] = total[q]


@kernel
def _linear(products, s, p, a, b, out):
    """Write the linear predictor of the elements a to b of pattern p into ``out``."""
    first = s[0, p]
    for i in range(out.shape[0]):
        out[i] = first
    for k in range(1, s.shape[0]):
        c, slope = products[k, a:b], s[k, p]
        for i in range(out.shape[0]):
            out[i] += slope * c[i]


@kernel
def _cells_weights(e, scale, phi, s, pair, G, W):
    """Subtract every element's c mu r from the scores G and add its weight c mu r^2 to W, c = scale weight."""
    for p in range(e.start.shape[0] - 1):
        a, b = e.start[p], e.start[p + 1]
        if a == b:
            continue
        g, w, size, weight = e.s[a:b], e.w[a:b], e.size[a:b], e.weight[a:b]
        _linear(e.products, s, p, a, b, w)
        for i in range(g.shape[0]):
            mu = exp(w[i]) * size[i]
            r = 1.0 / (1.0 + phi * mu)
            part = scale * weight[i] * mu * r
            g[i] = part
            w[i] = part * r
        _pattern_sums(e, p, pair, G, W)


@kernel
def _pattern_sums(e, p, pair, G, W):
    """Subtract the scores of one pattern's elements from G and add their weights to W."""
    a, b = e.start[p], e.start[p + 1]
    g, w = e.s[a:b], e.w[a:b]
    G[0, p] -= total_of(g)
    W[0, 0, p] += total_of(w)
    for k in range(1, G.shape[0]):
        G[k, p] -= dot(g, e.products[k, a:b])
        for m in range(k + 1):
            value = dot(w, e.products[pair[k, m], a:b])
            W[k, m, p] += value
            if m < k:
                W[m, k, p] += value


@kernel
def _cells_derivatives(e, is_all, is_own, phi, s, pair, G, W, out_phi):
    """Add to G, W and dG/dphi, write dw/deta and dw/dphi; return the elements' value and its derivative by phi.

    Each loop writes one array: with more, the compiler would have to prove too many pairs distinct to vectorize.
    """
    poisson = 1.0 if phi == 0.0 else 0.0
    inverse = 0.0 if phi == 0.0 else 1.0 / phi
    inverse_2 = inverse * inverse
    value, slope = 0.0, 0.0
    for p in range(e.start.shape[0] - 1):
        a, b = e.start[p], e.start[p + 1]
        if a == b:
            continue
        mu, w, r, log1p_x, w_phi = e.s[a:b], e.w[a:b], e.dw[a:b], e.g_phi[a:b], e.w_phi[a:b]
        size, weight = e.size[a:b], e.weight[a:b]
        _linear(e.products, s, p, a, b, w)
        for i in range(w.shape[0]):
            mu[i] = exp(w[i]) * size[i]
        for i in range(w.shape[0]):
            r[i] = 1.0 / (1.0 + phi * mu[i])
        for i in range(w.shape[0]):
            log1p_x[i] = log1p_with_reciprocal(phi * mu[i], r[i])
        both = is_own * phi + is_all
        value -= both * (inverse * dot(weight, log1p_x) + poisson * dot(weight, mu))
        for i in range(w.shape[0]):
            x = phi * mu[i]
            curve = (log1p_x[i] - x * r[i]) * inverse_2
            series = mu[i] * mu[i] * (0.5 - x * (2.0 / 3.0 - x * (0.75 - 0.8 * x)))
            w_phi[i] = is_all * (series if x < SMALL else curve) - is_own * mu[i] * r[i]
        slope += dot(weight, w_phi)
        g_phi, part, dw = log1p_x, mu, r
        for i in range(w.shape[0]):
            w_phi[i] = is_own * (2.0 * r[i] - 1.0) - 2.0 * is_all * mu[i] * r[i]
        for i in range(w.shape[0]):
            w[i] = weight[i] * mu[i] * r[i] * r[i]
        for i in range(w.shape[0]):
            w_phi[i] *= w[i]
        for i in range(w.shape[0]):
            g_phi[i] = w[i] * (is_all * mu[i] - is_own)
        for i in range(w.shape[0]):
            part[i] = both * weight[i] * mu[i] * r[i]
        for i in range(w.shape[0]):
            w[i] *= both
        for i in range(w.shape[0]):
            dw[i] = w[i] * (2.0 * r[i] - 1.0)
        _pattern_sums(e, p, pair, G, W)
        out_phi[0, p] += total_of(g_phi)
        for k in range(1, out_phi.shape[0]):
            out_phi[k, p] += dot(g_phi, e.products[k, a:b])
    return value, slope


@kernel
def _cells_leverage(e, leverage, kappa):
    """Add the elements' part of ``leverage_sums``; leverage : (pairs, P), off-diagonal pairs doubled."""
    trace = 0.0
    for p in range(e.start.shape[0] - 1):
        a, b = e.start[p], e.start[p + 1]
        if a == b:
            continue
        h, dw = e.s[a:b], e.dw[a:b]
        first = leverage[0, p]
        for i in range(h.shape[0]):
            h[i] = first
        for m in range(1, leverage.shape[0]):
            c, value = e.products[m, a:b], leverage[m, p]
            for i in range(h.shape[0]):
                h[i] += value * c[i]
        trace += dot(h, e.w_phi[a:b])
        for i in range(h.shape[0]):
            h[i] *= 0.5 * dw[i]
        kappa[0, p] += total_of(h)
        for k in range(1, kappa.shape[0]):
            kappa[k, p] += dot(h, e.products[k, a:b])
    return trace


@kernel
def _gaussian(moments, s, G, W):
    """Fill G and W for unit residual variance; return the residual sum of squares."""
    squares = moments.numbers[0]
    for k in range(G.shape[0]):
        g, y = G[k], moments.y[k]
        for q in range(g.shape[0]):
            g[q] = y[q]
        for m in range(G.shape[0]):
            cross, w, own = moments.cross[k, m], W[k, m], s[m]
            for q in range(g.shape[0]):
                w[q] = cross[q]
                g[q] -= cross[q] * (own[q] - moments.mean[q] if m == 0 else own[q])
        own = s[k]
        for q in range(g.shape[0]):
            squares -= (own[q] - moments.mean[q] if k == 0 else own[q]) * (y[q] + g[q])
    return squares
