"""Where a file comes from: what its content was made of, and which files belong together."""

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from mlmgen import __version__
from mlmgen.errors import UserError, listing

EARLIER = "before"  # key of a stage's settings: those of the stages before it, by stage
ENGINE = ("numpy", "scipy", "numba", "h5py")  # what makes the numbers of a record
LIBRARIES = (*ENGINE, "pandas", "anndata", "formulaic", "pyarrow", "snakemake")
LONGEST_VALUE = 60  # characters of a setting in a message
SHOWN = 4  # differences and files named in a message
ABSENT = "absent"
DIGITS = 12  # of a checksum in a message


class Source(NamedTuple):
    """The prepared or pseudobulk file that a record is made from."""

    path: str
    meta: dict
    """From `mlmgen.io.read_meta`."""
    genes: tuple[str, ...]
    """All genes of the cell type."""


class Found(NamedTuple):
    """A record that was read and what it has to be."""

    path: str
    meta: dict
    expected: dict
    """From `record_meta`."""


def versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of mlmgen, Python and libraries; those not installed are left out."""
    found = {"mlmgen": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def by_stage(stage: str, settings: dict) -> dict[str, dict]:
    """Return the settings of a stage and of the stages before it, by stage.

    Parameters
    ----------
    stage : str
    settings : dict
        From `mlmgen.config.chain`. A command typed by hand may leave out everything; then nothing is known.
    """
    own = {key: value for key, value in settings.items() if key != EARLIER}
    return {**settings.get(EARLIER, {}), stage: own}


def source(path: str | os.PathLike, meta: dict, genes: Sequence[str], settings: dict) -> Source:
    """Describe a prepared or pseudobulk file.

    Parameters
    ----------
    path : path-like
    meta : dict
        From `mlmgen.io.read_meta`.
    genes : sequence of str
    settings : dict
        Of the stage that reads it.

    Raises
    ------
    UserError
        Where the file was made with another configuration than the one of this run.
    """
    wanted, seen = settings.get(EARLIER, {}).get("prepare"), meta.get("settings", {})
    if wanted is not None:
        refuse([(str(path), differences({"prepare": wanted}, {"prepare": seen}))])
    return Source(str(path), meta, tuple(genes))


def of_another_level(of_cells: Source) -> Source:
    """Describe the sums of samples by the prepared file of the cells: all but the bytes of the file are the same."""
    return of_cells._replace(meta={key: value for key, value in of_cells.meta.items() if key != "seal"})


def record_meta(
    stage: str,
    made_from: Source,
    method: str,
    settings: dict,
    shard: tuple[int, int] | None = None,
    covered: tuple[int, int] | None = None,
) -> dict:
    """Say what a record is made from: the same for what is written and for what is expected.

    Parameters
    ----------
    stage : str
    made_from : Source
    method : {"glmm", "pseudobulk"}
    settings : dict
        Of the stage, with those of earlier ones.
    shard : (int, int), optional
        Which of how many; None for a record of the whole cell type.
    covered : (int, int), optional
        The first gene and the one after the last; all where not given.

    Returns
    -------
    dict
        For JSON. ``settings`` is by stage.
    """
    meta, n_genes = made_from.meta, len(made_from.genes)
    start, stop = covered or (0, n_genes)
    digest = hashlib.sha256(json.dumps(made_from.genes, ensure_ascii=False).encode()).hexdigest()
    return {
        "stage": stage,
        "method": method,
        "cell_type": meta["cell_type"],
        "shard": None if shard is None else f"{shard[0]} of {shard[1]}",
        "genes": {"start": start, "stop": stop, "of": n_genes, "names": digest},
        "input": meta.get("checksum", ""),
        **({"prepared": meta["seal"]} if "seal" in meta else {}),
        "reference": meta.get("reference", {}),
        "settings": by_stage(stage, settings) | {"prepare": meta.get("settings", {})},
        "versions": versions(ENGINE),
    }


def expected(stage: str, made_from: Source, method: str, settings: dict, *shard: tuple[int, int]) -> dict:
    """Say what a record of an earlier stage has to be made from.

    Parameters
    ----------
    stage, made_from, method
        As for `record_meta`.
    settings : dict
        Of the stage that reads it, with those of earlier ones; what they do not hold is not expected.
    *shard : (int, int)
        ``shard`` and ``covered`` of `record_meta`.
    """
    known = {**settings.get(EARLIER, {}), "prepare": made_from.meta.get("settings", {})}
    return record_meta(stage, made_from, method, {}, *shard) | {"settings": known}


def completed(settings: dict, metas: Iterable[dict]) -> dict:
    """Return the settings of a stage with earlier ones, of which a command typed by hand only knows what it reads."""
    read = {stage: value for meta in metas for stage, value in meta["settings"].items()}
    return settings | {EARLIER: {**read, **settings.get(EARLIER, {})}}


def differences(wanted: dict, seen: dict, prefix: str = "") -> list[tuple[str, object, object]]:
    """Compare nested dicts.

    Returns
    -------
    list of (key, wanted, seen)
        Dotted keys; `ABSENT` for a value that is not there.
    """
    found = []
    for key in sorted({*wanted, *seen}):
        here, there = wanted.get(key, ABSENT), seen.get(key, ABSENT)
        if isinstance(here, dict) and isinstance(there, dict):
            found += differences(here, there, f"{prefix}{key}.")
        elif here != there:
            found.append((f"{prefix}{key}", here, there))
    return found


def check(found: Sequence[Found]) -> None:
    """Refuse records that do not belong to this run.

    A stage that is not in the expected settings, of a command typed by hand, is compared with the first file. Method
    versions are settings, so that another one is refused. Shards of one stage and cell type have to be of one
    release of mlmgen; between stages the method versions decide, so that an upgrade which leaves the fits as they are
    does not ask for new ones. Other versions of libraries only change last digits: see `mixed_versions`.

    Raises
    ------
    UserError
        One for all files, with what differs and how to go on.
    """
    known = {stage: value for one in reversed(found) for stage, value in one.meta["settings"].items()}
    releases = {}
    refused = []
    for one in found:
        wanted, seen = dict(one.expected), {key: one.meta.get(key, ABSENT) for key in one.expected}
        stages = [stage for stage in seen["settings"] if stage in wanted["settings"] or stage in known]
        wanted["settings"] = {stage: wanted["settings"].get(stage, known[stage]) for stage in stages}
        release = one.meta["versions"]["mlmgen"]
        group = (one.meta["stage"], one.meta["method"], one.meta["cell_type"])
        wanted["versions"], seen["versions"] = {"mlmgen": releases.setdefault(group, release)}, {"mlmgen": release}
        refused.append((one.path, differences(wanted, seen)))
    refuse(refused)


def refuse(refused: Sequence[tuple[str, list]]) -> None:
    """Raise a UserError for files that differ from what they have to be, if there are any.

    Parameters
    ----------
    refused : sequence of (path, list as from `differences`)
    """
    paths = [path for path, different in refused if different]
    if not paths:
        return
    texts = dict.fromkeys(
        _words(key.removeprefix("settings."), here, there)
        for _, different in refused
        for key, here, there in _most_telling(different)
    )
    what = f"{len(paths)} file{'s are' if len(paths) > 1 else ' is'} not of this run: {listing(texts, SHOWN)}"
    raise UserError(what, listing(paths, SHOWN), f"Delete and run again: rm -r {_deleted(paths)}")


def _words(key: str, here: object, there: object) -> str:
    if key == "genes.names":
        return "its genes are not those of this run"
    if key == "prepared":
        return "it was made from another prepared file"
    if key == "input":
        return f"its input has the checksum {str(there)[:DIGITS]}..., that of this run {str(here)[:DIGITS]}..."
    return f"{key} is {shown(there)} there and {shown(here)} in this run"


def _most_telling(different: list) -> list:
    """Leave out digests, which say nothing to a person, where something else differs as well."""
    words = [one for one in different if one[0] not in ("prepared", "genes.names")]
    return words or different


def shown(value: object) -> str:
    """Write a setting for a message, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _deleted(paths: list[str]) -> str:
    """Name what to delete: the files, or the folders of many."""
    if len(paths) > SHOWN:
        paths = list(dict.fromkeys(str(Path(path).parent) for path in paths))
    if len(paths) > SHOWN:
        paths = [os.path.commonpath(paths)]
    return shlex.join(paths)


