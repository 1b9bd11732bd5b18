"""The Python API: fit mixed models to an AnnData or a data frame with the engine of the workflow."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import pandas as pd

from mlmgen import comparison, marginal, model_summary, predictions, tested
from mlmgen import gee as equations
from mlmgen import responses as data_responses
from mlmgen.bar import bar
from mlmgen.errors import UserError
from mlmgen.fitted import RESPONSES_TO_MODERATE, FittedModel, Options, designed, fitted, refitted
from mlmgen.stages_fit import GRID_KERNEL, MODEL_KERNEL, announce_compilation


@dataclass(frozen=True, repr=False, eq=False)
class Fit(FittedModel):
    """A fitted model, as `fit` makes it: tables are computed when they are asked for.

    The attributes are those of `mlmgen.fitted.FittedModel`: the design, the counts and the estimates as arrays.
    """

    def __repr__(self) -> str:
        """Summarize: one response in full, many by how they ended."""
        return model_summary.describe(self)

    @property
    def coefficients(self) -> pd.DataFrame:
        """Fixed effects with standard errors, see `mlmgen.model_summary.coefficients`."""
        return model_summary.coefficients(self)

    @property
    def variances(self) -> pd.DataFrame:
        """Variance components with intervals and correlations, see `mlmgen.model_summary.variances`."""
        return model_summary.variances(self)

    @property
    def fits(self) -> pd.DataFrame:
        """Log-likelihood, AIC, BIC, R^2 and status, see `mlmgen.model_summary.fits`."""
        return model_summary.fits(self)

    @property
    def variance_partition(self) -> pd.DataFrame:
        """Variance and intraclass correlation at each level, see `mlmgen.model_summary.partition`."""
        return model_summary.partition(self)

    def test(self, contrasts: Mapping[str, str | Sequence[str]] | None = None, progress: bool = True) -> pd.DataFrame:
        """Test contrasts such as ``{"stim": "condition[stim] - condition[ctrl]"}``, see `mlmgen.tested.test`."""
        with _arguments():
            return tested.test(self, contrasts, bar(len(self.responses.names), "test") if progress else None)

    def marginal_effects(self, contrasts: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return population-averaged beside conditional effects, see `mlmgen.marginal.marginal_effects`."""
        with _arguments():
            return marginal.marginal_effects(self, contrasts)

    def random_effects(self) -> pd.DataFrame:
        """Return shrunken and unpooled effects of every group, see `mlmgen.predictions.random_effects`."""
        return predictions.random_effects(self)

    def predict(self, data=None, new_groups: bool = False, level: float = 0.95, size_factors=None) -> pd.DataFrame:
        """Predict rows of the data or of new data with intervals, see `mlmgen.predictions.predict`."""
        return predictions.predict(self, data, new_groups, level, size_factors)

    def gee(self, responses: Sequence[str] | None = None, groups: str | None = None) -> pd.DataFrame:
        """Check named responses by generalized estimating equations, see `mlmgen.gee.gee`."""
        return equations.gee(self, responses, groups)

    def refit(self, method: str) -> "Fit":
        """Return the same model fitted by ``reml`` or ``ml``."""
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
        Rows are cells, or whatever nests in groups.
    formula : str
        As in lme4. The response stands on the left for a data frame and is left out for an AnnData.
    family : {"nb", "poisson", "bernoulli", "gaussian"}
        Bernoulli asks whether a count is positive. Gaussian takes a data frame's numbers as they are, and
        log1p(count / size factor) of an AnnData.
    method : {"reml", "ml"}
    donor : str, optional
        Column of the replicate; the coarsest factor of the first random term if not given. A data frame without
        random terms has its rows as replicates; for an AnnData the donor is then needed.
    size_factors : {"auto", "library", "obs/<column>"}, array, or None
        Multiply the mean of each row. ``library``: a cell's total over all genes / the mean of all cells. ``auto`` is
        ``library`` for an AnnData and none for a data frame.
    reference : mapping of column to level, optional
        Otherwise the first level of a Categorical, and the first in natural order of other columns.
    responses : sequence of str, optional
        Columns of a data frame to fit with a formula without left-hand side, or some genes of an AnnData.
    integration : {"laplace", "agq"}
        Adaptive Gauss-Hermite quadrature is for ML with one random intercept.
    nodes : int
        Of the quadrature.
    likelihood : {"compressed", "exact"}
    layer : str, optional
        Of an AnnData: X (as if not given), raw or layers/<name>.
    threads : int
        Results do not depend on it.
    progress : bool
        Whether to draw a bar on stderr.

    Returns
    -------
    Fit

    Raises
    ------
    UserError
        For any problem of the data or the arguments. A response that cannot be fitted gets a status instead.
    """
    if threads < 1 or nodes < 1:
        what = f"threads is {threads} and nodes is {nodes}"
        raise UserError(what, "arguments threads and nodes", "Give numbers of at least 1.")
    options = Options(family, method, integration, int(nodes), likelihood, int(threads))
    with _arguments():
        read = data_responses.read(data, formula, family, size_factors, layer, responses)
        model = designed(read, donor, reference, options)
    if progress:
        many = len(read.names) >= RESPONSES_TO_MODERATE and method == "reml" and family != "gaussian"
        announce_compilation(GRID_KERNEL if many else MODEL_KERNEL, "fit")
    return _as_fit(fitted(model, bar(len(read.names), "fit") if progress else None))


def compare(*fits: Fit, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare models of the same data by AIC, BIC and likelihood ratios, see `mlmgen.comparison.compare`."""
    for position, one in enumerate(fits):
        if not isinstance(one, FittedModel):
            what = f"argument {position + 1} is a {type(one).__name__}, not a fit"
            raise UserError(what, "arguments of compare", "Give what mlmgen.fit returns, one after the other.")
    return comparison.compare(fits, names)


@contextlib.contextmanager
def _arguments() -> Iterator[None]:
    """Let errors name arguments where the workflow has configuration keys."""
    try:
        yield
    except UserError as error:
        where = error.where.replace("configuration key ", "argument ").replace(", file the ", ", the ")
        raise UserError(error.what, where, error.do) from None


def _as_fit(model: FittedModel) -> Fit:
    return Fit(**{field.name: getattr(model, field.name) for field in fields(FittedModel)})
