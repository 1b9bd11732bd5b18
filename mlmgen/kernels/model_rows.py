"""One gene's rows and starting values for any multilevel model."""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.arrowhead import backward, cholesky, forward
from mlmgen.kernels.families import copy
from mlmgen.kernels.gather import count_histogram, gather
from mlmgen.kernels.optimize import rho_of
from mlmgen.kernels.policy import kernel
from mlmgen.kernels.rows import PATTERNS, Rows
from mlmgen.kernels.search import Quest
from mlmgen.kernels.start import (
    FIRST_VARIANCE,
    HALF_COUNT,
    LARGEST_PHI,
    LARGEST_VARIANCE,
    SMALLEST_PHI,
    SMALLEST_VARIANCE,
)
from mlmgen.kernels.tree import Tree, TreeWork

NB, POISSON, BERNOULLI, NORMAL = 0, 1, 2, 3
# Variance ratio of random effects to residual where a gaussian fit starts.
GAUSSIAN_START = 0.5
# Residual variance that is added to a response of standard deviation 1: a perfect fit keeps a finite likelihood.
SMALLEST_RESIDUAL = 1e-12


class Layout(NamedTuple):
    """What all genes of a fit share beside the tree.

    Attributes
    ----------
    family : NB, POISSON, BERNOULLI or NORMAL; restricted : REML.
    compressed : nodes and the map of the rows to them, see ``compress.Compressed``; patterns in the tree's order.
    pattern : (n,) of each row; size : (n,) size factors; functions : (M - 1, n) cell-level functions.
    X_mean : (p, P) mean row of each pattern; X_within : (p, p) covariance of the rows within patterns.
    row : (P,) distinct mean row of each pattern; X_row, most : (p, U) and (U,) for ``start.separated``.
    number, exposure, exposure_2 : (P,) cells, sums of their size factors and of the squares.
    cross : (M, M, P) sums of c_k c_l (gaussian).
    """

    family: int
    restricted: bool
    compressed: NamedTuple
    pattern: np.ndarray
    size: np.ndarray
    functions: np.ndarray
    X_mean: np.ndarray
    X_within: np.ndarray
    row: np.ndarray
    X_row: np.ndarray
    most: np.ndarray
    number: np.ndarray
    exposure: np.ndarray
    exposure_2: np.ndarray
    cross: np.ndarray


class ModelWork(NamedTuple):
    """Scratch of one thread."""

    tree: Tree
    wk: TreeWork
    rows: Rows
    search: Quest
    moments: np.ndarray
    x: np.ndarray
    kept: np.ndarray
    beta: np.ndarray
    rates: np.ndarray
    slopes: np.ndarray
    shifts: np.ndarray
    small: np.ndarray
    used: np.ndarray
    by_row: np.ndarray


@kernel
def gather_rows(layout, rows, work, index, values):
    """Fill ``rows`` with one gene's nonzeros."""
    if layout.family == NORMAL:
        _gather_gaussian(layout, rows, index, values)
        return
    if rows.kind == PATTERNS:
        gather(index, values, layout.compressed.cells, layout.compressed, rows.gene, work.moments, work.x)
        copy(rows.gene.total, rows.total[0])
    else:
        _gather_cells(layout, rows, index, values)
    if layout.family == BERNOULLI:
        rows.gene.counts[:] = 0.0
        rows.own.weight[:] = 0.0


@kernel
def _gather_cells(layout, rows, index, values):
    """List the nonzeros by pattern with the products of their functions."""
    count_histogram(values, rows.gene)
    own, M = rows.own, rows.total.shape[0]
    rows.total[:] = 0.0
    P = own.start.shape[0] - 1
    own.start[:] = 0
    for c in range(index.shape[0]):
        row = index[c]
        p, y = layout.pattern[row], values[c]
        own.start[p + 1] += 1
        own.size[c] = layout.size[row]
        own.weight[c] = y
        rows.gene.numbers[2] += y * math.log(layout.size[row])
        own.products[0, c] = 1.0
        rows.total[0, p] += y
        for k in range(1, M):
            value = layout.functions[k - 1, row]
            own.products[k, c] = value
            rows.total[k, p] += y * value
    for p in range(P):
        own.start[p + 1] += own.start[p]
    for k in range(1, M):
        for m in range(1, k + 1):
            a, b, out = own.products[k], own.products[m], own.products[rows.pair[k, m]]
            for c in range(index.shape[0]):
                out[c] = a[c] * b[c]


