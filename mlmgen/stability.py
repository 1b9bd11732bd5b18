"""What leaving out each donor in turn does to the reported effects of a cell type, and which effects these are.

With few donors every p-value grows when one is left out, for there is less evidence; an effect rests on one donor where
its sign turns or little of the evidence is left.
"""

from dataclasses import dataclass, fields

import numpy as np

from mlmgen.agreement import SUPPORTED, disagree
from mlmgen.fdr import LEVEL, adjusted, weights
from mlmgen.types import Effects

# Effects of a cell type that are looked at, those with the smallest p-values; several contrasts share them, with so
# many each at least. With 8 donors 200 take a third of the time that 6,500 genes took before.
MOST_HITS, FEWEST_HITS = 200, 50
# An effect that keeps its sign and a p-value below this without any donor is stable.
STABLE_PVALUE = 0.05


@dataclass(frozen=True)
class LeftOut:
    """Tests of H genes without each of D donors.

    Attributes
    ----------
    genes : tuple of str, length H
    contrasts : tuple of str, length C
    donors : tuple of str, length D
    hit : (H, C) bool
        Which effects are reported; only their numbers mean something.
    dropped : (H, D) bool
        Which donors were left out for a gene.
    estimable : (C, D) bool
        Whether a contrast can be tested without a donor.
    estimate, log_pvalue : (H, C, D) float64
        Natural log; NaN where there is no test.
    """

    genes: tuple[str, ...]
    contrasts: tuple[str, ...]
    donors: tuple[str, ...]
    hit: np.ndarray
    dropped: np.ndarray
    estimable: np.ndarray
    estimate: np.ndarray
    log_pvalue: np.ndarray


@dataclass(frozen=True)
class Summary:
    """What leaving out each donor says about H genes, all arrays (H, C).

    Attributes
    ----------
    same_sign : float64
        1 where all estimates have the sign of the full analysis, else 0; NaN for joint tests.
    worst_pvalue : float64
        The largest p-value; 1 where nothing is left to test, NaN where the contrast cannot be estimated.
    worst_donor : object
        Whose absence gives it, or without whom the contrast cannot be estimated.
    calls : float64
        Share of donors without whom p is still below the threshold.
    stable : object
        ``yes``, ``no`` or ``not_estimable``; empty for what is not reported.
    """

    same_sign: np.ndarray
    worst_pvalue: np.ndarray
    worst_donor: np.ndarray
    calls: np.ndarray
    stable: np.ndarray


def hits(tests: list[Effects], total: np.ndarray) -> np.ndarray:
    """Return which effects are looked at, (G, C) bool: what a method reports, and what two methods disagree about.

    Of either there are at most `MOST_HITS`, shared by the contrasts. Plain and weighted false discovery rates both
    count, so that the choice between them concerns the tables alone.

    Parameters
    ----------
    tests : list of Effects
        All genes of a cell type, one for each method, the same contrasts.
    total : (G,) float64
        Total count.
    """
    C = len(tests[0].contrasts)
    chosen, most = np.zeros(tests[0].log_pvalue.shape, dtype=bool), max(MOST_HITS // max(C, 1), FEWEST_HITS)
    for c in range(C):
        pvalue = np.exp([effects.log_pvalue[:, c] for effects in tests])
        error = [effects.std_error[:, c] for effects in tests]
        plain = np.array([adjusted(p) for p in pvalue])
        weighted = np.array([adjusted(p, weights(e, p, total)) for e, p in zip(error, pvalue, strict=True)])
        smallest = np.fmin.reduce(pvalue)
        kinds = [(np.fmin(plain, weighted) <= LEVEL).any(axis=0)]
        if len(tests) == 2:
            estimate = [effects.estimate[:, c] for effects in tests]
            kinds.append(disagree(estimate, error, pvalue, plain) & (smallest < SUPPORTED))
        for kind in kinds:
            found = np.flatnonzero(kind)
            chosen[found[np.argsort(smallest[found], kind="stable")[:most]], c] = True
    return chosen


def summarize(left: LeftOut, estimate: np.ndarray, threshold: np.ndarray) -> Summary:
    """Summarize what leaving out each donor did.

    Parameters
    ----------
    left : LeftOut
    estimate : (H, C) float64
        Of the full analysis; NaN for joint tests.
    threshold : (H, C) float64
        The largest p-value at which the full analysis calls each gene.
    """
    shape = left.hit.shape
    out = {f.name: np.full(shape, np.nan) for f in fields(Summary)}
    out |= {name: np.full(shape, "", dtype=object) for name in ("worst_donor", "stable")}
    for h, c in np.argwhere(left.hit & left.dropped.any(axis=1)[:, None]):
        dropped, estimable = left.dropped[h], left.estimable[c]
        refused = dropped & estimable & np.isnan(left.log_pvalue[h, c])
        dropped = dropped & ~refused
        if not dropped.any():
            continue
        pvalue = np.exp(np.nan_to_num(left.log_pvalue[h, c], nan=0.0))
        tried = dropped & estimable
        worst = int(np.argmax(np.where(dropped, np.where(estimable, pvalue, np.inf), -1.0)))
        out["worst_donor"][h, c] = left.donors[worst]
        if tried.any():
            out["calls"][h, c] = (pvalue[tried] <= threshold[h, c]).mean()
            if np.isfinite(estimate[h, c]):
                signs = np.sign(np.nan_to_num(left.estimate[h, c, tried])) == np.sign(estimate[h, c])
                out["same_sign"][h, c] = float(signs.all())
        if not estimable[dropped].all():
            out["stable"][h, c] = "not_estimable"
            continue
        out["worst_pvalue"][h, c] = pvalue[worst]
        steady = out["same_sign"][h, c] != 0.0 and pvalue[worst] < STABLE_PVALUE
        out["stable"][h, c] = "no" if not steady else "not_fitted" if refused.any() else "yes"
    return Summary(**out)
