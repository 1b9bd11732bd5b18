"""The registry of output columns: the one place that names, types and explains them."""

from typing import NamedTuple

from mlmgen.design_columns import DESIGN


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
CONTRAST = Column("contrast", "category", "", "Name of the contrast in the configuration.")
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
REASON_OF_TEST = REASON._replace(
    description="Why, in one sentence, empty for a converged fit; for the cells also that a contrast lacks its random "
    "effect, with a formula that has it."
)
PADJ = Column("padj", "float64", "", "Benjamini-Hochberg within cell type, contrast and method; weighted if `fdr` is.")
LEFT_OUT = (
    Column(
        "loo_same_sign",
        "category",
        "",
        "Whether the effect keeps its sign without each of the donors, `yes` or `no`; empty for joint tests and where "
        "none was left out.",
    ),
    Column("loo_worst_p", "float64", "", "The largest p-value when each donor is left out in turn."),
    Column("loo_worst_donor", "category", "", "Without whom it is that large, or the contrast cannot be estimated."),
    Column(
        "loo_calls",
        "float64",
        "",
        "Share of the donors without whom p stays below what all donors together need for 5 % false discoveries.",
    ),
    Column(
        "stable",
        "category",
        "",
        "`yes` if the sign stays and p is below 0.05 whichever donor is left out (of more than 8 the 8 that matter "
        "most), else `no`; `not_estimable` if the contrast needs loo_worst_donor, `not_fitted` if a fit failed.",
    ),
)


def of_methods(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Return columns twice, for the cells and for pseudobulk."""
    return tuple(
        column._replace(name=f"{column.name}_{method}", description=f"{level}: {column.description}")
        for method, level in (("glmm", "Cells"), ("pseudobulk", "Pseudobulk"))
        for column in columns
    )


TABLES: dict[str, tuple[Column, ...]] = {
    "effects": (
        CELL_TYPE,
        GENE,
        GENE_NAME,
        CONTRAST,
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
            "log2fc_shrunken",
            "float64",
            "log2",
            "log2fc pulled towards zero by as much as the effects of all genes suggest, for ranking and plots: never "
            "in place of log2fc, and never to decide what is an effect.",
        ),
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
        PADJ,
        Column("padj_global", "float64", "", "Benjamini-Hochberg across all cell types, within contrast and method."),
        MEAN_COUNT,
        PCT_CELLS,
        N_CELLS,
        N_DONORS,
        STATUS,
        REASON_OF_TEST,
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
    "priors": (
        CELL_TYPE,
        METHOD,
        Column("component", "category", "", "Variance component, as in `variances`; covariances are left out."),
        Column("n_genes", "int32", "genes", "Genes that were fitted."),
        Column(
            "mean_log_total",
            "float64",
            "natural log",
            "Mean over these genes of the log total count (of detection: of cells with a count).",
        ),
        Column(
            "log_variance",
            "float64",
            "natural log",
            "Mean of the log variance of a gene with this log total.",
        ),
        Column("slope", "float64", "", "Change of that mean for each unit of log total."),
        Column("sd", "float64", "natural log", "Standard deviation of the genes' log variances around it."),
        Column("variance", "float64", "natural log squared", "Variance of a typical gene, exp(log_variance)."),
        Column("reason", "category", "", "Why a component has no prior and stays as fitted; empty where it has one."),
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
    "design": tuple(Column(*row) for row in DESIGN),
    "concordance": (
        CELL_TYPE,
        GENE,
        GENE_NAME,
        CONTRAST,
        *of_methods(
            (
                Column("log2fc", "float64", "log2", "effect as in `effects`."),
                Column("lfc_se", "float64", "log2", "its standard error."),
                Column("pvalue", "float64", "", "two-sided p-value."),
                Column("padj", "float64", "", "false discovery rate within cell type and contrast."),
                Column("status", "category", "", "how the fit ended."),
            )
        ),
        Column(
            "difference",
            "float64",
            "",
            "Effect in cells less that in pseudobulk, in units of its standard error, which knows that they share the "
            "data.",
        ),
        Column(
            "disagree",
            "category",
            "",
            "`yes` if the signs differ with both p below 0.05, if one is called at 5 % false discoveries and the other "
            "has p above 0.1, or if the difference is above 3.",
        ),
        Column("reason", "str", "", "The likely causes of a disagreement, or that no single one was found."),
        *of_methods(LEFT_OUT),
    ),
    "stability": (
        CELL_TYPE,
        GENE,
        GENE_NAME,
        CONTRAST,
        METHOD,
        Column("log2fc", "float64", "log2", "Effect as in `effects`."),
        Column("pvalue", "float64", "", "Two-sided p-value."),
        PADJ,
        *LEFT_OUT,
    ),
    "audit": (
        CELL_TYPE,
        METHOD,
        CONTRAST,
        Column("permuted", "category", "", "Variable whose labels changed places; empty where none could."),
        Column(
            "exchanged",
            "category",
            "",
            "How they changed places: `between donors` or groups of donors, `within donors` (all of a donor's cells of "
            "one level together), `between samples of a donor` or `between cells of a sample`.",
        ),
        Column("n_splits", "int32", "splits", "Permutations of the labels that were fitted."),
        Column(
            "n_distinct",
            "float64",
            "splits",
            "Different permutations there are without the observed one, mirror images counted once, at most 1e15.",
        ),
        Column("n_genes", "int32", "genes", "Genes that were fitted in each split, at most 2,000."),
        Column("n_tests", "int32", "", "P-values, of all genes and splits."),
        *(
            column
            for name, level in (("05", "0.05"), ("01", "0.01"), ("001", "0.001"))
            for column in (
                Column(f"type1_{name}", "float64", "", f"Share of p-values of at most {level} with permuted labels."),
                Column(
                    f"type1_{name}_low",
                    "float64",
                    "",
                    "Lower end of the 95 % Clopper-Pearson interval of that share.",
                ),
                Column(
                    f"type1_{name}_high",
                    "float64",
                    "",
                    "Upper end of that interval, which takes tests as independent.",
                ),
            )
        ),
        Column(
            "type1_05_se",
            "float64",
            "",
            "Standard error of type1_05 from the differences between splits, larger where genes vary together.",
        ),
        Column("lambda", "float64", "", "Median chi-square quantile of these p-values over 0.4549, 1 if they hold."),
        Column("splits_with_calls", "int32", "splits", "Splits with a call at 5 % by Benjamini-Hochberg, all false."),
        Column(
            "injected_log2fc",
            "float64",
            "log2",
            "Size of the effects that were injected into real counts, half up and half down; of a number its slope.",
        ),
        Column("n_injected", "int32", "genes", "Genes with an injected effect in each split, a tenth."),
        Column(
            "fdp",
            "float64",
            "",
            "Share of genes without an injected effect among the calls at 5 % by Benjamini-Hochberg, mean over splits.",
        ),
        Column("fdp_se", "float64", "", "Standard error of fdp, from the differences between splits."),
        Column("power", "float64", "", "Share of the injected effects that were called, mean over splits."),
        Column("power_se", "float64", "", "Standard error of power, from the differences between splits."),
        Column("reason", "category", "", "Why a contrast was not audited, in one sentence; empty where it was."),
    ),
    "audit_qq": (
        CELL_TYPE,
        METHOD,
        CONTRAST,
        Column("rank", "int32", "", "Rank of a p-value with permuted labels among those of all genes and splits."),
        Column("expected", "float64", "-log10", "What the p-value of this rank should be, (rank - 0.5) / n_tests."),
        Column("observed", "float64", "-log10", "The p-value of this rank."),
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
