"""Chunks of genes over threads: each thread with scratch of its own, results the same for any number."""

from concurrent.futures import ThreadPoolExecutor

# Genes a compiled call works on before it reports progress.
CHUNK = 64


def in_chunks(run, make_work, firsts, threads: int, progress) -> None:
    """Call ``run(work, first)`` for each chunk, each thread with its own work; report genes done."""
    if threads <= 1:
        work = make_work()
        for first in firsts:
            done = run(work, first)
            if progress:
                progress(done)
        return
    idle = [make_work() for _ in range(threads)]

    def on_thread(first):
        work = idle.pop()
        try:
            return run(work, first)
        finally:
            idle.append(work)

    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(on_thread, firsts):
            if progress:
                progress(done)
