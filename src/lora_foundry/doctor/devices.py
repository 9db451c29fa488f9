"""Torch, the driver and the devices: what the launcher would plan with, held against what a worker would meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora_foundry.config.allowance import cores, memory_left, memory_most
from lora_foundry.config.errors import SweepError
from lora_foundry.config.mending import mended, unusable
from lora_foundry.config.precision import emulated, of_all
from lora_foundry.config.schema import TrainerConfig
from lora_foundry.doctor.report import Device, Driver, Torch
from lora_foundry.launch.machines.asking import AskedDriver, AskedTorch
from lora_foundry.launch.machines.cards import Seen, cards_of, chosen, precision_of, refusal
from lora_foundry.launch.machines.devices import Driver as DriverSays
from lora_foundry.launch.machines.devices import Gpu
from lora_foundry.launch.machines.torch_build import TorchBuild, torch_build
from lora_foundry.launch.machines.visibility import visible
from lora_foundry.wire.cards import TorchSays

_TORCHS_PATIENCE_S, _DRIVERS_PATIENCE_S = 60.0, 30.0  # torch's first import from a slow disk; a driver with eight cards
_NVIDIA, _DISPLAYS = "0x10de", "0x03"  # a PCI vendor; the class of displays and 3D controllers
_AT_A_TIME = 8
_SEES_NONE = "torch sees no GPU"
_NO_LIBRARY = "shared library not found"
_INSTALL = "install it: pip install -c constraints.txt ."


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What was found of devices; the fields as :class:`~lora_foundry.doctor.report.Report` has them."""

    torch: Torch
    driver: Driver
    devices: tuple[Device, ...]
    trains_on: tuple[str, ...]
    wrong: tuple[str, ...]
    notes: tuple[str, ...]


class Questions:
    """Torch and the driver, asked in processes of their own while something else is looked at."""

    def __init__(self) -> None:
        self._torch, self._driver = AskedTorch(_TORCHS_PATIENCE_S), AskedDriver(_DRIVERS_PATIENCE_S)

    def examined(self, trainer: TrainerConfig, wanted: Sequence[int] | None) -> Examined:
        """What they say, for a training as ``trainer`` has it on ``hydra.launcher.devices``."""
        return examine(trainer, torch_build(), self._driver.says(), self._torch.says(), one_by_one, wanted)


def one_by_one(cards: Sequence[Gpu]) -> list[TorchSays]:
    """What torch says of each of ``cards`` alone, as a worker is shown it, some at a time: each takes seconds."""
    said = []
    for first in range(0, len(cards), _AT_A_TIME):
        asked = [AskedTorch(_TORCHS_PATIENCE_S, card.uuid) for card in cards[first : first + _AT_A_TIME]]
        said += [one.says() for one in asked]
    return said


def examine(
    trainer: TrainerConfig,
    build: TorchBuild | None,
    told: DriverSays,
    said: TorchSays,
    apart: Callable[[Sequence[Gpu]], Sequence[TorchSays]] = one_by_one,
    wanted: Sequence[int] | None = None,
) -> Examined:
    """What the launcher would refuse, and what its workers would.

    Args:
        trainer: What is to be trained, and on what.
        build: The installed torch; null where there is none.
        told: By the driver.
        said: By torch.
        apart: Asks torch of each card alone: of cards that are cut up, CUDA shows a process one instance.
        wanted: Numbers of the cards to train on; null for all.
    """
    torch = Torch(
        version=None if build is None else build.version,
        built_for=None if build is None else build.made_for,
        imported=bool(said.version),
        problem=said.problem,
    )
    driver = Driver(version=told.version, cuda=_dotted(told.cuda), problem=told.problem)
    seen = cards_of(build, told, lambda: said)
    devices = _held_against(seen.cards, said, apart if torch.imported else None, by_driver=bool(told.cards))
    wrong = _unimported(torch)
    used, missing = _used(devices, wanted, Seen() if trainer.accelerator == "cpu" else seen, trainer.accelerator)
    if not wrong and trainer.accelerator != "cpu":
        wrong = _unusable(refusal(trainer.accelerator, seen), used, said)
    wrong = wrong or missing
    notes = [] if wrong else [*map(mended, seen.lost if wanted is None else ()), *_of_some(used)]
    if not (wrong or seen.cards or seen.problem):
        notes += _unused_driver(build, told)
    on = [device for device in used if device.problem is None] or [_cpu()]
    slow = emulated(trainer.precision, of_all(device.precision for device in on))
    shown = devices or [_device(card) for card in visible(told.cards, os.environ.get("CUDA_VISIBLE_DEVICES"))]
    return Examined(
        torch=torch,
        driver=driver,
        devices=(*shown, _cpu()),
        trains_on=() if wrong else tuple(device.name for device in on),
        wrong=tuple(wrong),
        notes=(*notes, *([slow] if slow and not wrong else [])),
    )


