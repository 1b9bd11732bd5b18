"""Compiled kernels that the nodes of a cluster share: real processes, each with a local disk of its own."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mlmgen import kernel_cache

ROOT = Path(__file__).parent.parent.parent
# A stage that calls one small kernel and says whether it had to be compiled.
STAGE = """
def run(threads=1, **arguments):
    from mlmgen.kernels.elementary import log_normal_tail
    log_normal_tail(3.0)
    print("compiled" if log_normal_tail.stats.cache_misses else "found", os.environ["NUMBA_CACHE_DIR"])
"""
JOB = f"""
import os, sys, types
import mlmgen.cli, mlmgen.cli_stages
{STAGE}
stage = types.ModuleType("stage")
stage.run = run
sys.modules["stage"] = stage
for command in ("fit", "moderate"):
    mlmgen.cli_stages.STAGES[command] = ("stage", "run")
mlmgen.cli.main(sys.argv[1:])
"""
FIT = ["fit", "--counts", "c", "--method", "glmm", "--output", "o"]
MODERATE = ["moderate", "--counts", "c", "--fits", "f", "--output", "o"]


def job(node: Path, shared: str | None, *arguments: str, code: str = JOB, **environment: str) -> tuple[str, Path]:
    """Run a job with a node's local disk; return whether it compiled, and where numba worked."""
    node.mkdir(exist_ok=True)
    inherited = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "MLMGEN_KERNELS")}
    environment = inherited | {"TMPDIR": str(node), "PYTHONPATH": str(ROOT)} | environment
    if shared is not None:
        environment["MLMGEN_KERNELS"] = shared
    command = [sys.executable, "-c", code, *(arguments or FIT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    outcome, folder = done.stdout.split()
    return outcome, Path(folder)


def packed(shared: Path) -> list[Path]:
    return sorted(shared.rglob("*.zip"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """An exchange in which the job of one node left its kernel."""
    shared = tmp_path_factory.mktemp("shared")
    outcome, folder = job(tmp_path_factory.mktemp("first"), str(shared))
    assert outcome == "compiled"
    assert not folder.exists()
    return shared


@pytest.fixture
def exchange(compiled, tmp_path) -> Path:
    """A copy of that exchange, as private as it is."""
    copy = tmp_path / "shared"
    for path in packed(compiled):
        target = copy / path.relative_to(compiled)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        target.chmod(0o600)
    return copy


def test_another_node_finds_what_was_compiled(exchange, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in packed(exchange)}
    outcome, folder = job(tmp_path / "node", str(exchange))
    assert outcome == "found"
    assert {path: path.stat().st_mtime_ns for path in packed(exchange)} == before
    assert folder.parent == tmp_path / "node"  # numba worked on the local disk
    assert not folder.exists()


def test_only_whole_files_are_left_and_only_the_user_can_write_them(compiled):
    assert packed(compiled)
    assert {path.suffix for path in compiled.rglob("*") if path.is_file()} == {".zip"}
    for path in packed(compiled):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        names = zipfile.ZipFile(path).namelist()
        assert names[0].endswith(".nbi")
        assert all(name.endswith(".nbc") for name in names[1:])


@pytest.mark.parametrize("damage", ["writable", "truncated", "flipped", "empty"])
def test_what_is_damaged_or_may_be_of_others_is_compiled_again(exchange, tmp_path, damage):
    for path in packed(exchange):
        content = path.read_bytes()
        if damage == "writable":
            path.chmod(0o666)
        elif damage == "truncated":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        else:
            path.write_bytes(b"")
    assert job(tmp_path / "node", str(exchange))[0] == "compiled"
    assert job(tmp_path / "other", str(exchange))[0] == "found"  # the good ones replaced them


def test_another_kind_of_machine_has_a_folder_of_its_own(exchange, tmp_path):
    outcome, _ = job(tmp_path / "node", str(exchange), NUMBA_CPU_NAME="generic")
    assert outcome == "compiled"
    assert len(list(exchange.iterdir())) == 2
    assert job(tmp_path / "other", str(exchange), NUMBA_CPU_NAME="generic")[0] == "found"
    assert job(tmp_path / "third", str(exchange))[0] == "found"


def test_numba_itself_tells_machines_apart():
    """The second line of defence: the index of a kernel names the processor beside the signature."""
    from numba.core.registry import cpu_target

    _, processor, features = cpu_target.target_context.codegen().magic_tuple()
    assert processor
    assert features


def test_kernels_of_the_node_are_used_and_not_left_for_others(tmp_path):
    node, shared = tmp_path / "node", tmp_path / "shared"
    outcome, folder = job(node, None)
    assert outcome == "compiled"
    assert folder.exists()
    outcome, private = job(node, str(shared))
    assert outcome == "found"
    assert private != folder
    assert not shared.exists()


@pytest.mark.parametrize("setting", [None, "", "off"])
def test_nothing_is_exchanged_where_it_is_switched_off(tmp_path, setting):
    _, folder = job(tmp_path / "node", setting)
    assert re.fullmatch(rf"mlmgen-{os.getuid()}-[0-9.]+-[0-9a-f]+", folder.name)


def test_a_folder_that_the_user_chose_for_numba_is_left_alone(exchange, tmp_path):
    chosen = tmp_path / "chosen"
    outcome, folder = job(tmp_path / "node", str(exchange), NUMBA_CACHE_DIR=str(chosen))
    assert (outcome, folder) == ("compiled", chosen)


def test_stages_without_kernels_exchange_nothing(exchange, tmp_path):
    assert job(tmp_path / "node", str(exchange), *MODERATE)[0] == "compiled"


def test_an_exchange_that_cannot_be_made_stops_no_job(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert job(tmp_path / "node", str(tmp_path / "file" / "kernels"))[0] == "compiled"


def test_what_a_failing_job_compiled_is_not_lost(tmp_path):
    shared = tmp_path / "shared"
    code = JOB.replace("stage.run = run", "stage.run = lambda **given: (run(**given), sys.exit(0))")
    assert job(tmp_path / "node", str(shared), code=code)[0] == "compiled"
    assert job(tmp_path / "other", str(shared))[0] == "found"


def test_folders_of_killed_jobs_are_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(kernel_cache.platform, "node", lambda: "node")
    left = tmp_path / f"mlmgen-{os.getuid()}-job-node@{ended.pid}-abc"
    others = [
        tmp_path / f"mlmgen-{os.getuid()}-job-{node}@{ended.pid}-abc" for node in ("another", f"node-{ended.pid}")
    ]
    for folder in (left, *others):
        folder.mkdir()
    own = kernel_cache.private_folder()
    again = kernel_cache.private_folder()
    assert not left.exists()
    assert own.exists()
    assert again.exists()
    assert all(folder.exists() for folder in others)  # their processes run on other nodes
    assert own.stat().st_mode & 0o777 == 0o700


def test_a_kernel_with_more_signatures_replaces_one_with_fewer(tmp_path):
    shared = tmp_path / "shared"

    def leave(signatures: int) -> None:
        own = tmp_path / str(signatures) / "kernels_x"
        own.mkdir(parents=True)
        (own / "f-1.py311.nbi").write_bytes(bytes([signatures]))
        for i in range(1, signatures + 1):
            (own / f"f-1.py311.{i}.nbc").write_bytes(b"code")
        kernel_cache.publish(own.parent, {}, shared)

    def held() -> int:
        (path,) = packed(shared)
        return len(kernel_cache.read(path)) - 1

    leave(2)
    assert held() == 2
    leave(1)
    assert held() == 2
    leave(3)
    assert held() == 3
    kernel_cache.fetch(shared, tmp_path / "1")  # has one signature, now gets all three
    assert len(list((tmp_path / "1" / "kernels_x").iterdir())) == 4
    assert (tmp_path / "1" / "kernels_x" / "f-1.py311.nbi").read_bytes() == bytes([3])


def test_no_name_leads_out_of_the_folder(tmp_path):
    shared, own = tmp_path / "shared", tmp_path / "own" / "folder"
    shared.mkdir()
    own.mkdir(parents=True)
    for name, member in (("..@f.nbi.zip", "f.nbi"), ("k@f.nbi.zip", "../f.nbi"), ("k@g.nbi.zip", "g.py")):
        with zipfile.ZipFile(shared / name, "w") as archive:
            archive.writestr(member, "code")
        (shared / name).chmod(0o600)
    kernel_cache.fetch(shared, own)
    assert [path for path in (tmp_path / "own").rglob("*") if path.is_file()] == []
