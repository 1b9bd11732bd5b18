"""The registry of output columns: the one place that names, types and explains them."""

from typing import NamedTuple


class Column(NamedTuple):
    """One column of a result table.

    Attributes
    ----------
    name : str
    dtype : str
        pandas dtype: ``category`` and ``str`` are text, missing numbers are NaN.
    unit : str
        Empty where there is none.
    description : str
        One sentence.
    """

    name: str
    dtype: str
    unit: str
    description: str


CELL_TYPE = Column("cell_type", "category", "", "Cell type as named in the input, or `all` where no column is given.")
GENE = Column("gene", "str", "", "Gene as named in the index of the input's var.")
GENE_NAME = Column(
    "gene_name", "str", "", "Symbol from the var column set as `gene_names`; the gene itself where none is set."
)
METHOD = Column("method", "category", "", "`glmm` (cells) or `pseudobulk` (sums of cells per sample).")
N_CELLS = Column("n_cells", "int32", "cells", "Cells of this cell type that were analysed, after the donor filters.")
N_DONORS = Column("n_donors", "int32", "donors", "Donors of this cell type that were analysed.")
MEAN_COUNT = Column("mean_count", "float64", "counts per cell", "Mean raw count of the gene over these cells.")
PCT_CELLS = Column("pct_cells", "float64", "percent", "Share of these cells with at least one count of the gene.")
STATUS = Column(
    "status",
    "category",
    "",
    "How the fit ended: converged, boundary, separated, diverged, not_converged, not_finite or filtered.",
)
REASON = Column("reason", "category", "", "Why, in one sentence; empty for a converged fit.")

TABLES: dict[str, tuple[Column, ...]] = {
    "effects": (
        CELL_TYPE,
        GENE,
        GENE_NAME,
        Column("contrast", "category", "", "Name of the contrast in the configuration."),
        METHOD,
        Column(
            "log2fc",
            "float64",
            "log2",
            "Effect, for `nb` and `poisson` a log2 fold change, for `bernoulli` a log2 odds ratio, for `gaussian` the "
            "difference of log1p(count / size factor) in log2; moderated where df is missing, and missing for a joint "
            "test.",
        ),
        Column("lfc_se", "float64", "log2", "Standard error of log2fc, uncertainty of the variances included."),
        Column("ci_low", "float64", "log2", "Lower end of the 95 % interval of log2fc."),
        Column("ci_high", "float64", "log2", "Upper end of the 95 % interval of log2fc."),
        Column(
            "statistic",
            "float64",
            "",
            "Normal quantile of the p-value with the sign of the effect, chi-square quantile of a joint test; rank by "
            "it.",
        ),
        Column(
            "df", "float64", "", "Satterthwaite's degrees of freedom of a t or F test; missing where it is moderated."
        ),
        Column(
            "pvalue",
            "float64",
            "",
            "Two-sided p-value of the moderated likelihood-ratio test, or of the t or F test where df is given, at "
            "least 2.2e-308.",
        ),
        Column("padj", "float64", "", "Benjamini-Hochberg within cell type, contrast and method."),
        Column("padj_global", "float64", "", "Benjamini-Hochberg across all cell types, within contrast and method."),
        MEAN_COUNT,
        PCT_CELLS,
        N_CELLS,
        N_DONORS,
        STATUS,
        REASON,
    ),
    "coefficients": (
        CELL_TYPE,
        GENE,
        METHOD,
        Column("coefficient", "category", "", "Fixed effect of the formula, for example `condition[T.stim]`."),
        Column(
            "estimate",
            "float64",
            "natural log",
            "Estimate as fitted by REML or ML, not moderated; for `bernoulli` in log odds.",
        ),
        Column(
            "std_error", "float64", "natural log", "Standard error given the fitted variances: too small for testing."
        ),
        Column(
            "std_error_full", "float64", "natural log", "Standard error that carries the uncertainty of the variances."
        ),
    ),
    "variances": (
        CELL_TYPE,
        GENE,
        METHOD,
        Column(
            "component",
            "category",
            "",
            "Random effect by its grouping factor as in the formula, with slopes also by its effect (`donor: age`); "
            "covariance of two (`donor: (Intercept), age`); `dispersion` or `residual`.",
        ),
        Column(
            "variance_reml",
            "float64",
            "natural log squared",
            "Estimate as fitted, by REML unless estimation is ml; of the dispersion, phi in variance = mu + phi mu^2.",
        ),
        Column(
            "variance",
            "float64",
            "natural log squared",
            "Posterior mean given all genes of the cell type; the estimate where the component is not moderated.",
        ),
        Column(
            "ci_low",
            "float64",
            "natural log squared",
            "Lower end of the 95 % interval of variance, posterior where it is moderated, otherwise from its standard "
            "error and missing at zero.",
        ),
        Column("ci_high", "float64", "natural log squared", "Upper end of the 95 % interval of variance."),
        Column("correlation", "float64", "", "Of a covariance, divided by the two standard deviations as fitted."),
        Column(
            "pvalue",
            "float64",
            "",
            "Likelihood-ratio test of variance zero (and its covariances), half the mass on the boundary.",
        ),
        Column(
            "fraction",
            "float64",
            "",
            "Share of the latent variance that the fixed effects leave, slopes averaged over rows; with the share of "
            "Poisson or logistic noise they add to one.",
        ),
    ),
    "fits": (
        CELL_TYPE,
        GENE,
        GENE_NAME,
        METHOD,
        Column("estimation", "category", "", "`reml` or `ml`."),
        Column("loglik", "float64", "natural log", "Log-likelihood with every constant, as glmmTMB reports it."),
        Column("n_parameters", "int32", "", "Coefficients and variance components of the model."),
        Column(
            "aic",
            "float64",
            "",
            "2 n_parameters - 2 loglik; fits by `reml` are comparable where their fixed effects are the same.",
        ),
        Column(
            "bic", "float64", "", "log(rows) n_parameters - 2 loglik, the rows being cells, or samples for pseudobulk."
        ),
        N_CELLS,
        N_DONORS,
        Column("n_samples", "int32", "samples", "Samples (donor x the factors that vary within donors) analysed."),
        MEAN_COUNT,
        PCT_CELLS,
        Column("total_count", "float64", "counts", "Sum of the gene's raw counts over these cells."),
        Column("n_cells_expressing", "int32", "cells", "Cells with at least one count of the gene."),
        Column("n_donors_expressing", "int32", "donors", "Donors with at least one count of the gene."),
        STATUS,
        REASON,
        Column("n_iter", "int32", "", "Evaluations of the objective; 0 for a gene that was not fitted."),
    ),
}


def names(table: str) -> list[str]:
    """Return the column names of a table in order."""
    return [column.name for column in TABLES[table]]


def markdown(table: str) -> str:
    """Return the documentation of a table's columns as a Markdown table, as it stands in the README."""
    lines = ["| column | unit | meaning |", "|---|---|---|"]
    lines += [f"| `{column.name}` | {column.unit} | {column.description} |" for column in TABLES[table]]
    return "\n".join(lines)
