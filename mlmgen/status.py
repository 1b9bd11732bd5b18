"""What a gene's fit can end as: a value, never an exception."""

from enum import IntEnum


class Status(IntEnum):
    """The outcome of one gene's fit; stored as its number, shown as its name in lower case."""

    CONVERGED = 0
    BOUNDARY = 1
    SEPARATED = 2
    NOT_CONVERGED = 3
    NOT_FINITE = 4
    FILTERED = 5
    DIVERGED = 6


HELP = {
    Status.CONVERGED: "the fit reached its optimum with every variance above zero",
    Status.BOUNDARY: "the fit reached its optimum with a variance at zero: an ordinary outcome",
    Status.SEPARATED: "no counts at all in one of the groups compared: the effect is shrunken to a finite value, "
    "the p-value of a moderated test is from the likelihood ratio",
    Status.NOT_CONVERGED: "the optimizer stopped before its tolerance: treat the numbers with caution",
    Status.NOT_FINITE: "the likelihood was not finite: no numbers are reported",
    Status.DIVERGED: "a variance ran off: too few counts to tell how much the groups differ; do not read the size of "
    "the effect",
    Status.FILTERED: "not fitted: the gene or the cell type did not pass the filters",
}


def label(status: int) -> str:
    """Return the name of a status as the tables show it, for example ``not_converged``."""
    return Status(status).name.lower()
