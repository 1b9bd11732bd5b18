"""Designs and counts made by hand, without formulas or data frames."""

from typing import NamedTuple

import numpy as np

from mlmgen.types import Counts, Design, Groups, RandomTerm


class Cells(NamedTuple):
    """One gene's data, one row per cell: what every twin takes.

    ``y`` (n,), ``X`` (n, p), ``groups``: one (n,) array of codes per random intercept,
    ``log_size`` (n,).
    """

    y: np.ndarray
    X: np.ndarray
    groups: tuple[np.ndarray, ...]
    log_size: np.ndarray


def dummy(column, reference=None) -> tuple[np.ndarray, list[str]]:
    """Code a factor by treatment contrasts: (n, levels - 1) columns and the levels they stand for."""
    column = np.asarray(column).astype(str)
    levels = sorted(set(column))
    reference = levels[0] if reference is None else reference
    others = [level for level in levels if level != reference]
    return np.column_stack([(column == level).astype(float) for level in others]), others


def intercepts(name, levels, codes) -> RandomTerm:
    """A random intercept: ``levels`` names, ``codes`` (P,)."""
    codes = np.asarray(codes, dtype=np.int32)
    ones, basis = np.ones((1, len(codes))), np.zeros(1, dtype=np.int32)
    return RandomTerm(name, tuple(levels), codes, ("(Intercept)",), ones, basis)


def build(donor, X, coefficients, terms, size_factor, sample=None, formula="", within=()) -> tuple[Design, np.ndarray]:
    """Build a Design from columns with one entry per cell.

    Parameters
    ----------
    donor, sample : (n,) labels
    X : (n, p) model matrix
    coefficients : p names
    terms : dict of term name to (n,) labels
    size_factor : (n,)

    Returns
    -------
    design : Design
    order : (n,) int
        ``column[order]`` is in the design's order of rows.
    """
    X = np.asarray(X, dtype=float)
    sample = donor if sample is None else sample
    columns = [np.asarray(column).astype(str) for column in (donor, sample, *terms.values())]
    labels = [np.unique(column, return_inverse=True) for column in columns]
    table = np.column_stack([labels[0][1], X, *[codes for _, codes in labels[1:]]])
    patterns, pattern = np.unique(table, axis=0, return_inverse=True)
    pattern = pattern.ravel()
    order = np.argsort(pattern, kind="stable")
    p = X.shape[1]

    def groups(name, levels, column):
        return name, tuple(str(level) for level in levels), patterns[:, column].astype(np.int32)

    return Design(
        formula=formula,
        coefficients=tuple(coefficients),
        X=np.ascontiguousarray(patterns[:, 1 : 1 + p]),
        basis=np.zeros(p, dtype=np.int32),
        functions=np.empty((len(order), 0)),
        function_names=(),
        terms=tuple(intercepts(*groups(name, labels[2 + i][0], 2 + p + i)) for i, name in enumerate(terms)),
        donor=Groups(*groups("donor", labels[0][0], 0)),
        sample=Groups(*groups("sample", labels[1][0], 1 + p)),
        pattern=pattern[order].astype(np.int32),
        log_size=np.log(np.asarray(size_factor, dtype=float))[order],
        offset=np.zeros(len(order)),
        means={},
        within=tuple(within),
    ), order


def counts(Y, genes) -> Counts:
    """Turn a dense (n, G) array in the design's order of rows into Counts."""
    Y = np.asarray(Y, dtype=float)
    columns = [np.flatnonzero(Y[:, g]) for g in range(Y.shape[1])]
    start = np.concatenate([[0], np.cumsum([len(rows) for rows in columns])]).astype(np.int64)
    rows = np.concatenate(columns).astype(np.int32)
    values = np.concatenate([Y[r, g] for g, r in enumerate(columns)])
    return Counts(tuple(genes), start, rows, values)


def cells(design: Design, data: Counts, gene: int) -> Cells:
    """Unpack one gene: every cell with its own row of the model matrix."""
    y = np.zeros(len(design.pattern))
    chosen = slice(data.start[gene], data.start[gene + 1])
    y[data.rows[chosen]] = data.values[chosen]
    groups = tuple(term.codes[design.pattern].astype(int) for term in design.terms)
    functions = np.column_stack([np.ones(len(y)), design.functions])
    return Cells(y, design.X[design.pattern] * functions[:, design.basis], groups, design.log_size)
