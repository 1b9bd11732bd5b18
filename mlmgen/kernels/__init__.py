"""Compiled kernels: arrays in, arrays and NamedTuples out; no file, no message, no exception."""

# The policy sets numba's cache folder, which must happen before anything else imports numba.
from mlmgen.kernels import policy as policy
