"""The cards that workers can have: what the driver shows, held against the torch that is installed.

A driver's card that torch is not built for is a mistake that is told before anything starts, never a reason to train on
the CPU. What else may be wrong with a card, a driver that is too old for one, only torch can say: the worker does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lora_foundry.config.errors import SweepError
from lora_foundry.config.mending import unusable
from lora_foundry.config.precision import of_cuda, of_rocm
from lora_foundry.config.schema import Precision
from lora_foundry.launch.machines.asking import driver_files, torch_says
from lora_foundry.launch.machines.devices import Driver, Gpu, ask_driver
from lora_foundry.launch.machines.torch_build import TorchBuild
from lora_foundry.launch.machines.visibility import CUDA, hides_all, is_meant_to_hide, numbering, visible
from lora_foundry.wire.cards import TorchCard, TorchSays

# CUDA's compilers of version 13 make nothing for cards before Turing (PyTorch's RELEASE.md has what wheels are for).
_LEFT_BEHIND: dict[int, tuple[int, ...]] = {13: (7, 5)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What there is to train on, besides the CPU.

    Attributes:
        cards: That can be used, as far as is known here.
        lost: A line for each of the driver's that cannot.
        problem: Why none can be used although there is one.
    """

    cards: tuple[Gpu, ...] = ()
    lost: tuple[str, ...] = ()
    problem: str | None = None


def cards_here(build: TorchBuild | None) -> Seen:
    """What there is now.

    Args:
        build: The torch of the workers; null where it is not known.
    """
    return cards_of(build, ask_driver(), torch_says)


def cards_of(build: TorchBuild | None, driver: Driver, says: Callable[[], TorchSays]) -> Seen:
    """What there is, by what the driver tells.

    Args:
        build: As :func:`cards_here` has it.
        driver: What it tells.
        says: Asks torch, which takes seconds.
    """
    if driver.cards:
        return _as_driver_shows(build, driver, says)
    if build is None or hides_all(build):
        return Seen()
    if driver.broken:
        return Seen(problem=driver.problem)
    if driver.lost:
        return Seen(problem=f"the driver says of {'; '.join(driver.lost)}")
    files = driver_files(build)
    return _as_torch_sees(says(), str(files[0]), build, driver) if files else Seen()


def refusal(accelerator: str, seen: Seen) -> str | None:
    """Why nothing is planned: a GPU that is there is not left for the CPU unasked, and none is made up.

    Args:
        accelerator: ``trainer.accelerator``, ``auto`` or ``gpu``.
        seen: What there is.
    """
    if seen.problem is not None:
        return f"trainer.accelerator: got {accelerator}, but {unusable(seen.problem)}"
    if accelerator == "gpu" and not seen.cards:
        return f"trainer.accelerator: got gpu, but {no_gpu()}; allowed here is cpu or auto"
    return None


def chosen(wanted: Sequence[int] | None, seen: Seen, accelerator: str) -> Sequence[Gpu]:
    """The cards of ``hydra.launcher.devices``; all where that is null, and of an instance's card all instances.

    Args:
        wanted: Numbers, as nvidia-smi counts.
        seen: What there is.
        accelerator: ``trainer.accelerator``.

    Raises:
        SweepError: When one of them is not there.
    """
    if wanted is None:
        return seen.cards
    got = f"hydra.launcher.devices: got {list(wanted)}"
    if not seen.cards:
        why = "trainer.accelerator=cpu uses none" if accelerator == "cpu" else no_gpu()
        raise SweepError([f"{got}, which are GPUs, but {why}; leave it null to train on the CPU"])
    there = {card.index for card in seen.cards}
    if not there.issuperset(wanted):
        hidden = os.environ.get(CUDA)
        why = "as nvidia-smi counts" if hidden is None else f"{CUDA}={hidden} hides all others"
        allowed = ", ".join(map(str, sorted(there)))
        raise SweepError([f"{got}, allowed are {allowed} ({'; '.join([why, *seen.lost])})"])
    return [card for number in dict.fromkeys(wanted) for card in seen.cards if card.index == number]


