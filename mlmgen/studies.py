"""All selected cells together: what is checked before any cell type is looked at alone."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmgen import io
from mlmgen.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from mlmgen.io.runs import Cells
    from mlmgen.prepare import CellType, Plan

REASONS_SHOWN = 3  # cell types named in a message


class Study(NamedTuple):
    """The cells of an input and what is decided about all of them.

    Attributes
    ----------
    obs : DataFrame
        All n cells, with the columns that are used.
    of_cell : (n,) int64
        The place of each cell's type among the selected ones, -1 for cells that are not analysed.
    selected : tuple of str
        Cell types.
    plan : Plan
    warnings : tuple of str
    """

    obs: "pd.DataFrame"
    of_cell: np.ndarray
    selected: tuple[str, ...]
    plan: "Plan"
    warnings: tuple[str, ...]


def read(
    input: str,
    settings: dict,
    cell_types: str | Sequence[str],
    methods: Sequence[str] = (),
    cells: "Cells | None" = None,
) -> Study:
    """Read and check obs.

    Parameters
    ----------
    input : str
    settings : dict
        Of the stage prepare, complete.
    cell_types : "all" or sequence of str
    methods : sequence of str
        As for `mlmgen.design.check`.
    cells : Cells, optional
        What split wrote. Cells without a count are left out, unless size factors are given.

    Raises
    ------
    UserError
        For a problem of the whole data set, or where its cells are not those that were split.
    """
    from mlmgen import formula as formulas
    from mlmgen import names
    from mlmgen import prepare as steps

    formula, column = formulas.parse(settings["formula"]), settings["cell_type"]
    selected = tuple(names.select(io.cell_types(input, column), cell_types, column).values())
    obs = io.read_obs(input, steps.used_columns(settings, formula))
    if cells is not None:
        _refuse_other_cells(obs, column, cells, input)
    of_cell = steps.codes(obs, column, selected, cell_types == "all", input)
    plan, warnings = steps.plan(obs[of_cell >= 0], formula, settings, input, methods)
    if cells is not None and not settings["size_factors"].startswith("obs/"):
        empty = (cells.total == 0) & (of_cell >= 0)
        of_cell = np.where(empty, -1, of_cell)
        if empty.any():
            warnings = (*warnings, f"cells without a single count are left out: {int(empty.sum()):,}")
    return Study(obs, of_cell, selected, plan, tuple(warnings))


def digest(names: Iterable[str]) -> str:
    """Return the sha256 of names in their order, 64 hexadecimal digits."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()


def _refuse_other_cells(obs: "pd.DataFrame", column: str | None, cells: "Cells", input: str) -> None:
    """Raise a UserError where the input has other cells than were split: counts would get the obs of others."""
    from mlmgen import prepare as steps

    same = len(obs) == len(cells.total) and digest(obs.index) == cells.names
    if same and np.array_equal(steps.codes(obs, column, cells.cell_types, False, input), cells.cell_type):
        return
    what = f"the {len(obs):,} cells of the input are not the {len(cells.total):,} cells whose counts were read"
    do = "The file was replaced without a newer date: run again with --forcerun split"
    raise UserError(what, input, do)


def origin_warnings(input: str, study: Study) -> tuple[str, ...]:
    """Look at columns that no stage uses for what they say about the donors."""
    from mlmgen import design_origins
    from mlmgen import formula as formulas

    plan = study.plan
    names = design_origins.origin_columns([name for name in io.obs_columns(input) if name not in study.obs.columns])
    table = study.obs.join(io.read_obs(input, dict.fromkeys(names, "obs")))[study.of_cell >= 0]
    factors = [name for name in formulas.fixed_variables(plan.formula) if name in plan.reference]
    return design_origins.origin_warnings(table, plan.donor, factors, plan.sample)


def parts(study: Study) -> list["CellType"]:
    """Build the design of each selected cell type, with size factors of 1.

    Raises
    ------
    UserError
        Where none can be analysed.
    """
    from mlmgen import prepare as steps

    found = []
    for i, name in enumerate(study.selected):
        rows = np.flatnonzero(study.of_cell == i)
        found.append(steps.cell_type(name, rows, study.obs.iloc[rows], np.ones(len(rows)), study.plan))
    refuse_nothing({part.name: part.skipped for part in found}, study.plan.where)
    return found


def refuse_nothing(skipped: dict[str, str], where: str) -> None:
    """Raise a UserError where all cell types are skipped.

    Parameters
    ----------
    skipped : dict of str to str
        Cell type to why it is skipped, or empty.
    where : str
    """
    if all(skipped.values()):
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:REASONS_SHOWN])
        do = "Relax filters.min_cells_per_donor or filters.min_donors_per_arm, or simplify the formula"
        raise UserError(f"none of the {len(skipped)} cell types can be analysed; {reasons}", where, do)
