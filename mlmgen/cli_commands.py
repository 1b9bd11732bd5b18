"""The arguments of the commands that people type; those of the workflow's jobs are in `mlmgen.cli_stages`."""

from mlmgen.arguments import command, cores, file, inches, positive
from mlmgen.cli_stages import METHODS

# Formats of `mlmgen.adapters.export`.
EXPORTS = ("deseq2", "limma", "edger", "seurat", "pertpy", "anndata", "pseudobulk", "matrix")
# Kinds of `mlmgen plot`: the functions of `mlmgen.pl`.
FIGURES = ("volcano", "ma", "pvalue-histogram", "qq", "variance-mean", "icc", "variance-partition", "caterpillar")
FIGURES += ("forest", "donors", "concordance")
# Imported when the command runs.
COMMANDS = {
    "init": ("mlmgen.proposal.init", "init"),
    "check": ("mlmgen.checking", "check"),
    "run": ("mlmgen.run", "run"),
    "describe": ("mlmgen.describe", "describe"),
    "export": ("mlmgen.adapters.export", "export"),
    "gene": ("mlmgen.gene", "gene"),
    "plot": ("mlmgen.pl.plot", "plot"),
    "report": ("mlmgen.report.build", "report"),
    "simulate": ("mlmgen.stages_tables", "simulate"),
    "completion": ("mlmgen.completion", "completion"),
}


def add(commands) -> None:
    """Add the commands to those of the program, in the order in which a study needs them."""
    for add_one in (_init, _check, _run, _report, _describe, _gene, _plot, _export, _simulate, _completion):
        add_one(commands)


def _init(commands) -> None:
    parser = command(commands, "init", "Look at a data set and write a commented configuration for it.")
    parser.add_argument("data", metavar="DATA", help="the .h5ad or zarr store, with raw counts of all donors")
    description = "configuration to write (default: config.yaml)"
    parser.add_argument("-o", "--output", default="config.yaml", metavar="FILE", help=description)
    for name, what in (
        ("--donor", "the donor, the replicate of the study"),
        ("--condition", "the condition to compare"),
        ("--cell-type", "the cell type; none fits all cells together"),
        ("--sample", "the sample"),
    ):
        parser.add_argument(name, metavar="COLUMN", help=f"column of obs with {what} (default: looked for)")
    parser.add_argument("--force", action="store_true", help="overwrite a configuration that is there")


def _check(commands) -> None:
    parser = command(commands, "check", "Check a configuration: errors, warnings, what it can find, time and memory.")
    parser.add_argument("config", metavar="CONFIG", help="the configuration, as init writes it")
    _cores(parser, "for the estimated time")


def _run(commands) -> None:
    parser = command(commands, "run", "Run the workflow; the same command goes on where it was interrupted.")
    parser.usage = "mlmgen run CONFIG [--cores N] [--dry-run] [--until STAGE] [-- SNAKEMAKE OPTIONS]"
    parser.add_argument("config", metavar="CONFIG", help="the configuration; its paths start at the working directory")
    _cores(parser, "jobs at once")
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage, such as fit")


def _cores(parser, what: str) -> None:
    description = f"{what}: a number, or all that this session may use (default: all)"
    parser.add_argument("--cores", type=cores, metavar="N", help=description)


def _completion(commands) -> None:
    parser = command(commands, "completion", "Print what a shell needs to complete commands, options and files.")
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def _simulate(commands) -> None:
    parser = command(commands, "simulate", "Write the demo data set: 12 donors, 3 cell types, known effects.")
    file(parser, "--output", "the .h5ad to write")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulation (default: 1)")


def _describe(commands) -> None:
    parser = command(commands, "describe", "Say where results come from and whether they belong together.")
    parser.add_argument("path", metavar="PATH", help="results/<name>, or a file in it")
    parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")


def _report(commands) -> None:
    parser = command(commands, "report", "Write the report of a run: one HTML file with everything in it.")
    parser.add_argument("results", metavar="RESULTS", help="results/<name>")
    parser.add_argument("-o", "--output", metavar="FILE", help="file to write (default: report.html in RESULTS)")


def _gene(commands) -> None:
    parser = command(commands, "gene", "Print all that a run knows of a gene.")
    parser.add_argument("gene", metavar="GENE", help="name or symbol")
    parser.add_argument("results", metavar="RESULTS", help="results/<name>")
    parser.add_argument("--cell-type", metavar="NAME", help="one cell type (default: all)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")


def _plot(commands) -> None:
    parser = command(commands, "plot", "Draw a figure for a paper.")
    parser.add_argument("kind", choices=FIGURES, metavar="KIND", help="what to draw: %(choices)s")
    parser.add_argument("results", metavar="RESULTS", help="results/<name>")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write: .pdf, .svg or .png")
    for name, description in (
        ("--cell-type", "which cell type, where there are several"),
        ("--contrast", "which contrast, where there are several"),
        ("--gene", "name or symbol; for caterpillar, donors and forest"),
        ("--component", "of variance-mean, such as donor (default: the first with a prior)"),
        ("--term", "of caterpillar, such as donor:condition (default: the first of the formula)"),
        ("--by", "of donors, variable along the axis (default: the first factor of the formula)"),
    ):
        parser.add_argument(name, metavar="NAME", help=description)
    parser.add_argument("--method", choices=METHODS, help="default: glmm where there is one; forest draws both")
    for name in ("--width", "--height"):
        parser.add_argument(name, type=inches, metavar="INCHES", help="of the figure (default: of the kind)")
    parser.add_argument("--dpi", type=positive, default=300, metavar="N", help="of pictures (default: 300)")


def _export(commands) -> None:
    parser = command(commands, "export", "Write results as other packages take them: scanpy, decoupler, DESeq2, ...")
    parser.add_argument("results", metavar="RESULTS", help="results/<name>")
    tables = ", ".join(EXPORTS[:5])
    description = f"{tables}: a table with the columns of that program; anndata: scanpy's rank_genes_groups; "
    description += "pseudobulk: counts summed per sample, as decoupler does; matrix: statistics of genes x cell types"
    parser.add_argument("--to", required=True, choices=EXPORTS, metavar="FORMAT", help=description)
    suffixes = ".tsv, .csv or either with .gz for tables, .h5ad for anndata and pseudobulk"
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=f"file to write: {suffixes}")
    parser.add_argument("--cell-type", metavar="NAME", help="one cell type (default: all)")
    parser.add_argument("--contrast", metavar="NAME", help="one contrast (default: all of tables, else the only one)")
    methods = (*METHODS, "all")
    parser.add_argument("--method", choices=methods, help="for tables also all (default: glmm where there is one)")
    parser.add_argument("--symbols", action="store_true", help="name genes by their symbols")
    parser.add_argument("--into", metavar="H5AD", help="for anndata: your cells, to which a copy adds the results")
