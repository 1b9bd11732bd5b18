"""Compiled kernels for the nodes of a cluster: what one job compiled, the jobs on other nodes find.

The folder of compiled kernels (``kernels.policy``) is on a node's local disk, and compiling takes minutes. Jobs of a
cluster therefore exchange them through a folder on the shared disk, one file for each kernel. numba itself never works
in that folder: file systems of a network have crashed it there. A job starts from copies in a folder of its own,
compiles what is missing, and leaves what it compiled for the others. Nothing here stops a job: where files cannot be
exchanged, kernels are compiled.

numba's index names the processor for which code was compiled, and so does the name of the exchange's folder: code of
another kind of machine is never seen. numba unpickles what it finds, hence only files are taken that belong to the
user and that nobody else can write.
"""

import contextlib
import glob
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

FOLDER = "NUMBA_CACHE_DIR"
# Of an exchange that cannot be read or written, because it is damaged, full, or of somebody else.
FAILURES = (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError)


@contextlib.contextmanager
def exchanged(folder: str | os.PathLike) -> Iterator[None]:
    """Let the kernels of a job come from a shared folder, and those that it compiles go there.

    The block is where numba must be imported for the first time. Where it is already, or where the user chose
    numba's folder, nothing is exchanged.

    Parameters
    ----------
    folder : path-like
        On a disk that all nodes see; made when something is left there.
    """
    if FOLDER in os.environ or "numba" in sys.modules:
        yield
        return
    own = private_folder()
    os.environ[FOLDER] = str(own)
    try:
        local, shared = local_folder(), None
        with contextlib.suppress(*FAILURES):
            link(local, own)
            shared = Path(folder) / machine(local.name)
            fetch(shared, own)
        before = indices(own)
        try:
            yield
        finally:
            if shared:
                with contextlib.suppress(*FAILURES):
                    publish(own, before, shared)
    finally:
        del os.environ[FOLDER]
        shutil.rmtree(own, ignore_errors=True)


def private_folder() -> Path:
    """Make a folder for this process alone; those of this node's processes that were killed are removed.

    Folders for temporary files may be on a disk that nodes share: a process's number says something on its node only.
    """
    # No name of a node holds an @, so that none is the beginning of another.
    prefix = f"mlmgen-{os.getuid()}-job-{re.sub(r'[^A-Za-z0-9.-]', '_', platform.node())}@"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        pid = old.name.removeprefix(prefix).split("-")[0]
        if pid.isdecimal() and not alive(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))


def alive(pid: int) -> bool:
    """Tell whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def local_folder() -> Path:
    """Return the folder of kernels that other work on this node uses; its name tells the kernels' sources."""
    from mlmgen.kernels import policy

    return Path(policy.cache_folder())


def machine(kernels: str) -> str:
    """Return a name that two jobs share where the compiled code of one is the other's: 24 hexadecimal digits.

    Parameters
    ----------
    kernels : str
        What tells the state of the kernels' sources.
    """
    import numba
    from llvmlite import binding

    features = numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    processor = (numba.config.CPU_NAME or binding.get_host_cpu_name(), features, platform.machine())
    parts = (kernels, platform.python_version(), numba.__version__, binding.llvm_version_info, processor)
    return sha256(repr(parts).encode()).hexdigest()[:24]


def indices(folder: Path) -> dict[Path, int]:
    """Index files of the compiled kernels in a folder, as numba writes them -> when each was last written, in ns."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*.nbi")}


def files_of(index: Path) -> list[Path]:
    """Return the index of a kernel and its compiled code, one file for each signature."""
    kernel = glob.escape(index.name.removesuffix(".nbi"))
    return [index, *sorted(index.parent.glob(f"{kernel}.*.nbc"))]


def link(local: Path, own: Path) -> None:
    """Give a folder the kernels of another on the same disk; numba replaces files and never changes them."""
    for index in local.glob("*/*.nbi"):
        (own / index.parent.name).mkdir(exist_ok=True)
        for path in files_of(index):
            with contextlib.suppress(OSError):  # replaced in this moment: that kernel is compiled again
                os.link(path, own / path.parent.name / path.name)


def fetch(shared: Path, own: Path) -> None:
    """Copy the kernels of the shared folder of which this one has fewer signatures; damaged files are left out."""
    for packed in sorted(shared.glob("[!.]*@*.zip")):
        with contextlib.suppress(*FAILURES):
            content = read(packed)
            index = own / packed.name.removesuffix(".zip").replace("@", "/")
            if index.exists() and len(files_of(index)) >= len(content):
                continue
            index.parent.mkdir(exist_ok=True)
            for name, data in content.items():
                target = index.parent / name
                target.unlink(missing_ok=True)  # it may be linked to the file of another folder
                target.write_bytes(data)


def read(packed: Path) -> dict[str, bytes]:
    """Read the files of one kernel, name -> content, each against its checksum.

    Raises
    ------
    ValueError
        Where somebody else may have written it, or a name leads elsewhere.
    """
    with open(packed, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise ValueError(f"{packed} may be of somebody else")
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any("/" in name or not name.endswith((".nbi", ".nbc")) for name in names):
                raise ValueError(f"{packed} has files that are not of numba")
            return {name: archive.read(name) for name in names}


def publish(own: Path, before: dict[Path, int], shared: Path) -> None:
    """Leave the kernels that were compiled since `before` for others, each file at once or not at all.

    Parameters
    ----------
    own : Path
        Folder of this process.
    before : dict of Path to int
        `indices` of that folder when the job began.
    shared : Path
        Where kernels of this kind of machine are exchanged.
    """
    compiled = sorted(index for index, written in indices(own).items() if before.get(index) != written)
    if not compiled:
        return
    shared.parent.mkdir(parents=True, exist_ok=True)
    shared.mkdir(mode=0o700, exist_ok=True)
    for index in compiled:
        pack(index, shared / f"{index.parent.name}@{index.name}.zip")


def pack(index: Path, target: Path) -> None:
    """Write one kernel as one file, where the one that is there does not have as many signatures."""
    files = files_of(index)
    with contextlib.suppress(*FAILURES):
        if len(read(target)) >= len(files):
            return
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=target.parent)
    try:
        with open(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for path in files:
                    archive.write(path, path.name)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
