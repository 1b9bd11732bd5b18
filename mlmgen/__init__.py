"""Multilevel differential expression for multi-donor single-cell data.

Importing the package loads nothing else: each command imports what it needs (see `mlmgen.cli`).
"""

__version__ = "0.1.0"
