"""The command line: what people type and one subcommand per rule of the workflow. The only place that exits."""

import argparse
import contextlib
import errno
import functools
import importlib
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from mlmgen import __version__, cli_commands, cli_stages, terminal
from mlmgen.errors import UserError, listing, nearest
from mlmgen.progress import copied_to

USER_ERROR = 2  # exit code for problems of the data or the configuration, as argparse uses for arguments
UNWRITTEN = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
INVALID = re.compile(r"argument (\S+): invalid choice: (.+) \(choose from (.+)\)", re.DOTALL)
INTERRUPTED = 130  # exit code of a shell for what Ctrl-C ended
HELP = """\
a study from the data to the report:
  mlmgen init study.h5ad        looks at the file and writes config.yaml
  mlmgen check config.yaml      what is wrong, what it can find, how long it takes
  mlmgen run config.yaml        results/study/ with tables and report.html
  mlmgen gene ISG15 results/study

mlmgen COMMAND --help has examples for each command. The stages of the workflow are commands too, which
its jobs call: {stages}."""
# Those that call compiled kernels.
COMPILED = {"fit", "test", "stability", "audit", "gene", "report"}
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
    with standard_streams():
        _run(arguments)


def _run(arguments: list[str]) -> None:
    chosen = parsed(arguments)
    command, log = chosen.pop("command"), chosen.pop("log")
    module, function = (cli_commands.COMMANDS | cli_stages.STAGES)[command]
    prepare_environment(chosen["threads"])
    with copied_to(log, f"$ {shlex.join(['mlmgen', *arguments])}"), kernels_of(command):
        try:
            getattr(importlib.import_module(module), function)(**chosen)
        except UserError as error:
            print(terminal.error(" ".join(str(error).split()), None if log else sys.stderr), file=sys.stderr)
            sys.exit(USER_ERROR)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except Exception as error:  # our own bug: the log needs its traceback too
            if _is_of_stdout(error):
                raise
            traceback.print_exc()
            sys.exit(1)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Write what stdout can take: a question mark for a letter of another encoding, and nothing where nobody reads on.

    Where it cannot be written, one line says so.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not _is_of_stdout(error):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more
        if not isinstance(error, BrokenPipeError):  # `mlmgen gene ... | head`
            what = f"cannot write the output: {os.strerror(error.errno)}. Free the disk or write to another place"
            print(terminal.error(what, sys.stderr), file=sys.stderr)
            sys.exit(USER_ERROR)


def _is_of_stdout(error: BaseException) -> bool:
    """Tell whether a stream could not be written; errors of files have their name."""
    return isinstance(error, OSError) and error.filename is None and error.errno in UNWRITTEN


def parsed(arguments: list[str]) -> dict:
    """Return the arguments by name, with ``command``; what follows ``--`` is Snakemake's.

    Raises
    ------
    SystemExit
        For a command or an option that does not exist.
    """
    top, known = parser(), cli_commands.COMMANDS | cli_stages.STAGES
    own, more = arguments, []
    if "--" in arguments and arguments[0] == "run":
        place = arguments.index("--")
        own, more = arguments[:place], arguments[place + 1 :]
    if not own:
        top.print_help(sys.stderr)
        sys.exit(USER_ERROR)
    if not own[0].startswith("-") and own[0] not in known:
        commands = f"The commands are {listing(cli_commands.COMMANDS, 20)}; mlmgen --help explains them."
        do = f"{nearest(own[0], known)}{commands}"
        print(terminal.error(f"there is no command {own[0]!r}. {do}", sys.stderr), file=sys.stderr)
        sys.exit(USER_ERROR)
    chosen = vars(top.parse_args(own))
    return chosen | {"snakemake": tuple(more)} if chosen["command"] == "run" else chosen


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
    top = argparse.ArgumentParser(
        prog="mlmgen",
        usage="mlmgen COMMAND ...",
        description="Multilevel differential expression for multi-donor single-cell data.",
        epilog=HELP.format(stages=", ".join(cli_stages.STAGES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mlmgen {__version__}")
    title = "commands, in the order of a study"
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title=title, prog="mlmgen")
    cli_commands.add(commands)
    cli_stages.add(commands)
    for one in commands.choices.values():
        one.error = functools.partial(_refuse, one)
    return top


def _refuse(one: argparse.ArgumentParser, message: str) -> NoReturn:
    """Print what is wrong with the arguments of a command, of a misspelt choice the nearest, and exit."""
    if found := INVALID.fullmatch(message):
        name, given, allowed = found[1], found[2], [choice.strip(" '") for choice in found[3].split(",")]
        do = f"{nearest(given[1:-1], allowed)}Choose one of {listing(allowed, 20)}"
        message = f"argument {name}: there is no {given}. {do}"
    argparse.ArgumentParser.error(one, message)
