"""A paragraph on the methods for a paper, from what the run was configured to do, with its references."""

import re
from collections.abc import Sequence

from mlmgen.report.wording import joined

REFERENCES = {
    "Barndorff-Nielsen, 1986": "Barndorff-Nielsen OE (1986) Inference on full or partial parameters based on the "
    "standardized signed log likelihood ratio. Biometrika 73:307-322.",
    "Benjamini and Hochberg, 1995": "Benjamini Y, Hochberg Y (1995) Controlling the false discovery rate: a practical "
    "and powerful approach to multiple testing. Journal of the Royal Statistical Society B 57:289-300.",
    "Clopper and Pearson, 1934": "Clopper CJ, Pearson ES (1934) The use of confidence or fiducial limits illustrated "
    "in the case of the binomial. Biometrika 26:404-413.",
    "Fai and Cornelius, 1996": "Fai AHT, Cornelius PL (1996) Approximate F-tests of multiple degree of freedom "
    "hypotheses in generalized least squares analyses of unbalanced split-plot experiments. Journal of Statistical "
    "Computation and Simulation 54:363-378.",
    "Genovese et al., 2006": "Genovese CR, Roeder K, Wasserman L (2006) False discovery control with p-value "
    "weighting. Biometrika 93:509-524.",
    "Gerard, 2020": "Gerard D (2020) Data-based RNA-seq simulations by binomial thinning. BMC Bioinformatics 21:206.",
    "Mölder et al., 2021": "Mölder F, Jablonski KP, Letcher B, et al. (2021) Sustainable data analysis with Snakemake. "
    "F1000Research 10:33.",
    "Nakagawa et al., 2017": "Nakagawa S, Johnson PCD, Schielzeth H (2017) The coefficient of determination R2 and "
    "intra-class correlation coefficient from generalized linear mixed-effects models revisited and expanded. Journal "
    "of the Royal Society Interface 14:20170213.",
    "Patterson and Thompson, 1971": "Patterson HD, Thompson R (1971) Recovery of inter-block information when block "
    "sizes are unequal. Biometrika 58:545-554.",
    "Robinson and Oshlack, 2010": "Robinson MD, Oshlack A (2010) A scaling normalization method for differential "
    "expression analysis of RNA-seq data. Genome Biology 11:R25.",
    "Satterthwaite, 1946": "Satterthwaite FE (1946) An approximate distribution of estimates of variance components. "
    "Biometrics Bulletin 2:110-114.",
    "Squair et al., 2021": "Squair JW, Gautier M, Kathe C, et al. (2021) Confronting false discoveries in single-cell "
    "differential expression. Nature Communications 12:5692.",
    "Stephens, 2017": "Stephens M (2017) False discovery rates: a new deal. Biostatistics 18:275-294.",
    "Stram and Lee, 1994": "Stram DO, Lee JW (1994) Variance components testing in the longitudinal mixed effects "
    "model. Biometrics 50:1171-1177.",
    "Tierney and Kadane, 1986": "Tierney L, Kadane JB (1986) Accurate approximations for posterior moments and "
    "marginal densities. Journal of the American Statistical Association 81:82-86.",
}
FAMILIES = {
    "nb": "a negative binomial generalized linear mixed model with log link and the log size factor as offset",
    "poisson": "a Poisson generalized linear mixed model with log link and the log size factor as offset",
    "bernoulli": "a logistic mixed model of whether a cell has a count of the gene, with the log size factor as offset",
    "gaussian": "a linear mixed model of log(1 + count / size factor)",
}
CITED = re.compile(r"\(([^()]*\d{4}[^()]*)\)")


def methods_text(
    config: dict, methods: tuple[str, ...], moderated: bool, versions: dict, donor: str, sums: Sequence[str]
) -> dict:
    """Write the paragraphs and list what they cite.

    Parameters
    ----------
    config : dict
        By stage, as in ``provenance.json``.
    methods : tuple of str
    moderated : bool
        Whether any test was moderated.
    versions : dict of str to str
    donor : str
        obs column of the donors.
    sums : sequence of str
        Components of the random terms that pseudobulk has, such as ``donor`` and ``donor: visit``.

    Returns
    -------
    dict
        ``paragraphs``: list of str; ``references``: list of dict with ``key`` and ``text``.
    """
    paragraphs = [
        _data(config, donor),
        _model(config, methods, sums),
        _tests(config, moderated),
        *([checks] if (checks := _checks(config)) else []),
        _software(versions),
    ]
    cited = {part.strip() for text in paragraphs for group in CITED.findall(text) for part in group.split(";")}
    return {
        "paragraphs": paragraphs,
        "references": [{"key": key, "text": text} for key, text in REFERENCES.items() if key in cited],
    }


