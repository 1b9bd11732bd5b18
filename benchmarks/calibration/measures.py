"""What the results of a program say, with Monte-Carlo errors between data sets."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

LEVELS = (0.05, 0.01, 0.001)
FDR = 0.05
# Totals of a gene that are reported apart.
TOTALS = (0, 30, 100, 1000, np.inf)


class Mean(NamedTuple):
    """A mean over data sets and its standard error."""

    value: float
    error: float


def mean(values) -> Mean:
    """Average over data sets; NaN where a data set has none."""
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    if not x.size:
        return Mean(np.nan, np.nan)
    return Mean(float(x.mean()), float(x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else np.nan)


def adjusted(log_p: np.ndarray) -> np.ndarray:
    """Return Benjamini-Hochberg adjusted p-values, (G,), of log p-values; NaN stays."""
    out, tested = np.full(len(log_p), np.nan), np.flatnonzero(~np.isnan(log_p))
    order = tested[np.argsort(log_p[tested], kind="stable")][::-1]
    n = len(order)
    ratio = np.exp(log_p[order]) * n / np.arange(n, 0, -1)
    out[order] = np.minimum(np.minimum.accumulate(ratio), 1.0) if n else ratio
    return out


def average_precision(log_p: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the precision-recall curve, ties taken together; NaN without positives."""
    if not positive.any():
        return np.nan
    score = np.nan_to_num(log_p, nan=0.0)
    order = np.argsort(score, kind="stable")
    last = np.flatnonzero(np.diff(np.r_[score[order], np.inf]) != 0)
    hits = np.cumsum(positive[order])[last]
    gained = np.diff(np.r_[0, hits])
    return float((gained * hits / (last + 1.0)).sum() / positive.sum())


class Tests(NamedTuple):
    """One program on one data set."""

    nulls: int
    rejected: np.ndarray
    calls: int
    false: float
    found: float
    auprc: float


def tests(table: pd.DataFrame, program: str) -> Tests:
    """Summarize the tests; genes that a program was not given (NaN) do not count."""
    given = table[f"{program}|log_p"].notna().to_numpy()
    log_p = table[f"{program}|log_p"].to_numpy()[given]
    null = (table["effect"] == 0).to_numpy()[given]
    called = adjusted(log_p) <= FDR
    rejected = np.array([(log_p[null] <= np.log(level)).sum() for level in LEVELS])
    calls, effects = int(called.sum()), int((~null).sum())
    found = float(called[~null].sum() / effects) if effects else np.nan
    wrong = float(called[null].sum() / max(calls, 1))
    return Tests(int(null.sum()), rejected, calls, wrong, found, average_precision(log_p, ~null))


def seconds(tables: list[pd.DataFrame], program: str) -> str:
    """Return the median CPU seconds of a data set in words; empty for results without."""
    spent = [table[f"{program}|seconds"].iloc[0] for table in tables if f"{program}|seconds" in table]
    return f"{np.median(spent):.1f}" if spent else ""


def type_one(each: list[Tests]) -> list[Mean]:
    """Return the rejection rates of the null genes, the error binomial or between data sets, whichever is larger."""
    nulls = np.array([t.nulls for t in each], dtype=float)
    rates = []
    for k in range(len(LEVELS)):
        rejected = np.array([t.rejected[k] for t in each])
        rate = rejected.sum() / nulls.sum()
        binomial = np.sqrt(max(rate, 1.0 / nulls.sum()) * (1 - rate) / nulls.sum())
        between = np.sqrt(((rejected - rate * nulls) ** 2).sum() * len(each) / max(len(each) - 1, 1)) / nulls.sum()
        rates.append(Mean(float(rate), float(max(binomial, between))))
    return rates


def by_total(tables: list[pd.DataFrame], program: str) -> list[tuple[int, list[float]]]:
    """Return for each range of ``TOTALS`` the number of null tests and their rejection rates at ``LEVELS``."""
    joined = pd.concat([t.loc[t["effect"] == 0, ["total", f"{program}|log_p"]] for t in tables])
    total, log_p = joined.to_numpy().T
    found = []
    for low, high in pairwise(TOTALS):
        p = log_p[(total >= low) & (total < high)]
        found.append((len(p), [float((p <= np.log(level)).mean()) if len(p) else np.nan for level in LEVELS]))
    return found


def coverage(tables: list[pd.DataFrame], program: str, truth: str, low: str, high: str) -> Mean:
    """Return the share of genes whose interval holds the truth; truths of zero and missing intervals are left out."""
    shares = []
    for t in tables:
        if truth not in t or f"{program}|{low}" not in t:
            continue
        value, a, b = (t[name].to_numpy() for name in (truth, f"{program}|{low}", f"{program}|{high}"))
        usable = np.isfinite(a) & np.isfinite(b) & np.isfinite(value) & ((value > 0) | (truth == "effect"))
        shares.append(((a <= value) & (value <= b))[usable].mean() if usable.any() else np.nan)
    return mean(shares)
