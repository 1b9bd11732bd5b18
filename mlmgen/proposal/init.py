"""The command init: look at a data set and write a configuration for it."""

import os
import shlex
import sys
from pathlib import Path

from mlmgen import io, terminal
from mlmgen.config_file import ENDINGS
from mlmgen.errors import UserError, listing
from mlmgen.proposal import config_text
from mlmgen.proposal.proposal import Proposal, propose

LABEL = 11  # characters of the first column


def init(
    data: str,
    output: str = "config.yaml",
    donor: str | None = None,
    condition: str | None = None,
    cell_type: str | None = None,
    sample: str | None = None,
    force: bool = False,
    threads: int = 1,
) -> None:
    """Write a configuration with the evidence for it as comments, and print what was seen.

    Parameters
    ----------
    data : str
        An .h5ad file or zarr store.
    output : str
        The configuration, its folder made; the paths in it start at the working directory.
    donor, condition, cell_type, sample : str, optional
        Columns of obs that the user knows; ``none`` for no cell type.
    force : bool
        Overwrite a configuration that is there.
    threads : int
        Not used.

    Raises
    ------
    UserError
        Where a configuration is there already or the name is not of one, and as `mlmgen.proposal.proposal.propose`.
    """
    path = Path(output)
    _check_name(path, data)
    if path.exists() and not force:
        raise UserError("there is already a file", output, "Give another name by -o, or --force to overwrite it")
    named = {"donor": donor, "condition": condition, "cell_type": cell_type, "sample": sample}
    found = propose(data, named)
    io.write_text(output, config_text.text(found, _command(data, output, named), output))
    sys.stdout.write("\n".join([*lines(found), *_next(output, found), *_problem(output)]) + "\n")


def _check_name(path: Path, data: str) -> None:
    """Refuse a folder, the data file, and what is no name of a configuration, which --force would overwrite."""
    if path.is_dir() and path.suffix != ".zarr":
        raise UserError("this is a folder", str(path), f"Give a file by -o, such as {path / 'config.yaml'}")
    if path.exists() and os.path.exists(data) and os.path.samefile(path, data):
        raise UserError("this is the data file itself", str(path), "Give another name by -o, such as config.yaml")
    if path.suffix not in ENDINGS:
        ends = f"ends in {path.suffix}" if path.suffix else "has no suffix"
        what = f"a configuration has another kind of name: this one {ends}"
        raise UserError(what, str(path), f"End the name in one of {listing(ENDINGS)}")


def _command(data: str, output: str, named: dict[str, str | None]) -> str:
    words = ["mlmgen", "init", data, *(["-o", output] if output != "config.yaml" else [])]
    for role, column in named.items():
        words += [f"--{role.replace('_', '-')}", column] if column is not None else []
    return shlex.join(words)


def lines(found: Proposal) -> list[str]:
    """Word a proposal for a person, line by line."""
    roles, seen = found.roles, found.structure
    rows = [
        ("counts", found.counts.why),
        ("genes", found.gene_names.why),
        ("donor", f"column {roles.donor}: {found.evidence['donor']}"),
        ("condition", f"column {roles.condition}: {found.evidence['condition']}"),
        ("cell type", f"column {roles.cell_type}: " * (roles.cell_type is not None) + found.evidence["cell_type"]),
        ("sample", f"column {seen.sample}: {found.evidence['sample']}" if seen.sample else found.evidence["sample"]),
        ("design", found.evidence["design"]),
        ("reference", found.evidence.get("reference", "")),
        ("formula", seen.formula),
        ("methods", f"glmm alone: {found.evidence['methods']}" if seen.methods else ""),
        *(("contrast", f"{name}: {expression}") for name, expression in seen.contrasts.items()),
        *(("also seen", note) for note in found.notes),
    ]
    heading = f"{os.path.basename(found.path.rstrip('/'))}: {found.n_cells:,} cells, {found.n_genes:,} genes"
    shown, before = [terminal.bold(heading)], ""
    for label, text in rows:
        if text:
            first = "" if label == before else label
            shown += terminal.wrapped(f"  {terminal.bold(f'{first:{LABEL}}')} ", text, LABEL + 3)
            before = label
    return shown


def _problem(output: str) -> list[str]:
    """Return what the check will say first, if it will not pass."""
    from mlmgen import config, config_file, stages_contrasts

    try:
        stages_contrasts.check(config.load(config_file.read(output)))
    except UserError as error:
        return ["", terminal.yellow("The check will not pass yet: ") + " ".join(str(error).split())]
    return []


def _next(output: str, found: Proposal) -> list[str]:
    doubts = [role.replace("_", " ") for role, how in found.roles.confidence.items() if how == "unsure"]
    careful = f" Look at the {' and the '.join(doubts)} first: {'it is' if len(doubts) == 1 else 'they are'} not sure."
    return [
        "",
        f"{output} is written; it explains every key.{careful if doubts else ''} Next:",
        f"  {terminal.bold(f'mlmgen check {shlex.quote(output)}')}",
    ]
