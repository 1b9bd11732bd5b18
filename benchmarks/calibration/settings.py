"""The settings of the study: each simulated one by name, with what is unusual about it."""

from typing import NamedTuple

UNPAIRED = "~ condition + (1 | donor)"
PAIRED = "~ condition + (1 | donor) + (1 | donor:condition)"
COVARIATE = "~ condition + score + (1 | donor)"
SLOPE = "~ time + (1 + time | donor)"
# Visits of every donor of a study over time.
TIMES = (0.0, 1.0, 2.0, 3.0)
# Cells of a sample, drawn evenly on the log scale between the two.
CELLS, UNBALANCED = (80, 250), (30, 1000)
# Mean and standard deviation of the genes' log mean count in a cell: a mixture, mostly low, all well expressed.
MIXED_COUNTS, LOW_COUNTS, HIGH_COUNTS = (-1.7, 1.6), (-3.6, 0.8), (0.3, 0.9)


class Setting(NamedTuple):
    """One simulated experiment: donors and cells, the genes' means and variances, and the model that is fitted.

    ``donors`` is per arm, or in all where every donor is in both arms (``paired``) or comes at all ``TIMES``. Standard
    deviations of the donors are log-normal between genes: ``donor_sd`` the median, ``spread`` the standard deviation of
    the log variance; ``near_zero`` is the share of genes whose donor variance is next to nothing instead.
    ``response_sd`` is that of donor:condition, or of the donors' slopes per unit of time, with the same spread; 0 is 0
    for every gene.
    """

    name: str
    donors: int
    cells: tuple[int, int] = CELLS
    formula: str = UNPAIRED
    donor_sd: float = 0.3
    spread: float = 0.8
    near_zero: float = 0.0
    response_sd: float = 0.0
    log_mean: tuple[float, float] = MIXED_COUNTS
    genes: int = 1500

    @property
    def paired(self) -> bool:
        """Whether every donor is in both arms."""
        return self.formula == PAIRED

    @property
    def over_time(self) -> bool:
        """Whether the effect is a slope of time within donors."""
        return self.formula == SLOPE

    @property
    def replicates(self) -> int:
        """Donors of the smaller arm."""
        return self.donors


def _simulated() -> list[Setting]:
    """List the settings, the most telling first."""
    wrong = {"near_zero": 0.3}
    found = [
        Setting("3 v 3", 3),
        Setting("4 v 4, unbalanced cells", 4, UNBALANCED),
        Setting("6 v 6, unbalanced cells", 6, UNBALANCED),
        Setting("10 v 10, unbalanced cells", 10, UNBALANCED, genes=1200),
        Setting("3 v 3, 30 % of variances near zero", 3, **wrong),
        Setting("4 pairs, response SD 0.2", 4, formula=PAIRED, response_sd=0.2),
        Setting("6 v 6, covariate of cells", 6, formula=COVARIATE),
        Setting("6 donors over time, slope SD 0.1", 6, formula=SLOPE, response_sd=0.1, genes=1000),
        Setting("5 v 5", 5),
        Setting("4 pairs, response SD 0", 4, formula=PAIRED),
        Setting("3 v 3, low counts", 3, log_mean=LOW_COUNTS),
        Setting("8 pairs, response SD 0.2", 8, formula=PAIRED, response_sd=0.2),
        Setting("3 v 3, high counts", 3, log_mean=HIGH_COUNTS),
        Setting("10 v 10, 30 % of variances near zero", 10, genes=1200, **wrong),
        Setting("4 pairs, response SD 0.4", 4, formula=PAIRED, response_sd=0.4),
        Setting("10 v 10", 10, genes=1200),
        Setting("4 v 4", 4),
        Setting("3 v 3, donor SD 0.1", 3, donor_sd=0.1),
        Setting("3 v 3, donor SD 0.5", 3, donor_sd=0.5),
        Setting("5 v 5, 30 % of variances near zero", 5, **wrong),
        Setting("8 v 8", 8),
        Setting("8 pairs, response SD 0", 8, formula=PAIRED),
        Setting("8 pairs, response SD 0.4", 8, formula=PAIRED, response_sd=0.4),
        Setting("3 v 3, one donor SD for all genes", 3, spread=0.0),
        Setting("6 v 6, low counts, unbalanced cells", 6, UNBALANCED, log_mean=LOW_COUNTS),
        Setting("5 v 5, low counts", 5, log_mean=LOW_COUNTS),
        Setting("5 v 5, high counts", 5, log_mean=HIGH_COUNTS),
        Setting("5 v 5, donor SD 0.1", 5, donor_sd=0.1),
        Setting("5 v 5, donor SD 0.5", 5, donor_sd=0.5),
        Setting("10 v 10, donor SD 0.1", 10, donor_sd=0.1, genes=1200),
        Setting("10 v 10, donor SD 0.5", 10, donor_sd=0.5, genes=1200),
        Setting("20 v 20", 20, genes=1200),
        Setting("10 v 10, covariate of cells", 10, formula=COVARIATE, genes=1200),
        Setting("12 donors over time, slope SD 0.1", 12, formula=SLOPE, response_sd=0.1, genes=800),
        Setting("16 pairs, response SD 0", 16, formula=PAIRED, genes=1200),
        Setting("16 pairs, response SD 0.2", 16, formula=PAIRED, response_sd=0.2, genes=1200),
        Setting("16 pairs, response SD 0.4", 16, formula=PAIRED, response_sd=0.4, genes=1200),
    ]
    return found


SIMULATED = {setting.name: setting for setting in _simulated()}
