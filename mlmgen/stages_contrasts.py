"""The stage contrasts, and the check of a whole configuration before any job."""

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen import config, io, provenance
from mlmgen.errors import UserError, listing
from mlmgen.progress import say
from mlmgen.stages_fit import refuse_quadrature
from mlmgen.types import Contrast

if TYPE_CHECKING:
    from mlmgen.prepare import CellType
    from mlmgen.studies import Study


class Checked(NamedTuple):
    """A configuration that fits its input: what `mlmgen check` describes.

    Attributes
    ----------
    study : Study
        All cells (`mlmgen.studies`).
    parts : tuple of CellType
        Each cell type with its design, or why it is skipped (`mlmgen.prepare`).
    resolved : dict
        As of `resolved`.
    """

    study: "Study"
    parts: "tuple[CellType, ...]"
    resolved: dict


def check(settings: dict) -> Checked:
    """Check a configuration against the obs of its input: donors, formula, designs and contrasts.

    Parameters
    ----------
    settings : dict
        From `mlmgen.config.load`.

    Raises
    ------
    UserError
        For the first problem that would stop a job, but for values that are not counts.
    """
    from mlmgen import studies

    of_prepare = json.loads(config.stage(settings, "prepare"))
    study = studies.read(settings["input"], of_prepare, settings["cell_types"], settings["methods"])
    parts = tuple(studies.parts(study))
    designs = {part.name: part.design for part in parts if part.design}
    of_contrasts = json.loads(config.stage(settings, "contrasts"))
    return Checked(study, parts, resolved(designs, of_contrasts, settings["methods"]))


def contrasts(
    input: str,
    cells: str,
    prepared: Sequence[str],
    output: str,
    settings: dict,
    threads: int = 1,
    methods: Sequence[str] = (),
    design: str | None = None,
) -> None:
    """Resolve the contrasts on the design of each cell type, and say what they can find there.

    A contrast that one cell type cannot estimate (a level is not there) is left out for it with a
    warning; one that none can is an error.

    Parameters
    ----------
    input : str
        The .h5ad or zarr store, for its obs.
    cells : str
        The `mlmgen.io.runs.Cells` of the input.
    prepared : sequence of str
        All that are analysed.
    output : str
        JSON: ``warnings``, of all cells together; ``contrasts``, the names in order; ``cell_types``, for each the list
        of its contrasts with ``name``, ``expression`` and ``weights``; ``left_out``, for each the reason by name;
        ``design``, for each the list of `mlmgen.design_lint.Row`.
    settings : dict
        ``contrasts``: list of [name, expression or list of expressions], or None for every coefficient but the
        intercept. ``integration`` of the fits.
    threads : int
        Not used.
    methods : sequence of str
        As for `resolved`.
    design : str, optional
        The table of designs, without a suffix.
    """
    metas = {path: io.read_meta(path) for path in prepared}
    warnings = _of_all_cells(input, cells, metas, methods)
    designs = {meta["cell_type"]: io.read_design(path) for path, meta in metas.items() if not meta["skipped"]}
    found = {"warnings": list(warnings)} | resolved(designs, settings, methods)
    for cell_type, reasons in found["left_out"].items():
        for name, reason in reasons.items():
            say(f"contrasts: warning: {cell_type}: {name} cannot be estimated: {reason}")
    sources = {meta["cell_type"]: path for path, meta in metas.items()}
    found["design"] = {
        name: _described(name, sources[name], one, found["cell_types"][name]) for name, one in designs.items()
    }
    found["made_from"] = provenance.of_designs(list(metas.values()), settings)
    if design is not None:
        _write_designs(design, found["design"], methods, found["made_from"])
    io.write_json(output, found)
    say(f"contrasts: {listing(found['contrasts'])}")


