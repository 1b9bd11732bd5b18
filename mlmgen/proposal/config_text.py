"""A proposal as the text of a configuration, with its evidence as comments."""

import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import PurePath

import yaml

from mlmgen.config import INPUT_ENDING, schema
from mlmgen.names import slug
from mlmgen.proposal.proposal import Proposal

WIDTH = 110
# What a study may want to change; everything else keeps its default.
FIRST = ("name", "input", "counts", "donor", "cell_type", "cell_types", "formula", "reference", "contrasts", "sample")
FIRST += ("gene_names", "methods")


def name_of(path: str) -> str:
    """Return the name of a run, from that of its input."""
    return slug(INPUT_ENDING.sub("", PurePath(path).name))


def text(proposal: Proposal, command: str, output: str) -> str:
    """Write the configuration.

    Parameters
    ----------
    proposal : Proposal
    command : str
        What made it, for the first line.
    output : str
        The file, for the commands in the comments.
    """
    properties = schema()["properties"]
    values = _values(proposal)
    parts = [_heading(proposal, command, output)]
    for key in FIRST:
        comments = _comments(key, proposal, properties[key])
        if key in values:
            parts.append([*_commented(comments), *_yaml(key, values[key])])
        elif key in ("sample", "gene_names"):
            parts.append([*_commented(comments), f"# {key}: null"])
    parts.append([*_commented(["Everything below keeps its default; take the # away to change a key."])])
    shown = [key for key in FIRST if key != "methods" or key in values]
    parts += [_default(key, rule) for key, rule in properties.items() if key not in shown]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _heading(proposal: Proposal, command: str, output: str) -> list[str]:
    lines = [f"Written by `{command}`: {proposal.n_cells:,} cells, {proposal.n_genes:,} genes."]
    lines += ["What was seen in the file stands above each key. Read the donor, the formula and the contrasts, then:"]
    lines += [f"  mlmgen check {_for_shell(output)}", f"  mlmgen run {_for_shell(output)}"]
    return _commented(lines)


def _for_shell(path: str) -> str:
    import shlex

    return shlex.quote(path)


def _values(proposal: Proposal) -> dict:
    roles, design = proposal.roles, proposal.structure
    found = {
        "name": name_of(proposal.path),
        "input": os.fspath(proposal.path),
        "counts": proposal.counts.value,
        "donor": roles.donor,
        "cell_type": roles.cell_type,
        "formula": design.formula,
        "reference": design.reference,
        "contrasts": design.contrasts,
    }
    found |= {"cell_types": list(proposal.cell_types)} if proposal.cell_types else {}
    found |= {"sample": design.sample} if design.sample else {}
    found |= {"methods": list(design.methods)} if design.methods else {}
    found |= {"gene_names": proposal.gene_names.value} if proposal.gene_names.value else {}
    return {key: value for key, value in found.items() if value not in ({}, [])}


def _comments(key: str, proposal: Proposal, rule: dict) -> list[str]:
    """Return what the key means, and what was seen in the file."""
    seen = {
        "input": ["A relative path starts at the folder in which `mlmgen run` is called."],
        "counts": [proposal.counts.why],
        "donor": [proposal.evidence["donor"]],
        "cell_type": [proposal.evidence["cell_type"]],
        "cell_types": ["Those of the cells that have one."],
        "formula": [
            f"{proposal.roles.condition}: {proposal.evidence['condition']}",
            f"Design: {proposal.evidence['design']}",
            *(["Other columns of obs:"] if proposal.notes else []),
            *(f"  {note}" for note in proposal.notes),
        ],
        "reference": [proposal.evidence.get("reference", "")],
        "sample": [proposal.evidence.get("sample", "")],
        "gene_names": [proposal.gene_names.why],
        "methods": [proposal.evidence.get("methods", "")],
    }
    return [rule["description"], *(f"-> {line}" if line[:2] != "  " else line for line in seen.get(key, []) if line)]


def _commented(lines: list[str]) -> list[str]:
    """Write lines as comments, the long ones over several."""
    found = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 3 * line.startswith("->"))
        wrapped = textwrap.wrap(line, WIDTH - 2, subsequent_indent=indent, break_long_words=False) or [""]
        found += [f"# {part}" for part in wrapped]
    return found


def _yaml(key: str, value: object) -> Iterator[str]:
    """Write a key; texts that are expressions in double quotes, as the other configurations have them."""
    if isinstance(value, dict):
        yield f"{key}:"
        for name, one in value.items():
            yield f"  {_scalar(name)}: {_quoted(one) if key == 'contrasts' else _scalar(one)}"
    elif isinstance(value, list):
        yield f"{key}:"
        yield from (f"  - {_scalar(one)}" for one in value)
    else:
        yield f"{key}: {_quoted(value) if key == 'formula' else _scalar(value)}"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _scalar(value: object) -> str:
    """Write a value so that YAML reads it as it is: a level called ``no`` stays a text."""
    if value is None:
        return "null"
    text = yaml.safe_dump(value, allow_unicode=True, width=10_000, default_style=None).splitlines()[0]
    return text if yaml.safe_load(text) == value else _quoted(str(value))


def _default(key: str, rule: dict) -> list[str]:
    comments = _commented([rule["description"]])
    if "properties" in rule:
        inner = [
            line
            for name, one in rule["properties"].items()
            for line in (*(f"#   {part}" for part in _commented([one["description"]])), f"#   {name}: {one['default']}")
        ]
        return [*comments, f"# {key}:", *inner]
    shown = yaml.safe_dump(rule.get("default"), default_flow_style=True, width=10_000).splitlines()[0]
    return [*comments, f"# {key}: {shown}"]
