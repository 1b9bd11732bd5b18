"""The paragraph for a paper says what was configured, and cites nothing that is not in its list."""

import copy
import re

import pytest

from mlmgen.report.methods_text import REFERENCES, methods_text

CONFIG = {
    "prepare": {
        "cell_type": "cell_type",
        "donor": "donor",
        "formula": "~ condition + (1 | donor)",
        "size_factors": "library",
        "filters": {"min_cells_per_donor": 10, "min_donors_per_arm": 2},
    },
    "fit": {
        "family": "nb",
        "estimation": "reml",
        "integration": "laplace",
        "quadrature_nodes": 9,
        "likelihood": "compressed",
        "filters": {"min_cells_expressing": 10, "min_fraction_expressing": 0.01, "min_donors_expressing": 2},
    },
    "test": {"contrasts": [["stim", "condition[stim] - condition[ctrl]"], ["any", ["a", "b"]]]},
    "tables": {"fdr": "bh", "stability": False, "audit": False},
    "audit": {"audit_splits": 20},
}
VERSIONS = {"mlmgen": "0.1.0", "python": "3.11.7", "snakemake": "9.27.1"}
BOTH = ("glmm", "pseudobulk")


def written(methods=BOTH, moderated=True, sums=(), **changes) -> tuple[str, list[str]]:
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        stage, _, name = key.partition("__")
        config[stage][name] = value
    found = methods_text(config, methods, moderated, VERSIONS, "donor", sums)
    return " ".join(found["paragraphs"]), [one["key"] for one in found["references"]]


def cited(text: str) -> set[str]:
    parts = {part.strip() for group in re.findall(r"\(([^()]*\d{4}[^()]*)\)", text) for part in group.split(";")}
    return {part for part in parts if re.search(r", \d{4}$", part)}


EVERYTHING = {
    "tables__audit": True,
    "tables__stability": True,
    "tables__fdr": "weighted",
    "prepare__size_factors": "tmm",
}


@pytest.mark.parametrize("changes", [{}, EVERYTHING, {"fit__estimation": "ml", "fit__integration": "agq"}])
@pytest.mark.parametrize("moderated", [True, False])
def test_what_is_cited_is_listed_and_nothing_else(changes, moderated):
    text, keys = written(moderated=moderated, **changes)
    assert cited(text) == set(keys)
    assert keys == sorted(keys)


def test_every_reference_can_be_cited():
    used = set()
    for moderated in (True, False):
        used |= set(written(moderated=moderated, **EVERYTHING)[1])
    assert used == set(REFERENCES)


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        ({}, "restricted maximum likelihood (Patterson and Thompson, 1971) and Laplace", "permuted"),
        ({"fit__estimation": "ml"}, "fitted by maximum likelihood and Laplace", "Patterson"),
        ({"fit__integration": "agq"}, "adaptive Gauss-Hermite quadrature with 9 nodes", "Laplace"),
        ({"fit__family": "gaussian"}, "a linear mixed model of log(1 + count / size factor)", "Tierney"),
        ({"fit__family": "bernoulli"}, "a logistic mixed model", "linear mixed model with"),
        ({"prepare__size_factors": "obs/size"}, "Size factors were taken from obs/size.", "TMM"),
        ({"prepare__cell_type": None}, "tested in all cells with mlmgen", "each cell type (column"),
        ({"tables__audit": True}, "permuted up to 20 times", "without each donor"),
        ({"tables__stability": True}, "without each donor in turn", "permuted"),
        ({"test__contrasts": None}, "Every coefficient but the intercept was tested", "The contrasts were"),
    ],
)
def test_it_says_what_was_configured(changes, said, unsaid):
    text, _ = written(**changes)
    assert said in text
    assert unsaid not in text


def test_one_method_is_not_two():
    assert "pseudobulk" not in written(methods=("glmm",))[0]
    text, _ = written(methods=("pseudobulk",))
    assert "The counts were summed" in text
    assert "a negative binomial model with the fixed effects of the formula ~ condition + (1 | donor), whose" in text
    assert "of each gene were described" not in text


@pytest.mark.parametrize(
    ("sums", "said"),
    [
        ((), "with the same fixed effects, whose dispersion is the variance between samples, fitted"),
        (
            ("donor",),
            "with the same fixed effects and random intercepts for donor, whose dispersion is the variance between "
            "samples beyond these, fitted",
        ),
        (
            ("donor: (Intercept)", "donor: visit", "batch"),
            "random intercepts for donor and batch and random slopes of visit for donor, whose",
        ),
    ],
)
def test_random_terms_that_the_samples_keep_are_named(sums, said):
    assert said in written(sums=sums)[0]


def test_contrasts_and_versions_are_named():
    text, _ = written()
    assert "stim = condition[stim] - condition[ctrl] and any = a, b." in text
    assert "Software: mlmgen 0.1.0 and Python 3.11.7, run by Snakemake 9.27.1 (Mölder et al., 2021)." in text
