"""Branch-free exponential and logarithm that vectorize, and special functions of one number.

The library's scalar calls cost 4 ns and stop vectorization; these cost about 1 ns and are good to
2 units in the last place on the ranges stated.
"""

import math

from numba import types
from numba.extending import intrinsic

from mlmgen.kernels.policy import exact_kernel, kernel

LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
INVERSE_LN2 = 1.44269504088896338700
# 1.5 * 2^52: adding it to a small number leaves the rounded integer in the low mantissa bits.
ROUNDER = 6755399441055744.0
# Bits of sqrt(1/2): splits u = 2^k z with z in [sqrt(1/2), sqrt(2)).
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
# 2^52 as a float and as bits: OR-ing a small integer into the mantissa converts it.
TWO_52 = 4503599627370496.0
TWO_52_BITS = 0x4330000000000000
LOG_SQRT_2PI = 0.91893853320467274178


@intrinsic
def _bits(typingctx, x):
    """Reinterpret a float64 as an int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@intrinsic
def _float(typingctx, i):
    """Reinterpret an int64 as a float64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


@exact_kernel
def exp(x):
    """Return e^x, x clipped to [-600, 600]: n ln 2 + r with a polynomial in r (|r| < 0.35)."""
    x = min(max(x, -600.0), 600.0)
    shifted = x * INVERSE_LN2 + ROUNDER
    n = shifted - ROUNDER
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    q = 1.6059043836821613e-10
    q = q * r + 2.08767569878681e-09
    q = q * r + 2.505210838544172e-08
    q = q * r + 2.755731922398589e-07
    q = q * r + 2.7557319223985893e-06
    q = q * r + 2.48015873015873e-05
    q = q * r + 1.984126984126984e-04
    q = q * r + 1.388888888888889e-03
    q = q * r + 8.333333333333333e-03
    q = q * r + 4.1666666666666664e-02
    q = q * r + 1.6666666666666666e-01
    q = q * r + 0.5
    q = q * r + 1.0
    q = q * r + 1.0
    return q * _float((_bits(shifted) + 1023) << 52)


@exact_kernel
def log1p_with_reciprocal(a, r):
    """Return log(1 + a) for a >= 0, given r = 1 / (1 + a).

    log(u) + (a - (u - 1)) r with u = fl(1 + a): the second term restores what rounding u lost, so
    the result has full relative accuracy for small a. log(u) after Sun's fdlibm.
    """
    u = 1.0 + a
    bits = _bits(u)
    k = (bits - SQRT_HALF_BITS) >> 52
    f = _float(bits - (k << 52)) - 1.0
    exponent = _float(k | TWO_52_BITS) - TWO_52
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    t1 = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    t2 = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half_square = 0.5 * f * f
    correction = (a - (u - 1.0)) * r + exponent * LN2_LOW
    return exponent * LN2_HIGH - ((half_square - (s * (half_square + t2 + t1) + correction)) - f)


@kernel
def log_chi_square_tail(x, r):
    """Return log P(chi2_r > x) for a whole number r of degrees of freedom: a finite sum.

    With h = x / 2, even r: e^-h sum_(k < r/2) h^k / k!; odd r: 2 P(N(0,1) > sqrt x) plus
    e^-h sum_(k <= (r-1)/2) h^(k-1/2) / Gamma(k + 1/2).
    """
    h = 0.5 * max(x, 0.0)
    if h == 0.0:
        return 0.0
    odd = r % 2 == 1
    total = math.log(2.0) + log_normal_tail(math.sqrt(2.0 * h)) if odd else -h
    for k in range(1, r // 2 + (1 if odd else 0)):
        power = k - 0.5 if odd else float(k)
        term = power * math.log(h) - h - math.lgamma(power + 1.0)
        high = max(total, term)
        total = high + math.log(math.exp(total - high) + math.exp(term - high))
    return min(total, 0.0)


@kernel
def log_normal_tail(z):
    """Return log P(N(0,1) > z), accurate for any z up to 1e150 (asymptotic series above 25)."""
    if z < 25.0:
        return math.log(0.5 * math.erfc(z * math.sqrt(0.5)))
    v = 1.0 / (z * z)
    return -0.5 * z * z - math.log(z) - LOG_SQRT_2PI + math.log1p(-v * (1.0 - 3.0 * v * (1.0 - 5.0 * v)))
