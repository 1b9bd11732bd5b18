"""From the p-values of a null audit to its two tables and to words."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from mlmgen import columns
from mlmgen.audit import Audit

LEVELS = {"05": 0.05, "01": 0.01, "001": 0.001}
FDR = 0.05
INTERVAL = 0.95
MEDIAN_CHI2 = 0.4549  # of one degree of freedom
QQ_POINTS = 200
MANY = 1e6
# A type-I error at 0.05 within these limits changes no conclusion.
TOLERATED = (0.04, 0.06)
FEWEST_JUDGED = 3  # permutations, below which their differences say nothing
NOTE = (
    "The labels of each contrast were permuted and the genes fitted anew: 5 % of p-values should be below 0.05.",
    "Real effects stay in the data as noise: with many of them p-values are larger here than in the analysis itself,",
    "and injected effects harder to find.",
)


class Audited(NamedTuple):
    """The audit of one cell type and method."""

    cell_type: str
    method: str
    audit: Audit


def audit(found: Sequence[Audited]) -> pd.DataFrame:
    """Build the table of audits: one row per cell type x method x contrast.

    Returns
    -------
    DataFrame
        Columns as in ``columns.TABLES["audit"]``.
    """
    rows = [_row(one, c) for one in found for c in range(len(one.audit.contrasts))]
    return _typed(pd.DataFrame(rows, columns=columns.names("audit")), "audit")


def audit_qq(found: Sequence[Audited]) -> pd.DataFrame:
    """Build the table of expected and observed p-values: at most `QQ_POINTS` rows per cell type x method x contrast.

    Returns
    -------
    DataFrame
        Columns as in ``columns.TABLES["audit_qq"]``, the smallest p-value first.
    """
    parts = []
    for one in found:
        for c, contrast in enumerate(one.audit.contrasts):
            log_p = np.sort(_finite(one.audit.log_pvalue[c]))
            rank = _ranks(len(log_p))
            expected = -np.log10((rank - 0.5) / max(len(log_p), 1))
            keys = {"cell_type": one.cell_type, "method": one.method, "contrast": contrast}
            part = keys | {"rank": rank, "expected": expected, "observed": -log_p[rank - 1] / np.log(10.0) + 0.0}
            parts.append(pd.DataFrame(part))
    empty = pd.DataFrame(columns=columns.names("audit_qq"))
    return _typed(pd.concat(parts, ignore_index=True) if parts else empty, "audit_qq")


def _typed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Give the columns of the registry their order and types."""
    dtypes = {column.name: "object" if column.dtype == "str" else column.dtype for column in columns.TABLES[name]}
    return table[columns.names(name)].astype(dtypes)


def _row(one: Audited, c: int) -> dict:
    audit = one.audit
    splits = int(audit.splits[c])
    log_p = audit.log_pvalue[c, :splits]
    row = dict.fromkeys(columns.names("audit"), np.nan) | {
        "cell_type": one.cell_type,
        "method": one.method,
        "contrast": audit.contrasts[c],
        "permuted": audit.permuted[c],
        "exchanged": audit.exchanged[c],
        "n_splits": splits,
        "n_distinct": audit.distinct[c],
        "n_genes": len(audit.genes),
        "n_tests": int(np.isfinite(log_p).sum()),
        "n_injected": 0,
        "splits_with_calls": int(sum(bool(called(p).any()) for p in log_p)),
        "reason": audit.reasons[c],
    }
    if row["n_tests"]:
        row |= _type_one(log_p) | {"lambda": inflation(log_p)}
        row |= _injection(audit, c, splits)
    return row


