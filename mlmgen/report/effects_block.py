"""The effects of a cell type in a block of bytes: every tested gene, a tenth of a standard error at a time.

Of a gene that was tested, the log of the standard error s, the effect in standard errors w = log2fc / s and the
statistic z are stored as codes of `mlmgen.report.packing` with steps of a tenth, each less what can be foretold:

    log s of the first method    a cubic of the log mean count; of the second method, log s of the first
    w of the second method       w of the first
    z of the first method        w; of the second, w and the difference z - w of the first

The p-value is that of z, two-sided; the adjusted one is interpolated between `KNOTS` points (log10 p, log10 padj) and
corrected where that errs; which genes were called is a list. The interval has its width only, and is centred on the
effect. Genes that are called, strongest first up to a number, are stored to 4 digits instead, both ends of their
intervals among them, and so are the strongest `ALWAYS_EXACT` of every test. A joint test has no effect: its w is the
root of its chi-square quantile, and z is the normal quantile of its p-value.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from mlmgen.fdr import LEVEL
from mlmgen.report.packing import add, codes_of, dither, gaps, quantized, restored
from mlmgen.report.tested import NUMBERS, OfCellType, Test

STEP = 0.1
# Of the exact rows: log2, natural log, standard deviations, log10, log2 (ends of the interval).
FINE = {"w": 1e-3, "s": 1e-3, "z": 1e-3, "q": 1e-3, "i": 1e-3}
NO_END = np.iinfo(np.int32).max  # code of an end that is not known
# Of the natural logs of the mean count and of the exposure that would give the share of cells.
MEAN_STEP, SHARE_STEP = 0.2, 0.1
# Of log10 padj, and of the log of the interval's half width over 1.96 standard errors.
PADJ_STEP, WIDTH_STEP = 0.05, 0.05
NORMAL = 1.959963984540054
KNOTS = 100
ALWAYS_EXACT = 30
SMALLEST_P = 2.2e-308
ABSENT = -1  # status of a gene that a method did not fit
LEAST_SHARE = 1e-6


class Decoded(NamedTuple):
    """A test as the page has it; n genes, NaN for those not tested."""

    w: np.ndarray
    log_s: np.ndarray
    z: np.ndarray


def packed(cell_type: OfCellType, most_exact: int, step: float = STEP) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the header and the columns of a cell type's block.

    Parameters
    ----------
    cell_type : OfCellType
    most_exact : int
        Genes of each test that are stored to 4 digits.
    step : float
        Of standard errors, effects and statistics.
    """
    columns, d = {}, dither(cell_type.gene)
    add(columns, "gene", gaps(cell_type.gene))
    log_mean = np.log(np.maximum(cell_type.mean_count, LEAST_SHARE))
    codes = quantized(log_mean, MEAN_STEP, d)
    add(columns, "mean", codes)
    log_mean = restored(codes, MEAN_STEP, d)
    add(columns, "share", quantized(_log_exposure(cell_type.pct_cells) - log_mean, SHARE_STEP))
    for m, status in enumerate(cell_type.status):
        add(columns, f"status{m}", status.astype(np.int64))
    tests, first = [], {}
    for (c, m), test in cell_type.tests.items():
        header, first_of = _test(columns, f"{c}.{m}.", test, log_mean, first.get(c), d, most_exact, step)
        first.setdefault(c, first_of)
        tests.append({"c": c, "m": m, **header})
    steps = {"step": step, "mean": MEAN_STEP, "share": SHARE_STEP, "padj": PADJ_STEP, "width": WIDTH_STEP, **FINE}
    return {"n": len(cell_type.gene), "steps": steps, "tests": tests}, columns


def _log_exposure(pct_cells: np.ndarray) -> np.ndarray:
    """Return the log of the mean of a Poisson count that is above 0 in so many percent of the cells."""
    share = np.clip(pct_cells / 100.0, LEAST_SHARE, 1.0 - LEAST_SHARE)
    return np.log(-np.log1p(-share))


