"""The arguments of the commands that people type; those of the workflow's jobs are in `mlmgen.cli_stages`."""

from mlmgen.arguments import command, file

# Imported when the command runs.
COMMANDS = {
    "describe": ("mlmgen.describe", "describe"),
    "simulate": ("mlmgen.stages_tables", "simulate"),
}


def add(commands) -> None:
    """Add the commands to those of the program, in the order in which a study needs them."""
    for add_one in (_describe, _simulate):
        add_one(commands)


def _simulate(commands) -> None:
    parser = command(commands, "simulate", "Write the demo data set: 12 donors, 3 cell types, known effects.")
    file(parser, "--output", "the .h5ad to write")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulation (default: 1)")


def _describe(commands) -> None:
    parser = command(commands, "describe", "Say where results come from and whether they belong together.")
    parser.add_argument("path", metavar="PATH", help="results/<name>, or a file in it")
    parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")
