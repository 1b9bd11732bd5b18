"""When do fits of any mixed model by mlmgen and by another program agree?

Tables are long: one row per estimate, `component` fixed, cov:<group>, dispersion or loglik, R's names of terms.
"""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlmgen.status import Status
from mlmgen.types import Counts, Design, GeneFits
from tests.golden.agreement import BETA, HIGHER, LOGLIK, VARIANCE, VARIANCE_FLOOR
from tests.reference import multilevel

STD_ERROR = 1e-3
# Where a variance tends to zero and the other program stopped above this, its standard errors on the scale of log
# variances are not yet those of the limit: for 1e-6 off by 1e-3 (pig ENPP1), for 1e-9 by 2e-6.
SHORT_OF_ZERO = 1e-7
# The family of mlmgen by that of R.
FAMILIES = {"nbinom2": "nb", "poisson": "poisson", "binomial": "bernoulli", "gaussian": "gaussian"}
REPEATED = re.compile(r"\.\d+$")


class Theirs(NamedTuple):
    """Another program's fit of one response: all keyed by `key` of names; covariances by (groups, two effects)."""

    beta: dict[frozenset, float]
    std_error: dict[frozenset, float]
    covariance: dict[tuple[frozenset, frozenset], float]
    dispersion: float
    loglik: float
    converged: bool


class Model(NamedTuple):
    """What was fitted: the design and responses, the family of mlmgen, reml or ml, laplace or agq."""

    design: Design
    counts: Counts
    family: str
    method: str
    integration: str = "laplace"


class Verdict(NamedTuple):
    """The responses compared; those met by a higher log-likelihood; what is wrong; the others' unfinished fits."""

    compared: list[str]
    better: dict[str, str]
    wrong: dict[str, str]
    unfinished: list[str]


def key(name: str) -> frozenset:
    """Make a coefficient's name comparable: ``condition[T.stim]:pct`` is R's ``pct:conditionstim``."""
    return frozenset(re.sub(r"\[T\.|[\[\]\s]", "", name).split(":"))


def groups(name: str) -> frozenset:
    """Make a grouping factor comparable: ``donor:sample`` is R's ``sample:donor``, ``donor.1`` its ``donor``."""
    return frozenset(re.findall(r"\w+", REPEATED.sub("", name)))


def read(table: pd.DataFrame, response: str) -> dict[str, Theirs]:
    """Index a long table by response, the column of that name."""
    return {name: _theirs(rows) for name, rows in table.groupby(response, sort=False)}


def _theirs(rows: pd.DataFrame) -> Theirs:
    fixed = rows[rows.component == "fixed"]
    covariance = rows[rows.component.str.startswith("cov:")]
    pairs = [
        (groups(c.removeprefix("cov:")), frozenset(map(key, t.split(":"))))
        for c, t in zip(covariance.component, covariance.term, strict=True)
    ]
    by_component = rows.set_index("component").estimate
    return Theirs(
        dict(zip(map(key, fixed.term), fixed.estimate, strict=True)),
        dict(zip(map(key, fixed.term), fixed.std_error, strict=True)),
        dict(zip(pairs, covariance.estimate, strict=True)),
        float(by_component.get("dispersion", 0.0)),
        float(by_component["loglik"]),
        bool(rows.converged.iloc[0]) if "converged" in rows else True,
    )


def named_variances(design: Design, theirs: Theirs) -> dict[str, float]:
    """Return the other program's variances by the names of mlmgen's components."""
    named = {"dispersion": theirs.dispersion, "residual": theirs.dispersion}
    for term in design.terms:
        names = multilevel.component_names(term.name, term.effects)
        for a, row in zip(term.effects, names, strict=True):
            for b, name in zip(term.effects, row, strict=True):
                named[name] = theirs.covariance[groups(term.name), frozenset((key(a), key(b)))]
    return named


def variances(design: Design, components, theirs: Theirs) -> np.ndarray:
    """Return the other program's variances in the order of mlmgen's components."""
    named = named_variances(design, theirs)
    return np.array([named[name] for name in components])


def coefficients(design: Design, values: dict[frozenset, float]) -> np.ndarray:
    """Return the other program's values in the order of mlmgen's coefficients."""
    return np.array([values[key(name)] for name in design.coefficients])


def twin_loglik(model: Model, gene: int, named: dict[str, float], beta) -> float:
    """Return the twin's log-likelihood at given estimates: independent of the arithmetic of both programs.

    ``named``: variances by component.
    """
    rows = multilevel.expand(model.design, model.counts, gene, model.family)
    factors, phi = multilevel.parameters(model.design, list(named), list(named.values()))
    if model.method == "reml":
        return multilevel.laplace_reml(rows, factors, phi)
    if model.integration == "agq":
        return multilevel.agq_ml(rows, beta, factors, phi)
    return multilevel.laplace_ml(rows, beta, factors, phi)


