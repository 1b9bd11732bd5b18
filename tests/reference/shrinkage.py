"""Adaptive shrinkage (Stephens 2017, Biostatistics 18:275) from its definition, one gene and one part at a time."""

import numpy as np
from scipy import stats


def mixture(estimate, error, sds, null_genes: float, rounds: int = 20000) -> np.ndarray:
    """Return the weights that maximize the likelihood times weight[0] ** null_genes, by EM."""
    weight = np.full(len(sds), 1.0 / len(sds))
    density = [stats.norm.pdf(b, 0.0, np.hypot(s, sds)) for b, s in zip(estimate, error, strict=True)]
    for _ in range(rounds):
        belongs = np.array([weight * row / np.sum(weight * row) for row in density])
        numbers = belongs.sum(axis=0)
        numbers[0] += null_genes
        before, weight = weight, numbers / numbers.sum()
        if np.abs(weight - before).max() < 1e-10:
            break
    return weight


def expected_effects(estimate, error, sds, weight) -> np.ndarray:
    """Return the posterior mean of each effect, from the numerator and denominator of Bayes' rule."""
    found = []
    for b, s in zip(estimate, error, strict=True):
        joint = weight * stats.norm.pdf(b, 0.0, np.hypot(s, sds))
        found.append(np.sum(joint * b * sds**2 / (sds**2 + s**2)) / np.sum(joint))
    return np.array(found)
