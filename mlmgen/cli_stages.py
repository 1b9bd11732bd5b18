"""The arguments of the stages: one subcommand per rule of the workflow."""

import argparse

from mlmgen.arguments import as_json, command, file, positive

METHODS = ("glmm", "pseudobulk")
INPUT, CELLS = "the .h5ad or zarr store with raw counts", "what split wrote about all cells"
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
    "figures": ("mlmgen.pl.figures", "figures"),
}


def add(commands) -> None:
    """Add the stages to the program's commands."""
    of_cells = (_split, _size_factors, _prepare, _contrasts, _fit, _moderate, _test, _audit, _stability)
    for add_one in (*of_cells, _tables, _figures):
        add_one(commands)


def _stage(commands, name: str, summary: str, output: str = "file to write") -> argparse.ArgumentParser:
    parser = command(commands, name, summary, stage=True)
    several = output.startswith("files")
    parser.add_argument("--output", required=True, nargs="+" if several else None, metavar="FILE", help=output)
    _settings(parser)
    return parser


def _settings(parser) -> None:
    parser.add_argument(
        "--settings", type=as_json, default={}, metavar="JSON", help="what this stage reads of the config"
    )


def _split(commands) -> None:
    parser = _stage(commands, "split", "Read the input once and write each cell type's counts.", "files to write")
    file(parser, "--input", INPUT)
    file(parser, "--cells", "file to write: genes, and the total of every cell")
    _memory(parser)


def _size_factors(commands) -> None:
    parser = _stage(commands, "size-factors", "Compute TMM factors from all cell types together.")
    file(parser, "--input", INPUT)
    file(parser, "--split", "what split wrote for each cell type", several=True)
    file(parser, "--cells", CELLS)


def _prepare(commands) -> None:
    parser = _stage(commands, "prepare", "Write one cell type's design and its counts, of cells and of samples.")
    file(parser, "--input", INPUT)
    file(parser, "--split", "what split wrote for the cell type")
    file(parser, "--cells", CELLS)
    file(parser, "--pseudobulk", "file to write: the sums per sample")
    parser.add_argument("--size-factors", metavar="FILE", help="what size-factors wrote, where they are tmm")
    description = "all cell types that are analysed, which decide the reference levels (default: all)"
    parser.add_argument("--cell-types", type=as_json, default='"all"', metavar="JSON", help=description)
    _memory(parser)


def _contrasts(commands) -> None:
    parser = _stage(commands, "contrasts", "Resolve the contrasts on each cell type's design.")
    file(parser, "--input", INPUT)
    file(parser, "--cells", CELLS)
    file(parser, "--prepared", "prepared files", several=True)
    parser.add_argument("--methods", default=(), nargs="+", choices=METHODS, help="the methods to come, for checks")
    description = "also write the table of designs there, as .parquet and .tsv.gz"
    parser.add_argument("--design", metavar="PATH", help=description)


def _fit(commands) -> None:
    parser = _stage(commands, "fit", "Fit the genes of one shard.")
    file(parser, "--counts", "prepared or pseudobulk file")
    _method(parser)
    _shard(parser)


def _moderate(commands) -> None:
    parser = _stage(commands, "moderate", "Learn the prior of the variances from all genes of a cell type.")
    file(parser, "--counts", "the file that was fitted")
    file(parser, "--fits", "all shards, in order", several=True)


def _test(commands) -> None:
    parser = _stage(commands, "test", "Test the contrasts for the genes of one shard.")
    file(parser, "--counts", "the file that was fitted")
    file(parser, "--fits", "fits of the shard")
    file(parser, "--moderated", "moderated variances of the cell type")
    _shard(parser)


def _audit(commands) -> None:
    parser = _stage(commands, "audit", "Refit one method in one cell type with permuted labels and injected effects.")
    file(parser, "--prepared", "prepared file")
    _method(parser)
    description = "what the fit stage reads of the config"
    parser.add_argument("--fit", type=as_json, required=True, metavar="JSON", help=description)


def _stability(commands) -> None:
    parser = _stage(commands, "stability", "Fit the reported effects of one cell type without each donor in turn.")
    file(parser, "--counts", "prepared or pseudobulk file")
    _method(parser)
    parser.add_argument("--methods", required=True, nargs="+", choices=METHODS, help="whose reported effects count")
    _shards(parser, "shards of each method")
    file(parser, "--results", "folder that has fits/, moderated/ and tests/")


def _tables(commands) -> None:
    parser = command(commands, "tables", "Write the result tables and the summary.", stage=True)
    _settings(parser)
    file(parser, "--prepared", "prepared files", several=True)
    file(parser, "--contrasts", "contrasts.json")
    parser.add_argument("--input", metavar="FILE", help="the .h5ad of the run, read for simulated truth only")
    parser.add_argument("--methods", required=True, nargs="+", choices=METHODS, help="in order")
    _shards(parser, "shards of each method in the first cell type, then in the second, and so on")
    parser.add_argument(
        "--results", required=True, metavar="FOLDER", help="has fits/, moderated/ and tests/; the tables go there"
    )


def _figures(commands) -> None:
    parser = command(commands, "figures", "Draw what was found, for Snakemake's report.", stage=True)
    parser.add_argument("--results", required=True, metavar="FOLDER", help="has the tables and prepared/")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder to write, replaced as a whole")


def _memory(parser) -> None:
    description = "memory that the job may take (default: 2000)"
    parser.add_argument("--memory", type=positive, default=2000, metavar="MB", help=description)


def _method(parser) -> None:
    parser.add_argument("--method", required=True, choices=METHODS, help="level of the data")


def _shard(parser) -> None:
    parser.add_argument("--shard", type=_shard_of, default=(1, 1), metavar="I-of-N", help="for example 3-of-16")


def _shards(parser, description: str) -> None:
    parser.add_argument("--shards", required=True, type=positive, nargs="+", metavar="N", help=description)


def _shard_of(text: str) -> tuple[int, int]:
    index, separator, number = text.partition("-of-")
    if not (separator and index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard such as 3-of-16")
    return int(index), int(number)
