"""A stand-in for ``pynvml``: what :mod:`lora_foundry.launch.machines.devices` calls, over a test's cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """What the driver knows of one; null memory is refused, ``gone`` refuses the card itself."""

    bus: int
    uuid: str
    name: str | bytes = "A card"
    capability: tuple[int, int] | None = (8, 9)
    total: int | None = 24 * GIB
    free: int | None = 20 * GIB
    compute: Sequence[tuple[int, int | None]] = ()
    graphics: Sequence[tuple[int, int | None]] | None = ()
    parts: Sequence[Card | None] = field(default_factory=tuple)
    gone: bool = False


def fake_nvml(cards: Sequence[Card], *, driver: bool = True, problem: str | None = None) -> ModuleType:
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
        if not card.parts:
            raise NVMLError("Not Supported")
        return [1, 1]

    def part(card: Card, number: int) -> Card:
        found = card.parts[number]
        if found is None:
            raise NVMLError("Not Found")
        return found

    nvml.__dict__.update(
        NVMLError=NVMLError,
        NVML_DEVICE_MIG_ENABLE=1,
        nvmlInit=init,
        nvmlShutdown=shutdown,
        nvmlSystemGetDriverVersion=lambda: "580.95.05",
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
        nvmlDeviceGetMaxMigDeviceCount=lambda card: len(card.parts),
        nvmlDeviceGetMigDeviceHandleByIndex=part,
        state=state,
    )
    return nvml
