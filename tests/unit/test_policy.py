"""Where compiled kernels are kept."""

import os
import subprocess
import sys
from pathlib import Path

from mlmgen.kernels import policy


def test_the_cache_folder_belongs_to_the_user_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(policy.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = Path(policy.cache_folder())
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_folder_that_others_can_write_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(policy.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(policy.tempfile, "tempdir", str(tmp_path))
    first = Path(policy.cache_folder())
    assert Path(policy.cache_folder()) == first
    first.chmod(0o777)
    assert Path(policy.cache_folder()) != first


def test_a_cache_folder_that_the_user_chose_is_respected(tmp_path):
    code = "import os, mlmgen.kernels.policy, numba; print(os.environ['NUMBA_CACHE_DIR'], numba.config.CACHE_DIR)"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path), str(tmp_path)]
