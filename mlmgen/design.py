"""From obs and a formula to a ``Design``: what all genes of a cell type share."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlmgen.dependence import group_means
from mlmgen.design_checks import check, references, refuse_dependent_columns, review
from mlmgen.design_parts import Grouping, Parts, read_parts
from mlmgen.design_terms import Term, estimable_terms
from mlmgen.errors import UserError
from mlmgen.formula import Formula
from mlmgen.groups import determines
from mlmgen.model_matrix import INTERCEPT, ModelMatrix, model_matrix, offset
from mlmgen.patterns import Patterns, patterns
from mlmgen.replicates import intercepts
from mlmgen.types import Design, Groups, RandomTerm

__all__ = ["build", "check", "for_samples", "references", "review"]

# Samples beyond those that random intercepts and slopes would fit perfectly: the degrees of freedom of the dispersion,
# which the tests of slopes take as it is estimated.
SAMPLES_BESIDE_SLOPES = 10


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

    Random terms and slopes that cannot be estimated from these cells (one group only, the groups and effects of
    another term, slopes of what is constant here) are left out; `review` says so.

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
    matrix = model_matrix(formula, parts.variables, parts.n)
    refuse_dependent_columns(matrix, parts, where)
    terms, _ = estimable_terms(formula, parts, matrix)
    added = offset(formula, parts.offsets, parts.n)
    log_size = _log_size(size_factor, parts.n, where) + added
    return _design(formula, parts, matrix, terms, log_size, added)


def _design(
    formula: Formula,
    parts: Parts,
    matrix: ModelMatrix,
    terms: tuple[Term, ...],
    log_size: np.ndarray,
    added: np.ndarray,
) -> tuple[Design, np.ndarray]:
    """Lay out the patterns and sort the cells."""
    found = patterns(parts, matrix, terms)
    order = np.argsort(found.pattern, kind="stable")
    p = len(matrix.names)
    design = Design(
        formula=formula.text,
        coefficients=matrix.names,
        X=np.ascontiguousarray(found.coefficients[:, :p]),
        basis=found.basis[:p],
        functions=np.ascontiguousarray(found.functions[order]),
        function_names=found.names,
        terms=_on_patterns(terms, p, found),
        donor=_groups(parts.donor, found.first),
        sample=_groups(parts.sample, found.first),
        pattern=found.pattern[order].astype(np.int32),
        log_size=log_size[order],
        offset=added[order],
        means=matrix.means,
        within=parts.within,
    )
    return design, order


def for_samples(design: Design) -> Design:
    """Return the design of the sums per sample: one row and one pattern for each sample.

    The fixed-effect row is the mean over the sample's cells, cell-level functions included, and the size factor
    their sum. Of the random terms the intercepts are kept: with one row a sample the dispersion takes the place of
    what varies within groups, and of intercepts with one sample per group. Slopes of what samples differ in are kept
    where at least `SAMPLES_BESIDE_SLOPES` samples are left to tell them from the dispersion, as of several visits of
    each donor. Terms whose groups cut through samples are left out.
    """
    sample, S = design.sample.codes, len(design.sample.levels)
    first = np.unique(sample, return_index=True)[1]
    of_row = sample[design.pattern]
    size = np.bincount(of_row, np.exp(design.log_size), minlength=S)
    without_offset = np.bincount(of_row, np.exp(design.log_size - design.offset), minlength=S)
    return Design(
        formula=design.formula,
        coefficients=design.coefficients,
        X=_sample_means(design, first),
        basis=np.zeros(len(design.coefficients), dtype=np.int32),
        functions=np.empty((S, 0)),
        function_names=(),
        terms=_sample_terms(design, first),
        donor=_groups(design.donor, first),
        sample=_groups(design.sample, first),
        pattern=np.arange(S, dtype=np.int32),
        log_size=np.log(size),
        offset=np.log(size / without_offset),
        means=design.means,
        within=design.within,
    )


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


def _groups(group: Grouping | Groups, first: np.ndarray) -> Groups:
    return Groups(group.name, group.levels, group.codes[first].astype(np.int32))


def _on_patterns(terms: tuple[Term, ...], p: int, found: Patterns) -> tuple[RandomTerm, ...]:
    """Return the random terms on the patterns; their columns follow the p fixed effects."""
    laid = []
    for term in terms:
        own = slice(p, p := p + len(term.effects))
        Z = np.ascontiguousarray(found.coefficients[:, own].T)
        codes = term.group.codes[found.first].astype(np.int32)
        laid.append(RandomTerm(term.group.name, term.group.levels, codes, term.effects, Z, found.basis[own]))
    return tuple(laid)


def _sample_terms(design: Design, first: np.ndarray) -> tuple[RandomTerm, ...]:
    """Return the random terms of samples: with their slopes where samples tell these from the dispersion."""
    slopes = [term for term in _constant_terms(design, first) if term.effects != (INTERCEPT,)]
    if slopes:
        terms = _constant_terms(design, first)
        columns = [term.Z[e][:, None] * (term.codes[:, None] == np.unique(term.codes)) for term in terms
                   for e in range(len(term.effects))]  # fmt: skip
        if first.size - np.linalg.matrix_rank(np.hstack(columns)) >= SAMPLES_BESIDE_SLOPES:
            return terms
    ones, basis = np.ones((1, first.size)), np.zeros(1, dtype=np.int32)
    return tuple(
        RandomTerm(term.name, term.levels, term.codes[first], (INTERCEPT,), ones, basis)
        for term in intercepts(design)
        if determines(design.sample.codes, term.codes) and len(term.levels) < first.size
    )


def _constant_terms(design: Design, first: np.ndarray) -> tuple[RandomTerm, ...]:
    """Return the random terms without the effects that vary within samples, and without one sample per group."""
    found = []
    for term in design.terms:
        Z = term.Z[:, first]
        constant = (Z[:, design.sample.codes] == term.Z).all(axis=1) & (term.basis == 0)
        if constant.any() and determines(design.sample.codes, term.codes) and len(term.levels) < first.size:
            effects = tuple(effect for effect, kept in zip(term.effects, constant, strict=True) if kept)
            Z, basis = np.ascontiguousarray(Z[constant]), np.zeros(len(effects), dtype=np.int32)
            found.append(RandomTerm(term.name, term.levels, term.codes[first], effects, Z, basis))
    return tuple(found)


def _sample_means(design: Design, first: np.ndarray) -> np.ndarray:
    """Average the rows of the model matrix over the cells of each sample, (S, p); what is constant stays exact."""
    sample, cells = design.sample.codes, np.bincount(design.pattern, minlength=len(design.X)).astype(np.float64)
    means = design.X[first].copy()
    mixed = np.unique(sample[(means[sample] != design.X).any(axis=1)])
    means[mixed] = group_means(design.X, sample, cells)[mixed]
    of_row, one = sample[design.pattern], np.ones(design.pattern.size)
    for j in np.flatnonzero(design.basis):
        values = design.X[design.pattern, j] * design.functions[:, design.basis[j] - 1]
        means[:, j] = group_means(values[:, None], of_row, one)[:, 0]
    return means
