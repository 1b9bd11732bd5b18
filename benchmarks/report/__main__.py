"""Write synthetic results of several sizes, make their reports, and print a table.

    python -m benchmarks.report [--folder FOLDER] [--size 30x1x20000 ...]

A size is cell types x contrasts x genes.
"""

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.report.measure import measured, write

SIZES = ("30x1x20000", "10x3x20000", "30x1x6000", "60x1x6000")
COLUMNS = ("cell types x contrasts x genes", "tests", "report", "effects", "donors", "variances", "meta, names", "page")
COLUMNS += ("seconds", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where reports and tables are kept (default: nowhere)")
    parser.add_argument("--size", nargs="+", default=SIZES)
    chosen = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS), sep="\n")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        for text in chosen.size:
            folder = (chosen.folder or Path(temporary)) / text
            # each in a process of its own, whose memory is that of the report alone
            for step in (write, measured):
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    row = pool.submit(step, text, folder).result()
            print(row, flush=True)


if __name__ == "__main__":
    main()
