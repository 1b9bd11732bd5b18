"""The Markdown tables, with the bars that are met and missed."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.calibration import measures, store
from benchmarks.calibration.measures import Mean
from benchmarks.calibration.ours import METHODS
from benchmarks.calibration.real import REAL
from benchmarks.calibration.settings import COVARIATE, SIMULATED, UNBALANCED

# The bars: type-I error at .05 and .001, realised false discovery proportion at 5 %.
TYPE_ONE, TYPE_ONE_SMALL, PROPORTION = (0.04, 0.06), 0.002, 0.06
# On real nulls, and splits with any call: one cell type, all of them together.
TYPE_ONE_REAL, TYPE_ONE_SMALL_REAL, SPLITS, SPLITS_POOLED = 0.062, 0.0022, 0.15, 0.08
COVERAGE, COVERAGE_VARIANCE = (0.93, 0.97), (0.90, 0.98)
JUDGE, RATES = "edgeR QL", (".05", ".01", ".001")
# Donors an arm from which power counts, and by how much it may be below the judge's.
FEWEST_FOR_POWER, FEWEST_UNBALANCED, POWER_LOSS = 5, 6, 0.02


def show(folder: Path) -> None:
    """Print every table of the results in a folder."""
    results = {name: list(store.read(folder, name).values()) for name in (*SIMULATED, *REAL)}
    print(", ".join(f"{name} {version}" for name, version in sorted(store.versions(folder).items())))
    simulated = {name: results[name] for name in SIMULATED if results[name]}
    print("\n" + "\n".join(calibration(simulated)))
    print("\n" + "\n".join(counts(simulated)))
    print("\n" + "\n".join(intervals(simulated)))
    print("\n" + "\n".join(side_by_side(simulated)))
    print("\n" + "\n".join(real({name: results[name] for name in REAL if results[name]})))


def having(tables: list[pd.DataFrame], *programs: str) -> list[pd.DataFrame]:
    """Return the data sets on which all the programs were run."""
    return [table for table in tables if set(programs) <= store.programs(table)]


def calibration(results: dict) -> list[str]:
    """Return the table of type-I error and realised false discoveries of both methods."""
    lines = ["| setting | method | sets, null tests | .05 | .01 | .001 | FDP at 5 %, % | missed |", "|---" * 8 + "|"]
    for name, tables in results.items():
        for method in METHODS:
            each = [measures.tests(table, method) for table in having(tables, method)]
            if not each:
                continue
            rates, proportion = measures.type_one(each), measures.mean([t.false for t in each])
            number = f"{len(each)}, {sum(t.nulls for t in each):,}"
            wrong = off(rates, proportion)
            shown = " | ".join(rate(r, digits) for r, digits in zip(rates, (4, 4, 5), strict=True))
            lines.append(f"| {name} | {method} | {number} | {shown} | {percent(proportion)} | {wrong} |")
    return lines


def off(rates: list[Mean], proportion: Mean) -> str:
    """Name the bars missed; in brackets what is within two standard errors of its bar."""
    low, high = TYPE_ONE
    checks = [
        (".05", rates[0].value - high, rates[0].error),
        (".05 low", low - rates[0].value, rates[0].error),
        (".001", rates[2].value - TYPE_ONE_SMALL, rates[2].error),
        ("FDP", proportion.value - PROPORTION, proportion.error),
    ]
    return ", ".join(name if excess > 2 * error else f"({name})" for name, excess, error in checks if excess > 0)


def counts(results: dict) -> list[str]:
    """Return the rejection rates of all settings together by the gene's total count."""
    lines = ["| total count | program | null tests | .05 | .01 | .001 |", "|---" * 6 + "|"]
    every = [table for tables in results.values() for table in tables]
    for program in (*METHODS, JUDGE):
        tables = having(every, program)
        found = measures.by_total(tables, program) if tables else []
        for (n, rates), low, high in zip(found, measures.TOTALS[:-1], measures.TOTALS[1:], strict=bool(found)):
            between = f"{low:,.0f} to {high:,.0f}" if np.isfinite(high) else f"{low:,.0f} or more"
            lines.append(f"| {between} | {program} | {n:,} | {rates[0]:.4f} | {rates[1]:.4f} | {rates[2]:.5f} |")
    return lines


def intervals(results: dict) -> list[str]:
    """Return the coverage of the 95 % intervals: effects of both methods, variances and the dispersion from cells."""
    heads = ("setting", "effect, glmm", "effect, pseudobulk", "donor", "donor:condition", "dispersion", "missed")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    asked = [(m, "effect", "low", "high", COVERAGE) for m in METHODS]
    asked += [("glmm", f"true {v}", f"{v}_low", f"{v}_high", COVERAGE_VARIANCE) for v in ("v0", "v1", "phi")]
    for name, tables in results.items():
        found = [measures.coverage(tables, *which) for *which, _ in asked]
        wrong = [
            head
            for head, f, (*_, (low, high)) in zip(heads[1:], found, asked, strict=False)
            if f.value < low or f.value > high
        ]
        lines.append(f"| {name} | {' | '.join(percent(f) for f in found)} | {', '.join(wrong)} |")
    return lines


