"""Results of a size, and what their report takes: each in a process of its own."""

import resource
import time
from pathlib import Path

from benchmarks.report import synthetic
from mlmgen import findings, io
from mlmgen.report import build, payload


def size_of(text: str) -> synthetic.Size:
    return synthetic.Size(*map(int, text.split("x")))


def write(text: str, folder: Path) -> None:
    """Write the results of a size."""
    synthetic.write(folder, size_of(text))


def measured(text: str, folder: Path) -> str:
    """Make the report of such results; return a row of the table."""
    size = size_of(text)
    stories = synthetic.stories(size, folder)
    started = time.perf_counter()
    found = findings.read(folder)
    source = payload.Source(found, synthetic.cells(size), stories, synthetic.diagnostics(size))
    blocks = payload.blocks(source)
    page = build.page(found.name, blocks)
    seconds = time.perf_counter() - started
    io.write_text(folder / build.REPORT, page)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

    def megabytes(*kinds: str) -> str:
        return f"{sum(len(block) for name, block in blocks.items() if name.partition('-')[0] in kinds) / 1e6:.2f} MB"

    whole = len(page.encode())
    tests = size.cell_types * size.contrasts * size.genes * len(size.methods)
    rest = f"{(whole - sum(map(len, blocks.values()))) / 1e6:.2f} MB"
    parts = [megabytes("effects"), megabytes("detail"), megabytes("variance"), megabytes("meta", "genes"), rest]
    return f"| {text} | {tests:,} | {whole / 1e6:.2f} MB | {' | '.join(parts)} | {seconds:.1f} | {memory:.2f} GB |"
