"""Cores and memory as control groups leave them, read from folders that look like the kernel's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.config.allowance import cores, memory_left, memory_most, quota_bites
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.machines.engines.local import LocalEngine

GIB = 2**30
Kernel = Callable[..., tuple[Path, Path]]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """``kernel("0::/a", {"a/cpu.max": "..."})``: 8 cores by affinity, 10 GiB available; returns proc and cgroup."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def make(groups: str, files: dict[str, str]) -> tuple[Path, Path]:
        proc, root = tmp_path / "proc", tmp_path / "cgroup"
        (proc / "self").mkdir(parents=True)
        (proc / "self" / "cgroup").write_text(groups)
        (proc / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {10 * GIB // 1024} kB\n")
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text + "\n")
        return proc, root

    return make


V1 = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000"}, 1),
        ("0::/a\n", {"a/cpu.max": "6400000 100000"}, 8),
        ("0::/only/the/host/knows\n", {"cpu.max": "300000 100000"}, 3),
        (V1, {"cpu/docker/x/cpu.cfs_quota_us": "400000", "cpu/docker/x/cpu.cfs_period_us": "100000"}, 4),
        (V1, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"cpu/docker/x/cpu.cfs_quota_us": "-1", "cpu/docker/x/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_quota_counts(kernel: Kernel, groups: str, files: dict[str, str], expected: int) -> None:
    proc, root = kernel(groups, files)
    assert cores(proc, root) == expected
    assert quota_bites(proc, root) == (expected < 8)


@pytest.mark.parametrize(
    ("groups", "files", "gib"),
    [
        ("0::/\n", {}, 10),
        ("0::/a\n", {"a/memory.max": "max", "a/memory.current": "5"}, 10),
        ("0::/a\n", {"a/memory.max": f"{4 * GIB}", "a/memory.current": f"{3 * GIB}"}, 1),
        (
            "0::/a/b\n",
            {
                "a/memory.max": f"{4 * GIB}",
                "a/memory.current": f"{3 * GIB}",
                "a/memory.stat": f"anon 7\ninactive_file {2 * GIB}",
                "a/b/memory.max": "max",
            },
            3,
        ),
        ("0::/a\n", {"a/memory.max": f"{2 * GIB}", "a/memory.current": f"{3 * GIB}"}, 0),
        (
            V1,
            {
                "memory/docker/x/memory.limit_in_bytes": f"{8 * GIB}",
                "memory/docker/x/memory.usage_in_bytes": f"{6 * GIB}",
                "memory/docker/x/memory.stat": f"total_inactive_file {GIB}",
            },
            3,
        ),
    ],
)
def test_a_memory_limit_counts_less_what_is_used(kernel: Kernel, groups: str, files: dict[str, str], gib: int) -> None:
    assert memory_left(*kernel(groups, files)) == gib * GIB


@pytest.mark.parametrize(
    ("groups", "limit"), [("0::/a\n", "a/memory.max"), (V1, "memory/docker/x/memory.limit_in_bytes")]
)
def test_the_most_is_the_least_limit_or_the_machine(kernel: Kernel, groups: str, limit: str) -> None:
    proc, root = kernel(groups, {limit: f"{4 * GIB}"})
    (proc / "meminfo").write_text(f"MemTotal: {16 * GIB // 1024} kB\n")
    assert memory_most(proc, root) == 4 * GIB
    (root / limit).write_text("max")
    assert memory_most(proc, root) == 16 * GIB


@pytest.mark.parametrize("ask", [memory_left, memory_most])
def test_no_proc_no_number(tmp_path: Path, ask: Callable[[Path, Path], int | None]) -> None:
    assert ask(tmp_path / "proc", tmp_path / "cgroup") is None


def test_cpu_slots_get_a_share_of_the_threads_and_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_foundry.launch.machines.engines.local.cores", lambda: 5)
    monkeypatch.setattr("lora_foundry.launch.machines.engines.local.memory_left", lambda: 10 * GIB)
    monkeypatch.setattr("lora_foundry.launch.machines.engines.local.quota_bites", lambda: False)
    slots = LocalEngine(Settings(slots=2)).slots("cpu")
    assert [(slot.threads, slot.memory, slot.lock) for slot in slots] == [(2, 4 * GIB, "cpu")] * 2
    (alone,) = LocalEngine(Settings()).slots("cpu")
    assert (alone.threads, alone.memory) == (None, 8 * GIB), "all cores: torch counts them itself"
    monkeypatch.setattr("lora_foundry.launch.machines.engines.local.quota_bites", lambda: True)
    (quota,) = LocalEngine(Settings()).slots("cpu")
    assert quota.threads == 5, "torch does not see a quota"
