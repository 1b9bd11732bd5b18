"""The command describe: where results come from, and whether they belong together."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from mlmgen import columns, description, io, provenance
from mlmgen.errors import UserError, listing
from mlmgen.io import runs, sealed
from mlmgen.run_report import PROVENANCE, RECORDS, RUN, earlier

CONTRASTS = "contrasts.json"
GIVE = (
    "Give the folder of a run (results/<name>), or a .parquet, .tsv.gz, .npz, .h5ad, .h5, "
    f"{CONTRASTS}, {PROVENANCE} or {RUN} in it"
)
TABLES = (".parquet", ".tsv.gz")
OF_RUN = {f"{name}{suffix}" for name in columns.TABLES for suffix in TABLES}
# Of a run, beside the tables of its provenance; the last are made of the tables and say nothing of themselves.
OTHERS = ("design.parquet", "design.tsv.gz", "report.html")
SILENT = ("summary.txt", "report.html")
# Records of all cell types together, which say only the settings of the stage that wrote them.
OF_ALL_CELLS = {"Cells": "split", "Factors": "prepare"}
PIECE = 1 << 22  # bytes read at a time where every byte is looked at
RUN_AGAIN = "run the workflow again, which redoes only what is needed"


def describe(path: str, as_json: bool = False, threads: int = 1) -> None:
    """Print what is known of a run's folder or of one of its files.

    Parameters
    ----------
    path : str
    as_json : bool
        Print JSON, for programs, instead of text.
    threads : int
        Not used.

    Raises
    ------
    UserError
        If there is nothing of mlmgen, or a file is damaged.
    """
    found = described(Path(path))
    text = json.dumps(found, indent=1, ensure_ascii=False) if as_json else "\n".join(description.lines(found))
    sys.stdout.write(text + "\n")


def described(path: Path) -> dict:
    """Return what is known of a folder or file, for JSON: ``kind``, ``path``, ``warnings`` and what the kind has."""
    if path.is_dir() or path.name == PROVENANCE:
        return _folder(path if path.is_dir() else path.parent)
    if not path.is_file():
        raise UserError("there is no such file or folder", str(path), GIVE)
    if path.name == RUN:
        return {"kind": "job times", "path": str(path), "warnings": [], "wall": io.read_json(path)}
    if path.name.endswith(TABLES):
        return _table(path)
    if path.name == CONTRASTS:
        return _contrasts(path)
    kinds = {".npz": _record, ".h5ad": _prepared, ".h5": _runs}
    if path.suffix in kinds:
        if not sealed.is_sealed(path):
            what = "this is not a file that a run of mlmgen has made, or its end is missing"
            raise UserError(what, str(path), GIVE)
        return kinds[path.suffix](path)
    if path.name in SILENT:
        raise UserError("this kind of file says nothing of its origin", str(path), f"Give the folder, {path.parent}")
    raise UserError("only files that mlmgen has written can be described", str(path), GIVE)


def _record(path: Path) -> dict:
    name, meta, arrays = io.describe_record(path)
    if "stage" not in meta and name in OF_ALL_CELLS:
        stage = OF_ALL_CELLS[name]
        meta = meta | {"stage": stage, "settings": provenance.by_stage(stage, meta["settings"])}
    shapes = {key: list(shape) for key, shape in arrays.items()}
    return {"kind": "record", "path": str(path), "warnings": [], "class": name, **meta, "arrays": shapes}


def _contrasts(path: Path) -> dict:
    """Describe resolved contrasts, by themselves and as what the tables beside them were made with."""
    stored, beside = io.read_json(path), path.parent / PROVENANCE
    if not isinstance(stored, dict) or "made_from" not in stored:
        raise UserError("this does not say where it comes from", str(path), GIVE)
    own, warnings = stored["made_from"], list(stored["warnings"])
    if beside.exists() and (different := _different(own, io.read_json(beside))):
        warnings.append(f"it does not belong to the tables beside it: {listing(different, 4)}")
    known = {
        "contrasts": stored["contrasts"],
        "cell_types": list(stored["cell_types"]),
        "left_out": {name: reasons for name, reasons in stored["left_out"].items() if reasons},
    }
    return {"kind": "contrasts", "path": str(path), **own, **known, "warnings": warnings}


def _runs(path: Path) -> dict:
    _check_every_byte(path)
    with runs.reading(path) as found:
        known = {name: getattr(found, name) for name in ("cell_type", "n_cells", "n_genes")}
        known |= {"runs": len(found.runs), "input": found.checksum}
    return {"kind": "runs", "path": str(path), **known, "warnings": []}


def _check_every_byte(path: Path) -> None:
    """Raise a UserError where a sealed file is damaged anywhere; a piece of it is held at a time."""
    with sealed.Sealed(path) as file:
        while file.read(PIECE):
            pass


def _prepared(path: Path) -> dict:
    _check_every_byte(path)
    meta, statistics = io.read_meta(path), io.read_gene_statistics(path)
    numbers = {
        "coefficients": [] if meta["skipped"] else list(io.read_design(path).coefficients),
        "genes": len(statistics["gene"]),
        "counts": float(statistics["total_count"].sum()),
    }
    known = {key: value for key, value in meta.items() if key not in ("settings", "checksum")}
    config, data = {"prepare": meta["settings"]}, {"path": meta["settings"].get("input"), "sha256": meta["checksum"]}
    known |= {"config": config, "input": data, **numbers, "warnings": list(meta["warnings"])}
    return {"kind": "prepared", "path": str(path), **known}


def _folder(folder: Path) -> dict:
    """Describe a run: of its tables if there are any, else of what is done so far."""
    if not (folder / PROVENANCE).exists():
        return _unfinished(folder)
    found = io.read_json(folder / PROVENANCE)
    wall, warnings = _wall(folder, found["run"])
    files = {name: one | {"state": _state(folder / name, one)} for name, one in found["files"].items()}
    warnings += [*_of_files(folder, files, found), *_of_others(folder, files, found), *_of_times(folder, found)]
    shards = {name: _shards(folder, one["slug"], found["methods"]) for name, one in found["cell_types"].items()}
    cell_types = {name: one | {"shards": shards[name]} for name, one in found["cell_types"].items()}
    others = [name for name in OTHERS if name not in files and (folder / name).is_file()]
    known = found | {"files": files, "others": others, "cell_types": cell_types, "wall": wall}
    return {"kind": "run", "path": str(folder), **known, "warnings": warnings}


def _unfinished(folder: Path) -> dict:
    """Count what a run without tables has done so far."""
    patterns = {"prepare": "prepared/*.h5ad", **RECORDS}
    files = {stage: sorted(folder.glob(pattern)) for stage, pattern in patterns.items()}
    for stage in ("fit", "test"):
        folders = dict.fromkeys(path.parent for path in files[stage])
        files[stage] = [path for one in folders for path in _current(one, of_tables=False)]
    present = {stage: len(paths) for stage, paths in files.items() if paths}
    tables = sorted(path.name for path in folder.iterdir() if path.name in OF_RUN)
    if not present and not tables:
        raise UserError("there is nothing of mlmgen in this folder", str(folder), GIVE)
    warnings = [f"there is no {PROVENANCE}, which is written when all tables are complete: {RUN_AGAIN}"]
    if others := [name for name in tables if not name.startswith("design.")]:
        warnings.append(f"tables that are there may not belong together: {listing(others)}")
    settings, _ = earlier(folder)
    return {"kind": "unfinished run", "path": str(folder), "done": present, "config": settings, "warnings": warnings}


def _wall(folder: Path, run: str) -> tuple[dict | None, list[str]]:
    if not (folder / RUN).exists():
        return None, []
    wall = io.read_json(folder / RUN)
    return wall, [f"{RUN} is of another run than the tables"] * (wall["run"] != run)


def _state(path: Path, written: dict) -> str:
    if not path.is_file():
        return "missing"
    return "complete" if io.checksum(path) == written["sha256"] else "changed"


def _of_files(folder: Path, files: dict, found: dict) -> Iterator[str]:
    """Warn of tables that are not as they were written."""
    for name, one in files.items():
        if one["state"] == "missing":
            yield f"{name} is missing: {RUN_AGAIN}"
        elif one["state"] == "changed":
            yield f"{name} is not the file that was written with the others{_why(folder / name, found)}"


def _why(path: Path, found: dict) -> str:
    """Word how the provenance of a table differs from that of the set, as far as both know it."""
    if path.suffix != ".parquet":
        return ""
    try:
        own, _ = io.read_provenance(path)
    except UserError as error:
        return f": {error.what}"
    different = [] if own is None else _different(own, found)
    return f": {listing(different, 4)}" if different else ""


def _different(own: dict, found: dict) -> list[str]:
    """Compare two provenances where both say something.

    Designs are described before the fits: a library may be upgraded between them.
    """
    keys = ("input", "versions") if "run" in own else ("input",)
    common = [stage for stage in own.get("config", {}) if stage in found["config"]]
    pairs = [({stage: found["config"][stage] for stage in common}, {stage: own["config"][stage] for stage in common})]
    pairs += [({key: found[key]}, {key: own[key]}) for key in keys if key in own]
    return [
        f"{key} is {provenance.shown(there)} there and {provenance.shown(here)} in the others"
        for wanted, seen in pairs
        for key, here, there in provenance.differences(wanted, seen)
    ]


def _of_others(folder: Path, files: dict, found: dict) -> Iterator[str]:
    """Warn of tables of which the set does not know, or which were made with other settings."""
    for path in sorted(folder.glob("*.parquet")):
        if path.name in files:
            continue
        own, _ = io.read_provenance(path)
        if own is None or (path.stem != "design" and own.get("run") != found["run"]):
            yield f"{path.name} does not belong to the other tables{_why(path, found)}"
        elif different := _different(own, found):
            yield f"{path.name} does not belong to the other tables: {listing(different, 4)}"


def _of_times(folder: Path, found: dict) -> Iterator[str]:
    """Warn of tables that are older than what they were made from."""
    written = (folder / PROVENANCE).stat().st_mtime
    patterns = ("prepared/*.h5ad", "pseudobulk/*.h5ad", *RECORDS.values())
    newer = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.stat().st_mtime > written]
    if newer:
        names = listing((path.relative_to(folder) for path in newer), 4)
        yield f"{len(newer)} files are newer than the tables ({names}): {RUN_AGAIN}"
    data = Path(found["input"]["path"])
    for place in dict.fromkeys((data, folder.resolve().parent.parent / data)):
        if place.exists() and place.stat().st_mtime > written:
            yield f"the input {place} was changed after the tables were made: {RUN_AGAIN}"
            break


def _shards(folder: Path, slug: str, methods: list[str]) -> dict[str, int]:
    return {method: len(_current(folder / "fits" / method / slug, of_tables=True)) for method in methods}


def _current(folder: Path, of_tables: bool) -> list[Path]:
    """Return the shards of a cell type that belong together; those cut otherwise are of an earlier run.

    Parameters
    ----------
    folder : Path
    of_tables : bool
        Whether tables were made from them, which takes all of a set; else the newest set is what a run works on.
    """
    sets: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*-of-*.npz")):
        sets.setdefault(path.stem.rpartition("-")[2], []).append(path)

    def rank(number: str) -> tuple:
        complete, newest = str(len(sets[number])) == number, max(path.stat().st_mtime_ns for path in sets[number])
        return (complete, newest) if of_tables else (newest, complete)

    return sets[max(sets, key=rank)] if sets else []


def _table(path: Path) -> dict:
    """Describe one table, by itself and as one of its set."""
    beside = path.parent / PROVENANCE
    found = io.read_json(beside) if beside.exists() else None
    written = (found or {}).get("files", {}).get(path.name)
    warnings = []
    if path.suffix == ".parquet":
        own, rows = io.read_provenance(path)
    else:
        own, rows = (None, None) if written is None else (found, written["rows"])
    if own is None:
        do = f"Describe the .parquet beside it. {GIVE}" if path.suffix != ".parquet" else GIVE
        raise UserError("this table does not say where it comes from", str(path), do)
    if found is None:
        warnings.append(f"there is no {PROVENANCE} beside it: whether the other tables belong to it is not known")
    elif written is not None:
        warnings += _of_files(path.parent, {path.name: written | {"state": _state(path, written)}}, found)
    elif different := _different(own, found):
        warnings.append(f"it does not belong to the tables beside it: {listing(different, 4)}")
    known = {key: value for key, value in own.items() if key != "files"}
    return {"kind": "table", "path": os.fspath(path), **known, "rows": rows, "warnings": warnings}