def mixed_versions(metas: Iterable[dict]) -> dict[str, str]:
    """Return the versions with which records were made, several of a library joined by ``, ``."""
    seen: dict[str, set[str]] = {}
    for meta in metas:
        for name, number in meta["versions"].items():
            seen.setdefault(name, set()).add(number)
    return {name: ", ".join(sorted(numbers)) for name, numbers in seen.items()}


def of_results(sources: Sequence[Source], records: Iterable[dict], methods: Sequence[str], settings: dict) -> dict:
    """Say where result tables come from, in the same words for the same input, configuration and versions.

    Parameters
    ----------
    sources : sequence of Source
        The prepared file of each cell type.
    records : iterable of dict
        Meta of every record that was read.
    methods : sequence of str
    settings : dict
        Of the stage tables, with those of earlier ones.

    Returns
    -------
    dict
        For JSON. ``config`` holds what decides the results, by stage; ``run`` is a digest of all the rest.
    """
    prepare = sources[0].meta.get("settings", {})
    config = by_stage("tables", settings) | {"prepare": prepare}
    config["tables"] = {key: value for key, value in config["tables"].items() if key != "name"}  # it decides nothing
    found = {
        "input": {"path": prepare.get("input", ""), "sha256": sources[0].meta.get("checksum", "")},
        "formula": prepare.get("formula", ""),
        "methods": list(methods),
        "cell_types": {one.meta["cell_type"]: _described(one) for one in sources},
        "genes": len(sources[0].genes),
        "seed": config.get("audit", {}).get("seed"),
        "config": config,
        "versions": versions() | mixed_versions([*records, {"versions": versions(ENGINE)}]),
    }
    return {"run": digest(found), **found}


