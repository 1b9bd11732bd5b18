"""The run of the demo data set that pages show: the commands of the page `first_run.md`, run once in a build."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / "_build" / "first_run"
PRINTED = FOLDER / "printed.json"
# What goes into the pages' folder as it is.
EXTRA = FOLDER / "extra"
REPORT = "demo_report.html"
PAGE = "first_run"
USED_BY = {PAGE, "reading_tables", "figures", "other_packages"}
TERMINAL = re.compile(r"^```\{terminal\}\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def on_before_read(app, env, names: list[str]) -> None:
    """Run the commands if one of the pages to be read needs them; Sphinx calls this before it reads any."""
    if app.config.nb_execution_mode != "off" and USED_BY.intersection(names):
        make()


def make() -> None:
    """Run the commands of the page in an empty folder and keep what they print; an error stops the build."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    commands = TERMINAL.findall((HERE / f"{PAGE}.md").read_text())
    PRINTED.write_text(json.dumps({command: run(command) for command in commands}))
    EXTRA.mkdir()
    shutil.copy(FOLDER / "results/demo/report.html", EXTRA / REPORT)


def run(commands: str) -> str:
    """Run commands of a shell in the folder and return what they print."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(["bash", "-ec", commands], cwd=FOLDER, env=environment, check=False, **streams)
    if done.returncode:
        raise RuntimeError(f"{commands}exit {done.returncode}\n{done.stdout}")
    return done.stdout


def printed(commands: str) -> str:
    """Return what commands of the page printed; nothing where they were not run."""
    return json.loads(PRINTED.read_text()).get(commands, "") if PRINTED.exists() else ""


def enter() -> None:
    """Go to the folder that has ``results/demo``."""
    os.chdir(FOLDER)
