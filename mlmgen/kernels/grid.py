r"""The variance grid of a gene: where its likelihood lives, and the likelihood there.

In x = log variance the likelihood of nu replicates that vary by sigma^2 around a noise of tau^2 is close to

    -(nu / 2) [u + exp(-u) - 1],   u = log(sigma^2 + tau^2) - log(estimate + tau^2)

The axis runs over the u where this has fallen by ``FALLS``, within fixed limits; it is narrow for 300
donors and spans the limits for 3.
"""

import math

import numpy as np

from mlmgen.kernels.elementary import exp
from mlmgen.kernels.families import histogram
from mlmgen.kernels.laplace import COARSE, reml
from mlmgen.kernels.optimize import phi_of
from mlmgen.kernels.policy import inner_kernel, kernel

# Variances from a coefficient of variation between donors of 1 % to one of 300 %.
LOWEST, HIGHEST = math.log(1e-4), math.log(9.0)
# Fall of the log-likelihood at the upper and at the lower end of a single axis. The upper tail carries the
# smallest p-values: a variance with a weight of e^-45 still counts at p = 1e-20. The lower end costs little
# length, and a fall of 30 by this approximation is one of 10 at least where replicates differ.
FALLS = (45.0, 30.0)
# Several axes have few points each, which many donors need where the likelihood is: p-values below 1e-8 are then rough.
FALLS_OF_MANY = (14.0, 24.0)
# Below this part of the noise a variance no longer changes the likelihood.
NEGLIGIBLE = 0.01
# Shortest axis.
SHORTEST = 0.5
# An axis is stretched by half where the likelihood has fallen by less than this at its end.
FALLEN_BELOW, FALLEN_ABOVE, STRETCHES = 10.0, 12.0, 3
# Replicates count for less where their numbers of cells differ.
DISCOUNT = 0.7


@kernel
def axis(estimate, noise, replicates, falls, out):
    """Write the first and last log variance of an axis; return the log variance below which nothing changes."""
    c = 2.0 / (DISCOUNT * max(replicates, 2.0))
    above, below = falls[0] * c, falls[1] * c
    up, down = above + 1.0, math.log(below + 1.0)
    for _ in range(8):
        up = above + 1.0 - math.exp(-up)
        down = math.log(below + 1.0 + down)
    total = math.log(estimate + noise)
    floor = max(LOWEST, math.log(NEGLIGIBLE * noise))
    out[1] = min(HIGHEST, max(total + up, LOWEST + SHORTEST))
    lowest = math.log(max(math.exp(total - down) - noise, 1e-300))
    out[0] = max(LOWEST, min(max(lowest, floor), out[1] - SHORTEST))
    return floor


@kernel
def axes(st, gene, wk, psi, shape, out, floors):
    """Write the axes of the components on the grid (shape > 1) and their floors, from the fit's factors in ``wk``."""
    p, P = st.X.shape
    D, S = wk.h.shape[0], wk.k.shape[0]
    falls = FALLS if shape[0] * shape[1] * shape[2] == max(shape[0], shape[1], shape[2]) else FALLS_OF_MANY
    if shape[0] > 1:
        floors[0] = axis(psi[0] * psi[0], D / max(wk.Omega.sum(), 1e-300), D - p, falls, out[0])
    if shape[1] > 1:
        floors[1] = axis(psi[1] * psi[1], S / max(wk.omega.sum(), 1e-300), S - D - p + 1.0, falls, out[1])
    if shape[2] > 1:
        groups = D - 1.0 if shape[0] > 1 else 0.0
        floors[2] = axis(phi_of(psi[2]), P / max(gene.numbers[3], 1e-300), P - p - groups, falls, out[2])


@inner_kernel
def value_on_axis(low_high, points, index):
    """Return the variance at a point of an axis."""
    return exp(low_high[0] + (low_high[1] - low_high[0]) * index / (points - 1.0))


@inner_kernel
def shrink_to(x, information, sd_old, sd_new):
    """Move spherical effects to another standard deviation: they are proportional to sigma / (1 + sigma^2 w)."""
    if sd_old == 0.0 or sd_old == sd_new:
        return
    for d in range(x.shape[0]):
        w = information[d]
        x[d] *= sd_new / sd_old * (1.0 + sd_old * sd_old * w) / (1.0 + sd_new * sd_new * w)


