"""The launcher says which device a process trains on; another is refused, in torch's own words and with what to do."""

from __future__ import annotations

import pytest
import torch

from lora_foundry.config.compose import compose_job
from lora_foundry.training.device import DeviceError, own_device, refuse_other
from lora_foundry.wire.commands import OwnDevice
from tests.phrases import CARD_IS_GONE, DAMAGED, LETS_ALL_IN, ON_THE_CPU, RESTART
from tests.training.fake_cuda import CARD, GIB, FakeCuda

TOLD = OwnDevice(kind="cuda")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def test_a_card_that_computes_is_taken(cuda: FakeCuda) -> None:
    assert own_device(TOLD) == CARD
    assert cuda.computed == 1


def test_who_is_told_the_cpu_asks_no_card(cuda: FakeCuda) -> None:
    cuda.init = RuntimeError("no")
    assert own_device(OwnDevice(kind="cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("error", "what_to_do"),
    [
        (AssertionError("Torch not compiled with CUDA enabled"), "install a torch that is built for CUDA or ROCm"),
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update"),
            "bring the driver up to date",
        ),
        (RuntimeError("Found no NVIDIA driver on your system. Please check"), "docker run --gpus all"),
        (RuntimeError("No CUDA GPUs are available"), CARD_IS_GONE),
        (RuntimeError("CUDA unknown error - this may be due to"), RESTART),
        (
            RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted"),
            "the driver's module and its libraries do not fit together",
        ),
        (
            torch.cuda.DeferredCudaCallError(
                "CUDA call failed lazily at initialization with error: busy or unavailable"
            ),
            LETS_ALL_IN,
        ),
    ],
)
def test_a_card_that_torch_cannot_begin_is_refused(cuda: FakeCuda, error: Exception, what_to_do: str) -> None:
    cuda.init = error
    with pytest.raises(DeviceError) as caught:
        own_device(TOLD)
    said = str(caught.value)
    assert said.startswith(str(error)), "torch's own reason comes first"
    assert what_to_do in said
    assert said.endswith(ON_THE_CPU)
    assert cuda.computed == 0


@pytest.mark.parametrize(
    ("error", "what_to_do"),
    [
        ("CUDA error: no kernel image is available for execution on the device\nSearch", "a card of that age"),
        ("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors", DAMAGED),
        ("HIP error: the operation cannot be performed in the present state", "look at nvidia-smi or rocminfo"),
    ],
)
def test_a_card_that_begins_and_does_not_compute_is_refused(cuda: FakeCuda, error: str, what_to_do: str) -> None:
    cuda.answer = torch.AcceleratorError(error)
    with pytest.raises(DeviceError) as caught:
        own_device(TOLD)
    assert str(caught.value).startswith(error.splitlines()[0])
    assert what_to_do in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_that_others_have_filled_just_now_is_not_refused_for_good(cuda: FakeCuda) -> None:
    cuda.answer = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        own_device(TOLD)


def test_a_full_card_is_not_refused_for_good_in_whatever_words_a_library_meets_it(cuda: FakeCuda) -> None:
    cuda.answer, cuda.free = None, 10 * 2**20
    full = RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")
    cuda.failing = [full]
    with pytest.raises(RuntimeError, match="CUBLAS_STATUS_NOT_INITIALIZED") as caught:
        own_device(TOLD)
    assert caught.value is full
    cuda.free, cuda.failing = 20 * GIB, [full]
    with pytest.raises(DeviceError, match="CUBLAS_STATUS_NOT_INITIALIZED"):
        own_device(TOLD)


@pytest.mark.slow
def test_a_job_that_asks_for_another_device_is_refused() -> None:
    cpu, gpu = (compose_job(f"trainer.accelerator={kind}").trainer for kind in ("cpu", "gpu"))
    refuse_other(compose_job().trainer, CARD)
    refuse_other(cpu, torch.device("cpu"))
    with pytest.raises(ValueError, match="got cpu, but this worker was given cuda"):
        refuse_other(cpu, CARD)
    with pytest.raises(ValueError, match="got gpu, but this worker was given cpu"):
        refuse_other(gpu, torch.device("cpu"))
