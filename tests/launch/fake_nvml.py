"""A stand-in for ``pynvml``: what :mod:`lora_foundry.launch.machines.devices` calls, over a test's cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest

from lora_foundry.launch.machines.devices import Driver, Gpu

GIB = 2**30


class NVMLError(Exception):
    """Whatever the driver refuses."""


def see(monkeypatch: pytest.MonkeyPatch, *cards: Gpu) -> None:
    """Local workers have these cards, whatever torch is installed."""
    monkeypatch.setattr("lora_foundry.launch.machines.cards.ask_driver", lambda: Driver(cards=cards))
    monkeypatch.setattr("lora_foundry.launch.machines.engines.local.torch_build", lambda: None)


@dataclass(kw_only=True)
class Card:
    """What the driver knows of one; null memory is refused, ``gone`` refuses the card itself, no parts are a whole."""

    bus: int
    uuid: str
    name: str | bytes = "A card"
    capability: tuple[int, int] | None = (8, 9)
    total: int | None = 24 * GIB
    free: int | None = 20 * GIB
    compute: Sequence[tuple[int, int | None]] = ()
    graphics: Sequence[tuple[int, int | None]] | None = ()
    parts: Sequence[Card | None] | None = None
    gone: bool = False
    mode: int = 0  # of computing: 2 lets nobody in, 3 one process


def fake_nvml(
    cards: Sequence[Card], *, driver: bool = True, problem: str | None = None, cuda: int | None = 13000
) -> ModuleType:
    """To be put into ``sys.modules["pynvml"]``; counts how often it was opened and shut."""
    nvml = ModuleType("pynvml")
    state = SimpleNamespace(open=0)

    def init() -> None:
        if problem or not driver:
            raise NVMLError(problem or "NVML Shared Library Not Found")
        state.open += 1

    def shutdown() -> None:
        state.open -= 1

    def handle(number: int) -> Card:
        assert state.open, "asked before nvmlInit"
        if cards[number].gone:
            raise NVMLError("GPU is lost")
        return cards[number]

    def capability(card: Card) -> list[int]:
        if card.capability is None:
            raise NVMLError("Not Supported")
        return [*card.capability]

    def memory(card: Card) -> SimpleNamespace:
        if card.total is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(total=card.total, free=card.free)

    def processes(listed: Sequence[tuple[int, int | None]] | None) -> list[SimpleNamespace]:
        if listed is None:
            raise NVMLError("Not Supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=taken) for pid, taken in listed]

    def mode(card: Card) -> list[int]:
        if card.parts is None:
            raise NVMLError("Not Supported")
        return [1, 1]

    def runs() -> int:
        if cuda is None:
            raise NVMLError("Function Not Found")
        return cuda

    def part(card: Card, number: int) -> Card:
        found = (card.parts or ())[number]
        if found is None:
            raise NVMLError("Not Found")
        return found

    nvml.__dict__.update(
        NVMLError=NVMLError,
        NVML_DEVICE_MIG_ENABLE=1,
        NVML_COMPUTEMODE_PROHIBITED=2,
        NVML_COMPUTEMODE_EXCLUSIVE_PROCESS=3,
        nvmlInit=init,
        nvmlShutdown=shutdown,
        nvmlSystemGetDriverVersion=lambda: "580.95.05",
        nvmlSystemGetCudaDriverVersion_v2=runs,
        nvmlDeviceGetComputeMode=lambda card: card.mode,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetPciInfo=lambda card: SimpleNamespace(domain=0, bus=card.bus, device=0),
        nvmlDeviceGetUUID=lambda card: card.uuid,
        nvmlDeviceGetName=lambda card: card.name,
        nvmlDeviceGetCudaComputeCapability=capability,
        nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetComputeRunningProcesses=lambda card: processes(card.compute),
        nvmlDeviceGetGraphicsRunningProcesses=lambda card: processes(card.graphics),
        nvmlDeviceGetMigMode=mode,
        nvmlDeviceGetMaxMigDeviceCount=lambda card: len(card.parts or ()),
        nvmlDeviceGetMigDeviceHandleByIndex=part,
        state=state,
    )
    return nvml
