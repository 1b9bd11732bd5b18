"""Given a fit: the effects of the groups, and the linear predictor of any row."""

from typing import NamedTuple

import numpy as np

from mlmgen.kernels.joint import maximize
from mlmgen.kernels.laplace import FINE
from mlmgen.kernels.model_rows import gather_rows
from mlmgen.kernels.optimize import phi_of, rho_of
from mlmgen.kernels.search import set_parameters
from mlmgen.kernels.tree import factor_tree, solve_path
from mlmgen.levels import Model, build_model, model_work
from mlmgen.multilevel import DISPERSION, RESIDUAL, component_names, responses
from mlmgen.status import Status
from mlmgen.types import Counts, Design, GeneFits
from mlmgen.variance_grid import lower_factors

# Prior standard deviation, in units of the scaled effect, that leaves a group's own data alone to speak.
UNPOOLED_SD = 100.0
# An unpooled effect beyond this runs off: its group has no counts.
RUNS_OFF = 15.0


class Modes(NamedTuple):
    """Effects of the groups of one random term. Natural logarithms for counts.

    Attributes
    ----------
    term : str
    effects, levels : tuple of str, q and N
    estimate, std_error : (G, N, q) shrunken: the conditional mode, and its error given coefficients and variances.
    unpooled, unpooled_se : (G, N, q) from the group's own rows, NaN where they do not determine it.
    """

    term: str
    effects: tuple[str, ...]
    levels: tuple[str, ...]
    estimate: np.ndarray
    std_error: np.ndarray
    unpooled: np.ndarray
    unpooled_se: np.ndarray


def modes(
    counts: Counts, design: Design, fits: GeneFits, family: str, likelihood: str = "compressed"
) -> tuple[Modes, ...]:
    """Return the effects of every group of every random term.

    Parameters
    ----------
    counts, design, family, likelihood
        As for ``fitting.fit_shard``.
    fits : GeneFits
        Of the same genes.
    """
    model, counts = build_model(design, family, "ml", likelihood=likelihood), responses(counts, design, family)
    work, G = _work(model, counts), len(counts.genes)
    out = [
        Modes(t.name, t.effects, _levels(t), *(np.full((G, len(_levels(t)), len(t.effects)), np.nan) for _ in range(4)))
        for t in design.terms
    ]
    for g in np.flatnonzero(np.isfinite(fits.loglik)):
        factors, rho, scale = parameters(design, model, fits, g, family)
        _load(model, counts, work, g)
        _settle(model, work, fits.beta[g], factors, rho)
        for t, found in enumerate(out):
            found.estimate[g], found.std_error[g] = _effects(model, work, t, factors[t], scale)
        for t, found in enumerate(out):
            alone = [UNPOOLED_SD * np.eye(len(T)) if i == t else T for i, T in enumerate(factors)]
            _settle(model, work, fits.beta[g], alone, rho)
            found.unpooled[g], found.unpooled_se[g] = _effects(model, work, t, alone[t], scale)
            if family != "gaussian":
                runs_off = np.abs(found.unpooled[g] * model.z_scale[model.columns[t]]) > RUNS_OFF
                found.unpooled[g][runs_off] = found.unpooled_se[g][runs_off] = np.nan
    return tuple(out)


