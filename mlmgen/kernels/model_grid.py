"""The restricted likelihood of any model on a grid of its variances, gene by gene.

An axis is the variance of one random effect, its correlations held, or of a whole term, the proportions of its
covariance held. The other parameters stay where the fit has them. Variances are relative to the residual for a
gaussian response, columns scaled to root mean square 1.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmgen.kernels.families import copy
from mlmgen.kernels.grid import FALLS, FALLS_OF_MANY, STRETCHES, axis, stretch, value_on_axis
from mlmgen.kernels.joint import maximize, objective_value
from mlmgen.kernels.laplace import COARSE, FINE
from mlmgen.kernels.model_rows import gather_rows, start_model
from mlmgen.kernels.optimize import phi_of
from mlmgen.kernels.policy import inlined_kernel, inner_kernel, kernel
from mlmgen.kernels.search import set_parameters


class Axes(NamedTuple):
    """Up to three axes, the last fastest.

    shape : (3,) points of each, 1 where there is none; first : (3,) first theta of the axis' term; effect : (3,) row of
    the factor, -1 for the whole term; size : (3,) effects of the term; column : (3,) scaled column of the effect;
    replicates : (3,) degrees of freedom between the groups.
    """

    shape: np.ndarray
    first: np.ndarray
    effect: np.ndarray
    size: np.ndarray
    column: np.ndarray
    replicates: np.ndarray


@inner_kernel
def row_square(psi, first, row):
    """Return the variance of one effect: the sum of squares of its row of the factor."""
    start, total = first + row * (row + 1) // 2, 0.0
    for j in range(row + 1):
        total += psi[start + j] * psi[start + j]
    return total


@kernel
def stretch_factor(psi, first, low, high, variance):
    """Scale rows ``low`` to ``high`` of a factor so that the largest variance among them is ``variance``."""
    largest = 0.0
    for row in range(low, high):
        largest = max(largest, row_square(psi, first, row))
    for row in range(low, high):
        start = first + row * (row + 1) // 2
        if largest > 0.0:
            for j in range(row + 1):
                psi[start + j] *= math.sqrt(variance / largest)
        else:
            psi[start + row] = math.sqrt(variance)


@kernel
def place(axes, psi, box, k, out):
    """Write psi of grid point k."""
    copy(psi, out)
    for a in range(3):
        if axes.shape[a] == 1:
            continue
        step = 1
        for b in range(a + 1, 3):
            step *= axes.shape[b]
        variance = value_on_axis(box[a], axes.shape[a], (k // step) % axes.shape[a])
        e = axes.effect[a]
        low, high = (0, axes.size[a]) if e < 0 else (e, e + 1)
        stretch_factor(out, axes.first[a], low, high, variance)


@kernel
def reset(tree, wk):
    """Forget the effects of the groups."""
    wk.v[:] = 0.0
    for a in range(tree.crossed):
        wk.b[a] = 0.0


@kernel
def column_information(tree, wk, column):
    """Return the sum over the rows of weight times the square of an unscaled random column."""
    total = 0.0
    for k in range(wk.W.shape[0]):
        for m in range(wk.W.shape[0]):
            x, y, w = tree.Z[column, k], tree.Z[column, m], wk.W[k, m]
            for q in range(w.shape[0]):
                total += x[q] * y[q] * w[q]
    return total


@kernel
def model_axes(tree, wk, axes, groups, psi, box, floors):
    """Write the ends of the axes from the weights of the fit, as ``grid.axes``."""
    count = 0
    for a in range(3):
        count += 1 if axes.shape[a] > 1 else 0
    falls = FALLS if count == 1 else FALLS_OF_MANY
    for a in range(3):
        if axes.shape[a] == 1:
            continue
        e, estimate = axes.effect[a], 0.0
        for row in range(0 if e < 0 else e, axes.size[a] if e < 0 else e + 1):
            estimate = max(estimate, row_square(psi, axes.first[a], row))
        noise = groups[a] / max(column_information(tree, wk, axes.column[a]), 1e-300)
        floors[a] = axis(estimate, noise, axes.replicates[a], falls, box[a])


@inlined_kernel
def profile_model(tree, terms, rows, work, axes, psi, box, out):
    """Write the restricted log-likelihood at each point, visited so that each is a neighbour of the one before."""
    wk, search, T = work.wk, work.search, tree.rows.shape[0]
    fastest = axes.shape[2] if axes.shape[2] > 1 else axes.shape[1] if axes.shape[1] > 1 else axes.shape[0]
    tolerance = COARSE * (wk.v.shape[0] * wk.v.shape[1] + wk.b.shape[0])
    phi = phi_of(psi[T])
    for visit in range(out.shape[0]):
        row, column = visit // fastest, visit % fastest
        k = visit if row % 2 == 0 else row * fastest + fastest - 1 - column
        place(axes, psi, box, k, search.trial)
        set_parameters(tree, wk, search.trial, True)
        value = objective_value(tree, rows, wk, terms.reach, phi, True, tolerance)
        if not value > -1e300:
            reset(tree, wk)
            value = objective_value(tree, rows, wk, terms.reach, phi, True, tolerance)
        out[k] = value


@kernel
def profile_models(layout, terms, axes, groups, data, keep, first, last, ridge, psi, work, box, profile):
    """Fill axes (G, 3, 2) and profiles (G, K) of the genes ``first`` to ``last``, fits with psi (G, T + 1).

    data : (start, index, values) of the counts; groups : (3,) number of groups; ridge : (G, p) prior precisions.
    """
    start, index, values = data
    tree, wk, rows, search = work.tree, work.wk, work.rows, work.search
    T = tree.rows.shape[0]
    for g in range(first, last):
        if not keep[g]:
            continue
        a, b = start[g], start[g + 1]
        gather_rows(layout, rows, work, index[a:b], values[a:b])
        copy(ridge[g], tree.ridge)
        start_model(layout, tree, rows, work, search.psi)
        set_parameters(tree, wk, psi[g], True)
        if maximize(tree, rows, wk, terms.reach, phi_of(psi[g, T]), True, FINE) < 0:
            continue
        model_axes(tree, wk, axes, groups, psi[g], box[g], search.step)
        for attempt in range(STRETCHES + 1):
            profile_model(tree, terms, rows, work, axes, psi[g], box[g], profile[g])
            if attempt == STRETCHES or not stretch(box[g], axes.shape, search.step, profile[g]):
                break
