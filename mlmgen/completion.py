"""The command completion: what a shell needs to complete the program's commands, options and files."""

import argparse
import sys

SHELLS = ("bash", "zsh", "tcsh")
# Metavars of what is a path.
FILES = ("FILE", "PATH", "DATA", "CONFIG")
FOLDERS = ("RESULTS", "FOLDER")


def completion(shell: str, threads: int = 1) -> None:
    """Print the completion of a shell.

    Parameters
    ----------
    shell : {"bash", "zsh", "tcsh"}
    threads : int
        Not used.
    """
    import shtab

    from mlmgen.cli import parser

    top = parser()
    _mark(top, shtab.FILE, shtab.DIR)
    sys.stdout.write(shtab.complete(top, shell) + "\n")


def _mark(parser: argparse.ArgumentParser, file: dict, folder: dict) -> None:
    """Say of each argument that is a path what completes it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                _mark(one, file, folder)
        elif action.metavar in FILES:
            action.complete = file
        elif action.metavar in FOLDERS:
            action.complete = folder
