"""The results folder of a run that never took place: tables as the registry has them, as noisy as real ones.

Standard errors follow from the counts and the variance between donors as in a real study, effects are a mixture, the
two methods agree as they do on real data, and adjusted p-values are Benjamini and Hochberg's. Every gene is fitted
everywhere: no real run of this size has as much to say.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mlmgen import columns, io
from mlmgen.report import donors
from mlmgen.status import Status, label
from mlmgen.story import OfCellType

METHODS = ("glmm", "pseudobulk")
COMPONENTS = {"glmm": ("donor", "donor:condition", "dispersion"), "pseudobulk": ("donor", "dispersion")}
SHARE_DIFFERENT, SD_DIFFERENT = 0.1, 1.0  # of genes with an effect, log2
CELLS = 2000  # of a cell type
OUTCOMES = (Status.CONVERGED, Status.BOUNDARY, Status.SEPARATED, Status.NOT_CONVERGED)
SHARE_OF_OUTCOMES = (0.55, 0.43, 0.015, 0.005)
LEFT_OUT = 200  # genes of a test without each donor
AWKWARD = ("<b>", "</script>", "'\"&", "日本語", "\u2028")


class Size(NamedTuple):
    """Of a run."""

    cell_types: int
    contrasts: int
    genes: int
    donors: int = 12
    methods: Sequence[str] = METHODS
    tested: float = 1.0
    """Share of the genes that is fitted."""
    awkward: bool = False
    """Whether names have characters that mean something in HTML or JavaScript."""
    audit: bool = True
    called: bool = True
    """Whether anything differs."""


class Names(NamedTuple):
    """Of a run of some size."""

    cell_types: list[str]
    contrasts: list[str]
    genes: list[str]
    symbols: list[str]
    donors: list[str]


def names(size: Size) -> Names:
    """Name everything; genes as Ensembl does, symbols as people do."""
    rng = np.random.default_rng(7)
    odd = AWKWARD if size.awkward else ("",)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    number = rng.permutation(300_000)[: size.genes]
    symbols = [
        "".join(letters[rng.integers(0, 26, rng.integers(3, 5))]) + str(rng.integers(1, 40)) for _ in range(size.genes)
    ]
    return Names(
        [f"Cell type {k}{odd[k % len(odd)]}" for k in range(size.cell_types)],
        [f"contrast_{k}{odd[k % len(odd)]}" for k in range(size.contrasts)],
        [f"ENSG{n:011d}{odd[g % len(odd)]}" for g, n in enumerate(number)],
        symbols,
        [f"D{k + 1:03d}{odd[k % len(odd)]}" for k in range(size.donors)],
    )


def write(folder: Path, size: Size, seed: int = 1) -> None:
    """Write the tables, ``contrasts.json`` and ``provenance.json`` of a run.

    Parameters
    ----------
    folder : Path
    size : Size
    seed : int
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, named = np.random.default_rng(seed), names(size)
    parts = {name: [] for name in columns.TABLES}
    level = rng.normal(-2.5, 1.7, size.genes)
    for k, cell_type in enumerate(named.cell_types):
        mean = np.exp(level + rng.normal(0, 0.6, size.genes))
        for name, tables in _cell_type(
            rng, size, named, cell_type, mean, fitted=rng.random(size.genes) < size.tested
        ).items():
            parts[name] += tables
        parts["design"] += [_design(cell_type, contrast, size, k) for contrast in named.contrasts]
    files = {}
    for name, tables in parts.items():
        if tables and not (name in ("audit", "audit_qq") and not size.audit):
            table = pd.DataFrame(tables) if name in ("design", "audit") else pd.concat(tables, ignore_index=True)
            _typed(table, name).to_parquet(folder / f"{name}.parquet", compression="zstd")
            files[f"{name}.parquet"] = {}
    _write_json(folder, size, named, files)


def _typed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    wanted = {column.name: "object" if column.dtype == "str" else column.dtype for column in columns.TABLES[name]}
    return table[list(wanted)].astype(wanted)