def _used(
    devices: Sequence[Device], wanted: Sequence[int] | None, seen: Seen, accelerator: str
) -> tuple[list[Device], list[str]]:
    """Those that would be trained on, and why nothing would where one is not there."""
    try:
        uuids = [card.uuid for card in chosen(wanted, seen, accelerator)]
    except SweepError as error:
        return [], list(error.problems)
    return [device for device in devices if device.uuid in uuids], []


def _unimported(torch: Torch) -> list[str]:
    if torch.version is None:
        return [f"torch is not installed; {_INSTALL}"]
    return [] if torch.imported else [mended(torch.problem or "torch cannot be imported")]


def _unusable(refused: str | None, devices: Sequence[Device], said: TorchSays) -> list[str]:
    """Why no card can be trained on, as the launcher or else its workers would say it."""
    if refused is not None:
        return [refused]
    if devices and not said.cards:
        return [unusable(said.problem or _SEES_NONE)]
    failed = [device for device in devices if device.problem is not None]
    return [unusable(_failing(device)) for device in failed] if len(failed) == len(devices) else []


def _of_some(devices: Sequence[Device]) -> list[str]:
    """Cards that cannot be trained on beside others that can, and those that nobody tried."""
    notes = [mended(_failing(device)) for device in devices if device.problem is not None]
    untried = [device.name for device in devices if not device.tried]
    return notes + (
        [f"torch computed nothing on {', '.join(untried)}: it is not among those that it saw"] * bool(untried)
    )


def _failing(device: Device) -> str:
    return f"{device.name}: {device.problem}"


def _held_against(
    cards: Sequence[Gpu],
    said: TorchSays,
    apart: Callable[[Sequence[Gpu]], Sequence[TorchSays]] | None,
    *,
    by_driver: bool,
) -> list[Device]:
    """The launcher's cards, each with what torch says of it.

    Args:
        cards: The launcher's.
        said: By torch, in the same order where it sees all of them.
        apart: Asks it of each alone; null where it cannot be asked.
        by_driver: Whether the driver named them; else torch did, and has computed on each.
    """
    if not by_driver:
        return [replace(_device(card), tried=True) for card in cards]
    if len(said.cards) == len(cards):
        problems = [one.problem for one in said.cards]
    elif said.cards and apart is not None and any(card.part is not None for card in cards):
        problems = [one.cards[0].problem if one.cards else one.problem or _SEES_NONE for one in apart(cards)]
    else:
        return [_device(card) for card in cards]
    return [replace(_device(card), tried=True, problem=why) for card, why in zip(cards, problems, strict=True)]


def _device(card: Gpu) -> Device:
    return Device(
        name=f"GPU {card.label}",
        uuid=card.uuid,
        about=card.about(),
        computes=_dotted(card.capability) if card.architecture is None else card.architecture,
        free=card.free,
        total=card.total,
        precision=precision_of(card),
    )


def _cpu() -> Device:
    there, free, total = cores(), memory_left(), memory_most()
    memory = "" if free is None or total is None else f", {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    about = f"{there} {'cores' if there > 1 else 'core'}{memory}"
    return Device(name="CPU", about=about, free=free, total=total, precision="32-true", tried=True)


def _unused_driver(build: TorchBuild | None, told: DriverSays) -> list[str]:
    """A driver that is there and broken, a card that is plugged in without one: nothing else would tell of it."""
    if told.problem is None or (_NO_LIBRARY in told.problem.lower() and not plugged_in()):
        return []
    found = f"an NVIDIA driver or card is here, and is not used: the driver (NVML) says {told.problem}"
    return [mended(found) + ("" if build and build.cuda else "; and this torch is not built for CUDA")]


def plugged_in(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether one of NVIDIA's cards is on the PCI bus, as the kernel lists it."""
    for device in devices.glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text()
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith(_DISPLAYS):
            return True
    return False


def _dotted(version: Sequence[int] | None) -> str | None:
    return None if version is None else ".".join(map(str, version))
