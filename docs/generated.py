"""Parts of the pages that are made from the code: config keys, output columns, commands, statuses."""

import argparse
import os
import re
from pathlib import Path

import demo_run
import yaml

from mlmgen import cli, cli_commands, cli_stages, columns
from mlmgen.status import HELP, label

ROOT = Path(__file__).parent.parent
WIDTH = 100  # columns of a command's help
MARK = re.compile(r"^<!-- generated: (\w+)(?: (.*?))? -->$", re.MULTILINE)


def on_source_read(app, name: str, source: list[str]) -> None:
    """Replace what is to be generated in a page; Sphinx calls this when it has read the page."""
    source[0] = expanded(source[0])


def expanded(text: str) -> str:
    """Return a page with its generated parts.

    ``<!-- generated: config_keys -->`` is replaced by what the function of this name in `PARTS` returns, and
    a fence ``{terminal}`` by the commands as people type them and what they printed (see `demo_run`).
    """
    text = MARK.sub(lambda found: PARTS[found[1]](*([found[2]] if found[2] else [])), text)
    return demo_run.TERMINAL.sub(lambda found: terminal(found[1]), text)


def terminal(commands: str) -> str:
    """Return commands of a shell, as a page shows them, with what they printed below."""
    printed = demo_run.printed(commands).rstrip()
    return f"```sh\n{commands}```\n\n" + (f"```text\n{printed}\n```\n" if printed else "")


def config_keys() -> str:
    """Describe every key of the configuration, from the schema."""
    properties = schema()["properties"]
    required = schema()["required"]
    return "\n\n".join(_key(name, spec, name in required, "") for name, spec in properties.items())


def schema() -> dict:
    """Return the schema of the configuration."""
    return yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())


def _key(name: str, spec: dict, required: bool, prefix: str) -> str:
    level = "###" if prefix else "##"
    lines = [f"{level} `{prefix}{name}`", _escaped(spec["description"])]
    facts = ["**Required**"] if required else [f"Default `{_yaml(spec['default'])}`"]
    facts += [f"allowed: {allowed}"] if (allowed := _allowed(spec)) else []
    facts += ["for example " + ", ".join(f"`{_yaml(e)}`" for e in spec["examples"])] if "examples" in spec else []
    lines.append("; ".join(facts) + ".")
    inner = spec.get("properties", {})
    lines += [_key(key, value, False, f"{name}.") for key, value in inner.items()]
    return "\n\n".join(lines)


def _allowed(spec: dict) -> str:
    if "enum" in spec.get("items", spec):
        return ", ".join(f"`{_yaml(value)}`" for value in spec.get("items", spec)["enum"])
    low, high = spec.get("minimum"), spec.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"{low} or more" if low is not None else ""


def _yaml(value) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True).removesuffix("...\n").strip()


def output_columns() -> str:
    """Describe every table and its columns, from the registry; what a table is for comes from the README."""
    parts = []
    for table in columns.TABLES:
        parts += [f"## {table}", introduction(table), _escaped(columns.markdown(table))]
    return "\n\n".join(parts)


def introduction(table: str) -> str:
    """Return what the README says of a table, without the README's links."""
    section = (ROOT / "README.md").read_text().split(f"\n### {table}\n\n")[1]
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", section.split("\n\n")[0])


def statuses() -> str:
    """Return the table of what a fit can end as."""
    rows = [f"| `{label(status)}` | {text} |" for status, text in HELP.items()]
    return "\n".join(["| status | meaning |", "|---|---|", *rows])


def commands() -> str:
    """Show the help of every command that people type."""
    return _helps(cli_commands.COMMANDS)


def stages() -> str:
    """Show the help of every stage of the workflow."""
    return _helps(cli_stages.STAGES)


def _helps(names) -> str:
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        known = subcommands()
        return "\n\n".join(
            f"### mlmgen {name}\n\n```text\n{known[name].format_help().strip()}\n```" for name in names if name in known
        )
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every subcommand."""
    (found,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def section(where: str) -> str:
    """Return a section of a README, ``folder/README.md#Heading``, with its parts one level up and without links."""
    path, heading = where.split("#")
    text = re.split(rf"^## {re.escape(heading)}\n", (ROOT / path).read_text(), flags=re.MULTILINE)[1]
    text = re.split(r"^## ", text, flags=re.MULTILINE)[0].strip()
    text = re.sub(r"^###", "##", text, flags=re.MULTILINE)
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


def _escaped(text: str) -> str:
    """Keep what is in angle brackets from being taken for HTML, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


PARTS = {function.__name__: function for function in (config_keys, output_columns, statuses, commands, stages, section)}
