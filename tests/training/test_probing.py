"""What an error says of a card: full, lost to this process, or nothing."""

from __future__ import annotations

import pytest
import torch

from lora_foundry.training.probing import is_lost, probe
from lora_foundry.training.shortage import OutOfMemoryError, is_out_of_memory
from tests.training.fake_cuda import CARD, GIB, FakeCuda

CPU = torch.device("cpu")
UNKNOWN = RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "HIP out of memory. Tried to allocate 20.00 MiB",
        "HIP error: hipErrorOutOfMemory",
        "miopenStatusAllocFailed",
        "hipBLAS error: HIPBLAS_STATUS_ALLOC_FAILED when calling hipblasCreate",
    ],
)
def test_a_failed_allocation_in_a_librarys_words(cuda: FakeCuda, words: str) -> None:
    for error in (RuntimeError(words), torch.AcceleratorError(words)):
        assert is_out_of_memory(error, CARD)
        assert not is_lost(error, CARD)
    assert cuda.computed == 0, "what is known is not asked again"


def test_cudnn_without_an_engine_is_out_of_memory_where_the_card_is_not_nearly_empty(cuda: FakeCuda) -> None:
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    cuda.free, cuda.reserved, cuda.allocated = GIB, 20 * GIB, 19 * GIB
    assert is_out_of_memory(error, CARD)
    cuda.free, cuda.reserved, cuda.allocated = GIB, 20 * GIB, 5 * GIB
    assert not is_out_of_memory(error, CARD), (
        "most of the card is free: it has no engine for that, as for bf16 on Turing"
    )
    assert not is_lost(error, CARD)


def test_an_error_in_any_words_is_out_of_memory_where_the_card_is_full(cuda: FakeCuda) -> None:
    assert not is_out_of_memory(UNKNOWN, CARD)
    cuda.free = 10 * 2**20
    assert is_out_of_memory(UNKNOWN, CARD)
    assert not is_lost(UNKNOWN, CARD)
    cuda.free, cuda.answer = 20 * GIB, torch.OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(UNKNOWN, CARD), "its own share is full"
    assert probe(CARD) == "short"


def test_a_mistake_is_no_shortage_however_full_the_card_is(cuda: FakeCuda) -> None:
    cuda.free = 0
    assert not is_out_of_memory(ValueError("shapes"), CARD)
    assert not is_lost(KeyError("x"), CARD)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA driver error: unknown error",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
        "HIP error: an illegal memory access was encountered",
        "HIP error: unspecified launch failure",
        "Memory access fault: HSA_STATUS_ERROR_EXCEPTION",
        "miopenStatusUnknownError",
        "Triton Error [CUDA]: misaligned address",
    ],
)
@pytest.mark.parametrize("device", [CARD, CPU], ids=str)
@pytest.mark.usefixtures("cuda")
def test_a_poisoned_process_is_replaced_under_any_name(words: str, device: torch.device) -> None:
    assert is_lost(RuntimeError(words), device)
    assert not is_out_of_memory(RuntimeError(words), device)


def test_the_same_words_on_a_full_card_are_a_shortage(cuda: FakeCuda) -> None:
    """CuDNN and cuBLAS say INTERNAL_ERROR, too, where their own allocations fail."""
    cuda.free = 0
    error = RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR")
    assert is_out_of_memory(error, CARD)
    assert not is_lost(error, CARD)


def test_an_error_in_any_words_is_a_lost_card_where_it_does_not_answer(cuda: FakeCuda) -> None:
    error = RuntimeError("nvrtc: something went wrong")
    assert not is_lost(error, CARD)
    cuda.answer = RuntimeError("GPU is lost")
    assert is_lost(error, CARD)
    assert not is_out_of_memory(error, CARD)


def test_on_the_cpu_no_card_is_asked(cuda: FakeCuda) -> None:
    cuda.answer = RuntimeError("GPU is lost")
    assert not is_lost(UNKNOWN, CPU)
    assert not is_out_of_memory(UNKNOWN, CPU)
    assert is_out_of_memory(OutOfMemoryError("0.1 GiB are left"), CPU)
    assert cuda.computed == 0
