"""The cards that workers can have: what the driver shows, held against the torch that is installed.

A driver's card that torch is not built for is a mistake that is told before anything starts, never a reason to train on
the CPU. What else may be wrong with a card, a driver that is too old for one, only torch can say: the worker does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lora_foundry.launch.machines.asking import driver_files, torch_says
from lora_foundry.launch.machines.devices import Driver, Gpu, ask_driver, visible
from lora_foundry.launch.machines.torch_build import TorchBuild
from lora_foundry.wire.cards import TorchCard, TorchSays

_NONE_LEFT = ("", "-1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What there is to train on, besides the CPU.

    Attributes:
        cards: That can be used, as far as is known here.
        lost: A line for each of the driver's that does not answer.
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
    driver, hidden = ask_driver(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver.cards:
        cards = visible(driver.cards, hidden)
        if cards and build is not None and build.cuda is None:
            return Seen(problem=f"the driver shows {_listed(cards)}, and installed is {build.about()}")
        return Seen(cards=tuple(cards), lost=driver.lost)
    if hidden in _NONE_LEFT or build is None:
        return Seen()
    if driver.lost:
        return Seen(problem=f"the driver says of {'; '.join(driver.lost)}")
    files = driver_files(build)
    return _as_torch_sees(torch_says(), str(files[0]), driver) if files else Seen()


def _as_torch_sees(said: TorchSays, file: str, driver: Driver) -> Seen:
    """Torch's cards, numbered as the environment numbers them."""
    words = [word.strip() for word in _numbering().split(",") if word.strip()]
    cards = []
    for place, card in enumerate(said.cards):
        word = words[place] if place < len(words) else str(place)
        if card.problem is None:
            number = int(word) if word.isdigit() else place
            cards.append(_as_torch_says(card, number, word))
    if cards:
        return Seen(cards=tuple(cards))
    told = said.problem or "; ".join(f"{card.name}: {card.problem}" for card in said.cards) or "no GPU"
    asked = f" the driver (NVML) says {driver.problem}," if driver.problem else ""
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


def _numbering() -> str:
    """What numbers torch's cards: HIP's variable before CUDA's, as HIP reads them."""
    return os.environ.get("HIP_VISIBLE_DEVICES") or os.environ.get("CUDA_VISIBLE_DEVICES") or ""


def no_gpu() -> str:
    """Why there is no GPU, where nothing is wrong with one."""
    if sys.platform == "darwin":
        return "Apple's GPUs (MPS) are refused: nobody has tried them yet"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "the driver (NVML) shows none" if hidden is None else f"CUDA_VISIBLE_DEVICES={hidden!r} leaves none"


def _listed(cards: Sequence[Gpu]) -> str:
    names = ", ".join(dict.fromkeys(card.name for card in cards))
    return f"{len(cards)} {'GPUs' if len(cards) > 1 else 'GPU'} ({names})"
