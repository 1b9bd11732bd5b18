"""The audit audited: on simulated data its type-I error is nominal, and real effects make it conservative."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlmgen import audit, audit_tables, contrasts, formula, simulate
from mlmgen import design as designs

GENES, DONORS, CELLS, SPLITS = 700, 6, 60, 8
FORMULAS = {
    False: "~ condition + (1 | donor)",
    True: "~ condition + (1 | donor) + (1 | donor:condition)",
}


def study(paired: bool, effect_share: float):
    """A simulated experiment as the stage would hand it over, and its contrast."""
    rng = np.random.default_rng(20261121)
    counts, drawn, _ = simulate.null_experiment(
        DONORS, CELLS, GENES, rng, paired=paired, effect_share=effect_share, log_mean=-0.5, log_mean_sd=1.0
    )
    arm = drawn.X[drawn.pattern, 1].astype(int)
    donor = np.array(drawn.donor.levels)[drawn.donor.codes[drawn.pattern]]
    size = np.exp(drawn.log_size)
    obs = pd.DataFrame({"donor": donor, "condition": np.array(["ctrl", "stim"])[arm], "size_factor": size})
    X = sparse.csc_matrix((counts.values.astype(np.int32), counts.rows, counts.start), shape=(len(obs), GENES))
    parsed = formula.parse(FORMULAS[paired])
    laid, order = designs.build(obs, parsed, "donor", size_factor=size)
    tested = contrasts.resolve({"stim": "condition[stim] - condition[ctrl]"}, laid)
    names = laid.coefficients
    return audit.Study("cells", counts.genes, X[order], obs.iloc[order], parsed, "donor", None, {}, names), tested


def audited(paired: bool, level: str, effect_share: float = 0.0) -> dict:
    model = audit.Model(level, "nb", "reml", "laplace", 1, "compressed", lambda counts, design: counts)
    made, tested = study(paired, effect_share)
    found = audit.audit(made, model, audit.plans(made, level, tested, SPLITS), 1)
    (row,) = audit_tables.audit([audit_tables.Audited("cells", level, found)]).to_dict("records")
    print(level, row)
    return row


@pytest.mark.slow
@pytest.mark.parametrize("level", ["cells", "samples"])
@pytest.mark.parametrize("paired", [False, True], ids=["6-v-6", "6-pairs"])
def test_the_audit_of_null_data_is_nominal(paired, level):
    row = audited(paired, level)
    assert row["n_tests"] == GENES * SPLITS
    assert 0.04 <= row["type1_05"] <= 0.06
    assert row["type1_001"] <= 0.004
    assert 0.85 <= row["lambda"] <= 1.15
    assert row["fdp"] <= 0.05 + 3 * row["fdp_se"]
    assert row["power"] > 0.2
    assert audit_tables.verdict(row) == "p-values hold"


@pytest.mark.slow
def test_real_effects_make_the_audit_conservative_and_do_not_pass_for_false_calls():
    null, rich = (audited(False, "samples", share) for share in (0.0, 0.5))
    assert rich["type1_05"] < null["type1_05"]
    assert rich["power"] < null["power"]
