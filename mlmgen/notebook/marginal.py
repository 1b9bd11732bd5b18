r"""Population-averaged effects beside the conditional ones.

A coefficient says what changes for one donor. Averaged over the donors' effects, u ~ N(0, Sigma), the mean at a
point x with the random-effect row z is m = E g^-1(x'beta + z'u), and the marginal effect is the contrast of g(m):

    log link     g(m) = x'beta + z'Sigma z / 2: with random intercepts alone the same as the conditional effect
    logit link   by Gauss-Hermite quadrature: nearer to zero (Zeger, Liang and Albert 1988, Biometrics 44:1049)
    identity     the same as the conditional effect

Points are cell means such as ``condition[stim]``: that level, other factors at their reference, numbers at 0.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from mlmgen import contrasts as algebra
from mlmgen.design_rows import INTERCEPT, covariance_matrices, design_rows
from mlmgen.errors import UserError
from mlmgen.notebook.model import FittedModel
from mlmgen.types import Contrast, Design

# Exact to eight digits for standard deviations of the linear predictor up to 3.
QUADRATURE_NODES = 81
# What may be left of a random-effect column that is a combination of the fixed-effect columns, beside its length.
SAME_COLUMN = 1e-7
WHERE = "argument contrasts"


def marginal_effects(model: FittedModel, contrasts: Mapping[str, str] | str | None = None) -> pd.DataFrame:
    """Compare the effect for one donor with the effect on the mean of the population.

    Parameters
    ----------
    model : FittedModel
    contrasts : mapping of name to expression, or one expression, optional
        As for tests; every coefficient but the intercept if not given. A coefficient compares the point where it
        is 1 with the reference point.

    Returns
    -------
    DataFrame
        One row per fitted response x contrast: ``gene`` or ``response``, ``contrast``, ``conditional`` and ``marginal``
        on the scale of the linear predictor.

    Raises
    ------
    UserError
        Where a random effect has no counterpart in the fixed effects, so that its value at a point is unknown.
    """
    design, estimates = model.design, model.estimates
    maps, matrices = random_from_fixed(design), covariance_matrices(design, estimates, estimates.variance)
    fitted = np.flatnonzero(np.isfinite(estimates.loglik))
    resolved = algebra.resolve(contrasts, design)
    values = np.zeros((len(fitted), len(resolved), 2))
    for c, contrast in enumerate(resolved):
        for weight, x in points(contrast, design):
            eta = estimates.beta[fitted] @ x
            variance = sum(
                np.einsum("i,gij,j->g", A @ x, S[fitted], A @ x) for A, S in zip(maps, matrices, strict=True)
            )
            values[:, c, 0] += weight * eta
            values[:, c, 1] += weight * marginal_predictor(eta, variance + np.zeros(len(eta)), model.options.family)
    genes = np.asarray(estimates.genes, dtype=object)[fitted]
    return pd.DataFrame(
        {
            model.responses.kind: np.repeat(genes, len(resolved)),
            "contrast": np.tile([contrast.name for contrast in resolved], len(genes)),
            "conditional": values[:, :, 0].ravel(),
            "marginal": values[:, :, 1].ravel(),
        }
    )


def marginal_predictor(eta: np.ndarray, variance: np.ndarray, family: str) -> np.ndarray:
    """Return g(E g^-1(eta + N(0, variance))), the linear predictor of the population's mean, elementwise."""
    if family == "gaussian":
        return eta
    if family == "bernoulli":
        t, w = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
        mean = expit(eta[..., None] + np.sqrt(variance)[..., None] * t) @ (w / w.sum())
        return logit(mean)
    return eta + 0.5 * variance


def points(contrast: Contrast, design: Design) -> list[tuple[float, np.ndarray]]:
    """Write a contrast as a weighted sum of points, each a row of the fixed effects, (p,)."""
    if len(contrast.weights) > 1:
        do = "Ask for the effects one by one."
        raise UserError(f"{contrast.name!r} tests several effects together and has no one value", WHERE, do)
    reference, found = reference_row(design), []
    for weight, atom in algebra.atoms(contrast.expression, design, WHERE):
        if atom in design.means:
            found.append((weight, design.means[atom]))
        elif atom == INTERCEPT:
            found.append((weight, reference))
        else:
            step = np.eye(len(design.coefficients))[design.coefficients.index(atom)]
            found += [(weight, reference + step), (-weight, reference)]
    return found


def reference_row(design: Design) -> np.ndarray:
    """Return the row of the fixed effects where all factors are at their reference and numbers at 0, (p,)."""
    if design.means:
        return next(iter(design.means.values()))
    return np.array([float(name == INTERCEPT) for name in design.coefficients])


def random_from_fixed(design: Design) -> tuple[np.ndarray, ...]:
    """Return for each random term the matrix (q, p) that takes a row x of the fixed effects to its z.

    Raises
    ------
    UserError
        Where z is not a linear function of x.
    """
    rows, found = design_rows(design), []
    for term, Z in zip(design.terms, rows.Z, strict=True):
        A = np.linalg.lstsq(rows.X, Z.T, rcond=None)[0].T
        left = np.linalg.norm(Z - A @ rows.X.T, axis=1)
        missing = np.flatnonzero(left > SAME_COLUMN * np.linalg.norm(Z, axis=1))
        if missing.size:
            what = f"the random effect {term.effects[missing[0]]} of {term.name} is not among the fixed effects"
            raise UserError(
                f"{what}: its value where a contrast is taken is unknown", "argument formula", "Add it to them."
            )
        found.append(A)
    return tuple(found)
