"""What would make results wrong: p-values, the audit, fits that failed, methods that disagree, random effects."""

import re
from typing import TYPE_CHECKING

import numpy as np

from mlmgen import audit_tables
from mlmgen.findings import Findings
from mlmgen.report.packing import rounded
from mlmgen.report.tested import STABLE, Tested
from mlmgen.status import Status, label

if TYPE_CHECKING:
    import pandas as pd

BINS = 20
QQ_POINTS = 80
MEDIAN_CHI2 = 0.4549  # of one degree of freedom
UPPER_HALF = 0.5
MOST_NAMED = 10  # genes of a reason
MOST_DISAGREEMENTS = 30  # rows of a cell type and contrast
MOST_DONORS = 8  # on whom unstable calls rest
# What `mlmgen.audit_tables.verdict` says, in one to three words.
VERDICTS = {
    "p-values hold": "holds",
    "p-values are too small here, read them with caution": "too small",
    "p-values are larger than they need be, as they are where many genes have real effects": "too large",
    "p-values may be too small, but the permutations differ too much to tell": "cannot tell",
    "too few permutations to tell whether p-values hold": "cannot tell",
}
# Reasons that differ in a number or a name are of one kind.
KINDS = (
    (re.compile(r"counts in .*, (\w+) is (.*)"), r"too few counts: \1 is \2"),
    (re.compile(r"donor .* carries it.*"), "one donor carries it"),
    (re.compile(r"the variance between samples is estimated as .*"), "a method finds no variance between samples"),
)


def section(findings: Findings, tested: Tested, diagnostics: list[dict]) -> dict:
    """Return everything of the section for the page.

    Parameters
    ----------
    findings : Findings
    tested : Tested
    diagnostics : list of dict
        Of the random effects.
    """
    place = {gene: g for g, gene in enumerate(tested.genes)}
    return {
        "pvalues": [_histogram(*one) for one in _tests(tested)],
        "qq": [_quantiles(*one) for one in _tests(tested)],
        "audit": audit(findings),
        "audit_qq": _audit_qq(findings),
        "fits": _ledger(findings),
        "reasons": _reasons(findings, place),
        "disagreements": _disagreements(findings, place),
        "stability": _stability(findings, tested),
        "random_effects": diagnostics,
    }


def _tests(tested: Tested):
    for own in tested.cell_types:
        for (c, m), test in own.tests.items():
            yield {"t": own.t, "c": c, "m": m}, test.pvalue[test.tested]


def _histogram(keys: dict, p: np.ndarray) -> dict:
    counts, edges = np.histogram(p, bins=BINS, range=(0.0, 1.0))
    null = min(1.0, float((p > UPPER_HALF).mean()) / (1.0 - UPPER_HALF)) if len(p) else None
    return {**keys, "edges": rounded(edges, 4), "counts": counts.tolist(), "pi0": null and round(null, 3)}


def _quantiles(keys: dict, p: np.ndarray) -> dict:
    """Return observed against expected p-values, -log10, the smallest one by one and then ever fewer of them."""
    from scipy.special import ndtri

    n = max(len(p), 1)
    rank = np.unique(np.rint(np.geomspace(1, n, QQ_POINTS)).astype(np.int64))[: max(len(p), 0)]
    observed = -np.log10(np.sort(p)[rank - 1]) + 0.0
    inflation = float(ndtri(np.median(p) / 2.0) ** 2 / MEDIAN_CHI2) if len(p) else np.nan
    expected = -np.log10((rank - 0.5) / n)
    return {**keys, "expected": rounded(expected), "observed": rounded(observed), "lambda": rounded([inflation])[0]}


def keys_of(findings: Findings, row: dict) -> dict:
    """Return the places of a row's cell type, contrast and method, as far as it has them."""
    lists = {"t": ("cell_type", list(findings.provenance["cell_types"])), "c": ("contrast", findings.contrasts)}
    lists["m"] = ("method", findings.methods)
    return {key: list(known).index(row[name]) for key, (name, known) in lists.items() if name in row}


def records(table: "pd.DataFrame") -> list[dict]:
    """Return the rows of a table, of plain values: pandas' own way takes five times as long for few rows."""
    values = [table[name].astype(object).tolist() for name in table]
    return [dict(zip(table, row, strict=True)) for row in zip(*values, strict=True)]


def plain(row: dict, digits: int = 4) -> dict:
    """Return a row of a table for JSON: numbers rounded, missing ones None."""
    return {name: _plain(value, digits) for name, value in row.items()}


def _plain(value, digits: int):
    if value is None or isinstance(value, (str, bool)):
        return value
    return rounded([value], digits)[0] if isinstance(value, (float, np.floating)) else int(value)


def audit(findings: Findings) -> list[dict]:
    """Return the rows of the audit with a verdict of one to three words and its sentence."""
    if findings.audit is None:
        return []
    return [
        {**plain(row), **keys_of(findings, row), **dict(zip(("verdict", "text"), _verdict(row), strict=True))}
        for row in records(findings.audit)
    ]


def _verdict(row: dict) -> tuple[str, str]:
    if row["reason"] or not row["n_tests"]:
        return "not audited", row["reason"] or "no gene could be tested"
    text = audit_tables.verdict(row)
    return VERDICTS[text], text