def _data(config: dict, donor: str) -> str:
    prepare, filters = config["prepare"], config["prepare"]["filters"] | config["fit"]["filters"]
    where = f"separately in each cell type (column {prepare['cell_type']})" if prepare["cell_type"] else "in all cells"
    sizes = {
        "library": "Size factors were the total counts of the cells over their mean.",
        "tmm": "Size factors were the total counts of the cells, scaled by TMM factors of their samples (Robinson and "
        "Oshlack, 2010).",
    }
    size = sizes.get(prepare["size_factors"], f"Size factors were taken from {prepare['size_factors']}.")
    return (
        f"Differential expression was tested {where} with mlmgen, with donors (column {donor}) as the replicates "
        "(Squair et al., 2021). "
        f"Donors with fewer than {filters['min_cells_per_donor']} cells of a cell type were left out of it, and cell "
        f"types with fewer than {filters['min_donors_per_arm']} donors in an arm were not analysed. Genes were "
        f"fitted if they had a count in at least {filters['min_cells_expressing']} cells, in "
        f"{100 * filters['min_fraction_expressing']:g} % of the cells and in {filters['min_donors_expressing']} donors."
        f" {size}"
    )


def _model(config: dict, methods: tuple[str, ...], sums: Sequence[str]) -> str:
    fit, formula = config["fit"], config["prepare"]["formula"]
    parts = []
    if "glmm" in methods:
        how = "restricted maximum likelihood (Patterson and Thompson, 1971)"
        how = how if fit["estimation"] == "reml" else "maximum likelihood"
        integral = "Laplace's approximation (Tierney and Kadane, 1986)"
        if fit["integration"] == "agq":
            integral = f"adaptive Gauss-Hermite quadrature with {fit['quadrature_nodes']} nodes"
        integral = "" if fit["family"] == "gaussian" else f" and {integral}"
        parts.append(f"The cells of each gene were described by {FAMILIES[fit['family']]}, with the formula {formula}. "
                     f"It was fitted by {how}{integral}.")  # fmt: skip
    if "pseudobulk" in methods:
        also, effects = (
            ("Also, the", "the same fixed effects") if parts else ("The", f"the fixed effects of the formula {formula}")
        )
        parts.append(
            f"{also} counts were summed over the cells of each sample (pseudobulk) and the sums described by a "
            f"negative binomial model with {effects}{_random(sums)}, whose dispersion is the variance between samples"
            f"{' beyond these' if sums else ''}, fitted by restricted maximum likelihood."
        )
    return " ".join(parts)


def _random(components: Sequence[str]) -> str:
    """Name random terms by their components: `` and random intercepts for donor``."""
    effects: dict[str, list[str]] = {}
    for component in components:
        group, _, effect = component.partition(": ")
        effects.setdefault(effect if effect != "(Intercept)" else "", []).append(group)
    named = [
        f"random {f'slopes of {effect}' if effect else 'intercepts'} for {joined(groups, 12)}"
        for effect, groups in effects.items()
    ]
    return f" and {joined(named, 12)}" if named else ""


def _tests(config: dict, moderated: bool) -> str:
    if moderated:
        first = (
            "The variances between replicates were moderated: a log-normal prior, which may depend on the total count, "
            "was learned from all genes of a cell type. Contrasts were tested by likelihood ratios with the correction "
            "r* (Barndorff-Nielsen, 1986), averaged over the posterior of the variances. Tests without a prior were t "
            "or F tests with Satterthwaite's degrees of freedom (Satterthwaite, 1946; Fai and Cornelius, 1996)."
        )
    else:
        first = (
            "Contrasts were tested by t and F tests with Satterthwaite's degrees of freedom (Satterthwaite, 1946; Fai "
            "and Cornelius, 1996), at most those that the number of donors leaves."
        )
    contrasts = config["test"].get("contrasts")
    named = [f"{name} = {text if isinstance(text, str) else ', '.join(text)}" for name, text in contrasts or ()]
    which = f" The contrasts were {joined(named, 12)}." if named else " Every coefficient but the intercept was tested."
    rate = "the procedure of Benjamini and Hochberg (Benjamini and Hochberg, 1995)"
    if config["tables"]["fdr"] == "weighted":
        rate += ", with p-values weighted by the precision of genes of the same total count (Genovese et al., 2006)"
    return (
        f"{first}{which} False discovery rates were controlled at 5 % within cell type, contrast and method by {rate}. "
        "Effects were shrunken for display by an adaptive prior (Stephens, 2017), variances tested against zero by "
        "likelihood ratios with the boundary's mixture (Stram and Lee, 1994), and shares of variance computed on the "
        "scale of the linear predictor (Nakagawa et al., 2017)."
    )


def _checks(config: dict) -> str:
    parts = []
    if config["tables"].get("stability"):
        parts.append("The leading results were fitted again without each donor in turn.")
    if config["tables"].get("audit"):
        audit = config.get("audit", {})
        parts.append(
            f"P-values were checked on the data themselves: labels were permuted up to {audit.get('audit_splits')} "
            "times as the design allows, and every permutation analysed in the same way, with binomial intervals "
            "(Clopper and Pearson, 1934); effects of known size were injected by binomial thinning (Gerard, 2020)."
        )
    return " ".join(parts)


def _software(versions: dict) -> str:
    named = {"mlmgen": "mlmgen", "python": "Python", "numpy": "numpy", "scipy": "scipy", "numba": "numba"}
    used = joined([f"{name} {versions[key]}" for key, name in named.items() if key in versions], 9)
    snakemake = f", run by Snakemake {versions['snakemake']} (Mölder et al., 2021)" if "snakemake" in versions else ""
    return f"Software: {used}{snakemake}."
