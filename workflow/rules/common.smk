import math
import os
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    import mlmgen.config
    import mlmgen.io
    import mlmgen.names
    from mlmgen.errors import UserError
except ModuleNotFoundError as error:
    raise WorkflowError(
        f"There is no {error.name!r} in the Python that runs Snakemake (in {sys.executable}). "
        "Run `make run` once, or `pip install .` in the repository, and use the snakemake installed there."
    )

# Rules call the mlmgen that is installed beside this Snakemake, whether or not its environment is active.
os.environ.update(
    PATH=f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
)

STARTED = time.time()

# Seconds of fitting in a shard should outweigh the start-up of its job: about 20,000 genes.
GENES_PER_SHARD = 20_000


def checked(function, *arguments):
    """Call a function of mlmgen; a problem of the data or the config ends the run as a job would end."""
    try:
        return function(*arguments)
    except UserError as error:
        # a WorkflowError would be printed among the lines of this file
        print(f"mlmgen: error: {error}", file=sys.stderr)
        sys.exit(2)


SETTINGS = checked(mlmgen.config.load, dict(config))


def under(path):
    """A path in the folder of this run's results."""
    return f"results/{SETTINGS['name']}/{path}"


def stage(name):
    """The settings that a stage reads as one JSON text, the only thing that its reruns depend on."""
    text = mlmgen.config.stage(SETTINGS, name)
    return lambda wildcards: text


def selected_cell_types():
    """The cell types to analyse: slug -> name as in the data."""
    present = checked(mlmgen.io.cell_types, SETTINGS["input"], SETTINGS["cell_type"])
    return checked(
        mlmgen.names.select, present, SETTINGS["cell_types"], SETTINGS["cell_type"]
    )


def shard_names():
    """The shards of every cell type: 1-of-n, ..., n-of-n."""
    genes = checked(mlmgen.io.shape, SETTINGS["input"], SETTINGS["counts"])[1]
    n = SETTINGS["shards"]
    if n == "auto":
        n = max(1, math.ceil(genes / GENES_PER_SHARD))
    return [f"{i}-of-{n}" for i in range(1, n + 1)]


if os.path.exists(SETTINGS["input"]):
    CELL_TYPES, SHARDS = selected_cell_types(), shard_names()
elif any(argument.startswith("--lint") for argument in sys.argv):
    # The linter reads rules, not data, and must work in a clone that has none.
    CELL_TYPES, SHARDS = {"cell_type": "cell type"}, ["1-of-1"]
elif IS_DEMO:
    raise WorkflowError(
        f"The demo data set is not there yet (in {SETTINGS['input']}). Run `make run`, make it with "
        f"`mlmgen simulate --output {SETTINGS['input']}`, or give your own --configfile."
    )
else:
    selected_cell_types()  # says what is missing and what is there

METHODS = SETTINGS["methods"]

LEVEL = {"glmm": "prepared", "pseudobulk": "pseudobulk"}


wildcard_constraints:
    method="|".join(LEVEL),
    slug=r"[^/]+",
    shard=r"\d+-of-\d+",


def rows(wildcards):
    """The counts that a method fits: cells or samples."""
    return under(f"{LEVEL[wildcards.method]}/{wildcards.slug}.h5ad")


def memory(floor, factor):
    """Memory in MB: a floor, or a multiple of the input's size, more on every attempt."""
    return lambda wildcards, input, attempt: attempt * max(
        floor, int(factor * input.size_mb)
    )


def print_errors():
    """Repeat what mlmgen said was wrong, last of all: Snakemake's report of a failed job is long."""
    for path in sorted(Path(under("logs")).rglob("*.log")):
        if path.stat().st_mtime >= STARTED:
            lines = path.read_text(encoding="utf-8").splitlines()
            for line in lines:
                if line.startswith("mlmgen: error: "):
                    print(f"\n{line}\n(log: {path})", file=sys.stderr)


def print_summary():
    """Show the summary of the tables that this run wrote and where they are."""
    summary = under("summary.txt")
    if os.path.exists(summary) and os.path.getmtime(summary) >= STARTED:
        with open(summary, encoding="utf-8") as lines:
            print(f"\n{lines.read()}", file=sys.stderr)
        print(f"Tables: {os.path.abspath(under(''))}", file=sys.stderr)
