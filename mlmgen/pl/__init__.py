"""Figures of a run's results for papers, with matplotlib.

Every function takes the folder of a run, or what `mlmgen.read` made of it, draws into ``ax`` where one is given, and
returns the axes. Effects, p-values and concordance can also be drawn from a table with the columns of the run's own.
No setting of matplotlib is changed.
"""

from mlmgen.pl.comparing import concordance, forest
from mlmgen.pl.effects import ma, volcano
from mlmgen.pl.groups import caterpillar, donors
from mlmgen.pl.pvalues import pvalue_histogram, qq
from mlmgen.pl.variances import icc, variance_mean, variance_partition

__all__ = [
    "caterpillar",
    "concordance",
    "donors",
    "forest",
    "icc",
    "ma",
    "pvalue_histogram",
    "qq",
    "variance_mean",
    "variance_partition",
    "volcano",
]
