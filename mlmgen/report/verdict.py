"""The verdict in words that a person can quote: what was compared, what was found, and whether it can be believed."""

from mlmgen.fdr import LEVEL
from mlmgen.report.attention import attention
from mlmgen.report.wording import NAMES, Facts, arms, differ, joined, number, where

PERCENT = f"{100 * LEVEL:g} %"
AUDIT_HINT = (
    "Whether p-values hold on these data was not checked. Set audit: true in the config and run again: labels are then "
    "permuted, and 5 % of the p-values should be below 0.05."
)
LEVELS = {"holds": "good", "too small": "warning"}
ORDER = ("warning", "note", "good")
ABOUT = {"glmm": "a mixed model of the cells", "pseudobulk": "sums over the cells of each sample (pseudobulk)"}


def verdict(facts: Facts) -> dict:
    """Write the verdict.

    Parameters
    ----------
    facts : Facts

    Returns
    -------
    dict
        ``headline``, ``lead``, ``sentences``, ``nothing``, ``audit``, ``audit_hint`` and ``attention``, as the page
        takes them.
    """
    rows = sorted(_first(facts), key=lambda row: -row["called"])
    return {
        "headline": _headline(facts, rows),
        "lead": lead(facts),
        "sentences": [{"text": _sentence(facts, row), "t": row["t"], "c": row["c"]} for row in rows],
        "nothing": _nothing(facts),
        "audit": audit(facts),
        "audit_hint": "" if facts.trust["audit"] else AUDIT_HINT,
        "attention": attention(facts),
    }


def _first(facts: Facts) -> list[dict]:
    """Return the counts of the first method of every cell type and contrast."""
    seen: dict[tuple[int, int], dict] = {}
    for row in facts.counts:
        seen.setdefault((row["t"], row["c"]), row)
    return list(seen.values())


def _headline(facts: Facts, rows: list[dict]) -> str:
    if not rows:
        return "Nothing could be tested: see below why."
    if len(rows) == 1:
        return _sentence(facts, rows[0])
    several, called = len(facts.contrasts) > 1, [row for row in rows if row["called"]]
    kind = "comparisons (cell type and contrast)" if several else "cell types"
    verb = "differ" if several else differ(facts.contrasts[0], True)
    if not called:
        verb = "differs" if several else differ(facts.contrasts[0], False)
        return f"No gene {verb} in any of {len(rows)} {kind} at a false discovery rate of {PERCENT}."
    start = f"All {len(rows)} {kind} have" if len(called) == len(rows) else f"{len(called)} of {len(rows)} {kind} have"
    start = start.replace(" have", " has") if len(called) == 1 else start
    best = called[0]
    name = f", {facts.contrasts[best['c']]['name']}" if several else ""
    most = f"{best['called']:,} of {number(best['tested'], 'tested gene')}"
    most = f"{'most in ' if len(called) > 1 else ''}{where(facts, best['t'])}{name}: {most}"
    return f"{start} genes that {verb} at a false discovery rate of {PERCENT} ({most})."


def lead(facts: Facts) -> str:
    """Say what was compared, with how many donors and cells."""
    fitted = [one for one in facts.cell_types if not one["skipped"]]
    cells = sum(one["n_cells"] for one in fitted)
    donors = len(facts.donors) or max((one["n_donors"] for one in fitted), default=0)
    names = joined([_named(one) for one in facts.contrasts], 4)
    together = [one["name"] for one in fitted] == ["all"]
    types = "all cells together" if together else number(len(fitted), "cell type")
    methods = " and ".join(ABOUT[one["key"]] for one in facts.methods)
    return (
        f"Compared: {names}, in {types}, {cells:,} cells of {number(donors, 'donor')}. "
        f"Method{'s' * (len(facts.methods) > 1)}: {methods}. A gene is called where "
        f"padj is below {LEVEL:g} ({facts.fdr_name} within cell type, contrast and method)."
    )


def _named(contrast: dict) -> str:
    text = contrast["expression"]
    text = text if isinstance(text, str) else "any of " + "; ".join(text)
    return contrast["name"] if text == contrast["name"] else f"{contrast['name']} ({text})"


