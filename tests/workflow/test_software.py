"""Environments and containers of the rules, with stand-ins for conda and Apptainer: neither runs where this is tested.

What Snakemake asks of them is real: the files that it hands over, the commands that it runs, and where.
"""

import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT

# Makes "environments" in which python writes down how it was called, and mlmgen does that and is the real one
# (of this repository: Snakemake takes PYTHONPATH out of environments).
CONDA = """#!/usr/bin/env bash
case "$1" in
    info) echo '{{"conda_prefix": "{folder}", "platform": "linux-64"}}' ;;
    --version) echo "conda 24.11.1" ;;
    config) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    env)
        while [[ $# -gt 0 ]]; do
            case "$1" in --prefix) prefix=$2 ;; --file) file=$2 ;; esac
            shift
        done
        mkdir -p "$prefix/bin"
        cp "$file" {folder}/asked.yaml
        printf '#!/bin/sh\\necho "$@" >>{folder}/python\\n' >"$prefix/bin/python"
        printf '#!/bin/sh\\necho "$1" >>{folder}/mlmgen\\nPYTHONPATH={root} exec {mlmgen} "$@"\\n' >"$prefix/bin/mlmgen"
        chmod +x "$prefix"/bin/*
        ;;
esac
"""
ACTIVATE = 'export PATH="$1/bin:$PATH"\n'
# Runs the command outside of any container and writes down the image.
APPTAINER = """#!{python}
import os, sys
if "--version" in sys.argv:
    print("apptainer version 1.3.6")
    sys.exit()
image, shell, option, command = sys.argv[-4:]
with open("{folder}/images", "a") as file:
    print(image, file=file)
os.execvp(shell, [shell, option, command])
"""


@pytest.fixture
def stand_ins(tmp_path_factory, monkeypatch) -> Path:
    """A folder with conda and Apptainer on the path."""
    folder = tmp_path_factory.mktemp("stand_ins")
    (folder / "bin").mkdir()
    program = shlex.quote(str(Path(sys.executable).parent / "mlmgen"))
    words = {"folder": folder, "python": sys.executable, "mlmgen": program, "root": shlex.quote(str(ROOT))}
    for name, text in (("conda", CONDA), ("apptainer", APPTAINER)):
        (folder / "bin" / name).write_text(text.format_map(words))
        (folder / "bin" / name).chmod(0o755)
    (folder / "bin" / "activate").write_text(ACTIVATE)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_conda_installs_mlmgen_from_the_repository_in_the_rules_environment(fresh, stand_ins):
    finished = fresh.snakemake("--sdm", "conda", "--until", "split")
    assert finished.returncode == 0, finished.stdout
    assert (stand_ins / "asked.yaml").read_text() == (ROOT / "workflow/envs/mlmgen.yaml").read_text()
    (installed,) = (stand_ins / "python").read_text().splitlines()
    assert installed == f"-m pip install --no-deps --no-build-isolation --editable {ROOT}"
    assert (stand_ins / "mlmgen").read_text().split() == ["split"]


def test_every_rule_has_the_environment_and_the_image(fresh, stand_ins):
    planned = fresh.planned("--sdm", "conda", "apptainer", "--printshellcmds")
    assert planned
    for name in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        text = name.read_text()
        assert text.count('\n    conda:\n        "../envs/mlmgen.yaml"\n') == text.count("\nrule ") + text.startswith(
            "rule "
        )


def test_apptainer_runs_jobs_in_the_image_of_the_working_directory(fresh, stand_ins):
    finished = fresh.snakemake("--sdm", "apptainer", "--until", "split")
    assert finished.returncode == 0, finished.stdout
    assert (stand_ins / "images").read_text().split() == ["mlmgen.sif"]
