"""What the allocator of a card may take: a share of what was free when the sweep got it, less a margin."""

from __future__ import annotations

import pytest

from lora_foundry.memory.libraries import GPU_CONTEXT
from lora_foundry.memory.limit import set_limit
from lora_foundry.memory.watch import GIB, Watch
from tests.training.fake_cuda import CARD, FakeCuda

MARGIN = 0.02 * 24 * GIB


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def _most(cuda: FakeCuda, limit_gib: float | None = None, share: int | None = None) -> float:
    set_limit(limit_gib, CARD, Watch(), share)
    assert cuda.fraction is not None
    return cuda.fraction * cuda.total


def test_workers_of_one_card_keep_to_their_shares(cuda: FakeCuda) -> None:
    """Drivers of Windows and WSL2 would move what is too much to the host's memory and say nothing."""
    cuda.free = 3 * GIB  # the other one is there already
    assert _most(cuda, share=10 * GIB) == pytest.approx(10 * GIB - GPU_CONTEXT - MARGIN, abs=1)
    assert 2 * (_most(cuda, share=10 * GIB) + GPU_CONTEXT) < 20 * GIB


def test_one_worker_leaves_others_what_they_have(cuda: FakeCuda) -> None:
    assert _most(cuda, share=20 * GIB) < 20 * GIB < cuda.total


def test_where_the_launcher_knows_nothing_it_is_what_is_free_and_what_is_its_own(cuda: FakeCuda) -> None:
    cuda.free, cuda.reserved = 4 * GIB, 6 * GIB
    assert _most(cuda) == pytest.approx(10 * GIB - MARGIN, abs=1)


def test_the_users_limit_counts_where_it_is_less(cuda: FakeCuda) -> None:
    assert _most(cuda, 2.0, share=10 * GIB) == pytest.approx(2 * GIB, abs=1)
    assert _most(cuda, 20.0, share=10 * GIB) < 10 * GIB
    assert _most(cuda, None, share=10 * GIB) > 2 * GIB, "a limit of the pack before is lifted"


def test_a_card_that_shares_the_hosts_memory_has_no_such_bound(cuda: FakeCuda) -> None:
    cuda.integrated, cuda.free = True, GIB  # on a Jetson, files in the cache are not free
    assert _most(cuda, share=GIB) == cuda.total


def test_something_is_left_to_say_that_there_is_too_little(cuda: FakeCuda) -> None:
    assert _most(cuda, share=GIB // 2) == pytest.approx(256 * 2**20, abs=1)
