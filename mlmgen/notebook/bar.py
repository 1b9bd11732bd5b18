"""A progress bar for a notebook or a terminal."""

import sys
import time
from collections.abc import Callable

from mlmgen.progress import Progress, duration

WIDTH = 30  # characters
SECONDS_BETWEEN = 0.2  # redrawn so often, no more
QUIET_SECONDS = 1.0  # what takes less shows nothing


def bar(total: int, label: str, clock: Callable[[], float] = time.monotonic) -> Callable[[int], None]:
    """Return a callback that draws on stderr how much of a job is done.

    Where stderr is neither a terminal nor a notebook, lines are written as by the workflow.

    Parameters
    ----------
    total : int
        Responses of the job.
    label : str
    clock : callable
        Seconds, increasing.

    Returns
    -------
    callable
        Takes the number of responses just done.
    """
    if not (in_notebook() or sys.stderr.isatty()):
        return Progress(total, label, clock)
    state = {"done": 0, "drawn": clock(), "shown": False}
    started = clock()

    def report(just_done: int) -> None:
        state["done"] += just_done
        now, finished = clock(), state["done"] >= total
        if now - started < QUIET_SECONDS or (now - state["drawn"] < SECONDS_BETWEEN and not finished):
            return
        state["drawn"] = now
        sys.stderr.write("\r" + line(state["done"], total, label, now - started) + ("\n" if finished else ""))
        sys.stderr.flush()

    return report


def line(done: int, total: int, label: str, seconds: float) -> str:
    """Write the bar at one moment."""
    full = WIDTH * done // max(total, 1)
    left = duration(seconds * (total - done) / max(done, 1))
    tail = f"about {left} left" if done < total else f"{duration(seconds)}"
    return f"{label} [{'#' * full}{'.' * (WIDTH - full)}] {done:,} of {total:,}, {tail}".ljust(79)


def in_notebook() -> bool:
    """Tell whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"
