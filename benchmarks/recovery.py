"""Does the estimator recover what was simulated? Bias of every component and coverage of the intervals, by structure.

    python -m benchmarks.recovery [--genes 1000] [--donors 10 40] [--families nb poisson bernoulli gaussian]
                                  [--structures intercept nested ...] [--glmmtmb 50] [--all]

Genes of one design share their true parameters, and each has random effects and a response of its own: so many data
sets of 100 to 200 cells a donor. The fits are REML; the bias of a component is relative to the truth, that of a
coefficient absolute, and z is the bias over its Monte-Carlo standard error. Coverage is that of the Wald intervals with
Satterthwaite's degrees of freedom. With ``--glmmtmb N`` glmmTMB fits N of the same data sets.
"""

import argparse
from typing import NamedTuple

import numpy as np

from benchmarks import other_programs
from benchmarks.experiments import STRUCTURES, Experiment, Truth, draw, experiment
from mlmgen import fitting, inference
from mlmgen.multilevel import component_names
from mlmgen.status import Status, label
from mlmgen.types import Contrast, Counts, Design, GeneFits

RECOVERED = tuple(name for name in STRUCTURES if name not in ("uncorrelated slope", "two covariates"))
FAMILIES = ("nb", "poisson", "bernoulli", "gaussian")
CELLS, BATCHES = (100, 200), 12
# Standard deviations of intercepts by grouping factor and of slopes, and the correlation of the two: far from zero.
SD = {"site": 0.7, "donor": 0.6, "donor:condition": 0.5, "batch": 0.5}
SLOPE_SD, CORRELATION = 0.5, 0.4
INTERCEPT, EFFECT = 0.5, 0.3
PHI, RESIDUAL = 0.4, 1.0
LEVEL = 0.95


class Recovery(NamedTuple):
    """Estimates of one design and family beside the truth.

    ``names``, ``truth``, ``estimates`` (G, .): the components and then the coefficients; ``covered`` (G, p) whether
    the interval of each coefficient holds it; ``width`` (p,) their median widths; ``fits`` all that was estimated.
    """

    names: tuple[str, ...]
    truth: np.ndarray
    estimates: np.ndarray
    covered: np.ndarray
    width: np.ndarray
    fits: GeneFits
    experiment: Experiment
    counts: Counts


class Bias(NamedTuple):
    """Of each parameter: the mean estimate, its Monte-Carlo standard error, z, and the bias relative to the truth."""

    mean: np.ndarray
    error: np.ndarray
    z: np.ndarray
    relative: np.ndarray


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--genes", type=int, default=1000)
    arguments.add_argument("--donors", type=int, nargs="+", default=[10, 40])
    arguments.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    arguments.add_argument("--structures", nargs="+", default=RECOVERED, choices=RECOVERED)
    arguments.add_argument("--glmmtmb", type=int, default=0, metavar="N")
    arguments.add_argument("--all", action="store_true", help="a row for each parameter, with means and errors")
    chosen = arguments.parse_args()
    print(f"{chosen.genes:,} data sets; bias (z); coverage of {LEVEL:.0%} intervals")
    for donors in chosen.donors:
        print(f"\n{donors} donors\n\n| model | parameter | truth | {' | '.join(chosen.families)} |")
        print("|---|---|---|" + "---|" * len(chosen.families), flush=True)
        for structure in chosen.structures:
            found = {f: recover(structure, f, donors, chosen.genes) for f in chosen.families}
            _print_rows(structure, found)
            if chosen.all:
                _print_all(found)
            for family, one in found.items():
                if chosen.glmmtmb:
                    _print_glmmtmb(structure, family, one, chosen.glmmtmb)


def recover(structure: str, family: str, donors: int, genes: int, seed: int = 1) -> Recovery:
    """Simulate and fit ``genes`` data sets of one design."""
    rng = np.random.default_rng([seed, donors, list(STRUCTURES).index(structure), FAMILIES.index(family)])
    laid = experiment(structure, donors, CELLS, rng, BATCHES)
    truth, values = truth_of(laid.design, family, genes)
    counts = draw(laid.design, truth, family, rng)
    fits = fitting.fit_shard(counts, laid.design, np.ones(genes, bool), family, grid=False)
    effects = inference.test(counts, laid.design, fits, None, _each(laid.design), family)
    covered = (effects.ci_low <= truth.beta) & (truth.beta <= effects.ci_high)
    estimates = np.column_stack([fits.variance, fits.beta])
    width = np.median(effects.ci_high - effects.ci_low, axis=0)
    names = (*fits.components, *fits.coefficients)
    return Recovery(names, np.r_[values, truth.beta[0]], estimates, covered, width, fits, laid, counts)


