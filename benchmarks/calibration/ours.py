"""mlmgen on one data set: cells (``glmm``) and sums of samples (``pseudobulk``), fit to test in this process."""

import time

import numpy as np

from benchmarks.calibration.simulated import DataSet, of_samples, totals
from mlmgen import fitting, inference, moderate
from mlmgen.multilevel import DISPERSION

METHODS = {"glmm": "cells", "pseudobulk": "samples"}


def run(method: str, data: DataSet) -> dict[str, np.ndarray]:
    """Return columns of one value a gene: log p, estimate and interval, for cells the variances with their intervals.

    ``seconds`` are CPU seconds of all genes; the first data set of a new state of the kernels includes compilation.
    Variances are those of the terms ``v0``, ``v1`` and of the dispersion ``phi``: posterior mean and 95 % interval.
    """
    level, start = METHODS[method], time.process_time()
    counts, design = (data.counts, data.design) if level == "cells" else of_samples(data)
    fits = fitting.fit_shard(counts, design, np.ones(len(counts.genes), bool), "nb", level)
    moderated = moderate.moderate(fits, np.log(totals(counts)))
    effects = inference.test(counts, design, fits, moderated, (data.contrast,), "nb", level)
    found = {
        # A gene that cannot be fitted is not called, as with the other programs.
        "log_p": np.nan_to_num(effects.log_pvalue[:, 0], nan=0.0),
        "estimate": effects.estimate[:, 0],
        "low": effects.ci_low[:, 0],
        "high": effects.ci_high[:, 0],
        "status": fits.status.astype(float),
        "seconds": time.process_time() - start,
    }
    if level == "cells":
        for v, component in enumerate(fits.components):
            name = "phi" if component == DISPERSION else f"v{v}"
            found |= {name: moderated.variance[:, v], f"{name}_reml": fits.variance[:, v]}
            found |= {f"{name}_low": moderated.ci_low[:, v], f"{name}_high": moderated.ci_high[:, v]}
    return found
