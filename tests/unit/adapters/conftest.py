"""Two finished runs that the adapters are tested on, each with the data it came from."""

from typing import NamedTuple

import anndata
import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlmgen.findings import Findings
from tests.unit.finished import finished_run, paired_study

matplotlib.use("agg")


class Study(NamedTuple):
    """A run and its input."""

    findings: Findings
    data: anndata.AnnData


@pytest.fixture(scope="package")
def paired(tmp_path_factory) -> Study:
    """Six donors in two arms, one contrast, both methods, cell types with a blank and a slash in their names."""
    data = paired_study()
    contrasts = {"stim_vs_ctrl": "arm[stim] - arm[ctrl]"}
    folder = tmp_path_factory.mktemp("paired") / "study"
    return Study(finished_run(folder, data, contrasts=contrasts, stability=False, size_factors="tmm"), data)


@pytest.fixture(scope="package")
def doses(tmp_path_factory) -> Study:
    """Nine donors of three doses: contrasts with a common arm, a slope, a joint test; one cell type lacks a dose."""
    rng = np.random.default_rng(8)
    donor = np.repeat(np.arange(9), 40)
    dose = donor % 3
    kind = np.array(["A", "B"])[(rng.random(donor.size) < 0.4).astype(int)]
    kind[dose == 2] = "A"
    counts = rng.poisson(np.exp(rng.normal(0.3, 0.4, (9, 40)))[donor])
    counts[:, 0] = rng.poisson(1.0 + 3.0 * dose)
    obs = pd.DataFrame(
        {
            "patient": [f"p{i}" for i in donor],
            "dose": np.array(["none", "low", "high"])[dose],
            "kind": kind,
            "age": (50.0 + 3 * (donor % 4)),
        },
        index=[f"c{i}" for i in range(donor.size)],
    )
    var = pd.DataFrame(index=[f"g{i}" for i in range(counts.shape[1])])
    data = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    keys = {
        "donor": "patient",
        "cell_type": "kind",
        "formula": "~ dose + age + (1 | patient)",
        "reference": {"dose": "none"},
        "contrasts": {
            "high_vs_none": "dose[high] - dose[none]",
            "high_vs_low": "dose[high] - dose[low]",
            "low_vs_none": "dose[low] - dose[none]",
            "per_year": "age",
            "any": ["dose[low] - dose[none]", "dose[high] - dose[none]"],
        },
        "gene_names": None,
        "stability": False,
        "methods": ["glmm"],
    }
    return Study(finished_run(tmp_path_factory.mktemp("doses") / "study", data, **keys), data)


@pytest.fixture(scope="package")
def one_type(tmp_path_factory) -> Study:
    """A run without cell types, with levels that are numbers and names that file formats mind."""
    data = paired_study()
    data.obs["arm"] = pd.Categorical(data.obs["arm"].map({"ctrl": "0 µM", "stim": "10 µM / day"}))
    data.obs["donor"] = data.obs["donor"].str.removeprefix("D").astype(int)
    folder, contrasts = tmp_path_factory.mktemp("one_type") / "study", {"après/avant [10 - 0]": "arm[T.10 µM / day]"}
    keys = {
        "cell_type": None,
        "gene_names": None,
        "contrasts": contrasts,
        "methods": ["pseudobulk"],
        "stability": False,
    }
    return Study(finished_run(folder, data, **keys), data)
