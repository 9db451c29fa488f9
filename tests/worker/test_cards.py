"""What torch says of the cards that a process sees."""

from __future__ import annotations

import pytest
import torch

from lora_foundry.worker.cards import asked
from tests.training.fake_cuda import GIB, FakeCuda


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def test_a_card_that_computes_is_told_with_what_is_free(cuda: FakeCuda) -> None:
    cuda.cards = 2
    said = asked()
    assert [(card.name, card.free, card.capability, card.problem) for card in said.cards] == [
        ("A card", 20 * GIB, (7, 5), None)
    ] * 2
    assert (said.version, said.problem) == (torch.__version__, None)


def test_one_that_computes_nothing_is_told_beside_one_that_does(cuda: FakeCuda) -> None:
    cuda.cards, cuda.failing = 2, [torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nSee")]
    assert [card.problem for card in asked().cards] == ["CUDA error: uncorrectable ECC error encountered", None]


@pytest.mark.parametrize(
    ("error", "free"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), GIB),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), 2**20),
    ],
)
def test_a_card_that_others_have_filled_is_no_broken_one(cuda: FakeCuda, error: Exception, free: int) -> None:
    cuda.failing, cuda.free = [error], free
    (card,) = asked().cards
    assert (card.problem, card.free) == (None, free)


def test_why_none_is_seen_is_in_torchs_words(cuda: FakeCuda) -> None:
    cuda.init = RuntimeError("Found no NVIDIA driver on your system. Please check\nmore")
    said = asked()
    assert (said.cards, said.problem) == ((), "Found no NVIDIA driver on your system. Please check")
