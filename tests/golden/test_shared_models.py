"""mlmgen against glmmTMB and lme4 on real data and classic data sets: every model; skipped where the data are absent.

The REML fits of one or two nested random intercepts are compared in test_shared_reference.py; here only their
standard errors with the uncertainty of the variances.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from mlmgen import design as designs_of
from mlmgen import fitting, formula
from mlmgen.types import Counts
from tests.golden.multilevel import verdicts
from tests.golden.test_multilevel_golden import dense
from tests.golden.test_shared_reference import REFERENCE, REML_FITS, pytestmark
from tests.reference import designs

__all__ = ["pytestmark"]
# At most this many genes of a file may be counted as better optima than glmmTMB's; there is never more than one now.
MOST_BETTER = 2
# data set, model, family, method
FITS = [
    ("onek1k_mononc", "ri", "nbinom2", "ML"),
    ("onek1k_mononc", "ri", "poisson", "ML"),
    ("ipf", "ri", "nbinom2", "ML"),
    ("kang_mono", "nested", "nbinom2", "ML"),
    ("kang_mono", "nested", "binomial", "ML"),
    ("kang_mono", "nested", "gaussian", "REML"),
    ("kang_mono", "slope", "nbinom2", "ML"),
    ("kang_mono", "slope_diag", "nbinom2", "ML"),
    ("kang_mono", "cont", "nbinom2", "REML"),
    ("kang_lymph", "crossed", "nbinom2", "REML"),
    ("kang_lymph", "crossed", "nbinom2", "ML"),
    ("onek1k_cd4nc", "crossed", "nbinom2", "REML"),
    ("onek1k_cd4nc", "crossed", "nbinom2", "ML"),
]
FORMULAS = {
    "ri": "~ condition + (1 | donor)",
    "nested": "~ condition + (1 | donor) + (1 | sample)",
    "slope": "~ condition + (1 + condition | donor)",
    "slope_diag": "~ condition + ribo_z + (1 | donor) + (0 + ribo_z | donor)",
    "cont": "~ condition + ribo_z + (1 | sample)",
    "crossed": "~ condition + (1 | donor) + (1 | batch)",
}
# data, formula, family, method of classics/estimates.csv; the column of the replicate
CLASSICS = [
    ("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", "gaussian", "REML", "Subject"),
    ("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", "gaussian", "ML", "Subject"),
    ("sleepstudy", "Reaction ~ Days + (1 + Days || Subject)", "gaussian", "REML", "Subject"),
    ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "gaussian", "REML", "plate"),
    ("Pastes", "strength ~ 1 + (1 | batch/cask)", "gaussian", "REML", "batch"),
    ("grouseticks", "TICKS ~ YEAR + h + (1 | LOCATION/BROOD)", "poisson", "ML", "LOCATION"),
    ("grouseticks", "TICKS ~ YEAR + h + (1 | LOCATION/BROOD)", "nbinom2", "ML", "LOCATION"),
    ("cbpp_long", "y ~ period + (1 | herd)", "binomial", "ML", "herd"),
    ("cbpp_long", "y ~ period + (1 | herd)", "binomial", "AGQ9", "herd"),
]
# Numbers in the files, but factors.
FACTORS = ("YEAR", "period", "herd", "BROOD", "LOCATION", "Subject")


def formula_of(name: str, model: str, columns) -> str:
    """Return the formula of a model on a data set: age where it is known, cell types where they are crossed."""
    text = FORMULAS[model]
    if name == "kang_lymph":
        text = text.replace("batch", "cell_type")
    return text.replace("~ condition", "~ condition + age_z") if "age_z" in columns else text


def responses(Y: np.ndarray, genes, obs: pd.DataFrame, family: str) -> Counts:
    """Counts, or for gaussian the log of one plus the normalized count, every row listed."""
    return (
        dense(np.log1p(Y / obs.size_factor.to_numpy()[:, None]), genes)
        if family == "gaussian"
        else designs.counts(Y, genes)
    )


@cache
def fitted(name: str, model: str, family: str, method: str):
    """Fit the genes of a reference file by its model."""
    golden = expected(name, model, family, method)
    obs = pd.read_csv(REFERENCE / "inputs" / f"{name}_obs.csv.gz")
    Y = pd.read_csv(REFERENCE / "inputs" / f"{name}_counts.csv.gz")[list(golden)]
    size_factor = None if family == "gaussian" else obs.size_factor.to_numpy()
    parsed = formula.parse(formula_of(name, model, obs.columns))
    design, order = designs_of.build(obs, parsed, donor="donor", size_factor=size_factor)
    counts = responses(Y.to_numpy()[order], Y.columns, obs.iloc[order], verdicts.FAMILIES[family])
    return _fit(verdicts.Model(design, counts, verdicts.FAMILIES[family], method.lower()))


def _fit(model: verdicts.Model):
    keep = np.ones(len(model.counts.genes), bool)
    options = {"method": model.method, "integration": model.integration}
    return model, fitting.fit_shard(model.counts, model.design, keep, model.family, **options)


def expected(name: str, model: str, family: str, method: str) -> dict[str, verdicts.Theirs]:
    return verdicts.read(pd.read_csv(REFERENCE / f"{name}__{model}__{family}__{method}.csv.gz"), "gene")


@pytest.mark.parametrize(("name", "model", "family", "method"), FITS)
def test_agrees_with_glmmtmb(name, model, family, method, record_property):
    fitted_model, fits = fitted(name, model, family, method)
    golden = expected(name, model, family, method)
    verdict = verdicts.compare(fits, fitted_model, golden)
    record_property("better", verdict.better)
    print(f"{name} {model} {family} {method}: {len(verdict.compared)} genes; better than glmmTMB's: {verdict.better}")
    assert not verdict.wrong
    assert len(verdict.compared) + len(verdict.unfinished) == len(golden)
    assert len(verdict.better) <= MOST_BETTER


@pytest.mark.parametrize(
    ("name", "model", "family", "method"),
    FITS + [(name, model, "nbinom2", "REML") for name, model, _ in REML_FITS],
)
def test_standard_errors_carry_the_uncertainty_of_the_variances(name, model, family, method):
    fitted_model, fits = fitted(name, model, family, method)
    assert not verdicts.std_errors(fits, fitted_model, expected(name, model, family, method), full=True)


@cache
def classic(name: str, text: str, family: str, method: str, donor: str):
    """Fit a classic data set: one response."""
    data = pd.read_csv(REFERENCE / "classics" / f"{name}.csv", dtype=dict.fromkeys(FACTORS, str))
    if name == "grouseticks":
        data["h"] = (data.HEIGHT - data.HEIGHT.mean()) / 100
    response, right = text.split("~", 1)
    design, order = designs_of.build(data, formula.parse(f"~{right}"), donor=donor)
    integration = "agq" if method.startswith("AGQ") else "laplace"
    counts = dense(data[[response.strip()]].to_numpy()[order], [name])
    if family != "gaussian":
        counts = designs.counts(data[[response.strip()]].to_numpy()[order], [name])
    return _fit(
        verdicts.Model(design, counts, verdicts.FAMILIES[family], "reml" if method == "REML" else "ml", integration)
    )


def classic_expected(name, text, family, method):
    table = pd.read_csv(REFERENCE / "classics" / "estimates.csv")
    rows = table[(table.data == name) & (table.formula == text) & (table.family == family) & (table.method == method)]
    return rows.program.iloc[0], verdicts.read(rows, "data")


@pytest.mark.parametrize(("name", "text", "family", "method", "donor"), CLASSICS)
def test_classics(name, text, family, method, donor, record_property):
    model, fits = classic(name, text, family, method, donor)
    program, golden = classic_expected(name, text, family, method)
    verdict = verdicts.compare(fits, model, golden)
    record_property("better", verdict.better)
    print(f"{text} {family} {method}: better than {program}'s: {verdict.better}")
    assert verdict.compared == [name]
    assert not verdict.wrong


@pytest.mark.parametrize(("name", "text", "family", "method", "donor"), CLASSICS)
def test_standard_errors_of_classics(name, text, family, method, donor):
    model, fits = classic(name, text, family, method, donor)
    _, golden = classic_expected(name, text, family, method)
    # lme4's of generalized models come from its Hessian in all parameters.
    assert not verdicts.std_errors(fits, model, golden, full=family != "gaussian")