def _cell_type(rng, size: Size, named: Names, cell_type: str, mean: np.ndarray, fitted: np.ndarray) -> dict:
    G = size.genes
    total = mean * CELLS
    donor_variance = np.exp(rng.normal(-3.2, 0.9, G))
    dispersion = np.exp(rng.normal(-0.8, 1.0, G))
    pct = -100 * np.expm1(-mean / (1 + 0.3 * dispersion * mean))
    tables: dict[str, list] = {"effects": [], "fits": [], "variances": [], "priors": [], "concordance": []}
    tables |= {"stability": [], "audit": [], "audit_qq": [], "coefficients": []}
    status = {}
    for method in size.methods:
        outcome = rng.choice(len(OUTCOMES), G, p=SHARE_OF_OUTCOMES)
        status[method] = np.array([label(OUTCOMES[k]) for k in outcome], dtype=object)
        status[method][~fitted] = label(Status.FILTERED)
        tables["fits"].append(_fits(named, cell_type, method, status[method], mean, pct, total, size))
        tables["variances"].append(_variances(rng, named, cell_type, method, donor_variance, dispersion, fitted))
        tables["priors"].append(_priors(cell_type, method, int(fitted.sum())))
    standard = np.sqrt((1 / total + dispersion / CELLS) * 4 + 4 * (donor_variance + 0.02) / size.donors) / np.log(2)
    for contrast in named.contrasts:
        different = (rng.random(G) < SHARE_DIFFERENT) & size.called
        effect = np.where(different, rng.normal(0, SD_DIFFERENT, G), 0.0)
        noise, beside = rng.normal(0, 1, G), {}
        for m, method in enumerate(size.methods):
            se = standard * np.exp(rng.normal(0.05 * m, 0.08 + 0.05 * m, G))
            w = effect / se + noise + m * rng.normal(0, 0.35, G)
            beside[method] = _effects(
                rng, named, cell_type, contrast, method, w, se, status[method], mean, pct, fitted, size
            )
            tables["effects"].append(beside[method])
            if size.audit:
                row, qq = _audit(rng, cell_type, contrast, method)
                tables["audit"].append(row)
                tables["audit_qq"].append(qq)
        _add_beside(tables, beside, size)
    return {name: parts for name, parts in tables.items() if parts}


def _effects(
    rng, named: Names, cell_type, contrast, method, w, se, status, mean, pct, fitted, size: Size
) -> pd.DataFrame:
    z = w * (1 - 0.01 * np.abs(w)) + rng.normal(0, 0.03, len(w))
    p = np.maximum(2 * stats.norm.sf(np.abs(z)), 2.2e-308)
    padj = np.full(len(p), np.nan)
    if fitted.any():
        padj[fitted] = stats.false_discovery_control(p[fitted])
    width = 1.96 * se * np.exp(np.abs(rng.normal(0, 0.01, len(w))))
    table = pd.DataFrame(
        {
            "cell_type": cell_type, "gene": named.genes, "gene_name": named.symbols, "contrast": contrast,
            "method": method, "log2fc": w * se, "lfc_se": se, "ci_low": w * se - width, "ci_high": w * se + width,
            "log2fc_shrunken": w * se * 0.7, "statistic": np.copysign(np.abs(z), w), "df": np.nan, "pvalue": p,
            "padj": padj, "padj_global": padj,
        }
    )  # fmt: skip
    table.loc[~fitted, "log2fc":"padj_global"] = np.nan
    reason = np.where(fitted, "", "counts in 3 cells, min_cells_expressing is 10")
    known = {"mean_count": mean, "pct_cells": pct, "n_cells": CELLS, "n_donors": size.donors}
    table = table.assign(**known, status=status, reason=reason)
    return table.sort_values("pvalue", kind="stable")


def _fits(named: Names, cell_type, method, status, mean, pct, total, size: Size) -> pd.DataFrame:
    filtered = status == label(Status.FILTERED)
    reason = np.where(filtered, "counts in 3 cells, min_cells_expressing is 10", "")
    return pd.DataFrame(
        {
            "cell_type": cell_type, "gene": named.genes, "gene_name": named.symbols, "method": method,
            "estimation": "reml", "loglik": -100.0, "n_parameters": 5, "aic": 210.0, "bic": 220.0, "n_cells": CELLS,
            "n_donors": size.donors, "n_samples": 2 * size.donors, "mean_count": mean, "pct_cells": pct,
            "total_count": np.rint(total), "n_cells_expressing": np.rint(CELLS * pct / 100).astype(np.int64),
            "n_donors_expressing": size.donors, "status": status, "reason": reason, "n_iter": 12,
        }
    )  # fmt: skip


