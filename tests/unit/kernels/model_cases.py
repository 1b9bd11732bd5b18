"""One gene in the multilevel kernels' arrays, and the same model as dense matrices with one row per cell."""

from typing import NamedTuple

import numpy as np

from mlmgen import multilevel as engine
from mlmgen.kernels.model_rows import gather_rows
from mlmgen.kernels.optimize import rho_of
from mlmgen.kernels.search import set_parameters
from mlmgen.kernels.tree import factor_tree
from mlmgen.levels import Model, build_model, model_work
from mlmgen.types import Counts, Design
from tests.reference import multilevel
from tests.unit import structures

# Dispersion of nb and residual variance of gaussian at which kernels are compared; what the others carry.
PHI = {"nb": 0.4, "gaussian": 0.5, "poisson": 0.0, "bernoulli": 1.0}


class ModelCase(NamedTuple):
    """A gathered gene with a thread's scratch, and its rows as the twin takes them."""

    design: Design
    counts: Counts
    model: Model
    work: object
    rows: multilevel.Rows
    family: str
    method: str

    @property
    def restricted(self) -> bool:
        return self.method == "reml"


def model_case(name, family="nb", method="reml", likelihood="exact", integration="laplace", nodes=9, **sizes):
    """Gather the first gene of an example of a structure."""
    design, counts = structures.example(name, family, **sizes)
    return gathered(design, counts, family, method, likelihood, integration, nodes)


def gathered(design, counts, family="nb", method="reml", likelihood="exact", integration="laplace", nodes=9, g=0):
    """Gather one gene."""
    model = build_model(design, family, method, integration, nodes, likelihood)
    taken = engine.responses(counts, design, family)
    work = model_work(model, int(np.diff(taken.start).max(initial=0)))
    a, b = taken.start[g], taken.start[g + 1]
    gather_rows(model.layout, work.rows, work, taken.rows[a:b], taken.values[a:b])
    return ModelCase(design, counts, model, work, multilevel.expand(design, counts, g, family), family, method)


def factors(case: ModelCase, seed: int = 3, scale: float = 0.4) -> list[np.ndarray]:
    """Draw a lower-triangular T for each term, in the units of the data."""
    rng = np.random.default_rng(seed)
    drawn = []
    for term in case.design.terms:
        T = np.tril(rng.normal(0.0, scale, (len(term.effects),) * 2))
        T[np.diag_indices(len(T))] = np.abs(np.diagonal(T)) + 0.1
        drawn.append(T)
    return drawn


def coefficients(case: ModelCase, seed: int = 4) -> np.ndarray:
    """Draw beta in the units of the data."""
    beta = np.random.default_rng(seed).normal(0.0, 0.3, case.design.X.shape[1])
    return beta * np.where(case.design.basis > 0, 0.3, 1.0)


def parameters(case: ModelCase, factors, phi: float, beta) -> np.ndarray:
    """Return psi, what the kernels search over, for factors, phi and beta in the units of the data."""
    model, T = case.model, case.model.tree.rows.size
    psi = np.zeros(T + 1 + len(beta))
    unit = np.sqrt(phi) if case.family == "gaussian" else 1.0
    for own, columns, first in zip(factors, model.columns, model.terms.first, strict=True):
        lower = (model.z_scale[columns][:, None] * own / unit)[np.tril_indices(len(own))]
        psi[first : first + lower.size] = lower
    psi[T] = 0.0 if case.family == "gaussian" else rho_of(phi)
    psi[T + 1 :] = beta * model.x_scale
    return psi


def start(case: ModelCase, psi, restricted: bool | None = None) -> None:
    """Put the parameters into the scratch, with all effects zero."""
    case.work.wk.v[:] = 0.0
    case.work.wk.b[:] = 0.0
    set_parameters(case.work.tree, case.work.wk, psi, case.restricted if restricted is None else restricted)


def functions(case: ModelCase) -> np.ndarray:
    """Return the kernels' cell-level functions, the constant first, (n, M)."""
    return np.column_stack([np.ones(len(case.rows.y)), case.model.layout.functions.T])


class Dense(NamedTuple):
    """Columns of H with one row per cell (n, columns), their prior precisions, and their names.

    A column is named (j, node) in the tree, -1 - place in the border.
    """

    columns: np.ndarray
    prior: np.ndarray
    names: list


def dense(case: ModelCase, psi, restricted: bool) -> Dense:
    """Build the scaled columns from the design, in the kernels' units; crossed effects and beta come last."""
    tree, model = case.model.tree, case.model
    made, names = {}, {}
    R = tree.level.size
    for t, term in enumerate(case.design.terms):
        q, first = len(term.effects), model.terms.first[t]
        T = np.zeros((q, q))
        T[np.tril_indices(q)] = psi[first : first + q * (q + 1) // 2]
        for group, own in enumerate(case.rows.terms[t]):
            scaled = case.rows.Z[:, own] / model.z_scale[model.columns[t]] @ T
            pattern = int(np.flatnonzero(term.codes == group)[0])
            panel = int(model.layout.pattern[np.flatnonzero(case.design.pattern == pattern)[0]])
            for e, column in enumerate(model.columns[t]):
                if column < R:
                    name = (int(column), int(tree.node[tree.level[column], panel]))
                else:
                    name = -1 - int(tree.border[column - R, panel])
                made[name] = scaled[:, e]
    if restricted:
        made |= {-1 - tree.crossed - f: x for f, x in enumerate((case.rows.X / model.x_scale).T)}
    names = sorted(made, key=lambda name: (1, -name) if isinstance(name, int) else (0, *name))
    fixed = [isinstance(name, int) and -1 - name >= tree.crossed for name in names]
    prior = np.where(fixed, 0.0, 1.0)
    columns = np.column_stack([made[name] for name in names]) if names else np.empty((len(case.rows.y), 0))
    return Dense(columns, prior, names)


def write(names, values, v, b) -> None:
    """Put a dense vector into the kernels' (v, b)."""
    v[:] = 0.0
    b[:] = 0.0
    for name, value in zip(names, values, strict=True):
        if isinstance(name, int):
            b[-1 - name] = value
        else:
            v[name] = value


def read(names, v, b) -> np.ndarray:
    """Return the kernels' (v, b) as a dense vector."""
    return np.array([b[-1 - name] if isinstance(name, int) else v[name] for name in names])


def sums_by_pattern(case: ModelCase, weight: np.ndarray) -> np.ndarray:
    """Return the sums over cells of weight c_k c_l, (M, M, P)."""
    c, tree = functions(case), case.model.tree
    out = np.zeros((c.shape[1], c.shape[1], tree.X.shape[2]))
    for k in range(c.shape[1]):
        for m in range(c.shape[1]):
            out[k, m] = np.bincount(case.model.layout.pattern, weight * c[:, k] * c[:, m], out.shape[2])
    return out


def factored(name, restricted: bool, seed: int = 7):
    """Factor H of a structure at random weights of the cells; return the case, the dense columns and H."""
    case = model_case(name, method="reml" if restricted else "ml")
    psi = parameters(case, factors(case), 0.4, coefficients(case))
    start(case, psi)
    weight = np.random.default_rng(seed).uniform(0.01, 3.0, len(case.rows.y))
    case.work.wk.W[:] = sums_by_pattern(case, weight)
    log_det = factor_tree(case.work.tree, case.work.wk, restricted)
    made = dense(case, psi, restricted)
    H = made.columns.T @ (weight[:, None] * made.columns) + np.diag(made.prior)
    return case, made, H, log_det
