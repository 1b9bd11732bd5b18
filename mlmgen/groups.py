"""Codings of rows in groups, compared."""

import numpy as np


def determines(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether each group of ``first`` lies in one group of ``second``.

    Parameters
    ----------
    first, second : (n,) int
        Codes from 0.
    """
    place = np.zeros(int(first.max(initial=0)) + 1, dtype=np.int64)
    place[first[::-1]] = np.arange(first.size - 1, -1, -1)
    return bool((second == second[place[first]]).all())


def same_groups(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether two codings put the rows in the same groups."""
    return determines(first, second) and determines(second, first)
