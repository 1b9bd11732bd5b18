"""The Python API: fit mixed models to an AnnData or a data frame with the engine of the workflow."""

import inspect
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import pandas as pd

from mlmgen.errors import UserError
from mlmgen.notebook import comparison, marginal, model_summary, predictions, tested
from mlmgen.notebook import gee as equations
from mlmgen.notebook import responses as data_responses
from mlmgen.notebook.bar import bar
from mlmgen.notebook.designed import designed
from mlmgen.notebook.fitted import fitted, refitted, uses_grid
from mlmgen.notebook.model import FittedModel, Options, check_options, chosen
from mlmgen.notebook.wording import arguments
from mlmgen.stages_fit import MODEL_FIT, announce_compilation, fit_kernels, test_kernels

# Entries of a function's docstring that are not arguments of the method.
NOT_ARGUMENTS = ("model", "progress")


def _as(function: Callable) -> Callable:
    """Give a method the parameters, returns and errors of the function that it calls, for ``help()``."""

    def described(method: Callable) -> Callable:
        text = inspect.getdoc(function)
        for name in NOT_ARGUMENTS:
            text = re.sub(rf"^{name} : .*\n(?:    .*\n)*", "", text, flags=re.MULTILINE)
        text = text.replace("Parameters\n----------\n\n", "")
        method.__doc__ = f"{method.__doc__}\n\n{text.split(chr(10), 1)[1].strip()}"
        return method

    return described


@dataclass(frozen=True, repr=False, eq=False)
class Fit(FittedModel):
    """A fitted model, as `mlmgen.fit` makes it.

    Tables are computed when they are asked for: `coefficients`, `variances`, `fits`, `variance_partition`, `test()`,
    `random_effects()`, `predict()`, `marginal_effects()`, `gee()`. ``fit["ISG15"]`` is the fit of one gene and
    ``fit[["ISG15", "CD74"]]`` of some, with the variances that were moderated across all. The other attributes are
    arrays: ``design``, ``counts``, ``estimates`` (natural logarithms), ``moderated``.
    """

    def __repr__(self) -> str:
        return model_summary.describe(self)

    def __getitem__(self, names: str | Sequence[str]) -> "Fit":
        """Return the fit of one response, or of some."""
        return _as_fit(chosen(self, [names] if isinstance(names, str) else list(names)))

    @property
    @_as(model_summary.coefficients)
    def coefficients(self) -> pd.DataFrame:
        """Fixed effects with standard errors, one row per response x coefficient."""
        return model_summary.coefficients(self)

    @property
    @_as(model_summary.variances)
    def variances(self) -> pd.DataFrame:
        """Variance components with intervals and correlations, one row per response x component."""
        return model_summary.variances(self)

    @property
    @_as(model_summary.fits)
    def fits(self) -> pd.DataFrame:
        """Log-likelihood, AIC, BIC, R^2, status and its reason, one row per response."""
        return model_summary.fits(self)

    @property
    @_as(model_summary.partition)
    def variance_partition(self) -> pd.DataFrame:
        """Variance and intraclass correlation of each level, one row per response x level."""
        return model_summary.partition(self)

    @_as(tested.test)
    def test(
        self, contrasts: Mapping[str, str | Sequence[str]] | str | None = None, progress: bool = True
    ) -> pd.DataFrame:
        """Test contrasts such as ``{"stim": "condition[stim] - condition[ctrl]"}``; a list is a joint test."""
        if progress and self.moderated is not None:
            announce_compilation(test_kernels(self.design, self.options, "cells"), "test")
        with arguments():
            return tested.test(self, contrasts, bar(len(self.responses.names), "test") if progress else None)

    @_as(marginal.marginal_effects)
    def marginal_effects(self, contrasts: Mapping[str, str] | str | None = None) -> pd.DataFrame:
        """Compare the effect for one donor (conditional) with that on the mean of the population (marginal)."""
        with arguments():
            return marginal.marginal_effects(self, contrasts)

    @_as(predictions.random_effects)
    def random_effects(self) -> pd.DataFrame:
        """Return the effects of every group, shrunken (BLUP) and unpooled."""
        return predictions.random_effects(self)

    @_as(predictions.predict)
    def predict(self, data=None, new_groups: bool = False, level: float = 0.95, size_factors=None) -> pd.DataFrame:
        """Predict rows of the data or of new data, with intervals of the mean."""
        with arguments(self.responses.kind == "response"):
            return predictions.predict(self, data, new_groups, level, size_factors)

    @_as(equations.gee)
    def gee(self, responses: Sequence[str] | None = None, groups: str | None = None) -> pd.DataFrame:
        """Check the fixed effects of named responses by generalized estimating equations (needs statsmodels)."""
        return equations.gee(self, responses, groups)

    def refit(self, method: str) -> "Fit":
        """Return the same model fitted by ``reml`` or ``ml``."""
        with arguments():
            return _as_fit(refitted(self, method))


