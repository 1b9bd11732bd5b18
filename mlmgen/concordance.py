"""Cells and pseudobulk side by side, what leaving out each donor says, and the likely causes where they disagree."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mlmgen import agreement, columns, fdr
from mlmgen.design_rows import DISPERSION
from mlmgen.stability import LeftOut, summarize
from mlmgen.tables import Results, pvalues, typed, weights_of_tests

METHODS = ("glmm", "pseudobulk")
KEYS = ["cell_type", "gene", "contrast"]
OF_METHODS = ("log2fc", "lfc_se", "pvalue", "padj", "status")
LEFT_OUT = tuple(column.name for column in columns.LEFT_OUT)
# A sample of fewer cells weighs nearly as much as any other in pseudobulk, and little among the cells.
FEW_CELLS = 10
# Counts a sample below which its log rate is hardly known.
LOW_COUNT = 5.0
# From this dispersion on single cells hold much of a sample's sum: of the typical gene it is 0.2 to 0.5.
DISPERSED = 2.0
# Smaller variances between samples (natural log squared) do not matter beside those of the donors, about 0.06.
SMALL_VARIANCE = 0.01
NO_CAUSE = "no single cause found"


def stability(
    results: Sequence[Results], left_out: Mapping[tuple[str, str], LeftOut], effects: pd.DataFrame, weighted: bool
) -> pd.DataFrame:
    """Build the table of stability: one row per cell type, reported gene, contrast and method.

    Parameters
    ----------
    results : sequence of Results
    left_out : mapping of (cell type, method) to LeftOut
    effects : DataFrame
        As `mlmgen.tables.effects` builds it.
    weighted : bool
        As there.
    """
    pairs = [(result, left_out[result.cell_type, result.method]) for result in results]
    found = [_of_result(result, left, weighted) for result, left in pairs if left.hit.any()]
    if not found:
        return typed([], "stability")
    known = [name for name in columns.names("stability") if name not in LEFT_OUT]
    merged = _text_keys(effects[known]).merge(pd.concat(found, ignore_index=True), on=[*KEYS, "method"])
    return typed([dict(merged)], "stability")


def _of_result(result: Results, left: LeftOut, weighted: bool) -> pd.DataFrame:
    """Summarize one cell type and method; rows of reported effects that the method tested."""
    place = {gene: g for g, gene in enumerate(result.fits.genes)}
    genes, pvalue = np.array([place[gene] for gene in left.genes]), pvalues(result)
    thresholds = [
        fdr.threshold(p, weights_of_tests(result, c) if weighted else None)[genes] for c, p in enumerate(pvalue.T)
    ]
    summary = summarize(left, result.effects.estimate[genes], np.stack(thresholds, axis=1))
    rows, c = np.nonzero(left.hit & np.isfinite(pvalue[genes]))
    signs = np.array(["no", "yes", ""], dtype=object)[np.nan_to_num(summary.same_sign[rows, c], nan=2.0).astype(int)]
    others = (summary.worst_pvalue, summary.worst_donor, summary.calls, summary.stable)
    keys = {
        "cell_type": result.cell_type,
        "gene": np.array(left.genes, dtype=object)[rows],
        "contrast": np.array(left.contrasts, dtype=object)[c],
        "method": result.method,
    }
    return pd.DataFrame(keys | dict(zip(LEFT_OUT, (signs, *(values[rows, c] for values in others)), strict=True)))


def concordance(results: Sequence[Results], effects: pd.DataFrame, stability: pd.DataFrame | None) -> pd.DataFrame:
    """Build the table of both methods: one row per cell type, gene and contrast that either of them tested.

    Parameters
    ----------
    results : sequence of Results
        Of both methods.
    effects : DataFrame
        As `mlmgen.tables.effects` builds it.
    stability : DataFrame or None
        As `stability` builds it; None where no donor was left out.

    Returns
    -------
    DataFrame
        Within a cell type and contrast, what the methods disagree about first, then by the smaller p-value.
    """
    both = _side_by_side(effects, stability)
    pairs = [
        [both[f"{name}_{method}"].to_numpy() for method in METHODS] for name in ("log2fc", "lfc_se", "pvalue", "padj")
    ]
    both["difference"] = agreement.difference(*pairs[0], *pairs[1])
    disagree = agreement.disagree(*pairs)
    both["disagree"] = np.where(disagree, "yes", "no")
    both["reason"] = ""
    samples = {result.cell_type: cells_of_samples(result) for result in results if result.method == "glmm"}
    rows = both[disagree].merge(_variances(results), on=["cell_type", "gene"], how="left").to_dict("records")
    both.loc[disagree, "reason"] = [reason(row, samples[row["cell_type"]]) for row in rows]
    evidence = both[[f"pvalue_{method}" for method in METHODS]].min(axis=1)
    codes = {name: pd.factorize(both[name])[0] for name in ("cell_type", "contrast")}
    both = both.iloc[np.lexsort((evidence, ~disagree, codes["contrast"], codes["cell_type"]))]
    return typed([dict(both)], "concordance")


def _side_by_side(effects: pd.DataFrame, stability: pd.DataFrame | None) -> pd.DataFrame:
    """Put the methods in columns; rows in the order of the effects of cells."""
    effects = _text_keys(effects[[*KEYS, "method", "gene_name", "mean_count", "n_cells", *OF_METHODS]])
    both = None
    for method in METHODS:
        own = effects[effects["method"] == method]
        facts = ["gene_name", "mean_count", "n_cells"] if both is None else []
        part = own[[*KEYS, *facts, *OF_METHODS]].rename(columns={name: f"{name}_{method}" for name in OF_METHODS})
        left = None if stability is None else _text_keys(stability)
        if left is None:
            missing = {name: np.nan if name in ("loo_worst_p", "loo_calls") else "" for name in LEFT_OUT}
            part = part.assign(**{f"{name}_{method}": value for name, value in missing.items()})
        else:
            left = left.loc[left["method"] == method, [*KEYS, *LEFT_OUT]]
            part = part.merge(left.rename(columns={n: f"{n}_{method}" for n in LEFT_OUT}), on=KEYS, how="left")
            words = [f"{name}_{method}" for name in ("loo_same_sign", "loo_worst_donor", "stable")]
            part[words] = part[words].fillna("")
        both = part if both is None else both.merge(part, on=KEYS)
    tested = both[[f"pvalue_{method}" for method in METHODS]].notna().any(axis=1)
    return both[tested].reset_index(drop=True)


def _text_keys(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with plain text in place of categories, which differ between tables."""
    categories = [name for name in table.columns if isinstance(table[name].dtype, pd.CategoricalDtype)]
    return table.astype(dict.fromkeys(categories, object))


