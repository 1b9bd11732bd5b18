"""What a person sees while a command runs: lines on stderr, copied to a log file."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

SECONDS_BETWEEN_LINES = 5.0  # often enough to trust, rare enough to read among other jobs' lines


class Tee:
    """A text stream that writes to two others, for example the terminal and a log file."""

    def __init__(self, screen: TextIO, log: TextIO):
        self.screen, self.log = screen, log

    def write(self, text: str) -> int:
        """Write to both streams; the log is complete even if the process is killed."""
        self.log.write(text)
        self.log.flush()
        return self.screen.write(text)

    def flush(self) -> None:
        """Flush both streams."""
        self.log.flush()
        self.screen.flush()

    def isatty(self) -> bool:
        """Tell whether the screen is a terminal."""
        return self.screen.isatty()


@contextlib.contextmanager
def copied_to(path: str | None, heading: str = "") -> Iterator[None]:
    """Copy everything that Python writes to stderr into a file as well.

    Parameters
    ----------
    path : str or None
        The log file, overwritten; its folder is made. None copies nothing.
    heading : str
        First line of the log, for example the command that redoes the job.
    """
    if path is None:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    screen = sys.stderr
    with open(path, "w", encoding="utf-8") as log:
        if heading:
            print(heading, file=log, flush=True)
        sys.stderr = Tee(screen, log)
        try:
            yield
        finally:
            sys.stderr = screen


def say(text: str) -> None:
    """Write one line for the person who watches."""
    print(f"mlmgen: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Word a time for reading: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def roughly(seconds: float) -> str:
    """Word an estimate without more digits than it has: ``10 s``, ``2 min``, ``1 h 20 min``."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 3570:
        return f"{max(1, round(seconds / 60))} min"
    minutes = 10 * round(seconds / 600)
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


class Progress:
    """Report how many genes of a job are done, the rate and the time left.

    The engine calls it with the number of genes just done; a line is written at most every
    `SECONDS_BETWEEN_LINES`. Lines end with a newline, never a carriage return: several jobs share
    the terminal, and logs stay readable.

    Parameters
    ----------
    total : int
        Genes of the job.
    label : str
        What is being done, for example ``fit glmm B cells 1-of-2``.
    unit : str
        What is counted.
    clock : callable
        Seconds, increasing.
    """

    def __init__(self, total: int, label: str, clock=time.monotonic, unit: str = "genes"):
        self.total, self.label, self.clock, self.unit = total, label, clock, unit
        self.done = self.done_first = 0
        self.started = self.written = self.first = clock()

    def __call__(self, just_done: int) -> None:
        """Report that so many more genes are finished."""
        self.done += just_done
        now = self.clock()
        if self.done_first == 0:  # kernels may have been compiled until now, which says nothing about the rate
            self.done_first, self.first, self.written = self.done, now, now
        if now - self.written < SECONDS_BETWEEN_LINES or not self.done_first < self.done < self.total:
            return
        self.written = now
        rate = (self.done - self.done_first) / (now - self.first)
        left = duration((self.total - self.done) / rate)
        say(f"{self.label}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.1f} a second, about {left} left")

    def finish(self, outcome: str = "") -> None:
        """Write the last line: genes, time and what came out."""
        seconds = self.clock() - self.started
        say(f"{self.label}: {self.total:,} {self.unit} in {duration(seconds)}{'; ' + outcome if outcome else ''}")
