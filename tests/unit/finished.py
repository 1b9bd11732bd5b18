"""A small finished run, made by the stages without Snakemake: what reads results is tested on it."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from mlmgen.findings import Findings, read
from tests.unit.stages_run import Run

GENES = 45
PAIRED = "~ arm + (1 | donor) + (1 | donor:arm)"


def paired_study(seed: int = 5, donors: int = 6, cells: int = 30) -> anndata.AnnData:
    """Donors with cells in both arms, two cell types; gene 0 is four times as high in stim, the last gene silent."""
    rng = np.random.default_rng(seed)
    donor, arm = np.repeat(np.arange(donors), 2 * cells), np.tile(np.repeat([0, 1], cells), donors)
    kind = rng.integers(0, 2, donor.size)
    level = rng.normal(0.0, 0.5, (donors, GENES))[donor] + rng.normal(0.0, 0.3, (2 * donors, GENES))[2 * donor + arm]
    log_mean = np.log(rng.uniform(0.8, 4.0, GENES)) + level
    log_mean[:, 0] += np.log(4.0) * arm
    counts = rng.poisson(np.exp(log_mean) * rng.gamma(3.0, 1 / 3.0, log_mean.shape))
    counts[:, -1] = 0
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical([f"D{i + 1}" for i in donor]),
            "arm": pd.Categorical(np.array(["ctrl", "stim"])[arm]),
            "cell_type": pd.Categorical(np.array(["B cells", "T/NK"])[kind]),
            "age": (30.0 + 5 * donor),
        },
        index=[f"cell{i}" for i in range(donor.size)],
    )
    var = pd.DataFrame({"symbol": [f"Sym{i}" for i in range(GENES)]}, index=[f"ENS{i}" for i in range(GENES)])
    return anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)


def finished_run(folder: Path, data: anndata.AnnData | None = None, **keys) -> Findings:
    """Run all stages in a folder, which becomes the run's results."""
    given = {"formula": PAIRED, "cell_type": "cell_type", "gene_names": "var/symbol", "shards": 1} | keys
    Run(folder, paired_study() if data is None else data, **given).tables()
    return read(folder)
