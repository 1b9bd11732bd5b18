"""Inverses of small factored matrices, and the expected information of covariance factors that starts a search."""

from mlmgen.kernels.arrowhead import forward
from mlmgen.kernels.families import dot
from mlmgen.kernels.policy import kernel


@kernel
def invert(L, out):
    """Write the inverse of L L' for a lower triangular L."""
    n = L.shape[0]
    for a in range(n):
        column = out[a]
        for i in range(n):
            column[i] = 1.0 if i == a else 0.0
        forward(L, column)
    for a in range(n):
        for b in range(a + 1):
            value = dot(out[a], out[b])
            if b < a:
                out[b, a] = value
            else:
                out[a, a] = value
    for a in range(n):
        for b in range(a):
            out[a, b] = out[b, a]


@kernel
def block_information(tree, wk, search, terms, t, psi):
    """Add the expected information of the theta of tree term t, its factor still diagonal.

    With Omega = Z'V^-1 Z of a group, I[(i, j), (k, m)] = sd_j sd_m sum (Omega_mi Omega_jk + Omega_ki Omega_jm).
    """
    first, q, column = terms.first[t], terms.size[t], terms.column[t]
    inverse, half = search.block[0], search.block[1]
    for n in range(tree.nodes[tree.level[column]]):
        for i in range(q):
            for j in range(i + 1):
                half[i, j] = wk.L[column + j, column + i, n]
        _invert_block(half, inverse, q)
        for i in range(q):
            for j in range(q):
                sd = psi[first + i * (i + 1) // 2 + i] * psi[first + j * (j + 1) // 2 + j]
                inverse[i, j] = ((1.0 if i == j else 0.0) - inverse[i, j]) / sd
        for i in range(q):
            for j in range(i + 1):
                for k in range(q):
                    for m in range(k + 1):
                        sd = psi[first + j * (j + 1) // 2 + j] * psi[first + m * (m + 1) // 2 + m]
                        value = inverse[m, i] * inverse[j, k] + inverse[k, i] * inverse[j, m]
                        search.hessian[first + i * (i + 1) // 2 + j, first + k * (k + 1) // 2 + m] += sd * value


@kernel
def _invert_block(L, out, q):
    """Write the inverse of L L' for the leading q x q block of a lower triangular L."""
    for a in range(q):
        for i in range(q):
            value = 1.0 if i == a else 0.0
            for m in range(i):
                value -= L[i, m] * out[a, m]
            out[a, i] = value / L[i, i]
    for a in range(q):
        for b in range(a, q):
            value = 0.0
            for i in range(b, q):
                value += out[a, i] * out[b, i]
            L[a, b] = value
    for a in range(q):
        for b in range(a, q):
            out[a, b] = out[b, a] = L[a, b]