def fit(
    data,
    formula: str,
    *,
    family: str = "nb",
    method: str = "reml",
    donor: str | None = None,
    size_factors="auto",
    reference: Mapping | None = None,
    responses: Sequence[str] | None = None,
    integration: str = "laplace",
    nodes: int = 9,
    likelihood: str = "compressed",
    layer: str | None = None,
    threads: int = 1,
    progress: bool = True,
) -> Fit:
    """Fit a mixed model to every gene of an AnnData, or to one or several columns of a data frame.

    Parameters
    ----------
    data : AnnData or DataFrame
        Rows are cells, or whatever nests in groups. Of an AnnData the counts (see ``layer``) and ``obs`` are used; give
        all its genes, from which the size factors come, and choose some by ``responses``.
    formula : str
        As in lme4: ``~ condition + age + (1 + age | donor)``, ``(1 | donor/sample)``, ``(0 + x | g)``,
        ``(1 + x || g)``, ``C(year)``, ``poly(x, 2)``, ``within(x)`` and ``between(x)``, ``offset(log(volume))``. Text,
        categories and true/false are factors. The response stands on the left for a data frame and is left out for an
        AnnData.
    family : {"nb", "poisson", "bernoulli", "gaussian"}
        Negative binomial and Poisson take counts, with a log link. Bernoulli asks whether a count is positive, with a
        logit link. Gaussian takes a data frame's numbers as they are, and log1p(count / size factor) of an AnnData.
    method : {"reml", "ml"}
        `compare` fits again by ML where models with different fixed effects need it.
    donor : str, optional
        Column of the replicate, over which ``within()`` and ``between()`` take means; the coarsest factor of the first
        random term if not given. A data frame without random terms has its rows as replicates; for an AnnData the
        donor is then needed.
    size_factors : {"auto", "library", "obs/<column>"}, array, or None
        Multiply the mean of each row. ``library``: a cell's total over all genes / the mean of all cells. ``auto`` is
        ``library`` for an AnnData and none for a data frame.
    reference : mapping of column to level or list of levels, optional
        What comes first in a factor. Otherwise a Categorical has its own order, and other columns are sorted, ``D2``
        before ``D10``.
    responses : sequence of str, optional
        Some genes of an AnnData, or columns of a data frame to fit with a formula without left-hand side.
    integration : {"laplace", "agq"}
        Adaptive Gauss-Hermite quadrature is for ML with one random intercept.
    nodes : int
        Of the quadrature.
    likelihood : {"compressed", "exact"}
        Exact keeps every row where cells are otherwise compressed to weighted nodes; a slow check.
    layer : str, optional
        Of an AnnData: X (as if not given), raw or layers/<name>.
    threads : int
        Results do not depend on it.
    progress : bool
        Whether to draw a bar on stderr, and to say when code has to be compiled, once on each machine.

    Returns
    -------
    Fit
        Printing it says how the fits ended; its tables are listed in `Fit`. From 30 responses up the variances of
        models with random terms, fitted by REML, are moderated across responses, and tests are likelihood-ratio tests
        as in the workflow. Otherwise tests are t and F tests with Satterthwaite's degrees of freedom.

    Raises
    ------
    UserError
        For any problem of the data or the arguments. A response that cannot be fitted gets a status instead.

    Examples
    --------
    Every gene of an AnnData whose donors were seen in both conditions:

    >>> fit = mlmgen.fit(adata, "~ condition + (1 | donor) + (1 | donor:condition)")
    >>> fit
    >>> fit.test({"stim": "condition[stim] - condition[ctrl]"}).head()
    >>> fit["ISG15"]
    >>> fit.variance_partition

    Donors that differ in their response, for two genes: predictions for known and for new donors, effects on the
    population's mean, and a check that needs no random effects:

    >>> slopes = mlmgen.fit(adata, "~ condition + (1 + condition | donor)", responses=["ISG15", "CD74"])
    >>> slopes.random_effects()
    >>> slopes.predict(pd.DataFrame({"condition": ["stim", "stim"], "donor": ["D1", "D2"]}))
    >>> slopes.predict(pd.DataFrame({"condition": ["ctrl", "stim"]}), new_groups=True)
    >>> slopes.marginal_effects("condition[stim] - condition[ctrl]")
    >>> slopes.gee(["ISG15"])

    A covariate of the cells, its differences within donors apart from those between donors; detection; log-normalized
    expression:

    >>> formula = "~ condition + within(pct_mito) + between(pct_mito) + (1 | donor) + (1 | donor:condition)"
    >>> mlmgen.fit(adata, formula).test({"cell": "within(pct_mito)", "donor": "between(pct_mito)"})
    >>> mlmgen.fit(adata, "~ condition + (1 | donor) + (1 | donor:condition)", family="bernoulli")
    >>> mlmgen.fit(adata, "~ condition + (1 | donor) + (1 | donor:condition)", family="gaussian")

    Columns of a data frame, and models compared from the empty one upwards:

    >>> empty = mlmgen.fit(sleep, "Reaction ~ 1 + (1 | Subject)", family="gaussian")
    >>> intercepts = mlmgen.fit(sleep, "Reaction ~ Days + (1 | Subject)", family="gaussian")
    >>> slopes = mlmgen.fit(sleep, "Reaction ~ Days + (1 + Days | Subject)", family="gaussian")
    >>> mlmgen.compare(empty, intercepts, slopes)
    >>> slopes
    >>> slopes.test({"per day": "Days", "per week": "7 * Days"})
    >>> slopes.predict(pd.DataFrame({"Days": [0, 10]}), new_groups=True)
    """
    _check_whole_numbers(threads, nodes)
    options = Options(family, method, integration, int(nodes), likelihood, int(threads))
    check_options(options)
    with arguments(isinstance(data, pd.DataFrame)):
        read = data_responses.read(data, formula, family, size_factors, layer, responses)
        model = designed(read, donor, reference, options)
        if progress:
            announce_compilation(fit_kernels(model.design, options, "cells", uses_grid(model)), "fit")
        return _as_fit(fitted(model, bar(len(read.names), "fit") if progress else None))


