"""How variance splits between donors, samples and cells: priors, a thinned cloud of genes, and shares by gene."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mlmgen.findings import Findings
from mlmgen.report.packing import rounded
from mlmgen.report.tested import Tested
from mlmgen.report.trust import keys_of, plain, records

if TYPE_CHECKING:
    import pandas as pd

NOISE = ("dispersion", "residual")
BINS = 50
MOST_TOP = 20
LINE = 30  # points of a prior's line
MIDDLE = 1.2816  # standard deviations on either side that hold 80 %
FAR = 2.0  # standard deviations above the prior, from which on the median gene's variance cannot be its own
QUARTILES = (0.25, 0.5, 0.75)
BELOW = 0.05  # p-values of variances that are clear


def components(findings: Findings) -> list[dict]:
    """Return the variance components of every method without covariances, with a title for people."""
    table = findings.variances[["method", "component"]].drop_duplicates().astype(object)
    donor = findings.config["prepare"]["donor"]
    found = []
    for m, method in enumerate(findings.methods):
        for name in table["component"][table["method"] == method]:
            if ", " not in name:
                found.append({"m": m, "name": name, "title": title(name, method, donor)})
    return found


def title(component: str, method: str, donor: str) -> str:
    """Name a variance component in plain words."""
    if component == "dispersion" and method == "pseudobulk":
        return "between samples, beyond counting noise"
    if component in NOISE:
        return "between cells of a sample"
    group, _, effect = component.partition(": ")
    names = ["donors" if name == donor else f"levels of {name}" for name in group.split(":")]
    between = f"between {names[0]}" if len(names) == 1 else f"between combinations of {' and '.join(group.split(':'))}"
    return between if effect in ("", "(Intercept)") else f"{between}, in the effect of {effect}"


def random_of(findings: Findings, method: str) -> list[str]:
    """Return the components of a method's random terms, without dispersion, residual and covariances."""
    table = findings.variances
    names = table["component"][(table["method"] == method).to_numpy()].astype(object).drop_duplicates()
    return [name for name in names if name not in NOISE and ", " not in name]


def section(findings: Findings, parts: list[tuple[int, dict]]) -> dict:
    """Return what of the section is small: names, priors, and a summary of every component.

    Parameters
    ----------
    findings : Findings
    parts : list of (place of the cell type, dict)
        From `of_cell_type`.
    """
    priors = [{**plain(row), **keys_of(findings, row)} for row in records(findings.priors)]
    summary = [{"t": t, **one.pop("summary")} for t, part in parts for one in part["components"]]
    return {"components": components(findings), "priors": priors, "summary": summary}


def by_cell_type(
    findings: Findings, tested: Tested, most: int, obs: "Mapping[int, pd.DataFrame | None]"
) -> list[tuple[int, dict]]:
    """Return the data of every cell type's figures, with its place.

    Parameters
    ----------
    findings : Findings
    tested : Tested
    most : int
        Points of a cloud: more genes are thinned evenly, those with the largest variances are kept.
    obs : mapping of int to DataFrame or None
        Of the cells, by the place of the cell type, as far as they are known.
    """
    names, place = list(findings.provenance["cell_types"]), {gene: g for g, gene in enumerate(tested.genes)}
    by_type = dict(list(findings.variances.groupby("cell_type", observed=True, sort=False)))
    found = []
    for own in tested.cell_types:
        if names[own.t] in by_type:
            table = by_type[names[own.t]]
            gene = table["gene"].map(place).to_numpy()
            mean = np.zeros(len(tested.genes))
            mean[own.gene] = own.mean_count
            found.append((own.t, _of_cell_type(findings, own.t, table, gene, mean, most, obs.get(own.t))))
    return found


def _cells(findings: Findings, t: int) -> int:
    return list(findings.provenance["cell_types"].values())[t]["n_cells"]


def _of_cell_type(findings: Findings, t: int, table: "pd.DataFrame", gene, mean, most: int, obs) -> dict:
    found, icc = [], []
    for m, method in enumerate(findings.methods):
        own = (table["method"] == method).to_numpy()
        for name in table["component"][own].astype(object).drop_duplicates():
            if ", " not in name:
                rows = own & (table["component"] == name).to_numpy()
                line, unmeasured = _line(findings, t, method, name, mean[gene[rows]], table[rows])
                one = _component(table[rows], gene[rows], mean, most)
                one["summary"] = {"m": m, "component": name, **one["summary"]}
                found.append({"m": m, "component": name, "line": line, "unmeasured": unmeasured, **one})
        icc += [{"m": m, **one} for one in _icc(table[own], obs)]
    return {"components": found, "icc": icc}


