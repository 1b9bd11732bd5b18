"""What needs attention: warnings and notes, each with a title, a sentence, and the cell type and contrast it is of."""

from collections.abc import Iterator

from mlmgen.report.wording import MOST_NAMED, NAMES, Facts, joined, number, sentence, where
from mlmgen.status import Status, label

# From these shares on, a note is a warning: of fits that failed, of calls that the methods disagree about, and of
# leading genes that rest on one donor.
MANY_FAILED, MANY_DISAGREE, MANY_UNSTABLE = 0.05, 0.1, 0.1
BY_CHANCE = 0.05  # of the tested genes have a p-value below 0.05 where nothing differs
FAILED = (Status.NOT_CONVERGED, Status.NOT_FINITE, Status.DIVERGED)
WIDE = 1.5  # root mean square of a donor's standardized effects that is worth a note
FEWEST_GENES = 20  # of such a donor


def attention(facts: Facts) -> list[dict]:
    """List what needs attention, warnings first.

    Parameters
    ----------
    facts : Facts

    Returns
    -------
    list of dict
        ``level`` (``warning`` or ``note``), ``kind``, ``title``, ``text``, ``t`` and ``c`` (or None).
    """
    parts = (_designs, _audits, _fits, _disagreements, _stability, _donors, _skipped, _data)
    found = [one for part in parts for one in part(facts)]
    return sorted(found, key=lambda one: one["level"] != "warning")


def _note(kind: str, serious: bool, title: str, text: str, t: int | None = None, c: int | None = None) -> dict:
    level = "warning" if serious else "note"
    return {"level": level, "kind": kind, "title": title, "text": sentence(text), "t": t, "c": c}


def _designs(facts: Facts) -> Iterator[dict]:
    """Repeat each warning of the designs once, with the cell types that it concerns."""
    groups: dict[tuple[str, int], list[int]] = {}
    for row in facts.designs:
        if row["warning"]:
            groups.setdefault((row["warning"], row["c"]), []).append(row["t"])
    for (text, c), places in groups.items():
        title = f"Design of {facts.contrasts[c]['name']}: {joined([where(facts, t) for t in places])}"
        yield _note("design", True, title, text, places[0] if len(places) == 1 else None, c)


def _audits(facts: Facts) -> Iterator[dict]:
    for row in facts.trust["audit"]:
        if row["verdict"] == "too small":
            share = f"{100 * row['type1_05']:.1f} % of them were below 0.05, where 5 % should be"
            text = f"with permuted labels, where nothing differs, {row['text']}: {share}"
            title = f"P-values of {row['cell_type']}, {row['contrast']} ({NAMES[row['method']]})"
            yield _note("audit", True, title, text, row["t"], row["c"])


def _fits(facts: Facts) -> Iterator[dict]:
    """Say where fits failed: where it is many of them by itself, the others together."""
    few = []
    for row in facts.trust["fits"]:
        failed = {status: row["counts"][status] for status in FAILED if row["counts"][status]}
        fitted, total = sum(row["counts"]) - row["counts"][Status.FILTERED], sum(failed.values())
        words = joined([f"{n:,} {label(status)}" for status, n in failed.items()])
        method = NAMES[facts.methods[row["m"]]["key"]]
        if total > MANY_FAILED * fitted:
            title = f"{number(total, 'fit')} failed in {where(facts, row['t'])}"
            text = f"of {number(fitted, 'fitted gene')} ({method}): {words}. The section Trust names them"
            yield _note("fits", True, title, text, row["t"])
        elif failed:
            few.append((total, f"{where(facts, row['t'])} ({method}: {words})"))
    if few:
        there = joined([text for _, text in few])
        title = f"{number(sum(n for n, _ in few), 'fit')} failed"
        yield _note("fits", False, title, f"in {there}. The section Trust names them")


def _disagreements(facts: Facts) -> Iterator[dict]:
    rows = [row for row in facts.agreement if row["disagree"]]
    if rows:
        n = sum(row["disagree"] for row in rows)
        called = sum(row["both"] + sum(row["only"]) for row in facts.agreement)
        by_chance = BY_CHANCE * sum(row["tested"] for row in facts.counts if not row["m"])
        there = joined(list(dict.fromkeys(where(facts, row["t"]) for row in rows)))
        text = (
            f"cells and pseudobulk do not say the same in {there}; a test is of a gene in a cell type and contrast. "
            "The section Trust lists them with likely reasons"
        )
        title = f"The methods disagree in {number(n, 'test')}"
        yield _note("disagreement", n > MANY_DISAGREE * max(called, by_chance), title, text)


def _stability(facts: Facts) -> Iterator[dict]:
    """Say which leading genes rest on one donor, by the first method; where it is few of them, together."""
    few = []
    for row in facts.trust["stability"]:
        n = row["no"] + row["not_estimable"]
        contrast = f", {facts.contrasts[row['c']]['name']}" if len(facts.contrasts) > 1 else ""
        there = f"{where(facts, row['t'])}{contrast}"
        if row["m"] or not n:
            continue
        if n > MANY_UNSTABLE * row["asked"]:
            needed = joined([f"{one['donor']} ({one['n']:,})" for one in row["donors"]], 4)
            asked = number(row["asked"], "leading gene")
            text = f"of {asked}, fitted again without each donor in turn. The donors needed: {needed}"
            title = f"{number(n, 'result')} in {there} {_rest(n)} on one donor"
            yield _note("stability", True, title, text, row["t"], row["c"])
        else:
            few.append((n, f"{there} ({n:,} of {row['asked']:,})"))
    if few:
        total = sum(n for n, _ in few)
        text = f"of leading genes, fitted again without each donor in turn: {joined([text for _, text in few])}"
        yield _note("stability", False, f"{number(total, 'result')} {_rest(total)} on one donor", text)


def _rest(n: int) -> str:
    return "rests" if n == 1 else "rest"


def _donors(facts: Facts) -> Iterator[dict]:
    """Name donors whose random effects lie further out than those of others."""
    far: dict[str, list[str]] = {}
    for one in facts.trust["random_effects"]:
        for level in one["levels"]:
            if level["rms_z"] is not None and level["rms_z"] > WIDE and level["n_genes"] >= FEWEST_GENES:
                far.setdefault(level["level"], []).append(where(facts, one["t"]))
    for name, places in far.items():
        there = joined(list(dict.fromkeys(places)))
        text = f"in {there}, its genes lie further from the mean of all donors than chance explains; see Trust"
        yield _note("data", False, f"{name} is unlike the others", text)


def _skipped(facts: Facts) -> Iterator[dict]:
    """Say why cell types were skipped; many with the same reason in one note."""
    groups: dict[str, list[int]] = {}
    for t, one in enumerate(facts.cell_types):
        if one["skipped"]:
            groups.setdefault(one["skipped"], []).append(t)
    for why, places in groups.items():
        names = joined([facts.cell_types[t]["name"] for t in places], 2 * MOST_NAMED)
        title = f"Not analysed: {names}"
        yield _note("skipped", False, title, why, places[0] if len(places) == 1 else None)


def _data(facts: Facts) -> Iterator[dict]:
    for text in facts.warnings:
        yield _note("data", False, "About the data", text)
