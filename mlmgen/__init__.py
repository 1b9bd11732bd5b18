"""Multilevel differential expression for multi-donor single-cell data.

Importing the package loads nothing else: each command imports what it needs (see `mlmgen.cli`), and the Python API
is loaded when it is first asked for: `fit` and `compare` (see `mlmgen.notebook.api`) for models, `read` for results,
`pl` to draw them, and `adapters` to hand them to other packages.
"""

import importlib

__version__ = "0.1.0"
PARTS = ("adapters", "pl")  # packages of the Python API
# Where each of its other names is.
API = {"compare": "mlmgen.notebook.api", "fit": "mlmgen.notebook.api", "read": "mlmgen.findings"}


def __getattr__(name: str):
    """Load the Python API."""
    if name in API:
        return getattr(importlib.import_module(API[name]), name)
    if name in PARTS:
        return importlib.import_module(f"mlmgen.{name}")
    raise AttributeError(f"module 'mlmgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what `__getattr__` loads as well."""
    return sorted({*globals(), *API, *PARTS})
