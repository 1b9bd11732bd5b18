import functools
import json
import os
import sys
import time
from pathlib import Path
from shlex import quote

from snakemake.exceptions import WorkflowError

try:
    import mlmgen.config
    import mlmgen.io
    import mlmgen.names
    import mlmgen.sizing
    import mlmgen.run_report
    import mlmgen.slurm
    import psutil
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

# For --sdm conda: a repository is installed in the rules' environment as it stands (envs/mlmgen.post-deploy.sh).
SOURCE = Path(mlmgen.config.__file__).parents[1]
if (SOURCE / "pyproject.toml").is_file():
    os.environ.update(MLMGEN_SOURCE=str(SOURCE))

# A job on a node of a cluster: what it compiles, other nodes find in the working directory.
if workflow.remote_exec:
    os.environ.setdefault("MLMGEN_KERNELS", os.path.abspath(".mlmgen/kernels"))

STARTED = time.time()


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
    """The settings that a stage and those before it read as one JSON text, the only thing that reruns depend on."""
    text = mlmgen.config.chain(SETTINGS, name)
    return lambda wildcards: text


def cell_types():
    """Those present and those to analyse: slug -> name as in the data."""
    present = checked(mlmgen.io.cell_types, SETTINGS["input"], SETTINGS["cell_type"])
    wanted = (SETTINGS["cell_types"], SETTINGS["cell_type"])
    return mlmgen.names.file_names(present), checked(
        mlmgen.names.select, present, *wanted
    )


def check_design():
    """Check the whole before any job; jobs of a cluster, which parse this again, need not import pandas for it."""
    if workflow.is_main_process:
        import mlmgen.stages_contrasts

        checked(mlmgen.stages_contrasts.check, SETTINGS)


LEVEL = {"glmm": "prepared", "pseudobulk": "pseudobulk"}

if os.path.exists(SETTINGS["input"]):
    PRESENT, CELL_TYPES = cell_types()
    SIZES = checked(mlmgen.sizing.estimate, SETTINGS["input"], SETTINGS, CELL_TYPES)
    NUMBER_OF_SHARDS = {
        (m, slug): n for slug, size in SIZES.items() for m, n in size.shards.items()
    }
    check_design()
elif any(argument.startswith("--lint") for argument in sys.argv):
    # The linter reads rules, not data, and must work in a clone that has none.
    PRESENT = CELL_TYPES = {"cell_type": "cell type"}
    SIZES = {}
    NUMBER_OF_SHARDS = {(method, "cell_type"): 1 for method in LEVEL}
elif IS_DEMO:
    raise WorkflowError(
        f"The demo data set is not there yet (in {SETTINGS['input']}). Run `make run`, make it with "
        f"`mlmgen simulate --output {SETTINGS['input']}`, or give your own --configfile."
    )
else:
    cell_types()  # says what is missing and what is there

METHODS = SETTINGS["methods"]


wildcard_constraints:
    method="|".join(LEVEL),
    slug=r"[^/]+",
    shard=r"\d+-of-\d+",


def shards(kind, methods, slug):
    """The shards of some methods in a cell type, of fits or tests: 1-of-n, ..., n-of-n."""
    return [
        under(f"{kind}/{method}/{slug}/{i}-of-{n}.npz")
        for method in methods
        for n in [NUMBER_OF_SHARDS[method, slug]]
        for i in range(1, n + 1)
    ]


def streaming_memory():
    """MB that a job of split or prepare may take."""
    on_cluster = workflow.resource_settings.nodes or not workflow.is_main_process
    free = None if on_cluster else psutil.virtual_memory().available / 1e6
    cores = workflow.resource_settings.cores
    return mlmgen.sizing.streaming_megabytes(SETTINGS["memory"], cores, free)


STREAMING = streaming_memory()


def streaming(wildcards, attempt):
    """MB to ask for such a job, more on every attempt."""
    return mlmgen.sizing.OF_SNAKEMAKE + attempt * STREAMING


def of_mlmgen(wildcards, resources):
    """MB that such a job may take of what it asks for."""
    return max(resources.mem_mb - mlmgen.sizing.OF_SNAKEMAKE, 1)


def growing(number):
    """So much of a resource, more on every attempt."""
    return lambda wildcards, attempt: attempt * number


def rows(wildcards):
    """The counts that a method fits: cells or samples."""
    return under(f"{LEVEL[wildcards.method]}/{wildcards.slug}.h5ad")


def sized(what, name):
    """Memory in MB or minutes of a job, as estimated from the data and the model, more on every attempt."""
    return lambda wildcards, attempt: what(
        name, wildcards.method, SIZES[wildcards.slug], attempt
    )


def sized_for_all(what, name):
    """The same of a job for all cell types."""
    return lambda wildcards, attempt: what(name, "", list(SIZES.values()), attempt)


# Of each picture, what it shows and of which method.
PICTURES = {
    "glmm": ("effects and p-values", "cells"),
    "pseudobulk": ("effects and p-values", "pseudobulk"),
    "concordance": ("cells against pseudobulk", "both"),
    "variances_glmm": ("variances", "cells"),
    "variances_pseudobulk": ("variances", "pseudobulk"),
}


@functools.cache
def contrast_names():
    """The contrasts of the run by the names of their files."""
    contrasts = checked(mlmgen.io.read_json, under("contrasts.json"))["contrasts"]
    return {None: "all", **mlmgen.names.file_names(contrasts)}


def picture_labels(wildcards):
    """What the report writes beside a picture."""
    content, method = PICTURES[wildcards.picture]
    contrast = contrast_names()[wildcards.get("contrast")]
    return {"contrast": contrast, "figure": content, "method": method}


def check_cluster():
    """Stop before the first job where SLURM cannot tell the states of jobs."""
    if workflow.executor_plugin.name == "slurm":
        options = workflow.executor_settings
        checked(
            mlmgen.slurm.check_states,
            options.status_command,
            options.init_seconds_before_status_checks,
            mlmgen.slurm.configuration(),
        )


def print_news():
    """Say what differs from the results that are there: settings, and versions of methods after an upgrade."""
    for line in mlmgen.run_report.news(under(""), SETTINGS):
        print(f"mlmgen: {line}", file=sys.stderr)


def write_run():
    """Write when, where and how long this ran beside the results."""
    cores = workflow.resource_settings.cores
    checked(mlmgen.run_report.finish, under(""), dict(config), STARTED, cores)


def print_errors():
    """Repeat what mlmgen said was wrong, last of all: Snakemake's report of a failed job is long."""
    for path in sorted(Path(under("logs")).rglob("*.log")):
        # run.log is what `mlmgen run` makes of this output
        if path.stat().st_mtime >= STARTED and path.name != "run.log":
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
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
        print(f"Report: {os.path.abspath(under('report.html'))}", file=sys.stderr)
