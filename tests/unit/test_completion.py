"""Completion by a real bash."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "mlmgen", "completion"]
# What bash does on the tab key, for a line of words.
PRESS_TAB = """
eval "$SCRIPT"
function=$(complete -p mlmgen | sed 's/.* -F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$function mlmgen "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script() -> str:
    return subprocess.run([*PROGRAM, "bash"], capture_output=True, text=True, check=True).stdout


def completed(script: str, folder: Path, *words: str) -> set[str]:
    command = ["bash", "-c", PRESS_TAB, "bash", "mlmgen", *words]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env={"SCRIPT": script})
    assert run.stderr == ""
    return {line.strip() for line in run.stdout.splitlines() if line.strip()}


def test_bash_reads_it(script):
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_commands_options_and_choices(script, tmp_path):
    assert {"init", "check", "run"} <= completed(script, tmp_path, "")
    assert completed(script, tmp_path, "in") == {"init"}
    assert "fit" not in completed(script, tmp_path, "")
    assert {"--donor", "--condition", "--force"} <= completed(script, tmp_path, "init", "--")
    assert {"bash", "zsh", "tcsh"} <= completed(script, tmp_path, "completion", "")


def test_files(script, tmp_path):
    (tmp_path / "study.h5ad").touch()
    (tmp_path / "config.yaml").touch()
    (tmp_path / "results").mkdir()
    assert "study.h5ad" in completed(script, tmp_path, "init", "st")
    assert "config.yaml" in completed(script, tmp_path, "run", "con")
    assert {name.rstrip("/") for name in completed(script, tmp_path, "gene", "ISG15", "")} == {"results"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_read_it(shell):
    text = subprocess.run([*PROGRAM, shell], capture_output=True, text=True, check=True).stdout
    assert "mlmgen" in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)
