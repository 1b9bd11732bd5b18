"""Run the calibration study and print its tables.

    python -m benchmarks.calibration --results FOLDER [--settings "3 v 3" onek1k ...] [--data-sets 10] [--hours 2]
                                     [--programs glmm pseudobulk "edgeR QL" ...] [--python PYTHON] [--redo glmm ...]
    python -m benchmarks.calibration --results FOLDER --table

What was run is not run again, so that a study can be stopped and extended. Settings are chosen by any part of their
names, or by a name in full. ``--python`` is the interpreter that has edgePython and PyDESeq2. ``--redo`` runs programs
again where the results are of other code than the present one; stopped, it goes on where it was.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.calibration import others, ours, real, store, tables
from benchmarks.calibration.settings import SIMULATED
from benchmarks.calibration.simulated import simulated
from mlmgen import __version__

# Splits of a real null: all that 8 donors have.
SPLITS = 35
# Data sets of slow programs, the first of each setting; of glmmTMB in some settings alone.
SLOW = {"NEBULA-LN": 3, "DESeq2": 5, "PyDESeq2": 2, "edgeR 5 QL (edgePython)": 5, "glmmTMB": 2}
SETTINGS_OF_GLMMTMB = (
    "3 v 3",
    "6 v 6, covariate of cells",
    "4 pairs, response SD 0.2",
    "6 donors over time, slope SD 0.1",
)
PROGRAMS = (*ours.METHODS, *others.IN_R, *others.IN_PYTHON)
# Of real nulls, where error control is what counts: ours, the judge, and what is used most on cells.
OF_REAL = (*ours.METHODS, "edgeR QL", "NEBULA-LN", "edgeR 5 QL (edgePython)")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--results", type=Path, default=Path("calibration-results"), metavar="FOLDER")
    arguments.add_argument("--hours", type=float, default=np.inf, help="start no data set after this time")
    arguments.add_argument("--settings", nargs="+", default=[""], metavar="PART", help="parts of names; all by default")
    arguments.add_argument("--data-sets", type=int, default=10, help="of each simulated setting")
    arguments.add_argument("--splits", type=int, default=SPLITS, help="of each real null, at most")
    arguments.add_argument("--programs", nargs="+", default=PROGRAMS, choices=PROGRAMS)
    arguments.add_argument("--python", default=sys.executable, help="interpreter with edgePython and PyDESeq2")
    arguments.add_argument("--redo", nargs="+", default=[], choices=PROGRAMS)
    arguments.add_argument("--all-slow", action="store_true", help="slow programs on every data set of every setting")
    arguments.add_argument("--list", action="store_true", help="print the names of the settings")
    arguments.add_argument("--table", action="store_true", help="print the tables of the results")
    chosen = arguments.parse_args()
    names = settings_named(chosen.settings)
    if chosen.list:
        print("\n".join(names))
    elif chosen.table:
        tables.show(chosen.results)
    else:
        study(names, chosen)


def settings_named(parts: list[str]) -> list[str]:
    """Return the settings of these names, or with these parts in their names."""
    names = (*SIMULATED, *real.REAL)
    return [name for name in names if any(name == part if part in names else part in name for part in parts)]


def study(names: list[str], chosen: argparse.Namespace) -> None:
    """Run what is not there yet, setting by setting, until all is done or the time is over."""
    start = time.monotonic()
    pending = plan(names, available(chosen.programs, chosen.python), chosen)
    print(f"{len(pending):,} data sets to do", flush=True)
    spent: dict[str, list[float]] = {}
    for k, (name, number, todo) in enumerate(pending):
        begun = time.monotonic()
        if begun - start > 3600 * chosen.hours:
            print(f"stopped before {name}, data set {number}: {chosen.hours:g} hours are over", flush=True)
            return
        said = one(name, number, todo, chosen)
        spent.setdefault(name, []).append(time.monotonic() - begun)
        left = minutes_left([later for later, *_ in pending[k + 1 :]], spent)
        print(f"[{k + 1:,}/{len(pending):,}] {name}, data set {number}: {said}; {left:.0f} min left", flush=True)


def plan(names: list[str], programs: list[str], chosen: argparse.Namespace) -> list[tuple[str, int, list[str]]]:
    """List what is to do as setting, number of the data set, and programs."""
    found = []
    for name in names:
        why = real.missing(real.REAL[name]) if name in real.REAL else ""
        if why:
            print(f"{name}: skipped, {why}", flush=True)
            continue
        for number in range(1, data_sets(name, chosen) + 1):
            table = store.read_one(chosen.results, name, number)
            wanted = [program for program in programs if chosen.all_slow or in_time(name, number, program)]
            todo = [p for p in wanted if p not in store.programs(table) or is_stale(table, p, chosen.redo)]
            if todo:
                found.append((name, number, todo))
    return found


def in_time(name: str, number: int, program: str) -> bool:
    """Tell whether a program is fast enough for a data set, and of interest there."""
    if name in real.REAL and program not in OF_REAL:
        return False
    return number <= SLOW.get(program, number) and (program != "glmmTMB" or name in SETTINGS_OF_GLMMTMB)


def is_stale(table, program: str, redo: list[str]) -> bool:
    """Tell whether results are to be made again: asked for, and not of the present code."""
    return program in redo and not store.is_of(table, program, code(program))


def code(program: str) -> str:
    """Return a digest of the code behind a program's results."""
    return store.code("ours" if program in ours.METHODS else "others")


def minutes_left(settings: list[str], spent: dict[str, list[float]]) -> float:
    """Return the minutes that data sets of these settings will take; as the mean of all where none was run yet."""
    every = np.mean([seconds for values in spent.values() for seconds in values])
    return sum(float(np.mean(spent.get(name, every))) for name in settings) / 60.0


def available(programs, python: str) -> list[str]:
    """Return the programs that can be run; say why the others cannot."""
    found = []
    for program in programs:
        why = "" if program in ours.METHODS else others.missing(program, python)
        if why:
            print(f"{program}: skipped, {why}", flush=True)
        else:
            found.append(program)
    return found


def data_sets(name: str, chosen: argparse.Namespace) -> int:
    """Return how many data sets a setting has: splits of a real null, but not more than there are."""
    if name in SIMULATED:
        return chosen.data_sets
    return min(chosen.splits, real.number_of_splits(real.REAL[name]))


def one(name: str, number: int, todo: list[str], chosen: argparse.Namespace) -> str:
    """Run programs on one data set and write the table; return what happened in words."""
    data = simulated(SIMULATED[name], number) if name in SIMULATED else real.split(real.REAL[name], number)
    table, said = store.read_one(chosen.results, name, number), []
    table = store.truth(data) if table is None else table
    for program in todo:
        if program in ours.METHODS:
            found = ours.run(program, data), __version__
        else:
            found = others.run(program, data, chosen.python)
        if isinstance(found, str):
            said.append(f"{program} failed, {found}")
            continue
        said.append(f"{program} {found[0]['seconds']:.1f} s")
        table = store.add(table, program, found[0] | {"code": code(program)})
        store.note_version(chosen.results, "mlmgen" if program in ours.METHODS else program, found[1])
    store.write(chosen.results, name, number, table)
    return ", ".join(said)


if __name__ == "__main__":
    main()
