"""Fitted models put together by hand, so that summaries can be checked without an engine."""

import numpy as np
import pandas as pd
from scipy import sparse

from mlmgen.formula import parse
from mlmgen.notebook.model import FittedModel, Options
from mlmgen.notebook.responses import Responses
from mlmgen.types import Counts, Design, GeneFits, Groups, RandomTerm

NOTHING = np.zeros(0, dtype=np.int32)


def term(name, codes, effects=("(Intercept)",), Z=None):
    codes = np.asarray(codes, dtype=np.int32)
    Z = np.ones((1, codes.size)) if Z is None else np.asarray(Z, dtype=float)
    levels = tuple(f"{name}{i}" for i in range(codes.max() + 1))
    return RandomTerm(name, levels, codes, tuple(effects), Z, np.zeros(len(effects), dtype=np.int32))


def design(X, coefficients, terms=(), donor=None, formula="~ 1", log_size=None, means=None):
    """One pattern a row."""
    X = np.asarray(X, dtype=float)
    n = len(X)
    codes = np.asarray(np.arange(n) if donor is None else donor, dtype=np.int32)
    groups = Groups("donor", tuple(f"D{i}" for i in range(codes.max() + 1)), codes)
    zeros = np.zeros(n)
    return Design(
        formula=formula,
        coefficients=tuple(coefficients),
        X=X,
        basis=np.zeros(X.shape[1], dtype=np.int32),
        functions=np.empty((n, 0)),
        function_names=(),
        terms=tuple(terms),
        donor=groups,
        sample=groups,
        pattern=np.arange(n, dtype=np.int32),
        log_size=zeros if log_size is None else np.asarray(log_size, dtype=float),
        offset=zeros,
        means=means or {},
        within=(),
    )


def fits(names, coefficients, components, beta, variance, loglik, method="reml", **more):
    beta, variance = np.atleast_2d(np.asarray(beta, float)), np.asarray(variance, float).reshape(len(names), -1)
    G, p, V = len(names), beta.shape[1], len(components)
    arrays = {
        "std_error": np.full((G, p), 0.1),
        "std_error_full": np.full((G, p), 0.2),
        "covariance": np.tile(0.04 * np.eye(p), (G, 1, 1)),
        "sensitivity": np.zeros((G, 1, p, p)),
        "variance_se": np.full((G, V), 0.5),
        "variance_pvalue": np.full((G, V), 0.01),
        "status": np.zeros(G, np.int8),
        "n_iter": np.full(G, 7, np.int32),
    } | more
    return GeneFits(
        genes=tuple(names),
        coefficients=tuple(coefficients),
        components=tuple(components),
        method=method,
        beta=beta,
        variance=variance,
        loglik=np.asarray(loglik, float).reshape(G),
        grid_shape=np.zeros(V, dtype=np.int64),
        grid_low=np.full((G, V), np.nan),
        grid_high=np.full((G, V), np.nan),
        grid_unit=np.zeros((G, V)),
        grid_loglik=np.zeros((G, 0)),
        **arrays,
    )


def model(built, estimates, values, family="nb", kind="gene", integration="laplace"):
    """A fitted model whose data are in the order of its design."""
    values = sparse.csc_matrix(np.asarray(values, dtype=float).reshape(len(built.pattern), -1))
    n = values.shape[0]
    table = pd.DataFrame({"donor": built.donor.codes[built.pattern]}, index=[f"row{i}" for i in range(n)])
    responses = Responses(kind, estimates.genes, None, table, None, built.formula, "the data")
    counts = Counts(estimates.genes, values.indptr.astype(np.int64), values.indices.astype(np.int32), values.data)
    options = Options(family, estimates.method, integration, 9, "compressed", 1)
    return FittedModel(
        formula=parse(built.formula),
        responses=responses,
        donor="donor",
        reference={},
        design=built,
        order=np.arange(n),
        counts=counts,
        estimates=estimates,
        moderated=None,
        reasons=("",) * len(estimates.genes),
        options=options,
    )


def random_slopes(family="gaussian", method="reml"):
    """Three donors on days 0, 1, 2, 3: intercepts with variance 4, slopes 1, covariance 0.5."""
    days, donor = np.tile([0.0, 1.0, 2.0, 3.0], 3), np.repeat([0, 1, 2], 4)
    X = np.column_stack([np.ones(12), days])
    slopes = term("donor", donor, ("(Intercept)", "Days"), X.T)
    built = design(X, ("(Intercept)", "Days"), (slopes,), donor, "~ Days + (1 + Days | donor)")
    components = ["donor: (Intercept)", "donor: Days", "donor: (Intercept), Days"]
    variance = [4.0, 1.0, 0.5]
    if family in ("gaussian", "nb"):
        components.append({"gaussian": "residual", "nb": "dispersion"}[family])
        variance.append(2.0)
    estimates = fits(("y",), built.coefficients, components, [10.0, 3.0], variance, -20.0, method)
    return model(built, estimates, np.arange(1.0, 13.0), family, "response")