def _of_all_cells(input: str, cells: str, metas: dict[str, dict], methods: Sequence[str]) -> tuple[str, ...]:
    """Check the cell types together, and that they were prepared with the same reference levels; return warnings."""
    from mlmgen import studies
    from mlmgen.io.runs import Cells

    everything, _ = io.read_record(cells, Cells)
    settings = next(iter(metas.values()))["settings"]
    study = studies.read(input, settings, [meta["cell_type"] for meta in metas.values()], methods, everything)
    studies.refuse_nothing({meta["cell_type"]: meta["skipped"] for meta in metas.values()}, input)
    others = {path: meta for path, meta in metas.items() if meta["reference"] != study.plan.reference}
    if others:
        (path, meta), now = next(iter(others.items())), _levels(study.plan.reference)
        what = f"{meta['cell_type']} was prepared with other reference levels, {_levels(meta['reference'])}"
        what += f", and so were {len(others) - 1} more cell types" * (len(others) > 1)
        do = f"With the cell types chosen now they are {now}. Set reference in the configuration, or delete them"
        raise UserError(what, path, f"{do} and run again: rm {shlex.join(others)}")
    warnings = (*study.warnings, *studies.origin_warnings(input, study))
    for warning in warnings:
        say(f"contrasts: warning: {warning}")
    return warnings


def _levels(reference: dict[str, str]) -> str:
    return listing(f"{name} = {level}" for name, level in reference.items()) or "none"


def _described(cell_type: str, path: str, design, stored: list[dict]) -> list[dict]:
    """Describe the contrasts of a cell type, also in the log."""
    from mlmgen import design_lint

    contrasts = tuple(Contrast(c["name"], c["expression"], np.array(c["weights"], dtype=float)) for c in stored)
    mean = design_lint.typical_mean(io.read_gene_statistics(path), io.read_meta(path)["n_cells"])
    rows = design_lint.lint(cell_type, design, contrasts, mean)
    for row in rows:
        say(f"contrasts: {design_lint.line(row)}")
        if row.warning:
            say(f"contrasts: warning: {cell_type}: {row.warning}")
    return [row._asdict() for row in rows]


def _write_designs(path: str, rows: dict[str, list[dict]], methods: Sequence[str], made_from: dict) -> None:
    from mlmgen import tables

    io.write_table(path, tables.designs([row for of_one in rows.values() for row in of_one], methods), made_from)
    say(f"contrasts: {path}.parquet and .tsv.gz")


def resolved(designs: dict, settings: dict, methods: Sequence[str]) -> dict:
    """Resolve the contrasts on designs.

    Parameters
    ----------
    designs : dict of str to Design
        By cell type.
    settings : dict
        As for `contrasts`.
    methods : sequence of str
        Where ``glmm`` is among them, the designs of the cells must be ones that ``integration`` covers.

    Returns
    -------
    dict
        As `contrasts` writes it.

    Raises
    ------
    UserError
        For a contrast that no design can estimate, and for what quadrature cannot integrate.
    """
    from mlmgen.contrasts import estimable

    chosen = settings.get("contrasts")
    found, left_out, problems = {}, {}, {}
    for cell_type, design in designs.items():
        if "glmm" in methods:
            refuse_quadrature(design, settings.get("integration", "laplace"), f"cell type {cell_type}")
        tested, errors = estimable(chosen, design)
        found[cell_type] = [{"name": c.name, "expression": c.expression, "weights": c.weights.tolist()} for c in tested]
        left_out[cell_type] = {name: error.what for name, error in errors.items()}
        problems = errors | problems
    names = [name for name, _ in chosen or ()]
    names = names or list(dict.fromkeys(contrast["name"] for of_one in found.values() for contrast in of_one))
    for name in names:
        if not any(contrast["name"] == name for of_one in found.values() for contrast in of_one):
            raise problems[name]
    for cell_type, of_one in found.items():
        absent = set(names) - {contrast["name"] for contrast in of_one} - set(left_out[cell_type])
        left_out[cell_type] |= {name: "it has no such coefficient" for name in names if name in absent}
    return {"contrasts": names, "cell_types": found, "left_out": left_out}
