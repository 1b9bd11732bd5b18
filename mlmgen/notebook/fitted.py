"""Fit a designed model, and moderate its variances across responses."""

import dataclasses
from collections.abc import Callable

import numpy as np

from mlmgen import fitting as engine
from mlmgen import moderate
from mlmgen.notebook.model import FittedModel, check_options, totals


def fitted(model: FittedModel, progress: Callable[[int], None] | None = None) -> FittedModel:
    """Fit the responses of a model and moderate their variances where there are enough of them.

    Parameters
    ----------
    model : FittedModel
        Estimates that it has are replaced.
    progress : callable, optional
        Called with the number of responses just done.
    """
    o, keep = model.options, _can_be_fitted(model)
    estimates = engine.fit_shard(
        model.counts, model.design, keep, o.family, "cells", o.threads, progress,
        method=o.method, integration=o.integration, nodes=o.nodes, likelihood=o.likelihood,
        grid=uses_grid(model),
    )  # fmt: skip
    moderated = moderate.moderate(estimates, np.log(np.maximum(totals(model.counts), 1.0)))
    moderated = moderated if moderated.weights.shape[1] else None
    return dataclasses.replace(model, estimates=estimates, moderated=moderated)


def uses_grid(model: FittedModel) -> bool:
    """Tell whether a model will be fitted on the variance grid, and so moderated."""
    o, many = model.options, int(_can_be_fitted(model).sum()) >= moderate.FEW_GENES
    return many and engine.can_have_grid(model.design, "cells", o.method)


def refitted(model: FittedModel, method: str, progress=None) -> FittedModel:
    """Return the model fitted by another method, ``reml`` or ``ml``."""
    if model.options.method == method:
        return model
    options = dataclasses.replace(model.options, method=method)
    check_options(options)
    return fitted(dataclasses.replace(model, options=options), progress)


def _can_be_fitted(model: FittedModel) -> np.ndarray:
    return np.array([not reason for reason in model.reasons], dtype=bool)
