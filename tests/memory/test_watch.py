"""Seeing memory run short, and limits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch

from lora_foundry.config.allowance import memory_taken
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.environment import worker_environment
from lora_foundry.memory.limit import set_limit, too_small
from lora_foundry.memory.watch import GIB, Watch, available_bytes, total_bytes
from lora_foundry.training.shortage import OutOfMemoryError

CPU = torch.device("cpu")


def _until(raised: Callable[[], None]) -> OutOfMemoryError:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            raised()
        except OutOfMemoryError as error:
            return error
        time.sleep(0.01)
    raise AssertionError("nothing was raised in 10 s")


def test_a_machine_that_runs_short_raises_until_memory_is_back() -> None:
    left = [5 * GIB]
    with Watch(available=lambda: left[0], spare=GIB) as watch:
        time.sleep(0.1)
        watch.check()
        left[0] = GIB // 2
        assert "0.50 GiB are left on this machine, 1.00 are to stay free" in str(_until(watch.check))
        with pytest.raises(OutOfMemoryError):
            watch.check()
        left[0] = 5 * GIB
        watch.check()


def test_a_limit_counts_what_the_process_takes() -> None:
    taken = [GIB]
    with Watch(available=lambda: 100 * GIB, taken=lambda: taken[0]) as watch:
        set_limit(1.5, CPU, watch)
        time.sleep(0.1)
        watch.check()
        taken[0] = 2 * GIB
        assert "2.00 GiB are taken, memory.limit_gib allows 1.50" in str(_until(watch.check))
        set_limit(None, CPU, watch)
        watch.check()


_KEPT = """
import time, torch
from lora_foundry.memory.limit import set_limit
from lora_foundry.config.allowance import memory_taken
from lora_foundry.memory.watch import GIB, Watch
with Watch() as watch:
    before = memory_taken()
    blocks = [torch.ones(2**20) for _ in range(128)]  # 512 MiB
    behind = torch.ones(2**10)  # keeps them from the heap's end
    del blocks
    kept = memory_taken() - before
    set_limit((before + kept / 2) / GIB, torch.device("cpu"), watch)
    for _ in range(20):
        time.sleep(0.02)
        watch.check()
print(kept, memory_taken() - before)
"""


@pytest.mark.slow
def test_memory_that_a_workers_heap_keeps_for_later_is_no_shortage() -> None:
    environment = worker_environment(Slot(name="cpu", device="cpu"))
    done = subprocess.run([sys.executable, "-c", _KEPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept, left = map(int, done.stdout.split())
    assert kept > GIB // 4, "nothing was kept, so nothing is told"
    assert left < GIB // 16


def test_a_real_process_is_seen_to_take_memory() -> None:
    before = memory_taken()
    block = torch.ones(GIB // 16)
    assert memory_taken() - before == pytest.approx(block.nbytes, rel=0.2)
    assert 0 < available_bytes() < total_bytes()


@pytest.mark.parametrize(("left", "fewest", "most"), [(100.0, 1, 6), (1.05, 12, 60)])
def test_it_looks_seldom_while_there_is_room_and_often_near_a_bound(left: float, fewest: int, most: int) -> None:
    looks: list[float] = []

    def available() -> int:
        looks.append(left)
        return int(left * GIB)

    with Watch(available=available, spare=GIB):
        time.sleep(1.0)
    assert fewest <= len(looks) <= most


def test_looking_costs_next_to_nothing() -> None:
    start = time.process_time()
    for _ in range(50):
        available_bytes()
        memory_taken()
    assert (time.process_time() - start) / 50 < 0.002


def test_a_limit_below_the_bases_weights_is_refused_with_what_would_do() -> None:
    assert too_small(None, 10 * GIB, CPU, GIB) is None
    assert too_small(3.1, 2 * GIB, CPU, GIB) is None
    problem = too_small(2.5, 2 * GIB, CPU, GIB)
    assert problem is not None
    assert "got 2.5" in problem
    assert "allowed is more than 3.00" in problem
    assert too_small(2.5, 2 * GIB, torch.device("cuda"), GIB) is None
