"""The lists of dependencies agree, and nothing of one machine is in the repository."""

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import mlmgen
from mlmgen import columns
from mlmgen.status import HELP, label

ROOT = Path(__file__).parent.parent.parent
PROFILES = ("default", "slurm")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def by_name(requirements) -> dict[str, str]:
    """Name to version range."""
    return {normalized(r.name): str(r.specifier) for r in map(Requirement, requirements)}


def conda(path: str) -> dict[str, str]:
    return by_name(yaml.safe_load((ROOT / path).read_text())["dependencies"])


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return by_name(line for line in lines if not line.startswith("#"))


# In the environment for people at work, not in that of the rules.
COMPANIONS = ("scanpy", "snakemake-executor-plugin-slurm", "statsmodels")
# In that of the rules only: its post-deploy script installs mlmgen with them.
INSTALLERS = {"hatchling": ">=1.25", "pip": ""}


def test_conda_environment_has_the_same_dependencies():
    dev = by_name(PROJECT["project"]["optional-dependencies"]["dev"])
    expected = by_name(PROJECT["project"]["dependencies"]) | {"python": PROJECT["project"]["requires-python"]}
    assert conda("environment.yml") == expected | {name: dev[name] for name in COMPANIONS}


def test_rules_environment_is_that_without_snakemake():
    expected = conda("environment.yml") | INSTALLERS
    for name in ("snakemake", *COMPANIONS):
        del expected[name]
    assert conda("workflow/envs/mlmgen.yaml") == expected
    assert by_name(PROJECT["build-system"]["requires"]) == {"hatchling": INSTALLERS["hatchling"]}


def test_what_the_slurm_profile_needs_is_an_extra_of_its_own():
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras["slurm"]) < set(extras["dev"])


def instructions(name: str) -> list[list[str]]:
    """The words of every instruction of the Dockerfile that has this name."""
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split()[1:] for line in joined.splitlines() if line.split(" ")[0] == name]


def test_image_has_the_locked_environment_and_its_python():
    ((image,),) = instructions("FROM")
    python = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", image)[1]
    assert f"for Python {python}" in " ".join((ROOT / "requirements.lock").read_text().split("\n# "))
    assert Requirement(f"python{PROJECT['project']['requires-python']}").specifier.contains(python)
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{python.replace('.', '')}"
    locked_install, own_install, *_ = (" ".join(words) for words in instructions("RUN"))
    assert locked_install.endswith("--requirement /opt/mlmgen/requirements.lock")
    assert own_install.endswith("--no-deps --no-build-isolation /opt/mlmgen")


def test_image_is_built_from_files_that_are_there_and_sent():
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for *sources, _ in instructions("COPY") for source in sources]
    assert sorted(copied) == sorted(sent)
    for name in copied:
        assert (ROOT / name).exists(), name
    needed = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml"}
    needed |= {name.strip("/") for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]}
    assert needed <= set(copied)


def test_image_does_not_run_as_root():
    assert instructions("USER") == [["mlmgen"]]
    assert any("useradd --create-home mlmgen" in " ".join(words) for words in instructions("RUN"))


def test_rules_environment_installs_this_version_of_mlmgen(tmp_path):
    """With a repository from there, without one by name; run with a stand-in for Python."""
    script = ROOT / "workflow/envs/mlmgen.post-deploy.sh"
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)

    def command(**environment: str) -> str:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | environment
        return subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=True).stdout

    assert command() == f"-m pip install --no-deps mlmgen=={mlmgen.__version__}\n"
    source = command(MLMGEN_SOURCE="a folder")
    assert source == "-m pip install --no-deps --no-build-isolation --editable a folder\n"


def test_profiles_say_what_the_default_one_says():
    """Snakemake reads one workflow profile: what is not repeated is lost."""
    default, *others = (yaml.safe_load((ROOT / f"profiles/{name}/profile.yaml").read_text()) for name in PROFILES)
    for profile in others:
        assert {key: profile.get(key) for key in default} == default


def test_every_profile_is_explained():
    readme = (ROOT / "profiles/README.md").read_text()
    assert sorted(path.name for path in (ROOT / "profiles").iterdir() if path.is_dir()) == sorted(PROFILES)
    for name in PROFILES:
        assert f"profiles/{name}" in readme


def test_slurm_profile_has_neither_arrays_nor_groups():
    profile = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert profile["retries"] >= 1
    assert not [key for key in profile if "array" in key or "group" in key]


def test_lock_pins_exactly_one_version_and_nothing_else():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert line.startswith("# ") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line), line


def test_lock_is_the_closure_of_the_declared_dependencies():
    extras = PROJECT["project"]["optional-dependencies"]
    declared = PROJECT["project"]["dependencies"] + extras["dev"] + extras["docs"]
    todo, reached = [Requirement(text) for text in declared], {}
    while todo:
        requirement = todo.pop()
        extras = frozenset(requirement.extras)
        key = (normalized(requirement.name), extras)
        if key in reached:
            continue
        reached[key] = True
        for needed in map(Requirement, importlib.metadata.requires(requirement.name) or []):
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras | {""}):
                todo.append(needed)
    assert set(locked()) == {name for name, _ in reached}


def test_locked_versions_are_within_the_ranges():
    extras = PROJECT["project"]["optional-dependencies"]
    declared = PROJECT["project"]["dependencies"] + extras["dev"] + extras["docs"]
    pins = locked()
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(pins[normalized(requirement.name)].removeprefix("==")), requirement


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == mlmgen.__version__
    assert f"## [{mlmgen.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("table", columns.TABLES)
def test_readme_has_the_registry_of_columns(table):
    assert columns.markdown(table) in (ROOT / "README.md").read_text()


def test_readme_explains_every_status():
    readme = (ROOT / "README.md").read_text()
    for status, text in HELP.items():
        assert f"| `{label(status)}` | {text} |" in readme


def test_columns_are_described_in_one_sentence():
    for column in (column for table in columns.TABLES.values() for column in table):
        assert column.description.endswith(".")
        assert ". " not in column.description
        assert column.dtype in {"category", "str", "float64", "int32"}


def test_effects_columns_are_the_documented_interface():
    assert " ".join(columns.names("effects")) == (
        "cell_type gene gene_name contrast method log2fc lfc_se ci_low ci_high log2fc_shrunken statistic df pvalue "
        "padj padj_global mean_count pct_cells n_cells n_donors status reason"
    )


def repository_files() -> list[Path]:
    """Files under version control or about to be; empty where this is not a clone."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / line for line in run.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_paths_of_one_machine():
    own = Path(__file__).name
    binary = {".npz", ".h5ad", ".gz", ".png"}
    files = [path for path in repository_files() if path.suffix not in binary and path.name != own]
    if not files:
        pytest.skip("not a git clone")
    for path in files:
        text = path.read_text(encoding="utf-8")
        for pattern in (r"(?<![\w.$}])/(work|home|root|Users)/", r"--(extra-)?index-url", r"https?://[^/\s]*pypi"):
            assert not re.search(pattern, text), f"{path.relative_to(ROOT)} has {pattern}"
