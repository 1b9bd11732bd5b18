"""The command line: one subcommand per rule of the workflow, and `simulate`. The only place that exits."""

import argparse
import contextlib
import importlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

from mlmgen import __version__
from mlmgen.errors import UserError
from mlmgen.progress import copied_to

USER_ERROR = 2  # exit code for problems of the data or the configuration, as argparse uses for arguments
# Imported when the command runs: fit jobs never pay for pandas, nor `--help` for numpy.
STAGES = {
    "split": ("mlmgen.stages_prepare", "split"),
    "size-factors": ("mlmgen.stages_prepare", "size_factors"),
    "prepare": ("mlmgen.stages_prepare", "prepare"),
    "contrasts": ("mlmgen.stages_contrasts", "contrasts"),
    "fit": ("mlmgen.stages_fit", "fit"),
    "moderate": ("mlmgen.stages_fit", "moderate"),
    "test": ("mlmgen.stages_fit", "test"),
    "audit": ("mlmgen.stages_audit", "audit"),
    "stability": ("mlmgen.stages_stability", "stability"),
    "tables": ("mlmgen.stages_tables", "tables"),
    "simulate": ("mlmgen.stages_tables", "simulate"),
    "describe": ("mlmgen.describe", "describe"),
}
# Those that call compiled kernels.
COMPILED = {"fit", "test", "stability", "audit"}
METHODS = ("glmm", "pseudobulk")
INPUT, CELLS = "the .h5ad or zarr store with raw counts", "what split wrote about all cells"
# Small linear algebra gains nothing from threads, and its last bits would depend on their number. The others are of
# pandas (numexpr), Arrow, Blosc and zarr, which start as many as the machine has cores; Arrow also reads OpenMP's.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
ONE_THREAD += ("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "ARROW_IO_THREADS", "BLOSC_NTHREADS")
ONE_THREAD += ("ZARR_THREADING__MAX_WORKERS", "ZARR_ASYNC__CONCURRENCY")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand and exit: 0 done, 2 a problem in the user's data or configuration.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process if not given.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen = vars(parser().parse_args(arguments))
    command, log = chosen.pop("command"), chosen.pop("log")
    module, function = STAGES[command]
    prepare_environment(chosen["threads"])
    with copied_to(log, f"$ {shlex.join(['mlmgen', *arguments])}"), kernels_of(command):
        try:
            getattr(importlib.import_module(module), function)(**chosen)
        except UserError as error:
            print("mlmgen: error: " + " ".join(str(error).split()), file=sys.stderr)
            sys.exit(USER_ERROR)
        except Exception:  # our own bug: the log needs its traceback too
            traceback.print_exc()
            sys.exit(1)


def prepare_environment(threads: int) -> None:
    """Set what numpy and numba read when they are first imported; Snakemake does not set numba's."""
    os.environ["NUMBA_NUM_THREADS"] = str(threads)
    for name in ONE_THREAD:
        os.environ[name] = "1"


def kernels_of(command: str) -> contextlib.AbstractContextManager:
    """Exchange compiled kernels with other nodes, in the folder MLMGEN_KERNELS, which the workflow sets on clusters."""
    folder = os.environ.get("MLMGEN_KERNELS", "off")
    if folder in ("", "off") or command not in COMPILED:
        return contextlib.nullcontext()
    return importlib.import_module("mlmgen.kernel_cache").exchanged(folder)


def parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    top = argparse.ArgumentParser(prog="mlmgen", description="Multilevel differential expression, stage by stage.")
    top.add_argument("--version", action="version", version=f"mlmgen {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _split,
        _size_factors,
        _prepare,
        _contrasts,
        _fit,
        _moderate,
        _test,
        _audit,
        _stability,
        _tables,
        _simulate,
        _describe,
    ):
        add(commands)
    return top


def _command(commands, name: str, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary)
    command.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads (default: 1)")
    command.add_argument("--log", metavar="FILE", help="also write what goes to stderr to this file")
    return command


def _stage(commands, name: str, summary: str, output: str = "file to write") -> argparse.ArgumentParser:
    command = _command(commands, name, summary)
    several = output.startswith("files")
    command.add_argument("--output", required=True, nargs="+" if several else None, metavar="FILE", help=output)
    _settings(command)
    return command


def _settings(command) -> None:
    command.add_argument(
        "--settings", type=_json, default={}, metavar="JSON", help="what this stage reads of the config"
    )


def _file(command, option: str, description: str, several: bool = False) -> None:
    command.add_argument(option, required=True, nargs="+" if several else None, metavar="FILE", help=description)


def _split(commands) -> None:
    command = _stage(commands, "split", "Read the input once and write each cell type's counts.", "files to write")
    _file(command, "--input", INPUT)
    _file(command, "--cells", "file to write: genes, and the total of every cell")
    _memory(command)


def _size_factors(commands) -> None:
    command = _stage(commands, "size-factors", "Compute TMM factors from all cell types together.")
    _file(command, "--input", INPUT)
    _file(command, "--split", "what split wrote for each cell type", several=True)
    _file(command, "--cells", CELLS)


def _prepare(commands) -> None:
    command = _stage(commands, "prepare", "Write one cell type's design and its counts, of cells and of samples.")
    _file(command, "--input", INPUT)
    _file(command, "--split", "what split wrote for the cell type")
    _file(command, "--cells", CELLS)
    _file(command, "--pseudobulk", "file to write: the sums per sample")
    command.add_argument("--size-factors", metavar="FILE", help="what size-factors wrote, where they are tmm")
    description = "all cell types that are analysed, which decide the reference levels (default: all)"
    command.add_argument("--cell-types", type=_json, default='"all"', metavar="JSON", help=description)
    _memory(command)


def _contrasts(commands) -> None:
    command = _stage(commands, "contrasts", "Resolve the contrasts on each cell type's design.")
    _file(command, "--input", INPUT)
    _file(command, "--cells", CELLS)
    _file(command, "--prepared", "prepared files", several=True)
    command.add_argument("--methods", default=(), nargs="+", choices=METHODS, help="the methods to come, for checks")
    description = "also write the table of designs there, as .parquet and .tsv.gz"
    command.add_argument("--design", metavar="PATH", help=description)


def _fit(commands) -> None:
    command = _stage(commands, "fit", "Fit the genes of one shard.")
    _file(command, "--counts", "prepared or pseudobulk file")
    _method(command)
    _shard(command)


def _moderate(commands) -> None:
    command = _stage(commands, "moderate", "Learn the prior of the variances from all genes of a cell type.")
    _file(command, "--counts", "the file that was fitted")
    _file(command, "--fits", "all shards, in order", several=True)


def _test(commands) -> None:
    command = _stage(commands, "test", "Test the contrasts for the genes of one shard.")
    _file(command, "--counts", "the file that was fitted")
    _file(command, "--fits", "fits of the shard")
    _file(command, "--moderated", "moderated variances of the cell type")
    _shard(command)


def _audit(commands) -> None:
    command = _stage(commands, "audit", "Refit one method in one cell type with permuted labels and injected effects.")
    _file(command, "--prepared", "prepared file")
    _method(command)
    description = "what the fit stage reads of the config"
    command.add_argument("--fit", type=_json, required=True, metavar="JSON", help=description)


def _stability(commands) -> None:
    command = _stage(commands, "stability", "Fit the reported effects of one cell type without each donor in turn.")
    _file(command, "--counts", "prepared or pseudobulk file")
    _method(command)
    command.add_argument("--methods", required=True, nargs="+", choices=METHODS, help="whose reported effects count")
    _shards(command, "shards of each method")
    _file(command, "--results", "folder that has fits/, moderated/ and tests/")


def _tables(commands) -> None:
    command = _command(commands, "tables", "Write the result tables and the summary.")
    _settings(command)
    _file(command, "--prepared", "prepared files", several=True)
    _file(command, "--contrasts", "contrasts.json")
    command.add_argument("--input", metavar="FILE", help="the .h5ad of the run, read for simulated truth only")
    command.add_argument("--methods", required=True, nargs="+", choices=METHODS, help="in order")
    _shards(command, "shards of each method in the first cell type, then in the second, and so on")
    command.add_argument(
        "--results", required=True, metavar="FOLDER", help="has fits/, moderated/ and tests/; the tables go there"
    )


def _simulate(commands) -> None:
    command = _command(commands, "simulate", "Write the demo data set: 12 donors, 3 cell types, known effects.")
    _file(command, "--output", "the .h5ad to write")
    command.add_argument("--seed", type=int, default=1, help="seed of the simulation (default: 1)")


def _describe(commands) -> None:
    command = _command(commands, "describe", "Say where results come from and whether they belong together.")
    command.add_argument("path", metavar="PATH", help="results/<name>, or a file in it")
    command.add_argument("--json", action="store_true", dest="as_json", help="for programs")


def _memory(command) -> None:
    description = "memory that the job may take (default: 2000)"
    command.add_argument("--memory", type=_positive, default=2000, metavar="MB", help=description)


def _method(command) -> None:
    command.add_argument("--method", required=True, choices=METHODS, help="level of the data")


def _shard(command) -> None:
    command.add_argument("--shard", type=_shard_of, default=(1, 1), metavar="I-of-N", help="for example 3-of-16")


def _shards(command, description: str) -> None:
    command.add_argument("--shards", required=True, type=_positive, nargs="+", metavar="N", help=description)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _shard_of(text: str) -> tuple[int, int]:
    index, separator, number = text.partition("-of-")
    if not (separator and index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard such as 3-of-16")
    return int(index), int(number)


def _json(text: str) -> dict:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
