"""What was called: numbers of discoveries, how the methods agree, and what cell types have in common."""

from collections import Counter
from itertools import product

import numpy as np

from mlmgen.report.tested import OfCellType, Tested

MOST_SETS = 40  # of cell types that share discoveries
MOST_TOP = 20  # genes of a list of the strongest


def counts(tested: Tested) -> list[dict]:
    """Count what was tested and called in every cell type, contrast and method."""
    found = []
    for own in tested.cell_types:
        for (c, m), test in own.tests.items():
            called, signs = test.called, (None, None)
            if not test.joint:
                signs = (int((called & (test.log2fc > 0)).sum()), int((called & (test.log2fc < 0)).sum()))
            numbers = {"tested": int(test.tested.sum()), "called": int(called.sum())}
            found.append({"t": own.t, "c": c, "m": m, **numbers, "up": signs[0], "down": signs[1]})
    return found


def agreement(tested: Tested) -> list[dict]:
    """Count what both methods call, and one alone; empty for a run with one method."""
    found = []
    for own, c in product(tested.cell_types, _contrasts(tested)):
        if (c, 0) in own.tests and (c, 1) in own.tests:
            first, second = own.tests[c, 0], own.tests[c, 1]
            both = first.called & second.called
            only = [int((one.called & ~both).sum()) for one in (first, second)]
            disagree = int((first.disagree | second.disagree).sum())
            found.append({"t": own.t, "c": c, "both": int(both.sum()), "only": only, "disagree": disagree})
    return found


def top(tested: Tested) -> list[dict]:
    """List the strongest genes of every test by their p-values, called or not."""
    found = []
    for own in tested.cell_types:
        for (c, m), test in own.tests.items():
            order = np.argsort(np.where(test.tested, test.pvalue, np.inf), kind="stable")
            order = order[: min(MOST_TOP, int(test.tested.sum()))]
            found.append({"t": own.t, "c": c, "m": m, "genes": own.gene[order].tolist()})
    return found


def overlap(tested: Tested) -> dict[str, list[dict]]:
    """Count by contrast the genes that are called in exactly one set of cell types, the most common sets first."""
    found = {}
    for c in _contrasts(tested):
        found[str(c)] = []
        for m in _methods(tested):
            sets = Counter(tuple(np.flatnonzero(row)) for row in _called(tested, c, m).T if row.any())
            ranked = sorted(sets.items(), key=lambda item: (-item[1], item[0]))
            kept = ranked[:MOST_SETS] + [one for one in ranked[MOST_SETS:] if len(one[0]) == 1]
            places = [own.t for own in tested.cell_types]
            found[str(c)] += [{"t": [places[k] for k in members], "m": m, "n": n} for members, n in kept]
    return found


def pairs(tested: Tested) -> dict[str, dict[str, dict]]:
    """Count by contrast and method what two cell types call in the same direction; on the diagonal, what one calls."""
    found = {}
    for c in _contrasts(tested):
        found[str(c)] = {}
        for m in _methods(tested):
            called, sign = _called(tested, c, m).astype(np.float64), _signs(tested, c, m)
            up, down = called * (sign >= 0), called * (sign < 0)
            found[str(c)][str(m)] = (up @ up.T + down @ down.T).astype(int).tolist()
    return found


def _contrasts(tested: Tested) -> list[int]:
    return sorted({c for own in tested.cell_types for c, _ in own.tests})


def _methods(tested: Tested) -> list[int]:
    return sorted({m for own in tested.cell_types for _, m in own.tests})


def _called(tested: Tested, c: int, m: int) -> np.ndarray:
    """Return which genes are called in each fitted cell type, (cell types, G) bool."""
    found = np.zeros((len(tested.cell_types), len(tested.genes)), dtype=bool)
    for k, own in enumerate(tested.cell_types):
        if (c, m) in own.tests:
            found[k, own.gene] = own.tests[c, m].called
    return found


def _signs(tested: Tested, c: int, m: int) -> np.ndarray:
    """Return the signs of the effects in each fitted cell type, (cell types, G); 0 where there is none."""
    found = np.zeros((len(tested.cell_types), len(tested.genes)))
    for k, own in enumerate(tested.cell_types):
        if (c, m) in own.tests:
            found[k, own.gene] = np.nan_to_num(np.sign(own.tests[c, m].log2fc))
    return found


def of(tested: Tested, t: int) -> OfCellType | None:
    """Return what was tested in a cell type, None if nothing was."""
    return next((own for own in tested.cell_types if own.t == t), None)
