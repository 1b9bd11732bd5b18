"""From obs and a formula to a ``Design``: what all genes of a cell type share."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlmgen.design_checks import check, references, refuse_dependent_columns, review
from mlmgen.design_parts import Grouping, determines, read_parts, useful_terms
from mlmgen.errors import UserError
from mlmgen.formula import Formula
from mlmgen.model_matrix import model_matrix
from mlmgen.obs_columns import cross
from mlmgen.types import Design, RandomTerm

__all__ = ["build", "check", "for_samples", "references", "review"]


def build(
    obs: pd.DataFrame,
    formula: Formula,
    donor: str,
    sample: str | None = None,
    reference: Mapping | None = None,
    size_factor: np.ndarray | None = None,
    where: str = "the input",
) -> tuple[Design, np.ndarray]:
    """Build the design of one cell type.

    Random intercepts that cannot be estimated from these cells (one group only, or the groups of another
    term) are left out; `review` says so.

    Parameters
    ----------
    obs : DataFrame
        The n cells of the cell type. Text, categories and true/false are factors, numbers are numeric.
    formula : Formula
    donor : str
        obs column of the replicate.
    sample : str, optional
        obs column of the sample; without it donor x the formula's factors that vary within donors.
    reference : mapping of str to level, optional
        Reference levels, best those that `references` finds for all cells of the file.
    size_factor : (n,) float64, optional
        Multiplicative, positive; 1 if not given.
    where : str
        The file, for messages.

    Returns
    -------
    design : Design
    order : (n,) int64
        Sorts the cells by donor, sample and pattern; cells of a pattern keep their order.

    Raises
    ------
    UserError
        Where a column or value is missing, or the columns of the design are linearly dependent.
    """
    parts = read_parts(obs, formula, donor, sample, reference, where)
    matrix = model_matrix(formula, parts.fixed, parts.n)
    refuse_dependent_columns(matrix, parts, where)
    log_size = _log_size(size_factor, parts.n, where)
    terms, _ = useful_terms(parts)
    row, X = _distinct_rows(matrix.row, matrix.X)
    pattern, first = cross(parts.donor.codes, parts.sample.codes, row, *(term.codes for term in terms))
    order = np.argsort(pattern, kind="stable")
    design = Design(
        formula=formula.text,
        coefficients=matrix.names,
        X=np.ascontiguousarray(X[row[first]]),
        terms=tuple(_on_patterns(term, first) for term in terms),
        donor=_on_patterns(parts.donor, first),
        sample=_on_patterns(parts.sample, first),
        pattern=pattern[order].astype(np.int32),
        log_size=log_size[order],
        means=matrix.means,
        within=parts.within,
    )
    return design, order


def for_samples(design: Design) -> Design:
    """Return the design of the sums per sample: one row and one pattern for each sample.

    The fixed-effect row is the mean over the sample's cells and the size factor their sum. Random terms
    with one sample per group are left out (the dispersion takes their place), and so are terms whose groups
    cut through samples.
    """
    sample, S = design.sample.codes, len(design.sample.levels)
    first = np.unique(sample, return_index=True)[1]
    cells = np.bincount(design.pattern, minlength=sample.size)
    size = np.bincount(sample[design.pattern], np.exp(design.log_size), minlength=S)
    whole = [term for term in design.terms if determines(sample, term.codes)]
    return Design(
        formula=design.formula,
        coefficients=design.coefficients,
        X=_sample_means(design.X, sample, first, cells),
        terms=tuple(_on_patterns(term, first) for term in whole if len(term.levels) < S),
        donor=_on_patterns(design.donor, first),
        sample=_on_patterns(design.sample, first),
        pattern=np.arange(S, dtype=np.int32),
        log_size=np.log(size),
        means=design.means,
        within=design.within,
    )


def _distinct_rows(row: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge equal rows of the model matrix, numbered by their first appearance."""
    order = np.lexsort(X.T[::-1])
    new = np.r_[True, (np.diff(X[order], axis=0) != 0).any(axis=1)]
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return rank[group][row], X[np.sort(first)]


def _log_size(size_factor: np.ndarray | None, n: int, where: str) -> np.ndarray:
    if size_factor is None:
        return np.zeros(n)
    values = np.asarray(size_factor, dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"{values.shape} size factors for {n} cells")
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        what = f"{int(bad.sum())} of {n} size factors are zero, negative or not finite, first {values[bad][0]:g}"
        do = "Leave cells without counts out of the file, or give positive size factors."
        raise UserError(what, f"{where}, configuration key size_factors", do)
    return np.log(values)


def _on_patterns(group: Grouping | RandomTerm, first: np.ndarray) -> RandomTerm:
    return RandomTerm(group.name, group.levels, group.codes[first].astype(np.int32))


def _sample_means(X: np.ndarray, sample: np.ndarray, first: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Average the patterns' rows by cells; samples with one row keep it exactly."""
    means = X[first].copy()
    mixed = np.unique(sample[(means[sample] != X).any(axis=1)])
    weight = cells / np.bincount(sample, cells)[sample]
    sums = np.stack([np.bincount(sample, weight * column) for column in X.T], axis=1)
    means[mixed] = sums[mixed]
    return means