def _test(columns, prefix, test: Test, log_mean, first: Decoded | None, d, most_exact: int, step: float):
    """Add the columns of one test; return its header and what the page will read of it."""
    tested = test.tested
    w, log_s = _parts(test)
    z = _normal(test)
    exact = _exact(test, most_exact)
    coarse = tested & ~exact
    found = Decoded(*(np.full(len(tested), np.nan) for _ in range(3)))
    curve = _curve(log_mean, log_s, tested)
    header = {"joint": test.joint, "curve": curve, "knots": _knots(z, test.padj, tested)}
    add(columns, f"{prefix}out", gaps(np.flatnonzero(~tested)))
    add(columns, f"{prefix}exact", gaps(np.flatnonzero(exact)))
    for name, values, kept in (("s", log_s, found.log_s), ("w", test.log2fc if not test.joint else w, found.w)):
        codes = quantized(values[exact], FINE[name])
        add(columns, f"{prefix}e{name}", codes, "i2")
        kept[exact] = restored(codes, FINE[name])
    if not test.joint:
        found.w[exact] /= np.exp(found.log_s[exact])
    codes = quantized(z[exact], FINE["z"])
    add(columns, f"{prefix}ez", codes, "i2")
    found.z[exact] = restored(codes, FINE["z"])
    add(columns, f"{prefix}eq", quantized(np.log10(np.maximum(test.padj[exact], SMALLEST_P)), FINE["q"]), "i2")
    if not test.joint:
        add(columns, f"{prefix}el", _end_codes(test.ci_low[exact]), "i2")
        add(columns, f"{prefix}eh", _end_codes(test.ci_high[exact]), "i2")
    for name, values, told, kept in (
        ("s", log_s, lambda: _foretold(first, "log_s", np.polyval(curve, log_mean)), found.log_s),
        ("w", w, lambda: _foretold(first, "w", 0.0), found.w),
        ("z", z, lambda: found.w + (0.0 if first is None else _or_zero(first.z - first.w)), found.z),
    ):
        expected = np.broadcast_to(told(), tested.shape)[coarse]
        codes = quantized(values[coarse] - expected, step, d[coarse])
        add(columns, prefix + name, codes)
        kept[coarse] = restored(codes, step, d[coarse]) + expected
    told = _interpolated(header["knots"], found.z[coarse])
    add(columns, f"{prefix}q", quantized(np.log10(np.maximum(test.padj[coarse], SMALLEST_P)) - told, PADJ_STEP))
    add(columns, f"{prefix}width", quantized(_log_width(test)[coarse], WIDTH_STEP))
    add(columns, f"{prefix}called", gaps(np.flatnonzero(test.called)))
    add(columns, f"{prefix}disagree", gaps(np.flatnonzero(test.disagree & tested)))
    for code in np.unique(test.stable[test.stable > 0]):
        add(columns, f"{prefix}stable{code}", gaps(np.flatnonzero((test.stable == code) & tested)))
    return header, found


