"""Slow twins: the same quantities as mlmgen's, from their definitions, cell by cell and dense.

Nothing here is fast and nothing is shared with mlmgen but the dataclasses of ``mlmgen.types``.
"""