def of_designs(metas: Sequence[dict], settings: dict) -> dict:
    """Say where resolved contrasts and the table of designs come from.

    Parameters
    ----------
    metas : sequence of dict
        Of the prepared files, from `mlmgen.io.read_meta`.
    settings : dict
        Of the stage contrasts.

    Returns
    -------
    dict
        For JSON; the same keys as from `of_results`, as far as they are known before the fits.
    """
    prepare = metas[0].get("settings", {})
    return {
        "input": {"path": prepare.get("input", ""), "sha256": metas[0].get("checksum", "")},
        "formula": prepare.get("formula", ""),
        "config": by_stage("contrasts", settings) | {"prepare": prepare},
        "versions": versions(),
    }


def check_designs(path: str | os.PathLike, made_from: dict, sources: Sequence[Source], settings: dict) -> None:
    """Refuse contrasts that were not resolved in this run.

    Parameters
    ----------
    path : path-like
        ``contrasts.json``.
    made_from : dict
        What it says, from `of_designs`.
    sources : sequence of Source
        The prepared files.
    settings : dict
        Of the stage tables, with those of earlier ones.
    """
    wanted = of_designs([one.meta for one in sources], {})
    known = {"prepare": wanted["config"]["prepare"]}
    known |= {stage: value for stage, value in settings.get(EARLIER, {}).items() if stage == "contrasts"}
    seen = {stage: made_from.get("config", {}).get(stage, {}) for stage in known}
    here = {"settings": known, "input": wanted["input"]}
    refuse([(str(path), differences(here, {"settings": seen, "input": made_from.get("input", {})}))])


def _described(one: Source) -> dict:
    keys = ("n_cells", "n_donors", "skipped", "reference")
    return {"slug": Path(one.path).stem} | {key: one.meta[key] for key in keys if key in one.meta}


def digest(content: dict) -> str:
    """Return 16 hexadecimal digits for the content of a dict."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def changes(earlier: dict[str, dict], now: dict[str, dict]) -> Iterator[str]:
    """Word what a run redoes and why.

    Parameters
    ----------
    earlier, now : dict of str to dict
        Settings by stage: those of the results that are there, those of the run that begins.
    """
    for stage in (stage for stage in now if stage in earlier):
        for key, new, old in differences(now[stage], earlier[stage]):
            if key == "method_version":
                yield f"{stage} {old} -> {new}: results of an earlier version of this method are redone"
            else:
                yield f"{stage}.{key} was {shown(old)} and is {shown(new)}: {stage} and what follows are redone"
