"""The configuration: checked against the schema, defaults filled in, and what each stage reads of it."""

import copy
import functools
import json
import re
from pathlib import Path, PurePath

from mlmgen.errors import UserError, listing, nearest
from mlmgen.names import slug

WHERE = "the configuration"
SCHEMA = "workflow/schemas/config.schema.yaml"
INPUT_ENDING = re.compile(r"\.(h5ad|zarr|zarr\.zip)$")  # what a run is not named after
LONGEST_VALUE = 60  # characters of a wrong value in a message that should fit on a line

# Part of each stage's settings: raising a number redoes the stage and what follows it.
METHOD_VERSIONS = {"split": 1, "prepare": 3, "contrasts": 4, "fit": 3, "moderate": 3, "test": 3, "tables": 4}
METHOD_VERSIONS |= {"audit": 1, "stability": 2}
FIGURES_VERSION = 1  # raising it draws the workflow's pictures again
REPORT_VERSION = 1  # the same of the report

STAGE_KEYS = {
    "split": ("input", "counts", "cell_type", "gene_names"),
    "prepare": (
        "input",
        "donor",
        "cell_type",
        "formula",
        "reference",
        "sample",
        "size_factors",
        "filters.min_cells_per_donor",
        "filters.min_donors_per_arm",
    ),
    # The integration is checked against the designs, before any fit.
    "contrasts": ("contrasts", "integration"),
    "fit": (
        "family",
        "estimation",
        "integration",
        "quadrature_nodes",
        "likelihood",
        "filters.min_cells_expressing",
        "filters.min_fraction_expressing",
        "filters.min_donors_expressing",
    ),
    "moderate": (),
    "test": ("contrasts",),
    "audit": ("contrasts", "audit_splits", "seed"),
    "stability": ("contrasts",),
    "tables": ("name", "fdr", "stability", "audit"),
}

# The stages whose settings decide what a stage reads.
EARLIER = {"prepare": ("split",), "fit": ("split", "prepare")}
EARLIER["moderate"] = (*EARLIER["fit"], "fit")
EARLIER["test"] = (*EARLIER["moderate"], "moderate")
EARLIER["stability"] = EARLIER["audit"] = (*EARLIER["test"], "test")
EARLIER["tables"] = (*EARLIER["stability"], "contrasts", "stability", "audit")


@functools.cache
def _schema() -> dict:
    import yaml

    package = Path(__file__).resolve().parent
    for folder in (package, package.parent):  # inside the wheel; beside the package in the repository
        if (folder / SCHEMA).is_file():
            return yaml.safe_load((folder / SCHEMA).read_text(encoding="utf-8"))
    raise FileNotFoundError(f"{SCHEMA} is neither in {package} nor in {package.parent}")


def schema() -> dict:
    """Return the JSON schema of the configuration, every key with type, description and default."""
    return copy.deepcopy(_schema())


def load(config: dict) -> dict:
    """Check a configuration and fill in the defaults.

    Parameters
    ----------
    config : dict
        As read from YAML; not changed.

    Returns
    -------
    dict
        Every key of the schema, at every level. `name` is never None; levels in `reference` and
        the names in `cell_types` are text.

    Raises
    ------
    UserError
        For an unknown or missing key, a wrong type or value; one line, with the nearest key or the values allowed.
    """
    complete = _filled(config, _schema(), "")
    complete["reference"] = {column: str(level) for column, level in complete["reference"].items()}
    if complete["cell_types"] != "all":
        if complete["cell_type"] is None:
            raise UserError(
                "cell_types lists cell types, but cell_type is null",
                WHERE,
                "Set cell_type to the obs column that holds them, or cell_types to all",
            )
        complete["cell_types"] = [str(name) for name in complete["cell_types"]]
    _check_quadrature(complete)
    if complete["name"] is None:
        complete["name"] = slug(INPUT_ENDING.sub("", PurePath(complete["input"]).name))
    return complete


def _check_quadrature(config: dict) -> None:
    """Raise a UserError where adaptive quadrature is asked for what it does not integrate."""
    if config["integration"] != "agq" or "glmm" not in config["methods"]:
        return
    if config["estimation"] != "ml":
        do = "Set estimation to ml, or integration to laplace"
        raise UserError(f"integration is agq, but estimation is {config['estimation']}", WHERE, do)
    if config["family"] == "gaussian":
        do = "Set integration to laplace"
        raise UserError("integration is agq, but the family gaussian has nothing to integrate numerically", WHERE, do)


