"""Multilevel differential expression for multi-donor single-cell data.

Importing the package loads nothing else: each command imports what it needs (see `mlmgen.cli`), and `fit` and
`compare`, the Python API, are loaded when they are first asked for (see `mlmgen.notebook.api`).
"""

import importlib

__version__ = "0.1.0"
API = ("compare", "fit")


def __getattr__(name: str):
    """Load the Python API."""
    if name in API:
        return getattr(importlib.import_module("mlmgen.notebook.api"), name)
    raise AttributeError(f"module 'mlmgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what `__getattr__` loads as well."""
    return sorted({*globals(), *API})
