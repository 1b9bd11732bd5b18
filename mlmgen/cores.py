"""How many cores and how much memory this process may use, not how many the machine has."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def available(cgroup: Path = CGROUP, own: Path = OWN) -> int:
    """Return the cores that the process may use: those of its CPU affinity, or the quota of its container if smaller.

    Parameters
    ----------
    cgroup, own : Path
        Where the kernel says so; tests give others.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(cgroup, own) if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *(math.ceil(quota) for quota in quotas)]))


def free_megabytes() -> int:
    """Return the memory that is free, MB."""
    import psutil

    return int(psutil.virtual_memory().available / 1e6)


def _folders(cgroup: Path, own: Path) -> list[Path]:
    """Return the folders of the control group of the process and of those around it."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    paths = [line.split(":", 2)[2].lstrip("/") for line in lines if line.count(":") >= 2]
    found = [cgroup, cgroup / "cpu"]
    for path in paths:
        parts = Path(path).parts
        found += [root.joinpath(*parts[:i]) for root in (cgroup, cgroup / "cpu") for i in range(1, len(parts) + 1)]
    return found


def _quota(folder: Path) -> float | None:
    """Return the cores of a control group, version 2 or 1; None where it has no limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    if quota == "max" or float(quota) <= 0:
        return None
    return float(quota) / float(period)
