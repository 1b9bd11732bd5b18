"""All data of the page, from the results of a run.

The page (``assets/``) reads them through ``assets/data.js``, which alone knows how they are packed:

    await mlmgenData.open()       data: meta and the names of genes; all else when it is asked for, and kept
    data.meta                     as below
    data.genes, data.symbols      names in the order of the input; the same list where there are no symbols
    data.search(text, most)       genes, best first: exact, prefix, substring, in any case
    data.detailed                 Map of gene to the cell types in which its donors are known
    await data.effects(t, c, m)   null, or one typed array per column, of the n genes that were tested: gene, log2fc,
                                  lfc_se, ci_low, ci_high, statistic, pvalue, padj, mean_count, pct_cells, status
                                  (place in meta.statuses), called (padj < 0.05, exactly), disagree, stable (place in
                                  `mlmgen.report.tested.STABLE`), exact (to 4 digits; of the others the interval is
                                  centred on the effect), detail (donors are known)
    await data.row(t, c, m, gene) null, or the same of one gene
    await data.gene(gene)         [{t, c, m, ...row}] of all tests of a gene
    await data.detail(t, gene)    null, or {samples: {donor, sample, n_cells, variables, mean, ci_low, ci_high,
                                  pct_cells, total_count}, groups: [{term, effect, level, estimate, std_error, unpooled,
                                  unpooled_se}], variances, effects, fit: rows of these tables}; all in lists
    await data.variance(t)        {components: [{m, component, gene, mean_count, variance, fraction, pvalue, sampled, n,
                                  line (the prior and its 80 % band, or null), unmeasured (whether the variances are
                                  too small to be measured, so that they stand far above the prior), histogram (of
                                  fraction), top}], icc: [{m, level (grouping factor), edges, counts, median}]}
    await mlmgenData.load(id)     runs a packed program; mlmgenData.text(id) returns a packed text

t, c, m and gene are places in meta.cell_types, meta.contrasts, meta.methods and data.genes. Numbers in JSON are
rounded, missing ones null. Texts are plain: the page must not take them for HTML. ``meta`` holds

    name, version, run, input, family, fdr, fdr_name, formula, donor, cell_type, versions, rounding
    weighted      whether p-values are weighted before they are adjusted: then no p-value parts what is called
    config        the configuration as YAML
    cell_types    [{name, n_cells, n_donors, n_samples, skipped (why), reference}], skipped ones too
    contrasts     [{name, expression, joint, unit (of a slope), levels ([higher, lower] or null), within (where an
                  interaction is: at which level of the other factor, or over which it is averaged)}]
    methods       [{key, name, title, effect (what log2fc is)}]
    statuses      [{name, help}] by number
    columns       descriptions of the columns
    verdict       {headline, lead, sentences: [{text, t, c}], nothing, audit: [{text, level}], audit_hint,
                  attention: [{level, kind, title, text, t, c}]}
    counts        [{t, c, m, tested, called, up, down}]
    agreement     [{t, c, both, only: [n, n], disagree}]
    overlap       {c: [{t: [...], m, n}]}: genes called in exactly these cell types
    pairs         {c: {m: matrix}} of the cell types pairs_t: called in both in the same direction
    top           [{t, c, m, genes}]
    design        {donors, cells (donor x cell type, null for left out), left_out, covariates: {columns, rows},
                  samples: {columns, rows} or null, contrasts: rows of the table design with arms_text, detectable}
    trust         {pvalues, qq, audit, audit_qq, fits, reasons, disagreements, stability, random_effects}
    variance      {components: [{m, name, title}], priors, summary}
    methods_text  {paragraphs, references: [{key, text}]}
    gene_hint     what to type for a gene without donors here
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mlmgen import __version__, story
from mlmgen.columns import TABLES
from mlmgen.config import schema
from mlmgen.fdr import LEVEL
from mlmgen.findings import Findings
from mlmgen.report import calls, donors, effects_block, leading, packing, tested, trust, variance
from mlmgen.report.methods_text import methods_text
from mlmgen.report.verdict import detectable, verdict
from mlmgen.report.wording import NAMES, TITLES, Facts, arms, two_levels, within
from mlmgen.status import HELP, Status, label

FORMAT = 1
EFFECTS = {
    "nb": "log2 fold change",
    "poisson": "log2 fold change",
    "bernoulli": "log2 odds ratio",
    "gaussian": "difference of log1p expression (log2)",
}
# Pseudobulk is a negative binomial model of sums whatever the cells' family is.
OF_SUMS = "nb"
RATES = {"bh": "Benjamini-Hochberg", "weighted": "weighted Benjamini-Hochberg"}
# Points of all clouds of variances together, and the fewest of one.
CLOUDS, FEWEST_POINTS = 40_000, 200
# Tests that are kept to 4 digits, in all; and steps of the others, until they fit.
MOST_EXACT = 100_000
STEPS = (0.1, 0.125, 0.16, 0.2, 0.25, 0.3, 0.4)
# Bytes of the whole file, of the page without data, of all effects, and of the genes with donors, at least and at most.
WHOLE, PAGE, OF_EFFECTS, OF_DONORS = 4_930_000, 650_000, 3_250_000, (300_000, 1_200_000)
ROUNDING = (
    "Genes that are called or lead a list have 4 digits. Others are rounded to make the page small: standard errors "
    "to {percent:.2g} %, effects to {percent:.2g} % and {half:.2g} standard errors, p-values by {half:.2g} of their "
    "normal quantile, mean counts to 10 %. Their intervals are drawn symmetric about the effect, which puts 99 % of "
    "the ends within {ends:.2g} standard errors of the tables': whether an interval holds 0 stands in the tables. "
    "Which genes are called is exact. The tables have every digit."
)


class Source(NamedTuple):
    """Where the page's data come from: the tables, and what only the files of a run know.

    Attributes
    ----------
    findings : Findings
    cells : tuple of donors.Cells
        Empty where there are no prepared files.
    stories : callable
        Takes a cell type and genes: `mlmgen.story.stories`.
    diagnostics : callable
        Takes a cell type: parts of ``trust.random_effects``.
    """

    findings: Findings
    cells: tuple[donors.Cells, ...]
    stories: Callable[[str, Sequence[str]], Mapping]
    diagnostics: Callable[[str], list[dict]]


def source(findings: Findings) -> Source:
    """Read a run's own files; where they are not beside the tables, donors stay unknown."""
    cells = donors.read(findings)
    if not cells:
        return Source(findings, (), lambda cell_type, genes: {}, lambda cell_type: [])
    return Source(
        findings,
        cells,
        lambda cell_type, genes: story.stories(findings, cell_type, genes),
        lambda cell_type: leading.diagnostics(findings, cell_type),
    )