def cells_of_samples(result: Results) -> np.ndarray:
    """Return the number of cells of each sample, (S,); none for a cell type that is skipped."""
    if result.design is None:
        return np.zeros(0, dtype=np.int64)
    return np.bincount(result.design.sample.codes[result.design.pattern], minlength=len(result.design.sample.levels))


def _variances(results: Sequence[Results]) -> pd.DataFrame:
    """Put beside each other what the methods found between samples, and the dispersion between cells."""
    parts = {method: [] for method in METHODS}
    for result in results:
        keys = {"cell_type": result.cell_type, "gene": np.array(result.fits.genes, dtype=object)}
        values = {f"between_{result.method}": variance_between(result)}
        if result.method == "glmm":
            values["dispersion"] = _of_component(result, DISPERSION if result.family == "nb" else "")
        parts[result.method].append(pd.DataFrame(keys | values))
    cells, sums = (pd.concat(parts[method], ignore_index=True) for method in METHODS)
    return cells.merge(sums, on=["cell_type", "gene"])


def variance_between(result: Results) -> np.ndarray:
    """Return the variance between replicates as fitted, (G,) natural log squared.

    Of cells that of the random term with most groups, its first effect; of sums the dispersion.
    """
    if result.design is None:
        return np.full(len(result.fits.genes), np.nan)
    if result.method == "pseudobulk":
        return _of_component(result, DISPERSION)
    sizes = [len(term.levels) for term in result.design.terms]
    first = np.cumsum([0, *(len(term.effects) * (len(term.effects) + 1) // 2 for term in result.design.terms)])
    return result.fits.variance[:, first[int(np.argmax(sizes))]]


def _of_component(result: Results, name: str) -> np.ndarray:
    """Return the variance of a component as fitted, (G,); NaN where there is none of this name."""
    if name not in result.fits.components:
        return np.full(len(result.fits.genes), np.nan)
    return result.fits.variance[:, result.fits.components.index(name)]


def reason(row: Mapping, cells: np.ndarray) -> str:
    """Word the likely causes of a disagreement, the most likely first.

    Parameters
    ----------
    row : mapping
        A row of the table, with ``mean_count`` and ``n_cells``, and those of `_variances`.
    cells : (S,) int
        Of each sample.
    """
    causes = [_of_one_donor(row, method) for method in METHODS]
    few, total = int((cells < FEW_CELLS).sum()), row["mean_count"] * row["n_cells"]
    if "separated" in (row[f"status_{method}"] for method in METHODS):
        causes.append("no counts at all in one of the groups compared")
    if row["dispersion"] >= DISPERSED:
        causes.append(f"single cells hold much of the sums: dispersion {row['dispersion']:.2g} between cells")
    if few:
        causes.append(
            f"few cells: {few} of {len(cells)} samples have under {FEW_CELLS}, which pseudobulk weighs nearly as others"
        )
    between = [row[f"between_{method}"] for method in METHODS]
    if min(between) <= 0.0 and max(between) >= SMALL_VARIANCE:
        of_methods = (f"{value:.2g} by {method}" for value, method in zip(between, METHODS, strict=True))
        causes.append(f"the variance between samples is estimated as {' and '.join(of_methods)}")
    if total < LOW_COUNT * len(cells):
        causes.append(f"low counts: {total:,.0f} in {len(cells)} samples")
    return "; ".join(cause for cause in causes if cause) or NO_CAUSE


def _of_one_donor(row: Mapping, method: str) -> str:
    """Say so where the effect that a method finds rests on one donor."""
    stable, donor = row[f"stable_{method}"], row[f"loo_worst_donor_{method}"]
    if not row[f"pvalue_{method}"] < agreement.SUPPORTED:
        return ""
    if stable == "not_estimable":
        return f"the contrast cannot be estimated without donor {donor}"
    worst = row[f"loo_worst_p_{method}"]
    return f"donor {donor} carries it: p of {method} is {worst:.2g} without it" if stable == "no" else ""
