"""What `mlmgen run` shows of the workflow: one line on a terminal, a line now and then elsewhere; and why it failed."""

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlmgen import terminal
from mlmgen.checking import Planned
from mlmgen.progress import roughly, say
from mlmgen.time_left import History, Left, Started, left, running

# s between two lines where the output is no terminal; the first ones come sooner.
BETWEEN_LINES, FIRST_LINES = 30.0, 10.0
BAR = 20  # characters
LAST_LINES = 12  # of a log, where nothing else says what went wrong
MOST_FAILED = 3
OF_MLMGEN = "mlmgen: error: "
LOCKED = "cannot be locked"
CLEAR = "\r\033[K"


class Shown(NamedTuple):
    """What was shown last: when, and how often."""

    time: float = 0.0
    times: int = 0


class Failure(NamedTuple):
    """What to print after a failure, and whether the user can correct it."""

    lines: tuple[str, ...]
    of_user: bool


def show(shown: Shown, history: History, plan: Planned, cores: int, now: float) -> Shown:
    """Show how far the run is, if it is time to.

    Parameters
    ----------
    shown : Shown
        What the last call returned.
    history : History
    plan : Planned
    cores : int
    now : float
        Seconds since 1970.
    """
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size((80, 24)).columns
        sys.stderr.write(CLEAR + text(history, plan, cores, now, bar=True)[: columns - 1])
        sys.stderr.flush()
        return Shown(now, shown.times + 1)
    if not history.jobs or now - shown.time < (FIRST_LINES if shown.times < 3 else BETWEEN_LINES):
        return shown
    say(text(history, plan, cores, now, bar=False))
    return Shown(now, shown.times + 1)


def clear() -> None:
    """Remove the line from the terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(CLEAR)
        sys.stderr.flush()


def text(history: History, plan: Planned, cores: int, now: float, bar: bool) -> str:
    """Word how far the run is: ``12 of 84 jobs, 21 %, about 2 min left: fit B cells (glmm), test ...``."""
    if not history.jobs:
        return "reading the data set and planning the jobs ..."
    going = running(history)
    seen: Left = left(history, plan.jobs, cores, now)
    percent = min(int(100 * seen.share), 99 if seen.done < seen.total else 100)
    filled = BAR * percent // 100
    drawn = f"[{'=' * filled}{' ' * (BAR - filled)}] " if bar else ""
    remains = f"about {roughly(seen.seconds)} left" if seen.done < seen.total else "finishing"
    named = [_job(one, plan) for one in going[:2]] + ([f"{len(going) - 2} more"] if len(going) > 2 else [])
    at = f": {', '.join(named)}" if named else ""
    return f"{drawn}{percent} %, {seen.done:,} of {seen.total:,} jobs, {remains}{at}"


def _job(one: Started, plan: Planned) -> str:
    name = plan.cell_types.get(one.cell_type, one.cell_type)
    return " ".join(filter(None, (one.rule, name, f"({one.method})" if one.method else "")))


def failure(history: History, log: Path, config: str) -> Failure:
    """Return what went wrong: what mlmgen said, else the jobs that failed, else the end of the log.

    Parameters
    ----------
    history : History
    log : Path
        What Snakemake printed.
    config : str
        The configuration's file.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    said = dict.fromkeys(line.strip() for line in lines if line.strip().startswith(OF_MLMGEN))
    if said:
        own = [terminal.error(line.removeprefix(OF_MLMGEN), sys.stderr) for line in said]
        return Failure((*own, f"(log: {log})"), True)
    if any(LOCKED in line for line in lines):
        what = "the working directory is locked by a run that goes on, or by one that was killed"
        do = f"Wait for it; if there is none, unlock the directory: mlmgen run {shlex.quote(config)} -- --unlock"
        return Failure((terminal.error(f"{what}. {do}", sys.stderr),), True)
    failed = [f"a job of {one.rule} failed{_end(one.logs)}" for one in history.failed[:MOST_FAILED]]
    if not failed:
        end = [line for line in lines if line.strip()][-LAST_LINES:]
        failed = ["the workflow failed; the end of its log:", *(f"  {line}" for line in end)]
    first, *others = failed
    return Failure((terminal.error(first, sys.stderr), *others, f"(log: {log})"), False)


def _end(logs: Sequence[str]) -> str:
    """Quote the last lines of the log of a job."""
    for name in logs:
        path = Path(name)
        if path.is_file():
            lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            if lines and not re.match(r"\$ mlmgen", lines[-1]):
                return f" (log: {path}): {lines[-1]}"
            return f" (log: {path}), without a word: it was killed, or there was too little memory"
    return ""
