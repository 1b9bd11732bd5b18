"""Starting values from a gene's pattern sums, and the test for separation."""

import math

from mlmgen.kernels.arrowhead import backward, cholesky, forward
from mlmgen.kernels.families import dot
from mlmgen.kernels.policy import kernel

# Pseudo-count of the log rates, spread over the patterns at the gene's overall rate.
HALF_COUNT = 0.5
# Variance of the log rates assumed for the weights of the first regression.
FIRST_VARIANCE = 0.1
SMALLEST_VARIANCE, LARGEST_VARIANCE = 0.03, 2.0
SMALLEST_PHI, LARGEST_PHI = 0.05, 8.0
# Relative pivot below which the positive patterns do not determine a coefficient.
RANK_TOLERANCE = 1e-9
# Most passes over the rows in search of a direction.
SWEEPS = 500


@kernel
def log_rates(st, gene, exposure, wk):
    """Write smoothed log rates into ``d_eta`` and regression weights into ``by_pattern``."""
    overall = gene.numbers[3] / max(exposure.sum(), 1e-300)
    for q in range(exposure.shape[0]):
        y = gene.total[q] + HALF_COUNT
        wk.d_eta[q] = math.log(y / (exposure[q] + HALF_COUNT / overall))
        wk.by_pattern[q] = 1.0 / (1.0 / (overall * exposure[q] + HALF_COUNT) + FIRST_VARIANCE)


@kernel
def starting_values(st, gene, exposure, exposure_2, wk, psi, samples):
    """Write beta and psi = (sigma_top, sigma_sub, phi).

    beta by weighted least squares of the log rates, the variance between patterns from their
    residuals (shared by the two levels where both exist), phi by the method of moments within
    patterns; where a pattern is one row (``samples``), phi is the variance between rows.
    """
    p, P = st.X.shape
    log_rates(st, gene, exposure, wk)
    wk.v[:] = 0.0
    wk.u[:] = 0.0
    for i in range(p):
        wk.beta[i] = 0.0
        for j in range(i + 1):
            wk.L[i, j] = 0.0
    for q in range(P):
        for i in range(p):
            wx = wk.by_pattern[q] * st.X[i, q]
            wk.beta[i] += wx * wk.d_eta[q]
            for j in range(i + 1):
                wk.L[i, j] += wx * st.X[j, q]
    for i in range(p):
        wk.L[i, i] = wk.L[i, i] * (1.0 + 1e-10) + st.ridge[i]
    if cholesky(wk.L) > -1e300:
        forward(wk.L, wk.beta)
        backward(wk.L, wk.beta)
    else:
        wk.beta[:] = 0.0
    between, weight, square, expected = 0.0, 0.0, 0.0, 0.0
    for q in range(P):
        residual = wk.d_eta[q]
        for i in range(p):
            residual -= wk.beta[i] * st.X[i, q]
        between += wk.by_pattern[q] * (residual * residual - 1.0 / (gene.total[q] + HALF_COUNT))
        weight += wk.by_pattern[q]
        rate = gene.total[q] / exposure[q]
        cross = 0.0
        for i in range(st.size.shape[0]):
            cross += gene.counts[i, q] * st.size[i, q]
        square += rate * rate * exposure_2[q] - 2.0 * rate * cross
        expected += rate * rate * exposure_2[q]
    variance = min(max(between / weight, SMALLEST_VARIANCE), LARGEST_VARIANCE)
    square += sum_of_squares(gene)
    phi = variance if samples else (square - gene.numbers[3]) / max(expected, 1e-300)
    psi[0] = psi[1] = math.sqrt(variance)
    psi[2] = min(max(phi, SMALLEST_PHI), LARGEST_PHI)


@kernel
def sum_of_squares(gene):
    """Return sum y^2 from the histogram: y^2 = sum over j < y of (2 j + 1)."""
    J, n_large = int(gene.numbers[0]), int(gene.numbers[1])
    total = 0.0
    for j in range(J):
        total += gene.more[j] * (2.0 * j + 1.0)
    for i in range(n_large):
        total += gene.large[i] * gene.large[i] - J * J
    return total


