"""Reports of models other than the usual one: slopes, joint tests, a covariate of cells, families, one method."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from mlmgen.report import build, packing
from mlmgen.simulate import demo
from tests.unit.stages_run import Run

pytestmark = pytest.mark.slow

BASE = {"formula": "~ condition + (1 | donor)", "reference": {"condition": "ctrl"}, "cell_type": "cell_type"}
SLOPES = BASE | {
    "formula": "~ condition + visit + pct + (1 + visit | donor)",
    "sample": "sample",
    "contrasts": {
        "stim_vs_ctrl": "condition[stim] - condition[ctrl]",
        "per_visit": "visit",
        "any": ["condition[stim] - condition[ctrl]", "visit"],
    },
}
DETECTED = BASE | {"family": "bernoulli", "cell_type": None, "methods": ["glmm"]}
GAUSSIAN = BASE | {"family": "gaussian", "fdr": "weighted"}
SUMS = BASE | {"estimation": "ml", "methods": ["pseudobulk"], "stability": False}


@pytest.fixture(scope="module")
def data():
    """Two cell types of the demo, 40 genes, three visits of each donor."""
    full, rng = demo(seed=2), np.random.default_rng(4)
    study = full[full.obs["cell_type"].isin(["B cells", "Monocytes"]), :40].copy()
    visit = rng.integers(0, 3, study.n_obs)
    study.obs["visit"], study.obs["pct"] = visit.astype(float), rng.gamma(4.0, 1.0, study.n_obs)
    study.obs["sample"] = pd.Categorical([f"{d}-{v}" for d, v in zip(study.obs["donor"], visit, strict=True)])
    return study


def block(page: str, name: str):
    text = re.search(rf'<script type="text/plain" id="block-{name}">([^<]*)</script>', page)[1]
    return json.loads(packing.unpacked(text))


def reported(folder, data, config) -> str:
    Run(folder, data, **config).tables()
    build.report(str(folder))
    return (folder / build.REPORT).read_text(encoding="utf-8")


def test_slopes_a_joint_test_and_a_covariate_of_cells(tmp_path, data):
    page = reported(tmp_path / "run", data, SLOPES)
    meta, detail = block(page, "meta"), block(page, "detail-0")
    assert [(one["joint"], one["unit"], one["levels"]) for one in meta["contrasts"]] == [
        (False, "", ["stim", "ctrl"]),
        (False, "per unit of visit", None),
        (True, "", None),
    ]
    assert {(one["term"], one["effect"]) for one in detail["groups"]} == {("donor", "(Intercept)"), ("donor", "visit")}
    assert {one["title"] for one in meta["variance"]["components"]} >= {"between donors, in the effect of visit"}
    varies = {one["name"]: one["varies"] for one in meta["design"]["covariates"]["columns"]}
    assert varies == {"condition": "between donors", "visit": "within donors", "pct": "within donors"}
    joint = [one for gene in detail["genes"].values() for one in gene["effects"] if one["c"] == 2]
    assert all(one["log2fc"] is None and one["pvalue"] is not None for one in joint if one["status"] != "not_finite")


@pytest.mark.parametrize(
    ("config", "said", "unsaid"),
    [
        (DETECTED, "In all cells together, ", "pseudobulk"),
        (GAUSSIAN, "weighted Benjamini-Hochberg", "permuted labels"),
        (SUMS, "Method: sums over the cells of each sample (pseudobulk).", "a mixed model of the cells"),
    ],
    ids=["bernoulli", "gaussian", "pseudobulk"],
)
def test_families_and_methods(tmp_path, data, config, said, unsaid):
    page = reported(tmp_path / "run", data, config)
    meta = block(page, "meta")
    text = " ".join([meta["verdict"]["lead"], *(one["text"] for one in meta["verdict"]["sentences"])])
    assert said in text
    assert unsaid not in text
    assert "between stim and ctrl" in text
    assert "(condition[T.stim])" not in text
    assert len(block(page, "detail-0")["genes"]) > 10
    effects = {"bernoulli": ["log2 odds ratio"], "gaussian": ["difference of log1p expression (log2)"]}
    expected = [*effects.get(config.get("family"), []), *(["log2 fold change"] if config is not DETECTED else [])]
    assert [one["effect"] for one in meta["methods"]] == expected