def _type_one(log_p: np.ndarray) -> dict[str, float]:
    """Return the shares of p-values below each level, with intervals and a standard error between splits."""
    finite, found = _finite(log_p), {}
    for name, level in LEVELS.items():
        below = int((finite <= np.log(level)).sum())
        low, high = clopper_pearson(below, len(finite))
        found |= {f"type1_{name}": below / len(finite), f"type1_{name}_low": low, f"type1_{name}_high": high}
    by_split = [(_finite(p) <= np.log(LEVELS["05"])).mean() for p in log_p if np.isfinite(p).any()]
    return found | {"type1_05_se": standard_error(by_split)}


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a binomial probability (Clopper and Pearson 1934).

    Parameters
    ----------
    successes, trials : int
    """
    tail = (1.0 - INTERVAL) / 2.0
    low = special.betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = special.betaincinv(successes + 1, trials - successes, 1.0 - tail) if successes < trials else 1.0
    return float(low), float(high)


def inflation(log_p: np.ndarray) -> float:
    """Return lambda: the median chi-square quantile of p-values over the median of chi-square with one degree.

    Parameters
    ----------
    log_p : array
        Natural log; what is not finite does not count.
    """
    return float(special.ndtri_exp(np.median(_finite(log_p)) - np.log(2.0)) ** 2 / MEDIAN_CHI2)


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of a mean; NaN for fewer than two values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def called(log_p: np.ndarray) -> np.ndarray:
    """Return the calls at a false discovery rate of `FDR` by Benjamini-Hochberg among the tested genes, (G,) bool.

    Parameters
    ----------
    log_p : (G,) float64
        Natural log of p-values.
    """
    calls, tested = np.zeros(log_p.shape, dtype=bool), np.isfinite(log_p)
    if tested.any():
        calls[tested] = stats.false_discovery_control(np.exp(log_p[tested])) <= FDR
    return calls


def _injection(audit: Audit, c: int, splits: int) -> dict[str, float]:
    """Return the false discovery proportion and the power of injected effects, means over splits."""
    proportions, powers = [], []
    for log_p, sign in zip(audit.injected_log_pvalue[c, :splits], audit.injected[c, :splits], strict=True):
        calls, true = called(log_p), (sign != 0) & np.isfinite(log_p)
        proportions.append((calls & (sign == 0)).sum() / max(calls.sum(), 1))
        powers.append((calls & true).sum() / true.sum() if true.any() else np.nan)
    powers = [power for power in powers if np.isfinite(power)]
    return {
        "injected_log2fc": audit.log2fc[c],
        "n_injected": int((audit.injected[c, 0] != 0).sum()),
        "fdp": float(np.mean(proportions)),
        "fdp_se": standard_error(proportions),
        "power": float(np.mean(powers)) if powers else np.nan,
        "power_se": standard_error(powers),
    }


def _finite(log_p: np.ndarray) -> np.ndarray:
    return log_p[np.isfinite(log_p)]


def _ranks(n: int) -> np.ndarray:
    """Return at most `QQ_POINTS` ranks of n p-values, the smallest one by one, evenly spaced on a log scale."""
    if n == 0:
        return np.empty(0, dtype=np.int32)
    return np.unique(np.rint(np.geomspace(1, n, QQ_POINTS))).astype(np.int32)


def words(table: pd.DataFrame) -> str:
    """Say in a few lines what an audit found.

    Parameters
    ----------
    table : DataFrame
        From `audit`.
    """
    lines = [line for row in table.to_dict("records") for line in _sentences(row)]
    return "\n".join([*NOTE, *lines]) if lines else "no contrast was audited"


def _sentences(row: dict) -> list[str]:
    name = f"{row['cell_type']}, {row['contrast']}, {row['method']}"
    if row["reason"] or not row["n_tests"]:
        return [f"{name}: not audited, {row['reason'] or 'no gene could be tested'}."]
    tried = permutations(row["n_splits"], row["n_distinct"])
    return [
        f"{name}: {verdict(row)}.",
        f"  {_percent(row['type1_05'], 1)} of {row['n_tests']:,} p-values were below 0.05 and "
        f"{_percent(row['type1_001'], 2)} below 0.001, in {tried}; {row['splits_with_calls'] or 'none'} of these had "
        f"a call at {_percent(FDR)} FDR.",
        _injected(row),
    ]


def _injected(row: dict) -> str:
    if not np.isfinite([row["power"], row["fdp"]]).all():
        return "  No effects could be injected."
    error = f" (standard error {_percent(row['fdp_se'], 1)})" if np.isfinite(row["fdp_se"]) else ""
    return (
        f"  Of injected effects (log2 fold change {row['injected_log2fc']:.3g}) {_percent(row['power'])} were found; "
        f"{_percent(row['fdp'], 1)} of the calls were false{error}, where {_percent(FDR)} are allowed."
    )


def permutations(made: int, there_are: float) -> str:
    """Say how many permutations were made of how many: ``20 of 461 possible permutations``.

    Parameters
    ----------
    made : int
    there_are : float
        As `mlmgen.exchange.number_of_splits`.
    """
    if made == there_are:
        return f"all {made:,} possible permutations" if made > 1 else "the only possible permutation"
    possible = f"{there_are:,.0f}" if there_are < MANY else "more than a million"
    return f"{made:,} of {possible} possible permutations"


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100.0 * share:.{decimals}f} %"


def verdict(row: dict) -> str:
    """Judge the type-I error at 0.05.

    Its interval is the wider of the binomial one and that of a mean over splits, which genes that vary together widen.

    Parameters
    ----------
    row : dict
        Of the table of audits.
    """
    rate, (low, high) = row["type1_05"], TOLERATED
    if row["n_splits"] < FEWEST_JUDGED:
        return "too few permutations to tell whether p-values hold"
    margin = stats.t.isf((1.0 - INTERVAL) / 2.0, row["n_splits"] - 1) * row["type1_05_se"]
    if rate < low and max(rate + margin, row["type1_05_high"]) < LEVELS["05"]:
        return "p-values are larger than they need be, as they are where many genes have real effects"
    if rate <= high:
        return "p-values hold"
    if min(rate - margin, row["type1_05_low"]) > LEVELS["05"]:
        return "p-values are too small here, read them with caution"
    return "p-values may be too small, but the permutations differ too much to tell"
