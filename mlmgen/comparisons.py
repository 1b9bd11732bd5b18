"""Who takes part in a contrast: donors and samples of its arms, and whether donors are compared with themselves."""

from typing import NamedTuple

import numpy as np

from mlmgen.arms import arms
from mlmgen.types import Contrast, Design

BETWEEN, PARTLY, WITHIN, CELLS = "between donors", "partly within donors", "within donors", "between cells"
MOST_ARMS = 4  # in a text


class Comparison(NamedTuple):
    """Who takes part in a contrast.

    Attributes
    ----------
    kind : str
        `BETWEEN`, `PARTLY`, `WITHIN` where all donors are on both sides, or `CELLS` where all samples are, and for
        a number that varies from cell to cell.
    arms : str
        ``condition[ctrl]: 4, condition[stim]: 4`` donors; empty for the slope of a number.
    n_donors, n_donors_both, n_donors_smallest : int
        Those that take part, those on both sides (or within which the number varies), those of the smallest arm.
    n_samples, n_samples_smallest : int
    """

    kind: str
    arms: str
    n_donors: int
    n_donors_both: int
    n_donors_smallest: int
    n_samples: int
    n_samples_smallest: int


def comparison(contrast: Contrast, design: Design) -> Comparison:
    """Find out who takes part in a contrast; of a joint test, in any part of it."""
    sides = [arm for row in contrast.weights for arm in arms(design, row)]
    if not sides:
        return _of_number(contrast, design)
    donor, sample = design.donor.codes, design.sample.codes
    up, down = (np.any([a.patterns for a in sides if a.weight * sign > 0], axis=0) for sign in (1, -1))
    of_arm = {arm.name: arm.patterns for arm in sides}
    donors = {name: np.unique(donor[own]).size for name, own in of_arm.items()}
    samples = [np.unique(sample[own]).size for own in of_arm.values()]
    everybody, everything = np.unique(donor[up | down]).size, np.unique(sample[up | down]).size
    both = np.intersect1d(donor[up], donor[down]).size
    kind = PARTLY if both else BETWEEN
    if both == everybody:
        kind = CELLS if np.intersect1d(sample[up], sample[down]).size == everything else WITHIN
    return Comparison(kind, _text(donors), everybody, both, min(donors.values()), everything, min(samples))


def _of_number(contrast: Contrast, design: Design) -> Comparison:
    """Describe a slope: everybody takes part, and there is one arm."""
    donors, samples = np.unique(design.donor.codes).size, np.unique(design.sample.codes).size
    used = np.flatnonzero(np.any(contrast.weights != 0.0, axis=0))
    codes = np.unique(design.X[:, used], axis=0, return_inverse=True)[1].ravel()
    of_cells = bool((design.basis[used] > 0).any())
    pairs = np.unique(np.stack([design.donor.codes, codes]), axis=1)[0]
    varying = donors if of_cells else int((np.bincount(pairs) > 1).sum())
    kind = PARTLY if varying else BETWEEN
    if varying == donors:
        kind = CELLS if of_cells else WITHIN
    return Comparison(kind, "", donors, varying, donors, samples, samples)


def _text(donors: dict[str, int]) -> str:
    shown = [f"{name}: {number}" for name, number in donors.items()]
    return ", ".join(shown[:MOST_ARMS]) + ", ..." * (len(shown) > MOST_ARMS)