def _variances(rng, named: Names, cell_type, method, donor_variance, dispersion, fitted) -> pd.DataFrame:
    parts = []
    values = {"donor": donor_variance, "donor:condition": donor_variance / 2, "dispersion": dispersion}
    for component in COMPONENTS[method]:
        variance = values[component][fitted] * np.exp(rng.normal(0, 0.3, fitted.sum()))
        share = variance / (variance + 1.0 + dispersion[fitted])
        parts.append(
            pd.DataFrame(
                {
                    "cell_type": cell_type,
                    "gene": np.array(named.genes, dtype=object)[fitted],
                    "method": method,
                    "component": component,
                    "variance_reml": variance,
                    "variance": variance,
                    "ci_low": variance / 3,
                    "ci_high": 3 * variance,
                    "correlation": np.nan,
                    "pvalue": rng.random(len(variance)) ** 2,
                    "fraction": share,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _priors(cell_type, method, n: int) -> pd.DataFrame:
    rows = []
    for component in COMPONENTS[method]:
        told = component != "dispersion" or method == "pseudobulk"
        numbers = {"log_variance": -3.2, "slope": -0.1, "sd": 0.9, "variance": 0.04} if told else {}
        base = dict.fromkeys(("log_variance", "slope", "sd", "variance"), np.nan) | numbers
        keys = {"cell_type": cell_type, "method": method, "component": component, "n_genes": n, "mean_log_total": 5.0}
        rows.append({**keys, **base, "reason": "" if told else "not between replicates"})
    return pd.DataFrame(rows)


def _design(cell_type, contrast, size: Size, k: int) -> dict:
    half = size.donors // 2
    row = dict.fromkeys(columns.names("design"), 0) | {
        "cell_type": cell_type, "contrast": contrast, "comparison": "within donors", "replicate": "donor:condition",
        "arms": f"condition[ctrl]: {size.donors}, condition[stim]: {size.donors}", "n_donors": size.donors,
        "n_donors_both": size.donors, "n_donors_smallest": half, "df": 10.0, "confounded_with": "", "mean_count": 0.1,
        "lfc_detectable": 1.0 + 0.01 * k, "power_twofold": 0.6, "warning": "few donors" if k == 1 else "",
    }  # fmt: skip
    return row


def _audit(rng, cell_type, contrast, method) -> tuple[dict, pd.DataFrame]:
    row = dict.fromkeys(columns.names("audit"), 0.05) | {
        "cell_type": cell_type, "method": method, "contrast": contrast, "permuted": "condition",
        "exchanged": "within donors", "n_splits": 20, "n_distinct": 2047.0, "n_genes": 2000, "n_tests": 40_000,
        "type1_05": rng.normal(0.05, 0.004), "lambda": 1.0, "splits_with_calls": 0, "injected_log2fc": 1.0,
        "n_injected": 200, "reason": "",
    }  # fmt: skip
    expected = -np.log10((np.arange(1, 201) - 0.5) / 200)
    observed = np.sort(rng.exponential(1 / np.log(10), 200))[::-1]
    keys = {"cell_type": cell_type, "method": method, "contrast": contrast}
    return row, pd.DataFrame({**keys, "rank": np.arange(1, 201), "expected": expected, "observed": observed})


def _add_beside(tables: dict, beside: dict[str, pd.DataFrame], size: Size) -> None:
    """Add what the methods say of each gene side by side, and what leaving out donors does to the leading ones."""
    first = beside[size.methods[0]].dropna(subset="pvalue")
    known = ["cell_type", "gene", "gene_name", "contrast"]
    stable = np.where(np.arange(len(first)) % 17 == 3, "no", "yes")
    stable[LEFT_OUT:] = ""
    words = {
        "loo_same_sign": stable,
        "loo_worst_p": 0.01,
        "loo_worst_donor": "D001",
        "loo_calls": 1.0,
        "stable": stable,
    }
    if len(size.methods) == 1:
        table = first[[*known, "method", "log2fc", "pvalue", "padj"]].assign(**words).head(LEFT_OUT)
        tables["stability"].append(table)
        return
    names = ("log2fc", "lfc_se", "pvalue", "padj", "status")
    table = first[known]
    for method, part in beside.items():
        renamed = part[["gene", *names]].rename(columns={name: f"{name}_{method}" for name in names})
        table = table.merge(renamed, on="gene", how="left")
        table = table.assign(**{f"{name}_{method}": value for name, value in words.items()})
    disagree = np.abs(table["log2fc_glmm"] - table["log2fc_pseudobulk"]) > 1.2 * table["lfc_se_glmm"]
    reason = np.where(disagree, "low counts: 12 in 24 samples; donor D003 carries it: p of glmm is 0.2 without it", "")
    table = table.assign(difference=0.1, disagree=np.where(disagree, "yes", "no"), reason=reason)
    tables["concordance"].append(table)


def _write_json(folder: Path, size: Size, named: Names, files: dict) -> None:
    expressions = dict.fromkeys(named.contrasts, "condition[stim] - condition[ctrl]")
    contrasts = [{"name": name, "expression": text, "weights": [[0.0, 1.0]]} for name, text in expressions.items()]
    resolved = {
        "warnings": [],
        "contrasts": named.contrasts,
        "cell_types": dict.fromkeys(named.cell_types, contrasts),
        "left_out": {name: {} for name in named.cell_types},
    }
    io.write_json(folder / "contrasts.json", resolved)
    filters = {"min_cells_expressing": 10, "min_fraction_expressing": 0.01, "min_donors_expressing": 2}
    config = {
        "split": {"input": "synthetic.h5ad", "counts": "X", "cell_type": "cell_type", "gene_names": "var/symbol"},
        "prepare": {
            "input": "synthetic.h5ad", "donor": "donor", "cell_type": "cell_type", "sample": None, "reference": {},
            "formula": "~ condition + (1 | donor) + (1 | donor:condition)", "size_factors": "library",
            "filters": {"min_cells_per_donor": 10, "min_donors_per_arm": 2},
        },
        "fit": {
            "family": "nb", "estimation": "reml", "integration": "laplace", "quadrature_nodes": 9,
            "likelihood": "compressed", "filters": filters,
        },
        "test": {"contrasts": list(expressions.items())},
        "audit": {"audit_splits": 20, "seed": 1},
        "tables": {"fdr": "bh", "stability": True, "audit": size.audit},
    }  # fmt: skip
    one = {"n_cells": CELLS, "n_donors": size.donors, "skipped": "", "reference": {"condition": "ctrl"}}
    provenance = {
        "run": "0123456789abcdef", "input": {"path": "synthetic.h5ad", "sha256": "0" * 64},
        "formula": config["prepare"]["formula"], "methods": list(size.methods),
        "cell_types": {name: {"slug": f"type{k}", **one} for k, name in enumerate(named.cell_types)},
        "genes": size.genes, "config": config, "versions": {"mlmgen": "0.1.0", "python": "3.11"}, "files": files,
    }  # fmt: skip
    io.write_json(folder / "provenance.json", provenance)


def cells(size: Size) -> tuple[donors.Cells, ...]:
    """Return obs of every cell type, as `mlmgen.report.donors.read` does."""
    named, found = names(size), []
    for t in range(size.cell_types):
        rows = CELLS // size.donors * size.donors
        donor = np.repeat(np.array(named.donors, dtype=object), rows // size.donors)
        condition = np.tile(np.array(["ctrl", "stim"], dtype=object), rows // 2)
        sample = [f"{one}:{other}" for one, other in zip(donor, condition, strict=True)]
        found.append(donors.Cells(t, pd.DataFrame({"donor": donor, "condition": condition, "sample": sample}), ()))
    return tuple(found)


def stories(size: Size, folder: Path):
    """Return what stands for `mlmgen.story.stories`: samples and groups of noise."""
    named = names(size)
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("effects", "variances", "fits")}
    tables = {name: dict(list(table.groupby("cell_type", observed=True))) for name, table in tables.items()}
    rng = np.random.default_rng(3)
    samples = pd.DataFrame({"donor": np.repeat(named.donors, 2), "condition": ["ctrl", "stim"] * size.donors})
    samples.insert(1, "sample", samples["donor"] + ":" + samples["condition"])

    def found(cell_type: str, genes: Sequence[str]) -> dict[str, OfCellType]:
        own = {name: by_type[cell_type] for name, by_type in tables.items()}
        own = {name: dict(list(t[t["gene"].isin(list(genes))].groupby("gene"))) for name, t in own.items()}
        return {
            gene: _story(rng, cell_type, samples, size, named, {n: t[gene] for n, t in own.items()}) for gene in genes
        }

    return found


def _story(rng, cell_type, samples: pd.DataFrame, size: Size, named: Names, tables: dict) -> OfCellType:
    n = len(samples)
    mean = np.exp(rng.normal(-1, 1, n))
    total = rng.poisson(mean * 80)
    numbers = {"mean": mean, "ci_low": 0.6 * mean, "ci_high": 1.7 * mean, "total_count": total, "pct_cells": 40 * mean}
    groups = []
    for term, levels in (("donor", named.donors), ("donor:condition", samples["sample"])):
        values = {
            name: rng.normal(0, 0.3, len(levels)) for name in ("estimate", "std_error", "unpooled", "unpooled_se")
        }
        groups.append(pd.DataFrame({"term": term, "effect": "(Intercept)", "level": list(levels), **values}))
    table = samples.assign(n_cells=CELLS // n, **numbers)
    return OfCellType(
        cell_type, table, pd.concat(groups, ignore_index=True), tables["effects"], tables["variances"], tables["fits"]
    )


def diagnostics(size: Size):
    """Return what stands for `mlmgen.report.leading.diagnostics`."""
    named, rng = names(size), np.random.default_rng(4)
    place = {name: t for t, name in enumerate(named.cell_types)}

    def found(cell_type: str) -> list[dict]:
        q = np.round(np.sort(rng.normal(0, 1, 99)), 3).tolist()
        numbers = {"n_genes": 150, "median_z": 0.1, "rms_z": 1.0, "share_beyond": 0.01}
        levels = [{"level": donor, **numbers} for donor in named.donors]
        one = {"t": place[cell_type], "m": 0, "effect": "(Intercept)", "levels": levels, "expected": q, "observed": q}
        return [{**one, "term": term} for term in ("donor", "donor:condition")]

    return found