def blocks(source: Source) -> dict[str, bytes]:
    """Return the page's data by the id of the block.

    Parameters
    ----------
    source : Source

    Returns
    -------
    dict of str to str
        ``meta``, ``genes`` and, of every cell type, ``effects-<t>``, ``variance-<t>`` and ``detail-<t>``, as text that
        is harmless in HTML.
    """
    findings = source.findings
    found = tested.read(findings)
    effects, step, ends = _effects(found)
    points = max(CLOUDS // max(len(found.cell_types) * len(variance.components(findings)), 1), FEWEST_POINTS)
    clouds = variance.by_cell_type(findings, found, points, {own.t: own.obs for own in source.cells})
    variances = {f"variance-{t}": packing.packed(packing.written(part)) for t, part in clouds}
    left = WHOLE - PAGE - sum(len(text) for part in (effects, variances) for text in part.values())
    details = _details(source, found, left)
    named = {
        "genes": found.genes,
        "symbols": None if found.symbols == found.genes else found.symbols,
        "detailed": {str(t): sorted(map(int, part["genes"])) for t, part in details.items()},
    }
    diagnostics = [part for name in findings.cell_types for part in source.diagnostics(name)]
    meta = _meta(source, found, trust.section(findings, found, diagnostics), variance.section(findings, clouds))
    meta["rounding"] = ROUNDING.format(percent=50.0 * step, half=step / 2.0, ends=ends)
    return {
        "meta": packing.packed(packing.written(meta)),
        "genes": packing.packed(packing.written(named)),
        **{f"effects-{t}": text for t, text in effects.items()},
        **variances,
        **{f"detail-{t}": packing.packed(packing.written(part)) for t, part in details.items()},
    }


def _effects(found: tested.Tested) -> tuple[dict[int, str], float, float]:
    """Pack the effects of every cell type, in coarser steps where the page would grow too large.

    Returns
    -------
    packed : dict of int to str
    step : float
    ends : float
        Within which 99 % of the ends of rounded intervals lie of the table's, in standard errors.
    """
    n_tests = sum(len(own.tests) for own in found.cell_types)
    n_codes = 2 * sum(len(own.gene) * len(own.tests) for own in found.cell_types)
    step, most = STEPS[0], MOST_EXACT // max(n_tests, 1)
    while True:
        parts = {own.t: effects_block.packed(own, most, step) for own in found.cell_types}
        packed = {t: packing.packed(packing.block(*part)) for t, part in parts.items()}
        over = sum(map(len, packed.values())) - OF_EFFECTS
        coarser = [one for one in STEPS if one > step]
        if over <= 0 or not coarser:
            errors = [effects_block.interval_errors(own, *parts[own.t]) for own in found.cell_types]
            errors = np.concatenate([np.zeros(1), *errors])
            return packed, step, float(np.quantile(errors, 0.99))
        # Every code loses a bit when the step is doubled; a character holds 6.5.
        wanted = step * 2.0 ** (6.5 * over / n_codes)
        step = next((one for one in coarser if one >= wanted), coarser[-1])


def _details(source: Source, found: tested.Tested, left: int) -> dict[int, dict]:
    """Return genes with donors by cell type, in the room that is left beside the names of genes."""
    least, most = OF_DONORS
    budget = min(max(left - 10 * len(found.genes), least), most)
    chosen = leading.choose(found, leading.sizes(source.findings), budget)
    parts = {
        t: leading.detail(source.findings, found, t, genes, source.stories) for t, genes in chosen.items() if genes
    }
    return {t: part for t, part in parts.items() if part is not None}


def _meta(source: Source, found: tested.Tested, trusted: dict, variances: dict) -> dict:
    """Put together what the page needs at once."""
    findings = source.findings
    known = {
        "cell_types": _cell_types(findings),
        "contrasts": contrasts(findings),
        "methods": [
            {"key": key, "name": NAMES[key], "title": TITLES[key], "effect": effect_of(findings, key)}
            for key in findings.methods
        ],
        "counts": calls.counts(found),
        "agreement": calls.agreement(found),
    }
    design = _design(source, known["contrasts"])
    run = _run(findings)
    facts = Facts(
        **known,
        designs=design["contrasts"],
        trust=trusted,
        fdr_name=run["fdr_name"],
        warnings=_warnings(source),
        donors=design["donors"],
    )
    return {
        **run,
        **known,
        "statuses": [{"name": label(status), "help": HELP[status]} for status in Status],
        "verdict": verdict(facts),
        "overlap": calls.overlap(found),
        "pairs": calls.pairs(found),
        "pairs_t": [own.t for own in found.cell_types],
        "design": design,
        "top": calls.top(found),
        "trust": trusted,
        "variance": variances,
        "columns": {column.name: column.description for column in (*TABLES["variances"], *TABLES["effects"])},
    }


def effect_of(findings: Findings, method: str) -> str:
    """Say what the effects of a method are."""
    return EFFECTS[OF_SUMS if method == "pseudobulk" else findings.family]


def _run(findings: Findings) -> dict:
    """Return what is said about the run itself."""
    config, provenance = findings.config, findings.provenance
    moderated = bool(findings.effects["df"].isna().any() and findings.priors["log_variance"].notna().any())
    donor = config["prepare"]["donor"]
    return {
        "format": FORMAT,
        "name": findings.name,
        "version": provenance["versions"].get("mlmgen", __version__),
        "family": findings.family,
        "fdr": LEVEL,
        "fdr_name": RATES[config["tables"]["fdr"]],
        "weighted": config["tables"]["fdr"] == "weighted",
        "formula": provenance["formula"],
        "donor": donor,
        "cell_type": config["prepare"]["cell_type"],
        "methods_text": methods_text(
            config,
            findings.methods,
            moderated,
            provenance["versions"],
            donor,
            variance.random_of(findings, "pseudobulk"),
        ),
        "config": config_text(findings),
        "versions": [{"name": name, "version": value} for name, value in provenance["versions"].items()],
        "input": provenance["input"],
        "run": provenance["run"],
        "gene_hint": f"mlmgen gene {{gene}} results/{shlex.quote(findings.name)}",
    }


def _cell_types(findings: Findings) -> list[dict]:
    samples = dict(findings.fits[["cell_type", "n_samples"]].drop_duplicates("cell_type").to_numpy())
    return [
        {
            "name": name,
            "n_cells": one["n_cells"],
            "n_donors": one["n_donors"],
            "n_samples": int(samples.get(name, 0)),
            "skipped": one["skipped"],
            "reference": one.get("reference", {}),
        }
        for name, one in findings.provenance["cell_types"].items()
    ]


def contrasts(findings: Findings) -> list[dict]:
    """Describe the contrasts: as written, whether they are joint tests, their two levels or their unit."""
    given = dict(findings.config["test"].get("contrasts") or ())
    resolved = {one["name"]: one for part in findings.contrasts_json["cell_types"].values() for one in part}
    compared = findings.design.groupby("contrast", observed=True)["arms"].first()
    types = findings.provenance["cell_types"].values()
    reference = next((one.get("reference", {}) for one in types if not one["skipped"]), {})
    found = []
    for name in findings.contrasts:
        one = resolved.get(name, {"expression": name, "weights": [[]]})
        text = given.get(name, one["expression"])
        slope = not compared.get(name, "x") and isinstance(text, str) and len(one["weights"]) == 1
        found.append(
            {
                "name": name,
                "expression": text,
                "joint": len(one["weights"]) > 1,
                "levels": two_levels(text, reference),
                "within": within(text, findings.provenance["formula"], reference),
                "unit": f"per unit of {text}" if slope and re.fullmatch(r"[\w.]+", text) else "",
            }
        )
    return found


def _design(source: Source, named: list[dict]) -> dict:
    findings = source.findings
    donor, text = findings.config["prepare"]["donor"], findings.provenance["formula"]
    rows = [
        {**trust.plain(row), **trust.keys_of(findings, row), "arms_text": arms(row)}
        for row in trust.records(findings.design)
    ]
    section = donors.section(source.cells, donor, text)
    return {**section, "contrasts": rows, "detectable": detectable(rows, named)}


def _warnings(source: Source) -> list[str]:
    """Return what was said about the data that stands nowhere else in the page."""
    said = [*source.findings.contrasts_json.get("warnings", ())]
    for name, reasons in source.findings.contrasts_json.get("left_out", {}).items():
        said += [f"{name}: {contrast} is not tested: {reason}" for contrast, reason in reasons.items()]
    names = list(source.findings.provenance["cell_types"])
    groups: dict[str, list[str]] = {}
    for own in source.cells:
        for warning in own.warnings:
            if own.obs is not None and not donors.FEW.fullmatch(warning):
                groups.setdefault(warning, []).append(names[own.t])
    said += [f"{', '.join(where)}: {warning}" for warning, where in groups.items()]
    if not source.cells:
        said.append("the prepared counts are not beside the tables, so that single donors are not shown here")
    return list(dict.fromkeys(said))


def config_text(findings: Findings) -> str:
    """Write the configuration as YAML: every key that decides something, in the order of the schema."""
    import yaml

    merged: dict = {"name": findings.name, "methods": list(findings.methods)}
    for stage in findings.config.values():
        for key, value in stage.items():
            if isinstance(value, dict) and isinstance(merged.get(key), dict):
                merged[key] = merged[key] | value
            elif key != "method_version":
                merged[key] = value
    if merged.get("contrasts"):
        merged["contrasts"] = dict(merged["contrasts"])
    ordered = {key: merged[key] for key in schema()["properties"] if key in merged}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)
