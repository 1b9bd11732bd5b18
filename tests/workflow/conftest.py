"""Run the workflow as a user does, in a folder of its own, on a small simulated study."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2", "--nocolor"]
GENES = 200


class Study:
    """A working directory with data and configurations.

    Attributes
    ----------
    folder : Path
    config : dict
        The configuration of the completed run.
    targets : tuple of str
        Rules to run up to, all where there are none: many tests need no report and no figures.
    """

    def __init__(self, folder: Path, config: dict, targets: tuple[str, ...] = ()):
        self.folder, self.config, self.targets = folder, config, targets

    def write(self, **changes) -> str:
        """Write the configuration with changes; None removes a key. Return its name."""
        config = {key: value for key, value in (self.config | changes).items() if value is not None}
        (self.folder / "changed.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        return "changed.yaml"

    def snakemake(self, *arguments: str, snakefile: Path = ROOT / "Snakefile", **changes):
        """Run Snakemake with the configuration, changed; return the finished process, all its output in stdout."""
        command = [*SNAKEMAKE, *self.targets, "-s", str(snakefile), "--directory", str(self.folder)]
        command += ["--configfile", str(self.folder / self.write(**changes)), *arguments]
        return run(command)

    def planned(self, *arguments: str, **changes) -> dict[str, int]:
        """Count the jobs of a dry run by rule, without the rules that only name targets."""
        return jobs(self.snakemake("--dry-run", *arguments, **changes))


def run(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run without the variables with which pytest or make could leak into the workflow."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "MAKE", "SNAKEMAKE"))
    }
    # Dry runs write to stdout what runs write to stderr.
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, check=False, cwd=cwd, env=environment, **output)


def jobs(finished: subprocess.CompletedProcess) -> dict[str, int]:
    """Parse the job counts of a dry run."""
    output = finished.stdout
    assert finished.returncode == 0, output
    table = re.search(r"^Job stats:\n.*\n[- ]+\n((?:\S+ +\d+\n)+)", output, re.MULTILINE)
    counts = dict(line.split() for line in table[1].splitlines()) if table else {}
    return {name: int(count) for name, count in counts.items() if name not in ("total", "all", "default")}


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Two cell types and the first genes of the demo; about a tenth of them have effects."""
    from mlmgen.simulate import demo

    full = demo(seed=2)
    small = full[full.obs["cell_type"].isin(["B cells", "Monocytes"]), :GENES].copy()
    path = tmp_path_factory.mktemp("data") / "small.h5ad"
    small.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def study(data, tmp_path_factory) -> Study:
    """The small study, run to the end once; tests must leave its results complete."""
    made = Study(tmp_path_factory.mktemp("study"), configuration(data))
    finished = made.snakemake()
    assert finished.returncode == 0, finished.stdout
    made.finished = finished
    return made


@pytest.fixture
def fresh(data, tmp_path) -> Study:
    """The small study, not yet run."""
    return Study(tmp_path, configuration(data))


def configuration(data: Path) -> dict:
    return {
        "name": "small",
        "input": str(data),
        "donor": "donor",
        "formula": "~ condition + (1 | donor)",
        "reference": {"condition": "ctrl"},
        "contrasts": {"stim_vs_ctrl": "condition[stim] - condition[ctrl]"},
        "shards": 2,
    }
