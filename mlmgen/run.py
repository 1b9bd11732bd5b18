"""The command run: starts the workflow, shows how far it is, and says what came out."""

import contextlib
import fcntl
import os
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlmgen import checking, cores, display, jobs, run_report, terminal, time_left
from mlmgen.checking import Planned
from mlmgen.errors import UserError, nearest
from mlmgen.progress import duration, roughly, say
from mlmgen.time_left import Event, History

EVENTS = "workflow_events.py"
SNAKEFILE = "workflow/Snakefile"
LOG = Path("logs/run.log")  # in the folder of the results
# What profiles/default says, which is found beside the repository's Snakefile alone.
DEFAULTS = ("--rerun-incomplete", "--show-failed-logs", "--max-checksum-file-size", "1000000000")
QUIET = ("--quiet", "host", "reason")
# Options of Snakemake that say where and how many jobs run.
ELSEWHERE = ("--executor", "-e", "--profile", "--workflow-profile", "--jobs", "-j")
TICK = 1.0  # s between two looks at the clock
KILLED = 128  # and the number of the signal: exit code of a shell
INTERRUPTED = 130  # exit code of a shell for what Ctrl-C ended


class Ended(NamedTuple):
    """How Snakemake ended: its exit code, what it said about jobs, and whether it was interrupted."""

    code: int
    history: History
    interrupted: bool


def run(
    config: str,
    cores: int | None = None,
    dry_run: bool = False,
    until: str | None = None,
    snakemake: Sequence[str] = (),
    threads: int = 1,
) -> None:
    """Run the workflow of a configuration in the working directory.

    Parameters
    ----------
    config : str
        The configuration's file.
    cores : int, optional
        Jobs at once; those that this process may use if not given.
    dry_run : bool
        Say what would be done, and do nothing.
    until : str, optional
        The rule to stop after.
    snakemake : sequence of str
        More arguments for Snakemake.
    threads : int
        Not used.

    Raises
    ------
    UserError
        For a configuration or an input that is wrong.
    SystemExit
        With Snakemake's exit code, 2 for what the user can correct, 130 after Ctrl-C.
    """
    number = _cores(cores)
    plan = checking.planned(config, number)
    if until is not None and until not in jobs.RULES:
        do = f"{nearest(until, jobs.RULES)}The stages are {', '.join(jobs.RULES)}"
        raise UserError(f"there is no stage {until!r}", "option --until", do)
    folder = Path("results") / plan.settings["name"]
    command = _command(config, number, cores is not None, dry_run, until, tuple(snakemake))
    with _log(folder, dry_run) as log:
        _announce(config, plan, number, None if dry_run else log)
        for line in run_report.news(folder, plan.settings):
            say(line)
        started = time.time()
        ended = _started(command, log, plan, number, dry_run)
        _conclude(ended, plan, config, log, number, dry_run, started)


def _cores(given: int | None) -> int:
    return cores.available() if given is None else given


def snakefile() -> Path:
    """Return the workflow's Snakefile: in the wheel inside the package, in the repository beside it."""
    package = Path(__file__).resolve().parent
    found = [folder / SNAKEFILE for folder in (package, package.parent) if (folder / SNAKEFILE).is_file()]
    if not found:
        raise FileNotFoundError(f"{SNAKEFILE} is neither in {package} nor in {package.parent}")
    return found[0]


def _command(
    config: str, number: int, said: bool, dry_run: bool, until: str | None, more: tuple[str, ...]
) -> list[str]:
    """Return Snakemake's arguments."""
    found = ["--snakefile", str(snakefile()), "--configfile", config, "--nocolor", *DEFAULTS]
    elsewhere = any(one.split("=")[0] in ELSEWHERE for one in more)
    if said or not elsewhere:
        found += ["--cores", str(number)]
    if not elsewhere and not any(one.startswith("--resources") for one in more):
        found += ["--resources", f"mem_mb={cores.free_megabytes()}"]
    found += ["--dry-run"] * dry_run + (["--until", until] if until else [])
    found += QUIET if not any(one.startswith(("--quiet", "-q")) for one in more) else ()
    return [*found, *more]


@contextlib.contextmanager
def _log(folder: Path, dry_run: bool):
    """Yield where Snakemake's output goes; a dry run leaves nothing behind."""
    if dry_run:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary) / LOG.name
        return
    log = folder / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    yield log


def _locked(log: Path):
    """Open the log for a new run, emptied; a run that still writes to it is not disturbed."""
    output = open(log, "a", encoding="utf-8")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        output.close()
        do = "Wait until it has ended, or stop it; another run of another name can work beside it"
        raise UserError("a run with these results goes on", str(log), do) from None
    except OSError:  # some network file systems know no locks; Snakemake has one of its own
        pass
    output.truncate(0)
    return output


def _announce(config: str, plan: Planned, number: int, log: Path | None) -> None:
    types = len(plan.cell_types)
    what = f"{types} cell type{'s' * (types != 1)}, {' and '.join(plan.settings['methods'])}"
    on = f"{number} core{'s' * (number > 1)}"
    say(f"{'running' if log else 'planning'} {config}: {what}, on {on}" + (f"; log: {log}" if log else ""))


