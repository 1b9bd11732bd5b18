"""All that a run knows of a gene: its samples, the effects of its groups, and its rows of the tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

from mlmgen import io, provenance
from mlmgen.conditional import Modes, modes
from mlmgen.counts import log_normalized
from mlmgen.design import for_samples
from mlmgen.design_rows import DISPERSION, design_rows
from mlmgen.findings import Findings
from mlmgen.status import Status, label
from mlmgen.types import Counts, Design, GeneFits

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
LEVELS = {"glmm": "prepared", "pseudobulk": "pseudobulk"}
# Of the shrinkage: below this share of its variance an effect says little but the prior's mean.
RELIABLE = 0.2
BEYOND = 2.576  # standard deviations that 1 % of normal values exceed
QUANTILES = 99
FREE_GROUPS = 3
OF_LEVELS = ("level", "n_genes", "median_z", "rms_z", "share_beyond")


class OfCellType(NamedTuple):
    """What is known of a gene in one cell type.

    Attributes
    ----------
    cell_type : str
    samples : DataFrame
        One row per sample: ``donor``, ``sample``, the variables of the formula that are constant in it, ``n_cells``,
        ``total_count``, ``pct_cells`` (of its cells with a count), ``mean`` (counts per cell of average depth) and its
        95 % interval ``ci_low``, ``ci_high``.
    groups : DataFrame
        One row per group of every random effect: ``term``, ``effect``, ``level``; ``estimate`` and ``std_error``,
        shrunken; ``unpooled`` and ``unpooled_se``, from the group's own cells, missing where they do not determine it.
        Natural log; log odds for detection.
    effects, variances, fits : DataFrame
        The gene's rows of these tables, of all methods.
    """

    cell_type: str
    samples: "pd.DataFrame"
    groups: "pd.DataFrame"
    effects: "pd.DataFrame"
    variances: "pd.DataFrame"
    fits: "pd.DataFrame"


class Story(NamedTuple):
    """What is known of a gene; without the cell types in which it was not fitted."""

    gene: str
    gene_name: str
    cell_types: tuple[OfCellType, ...]


class Diagnostics(NamedTuple):
    """How the random effects of a cell type lie, standardized by what shrinkage leaves of their variance.

    Attributes
    ----------
    levels : DataFrame
        One row per group: ``term``, ``effect``, ``level``, ``n_genes``, ``median_z``, ``rms_z`` (1 if this group is
        like the others) and ``share_beyond``, of genes with |z| above 2.58 (0.01 if they are normal).
    quantiles : DataFrame
        ``term``, ``effect``, ``expected``, ``observed``: of all genes and groups against the normal distribution.
    """

    levels: "pd.DataFrame"
    quantiles: "pd.DataFrame"


def story(findings: Findings, gene: str, cell_types: Sequence[str] | None = None, method: str | None = None) -> Story:
    """Collect what is known of one gene.

    Parameters
    ----------
    findings : Findings
    gene : str
        Name or symbol.
    cell_types : sequence of str, optional
        Those to look at, all that were fitted where none are given.
    method : {"glmm", "pseudobulk"}, optional
        Whose random effects; the cells' where they were fitted.

    Raises
    ------
    UserError
        For an unknown gene; where files of the run are missing or of another run.
    """
    gene = findings.gene(gene)
    wanted = findings.cell_types if cell_types is None else cell_types
    found = [stories(findings, cell_type, [gene], method) for cell_type in wanted]
    return Story(gene, findings.gene_name(gene), tuple(one[gene] for one in found if gene in one))


def stories(
    findings: Findings, cell_type: str, genes: Sequence[str], method: str | None = None
) -> dict[str, OfCellType]:
    """Collect what is known of several genes in one cell type, reading its files once.

    Parameters
    ----------
    findings : Findings
    cell_type : str
    genes : sequence of str
        As in the column ``gene``; those that were not fitted are left out of what is returned.
    method : {"glmm", "pseudobulk"}, optional

    Returns
    -------
    dict of str to OfCellType
        By gene, in the order of the input's genes.
    """
    method = method or findings.methods[0]
    tables = {name: _rows(getattr(findings, name), cell_type, genes) for name in ("effects", "variances", "fits")}
    fitted = _fitted(findings, cell_type, genes, method)
    if fitted is None:
        return {}
    counts, design, fits, family = fitted
    effects = _modes(findings, counts, design, fits, family)
    cells = counts if method == "glmm" else _counts(findings, cell_type, fits.genes, "glmm")
    samples = _samples(findings, cell_type, cells, tables["variances"])
    return {
        gene: OfCellType(
            cell_type,
            samples[gene],
            _groups(effects, g),
            *(tables[name][tables[name]["gene"] == gene].reset_index(drop=True) for name in tables),
        )
        for g, gene in enumerate(fits.genes)
    }


def _rows(table: "pd.DataFrame", cell_type: str, genes: Sequence[str]) -> "pd.DataFrame":
    own = table[(table["cell_type"] == cell_type).to_numpy()]
    return own[own["gene"].isin(list(genes)).to_numpy()]


def _path(findings: Findings, cell_type: str, method: str) -> str:
    """Return the file of a cell type after checking that the tables were made from its like."""
    slug = findings.provenance["cell_types"][cell_type]["slug"]
    path = str(findings.folder / LEVELS[method] / f"{slug}.h5ad")
    meta = io.read_meta(path)
    wanted = {"prepare": findings.config["prepare"], "input": findings.provenance["input"]["sha256"]}
    seen = {"prepare": meta["settings"], "input": meta["checksum"]}
    provenance.refuse([(path, provenance.differences(wanted, seen))])
    return path


def _counts(findings: Findings, cell_type: str, genes: Sequence[str], method: str) -> Counts:
    path = _path(findings, cell_type, method)
    place = {gene: g for g, gene in enumerate(io.read_gene_statistics(path)["gene"])}
    return io.read_some_counts(path, np.array(sorted(place[gene] for gene in genes), dtype=np.int64))


def _fitted(findings: Findings, cell_type: str, genes: Sequence[str], method: str):
    """Return counts, design, fits (with the moderated variances) and family of the genes that were fitted, or None."""
    status = _rows(findings.fits, cell_type, genes)
    status = status[(status["method"] == method) & (status["status"] != label(Status.FILTERED))]
    if status.empty:
        return None
    counts = _counts(findings, cell_type, list(status["gene"]), method)
    design = io.read_design(_path(findings, cell_type, "glmm"))
    design = for_samples(design) if method == "pseudobulk" else design
    family = findings.family if method == "glmm" else "nb"
    return counts, design, _as_fitted(findings, cell_type, counts.genes, method), family


def _as_fitted(findings: Findings, cell_type: str, genes: tuple[str, ...], method: str) -> GeneFits:
    """Put the tables' coefficients and moderated variances in the place of a fit's; what modes do not read is empty."""
    values = {}
    for name, key, column in (("coefficients", "coefficient", "estimate"), ("variances", "component", "variance")):
        rows = _rows(getattr(findings, name), cell_type, genes)
        rows = rows[rows["method"] == method]
        names = tuple(rows[key].astype(object).drop_duplicates())
        of_gene = {gene: part.to_numpy() for gene, part in rows.groupby("gene", sort=False)[column]}
        values[name] = names, np.array([of_gene[gene] for gene in genes]).reshape(len(genes), len(names))
    status = _rows(findings.fits, cell_type, genes)
    status = status[status["method"] == method].set_index("gene")
    number = {label(one): one for one in Status}
    (coefficients, beta), (components, variance) = values["coefficients"], values["variances"]
    empty = np.full((len(genes), 0), np.nan)
    return GeneFits(
        genes, coefficients, components, str(status["estimation"].iloc[0]),
        beta, empty, empty, empty, empty, variance, empty, empty,
        loglik=status.loc[list(genes), "loglik"].to_numpy(),
        status=np.array([number[name] for name in status.loc[list(genes), "status"]], dtype=np.int8),
        n_iter=np.zeros(len(genes), dtype=np.int32), grid_shape=np.zeros(len(components), dtype=np.int64),
        grid_low=empty, grid_high=empty, grid_unit=empty, grid_loglik=empty,
    )  # fmt: skip


def _modes(findings: Findings, counts: Counts, design: Design, fits: GeneFits, family: str) -> tuple[Modes, ...]:
    if not design.terms:
        return ()
    data = log_normalized(counts, design) if family == "gaussian" else counts
    return modes(data, design, fits, family, findings.config["fit"]["likelihood"])


def _groups(effects: Sequence[Modes], g: int) -> "pd.DataFrame":
    import pandas as pd

    names = ("estimate", "std_error", "unpooled", "unpooled_se")
    parts = [
        pd.DataFrame({"term": one.term, "effect": effect, "level": np.array(one.levels, dtype=object)})
        .assign(**{name: getattr(one, name)[g, :, j] for name in names})
        for one in effects
        for j, effect in enumerate(one.effects)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["term", "effect", "level", *names])


def _samples(findings: Findings, cell_type: str, counts: Counts, variances: "pd.DataFrame") -> dict:
    """Return the table of samples of every gene."""
    path = _path(findings, cell_type, "glmm")
    _, obs, _ = io.read_prepared_cells(path, np.zeros(0, dtype=np.int64))
    design = io.read_design(path)
    sample, size = design.sample.codes[design.pattern], obs["size_factor"].to_numpy()
    own = (design.donor.name, findings.config["prepare"]["cell_type"])
    known = _of_samples(obs, sample, len(design.sample.levels), *own)
    own = variances[(variances["method"] == "glmm") & (variances["component"] == DISPERSION)].set_index("gene")
    found = {}
    for g, gene in enumerate(counts.genes):
        span = slice(counts.start[g], counts.start[g + 1])
        y = np.zeros(len(size))
        y[counts.rows[span]] = counts.values[span]
        phi = own["variance"].get(gene, 0.0) if findings.family == "nb" and len(own) else None
        found[gene] = known.assign(**_means(y, size, sample, len(known), phi))
    return found


def _of_samples(obs: "pd.DataFrame", sample: np.ndarray, n: int, donor: str, cell_type: str | None) -> "pd.DataFrame":
    """Return one row per sample with the variables that are constant in each of them."""
    import pandas as pd

    first = np.unique(sample, return_index=True)[1]
    columns = {"donor": obs[donor].to_numpy()[first], "sample": obs["sample"].to_numpy()[first]}
    left = [c for c in obs.columns if c not in (donor, "sample", "donor", "size_factor", "pattern", cell_type)]
    for name in left:
        values = pd.factorize(obs[name])[0]
        if (values == values[first][sample]).all():
            columns[name] = obs[name].to_numpy()[first]
    return pd.DataFrame(columns).assign(n_cells=np.bincount(sample, minlength=n))


def _means(y: np.ndarray, size: np.ndarray, sample: np.ndarray, n: int, phi: float | None) -> dict:
    """Return total count, share of cells, and mean with its interval, per sample.

    The variance of a sample's sum K over exposure S = sum of s is m S + phi m^2 sum of s^2 with the mean m = K / S, so
    that K / d is like a Poisson count with d = 1 + phi m sum s^2 / S: its exact interval (Garwood 1936, Biometrika
    28:437) times d / S, for the upper end with its own d. A little wide where cells are few and very variable.

    Parameters
    ----------
    y, size : (cells,) float64
        Counts and size factors.
    sample : (cells,) int
    n : int
        Number of samples.
    phi : float or None
        Dispersion of the cells; None where no model has one: from the moments, over all samples.
    """
    total, exposure, squares = (np.bincount(sample, weights=w, minlength=n) for w in (y, size, size**2))
    mean, tail = total / exposure, (1.0 - LEVEL) / 2.0
    if phi is None:
        mu = mean[sample] * size
        phi = max(0.0, ((y - mu) ** 2 - mu).sum() / (mu**2).sum()) if total.any() else 0.0
    d, high = 1.0 + phi * mean * squares / exposure, mean
    low = np.where(total > 0, stats.chi2.ppf(tail, 2.0 * np.maximum(total, 1.0) / d) / 2.0, 0.0) * d / exposure
    for _ in range(2):  # the variance at the upper end is larger than in the middle
        d = 1.0 + phi * high * squares / exposure
        high = stats.chi2.isf(tail, 2.0 * (total / d + 1.0)) / 2.0 * d / exposure
    n_cells = np.bincount(sample, minlength=n)
    return {
        "total_count": total,
        "pct_cells": 100.0 * np.bincount(sample, weights=y > 0, minlength=n) / n_cells,
        "mean": mean,
        "ci_low": low,
        "ci_high": high,
    }


def diagnostics(findings: Findings, cell_type: str, method: str | None = None, most: int = 200) -> Diagnostics:
    """Compare the random effects of a cell type with the normal distribution, and its groups with one another.

    An effect is divided by sqrt((variance - se^2) (1 - h)), the standard deviation that shrunken effects have: h is
    the leverage of its group in the fixed effects, which were fitted to the same groups. Terms with fewer than three
    groups more than they have fixed effects to explain them are left out: their effects mirror one another.

    Parameters
    ----------
    findings : Findings
    cell_type : str
    method : {"glmm", "pseudobulk"}, optional
    most : int
        Genes that are looked at: those whose variances are most clearly above zero.
    """
    import pandas as pd

    method = method or findings.methods[0]
    rows = findings.variances
    rows = rows[(rows["cell_type"] == cell_type).to_numpy() & (rows["method"] == method).to_numpy()]
    rows = rows[rows["pvalue"] < 0.05].sort_values(["pvalue", "gene"], kind="stable")
    genes = list(rows["gene"].drop_duplicates().head(most))
    fitted = _fitted(findings, cell_type, genes, method) if genes else None
    levels, quantiles = [], []
    for t, one in enumerate(_modes(findings, *fitted)) if fitted else ():
        left = 1.0 - _leverage(fitted[1], t)
        for j, effect in enumerate(one.effects if left.sum() > FREE_GROUPS - 0.5 else ()):
            z = _standardized(one, j, fitted[2], effect) / np.sqrt(np.where(left > 1e-6, left, np.nan))
            keys = {"term": one.term, "effect": effect}
            levels.append(pd.DataFrame({**keys, "level": np.array(one.levels, dtype=object), **_by_level(z)}))
            quantiles.append(pd.DataFrame({**keys, **_normal_quantiles(z)}))
    levels = levels or [pd.DataFrame(columns=["term", "effect", *OF_LEVELS])]
    quantiles = quantiles or [pd.DataFrame(columns=["term", "effect", "expected", "observed"])]
    return Diagnostics(pd.concat(levels, ignore_index=True), pd.concat(quantiles, ignore_index=True))


def _leverage(design: Design, t: int) -> np.ndarray:
    """Return the leverage of each group of a random term in a regression of group means on the fixed effects, (N,)."""
    groups = np.unique(design.terms[t].codes, return_inverse=True)[1][design.pattern]
    X = design_rows(design).X
    mean = np.stack([np.bincount(groups, weights=column) for column in X.T], axis=1)
    mean /= np.bincount(groups)[:, None]
    return (mean * np.linalg.pinv(mean).T).sum(axis=1)


def _standardized(one: Modes, j: int, fits: GeneFits, effect: str) -> np.ndarray:
    """Return the effects over the standard deviation that shrinkage leaves them, (G, N); NaN where it leaves little."""
    name = one.term if one.term in fits.components else f"{one.term}: {effect}"
    variance = fits.variance[:, fits.components.index(name)][:, None]
    own = variance - one.std_error[:, :, j] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(own > RELIABLE * variance, one.estimate[:, :, j] / np.sqrt(own), np.nan)


def _by_level(z: np.ndarray) -> dict:
    n = np.isfinite(z).sum(axis=0)
    some = n > 0
    found = {"n_genes": n} | {name: np.full(len(n), np.nan) for name in OF_LEVELS[2:]}
    found["median_z"][some] = np.nanmedian(z[:, some], axis=0)
    found["rms_z"][some] = np.sqrt(np.nanmean(z[:, some] ** 2, axis=0))
    found["share_beyond"][some] = (np.abs(z[:, some]) > BEYOND).sum(axis=0) / n[some]
    return found


def _normal_quantiles(z: np.ndarray) -> dict:
    z = z[np.isfinite(z)]
    share = (np.arange(QUANTILES) + 0.5) / QUANTILES if z.size else np.zeros(0)
    return {"expected": stats.norm.ppf(share), "observed": np.quantile(z, share) if z.size else share}
