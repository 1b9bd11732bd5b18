"""What the arguments of several commands share. Imports nothing heavy: every start of the program reads this."""

import argparse
import json


def command(commands, name: str, summary: str) -> argparse.ArgumentParser:
    """Add a command, with what all of them take."""
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="threads (default: 1)")
    parser.add_argument("--log", metavar="FILE", help="also write what goes to stderr to this file")
    return parser


def file(parser, option: str, description: str, several: bool = False) -> None:
    """Add an option that names a file, or several."""
    parser.add_argument(option, required=True, nargs="+" if several else None, metavar="FILE", help=description)


def positive(text: str) -> int:
    """Return a positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def as_json(text: str) -> dict:
    """Return what a JSON text says."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