def _sentence(facts: Facts, row: dict) -> str:
    """Write the sentence of one cell type and contrast."""
    same = [one for one in facts.counts if (one["t"], one["c"]) == (row["t"], row["c"])]
    contrast, tested = facts.contrasts[row["c"]], number(row["tested"], "tested gene")
    start = f"In {where(facts, row['t'])}, "
    rate = f"at a false discovery rate of {PERCENT}"
    if not any(one["called"] for one in same):
        methods = " nor from ".join(NAMES[facts.methods[one["m"]]["key"]] for one in same)
        methods = f", neither from {methods}" if len(same) > 1 else ""
        numbers = " and ".join(dict.fromkeys(f"{one['tested']:,}" for one in same))
        return f"{start}no gene {differ(contrast, False)} {rate}{methods} ({numbers} tested).{_donors(facts, row)}"
    text = f"{start}{row['called']:,} of {tested} {differ(contrast, row['called'] != 1)} {rate} ("
    direction = "" if row["up"] is None or not row["called"] else f"; {row['up']:,} up, {row['down']:,} down"
    text += f"{NAMES[facts.methods[row['m']]['key']]}{direction})"
    text += "".join(f", {one['called']:,} from {NAMES[facts.methods[one['m']]['key']]}" for one in same[1:])
    both = [one for one in facts.agreement if (one["t"], one["c"]) == (row["t"], row["c"])]
    text += "".join(f"; {one['both']:,} by both" for one in both)
    return f"{text}.{_donors(facts, row)}"


def _donors(facts: Facts, row: dict) -> str:
    """Say how many donors gave cells to what was compared."""
    design = next((one for one in facts.designs if (one["t"], one["c"]) == (row["t"], row["c"])), None)
    if design is None:
        return ""
    donors, both = number(design["n_donors"], "donor"), number(design["n_donors_both"], "donor")
    arms_there = "both arms" if design["arms"].count("]: ") == 2 else "every arm"
    if design["comparison"] == "within donors":
        return f" {both} gave cells in {arms_there}." if design["arms"] else f" It varies within {both}."
    if design["comparison"] == "partly within donors":
        return f" {donors} gave cells, {design['n_donors_both']:,} of them in {arms_there}."
    return f" {donors} gave cells ({arms(design)})." if design["arms"] else f" {donors} gave cells."


def _nothing(facts: Facts) -> str:
    """Say what finding nothing means: how small an effect could have been found."""
    if any(row["called"] for row in facts.counts) or not facts.counts:
        return ""
    sizes = detectable_sizes(facts.designs, facts.contrasts)
    power = f"An effect on a typical gene has to be about {sizes} to be found in four of five cases. " if sizes else ""
    return (
        f"That nothing was found does not mean that nothing differs. {power}Smaller effects may be there: "
        "more donors would find them, more cells of the same donors hardly."
    )


def detectable_sizes(designs: list[dict], contrasts: list[dict]) -> str:
    """Word the effects that can be found, of every contrast: ``1.1 to 1.3 (log2; 2.1- to 2.5-fold)``."""
    parts = {}
    for c, contrast in enumerate(contrasts):
        found = [row["lfc_detectable"] for row in designs if row["c"] == c and row["lfc_detectable"] is not None]
        if found:
            low, high = f"{min(found):.2g}", f"{max(found):.2g}"
            span = low if low == high else f"{low} to {high}"
            folds = dict.fromkeys(f"{2.0 ** float(value):.2g}-" for value in (low, high))
            folds = " to ".join(folds) + "fold"
            parts[contrast["name"]] = f"{span} (log2{' ' + contrast['unit'] if contrast['unit'] else '; ' + folds})"
    if len(parts) < 2:
        return "".join(parts.values())
    return joined([f"{text} in {name}" for name, text in parts.items()])


def detectable(designs: list[dict], contrasts: list[dict]) -> str:
    """Say in two sentences how small an effect the designs can find."""
    sizes = detectable_sizes(designs, contrasts)
    if not sizes:
        return ""
    return (
        f"An effect of {sizes} has 80 % power at p = 0.001 in a typical gene. Smaller effects are found more rarely; "
        "genes with more counts do better, those with fewer worse."
    )


def audit(facts: Facts) -> list[dict]:
    """Say what the null audit found; cell types, contrasts and methods of which it says the same, in one sentence."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in facts.trust["audit"]:
        groups.setdefault((row["verdict"], row["text"]), []).append(row)
    found = []
    for (kind, text), rows in groups.items():
        names = [f"{row['cell_type']}, {row['contrast']} ({NAMES[row['method']]})" for row in rows]
        all_of_them = len(rows) == len(facts.trust["audit"]) > 1
        what = f"not audited, {text}" if kind == "not audited" else text
        name = "In all cell types, contrasts and methods" if all_of_them else joined(names, 4)
        level = LEVELS.get(kind, "note")
        found.append({"text": f"{name}: {what.rstrip('.')}.{_shares(rows)}", "level": level})
    return sorted(found, key=lambda one: ORDER.index(one["level"]))


def _shares(rows: list[dict]) -> str:
    shares = [100 * row["type1_05"] for row in rows if row["type1_05"] is not None]
    if not shares:
        return ""
    low, high = f"{min(shares):.1f}", f"{max(shares):.1f}"
    seen = low if low == high else f"{low} to {high}"
    return f" With permuted labels {seen} % of p-values were below 0.05, where 5 % should be."