def _parts(test: Test) -> tuple[np.ndarray, np.ndarray]:
    """Return w and log s; of a joint test the root of its statistic, and zeros."""
    if test.joint:
        return np.sqrt(np.maximum(test.statistic, 0.0)), np.where(test.tested, 0.0, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return test.log2fc / test.lfc_se, np.log(test.lfc_se)


def _normal(test: Test) -> np.ndarray:
    """Return the normal quantile of the p-value, with the sign of the effect."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z = -ndtri_exp(np.log(np.maximum(test.pvalue, SMALLEST_P) / 2.0))
    return z if test.joint else np.copysign(z, np.where(np.isfinite(test.statistic), test.statistic, 1.0))


def _exact(test: Test, most: int) -> np.ndarray:
    """Choose the tests that are stored to 4 digits: those that are called, strongest first, and always some."""
    order = np.argsort(np.where(test.tested, test.pvalue, np.inf), kind="stable")
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[: max(min(most, int(test.called.sum())), ALWAYS_EXACT)]] = True
    return chosen & test.tested


def _curve(log_mean: np.ndarray, log_s: np.ndarray, tested: np.ndarray) -> list[float]:
    """Return the cubic that foretells the log standard error from the log mean count, highest power first."""
    use = tested & np.isfinite(log_s)
    degree = 3 if use.sum() > 20 else 0
    if not use.any():
        return [0.0]
    fit = np.polynomial.Polynomial.fit(log_mean[use], log_s[use], degree).convert().coef[::-1]
    return [float(f"{value:.6g}") for value in fit]


def _foretold(first: Decoded | None, name: str, otherwise) -> np.ndarray:
    """Return what the first method says of each gene, and where it says nothing, something else."""
    if first is None:
        return otherwise
    values = getattr(first, name)
    return np.where(np.isfinite(values), values, otherwise)


def _or_zero(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.0)


def log10_p(z: np.ndarray) -> np.ndarray:
    """Return log10 of the two-sided p-value of a normal quantile."""
    return (np.log(2.0) + log_ndtr(-np.abs(z))) / np.log(10.0)


def _knots(z: np.ndarray, padj: np.ndarray, tested: np.ndarray) -> list[list[float]]:
    """Return points of log10 padj against log10 p, at p-values whose ranks are evenly spaced on a log scale."""
    x, y = log10_p(z[tested]), np.log10(np.maximum(padj[tested], SMALLEST_P))
    order = np.lexsort((y, x))
    ranks = np.unique(np.rint(np.geomspace(1, max(len(x), 1), KNOTS)).astype(np.int64)) - 1
    x, first = np.unique(np.round(x[order][ranks], 3), return_index=True)
    return [x.tolist(), np.round(y[order][ranks][first], 3).tolist()]


def _interpolated(knots: list[list[float]], z: np.ndarray) -> np.ndarray:
    return np.interp(log10_p(z), *knots) if knots[0] else np.zeros(len(z))


def _log_width(test: Test) -> np.ndarray:
    """Return the log of the interval's half width over 1.96 standard errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log((test.ci_high - test.ci_low) / (2.0 * NORMAL * test.lfc_se))


def _end_codes(ends: np.ndarray) -> np.ndarray:
    """Return the codes of ends of intervals, `NO_END` where they are not finite."""
    codes = quantized(np.clip(ends, -1e6, 1e6), FINE["i"])
    return np.where(np.isfinite(ends), codes, NO_END)


def _ends(codes: np.ndarray) -> np.ndarray:
    """Return the ends that codes stand for."""
    return np.where(codes == NO_END, np.nan, restored(codes, FINE["i"]))


def interval_errors(cell_type: OfCellType, header: dict, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return how far the ends of rounded intervals lie from the table's, in standard errors, the larger of each.

    Parameters
    ----------
    cell_type : OfCellType
    header : dict
    columns : dict of str to array
        From `packed`.
    """
    found = [np.zeros(0)]
    for key, page in restore(header, columns)["tests"].items():
        test = cell_type.tests[key]
        rows = page["tested"] & ~page["exact"]
        ends = [np.abs(page[name] - getattr(test, name))[rows] / test.lfc_se[rows] for name in ("ci_low", "ci_high")]
        found.append(np.maximum(*ends))
    errors = np.concatenate(found)
    return errors[np.isfinite(errors)]


def _listed(columns: dict, name: str, n: int) -> np.ndarray:
    """Return where a list of places points, (n,) bool."""
    found = np.zeros(n, dtype=bool)
    if name in columns:
        found[np.cumsum(codes_of(columns, name) + 1) - 1] = True
    return found


def restore(header: dict, columns: dict[str, np.ndarray]) -> dict:
    """Return what the page reads from a block, as ``assets/data.js`` does: the judge of what was packed.

    Returns
    -------
    dict
        ``gene``, ``mean_count``, ``pct_cells``, ``status``; ``tests``: dict of (contrast, method) to dict of arrays,
        n genes as in the block.
    """
    steps = header["steps"]
    gene = np.cumsum(codes_of(columns, "gene") + 1) - 1
    d = dither(gene)
    log_mean = restored(codes_of(columns, "mean"), steps["mean"], d)
    exposure = np.exp(restored(codes_of(columns, "share"), steps["share"]) + log_mean)
    found = {"gene": gene, "mean_count": np.exp(log_mean), "pct_cells": -100.0 * np.expm1(-exposure)}
    found["status"] = [codes_of(columns, name) for name in columns if name.startswith("status") and name[-1] != "!"]
    tests, first = {}, {}
    for one in header["tests"]:
        c, m = one["c"], one["m"]
        values, decoded = _restored_test(one, columns, f"{c}.{m}.", log_mean, first.get(c), d, steps)
        first.setdefault(c, decoded)
        tests[c, m] = values
    return found | {"tests": tests}


def _restored_test(header, columns, prefix, log_mean, first: Decoded | None, d, steps: dict):
    n = len(log_mean)
    tested, exact = ~_listed(columns, f"{prefix}out", n), _listed(columns, f"{prefix}exact", n)
    coarse = tested & ~exact
    fine = {name: restored(codes_of(columns, f"{prefix}e{name}"), steps[name]) for name in ("s", "w", "z", "q")}
    found = Decoded(*(np.full(n, np.nan) for _ in range(3)))
    found.log_s[exact], found.z[exact] = fine["s"], fine["z"]
    found.w[exact] = fine["w"] if header["joint"] else fine["w"] / np.exp(fine["s"])
    told = {
        "s": lambda: _foretold(first, "log_s", np.polyval(header["curve"], log_mean)),
        "w": lambda: _foretold(first, "w", 0.0),
        "z": lambda: found.w + (0.0 if first is None else _or_zero(first.z - first.w)),
    }
    for name, kept in (("s", found.log_s), ("w", found.w), ("z", found.z)):
        expected = np.broadcast_to(told[name](), tested.shape)[coarse]
        kept[coarse] = restored(codes_of(columns, prefix + name), steps["step"], d[coarse]) + expected
    log_q = np.full(n, np.nan)
    log_q[exact] = fine["q"]
    log_q[coarse] = _interpolated(header["knots"], found.z[coarse])
    log_q[coarse] += restored(codes_of(columns, f"{prefix}q"), steps["padj"])
    called = _listed(columns, f"{prefix}called", n)
    width = np.full(n, np.nan)
    width[coarse] = np.exp(restored(codes_of(columns, f"{prefix}width"), steps["width"]))
    values = _values(header["joint"], found, log_q, called, width, exact, tested)
    if not header["joint"]:
        values["ci_low"][exact] = _ends(codes_of(columns, f"{prefix}el"))
        values["ci_high"][exact] = _ends(codes_of(columns, f"{prefix}eh"))
    return values, found


def _values(joint: bool, found: Decoded, log_q, called, width, exact, tested) -> dict[str, np.ndarray]:
    """Return the columns of the table of effects from what was restored."""
    se = np.where(joint, np.nan, np.exp(found.log_s))
    effect = found.w * se
    padj = np.minimum(10.0**log_q, 1.0)
    padj = np.where(called, np.minimum(padj, np.nextafter(LEVEL, 0)), np.maximum(padj, LEVEL))
    numbers = (
        effect,
        se,
        effect - NORMAL * width * se,
        effect + NORMAL * width * se,
        np.where(joint, found.w**2, found.z),
        np.maximum(10.0 ** log10_p(found.z), SMALLEST_P),
        np.where(tested, padj, np.nan),
    )
    return dict(zip(NUMBERS, numbers, strict=True)) | {"called": called, "exact": exact, "tested": tested}