def precision_of(card: Gpu) -> Precision:
    """What ``trainer.precision=auto`` is on ``card``."""
    return of_cuda(card.capability) if card.architecture is None else of_rocm(card.architecture)


def _as_driver_shows(build: TorchBuild | None, driver: Driver, says: Callable[[], TorchSays]) -> Seen:
    cards, hidden = visible(driver.cards, os.environ.get(CUDA)), os.environ.get(CUDA)
    if not cards:
        return Seen(lost=driver.lost, problem=_names_nothing(hidden or "", driver))
    if build is None:
        return Seen(cards=tuple(cards), lost=driver.lost)
    if build.cuda is None:
        return Seen(problem=f"the driver shows {_listed(cards)}, and installed is {build.about()}")
    if driver.cuda is not None and driver.cuda[0] < _major(build):  # a newer one beside the driver's own may be found
        said = says()
        if not said.cards:
            shown = f"the driver {driver.version} shows {_listed(cards)} and runs CUDA up to {_dotted(driver.cuda)}"
            return Seen(problem=f"{shown}, installed is {build.about()}, and torch says {said.problem or 'no GPU'}")
    old = {card: why for card in cards if (why := _too_old(card, build)) is not None}
    lost = (*driver.lost, *old.values())
    kept = tuple(card for card in cards if card not in old)
    return Seen(cards=kept, lost=lost, problem=None if kept else "; ".join(old.values()))


def _names_nothing(hidden: str, driver: Driver) -> str | None:
    """What is wrong with a variable that leaves none of the driver's cards; null where that is meant."""
    if is_meant_to_hide(hidden):
        return None
    there = ", ".join(f"{card.label} ({card.uuid})" for card in driver.cards)
    return f"{CUDA}={hidden!r} names no card here; the driver shows {there}"


def _too_old(card: Gpu, build: TorchBuild) -> str | None:
    least = _LEFT_BEHIND.get(_major(build))
    if least is None or card.capability is None or card.capability >= least:
        return None
    has = f"GPU {card.label} ({card.name}) has compute capability {_dotted(card.capability)}"
    return f"{has}, and {build.about()}, has nothing for cards below {_dotted(least)}"


def _major(build: TorchBuild) -> int:
    """Of the CUDA that it is built for; 0 where that is no number."""
    first = (build.cuda or "").partition(".")[0]
    return int(first) if first.isdigit() else 0


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _as_torch_sees(said: TorchSays, file: str, build: TorchBuild, driver: Driver) -> Seen:
    """Torch's cards, numbered as the environment numbers them."""
    words = [word.strip() for word in numbering(os.environ).split(",") if word.strip()]
    cards, lost = [], []
    for place, card in enumerate(said.cards):
        word = words[place] if place < len(words) else str(place)
        if card.problem is None:
            number = int(word) if word.isdecimal() else place
            cards.append(_as_torch_says(card, number, word))
        else:
            lost.append(f"GPU {word} ({card.name}): {card.problem}")
    if cards:
        return Seen(cards=tuple(cards), lost=tuple(lost))
    told = said.problem or "; ".join(lost) or "no GPU"
    asked = f" the driver (NVML) says {driver.problem}," if driver.problem and build.hip is None else ""
    return Seen(problem=f"{file} is there,{asked} and torch says {told}")


def _as_torch_says(card: TorchCard, number: int, word: str) -> Gpu:
    return Gpu(
        index=number,
        uuid=word,
        name=card.name,
        capability=card.capability,
        architecture=card.architecture,
        total=card.total,
        free=card.free,
    )


def no_gpu() -> str:
    """Why there is no GPU, where nothing is wrong with one."""
    if sys.platform == "darwin":
        return "Apple's GPUs (MPS) are refused: nobody has tried them yet"
    hidden = os.environ.get(CUDA)
    return "the driver (NVML) shows none" if hidden is None else f"{CUDA}={hidden!r} leaves none"


def _listed(cards: Sequence[Gpu]) -> str:
    names = ", ".join(dict.fromkeys(card.name for card in cards))
    return f"{len(cards)} {'GPUs' if len(cards) > 1 else 'GPU'} ({names})"
