"""Does the estimator recover what was simulated? Bias of every component and coverage of the intervals, by structure.

    python -m benchmarks.recovery [--genes 4000] [--donors 10 40] [--families nb poisson bernoulli gaussian]
                                  [--structures intercept nested ...] [--glmmtmb 20] [--all]

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
from mlmgen import __version__, fitting, inference
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
    arguments.add_argument("--genes", type=int, default=4000)
    arguments.add_argument("--donors", type=int, nargs="+", default=[10, 40])
    arguments.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    arguments.add_argument("--structures", nargs="+", default=RECOVERED, choices=RECOVERED)
    arguments.add_argument("--glmmtmb", type=int, default=0, metavar="N")
    arguments.add_argument("--all", action="store_true", help="a row for each parameter")
    chosen = arguments.parse_args()
    print(f"mlmgen {__version__}, {chosen.genes:,} data sets, intervals of {LEVEL:.0%}")
    if not chosen.all:
        print("largest bias of a component (z); of a coefficient (z); lowest and highest coverage, %")
    for donors in chosen.donors:
        heads = LONG if chosen.all else ("model", *chosen.families)
        print(f"\n{donors} donors\n\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
        remarks = []
        for structure in chosen.structures:
            model, cells = f"`{STRUCTURES[structure][2:]}`".replace("|", "\\|"), []
            for family in chosen.families:
                found = recover(structure, family, donors, chosen.genes)
                if chosen.all:
                    _print_parameters(model, family, found)
                cells.append(summary(found))
                if chosen.glmmtmb:
                    remarks.append(glmmtmb(structure, family, found, chosen.glmmtmb))
            if not chosen.all:
                print(f"| {model} | {' | '.join(cells)} |", flush=True)
        print("\n".join(["", *remarks]))


def recover(structure: str, family: str, donors: int, genes: int, seed: int = 1, method: str = "reml") -> Recovery:
    """Simulate and fit ``genes`` data sets of one design."""
    rng = np.random.default_rng([seed, donors, list(STRUCTURES).index(structure), FAMILIES.index(family)])
    laid = experiment(structure, donors, CELLS, rng, BATCHES)
    truth, values = truth_of(laid.design, family, genes)
    counts = draw(laid.design, truth, family, rng)
    fits = fitting.fit_shard(counts, laid.design, np.ones(genes, bool), family, method=method, grid=False)
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


def summary(found: Recovery) -> str:
    """Write the largest bias of a component (%) and of a coefficient, each with its z, and the range of coverage."""
    b, first = bias(found.estimates, found.truth), len(found.truth) - found.covered.shape[1]
    component = int(np.abs(b.relative[:first]).argmax())
    coefficient = first + int(np.abs(b.mean - found.truth)[first:].argmax())
    sizes = f"{b.relative[component]:+.1%} ({b.z[component]:+.1f})"
    sizes += f"; {b.mean[coefficient] - found.truth[coefficient]:+.3f} ({b.z[coefficient]:+.1f})"
    coverage = 100 * found.covered.mean(axis=0)
    return f"{sizes}; {coverage.min():.1f}-{coverage.max():.1f}"


LONG = ("model", "family", "parameter", "true", "mean", "Monte-Carlo s.e.", "z", "bias", "coverage, %", "median width")


def _print_parameters(model: str, family: str, found: Recovery) -> None:
    """Print a row for each parameter, and say how the fits ended."""
    status = np.bincount(found.fits.status, minlength=len(Status))
    ended = ", ".join(f"{number} {label(s)}" for s, number in enumerate(status) if number)
    b, first = bias(found.estimates, found.truth), len(found.truth) - found.covered.shape[1]
    print(f"| {model} | {family} | {ended} {'|' * (len(LONG) - 2)}")
    for v, name in enumerate(found.names):
        numbers = f"{found.truth[v]:g} | {b.mean[v]:.4f} | {b.error[v]:.4f} | {b.z[v]:+.2f} | {b.relative[v]:+.1%}"
        interval = " | "
        if v >= first:
            interval = f"{found.covered[:, v - first].mean() * 100:.1f} | {found.width[v - first]:.2f}"
        print(f"| | | {name} | {numbers} | {interval} |", flush=True)


def glmmtmb(structure: str, family: str, found: Recovery, number: int) -> str:
    """Say how far glmmTMB's mean estimates of some of the data sets are from ours."""
    genes = np.arange(min(number, len(found.estimates)))
    theirs = other_programs.fit("glmmTMB", found.experiment, found.counts, genes, structure, family, "reml")
    if isinstance(theirs, str):
        return f"glmmTMB skipped: {theirs}"
    p, last = found.covered.shape[1], family in ("nb", "gaussian")
    parts = [theirs.variance[:, : found.estimates.shape[1] - p - last], theirs.beta]
    if last:
        parts.insert(1, theirs.dispersion[:, None])
    relative = (np.column_stack(parts) - found.estimates[genes]).mean(axis=0) / found.truth
    listed = ", ".join(f"{name} {100 * value:+.2f}" for name, value in zip(found.names, relative, strict=True))
    worst = np.abs(theirs.loglik - found.fits.loglik[genes]).max()
    of = f"{STRUCTURES[structure]}, {family}, glmmTMB {theirs.version} less ours, means of {genes.size}, % of the truth"
    return f"{of}: {listed}; log-likelihoods within {worst:.0e}"


if __name__ == "__main__":
    main()
