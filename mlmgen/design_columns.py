"""The columns of the table of designs as (name, dtype, unit, description), for the registry in `mlmgen.columns`."""

OF_ARM = "of a slope, all"

DESIGN: tuple[tuple[str, str, str, str], ...] = (
    ("cell_type", "category", "", "Cell type as named in the input, or `all` where no column is given."),
    ("contrast", "category", "", "Name of the contrast in the configuration."),
    (
        "comparison",
        "category",
        "",
        "`between donors`, `within donors`, `partly within donors` where some donors are on one side only, or `between "
        "cells` of the same samples.",
    ),
    ("arms", "category", "", "What is compared, each with its donors; empty for the slope of a number."),
    ("n_donors", "int32", "donors", "Donors that take part."),
    ("n_donors_both", "int32", "donors", "Donors on both sides, or within which the number varies."),
    ("n_donors_smallest", "int32", "donors", f"Donors of the smallest arm; {OF_ARM}."),
    ("n_samples", "int32", "samples", "Samples (donor x the factors that vary within donors) that take part."),
    ("n_samples_smallest", "int32", "samples", f"Samples of the smallest arm; {OF_ARM}."),
    ("cells_per_donor_min", "int32", "cells", "Cells of the donor with fewest, of this cell type."),
    ("cells_per_donor_median", "float64", "cells", "Median over donors of their cells."),
    ("cells_per_donor_max", "int32", "cells", "Cells of the donor with most."),
    (
        "replicate",
        "category",
        "",
        "Grouping factor whose groups are the replicates of the contrast, or `cell`; also where the formula lacks it.",
    ),
    ("n_replicates", "int32", "", "Its groups."),
    ("df", "float64", "", "Degrees of freedom that these leave for the variance between them."),
    (
        "confounding",
        "float64",
        "",
        "Share of what the data say about the contrast that the other variables of the formula take away: R^2 of its "
        "column on theirs, at the level of the replicates.",
    ),
    ("confounded_with", "category", "", "The variable that takes most where the share is at least 0.8, else empty."),
    (
        "mean_count",
        "float64",
        "counts per cell",
        "Mean count of the typical gene: the median of those with counts in 10 cells, 1 % of the cells and 2 donors.",
    ),
    (
        "lfc_detectable",
        "float64",
        "log2",
        "Effect on counts, per unit of a number, that has 80 % power at p = 0.001 in a typical gene: with a variance "
        "of 0.06 between donors, 0.03 of their responses (natural log squared) and a dispersion of 0.4.",
    ),
    ("power_twofold", "float64", "", "Power for a log2 fold change of 1 in such a gene at p = 0.001."),
    (
        "warning",
        "category",
        "",
        "What is wrong with the design or the formula for this contrast; empty where nothing was found.",
    ),
)