def _started(command: list[str], log: Path, plan: Planned, number: int, dry_run: bool) -> Ended:
    """Start Snakemake, its output into the log, and follow what it says until it ends."""
    with _interrupting() as interrupting, _locked(log) as output:
        print(f"$ {shlex.join(['snakemake', *command])}", file=output, flush=True)
        reading, writing = os.pipe()
        # -P: a file of the working directory that is called like a module must not be imported in its place
        script = Path(__file__).resolve().parent / EVENTS
        process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(writing), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,  # Ctrl-C reaches it through `_interrupting` alone, wherever it comes from
        )
        os.close(writing)
        interrupting.processes.append(process)
        with open(reading, "rb", buffering=0) as pipe:
            history = _followed(process, pipe, plan, number, interrupting.seen, quiet=dry_run)
        return Ended(process.wait(), history, bool(interrupting.seen))


class _Interrupting(NamedTuple):
    """The signals that came, and the processes that they are passed on to."""

    seen: list[int]
    processes: list[subprocess.Popen]


@contextlib.contextmanager
def _interrupting():
    """Pass Ctrl-C, a closed terminal and a polite kill on to Snakemake and its jobs.

    Snakemake then stops its jobs and removes what they had begun. The third time everything is killed.
    """
    found = _Interrupting([], [])

    def pass_on(number: int, frame) -> None:
        found.seen.append(number)
        for process in found.processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGINT if len(found.seen) < 3 else signal.SIGKILL)
        if not found.processes:
            raise KeyboardInterrupt
        if len(found.seen) == 1:
            display.clear()
            say("stopping; jobs that run are given up (press Ctrl-C twice more to kill them)")

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {one: signal.signal(one, pass_on) for one in signals}
    try:
        yield found
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _followed(process, pipe, plan: Planned, number: int, interrupts: list[int], quiet: bool) -> History:
    """Read events until Snakemake ends, and show how far it is."""
    history, rest, shown = History(), b"", display.Shown()
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, selectors.EVENT_READ)
        while True:
            ready = waiting.select(TICK)
            data = pipe.read(1 << 16) if ready else b""
            *lines, rest = (rest + data).split(b"\n")
            for event in filter(None, (time_left.parsed(line.decode("utf-8", "replace")) for line in lines)):
                history = _told(history, event, quiet or bool(interrupts))
            over = bool(ready) and not data
            if not (quiet or interrupts or over):
                shown = display.show(shown, history, plan, number, time.time())
            if over or (not ready and process.poll() is not None):
                display.clear()
                return history


def _told(history: History, event: Event, quiet: bool) -> History:
    if event.kind == "failed" and not quiet:
        display.clear()
        place = f" (log: {event.logs[0]})" if event.logs else ""
        say(f"a job of {event.rule} failed{place}; jobs that run are finished first")
    return time_left.after(history, event)


# ---- the end


def _conclude(ended: Ended, plan: Planned, config: str, log: Path, number: int, dry_run: bool, started: float) -> None:
    """Say what came out and exit as Snakemake did."""
    if ended.interrupted:
        say(f"stopped. What is done is kept; `mlmgen run {shlex.quote(config)}` goes on from there")
        sys.exit(INTERRUPTED)
    if ended.code < 0:
        name = signal.Signals(-ended.code).name
        print(
            terminal.error(f"Snakemake was ended by {name}; there may be too little memory", sys.stderr),
            file=sys.stderr,
        )
        say(f"what is done is kept (log: {log}); if the working directory is locked: mlmgen run {config} -- --unlock")
        sys.exit(KILLED - ended.code)
    if ended.code:
        said = display.failure(ended.history, log, config)
        for line in said.lines:
            print(line, file=sys.stderr)
        sys.exit(2 if said.of_user else ended.code)
    if dry_run:
        _would(ended.history, plan, number)
        return
    folder = Path("results") / plan.settings["name"]
    if ended.history.nothing:
        say("nothing to do: the results are complete and up to date")
    elif not ended.history.jobs:
        say(f"no job was run (log: {log})")
        return
    else:
        _summary(folder / "summary.txt", started)
        say(f"done in {duration(time.time() - started)}")
    for name, what in (("", "tables"), ("report.html", "report")):
        if (folder / name).exists():
            say(f"{what}: {terminal.bold(str(folder / name), sys.stderr)}{'/' * (not name)}")


def _would(history: History, plan: Planned, number: int) -> None:
    if history.nothing or not history.jobs:
        say("nothing to do: the results are complete and up to date")
        return
    seconds = time_left.left(history._replace(seen={}), plan.jobs, number, 0.0).seconds + jobs.PLANNING
    counted = ", ".join(f"{rule} {n:,}" for rule, n in history.jobs.items())
    say(f"would run {sum(history.jobs.values()):,} jobs, about {roughly(seconds)}: {counted}")


def _summary(path: Path, started: float) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_mtime >= started:
            print(f"\n{path.read_text(encoding='utf-8')}", file=sys.stderr)
