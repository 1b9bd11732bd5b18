"""The exact marginal likelihood of one random intercept, by adaptive Gauss-Hermite quadrature."""

import numpy as np
from scipy import optimize, special

from tests.reference.designs import Cells
from tests.reference.laplace import nb_log_density


def marginal(cells: Cells, beta, sd: float, phi: float, nodes: int = 41) -> float:
    """Integrate the random intercept of each group numerically and sum the logs."""
    x, w = np.polynomial.hermite.hermgauss(nodes)
    (codes,) = cells.groups
    eta = cells.log_size + cells.X @ np.asarray(beta)
    total = 0.0
    for group in np.unique(codes):
        y, base = cells.y[codes == group], eta[codes == group]

        def log_joint(v, y=y, base=base):
            return nb_log_density(y, np.exp(base + sd * v), phi).sum() - v * v / 2 - np.log(2 * np.pi) / 2

        centre = optimize.minimize_scalar(lambda v: -log_joint(v), bracket=(-1, 1)).x
        mu = np.exp(base + sd * centre)
        width = 1 / np.sqrt(1 + sd**2 * (mu * (1 + phi * y) / (1 + phi * mu) ** 2).sum())
        points = centre + np.sqrt(2) * width * x
        total += special.logsumexp([log_joint(v) for v in points] + x * x, b=np.sqrt(2) * width * w)
    return total
