"""One sweep over a gene's nonzeros: node weights, pattern totals and the histogram of the counts."""

import math

import numpy as np

from mlmgen.kernels.policy import kernel, summing_kernel

# Where few counts exceed SHORT, their tails are summed one by one; else the histogram goes to LONG.
SHORT, LONG = 16, 1024
FEW = 48
# Moments that ``chebyshev_moments`` is written for.
NODES = 14
LOG_INTEGERS = np.log(np.maximum(np.arange(LONG + 2), 1.0))


@summing_kernel
def chebyshev_moments(x, y, m):
    """Add sum_c y_c T_j(x_c), j < 14, to ``m``: all 14 sums stay in registers."""
    m0 = m1 = m2 = m3 = m4 = m5 = m6 = m7 = m8 = m9 = m10 = m11 = m12 = m13 = 0.0
    for c in range(x.shape[0]):
        t = 2.0 * x[c]
        a = y[c]
        b = a * x[c]
        m0 += a
        m1 += b
        a = t * b - a
        m2 += a
        b = t * a - b
        m3 += b
        a = t * b - a
        m4 += a
        b = t * a - b
        m5 += b
        a = t * b - a
        m6 += a
        b = t * a - b
        m7 += b
        a = t * b - a
        m8 += a
        b = t * a - b
        m9 += b
        a = t * b - a
        m10 += a
        b = t * a - b
        m11 += b
        a = t * b - a
        m12 += a
        b = t * a - b
        m13 += b
    m[0] += m0
    m[1] += m1
    m[2] += m2
    m[3] += m3
    m[4] += m4
    m[5] += m5
    m[6] += m6
    m[7] += m7
    m[8] += m8
    m[9] += m9
    m[10] += m10
    m[11] += m11
    m[12] += m12
    m[13] += m13


@kernel
def gather(rows, values, cells, compressed, gene, moments, x):
    """Fill ``gene`` from the nonzeros of one gene.

    Parameters
    ----------
    rows, values : (m,) rows of the data and their counts
    moments : (14, P) scratch; x : (>= m,) scratch
    """
    gene.counts[:] = 0.0
    gene.total[:] = 0.0
    m = rows.shape[0]
    count_histogram(values, gene)
    for c in range(m):
        x[c] = cells.x[np.uint32(rows[c])]
    moments[:] = 0.0
    begin = 0
    while begin < m:
        p = cells.pattern[np.uint32(rows[begin])]
        end = begin + 1
        while end < m and cells.pattern[np.uint32(rows[end])] == p:
            end += 1
        if cells.slot[np.uint32(rows[begin])] < 0:
            chebyshev_moments(x[begin:end], values[begin:end], moments[:, p])
        else:
            for c in range(begin, end):
                slot = np.uint32(cells.slot[np.uint32(rows[c])])
                gene.counts[slot, p] += values[c]
                gene.total[p] += values[c]
                gene.numbers[2] += values[c] * compressed.log_size[slot, p]
        begin = end
    if cells.has_moments:
        _add_weights(compressed, moments, gene)
    if compressed.binary:
        gene.counts[:] = 0.0


@kernel
def _add_weights(compressed, moments, gene):
    """Turn moments into node weights, pattern totals and the linear part of the log-likelihood."""
    M = compressed.transform
    for i in range(M.shape[0]):
        row = gene.counts[i]
        for j in range(M.shape[1]):
            coefficient, moment = M[i, j], moments[j]
            for p in range(row.shape[0]):
                row[p] += coefficient * moment[p]
    linear = 0.0
    for p in range(gene.total.shape[0]):
        gene.total[p] += moments[0, p]
        linear += compressed.center[p] * moments[0, p] + compressed.half[p] * moments[1, p]
    gene.numbers[2] += linear


@summing_kernel
def _small_counts(values):
    """Return how many counts are 1, 2 and above ``SHORT``, the highest, and the total."""
    ones, twos, above = 0.0, 0.0, 0.0
    highest, total = 0.0, 0.0
    for c in range(values.shape[0]):
        v = values[c]
        ones += 1.0 if v == 1.0 else 0.0
        twos += 1.0 if v == 2.0 else 0.0
        above += 1.0 if v > SHORT else 0.0
        highest = max(highest, v)
        total += v
    return ones, twos, above, highest, total


@kernel
def count_histogram(values, gene):
    """Fill ``more``, ``large`` and ``numbers`` (its constant is - sum log y!) from a gene's counts."""
    more, large = gene.more, gene.large
    ones, twos, above, highest, total = _small_counts(values)
    J = int(min(float(LONG if above > FEW else SHORT), highest))
    more[: J + 3] = 0.0
    more[0], more[1] = ones, twos
    n_large = 0
    constant = 0.0
    for c in range(values.shape[0]):
        v = values[c]
        if v > J:
            large[n_large] = v
            n_large += 1
            constant -= math.lgamma(v + 1.0) - math.lgamma(J + 1.0)
        elif v > 2.0:
            more[np.uint32(v) - np.uint32(1)] += 1.0
    # more[j] becomes the number of counts above j; log y! is the sum of log(j + 1) over j < y.
    running = float(n_large)
    for j in range(J - 1, -1, -1):
        running += more[j]
        more[j] = running
        constant -= running * LOG_INTEGERS[j + 1]
    gene.numbers[0] = J
    gene.numbers[1] = n_large
    gene.numbers[2] = constant
    gene.numbers[3] = total