@kernel
def merge_weights(compressed, gw, phi):
    """Fill ``small`` and ``small_gene``: the gene at this phi on fewer nodes, both weights of a node in one."""
    cells, counts, small = compressed.structure.cells, gw.gene.counts, gw.small.cells
    small[:] = 0.0
    for r in range(small.shape[0]):
        out = small[r]
        for i in range(cells.shape[0]):
            take, all_cells, own = compressed.reduction[r, i], cells[i], counts[i]
            for p in range(out.shape[0]):
                out[p] += take[p] * (all_cells[p] + phi * own[p])
    gw.small_gene.numbers[2] = gw.gene.numbers[2] + histogram(gw.gene, phi)[0]


@inner_kernel
def point(k, psi, box, shape, out):
    """Write (sd_top, sd_sub, phi) of grid point k."""
    sub_points = shape[1] * shape[2]
    top, sub, phi = k // sub_points, (k % sub_points) // shape[2], k % shape[2]
    out[0] = math.sqrt(value_on_axis(box[0], shape[0], top)) if shape[0] > 1 else psi[0]
    out[1] = math.sqrt(value_on_axis(box[1], shape[1], sub)) if shape[1] > 1 else psi[1]
    out[2] = value_on_axis(box[2], shape[2], phi) if shape[2] > 1 else phi_of(psi[2])


@inner_kernel
def set_miss(x, guess, keep):
    """Replace the guess of the solution x by what it missed (by zero for ``keep`` = 0)."""
    for i in range(x.shape[0]):
        guess[i] = keep * (x[i] - guess[i])


@inner_kernel
def add_miss(x, guess):
    """Remember x as the next guess and add the last one's miss to it."""
    for i in range(x.shape[0]):
        miss = guess[i]
        guess[i] = x[i]
        x[i] += miss


@kernel
def profile_gene(compressed, gw, wk, psi, box, shape, out):
    """Write the REML log-likelihood at each grid point, visited so that each is a neighbour of the one before.

    A point starts from its neighbour's effects, shrunken to its variances, plus what this guess missed
    there; along the fastest axis that leaves about one Newton pass.
    """
    st, gene = compressed.structure, gw.gene
    if shape[2] == 1:
        merge_weights(compressed, gw, phi_of(psi[2]))
        st, gene = gw.small, gw.small_gene
    fastest = shape[2] if shape[2] > 1 else shape[1] if shape[1] > 1 else shape[0]
    at, old = gw.at, gw.scratch
    tolerance = COARSE * (wk.beta.shape[0] + wk.v.shape[0] + wk.u.shape[0])
    old[0], old[1] = psi[0], psi[1]
    for visit in range(out.shape[0]):
        row, column = visit // fastest, visit % fastest
        k = visit if row % 2 == 0 else row * fastest + fastest - 1 - column
        point(k, psi, box, shape, at)
        keep = 1.0 if column > 1 else 0.0
        set_miss(wk.beta, gw.guess_beta, keep)
        set_miss(wk.v, gw.guess_v, keep)
        set_miss(wk.u, gw.guess_u, keep)
        shrink_to(wk.v, wk.Omega, old[0], at[0])
        shrink_to(wk.u, wk.omega, old[1], at[1])
        add_miss(wk.beta, gw.guess_beta)
        add_miss(wk.v, gw.guess_v)
        add_miss(wk.u, gw.guess_u)
        value = reml(st, gene, wk, at[0], at[1], at[2], tolerance)
        if not value > -1e300:
            wk.v[:] = 0.0
            wk.u[:] = 0.0
            value = reml(st, gene, wk, at[0], at[1], at[2], tolerance)
        out[k] = value
        old[0], old[1] = at[0], at[1]


@kernel
def stretch(box, shape, floors, profile):
    """Lengthen the axes at whose ends the likelihood has not fallen enough; return whether any was."""
    highest = -np.inf
    for k in range(profile.shape[0]):
        highest = max(highest, profile[k])
    stretched = False
    for i in range(3):
        if shape[i] == 1:
            continue
        first, last = end_maxima(profile, shape, i)
        length = 0.5 * (box[i, 1] - box[i, 0])
        if first > highest - FALLEN_BELOW and box[i, 0] > max(LOWEST, floors[i]):
            box[i, 0] = max(LOWEST, floors[i], box[i, 0] - length)
            stretched = True
        if last > highest - FALLEN_ABOVE and box[i, 1] < HIGHEST:
            box[i, 1] = min(HIGHEST, box[i, 1] + length)
            stretched = True
    return stretched


@kernel
def end_maxima(profile, shape, i):
    """Return the highest log-likelihood at the first and at the last point of axis i."""
    first, last = -np.inf, -np.inf
    step = 1
    for j in range(i + 1, 3):
        step *= shape[j]
    for k in range(profile.shape[0]):
        index = (k // step) % shape[i]
        if index == 0:
            first = max(first, profile[k])
        if index == shape[i] - 1:
            last = max(last, profile[k])
    return first, last
