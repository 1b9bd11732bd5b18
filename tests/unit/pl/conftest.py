"""A finished run, tables made by hand, and figures closed after every test."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from mlmgen.findings import Findings
from tests.unit.finished import finished_run

CONTRAST = "stim_vs_ctrl"


@pytest.fixture(scope="package")
def run(tmp_path_factory) -> Findings:
    """Six paired donors, cell types `B cells` and `T/NK`, one contrast, both methods."""
    folder = tmp_path_factory.mktemp("pl") / "study"
    return finished_run(folder, contrasts={CONTRAST: "arm[stim] - arm[ctrl]"}, stability=False)


@pytest.fixture(autouse=True)
def _no_screen():
    matplotlib.use("Agg")
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


@pytest.fixture
def effects() -> pd.DataFrame:
    """300 genes of one cell type, contrast and method: 12 called up, 8 down, the last 20 not fitted."""
    rng = np.random.default_rng(4)
    n = 300
    p = rng.uniform(0.02, 1.0, n)
    log2fc = rng.normal(0.0, 0.3, n)
    p[:20] = 10.0 ** -np.arange(25, 5, -1.0)
    log2fc[:20] = np.where(np.arange(20) < 12, 2.0, -2.0) + rng.normal(0.0, 0.2, 20)
    table = pd.DataFrame(
        {
            "gene": [f"g{i}" for i in range(n)],
            "gene_name": [f"Name{i}" for i in range(n)],
            "log2fc": log2fc,
            "statistic": np.sign(log2fc) * np.sqrt(-np.log10(p)),
            "pvalue": p,
            "padj": np.where(np.arange(n) < 20, p * n / 20, np.maximum(p, 0.2)),
            "mean_count": rng.uniform(0.01, 50.0, n),
        }
    )
    table.loc[table.index[-20:], ["log2fc", "statistic", "pvalue", "padj"]] = np.nan
    return table


def offsets(ax, label: str) -> np.ndarray:
    """The points of a collection of the axes by its label, (n, 2)."""
    (found,) = [one for one in ax.collections if one.get_label() == label]
    return np.ma.filled(found.get_offsets(), np.nan)


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def named(ax) -> set[str]:
    """The names beside points."""
    return {text.get_text() for text in ax.texts if text.get_fontstyle() == "italic"}
