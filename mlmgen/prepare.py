"""From raw counts of all cells to one design and one gene-major matrix per cell type.

Functions of arrays and tables; `mlmgen.stages` reads and writes the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlmgen import design as designs
from mlmgen import formula as formulas
from mlmgen import sizefactors
from mlmgen.errors import UserError, listing
from mlmgen.formula import Formula
from mlmgen.names import text
from mlmgen.obs_columns import natural_key
from mlmgen.types import Design


@dataclass(frozen=True)
class CellType:
    """The cells of one cell type that are analysed.

    Attributes
    ----------
    name : str
    rows : (n,) int64
        Their rows in the input, in the order of the design; of a skipped cell type, sorted by donor.
    design : Design or None
        None for a cell type that is skipped.
    n_donors : int
    skipped : str
        Why no gene can be fitted, or empty.
    warnings : tuple of str
    """

    name: str
    rows: np.ndarray
    design: Design | None
    n_donors: int
    skipped: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What all cell types have in common.

    Attributes
    ----------
    formula : Formula
    donor : str
    sample : str or None
    reference : dict of str to str
        Reference level of every categorical variable of the fixed effects and slopes.
    filters : dict
        ``min_cells_per_donor``, ``min_donors_per_arm``.
    where : str
        The file, for messages.
    """

    formula: Formula
    donor: str
    sample: str | None
    reference: dict[str, str]
    filters: dict
    where: str


def plan(
    obs: pd.DataFrame, formula: Formula, settings: dict, where: str, methods: Sequence[str] = ()
) -> tuple[Plan, tuple[str, ...]]:
    """Check all selected cells together and decide what their cell types have in common.

    Parameters
    ----------
    obs : DataFrame
        All selected cells.
    formula : Formula
    settings : dict
        ``donor``, ``sample``, ``reference``, ``filters``.
    where : str
        The file, for messages.
    methods : sequence of str
        As for `mlmgen.design.check`.

    Returns
    -------
    plan : Plan
    warnings : tuple of str

    Raises
    ------
    UserError
        For a problem of the whole data set.
    """
    donor, sample, filters = settings["donor"], settings["sample"], settings["filters"]
    least = filters["min_donors_per_arm"]
    warnings = designs.check(obs, formula, donor, sample, settings["reference"], least, where=where, methods=methods)
    reference = designs.references(obs, formula, settings["reference"])
    return Plan(formula, donor, sample, reference, filters, where), warnings


def used_columns(settings: dict, formula: Formula) -> dict[str, str]:
    """Return the obs columns that are needed, each with the configuration key that names it."""
    keys = {settings[key]: key for key in ("cell_type", "sample", "donor") if settings[key] is not None}
    of_formula = dict.fromkeys(formulas.variables(formula), "formula")
    if settings["size_factors"].startswith("obs/"):
        keys[settings["size_factors"].removeprefix("obs/")] = "size_factors"
    return of_formula | keys


def check_unique(names: np.ndarray, kind: str, where: str, remedy: str) -> None:
    """Raise a UserError for names that occur more than once.

    Parameters
    ----------
    names : (n,) of str
    kind : str
        ``cell`` or ``gene``.
    where, remedy : str
        For the message.
    """
    repeated = pd.Index(names).duplicated()
    if repeated.any():
        seen = list(dict.fromkeys(names[repeated]))
        names = f"{kind} name occurs" if len(seen) == 1 else f"{kind} names occur"
        raise UserError(f"{len(seen):,} {names} more than once: {listing(seen, 5)}", where, remedy)


def labels(column: pd.Series) -> np.ndarray:
    """Return a column as text, None where a value is missing, (n,) object."""
    values = column.astype("category")
    names = np.array([text(value) for value in values.cat.categories.tolist()] + [None], dtype=object)
    return names[values.cat.codes.to_numpy()]


def codes(obs: pd.DataFrame, column: str | None, selected: Sequence[str], everything: bool, where: str) -> np.ndarray:
    """Return the place of each cell's type among the selected ones, -1 for cells of no selected type.

    Parameters
    ----------
    obs : DataFrame
    column : str or None
        None puts all cells in one type.
    selected : sequence of str
    everything : bool
        Whether all types are selected; a cell without a label is then an error.
    where : str

    Returns
    -------
    (n,) int64
    """
    if column is None:
        return np.zeros(len(obs), dtype=np.int64)
    names = labels(obs[column])
    missing = sum(name is None for name in names)
    if missing and everything:
        do = "Give these cells a label, or list the cell types to analyse in cell_types"
        raise UserError(f"{missing:,} of {len(names):,} cells have no cell type", f"{where}, obs column {column!r}", do)
    place = {name: i for i, name in enumerate(selected)}
    return np.array([place.get(name, -1) for name in names], dtype=np.int64)


def size_factors(
    kind: str, obs: pd.DataFrame, total: np.ndarray, chosen: np.ndarray, factor: np.ndarray | None
) -> np.ndarray:
    """Return the size factors of some cells, as the configuration chooses.

    Parameters
    ----------
    kind : str
        ``library``, ``tmm`` or ``obs/<column>``.
    obs : DataFrame
        Of the m chosen cells.
    total : (n,) float64
        Total count of each cell of the input.
    chosen : (m,) int64
        Rows of the input.
    factor : (m,) float64 or None
        For ``tmm`` the factor of each cell's sample.

    Returns
    -------
    (m,) float64
        ``library`` relates to the mean over all cells of the input, selected or not; ``tmm`` multiplies it.
    """
    if kind.startswith("obs/"):
        column = kind.removeprefix("obs/")
        return sizefactors.given(obs[column].to_numpy(), column, obs.index)
    library = sizefactors.library(total)[chosen]
    return library if kind == "library" else library * factor


