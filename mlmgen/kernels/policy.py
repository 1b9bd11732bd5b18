"""The one numba policy: every kernel of the package is compiled through this file.

Compiled code is cached in a private folder on a local disk, one for each state of the kernels'
sources (numba itself does not notice a change in a function that another one calls), so that all
jobs of a run share it and a network home is not needed. ``NUMBA_CACHE_DIR`` moves it.

Reassociation is allowed only in kernels that ask for it, because a sum then vectorizes. ``nnan``
and ``ninf`` are never given: NaN is information here. Division by zero follows IEEE, or the check
for it would stop vectorization. Reference counting is off (``_nrt``): kernels never allocate, and
the counting of every array that a function is handed took longer than the arithmetic on it.
"""

import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from mlmgen import __version__


def cache_folder() -> str:
    """Return a folder that belongs to this user alone: numba unpickles what it finds there."""
    sources = sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    folder = Path(tempfile.gettempdir()) / f"mlmgen-{os.getuid()}-{__version__}-{sources.hexdigest()[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return str(folder) if private else tempfile.mkdtemp(prefix="mlmgen-")


os.environ.setdefault("NUMBA_CACHE_DIR", cache_folder())

import numba  # noqa: E402  (the cache folder must be set first)

COMMON = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


# Options that are not said are inherited from whichever kernel calls a function first: all are said.


def kernel(function):
    """Compile a function whose order of summation is fixed (results to the last bit as written)."""
    return numba.njit(**COMMON, fastmath={"contract"}, forceinline=False)(function)


def inner_kernel(function):
    """Compile a function that is part of every pass over a gene, and merge it into its callers.

    A call hands over each array by value, some 300 words for the scratch of a fit: that takes 0.1 to 0.2
    microseconds, longer than the arithmetic of most steps, and most of the time of a fit if every step were a call.
    """
    return numba.njit(**COMMON, fastmath={"contract"}, forceinline=True)(function)


def inlined_kernel(function):
    """Copy the source of a function into its callers: what is large and called once is then compiled once."""
    return numba.njit(**COMMON, fastmath={"contract"}, forceinline=False, inline="always")(function)


def summing_kernel(function):
    """Compile a function whose sums may be reordered to vectorize; still the same for every run."""
    return numba.njit(**COMMON, fastmath={"contract", "reassoc", "nsz"}, forceinline=True)(function)


def exact_kernel(function):
    """Compile a function in which even contraction would destroy the rounding it relies on."""
    return numba.njit(**COMMON, fastmath=False, forceinline=True)(function)