def our_twin(model: Model, gene: int, fits: GeneFits) -> float:
    """Return the twin's log-likelihood at mlmgen's estimates."""
    return twin_loglik(model, gene, dict(zip(fits.components, fits.variance[gene], strict=True)), fits.beta[gene])


def their_twin(model: Model, gene: int, theirs: Theirs) -> float:
    """Return the twin's log-likelihood at the other program's estimates."""
    named = named_variances(model.design, theirs)
    return twin_loglik(model, gene, named, coefficients(model.design, theirs.beta))


def compare(fits: GeneFits, model: Model, golden: dict[str, Theirs]) -> Verdict:
    """Compare every response that the other program fitted.

    Where it converged: estimates and log-likelihood within the tolerances, or a higher log-likelihood by the twin.
    Where it did not: a log-likelihood that is not lower.
    """
    verdict = Verdict([], {}, {}, [])
    for g, name in enumerate(fits.genes):
        if name not in golden or fits.status[g] == Status.SEPARATED:
            continue
        theirs = golden[name]
        if not theirs.converged:
            verdict.unfinished.append(name)
            # glmmTMB hides the log-likelihood of a fit whose Hessian is not positive definite.
            reached = theirs.loglik if np.isfinite(theirs.loglik) else their_twin(model, g, theirs)
            if not fits.loglik[g] >= reached - LOGLIK:
                verdict.wrong[name] = _account(fits, model, g, theirs)
            continue
        verdict.compared.append(name)
        off = _differences(fits, model.design, g, theirs)
        if all(ratio <= 1 for ratio in off.values()):
            continue
        own = our_twin(model, g, fits)
        gain = own - theirs.loglik
        text = ", ".join(f"{part} {ratio:.2g}" for part, ratio in off.items()) + " tolerances off"
        if gain > HIGHER and abs(fits.loglik[g] - own) < LOGLIK:
            verdict.better[name] = f"log-likelihood higher by {gain:.1e} ({text})"
        else:
            verdict.wrong[name] = f"{text}; {_account(fits, model, g, theirs)}"
    return verdict


def _differences(fits, design, g, theirs) -> dict[str, float]:
    value = variances(design, fits.components, theirs)
    allowed = VARIANCE * np.maximum(np.abs(value), VARIANCE_FLOOR)
    off = {
        "beta": np.abs(fits.beta[g] - coefficients(design, theirs.beta)).max() / BETA,
        "variance": (np.abs(fits.variance[g] - value) / allowed).max(initial=0),
        "loglik": abs(fits.loglik[g] - theirs.loglik) / LOGLIK,
    }
    return {part: ratio if np.isfinite(ratio) else np.inf for part, ratio in off.items()}


def _account(fits, model, g, theirs) -> str:
    """Say what both programs report and what the twin finds at both places."""
    value = variances(model.design, fits.components, theirs)
    beta = coefficients(model.design, theirs.beta)
    with np.errstate(all="ignore"):
        own = our_twin(model, g, fits)
        other = their_twin(model, g, theirs)
    status = Status(fits.status[g]).name.lower()
    return (
        f"log-likelihood theirs {theirs.loglik:.7f} (twin there {other:.7f}), ours {fits.loglik[g]:.7f} "
        f"(twin there {own:.7f}), {status}; beta theirs {beta}, ours {fits.beta[g]}; "
        f"{fits.components} theirs {value}, ours {fits.variance[g]}"
    )


def std_errors(fits: GeneFits, model: Model, golden: dict[str, Theirs], full: bool) -> dict[str, str]:
    """Return the responses whose standard errors are not those of the other program, where both stopped at one place.

    ``full``: with the uncertainty of the variances, as glmmTMB's are (and lme4's of generalized models, where
    its Hessian is used); otherwise given the variances, as lme4's of linear models.
    """
    wrong = {}
    own = fits.std_error_full if full else fits.std_error
    for g, name in enumerate(fits.genes):
        if name not in golden or not golden[name].converged or fits.status[g] == Status.SEPARATED:
            continue
        expected = coefficients(model.design, golden[name].std_error)
        same = max(_differences(fits, model.design, g, golden[name]).values()) <= 1
        zero = fits.variance[g] == 0
        short = (variances(model.design, fits.components, golden[name])[zero] > SHORT_OF_ZERO).any()
        if not same or (full and short) or not np.isfinite(expected).all():
            continue
        ratio = np.abs(own[g] / expected - 1).max()
        if not ratio <= STD_ERROR:
            wrong[name] = f"relative difference {ratio:.1e}: theirs {expected}, ours {own[g]}"
    return wrong