@kernel
def _gather_gaussian(layout, rows, index, values):
    """Sum a gaussian response, centered in its patterns; rows that are not listed are 0."""
    moments, M = rows.moments, rows.total.shape[0]
    y, mean = moments.y, moments.mean
    y[:] = 0.0
    rows.total[:] = 0.0
    for c in range(index.shape[0]):
        row = index[c]
        p = layout.pattern[row]
        y[0, p] += values[c]
        rows.total[0, p] += 1.0
        for k in range(1, M):
            y[k, p] += values[c] * layout.functions[k - 1, row]
    cells, squares = 0.0, 0.0
    for p in range(mean.shape[0]):
        mean[p] = y[0, p] / layout.number[p]
        squares += (layout.number[p] - rows.total[0, p]) * mean[p] * mean[p]
        cells += layout.number[p]
        rows.total[0, p] = y[0, p]
        for k in range(M):
            y[k, p] -= mean[p] * layout.cross[0, k, p]
        y[0, p] = 0.0
    for c in range(index.shape[0]):
        residual = values[c] - mean[layout.pattern[index[c]]]
        squares += residual * residual
    moments.numbers[0] = squares + SMALLEST_RESIDUAL * cells
    moments.numbers[1] = cells


@kernel
def _start_rates(layout, rows, rates, weight):
    """Write smoothed rates on the link's scale and their regression weights, by pattern."""
    total, overall = rows.total[0], rows.total[0].sum() / max(layout.exposure.sum(), 1e-300)
    for q in range(rates.shape[0]):
        y = total[q] + HALF_COUNT
        if layout.family == NORMAL:
            rates[q] = rows.moments.mean[q]
            weight[q] = layout.number[q]
        elif layout.family == BERNOULLI:
            rest = max(layout.number[q] - total[q], 0.0) + HALF_COUNT
            rates[q] = math.log(y / rest) - math.log(layout.exposure[q] / layout.number[q])
            weight[q] = 1.0 / (1.0 / y + 1.0 / rest + FIRST_VARIANCE)
        else:
            rates[q] = math.log(y / (layout.exposure[q] + HALF_COUNT / overall))
            weight[q] = 1.0 / (1.0 / (overall * layout.exposure[q] + HALF_COUNT) + FIRST_VARIANCE)


@kernel
def _start_dispersion(layout, rows):
    """Return phi by the method of moments within patterns."""
    square, expected, total = 0.0, 0.0, 0.0
    gene = rows.gene
    J, n_large = int(gene.numbers[0]), int(gene.numbers[1])
    for j in range(J):
        square += gene.more[j] * (2.0 * j + 1.0)
    for i in range(n_large):
        square += gene.large[i] * gene.large[i] - J * J
    for q in range(layout.number.shape[0]):
        rate = rows.total[0, q] / layout.exposure[q]
        cross = 0.0
        if rows.kind == PATTERNS:
            for i in range(rows.size.shape[0]):
                cross += gene.counts[i, q] * rows.size[i, q]
        else:
            for i in range(rows.own.start[q], rows.own.start[q + 1]):
                cross += rows.own.weight[i] * rows.own.size[i]
        square += rate * rate * layout.exposure_2[q] - 2.0 * rate * cross
        expected += rate * rate * layout.exposure_2[q]
        total += rows.total[0, q]
    return min(max((square - total) / max(expected, 1e-300), SMALLEST_PHI), LARGEST_PHI)


@kernel
def start_model(layout, tree, rows, work, psi):
    """Start beta by weighted least squares of the patterns' rates, theta from the residual variance, rho by moments."""
    X, wk, T, first = layout.X_mean, work.wk, tree.rows.shape[0], tree.crossed
    p, P = X.shape
    rates, weight = work.rates[0], work.rates[1]
    _start_rates(layout, rows, rates, weight)
    A, beta, total = work.small, work.beta, weight.sum()
    for i in range(p):
        beta[i] = 0.0
        for j in range(i + 1):
            A[i, j] = 0.0
    for q in range(P):
        for i in range(p):
            wx = weight[q] * X[i, q]
            beta[i] += wx * rates[q]
            for j in range(i + 1):
                A[i, j] += wx * X[j, q]
    for i in range(p):
        # Rates tell nothing of what varies within patterns: without its variance there, a covariate whose
        # means are alike in all patterns would start at noise.
        for j in range(i + 1):
            A[i, j] += total * layout.X_within[i, j]
        A[i, i] = A[i, i] * (1.0 + 1e-10) + tree.ridge[i] + 1e-12
    if cholesky(A) > -1e300:
        forward(A, beta)
        backward(A, beta)
    else:
        beta[:] = 0.0
    between = 0.0
    for q in range(P):
        residual = rates[q]
        for i in range(p):
            residual -= beta[i] * X[i, q]
        noise = 0.0 if layout.family == NORMAL else 1.0 / (rows.total[0, q] + HALF_COUNT)
        between += weight[q] * (residual * residual - noise)
    variance = min(max(between / total, SMALLEST_VARIANCE), LARGEST_VARIANCE)
    if layout.family == NORMAL:
        variance = GAUSSIAN_START
    for a in range(T):
        psi[a] = math.sqrt(variance) if tree.rows[a] == tree.cols[a] else 0.0
    psi[T] = 0.0
    if layout.family == NB:
        psi[T] = rho_of(_start_dispersion(layout, rows))
    elif layout.family == BERNOULLI:
        psi[T] = rho_of(1.0)
    wk.v[:] = 0.0
    wk.b[:] = 0.0
    for f in range(p):
        wk.b[first + f] = beta[f]
        psi[T + 1 + f] = beta[f]
