"""The workflow with a general model: donors seen again, slopes, a covariate of cells, a joint test."""

import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import Study, configuration

GENES = 30
FORMULA = "~ condition + visit + pct + (1 + visit | donor)"
MODEL = {
    "formula": FORMULA,
    "sample": "sample",
    "shards": 1,
    "contrasts": {
        "stim_vs_ctrl": "condition[stim] - condition[ctrl]",
        "per_visit": "visit",
        "any": ["condition[stim] - condition[ctrl]", "visit"],
    },
}


@pytest.fixture(scope="module")
def longitudinal(data, tmp_path_factory) -> Study:
    """The cells of the small study at three visits of each donor, which change nothing; not yet run."""
    import anndata

    rng = np.random.default_rng(4)
    study = anndata.read_h5ad(data)
    study = study[study.obs["cell_type"] == "Monocytes", :GENES].copy()
    visit = rng.integers(0, 3, study.n_obs)
    study.obs["visit"] = visit.astype(float)
    study.obs["pct"] = rng.gamma(4.0, 1.0, study.n_obs)
    study.obs["sample"] = pd.Categorical([f"{d}-{v}" for d, v in zip(study.obs["donor"], visit, strict=True)])
    folder = tmp_path_factory.mktemp("longitudinal")
    study.write_h5ad(folder / "visits.h5ad")
    return Study(folder, configuration(folder / "visits.h5ad") | MODEL, ("tables",))


def test_quadrature_of_slopes_stops_before_any_fit(longitudinal):
    finished = longitudinal.snakemake(estimation="ml", integration="agq", name="agq")
    assert finished.returncode != 0
    *_, last = (line for line in finished.stdout.splitlines() if line.startswith("mlmgen: error: "))
    assert "integration agq needs one random intercept" in last
    assert FORMULA in last
    assert "Traceback" not in finished.stdout
    assert "rule fit:" not in finished.stdout


def test_slopes_with_a_covariate_of_cells(longitudinal):
    finished = longitudinal.snakemake()
    assert finished.returncode == 0, finished.stdout
    folder = longitudinal.folder / "results/small"
    effects, variances, fits = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("effects", "variances", "fits")
    )
    assert len(effects) == GENES * 2 * 3
    fitted = effects[~effects["status"].isin(["filtered", "not_finite"])].set_index("method")
    assert len(fitted) > GENES
    assert fitted["pvalue"].notna().all()
    assert fitted["df"].isna().all()
    joint = fitted["contrast"] == "any"
    assert fitted.loc[joint, "log2fc"].isna().all()
    assert fitted.loc[~joint, "log2fc"].notna().all()
    # The visits were drawn at random.
    assert (fitted.loc[fitted["contrast"] == "per_visit", "padj"] > 0.01).all()
    assert fitted.loc[fitted["contrast"] == "stim_vs_ctrl", "padj"].min() < 0.05
    of_cells = variances[variances["method"] == "glmm"]
    expected = {"donor: (Intercept)", "donor: visit", "donor: (Intercept), visit", "dispersion"}
    assert set(of_cells["component"]) == expected
    correlation = of_cells.loc[of_cells["component"] == "donor: (Intercept), visit", "correlation"].dropna()
    assert correlation.between(-1.0 - 1e-9, 1.0 + 1e-9).all()
    parameters = fits.groupby("method", observed=True)["n_parameters"].unique()
    assert parameters["glmm"].tolist() == [4 + 4]
    assert parameters["pseudobulk"].tolist() == [4 + 4]