def side_by_side(results: dict) -> list[str]:
    """Return the programs on the same data sets; the last column compares with edgeR QL on those both were run on."""
    heads = ("setting", "program", "sets", "CPU s", ".05", ".001", "FDP, %", "power, %", "AUPRC")
    heads += (f"AUPRC less {JUDGE}'s", "power less", "missed")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, tables in results.items():
        others = sorted({program for table in tables for program in store.programs(table)} - {*METHODS, JUDGE})
        for program in (*METHODS, JUDGE, *others):
            each = [measures.tests(table, program) for table in having(tables, program)]
            if each and others + having(tables, JUDGE):
                spent = measures.seconds(tables, program)
                found = _compared(name, program, tables, each)
                lines.append(f"| {name} | {program} | {len(each)} | {spent} | {found} |")
    return lines


def _compared(name: str, program: str, tables: list, each: list) -> str:
    rates = measures.type_one(each)
    shown = [rate(rates[0], 4), rate(rates[2], 5), percent(measures.mean([t.false for t in each]))]
    shown += [percent(measures.mean([t.found for t in each])), rate(measures.mean([t.auprc for t in each]), 3)]
    both = having(tables, program, JUDGE)
    if program == JUDGE or not both:
        return " | ".join([*shown, "", "", ""])
    both = [table[table[f"{program}|log_p"].notna()] for table in both]
    pairs = [(measures.tests(table, program), measures.tests(table, JUDGE)) for table in both]
    auprc = measures.mean([a.auprc - b.auprc for a, b in pairs])
    power = measures.mean([a.found - b.found for a, b in pairs])
    wrong = _behind(name, auprc, power) if program in METHODS else ""
    return " | ".join([*shown, signed(auprc), signed(power), wrong])


def _behind(name: str, auprc: Mean, power: Mean) -> str:
    """Name what is below the judge's; in brackets what is within two standard errors."""
    setting = SIMULATED[name]
    least = -POWER_LOSS if setting.replicates >= FEWEST_FOR_POWER else -np.inf
    if setting.formula == COVARIATE or (setting.cells == UNBALANCED and setting.replicates >= FEWEST_UNBALANCED):
        least = 0.0
    checks = (("AUPRC", auprc.value, auprc.error), ("power", power.value - least, power.error))
    return ", ".join(what if below < -2 * error else f"({what})" for what, below, error in checks if below < 0)


def real(results: dict) -> list[str]:
    """Return the table of the real nulls, a line for each cell type and program, and the splits with a call in all."""
    heads = ("donors split", "program", "splits, tests", *RATES, "splits with a call, %", "calls", "missed")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    pooled: dict[str, list[int]] = {}
    for name, tables in results.items():
        for program in (*METHODS, JUDGE, "NEBULA-LN"):
            each = [measures.tests(table, program) for table in having(tables, program)]
            if not each:
                continue
            rates, called = measures.type_one(each), [int(t.calls > 0) for t in each]
            pooled.setdefault(program, []).extend(called)
            checks = ((".05", rates[0].value > TYPE_ONE_REAL), (".001", rates[2].value > TYPE_ONE_SMALL_REAL))
            wrong = [what for what, yes in (*checks, ("calls", np.mean(called) > SPLITS)) if yes]
            cells = [name, program, f"{len(each)}, {sum(t.nulls for t in each):,}", *(rate(r, 4) for r in rates)]
            cells += [f"{100 * np.mean(called):.0f}", f"{sum(t.calls for t in each)}", ", ".join(wrong)]
            lines.append(f"| {' | '.join(cells)} |")
    for program, called in pooled.items():
        wrong = "calls" if np.mean(called) > SPLITS_POOLED and program in METHODS else ""
        lines.append(f"| all | {program} | {len(called)} | | | | {100 * np.mean(called):.1f} | | {wrong} |")
    return lines


def rate(x: Mean, digits: int) -> str:
    """Write a value and its error."""
    return _with_error(f".{digits}f", x)


def percent(x: Mean) -> str:
    """Write a share in percent."""
    return _with_error(".1f", Mean(100 * x.value, 100 * x.error))


def signed(x: Mean) -> str:
    """Write a difference."""
    return _with_error("+.3f", x)


def _with_error(form: str, x: Mean) -> str:
    """Write a value, with its error where there are data sets enough to have one."""
    if np.isnan(x.value):
        return ""
    return format(x.value, form) + ("" if np.isnan(x.error) else f" ± {format(x.error, form.strip('+'))}")
