"""What the arguments of several commands share. Imports nothing heavy: every start of the program reads this."""

import argparse
import json

# Lines to type, with what they do, at the end of a command's help.
EXAMPLES = {
    "init": (
        ("mlmgen init study.h5ad", "writes config.yaml"),
        ("mlmgen init study.h5ad -o configs/ifn.yaml --condition stim", "another comparison of the same file"),
        ("mlmgen init study.h5ad --donor orig.ident --cell-type none", "you know better, and all cells are one type"),
    ),
    "check": (
        ("mlmgen check config.yaml", "errors, warnings, what each contrast can find, time and memory"),
        ("mlmgen check config.yaml --cores 16", "the time on a larger machine"),
    ),
    "run": (
        ("mlmgen run config.yaml", "on all cores that this session may use"),
        ("mlmgen run config.yaml --dry-run", "what would be done"),
        ("mlmgen run config.yaml --until fit", "stop after the fits; the same command without it goes on"),
        ("mlmgen run config.yaml -- --workflow-profile profiles/slurm", "on a cluster: Snakemake's options after --"),
    ),
    "report": (("mlmgen report results/kang", "writes results/kang/report.html again"),),
    "describe": (
        ("mlmgen describe results/kang", "what is there, how it was made, whether it is complete"),
        ("mlmgen describe results/kang/effects.parquet --json", "one table, for a program"),
    ),
    "gene": (
        ("mlmgen gene ISG15 results/kang", "its effects in every cell type, its donors, its variances"),
        ("mlmgen gene ISG15 results/kang --cell-type 'B cells'", "one cell type"),
    ),
    "plot": (
        ("mlmgen plot volcano results/kang --cell-type 'B cells' -o volcano.pdf", "a figure for a paper"),
        ("mlmgen plot forest results/kang --gene ISG15 -o isg15.svg --width 4", "one gene, 4 inches wide"),
    ),
    "export": (
        ("mlmgen export results/kang --to deseq2 -o kang.csv", "the columns of DESeq2"),
        ("mlmgen export results/kang --to matrix -o statistics.tsv", "genes x cell types, for decoupler and gseapy"),
    ),
    "simulate": (("mlmgen simulate --output data/demo.h5ad", "a data set to try everything on"),),
    "completion": (
        ('eval "$(mlmgen completion bash)"', "in ~/.bashrc"),
        ("mlmgen completion zsh > ~/.zfunc/_mlmgen", "in a folder of fpath"),
        ("mlmgen completion tcsh > ~/.mlmgen.tcsh", "and `source ~/.mlmgen.tcsh` in ~/.tcshrc"),
    ),
}
SHORTEST = 1.5  # inches of a figure: the names of the axes need as much
WIDTH = 56  # columns of an example before what it does, where it fits


def command(commands, name: str, summary: str, stage: bool = False) -> argparse.ArgumentParser:
    """Add a command, with what all of them take.

    Parameters
    ----------
    commands : argparse's subparsers
    name, summary : str
    stage : bool
        Whether it is a stage of the workflow, which the program's help does not list.
    """
    listed = {} if stage else {"help": summary}
    parser = commands.add_parser(
        name,
        **listed,
        description=summary,
        epilog=examples(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    threads, log = "threads (default: 1)", "also write what goes to stderr to this file"
    hide = None if stage else argparse.SUPPRESS
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help=hide or threads)
    parser.add_argument("--log", metavar="FILE", help=hide or log)
    return parser


def examples(name: str) -> str | None:
    """Return the examples of a command as its help has them, None where there are none."""
    if name not in EXAMPLES:
        return None
    lines = []
    for line, what in EXAMPLES[name]:
        lines += [f"  {line:{WIDTH}}  {what}"] if len(line) <= WIDTH else [f"  {line}", f"  {'':{WIDTH}}  {what}"]
    return "\n".join(["examples:", *lines])


def file(parser, option: str, description: str, several: bool = False) -> None:
    """Add an option that names a file, or several."""
    parser.add_argument(option, required=True, nargs="+" if several else None, metavar="FILE", help=description)


def positive(text: str) -> int:
    """Return a positive whole number."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def cores(text: str) -> int | None:
    """Return a positive number of cores; None for all that are available."""
    return None if text == "all" else positive(text)


def inches(text: str) -> float:
    """Return a length that a figure can have, inches."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not SHORTEST <= number <= 100.0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of inches from {SHORTEST:g} to 100")
    return number


def as_json(text: str) -> dict:
    """Return what a JSON text says."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