def truth_of(design: Design, family: str, genes: int) -> tuple[Truth, np.ndarray]:
    """Return the parameters of every gene, and the components in the order of ``GeneFits.variance``."""
    beta = np.full((genes, len(design.coefficients)), EFFECT)
    beta[:, 0] = INTERCEPT
    roots, values = [], []
    for term in design.terms:
        sd = np.array([SD[term.name] if effect == "(Intercept)" else SLOPE_SD for effect in term.effects])
        correlation = np.where(np.eye(sd.size, dtype=bool), 1.0, CORRELATION)
        covariance = np.outer(sd, sd) * correlation
        roots.append(np.tile(np.linalg.cholesky(covariance), (genes, 1, 1)))
        values += [*np.diag(covariance), *covariance[np.tril_indices(sd.size, -1)]]
    values += {"nb": [PHI], "gaussian": [RESIDUAL]}.get(family, [])
    assert len(values) == len(component_names(design, family))
    return Truth(beta, tuple(roots), np.full(genes, PHI if family == "nb" else RESIDUAL)), np.array(values)


def _each(design: Design) -> tuple[Contrast, ...]:
    """Return a contrast for each coefficient."""
    rows = np.eye(len(design.coefficients))
    return tuple(Contrast(name, name, row[None]) for name, row in zip(design.coefficients, rows, strict=True))


def bias(estimates: np.ndarray, truth: np.ndarray) -> Bias:
    """Summarize estimates (G, V) of true values (V,)."""
    mean = estimates.mean(axis=0)
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    return Bias(mean, error, (mean - truth) / error, mean / truth - 1.0)


def _print_rows(structure: str, found: dict[str, Recovery]) -> None:
    """Print a row for each parameter; the dispersion is nb's and the residual variance gaussian's."""
    model = f"`{STRUCTURES[structure][2:]}`".replace("|", "\\|")
    every = [dict(zip(one.names, range(len(one.names)), strict=True)) for one in found.values()]
    for name in dict.fromkeys(name for names in every for name in names):
        cells, truth = [], ""
        for one, names in zip(found.values(), every, strict=True):
            if name not in names:
                cells.append("")
                continue
            v, b = names[name], bias(one.estimates, one.truth)
            truth = f"{one.truth[v]:g}"
            first = len(one.truth) - one.covered.shape[1]
            size = f"{b.relative[v]:+.1%}" if v < first else f"{b.mean[v] - one.truth[v]:+.3f}"
            coverage = f"; {one.covered[:, v - first].mean():.1%}" if v >= first else ""
            cells.append(f"{size} ({b.z[v]:+.1f}){coverage}")
        print(f"| {model} | {name} | {truth} | {' | '.join(cells)} |", flush=True)
        model = ""


def _print_all(found: dict[str, Recovery]) -> None:
    """Print means, errors and how the fits ended, as plain lines."""
    for family, one in found.items():
        status = np.bincount(one.fits.status, minlength=len(Status))
        ended = ", ".join(f"{k} {label(s)}" for s, k in enumerate(status) if k)
        print(f"  {family}: {ended}")
        b = bias(one.estimates, one.truth)
        for v, name in enumerate(one.names):
            print(f"    {name}: true {one.truth[v]:.4f} mean {b.mean[v]:.4f} error {b.error[v]:.4f} z {b.z[v]:+.2f}")


def _print_glmmtmb(structure: str, family: str, one: Recovery, number: int) -> None:
    """Print how far glmmTMB's mean estimates of some of the data sets are from ours."""
    genes = np.arange(min(number, len(one.estimates)))
    theirs = other_programs.fit("glmmTMB", one.experiment, one.counts, genes, structure, family, "reml")
    if isinstance(theirs, str):
        print(f"  glmmTMB skipped: {theirs}")
        return
    p = one.covered.shape[1]
    terms = one.estimates.shape[1] - p - (family in ("nb", "gaussian"))
    parts = [theirs.variance[:, :terms], theirs.beta]
    if family in ("nb", "gaussian"):
        parts.insert(1, theirs.dispersion[:, None])
    away = np.column_stack(parts) - one.estimates[genes]
    relative = away.mean(axis=0) / one.truth
    worst = np.abs(theirs.loglik - one.fits.loglik[genes]).max()
    listed = ", ".join(f"{name} {value:+.2%}" for name, value in zip(one.names, relative, strict=True))
    version = f"glmmTMB {theirs.version}, {family}, {genes.size} data sets"
    print(f"  {version}: mean estimates less ours, of the truth: {listed}; log-likelihoods within {worst:.0e}")


if __name__ == "__main__":
    main()
