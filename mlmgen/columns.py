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
    "How the fit ended: converged, boundary, separated, not_converged, not_finite or filtered.",
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
            "log2fc", "float64", "log2", "Moderated effect: the contrast's mean over the posterior of the variances."
        ),
        Column("lfc_se", "float64", "log2", "Standard error of log2fc, uncertainty of the variances included."),
        Column("ci_low", "float64", "log2", "Lower end of the 95 % interval of log2fc."),
        Column("ci_high", "float64", "log2", "Upper end of the 95 % interval of log2fc."),
        Column("statistic", "float64", "", "Normal quantile of the p-value with the sign of the effect; rank by it."),
        Column("pvalue", "float64", "", "Two-sided p-value of the moderated likelihood-ratio test, at least 2.2e-308."),
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
        Column("estimate", "float64", "natural log", "REML estimate as fitted, not moderated."),
        Column(
            "std_error", "float64", "natural log", "Standard error given the fitted variances: too small for testing."
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
            "Grouping factor of a random effect as written in the formula, or `dispersion`.",
        ),
        Column(
            "variance_reml",
            "float64",
            "natural log squared",
            "REML estimate as fitted; of the dispersion, phi in variance = mu + phi mu^2.",
        ),
        Column(
            "variance",
            "float64",
            "natural log squared",
            "Posterior mean given all genes of the cell type; the REML estimate where the component is not moderated.",
        ),
        Column("ci_low", "float64", "natural log squared", "Lower end of the 95 % posterior interval of variance."),
        Column("ci_high", "float64", "natural log squared", "Upper end of the 95 % posterior interval of variance."),
        Column("pvalue", "float64", "", "Likelihood-ratio test of variance zero, half the mass on the boundary."),
        Column(
            "fraction",
            "float64",
            "",
            "Share of the variance on the latent log scale; the shares and that of Poisson noise add to one.",
        ),
    ),
    "fits": (
        CELL_TYPE,
        GENE,
        GENE_NAME,
        METHOD,
        Column("loglik", "float64", "natural log", "REML log-likelihood with every constant, as glmmTMB reports it."),
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
        Column("n_iter", "int32", "", "Evaluations of the REML objective; 0 for a gene that was not fitted."),
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