def compare(*fits: Fit, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare models of the same data by AIC, BIC and likelihood ratios, each with the one before.

    Parameters
    ----------
    *fits : Fit
        Of the same responses and rows, in any order. Where fixed effects differ, those fitted by REML are fitted again
        by ML, as their likelihoods cannot be compared.
    names : sequence of str, optional
        One for each fit; formulas if not given.

    Returns
    -------
    DataFrame
        One row per response x model, from the fewest parameters upwards: ``gene`` or ``response``, ``model``,
        ``estimation`` (reml or ml), ``n_parameters``, ``loglik``, ``aic``, ``bic``; and of the test against the row
        before: ``chisq``, ``df``, ``pvalue`` and ``distribution`` (a mixture where a variance is tested, which is
        at the boundary of its range if it is 0), missing where the models are not nested.

    Raises
    ------
    UserError
        Where the models are of different data.

    Examples
    --------
    >>> empty = mlmgen.fit(sleep, "Reaction ~ 1 + (1 | Subject)", family="gaussian")
    >>> slopes = mlmgen.fit(sleep, "Reaction ~ Days + (1 + Days | Subject)", family="gaussian")
    >>> mlmgen.compare(empty, slopes, names=["empty", "slopes"])
    """
    for position, one in enumerate(fits):
        if not isinstance(one, FittedModel):
            what = f"argument {position + 1} is a {type(one).__name__}, not a fit"
            raise UserError(what, "arguments of compare", "Give what mlmgen.fit returns, one after the other.")
    if len(fits) > 1 and comparison.needs_ml(fits):
        announce_compilation((MODEL_FIT,), "compare")
    return comparison.compare(fits, names)


def _check_whole_numbers(threads, nodes) -> None:
    for name, value in {"threads": threads, "nodes": nodes}.items():
        if not isinstance(value, numbers.Integral) or value < 1:
            raise UserError(f"{name} is {value!r}", f"argument {name}", "Give a whole number of at least 1.")


def _as_fit(model: FittedModel) -> Fit:
    return Fit(**{field.name: getattr(model, field.name) for field in fields(FittedModel)})
