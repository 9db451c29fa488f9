"""What this process may take of the machine's cores and memory: its affinity and its control groups count."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_MEMORY_FILES = (  # version 2, version 1
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cores(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """Cores that this process may keep busy, at least 1: of its affinity, and of its groups' quota of CPU time."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([there, *(int(quota) for quota in _quotas(proc, groups))]))


def quota_bites(proc: Path = _PROC, groups: Path = _GROUPS) -> bool:
    """Whether a quota leaves fewer cores than a library counts that looks at the affinity alone, as torch does."""
    return hasattr(os, "sched_getaffinity") and cores(proc, groups) < len(os.sched_getaffinity(0))


def memory_left(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """Bytes that this process can still take: the machine's, or its groups' where that is less; null if unknown."""
    return _least_of("MemAvailable:", _left_in_groups, proc, groups)


def memory_most(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """Bytes that this process could take at most, were nothing else there; null if unknown."""
    return _least_of("MemTotal:", _limits_of_groups, proc, groups)


def memory_taken(proc: Path = _PROC) -> int:
    """Bytes of memory that this process holds."""
    return int((proc / "self" / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _least_of(key: str, of_groups: Callable[[Path, Path], Iterator[int]], proc: Path, groups: Path) -> int | None:
    machine = [int(line.split()[1]) * 1024 for line in _text(proc / "meminfo").splitlines() if line.startswith(key)]
    return min([*machine, *of_groups(proc, groups)]) if machine else None


def _quotas(proc: Path, groups: Path) -> Iterator[float]:
    """Cores' worth of CPU time that each group allows, those without a quota left out."""
    for folder in _folders("", proc, groups):  # version 2: "max 100000" or "150000 100000"
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit():
            yield int(words[0]) / int(words[1])
    for folder in _folders("cpu", proc, groups):  # version 1: -1 is no quota
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _limits_of_groups(proc: Path, groups: Path) -> Iterator[int]:
    for controller, most, _, _ in _MEMORY_FILES:
        for folder in _folders(controller, proc, groups):
            if (limit := _text(folder / most)).isdigit():
                yield int(limit)


def _left_in_groups(proc: Path, groups: Path) -> Iterator[int]:
    for controller, most, used, idle in _MEMORY_FILES:
        for folder in _folders(controller, proc, groups):
            limit, taken = _text(folder / most), _text(folder / used)
            if limit.isdigit() and taken.isdigit():
                yield max(0, int(limit) - int(taken) + _idle(folder, idle))


def _idle(folder: Path, key: str) -> int:
    """Bytes of file pages that nobody uses: the kernel takes them back before it ends a process."""
    words = (line.split() for line in _text(folder / "memory.stat").splitlines())
    return next((int(pair[1]) for pair in words if pair[0] == key), 0)


def _folders(controller: str, proc: Path, groups: Path) -> list[Path]:
    """Folders of this process's groups, its own first; ``controller`` is empty for version 2.

    A container often sees its own group at the mount's root, under a path that only its host knows.
    """
    mount = groups / controller
    if not mount.is_dir():
        return []
    for line in _text(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = mount / path.lstrip("/")
            return [folder for folder in (own, *own.parents) if folder.is_relative_to(mount) and folder.is_dir()]
    return [mount]


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