def samples(obs: pd.DataFrame, plan: Plan) -> np.ndarray:
    """Number the samples over all cell types, (n,) int64 from 0; factors constant within donors split nothing."""
    factors = [name for name in formulas.fixed_variables(plan.formula) if name in plan.reference]
    by = [plan.sample] if plan.sample else list(dict.fromkeys([plan.donor, *factors]))
    return obs.groupby(by, observed=True).ngroup().to_numpy()


def cell_type(name: str, rows: np.ndarray, obs: pd.DataFrame, size: np.ndarray, plan: Plan) -> CellType:
    """Filter the cells of a cell type and build its design, or say why it is skipped.

    Parameters
    ----------
    name : str
    rows : (m,) int64
        Rows of its cells in the input.
    obs : DataFrame
        Of these cells.
    size : (m,) float64
        Their size factors.
    plan : Plan
    """
    donor, where = labels(obs[plan.donor]), f"{plan.where}, cell type {name}"
    keep, notes = large_donors(donor, plan.filters["min_cells_per_donor"])
    kept = obs[keep]
    arguments = (kept, plan.formula, plan.donor, plan.sample, plan.reference)
    if keep.any():
        skipped, more = designs.review(*arguments, plan.filters["min_donors_per_arm"], where)
        notes += more
    else:
        notes = []
        most = pd.Series(donor).value_counts().max() if len(donor) else 0
        skipped = f"no donor has {plan.filters['min_cells_per_donor']} cells (min_cells_per_donor); the most is {most}"
    n_donors = len(set(donor[keep]))
    if skipped:
        levels = sorted(set(donor[keep]), key=natural_key)
        order = np.argsort(pd.Categorical(donor[keep], categories=levels).codes, kind="stable")
        return CellType(name, rows[keep][order], None, n_donors, skipped, tuple(notes))
    design, order = designs.build(*arguments, size[keep], where)
    return CellType(name, rows[keep][order], design, n_donors, "", tuple(notes))


def large_donors(donor: np.ndarray, fewest: int) -> tuple[np.ndarray, list[str]]:
    """Find the cells whose donor has enough of them.

    Parameters
    ----------
    donor : (m,) of str
    fewest : int

    Returns
    -------
    keep : (m,) bool
    warnings : list of str
        Naming the donors that are left out.
    """
    counts = pd.Series(donor, dtype=object).value_counts()
    small = sorted(counts.index[counts < fewest], key=natural_key)
    if not small:
        return np.ones(len(donor), dtype=bool), []
    seen = listing(f"{name} ({counts[name]})" for name in small)
    return ~np.isin(donor.astype(str), small), [f"donors with fewer than {fewest} cells are left out: {seen}"]


def cell_table(obs: pd.DataFrame, size: np.ndarray, design: Design | None) -> pd.DataFrame:
    """Return obs of a prepared file: the used columns with size factor, pattern and sample.

    Parameters
    ----------
    obs : DataFrame
        The cells in the order of the design.
    size : (n,) float64
    design : Design or None
        None for a skipped cell type, whose cells have no pattern and no sample.
    """
    # anndata writes neither mixed objects nor pandas' own strings
    kinds = (pd.CategoricalDtype, pd.StringDtype)
    table = obs.copy()
    for name, dtype in table.dtypes.items():
        if dtype == np.dtype(object) or isinstance(dtype, kinds):
            table[name] = pd.Categorical(labels(table[name]))
    table["size_factor"] = size
    if design is not None:
        table["pattern"] = design.pattern
        levels, codes = design.sample.levels, design.sample.codes[design.pattern]
        table[_free("sample", table)] = pd.Categorical.from_codes(codes, categories=list(levels))
    return table


def sample_table(obs: pd.DataFrame, cells: Design, samples: Design) -> pd.DataFrame:
    """Return obs of a pseudobulk file: one row per sample, named after it.

    Parameters
    ----------
    obs : DataFrame
        Of the prepared file.
    cells, samples : Design
        Of the cells and of their sums.

    Returns
    -------
    DataFrame
        The columns of `obs` that are constant within samples, ``n_cells``, ``size_factor`` (the sum over the
        cells) and ``pattern``.
    """
    code = cells.sample.codes[cells.pattern]
    groups = obs.groupby(code, observed=True)
    constant = [name for name in obs.columns if (groups[name].nunique() <= 1).all()]
    table = groups[constant].first()
    table.index = pd.Index(samples.sample.levels, dtype=object)
    table["n_cells"] = np.bincount(code, minlength=len(table)).astype(np.int32)
    table["size_factor"] = np.exp(samples.log_size - samples.offset)
    table["pattern"] = samples.pattern
    return table


def _free(name: str, table: pd.DataFrame) -> str:
    """Return a column name that is not taken by a column of the user's."""
    return f"mlmgen_{name}" if name in table.columns else name