def _audit_qq(findings: Findings) -> list[dict]:
    if findings.audit_qq is None:
        return []
    found = []
    for names, part in findings.audit_qq.groupby(["cell_type", "method", "contrast"], observed=True, sort=False):
        keys = keys_of(findings, dict(zip(("cell_type", "method", "contrast"), names, strict=True)))
        thin = part.iloc[np.unique(np.linspace(0, len(part) - 1, QQ_POINTS).astype(int))]
        found.append({**keys, "expected": rounded(thin["expected"]), "observed": rounded(thin["observed"])})
    return found


def _ledger(findings: Findings) -> list[dict]:
    """Count how the fits of every cell type and method ended."""
    names = [label(status) for status in Status]
    sizes = findings.fits.groupby(["cell_type", "method", "status"], observed=True).size()
    found = []
    for (cell_type, method), part in sizes.groupby(level=[0, 1], observed=True, sort=False):
        counts = part.droplevel([0, 1])
        keys = keys_of(findings, {"cell_type": cell_type, "method": method})
        found.append({**keys, "counts": [int(counts.get(name, 0)) for name in names]})
    return sorted(found, key=lambda one: (one["t"], one["m"]))


def _reasons(findings: Findings, place: dict[str, int]) -> list[dict]:
    """Count the reasons of fits that need one, by kind; genes are named but for those that were filtered."""
    table = findings.fits
    told = table[(table["reason"].astype(object) != "").to_numpy() & (table["status"] != "boundary").to_numpy()]
    words = {text: kind_of(text) for text in told["reason"].astype(object).unique()}
    kinds = told["reason"].astype(object).map(words)
    keys = [told["cell_type"].astype(object), told["method"].astype(object), told["status"].astype(object), kinds]
    found = []
    for (cell_type, method, status, text), genes in told["gene"].groupby(keys, sort=False):
        keys_there = keys_of(findings, {"cell_type": cell_type, "method": method})
        named = [] if status == label(Status.FILTERED) else [place[gene] for gene in genes.head(MOST_NAMED)]
        found.append({**keys_there, "status": status, "reason": text, "n": len(genes), "genes": named})
    return sorted(found, key=lambda one: (one["t"], one["m"], one["status"], -one["n"], one["reason"]))


def _disagreements(findings: Findings, place: dict[str, int]) -> dict:
    """List what the methods disagree about, and count the kinds of reasons: what stands before the first colon."""
    if findings.concordance is None:
        return {"reasons": [], "kinds": [], "rows": [], "counts": []}
    table = findings.concordance[(findings.concordance["disagree"] == "yes").to_numpy()]
    reasons, kinds, rows, counts = {}, {}, [], []
    for names, part in table.groupby(["cell_type", "contrast"], observed=True, sort=False):
        keys = keys_of(findings, dict(zip(("cell_type", "contrast"), names, strict=True)))
        for row in part.head(MOST_DISAGREEMENTS).itertuples():
            reason = reasons.setdefault(row.reason, len(reasons))
            difference = rounded([row.difference])[0]
            rows.append({**keys, "gene": place[row.gene], "reason": reason, "difference": difference})
        for kind, n in _kinds(part["reason"]).items():
            counts.append({**keys, "kind": kinds.setdefault(kind, len(kinds)), "n": n})
    return {"reasons": list(reasons), "kinds": list(kinds), "rows": rows, "counts": counts}


def kind_of(reason: str) -> str:
    """Return what reasons of a kind have in common."""
    for pattern, text in KINDS:
        if found := pattern.fullmatch(reason):
            return found.expand(text)
    return reason


def _kinds(reasons: "pd.Series") -> dict[str, int]:
    found: dict[str, int] = {}
    for text in reasons:
        for part in text.split("; "):
            kind = kind_of(part).partition(":")[0]
            found[kind] = found.get(kind, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _stability(findings: Findings, tested: Tested) -> list[dict]:
    """Count which reported effects are stable, and on which donors the others rest."""
    found = []
    for own in tested.cell_types:
        for (c, m), test in own.tests.items():
            counts = np.bincount(test.stable[test.tested], minlength=len(STABLE))[1:]
            if counts.sum():
                numbers = {name: int(n) for name, n in zip(STABLE[1:], counts, strict=True)}
                donors = _donors(findings, own.t, c, m)
                found.append({"t": own.t, "c": c, "m": m, "asked": int(counts.sum()), **numbers, "donors": donors})
    return found


def _donors(findings: Findings, t: int, c: int, m: int) -> list[dict]:
    """Return the donors without whom most unstable effects are not found."""
    method, table = findings.methods[m], findings.concordance
    end = f"_{method}"
    if table is None:
        table, end = findings.stability, ""
    own = (table["cell_type"] == list(findings.provenance["cell_types"])[t]).to_numpy()
    own &= (table["contrast"] == findings.contrasts[c]).to_numpy()
    if not end:
        own &= (table["method"] == method).to_numpy()
    rows = table[own & table[f"stable{end}"].isin(["no", "not_estimable"]).to_numpy()]
    numbers = rows[f"loo_worst_donor{end}"].astype(object).value_counts()
    ranked = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))[:MOST_DONORS]
    return [{"donor": donor, "n": int(n)} for donor, n in ranked if donor]