def _component(rows: "pd.DataFrame", gene: np.ndarray, mean: np.ndarray, most: int) -> dict:
    """Return the cloud, the histogram of shares and the largest variances of one component."""
    variance, fraction = rows["variance"].to_numpy(), rows["fraction"].to_numpy()
    pvalue = rows["pvalue"].to_numpy()
    ranked = np.argsort(-np.nan_to_num(variance, nan=-1.0), kind="stable")
    kept = np.zeros(len(rows), dtype=bool)
    kept[ranked[:MOST_TOP]] = True
    kept[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))] = True
    counts, edges = _histogram(fraction)
    columns = {"variance": variance, "fraction": fraction, "pvalue": pvalue}
    known = variance[np.isfinite(variance)]
    quartiles = rounded(np.quantile(known, QUARTILES)) if len(known) else [None] * 3
    clear = pvalue[np.isfinite(pvalue)]
    share = fraction[np.isfinite(fraction)]
    return {
        "gene": gene[kept].tolist(),
        "mean_count": rounded(mean[gene[kept]]),
        **{name: rounded(values[kept], 2 if name == "pvalue" else 3) for name, values in columns.items()},
        "sampled": bool(~kept.all()),
        "n": len(rows),
        "histogram": {"edges": edges, "counts": counts},
        "top": gene[ranked[:MOST_TOP]].tolist(),
        "summary": {
            "n": len(rows),
            "median": quartiles[1],
            "quartiles": [quartiles[0], quartiles[2]],
            "median_fraction": rounded([np.median(share)])[0] if len(share) else None,
            "share_significant": round(float((clear < BELOW).mean()), 3) if len(clear) else None,
        },
    }


def _histogram(fraction: np.ndarray) -> tuple[list[int], list[float]]:
    counts, edges = np.histogram(fraction[np.isfinite(fraction)], bins=BINS, range=(0.0, 1.0))
    return counts.tolist(), rounded(edges, 4)


def _line(
    findings: Findings, t: int, method: str, component: str, mean: np.ndarray, rows: "pd.DataFrame"
) -> tuple[dict | None, bool]:
    """Return the prior against the mean count with the band that 80 % of the true variances are expected in.

    None without a prior; and where the moderated variances of most genes lie far above it, which is then told: these
    stand at the lowest value of the grid that variances were looked for on.
    """
    priors, name, n_cells = findings.priors, list(findings.provenance["cell_types"])[t], _cells(findings, t)
    own = priors[(priors["cell_type"] == name) & (priors["method"] == method) & (priors["component"] == component)]
    positive = mean[mean > 0]
    if own.empty or not np.isfinite(own["log_variance"].iloc[0]) or not len(positive):
        return None, False
    prior = own.iloc[0]

    def middle(x: np.ndarray) -> np.ndarray:
        total = np.log(x * n_cells)
        if findings.family == "bernoulli" and method == "glmm":  # there the total is of cells with a count
            total = np.log(n_cells * -np.expm1(-x))
        return prior["log_variance"] + prior["slope"] * (total - prior["mean_log_total"])

    variance = rows["variance"].to_numpy()
    use = (mean > 0) & (variance > 0)
    above = np.log(variance[use]) - middle(mean[use])
    if len(above) and np.median(above) > FAR * prior["sd"]:
        return None, True
    x = np.geomspace(positive.min(), positive.max(), LINE)
    bands = {"variance": 0.0, "low": -MIDDLE, "high": MIDDLE}
    lines = {key: rounded(np.exp(middle(x) + k * prior["sd"])) for key, k in bands.items()}
    return {"mean_count": rounded(x), **lines}, False


def _icc(rows: "pd.DataFrame", obs: "pd.DataFrame | None") -> list[dict]:
    """Return the intraclass correlations of every grouping factor: its share, and those of factors it lies within.

    Two cells of the same ``donor:condition`` are of the same ``donor``; effects of a factor are one share, with their
    covariances.
    """
    component = rows["component"].astype(object)
    level = component.map({name: name.partition(": ")[0] for name in component.unique()})
    shares = rows.assign(level=level).groupby(["gene", "level"], sort=False)["fraction"].sum(min_count=1).unstack()
    shares = shares.dropna()
    levels = [name for name in dict.fromkeys(level) if name not in NOISE]
    found = []
    for name in levels if len(shares) else ():
        parts = [name, *(other for other in levels if other != name and _lies_within(name, other, obs))]
        values = shares[parts].sum(axis=1).clip(0.0, 1.0).to_numpy()
        counts, edges = _histogram(values)
        found.append({"level": name, "edges": edges, "counts": counts, "median": rounded([np.median(values)])[0]})
    return found


def _lies_within(inner: str, outer: str, obs: "pd.DataFrame | None") -> bool:
    """Tell whether every group of one factor lies in one of another: as the cells have it, or else as the names say."""
    a, b = inner.split(":"), outer.split(":")
    if set(b) <= set(a):
        return True
    if obs is None or not {*a, *b} <= set(obs):
        return False
    pairs = obs[list(dict.fromkeys([*a, *b]))].astype(str).drop_duplicates()
    return len(pairs) == len(pairs.drop_duplicates(a))
