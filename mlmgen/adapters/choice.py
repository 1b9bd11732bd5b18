"""Which cell types, contrasts and methods of a run an adapter takes."""

import numpy as np
import pandas as pd

from mlmgen.errors import UserError, listing, nearest
from mlmgen.findings import Findings, choose

ALL = "all"  # of the methods
# What a message calls the choice: the argument, and the option of `mlmgen export`.
CELL_TYPE, CONTRAST, METHOD = "cell_type or --cell-type", "contrast or --contrast", "method or --method"


def methods(findings: Findings, method: str | None) -> tuple[str, ...]:
    """Return the methods that are wanted: one of the run's, or all of them.

    Parameters
    ----------
    findings : Findings
    method : str or None
        None takes ``glmm`` where the run has it, else what it has.
    """
    if method == ALL:
        return findings.methods
    if method is None:
        return findings.methods[:1] if "glmm" not in findings.methods else ("glmm",)
    return (choose(method, findings.methods, "method", METHOD),)


def one_method(findings: Findings, method: str | None) -> str:
    """Return the one method that is wanted, as `methods` does."""
    found = methods(findings, method)
    if len(found) > 1:
        raise UserError("this takes one method", METHOD, f"Choose one of: {listing(found)}")
    return found[0]


def cell_types(findings: Findings, cell_type: str | None) -> tuple[str, ...]:
    """Return one cell type, or all that were fitted for None."""
    return findings.cell_types if cell_type is None else (one_cell_type(findings, cell_type),)


def one_cell_type(findings: Findings, cell_type: str | None) -> str:
    """Return one cell type, the only one for None."""
    if cell_type in findings.skipped:
        do = f"Those with results are {listing(findings.cell_types, 60)}"
        raise UserError(f"{cell_type} was not fitted: {findings.skipped[cell_type]}", CELL_TYPE, do)
    return choose(cell_type, findings.cell_types, "cell type", CELL_TYPE)


def contrasts(findings: Findings, contrast: str | None) -> tuple[str, ...]:
    """Return one contrast, or all for None."""
    return findings.contrasts if contrast is None else (one_contrast(findings, contrast),)


def one_contrast(findings: Findings, contrast: str | None) -> str:
    """Return one contrast, the only one for None."""
    return choose(contrast, findings.contrasts, "contrast", CONTRAST)


def tested(findings: Findings, cell_type: str, contrast: str) -> bool:
    """Tell whether a contrast was estimable in a cell type."""
    return any(one["name"] == contrast for one in findings.contrasts_json["cell_types"].get(cell_type, ()))


def refuse_untested(findings: Findings, cell_type: str, contrast: str) -> None:
    """Raise a UserError that says why a cell type has no results of a contrast."""
    if not tested(findings, cell_type, contrast):
        why = findings.contrasts_json["left_out"].get(cell_type, {}).get(contrast, "it is not among its contrasts")
        there = [name for name in findings.cell_types if tested(findings, name, contrast)]
        raise UserError(
            f"{contrast} cannot be estimated in {cell_type}: {why}",
            f"{CELL_TYPE}, {CONTRAST}",
            f"Cell types with results of it: {listing(there, 60) or 'none'}",
        )


def genes(findings: Findings) -> pd.Series:
    """Return the symbol of every gene, the index the gene, in the order of the input."""
    one = findings.fits[["gene", "gene_name"]].drop_duplicates("gene")
    return one.set_index("gene")["gene_name"]


def contrasts_in(findings: Findings, cell_type: str, contrast: str | None = None) -> tuple[str, ...]:
    """Return the contrasts with results in a cell type: the one that is wanted, or all for None.

    Raises
    ------
    UserError
        Where there is none.
    """
    for one in contrasts(findings, contrast) if contrast or len(findings.contrasts) == 1 else ():
        refuse_untested(findings, cell_type, one)
    found = tuple(one for one in contrasts(findings, contrast) if tested(findings, cell_type, one))
    if not found:
        why = findings.contrasts_json["left_out"].get(cell_type, {})
        reasons = listing((f"{name}: {reason}" for name, reason in why.items()), 4)
        raise UserError(
            f"no contrast can be estimated in {cell_type}: {reasons}", CELL_TYPE, "Choose another cell type"
        )
    return found


def of_type(findings: Findings, cell_type: str) -> pd.DataFrame:
    """Return the effects of one cell type."""
    return findings.effects[(findings.effects["cell_type"] == cell_type).to_numpy()]


def effects(of_type: pd.DataFrame, contrast: str, method: str) -> pd.DataFrame:
    """Return the effects of one contrast and method in a cell type, the index the gene; strongest evidence first."""
    chosen = (of_type["contrast"] == contrast) & (of_type["method"] == method)
    return of_type[chosen.to_numpy()].set_index("gene")


def allowed_name(name: str, allowed: tuple[str, ...], where: str) -> str:
    """Return a name, or raise a UserError with the nearest of those allowed."""
    if name not in allowed:
        raise UserError(f"{name!r} cannot be taken", where, f"{nearest(name, allowed)}Use one of: {listing(allowed)}")
    return name


def places(names: np.ndarray, known: pd.Index) -> np.ndarray:
    """Return where names stand in an index, (n,) int; every name must be there."""
    found = known.get_indexer(names)
    if (found < 0).any():
        raise UserError(
            f"{(found < 0).sum():,} genes of the tables have no counts", "effects", "Run the workflow again"
        )
    return found
