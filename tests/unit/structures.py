"""Small designs of every random structure, built by hand, with counts drawn from them."""

from typing import NamedTuple

import numpy as np
from scipy import special

from mlmgen.types import Counts, Design, Groups, RandomTerm
from tests.reference import designs

INTERCEPT = "(Intercept)"
STIM = "condition[T.stim]"


class Term(NamedTuple):
    """A random term with one entry a cell: labels (n,), names of q effects, Z (n, q), function of each effect."""

    name: str
    labels: np.ndarray
    effects: tuple[str, ...]
    Z: np.ndarray
    basis: tuple[int, ...]


class Layout(NamedTuple):
    """Cells of donors in sites, under two conditions, run in three batches that cross the donors."""

    site: np.ndarray
    donor: np.ndarray
    condition: np.ndarray
    batch: np.ndarray
    functions: np.ndarray
    log_size: np.ndarray


def label(*columns) -> np.ndarray:
    """Join labels as in ``donor:condition``."""
    return np.array([":".join(map(str, row)) for row in zip(*columns, strict=True)])


def layout(rng, donors: int = 6, cells: int = 12, batches: int = 3) -> Layout:
    """Draw cells; every donor has some of both conditions and of at least one batch."""
    donor = np.repeat(np.arange(donors), cells)
    keep = rng.uniform(size=donor.size) > 0.15
    keep[::cells] = keep[1::cells] = True
    condition, batch = rng.integers(0, 2, donor.size), rng.integers(0, batches, donor.size)
    condition[::cells], condition[1::cells] = 0, 1
    functions = np.column_stack([rng.gamma(4.0, 1.5, donor.size), rng.normal(0.5, 1.0, donor.size)])
    columns = [donor // 2, donor, condition, batch, functions, rng.normal(0.0, 0.4, donor.size)]
    return Layout(*(column[keep] for column in columns))


def build(
    donor, X, coefficients, terms, log_size, functions=None, basis=None, offset=None
) -> tuple[Design, np.ndarray]:
    """Build a design from columns with one entry a cell; return it and the order of its rows."""
    n = len(donor)
    X = np.asarray(X, dtype=float)
    p = X.shape[1]
    functions = np.empty((n, 0)) if functions is None else functions
    codes = [np.unique(labels, return_inverse=True) for labels in (donor, *(term.labels for term in terms))]
    table = np.column_stack([codes[0][1], X, *(c for _, c in codes[1:]), *(term.Z for term in terms)])
    patterns, pattern = np.unique(table, axis=0, return_inverse=True)
    order = np.argsort(pattern.ravel(), kind="stable")
    first = 1 + p + len(terms)
    made = []
    for t, term in enumerate(terms):
        levels, q = tuple(map(str, codes[1 + t][0])), len(term.effects)
        Z = np.ascontiguousarray(patterns[:, first : first + q].T)
        own = patterns[:, 1 + p + t].astype(np.int32)
        made.append(RandomTerm(term.name, levels, own, term.effects, Z, np.array(term.basis, dtype=np.int32)))
        first += q
    groups = Groups("donor", tuple(map(str, codes[0][0])), patterns[:, 0].astype(np.int32))
    return Design(
        formula="",
        coefficients=tuple(coefficients),
        X=np.ascontiguousarray(patterns[:, 1 : 1 + p]),
        basis=np.zeros(p, np.int32) if basis is None else np.array(basis, dtype=np.int32),
        functions=np.ascontiguousarray(functions[order]),
        function_names=tuple(f"f{k}" for k in range(functions.shape[1])),
        terms=tuple(made),
        donor=groups,
        sample=groups,
        pattern=pattern.ravel()[order].astype(np.int32),
        log_size=np.asarray(log_size, dtype=float)[order],
        offset=np.zeros(n) if offset is None else np.asarray(offset, dtype=float)[order],
        means={},
        within=(),
    ), order


def intercept(name, labels) -> Term:
    """A random intercept."""
    return Term(name, labels, (INTERCEPT,), np.ones((len(labels), 1)), (0,))


def slope(name, labels, x, effect=STIM, basis=0) -> Term:
    """A random intercept and slope; ``x`` is a coefficient of function ``basis``."""
    return Term(name, labels, (INTERCEPT, effect), np.column_stack([np.ones(len(labels)), x]), (0, basis))


def terms_of(name: str, cells: Layout) -> list[Term]:
    """Return the random terms of a structure by its name in ``STRUCTURES``."""
    site, donor, condition, batch = cells.site, cells.donor, cells.condition, cells.batch
    sample, one = label(donor, condition), np.ones(len(donor))
    alone = Term("donor", donor, (STIM,), condition[:, None].astype(float), (0,))
    return {
        "none": [],
        "intercept": [intercept("donor", donor)],
        "nested": [intercept("donor", donor), intercept("donor:condition", sample)],
        "three levels": [intercept("donor:condition", sample), intercept("site", site), intercept("donor", donor)],
        "slope": [slope("donor", donor, condition)],
        "slopes at two levels": [slope("site", site, condition), slope("site:donor", donor, condition)],
        "two terms on one level": [intercept("donor", donor), alone],
        "crossed": [intercept("donor", donor), intercept("batch", batch)],
        "crossed slope": [intercept("donor", donor), slope("batch", batch, condition)],
        "functions": [slope("donor", donor, one, "f0", 1)],
        "functions, nested": [intercept("donor", donor), slope("donor:condition", sample, one, "f1", 2)],
        "functions, crossed": [slope("batch", batch, one, "f0", 1), intercept("donor", donor)],
    }[name]


STRUCTURES = (
    "none", "intercept", "nested", "three levels", "slope", "slopes at two levels", "two terms on one level",
    "crossed", "crossed slope", "functions", "functions, nested", "functions, crossed",
)  # fmt: skip


def design_of(name: str, seed: int = 1, **sizes) -> Design:
    """Return the design of a structure; those with functions have both as coefficients, and one interaction."""
    cells = layout(np.random.default_rng(seed), **sizes)
    X, coefficients = np.column_stack([np.ones(len(cells.donor)), cells.condition]), [INTERCEPT, STIM]
    if not name.startswith("functions"):
        return build(cells.donor, X, coefficients, terms_of(name, cells), cells.log_size)[0]
    X = np.column_stack([X, np.ones((len(X), 2)), cells.condition])
    coefficients += ["f0", "f1", f"{STIM}:f1"]
    terms, basis = terms_of(name, cells), (0, 0, 1, 2, 2)
    return build(cells.donor, X, coefficients, terms, cells.log_size, cells.functions, basis)[0]


def responses(design: Design, family: str, genes: int = 1, seed: int = 2, level: float = 0.6, sd: float = 0.5):
    """Draw a dense (n, genes) response: every random effect with the same standard deviation of its part of eta."""
    rng = np.random.default_rng(seed)
    n = len(design.pattern)
    functions = np.column_stack([np.ones(n), design.functions])
    functions[:, 1:] = (functions[:, 1:] - functions[:, 1:].mean(axis=0)) / functions[:, 1:].std(axis=0)
    eta = np.full((n, genes), level)
    for f in range(1, len(design.coefficients)):
        eta += 0.3 * (design.X[design.pattern, f] * functions[:, design.basis[f]])[:, None]
    for term in design.terms:
        for q, k in enumerate(term.basis):
            u = sd * rng.standard_normal((len(term.levels), genes))
            eta += u[term.codes[design.pattern]] * (term.Z[q, design.pattern] * functions[:, k])[:, None]
    mean = np.exp(eta + design.log_size[:, None])
    if family == "nb":
        return rng.poisson(mean * rng.gamma(2.5, 0.4, mean.shape)).astype(float)
    if family == "poisson":
        return rng.poisson(mean).astype(float)
    if family == "bernoulli":
        odds = eta - level + design.log_size[:, None]
        return (rng.uniform(size=odds.shape) < special.expit(odds)).astype(float)
    return rng.normal(eta + design.offset[:, None], 0.7)


def example(name: str, family: str, genes: int = 1, seed: int = 1, **settings) -> tuple[Design, Counts]:
    """Return a structure's design and genes drawn from it."""
    sizes = {key: settings.pop(key) for key in ("donors", "cells", "batches") if key in settings}
    design = design_of(name, seed, **sizes)
    Y = responses(design, family, genes, seed + 100, **settings)
    return design, designs.counts(Y, [f"gene{g}" for g in range(genes)])
