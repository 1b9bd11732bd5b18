"""A proposal for a data set: the columns, the design, and why."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mlmgen import io
from mlmgen.errors import UserError, listing, nearest
from mlmgen.proposal import columns as looks
from mlmgen.proposal import expression, roles, sources, structure, wording
from mlmgen.proposal.columns import Column
from mlmgen.proposal.roles import Evidence, Roles
from mlmgen.proposal.sources import Source
from mlmgen.proposal.structure import Structure

SAMPLED = 4_000_000  # stored counts that are looked at
OPTIONS = {"donor": "--donor", "condition": "--condition", "cell_type": "--cell-type", "sample": "--sample"}
NO_CELL_TYPE = ("none", "null")


@dataclass(frozen=True)
class Proposal:
    """What a configuration for a file should say.

    Attributes
    ----------
    path : str
    n_cells, n_genes : int
    counts, gene_names : Source
    roles : Roles
    structure : Structure
    cell_types : tuple of str or None
        Those to list, where cells without a label would stop the run.
    evidence : dict of str to str
        Why, in words, by configuration key, and ``design``.
    notes : tuple of str
        What is worth knowing of the other columns.
    """

    path: str
    n_cells: int
    n_genes: int
    counts: Source
    gene_names: Source
    roles: Roles
    structure: Structure
    cell_types: tuple[str, ...] | None
    evidence: dict[str, str]
    notes: tuple[str, ...]


def propose(path: str, given: Mapping[str, str | None]) -> Proposal:
    """Look at a file and propose what to compare.

    Parameters
    ----------
    path : str
        An .h5ad file or zarr store.
    given : mapping of str to str or None
        Columns that the user has named: ``donor``, ``condition``, ``cell_type``, ``sample``; None where not.

    Raises
    ------
    UserError
        Where there are no counts, no donor or no condition, with the columns that were considered.
    """
    found, obs = looks.read(path)
    given = {role: name for role, name in given.items() if name is not None}
    fixed = _fixed(path, found, given)
    where = sources.counts(path)
    n_cells, n_genes = io.shape(path, where.value)
    labels = {name: one.codes + 1 for name, one in found.items() if one.could_be_labels}
    shares = expression.explained(*io.some_counts(path, where.value, SAMPLED), labels)
    evidence = Evidence(found, looks.thinned(found), shares)
    chosen = roles.choose(evidence, {role: name for role, name in fixed.items() if role != "sample"})
    if chosen.donor is None or chosen.condition is None:
        raise _undecided(path, evidence, obs.index, chosen.donor is not None)
    chosen = _of_one_type(found, chosen, fixed)
    seen = structure.structure(evidence, chosen, fixed.get("sample"), obs)
    chosen = structure.doubted(chosen, seen)
    of_type = found[chosen.cell_type] if chosen.cell_type else None
    return Proposal(
        path=path,
        n_cells=n_cells,
        n_genes=n_genes,
        counts=where,
        gene_names=sources.gene_names(path, where.value),
        roles=chosen,
        structure=seen,
        cell_types=of_type.levels if of_type is not None and of_type.missing else None,
        evidence=wording.evidence(evidence, chosen, seen),
        notes=wording.notes(evidence, chosen, seen),
    )


def _fixed(path: str, found: Mapping[str, Column], given: Mapping[str, str]) -> dict[str, str | None]:
    """Check the columns that the user has named."""
    fixed = {}
    for role, name in given.items():
        if role == "cell_type" and name.lower() in NO_CELL_TYPE and name not in found:
            fixed[role] = None
            continue
        if name not in found:
            do = f"{nearest(name, found)}The columns are {listing(found, 40) or 'none'}"
            raise UserError(f"obs has no column {name!r}", f"{path}, option {OPTIONS[role]}", do)
        if found[name].kind in ("constant", "empty") and role in ("donor", "condition"):
            what = f"column {name!r} has {'one value in all cells' if found[name].cells.size else 'no values'}"
            raise UserError(what, f"{path}, option {OPTIONS[role]}", f"The columns are {listing(found, 40)}")
        fixed[role] = name
    repeated = [name for name, times in Counter(fixed.values()).items() if times > 1 and name is not None]
    if set(repeated) and fixed.get("donor") == fixed.get("condition"):
        what = f"column {repeated[0]!r} cannot be donor and condition at once"
        raise UserError(what, path, f"The columns are {listing(found, 40)}")
    return fixed


def _of_one_type(found: Mapping[str, Column], chosen: Roles, fixed: Mapping) -> Roles:
    """Take a column of one value that is named like cell types where there is no other."""
    if chosen.cell_type is not None or "cell_type" in fixed:
        return chosen
    named = [n for n, one in found.items() if one.kind == "constant" and wording.is_cell_type(n) and not one.missing]
    return chosen._replace(cell_type=named[0]) if named else chosen


def _undecided(path: str, evidence: Evidence, cells, has_donor: bool) -> UserError:
    """Say which columns were considered, what speaks against them, and how to name one."""
    labels = [name for name, column in evidence.columns.items() if column.could_be_labels]
    ranked = sorted(labels, key=lambda name: -roles.donor_points(evidence, name))
    seen = listing((f"{name} ({wording.against(evidence, name)})" for name in ranked), 8)
    kind = "condition" if has_donor else "donor"
    what = f"no column of obs can be told to be the {kind}; considered: {seen or 'none has labels'}"
    hint = "" if kind == "condition" else _from_names(cells)
    option = f"If one of them is, say so: --{kind} COLUMN. "
    do = f"{option}{hint}Every column: {listing(evidence.columns, 40) or 'none'}"
    return UserError(what, f"{path}, obs", do)


def _from_names(cells) -> str:
    """Tell whether the names of the cells have a part that could be the sample."""
    names = [str(name) for name in cells[: 1 << 17]]
    for word, pattern in (("begin", r"^(.+?)[_:]"), ("end", r"[-_:]([^-_:]+)$")):
        parts = [match[1] if (match := re.search(pattern, name)) else "" for name in names]
        found = sorted(set(parts) - {""})
        if 1 < len(found) <= max(len(names) // 20, 2) and all(parts):
            return (
                f"The names of the cells {word} with {len(found):,} different parts ({listing(found, 4)}): if these "
                "are donors, make a column of them. "
            )
    return ""