def stage(config: dict, name: str) -> str:
    """Return what a stage reads of a configuration as canonical JSON, with the version of its method.

    Parameters
    ----------
    config : dict
        From `load`.
    name : str
        A key of `METHOD_VERSIONS`.

    Returns
    -------
    str
        Equal settings give equal text. ``contrasts`` is a list of [name, expression or list of expressions],
        since sorting the keys would lose their order, or null.
    """
    settings = {"method_version": METHOD_VERSIONS[name]}
    # TMM factors are of all cell types together; nothing else of one depends on which others are analysed.
    together = name == "prepare" and config["size_factors"] == "tmm"
    for key in (*STAGE_KEYS[name], *["cell_types"] * together):
        target, source = settings, config
        *groups, last = key.split(".")
        for group in groups:
            target, source = target.setdefault(group, {}), source[group]
        target[last] = source[last]
    if settings.get("contrasts"):
        settings["contrasts"] = [[contrast, text] for contrast, text in settings["contrasts"].items()]
    if isinstance(settings.get("cell_types"), list):
        settings["cell_types"] = sorted(settings["cell_types"])
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def chain(config: dict, name: str) -> str:
    """Return the settings of a stage with those of the stages before it, so that it knows what it has to be given.

    Parameters
    ----------
    config : dict
        From `load`.
    name : str
        A key of `METHOD_VERSIONS`.

    Returns
    -------
    str
        As from `stage`, with ``before``: the settings of each earlier stage by its name, where there are any.
    """
    earlier = [one for one in EARLIER.get(name, ()) if one not in ("stability", "audit") or config[one]]
    before = {one: json.loads(stage(config, one)) for one in earlier}
    settings = json.loads(stage(config, name)) | ({"before": before} if before else {})
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _filled(value: dict, rules: dict, path: str) -> dict:
    """Check the keys of one level and return it with defaults."""
    if not isinstance(value, dict):
        raise _wrong(value, rules, path or "the file")
    properties = rules["properties"]
    for key in value:
        if key not in properties:
            raise UserError(
                f"unknown key {_shown(f'{path}.{key}' if path else key)}",
                WHERE,
                f"{nearest(key, properties)}The keys {f'of {path} ' if path else ''}are {listing(properties, 30)}",
            )
    for key in rules.get("required", ()):
        if value.get(key) is None:
            raise UserError(
                f"the key {key} is missing",
                WHERE,
                f"Add it: {properties[key]['description']} For example {key}: {_shown(properties[key]['examples'][0])}",
            )
    return {key: _checked(value, key, rule, f"{path}.{key}" if path else key) for key, rule in properties.items()}


def _checked(values: dict, key: str, rule: dict, path: str):
    """Return one value, its default or, for a group of keys, the completed group."""
    value = values.get(key, copy.deepcopy(rule.get("default")))
    if "properties" in rule:
        return _filled({} if value is None else value, rule, path)
    if key not in values:
        return value
    from jsonschema import Draft202012Validator

    value = copy.deepcopy(value)
    for error in Draft202012Validator(rule).iter_errors(value):
        if error.path and error.validator in ("type", "enum", "anyOf") and "anyOf" not in rule:
            inner = ".".join([path, *map(str, error.path)])
            raise _wrong(error.instance, error.schema, inner)
        raise _wrong(value, rule, path)
    return value


def _wrong(value, rule: dict, path: str) -> UserError:
    example = f" For example {_shown(rule['examples'][0])}" if rule.get("examples") else ""
    return UserError(f"{path} is {_shown(value)}, {_kind(value)}", WHERE, f"It must be {_expected(rule)}.{example}")


def _shown(value) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _kind(value) -> str:
    if value is None or value in ("", [], {}):
        return "empty"
    kinds = (
        (bool, "true or false"),
        ((int, float), "a number"),
        (str, "text"),
        (list, "a list"),
        (dict, "a group of keys"),
    )
    return next((word for kind, word in kinds if isinstance(value, kind)), type(value).__name__)


NUMBERS = {"integer": "a whole number", "number": "a number"}
LIMITS = {"minimum": "at least", "maximum": "at most"}
PATTERNS = {
    "^(X|raw|layers/.+)$": "X, raw or layers/<name>",
    "^var/.+$": "var/<column>",
    "^(library|tmm|obs/.+)$": "library, tmm or obs/<column>",
    "^[A-Za-z0-9][A-Za-z0-9._-]*$": "text of letters, digits and . _ - that starts with a letter or digit",
}


def _expected(rule: dict) -> str:
    """Word the values that a rule of the schema allows."""
    if "anyOf" in rule:
        return " or ".join(_expected(one) for one in rule["anyOf"])
    if "const" in rule:
        return str(rule["const"])
    if "enum" in rule:
        return "one of " + ", ".join(rule["enum"])
    types = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    return " or ".join(_expected_type(kind, rule) for kind in types)


def _expected_type(kind: str, rule: dict) -> str:
    if kind == "string" and "pattern" in rule:
        return PATTERNS[rule["pattern"]]
    if kind == "array":
        unique = ", without repetitions," * rule.get("uniqueItems", False)
        return f"a list{unique} of {_expected(rule['items']).removeprefix('one of ')}"
    if kind == "object":
        inner = rule.get("additionalProperties")
        return f"a group of keys, each with {_expected(inner)}" if inner else "a group of keys"
    if kind in NUMBERS:
        limits = [f"{word} {rule[key]}" for key, word in LIMITS.items() if key in rule]
        return f"{NUMBERS[kind]} of {' and '.join(limits)}" if limits else NUMBERS[kind]
    return {"string": "text", "boolean": "true or false", "null": "null"}[kind]
