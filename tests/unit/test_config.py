"""The configuration: defaults, messages, and what each stage reads."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import config
from mlmgen.errors import UserError

MINIMAL = {"input": "data/kang.h5ad", "donor": "donor", "formula": "~ condition + (1 | donor)"}


def complaint(**keys) -> str:
    with pytest.raises(UserError) as error:
        config.load(MINIMAL | keys)
    assert "\n" not in str(error.value)
    return str(error.value)


def leaves(schema: dict, path: str = ""):
    for key, rule in schema["properties"].items():
        yield f"{path}{key}", rule
        if "properties" in rule:
            yield from leaves(rule, f"{path}{key}.")


def test_three_keys_are_enough():
    assert config.load(MINIMAL) == MINIMAL | {
        "name": "kang",
        "counts": "X",
        "cell_type": "cell_type",
        "cell_types": "all",
        "reference": {},
        "contrasts": None,
        "sample": None,
        "gene_names": None,
        "size_factors": "library",
        "methods": ["glmm", "pseudobulk"],
        "family": "nb",
        "estimation": "reml",
        "integration": "laplace",
        "memory": "auto",
        "quadrature_nodes": 9,
        "likelihood": "compressed",
        "filters": {
            "min_cells_per_donor": 10,
            "min_donors_per_arm": 2,
            "min_cells_expressing": 10,
            "min_fraction_expressing": 0.01,
            "min_donors_expressing": 2,
        },
        "shards": "auto",
        "fdr": "bh",
        "stability": True,
        "audit": False,
        "audit_splits": 20,
        "seed": 1,
    }


def test_loading_twice_changes_nothing_and_loading_keeps_its_argument():
    given_config = MINIMAL | {"filters": {"min_cells_per_donor": 5}, "reference": {"condition": "ctrl"}}
    before = copy.deepcopy(given_config)
    once = config.load(given_config)
    assert given_config == before
    assert config.load(once) == once
    once["filters"]["min_cells_per_donor"] = 99
    assert config.load(MINIMAL)["filters"]["min_cells_per_donor"] == 10


def test_partial_filters_keep_the_other_defaults():
    filters = config.load(MINIMAL | {"filters": {"min_donors_per_arm": 3}})["filters"]
    assert (filters["min_donors_per_arm"], filters["min_cells_per_donor"], len(filters)) == (3, 10, 5)


@pytest.mark.parametrize("empty", [None, {}])
def test_empty_filters_are_the_defaults(empty):
    assert config.load(MINIMAL | {"filters": empty})["filters"]["min_cells_expressing"] == 10


def test_levels_and_cell_types_become_text():
    loaded = config.load(MINIMAL | {"reference": {"batch": 1, "treated": False}, "cell_types": [0, "B", 2]})
    assert loaded["reference"] == {"batch": "1", "treated": "False"}
    assert loaded["cell_types"] == ["0", "B", "2"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/kang.h5ad", "kang"),
        ("/a/b c.h5ad", "b_c"),
        ("x/atlas.v1.h5ad", "atlas.v1"),
        ("x/atlas.zarr", "atlas"),
        ("x/atlas.zarr/", "atlas"),
        ("x/atlas.zarr.zip", "atlas"),
    ],
)
def test_the_name_is_that_of_the_input(path, name):
    assert config.load(MINIMAL | {"input": path})["name"].startswith(name)
    assert "zarr" not in config.load(MINIMAL | {"input": path})["name"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"donors": "donor"}, "unknown key \"donors\" (in the configuration). Did you mean 'donor'?"),
        ({"filters": {"min_cell_per_donor": 3}}, "Did you mean 'min_cells_per_donor'?"),
        ({"formula": ["~ condition"]}, 'formula is ["~ condition"], a list (in the configuration). It must be text.'),
        ({"formula": 3}, "formula is 3, a number"),
        ({"formula": None}, "the key formula is missing"),
        ({"formula": ""}, 'formula is "", empty'),
        ({"donor": True}, "donor is true, true or false (in the configuration). It must be text."),
        ({"input": {}}, "input is {}, empty"),
        ({"counts": "layer/counts"}, "It must be X, raw or layers/<name>."),
        ({"counts": None}, "counts is null, empty"),
        ({"gene_names": "feature_name"}, 'It must be var/<column> or null. For example "var/feature_name"'),
        ({"size_factors": "scran"}, "It must be library, tmm or obs/<column>."),
        ({"family": "NB"}, "It must be one of nb, poisson, bernoulli, gaussian."),
        ({"estimation": "mle"}, "It must be one of reml, ml."),
        ({"integration": "ghq"}, "It must be one of laplace, agq."),
        ({"likelihood": "full"}, "It must be one of compressed, exact."),
        ({"quadrature_nodes": 0}, "It must be a whole number of at least 1 and at most 50."),
        (
            {"integration": "agq"},
            "integration is agq, but estimation is reml (in the configuration). Set estimation to",
        ),
        ({"integration": "agq", "estimation": "ml", "family": "gaussian"}, "the family gaussian has nothing"),
        ({"methods": "glmm"}, 'methods is "glmm", text (in the configuration). It must be a list'),
        ({"methods": ["glm"]}, 'methods.0 is "glm", text (in the configuration). It must be one of glmm, pseudobulk.'),
        ({"methods": []}, "methods is [], empty"),
        ({"methods": ["glmm", "glmm"]}, "without repetitions"),
        ({"cell_types": "B cells"}, "It must be all or a list"),
        ({"cell_types": []}, "cell_types is [], empty"),
        ({"cell_types": ["B"], "cell_type": None}, "cell_type is null"),
        ({"shards": 0}, "It must be auto or a whole number of at least 1."),
        ({"shards": 2.5}, "shards is 2.5"),
        ({"seed": -1}, "It must be a whole number of at least 0."),
        ({"filters": {"min_fraction_expressing": 3}}, "It must be a number of at least 0 and at most 1."),
        ({"filters": {"min_cells_per_donor": "ten"}}, 'filters.min_cells_per_donor is "ten", text'),
        ({"filters": 3}, "filters is 3, a number"),
        ({"reference": "ctrl"}, 'reference is "ctrl", text (in the configuration). It must be a group of keys'),
        ({"reference": {"condition": ["a"]}}, 'reference.condition is ["a"], a list'),
        ({"contrasts": ["a - b"]}, 'contrasts is ["a - b"], a list'),
        (
            {"contrasts": {"x": 1}},
            "contrasts.x is 1, a number (in the configuration). It must be text or a list of text.",
        ),
        ({"contrasts": {"x": []}}, "contrasts.x is [], empty"),
        ({"contrasts": {"x": ["a", 2]}}, 'contrasts.x is ["a", 2], a list'),
        ({"name": "../up"}, 'name is "../up", text'),
    ],
)
def test_messages_name_the_key_the_value_and_what_is_allowed(keys, expected):
    assert expected in complaint(**keys)


@pytest.mark.parametrize("key", ["input", "donor", "formula"])
def test_missing_keys(key):
    with pytest.raises(UserError, match=f"the key {key} is missing"):
        config.load({k: v for k, v in MINIMAL.items() if k != key})


@pytest.mark.parametrize("content", [None, [], "text"])
def test_a_file_that_is_no_group_of_keys(content):
    with pytest.raises(UserError, match="the file is"):
        config.load(content)


def test_every_key_has_a_description_and_a_default():
    for path, rule in leaves(config.schema()):
        assert rule["description"].endswith("."), path
        assert rule["description"].count(". ") == 0, path
        assert "default" in rule or path in config.schema()["required"], path
        assert "type" in rule or "anyOf" in rule, path


def test_every_pattern_is_worded():
    patterns = {rule["pattern"] for _, rule in leaves(config.schema()) if "pattern" in rule}
    assert patterns == set(config.PATTERNS)


def test_the_schema_is_valid_and_accepts_what_load_returns():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(config.schema())
    Draft202012Validator(config.schema()).validate(config.load(MINIMAL))


def test_changing_the_schema_returned_changes_nothing():
    config.schema()["properties"].clear()
    assert "input" in config.schema()["properties"]


def test_stages_know_every_key_that_matters():
    """What no stage reads only decides which files there are."""
    read = {key.split(".")[0] for keys in config.STAGE_KEYS.values() for key in keys}
    assert set(config.schema()["properties"]) - read == {"methods", "cell_types", "shards", "memory"}
    filters = {key for keys in config.STAGE_KEYS.values() for key in keys if key.startswith("filters.")}
    assert {key.removeprefix("filters.") for key in filters} == set(
        config.schema()["properties"]["filters"]["properties"]
    )
    assert set(config.STAGE_KEYS) == set(config.METHOD_VERSIONS)


def test_a_stage_holds_only_what_it_reads():
    loaded = config.load(MINIMAL)
    assert json.loads(config.stage(loaded, "fit")) == {
        "method_version": config.METHOD_VERSIONS["fit"],
        "family": "nb",
        "estimation": "reml",
        "integration": "laplace",
        "quadrature_nodes": 9,
        "likelihood": "compressed",
        "filters": {"min_cells_expressing": 10, "min_fraction_expressing": 0.01, "min_donors_expressing": 2},
    }
    assert json.loads(config.stage(loaded, "moderate")) == {"method_version": config.METHOD_VERSIONS["moderate"]}
    assert json.loads(config.stage(loaded, "prepare"))["filters"] == {
        "min_cells_per_donor": 10,
        "min_donors_per_arm": 2,
    }


def test_contrasts_change_the_stages_that_test_them():
    plain = config.load(MINIMAL)
    chosen = config.load(MINIMAL | {"contrasts": {"z": "b - a", "a": "c"}})
    changed = [name for name in config.METHOD_VERSIONS if config.stage(plain, name) != config.stage(chosen, name)]
    assert changed == ["contrasts", "test", "audit", "stability"]
    assert json.loads(config.stage(chosen, "contrasts"))["contrasts"] == [["z", "b - a"], ["a", "c"]]


def test_joint_contrasts_keep_their_order():
    chosen = {"joint": ["d - c", "b - a"], "one": "b - a"}
    settings = json.loads(config.stage(config.load(MINIMAL | {"contrasts": chosen}), "contrasts"))
    assert settings["contrasts"] == [["joint", ["d - c", "b - a"]], ["one", "b - a"]]


@pytest.mark.parametrize(
    "keys",
    [{"family": "gaussian"}, {"estimation": "ml"}, {"quadrature_nodes": 5}, {"likelihood": "exact"}],
    ids=lambda keys: next(iter(keys)),
)
def test_how_a_model_is_fitted_concerns_the_fit_alone(keys):
    plain, other = config.load(MINIMAL), config.load(MINIMAL | keys)
    assert [name for name in config.STAGE_KEYS if config.stage(plain, name) != config.stage(other, name)] == ["fit"]


def test_quadrature_is_checked_with_the_contrasts_before_any_fit():
    plain, other = (config.load(MINIMAL | {"estimation": "ml", "integration": kind}) for kind in ("laplace", "agq"))
    changed = [name for name in config.STAGE_KEYS if config.stage(plain, name) != config.stage(other, name)]
    assert changed == ["contrasts", "fit"]


def test_quadrature_is_no_concern_of_pseudobulk():
    assert config.load(MINIMAL | {"integration": "agq", "methods": ["pseudobulk"]})["integration"] == "agq"


@given(st.permutations(sorted(MINIMAL)), st.permutations(["B", "NK", "T"]))
def test_the_order_of_keys_and_cell_types_does_not_matter(keys, cell_types):
    shuffled = config.load({key: MINIMAL[key] for key in keys} | {"cell_types": cell_types})
    ordered = config.load(MINIMAL | {"cell_types": ["B", "NK", "T"]})
    assert config.stage(shuffled, "prepare") == config.stage(ordered, "prepare")