@kernel
def separated(X, total, most, scratch):
    """Return whether some direction of beta runs to infinity: nothing but zeros wherever it changes the mean.

    That is so when the patterns with counts do not determine all coefficients and the free direction has one
    sign on the patterns without; for responses that cannot exceed ``most`` (detection), patterns at the most count
    with the opposite sign. The free direction is found by elimination with the smallest pivot last, one of several
    by ``_runs_off``. scratch : (L, unit, used), as in ``Work``, and (P,).
    """
    p, P = X.shape
    A, unit, used, weight = scratch
    for i in range(p):
        unit[i] = 1.0 / math.sqrt(max(dot(X[i], X[i]), 1e-300))
        for j in range(p):
            A[i, j] = 0.0
    for q in range(P):
        if 0.5 < total[q] < most[q]:
            for i in range(p):
                for j in range(p):
                    A[i, j] += unit[i] * X[i, q] * unit[j] * X[j, q]
    rank, free = _eliminate(A, used, RANK_TOLERANCE)
    if rank == p:
        return False
    if rank < p - 1:
        return _runs_off(X, total, most, A, unit, used, weight)
    # Null vector: 1 at the free coefficient, minus the reduced column elsewhere.
    lowest, highest = 0.0, 0.0
    for q in range(P):
        if not 0.5 < total[q] < most[q]:
            value = unit[free] * X[free, q]
            for i in range(p):
                if i != free:
                    value -= A[i, free] * unit[i] * X[i, q]
            value = value if total[q] < 0.5 else -value
            lowest, highest = min(lowest, value), max(highest, value)
    return not (lowest < -1e-8 and highest > 1e-8)


@kernel
def _runs_off(X, total, most, A, r, x, weight):
    """Return whether some d has a_q'd >= 0 for all rows and > 0 for one.

    a_q is minus the row of a pattern without counts, the row of one at the most count; the rows of the others allow
    both signs. By Stiemke's theorem there is no such d if and only if sum_q w_q a_q = 0 for some w_q >= 1. Coordinate
    descent on |sum_q w_q a_q|^2 either brings it to zero or ends at such a d. Rows are whitened.
    """
    p, P = X.shape
    for i in range(p):
        for j in range(i + 1):
            A[i, j] = dot(X[i], X[j])
        A[i, i] *= 1.0 + RANK_TOLERANCE
        r[i] = 0.0
    cholesky(A)
    lowest, size = 1.0, 1.0
    for sweep in range(SWEEPS):
        lowest = 0.0
        for q in range(P):
            sign = -1.0 if total[q] < 0.5 else 1.0
            free = 0.5 < total[q] < most[q]
            for i in range(p):
                x[i] = sign * X[i, q]
            forward(A, x)
            if sweep == 0:
                weight[q] = 0.0
                step = 0.0 if free else 1.0
            else:
                slope, square = dot(x, r), max(dot(x, x), 1e-12)
                step = -slope / square
                if not free:
                    step = max(step, -weight[q])
                    weight[q] += step
                miss = abs(step) * square
                lowest = max(lowest, miss)
            for i in range(p):
                r[i] += step * x[i]
        size = math.sqrt(dot(r, r))
        if sweep > 0 and size < 1e-6:
            return False
        if sweep > 0 and lowest < 1e-6 * size:
            return True
    return lowest < 1e-3 * size


@kernel
def _eliminate(A, used, tolerance):
    """Reduce a positive semidefinite matrix by Gauss-Jordan with diagonal pivots; return (rank, a free index)."""
    p = A.shape[0]
    used[:] = 0.0
    for rank in range(p):
        best, pivot = -1, tolerance
        for i in range(p):
            if used[i] == 0.0 and A[i, i] > pivot:
                best, pivot = i, A[i, i]
        if best < 0:
            for i in range(p):
                if used[i] == 0.0:
                    return rank, i
        used[best] = 1.0
        for j in range(p):
            A[best, j] /= pivot
        for i in range(p):
            if i != best:
                factor = A[i, best]
                for j in range(p):
                    A[i, j] -= factor * A[best, j]
    return p, -1
