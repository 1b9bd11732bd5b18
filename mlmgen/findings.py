"""The results folder of a run, read: its tables, and where they come from."""

import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlmgen import io
from mlmgen.columns import TABLES
from mlmgen.errors import UserError, listing, nearest

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE = "provenance.json"
RUN = "Run the workflow first, and give the folder that has its tables, results/<name>"
OPTIONAL = ("concordance", "stability", "audit", "audit_qq")


def read(folder: str | os.PathLike) -> "Findings":
    """Open the results of a finished run; its tables are read when they are first asked for.

    Parameters
    ----------
    folder : path-like
        ``results/<name>``.

    Raises
    ------
    UserError
        Where it has no tables, or they do not belong together.
    """
    folder = Path(folder)
    if not (folder / PROVENANCE).is_file():
        found = sorted(path.parent.name for path in folder.glob(f"*/{PROVENANCE}"))
        have = f"It holds the runs {listing(found)}: give one of them. " if found else ""
        what = "there are no finished results" if folder.is_dir() else "there is no such folder"
        raise UserError(what, os.fspath(folder), have or RUN)
    return Findings(folder, io.read_json(folder / PROVENANCE))


@dataclass(frozen=True, eq=False)
class Findings:
    """The tables of a run.

    Attributes
    ----------
    folder : Path
    provenance : dict
        As in ``provenance.json``: the ``run``, ``input``, ``formula``, ``methods``, ``config`` by stage, ``versions``,
        and of each of the ``cell_types`` its files' name (``slug``), sizes, and why it was ``skipped``.
    """

    folder: Path
    provenance: dict

    @property
    def name(self) -> str:
        """Name of the run, as of its folder."""
        return self.folder.resolve().name

    @property
    def methods(self) -> tuple[str, ...]:
        """``glmm``, ``pseudobulk`` or both."""
        return tuple(self.provenance["methods"])

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Names of those that were fitted."""
        return tuple(name for name, one in self.provenance["cell_types"].items() if not one.get("skipped"))

    @property
    def skipped(self) -> dict[str, str]:
        """Why each of the other cell types was not fitted."""
        return {name: one["skipped"] for name, one in self.provenance["cell_types"].items() if one.get("skipped")}

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Names, in the order of the configuration."""
        return tuple(self.contrasts_json["contrasts"])

    @property
    def config(self) -> dict[str, dict]:
        """What decided the results, by stage."""
        return self.provenance["config"]

    @property
    def family(self) -> str:
        """Of the cells."""
        return self.config["fit"]["family"]

    @cached_property
    def contrasts_json(self) -> dict:
        """The contrasts as resolved in each cell type, and what was left out."""
        return io.read_json(self.folder / "contrasts.json")

    @cached_property
    def effects(self) -> "pd.DataFrame":
        """One row per cell type, gene, contrast and method."""
        return self.table("effects")

    @cached_property
    def coefficients(self) -> "pd.DataFrame":
        """One row per cell type, fitted gene, method and coefficient."""
        return self.table("coefficients")

    @cached_property
    def variances(self) -> "pd.DataFrame":
        """One row per cell type, fitted gene, method and variance component."""
        return self.table("variances")

    @cached_property
    def priors(self) -> "pd.DataFrame":
        """One row per cell type, method and variance component."""
        return self.table("priors")

    @cached_property
    def fits(self) -> "pd.DataFrame":
        """One row per cell type, gene and method."""
        return self.table("fits")

    @cached_property
    def design(self) -> "pd.DataFrame":
        """One row per cell type and contrast."""
        return self.table("design")

    @cached_property
    def concordance(self) -> "pd.DataFrame | None":
        """Cells beside pseudobulk; None for a run with one method."""
        return self.table("concordance")

    @cached_property
    def stability(self) -> "pd.DataFrame | None":
        """Effects without each donor, of a run with one method; None for others."""
        return self.table("stability")

    @cached_property
    def audit(self) -> "pd.DataFrame | None":
        """The null audit; None where the run has none."""
        return self.table("audit")

    @cached_property
    def audit_qq(self) -> "pd.DataFrame | None":
        """Points of the audit's p-values; None where the run has none."""
        return self.table("audit_qq")

    def table(self, name: str) -> "pd.DataFrame | None":
        """Read a table; None for one that this run does not make.

        Raises
        ------
        UserError
            Where there is no table of this name, or its file is missing, damaged or may not be read.
        """
        import pandas as pd
        from pyarrow import ArrowException

        path = self.folder / f"{name}.parquet"
        if name not in TABLES:
            raise UserError(f"there is no table {name!r}", str(path), f"{nearest(name, TABLES)}Use {listing(TABLES)}.")
        if name in OPTIONAL and path.name not in self.provenance["files"]:
            return None
        try:
            return pd.read_parquet(path)
        except FileNotFoundError:
            raise UserError("the table is missing", str(path), RUN) from None
        except PermissionError:
            raise UserError("this file may not be read", str(path), "Ask its owner for read permission") from None
        except (ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"the table is damaged: {reason}", str(path), "Delete it and run again") from None

    @cached_property
    def _names(self) -> "pd.Series":
        """Symbol of every gene."""
        one = self.fits[["gene", "gene_name"]].drop_duplicates("gene")
        return one.set_index("gene")["gene_name"]

    def gene(self, text: str) -> str:
        """Return the gene as named in the tables, given its name or symbol in any case.

        Raises
        ------
        UserError
            Where there is none, with the nearest name, or where a symbol stands for several.
        """
        names = self._names
        if text in names.index:
            return text
        for same in (names == text, names.str.casefold() == text.casefold(), _folded(names.index, text)):
            found = list(names.index[same])
            if len(found) == 1:
                return found[0]
            if found:
                raise UserError(f"{len(found)} genes are called {text}", str(self.folder), f"Give {listing(found)}.")
        folded = {name.casefold(): name for name in (*names, *names.index)}
        close = "".join(f"Did you mean {folded[one]!r}? " for one in get_close_matches(text.casefold(), folded, n=1))
        do = f"{close}The tables have {len(names):,} genes, such as {listing(names.head(3), 3)}."
        raise UserError(f"there is no gene {text!r}", str(self.folder), do)

    def gene_name(self, gene: str) -> str:
        """Return the symbol of a gene; the gene itself where no symbols are known."""
        return self._names[gene]


def _folded(index, text: str):
    return index.str.casefold() == text.casefold()


def choose(wanted: str | None, there: tuple[str, ...], what: str, where: str) -> str:
    """Return what was asked for, or the only one there is.

    Parameters
    ----------
    wanted : str or None
    there : tuple of str
    what : str
        In words, such as ``cell type``.
    where : str
        For the message: the option or argument that chooses.

    Raises
    ------
    UserError
        Where it does not exist, or several do and none was asked for.
    """
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted in there:
        return wanted
    if not there:
        raise UserError(f"there is no {what} with results", where, "See summary.txt for why")
    problem = f"there are {len(there)} {what}s" if wanted is None else f"there is no {what} {wanted!r}"
    close = "" if wanted is None else nearest(wanted, there)
    raise UserError(problem, where, f"{close}Choose one of: {listing(there, 60)}")