def predict_rows(
    counts: Counts,
    design: Design,
    fits: GeneFits,
    family: str,
    likelihood: str,
    X: np.ndarray,
    Z: tuple[np.ndarray, ...],
    codes: tuple[np.ndarray, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear predictor of rows and its variance given the variances of the random effects, (G, r) each.

    Parameters
    ----------
    counts, design, fits, family, likelihood
        As for `modes`.
    X : (r, p) rows of the model matrix
    Z : one (q, r) per term, rows of the random effects
    codes : one (r,) per term
        Level of each row; -1 is a new group, whose effects are 0 with the term's covariance.
    """
    model, counts = build_model(design, family, "ml", likelihood=likelihood), responses(counts, design, family)
    work, G, r = _work(model, counts), len(counts.genes), len(X)
    eta, variance = np.full((G, r), np.nan), np.full((G, r), np.nan)
    place = [_positions(t, code) for t, code in zip(design.terms, codes, strict=True)]
    for g in np.flatnonzero(np.isfinite(fits.loglik)):
        factors, rho, scale = parameters(design, model, fits, g, family)
        _load(model, counts, work, g)
        _settle(model, work, fits.beta[g], factors, rho)
        # The prior that kept a separated gene's coefficients finite is part of what is known of them.
        work.tree.ridge[:] = model.ridge if fits.status[g] == Status.SEPARATED else 0.0
        y, node, new = _paths(model, work, X, Z, place, factors)
        eta[g] = X @ fits.beta[g] + _random_part(model, work, y, node, place)
        row = y.copy()
        factor_tree(work.tree, work.wk, True)
        solve_path(work.tree.level, node, work.wk, work.wk.S.shape[0], y)
        variance[g] = scale * ((row * y).sum(axis=0) + new)
    return eta, variance


def parameters(design: Design, model: Model, fits: GeneFits, g: int, family: str):
    """Return the factors T of every term in the kernels' units, rho, and the residual variance of one gene's fit."""
    values = dict(zip(fits.components, fits.variance[g], strict=True))
    scale = values[RESIDUAL] if family == "gaussian" else 1.0
    names, factors = iter(component_names(design, family)), []
    for t, term in enumerate(design.terms):
        q, z = len(term.effects), model.z_scale[model.columns[t]]
        sigma = np.diag([values[next(names)] for _ in range(q)])
        for i, j in zip(*np.tril_indices(q, -1), strict=True):
            sigma[i, j] = sigma[j, i] = values[next(names)]
        factors.append(lower_factors((sigma * np.outer(z, z) / scale)[None])[0])
    phi = {"nb": values.get(DISPERSION, 0.0), "bernoulli": 1.0}.get(family, 0.0)
    return factors, rho_of(phi), scale


def _work(model: Model, counts: Counts):
    return model_work(model, int(np.diff(counts.start).max(initial=0)))


def _load(model: Model, counts: Counts, work, g: int) -> None:
    span = slice(counts.start[g], counts.start[g + 1])
    gather_rows(model.layout, work.rows, work, counts.rows[span], counts.values[span])


def _settle(model: Model, work, beta, factors, rho: float) -> None:
    """Put the effects at their mode given coefficients and variances, and factor there."""
    psi = work.search.psi
    T = model.tree.rows.size
    for first, factor in zip(model.terms.first, factors, strict=True):
        q = len(factor)
        psi[first : first + q * (q + 1) // 2] = factor[np.tril_indices(q)]
    psi[T], psi[T + 1 :] = rho, beta * model.x_scale
    work.wk.v[:], work.wk.b[:] = 0.0, 0.0
    set_parameters(work.tree, work.wk, psi, False)
    maximize(work.tree, work.rows, work.wk, model.terms.reach, phi_of(rho), False, FINE)
    factor_tree(work.tree, work.wk, False)


def _effects(model: Model, work, t: int, T: np.ndarray, scale: float):
    """Return effects u = T v of a term and their standard errors, (N, q) each."""
    tree, wk, columns = work.tree, work.wk, model.columns[t]
    R, q = tree.level.size, columns.size
    if columns[0] < R:
        level = tree.level[columns[0]]
        N = tree.nodes[level]
        v = wk.v[columns, :N].T
        node = np.zeros((len(tree.nodes), N), np.uint32)
        node[level:] = tree.up[level, level:, :N]
        inverse = np.empty((N, q, q))
        for j, column in enumerate(columns):
            y = np.zeros((R + wk.S.shape[0], N))
            y[column] = 1.0
            solve_path(tree.level, node, wk, tree.crossed, y)
            inverse[:, :, j] = y[columns].T
    else:
        # Places of a crossed term run over its levels, its effects fastest.
        first = int(tree.border[columns[0] - R].min())
        N = (int(tree.border[columns[-1] - R].max()) + 1 - first) // q
        v = wk.b[first : first + N * q].reshape(N, q)
        L = np.tril(wk.S[: tree.crossed, : tree.crossed])
        whole = np.linalg.inv(L @ L.T)[first : first + N * q, first : first + N * q]
        inverse = np.stack([whole[n * q : (n + 1) * q, n * q : (n + 1) * q] for n in range(N)])
    z = model.z_scale[columns]
    square = np.einsum("ij,njk,ik->ni", T, inverse, T)
    return v @ T.T / z, np.sqrt(np.maximum(scale * square, 0.0)) / z


def _levels(term) -> tuple[str, ...]:
    """Return the levels that occur, in the order of the kernels' nodes."""
    return tuple(term.levels[code] for code in np.unique(term.codes))


def _positions(term, codes: np.ndarray) -> np.ndarray:
    """Return the node of each level, -1 for levels that do not occur."""
    present = np.unique(term.codes)
    at = np.searchsorted(present, codes)
    known = (at < present.size) & (codes >= 0)
    known[known] = present[at[known]] == codes[known]
    return np.where(known, at, -1)


def _paths(model: Model, work, X, Z, place, factors):
    """Return the rows' columns along their paths (R + B, r), the node of each level, and z'TT'z of new groups."""
    tree, r = work.tree, len(X)
    R, first = tree.level.size, tree.level.size + tree.crossed
    y = np.zeros((R + work.wk.S.shape[0], r))
    y[first:] = X.T / model.x_scale[:, None]
    node, new = np.zeros((len(tree.nodes), r), np.uint32), np.zeros(r)
    for t, (z, at) in enumerate(zip(Z, place, strict=True)):
        columns, known = model.columns[t], at >= 0
        scaled = factors[t].T @ (z / model.z_scale[columns][:, None])
        new += np.where(known, 0.0, (scaled**2).sum(axis=0))
        if columns[0] < R:
            y[columns] = np.where(known, scaled, 0.0)
            level = tree.level[columns[0]]
            for above in range(level, len(tree.nodes)):
                node[above] = np.where(known, tree.up[level, above, np.maximum(at, 0)], node[above])
        else:
            start = int(tree.border[columns[0] - R].min())
            for e, values in enumerate(scaled):
                y[R + start + at[known] * columns.size + e, np.flatnonzero(known)] = values[known]
    return y, node, new


def _random_part(model: Model, work, y, node, place) -> np.ndarray:
    """Return z'u of the known groups."""
    tree, wk = work.tree, work.wk
    R = tree.level.size
    total = y[R : R + tree.crossed].T @ wk.b[: tree.crossed]
    for j in range(R):
        total = total + y[j] * wk.v[j, node[tree.level[j]]]
    return total
