"""What CUDA_VISIBLE_DEVICES and its like on ROCm leave, read as CUDA and torch read them (``torch.cuda``)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from lora_foundry.launch.machines.devices import Gpu
from lora_foundry.launch.machines.torch_build import TorchBuild

CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
_NUMBER = re.compile(r"[+-]?[0-9]+")  # of a word that begins with one CUDA takes that: "0gpu" and "0 1" are 0
_PREFIXES = ("GPU-", "MIG-")
_NONE = frozenset({"", "none", "void", "nodevfiles"})  # the last is SLURM's
_CUT_UP_SINCE = (8, 0)  # the first cards that can be cut up


def visible(cards: Sequence[Gpu], text: str | None) -> list[Gpu]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, in its order.

    Numbers count in the order of the PCI bus, as nvidia-smi does. A word that names no card hides all after it, words
    are all of the first one's kind, and where a card is named twice there is none.

    Args:
        cards: Every card.
        text: The variable's value; null where it is not set.
    """
    if text is None:
        return list(cards)
    by_uuid = text.strip().startswith(_PREFIXES)
    chosen: list[Gpu] = []
    for word in (part.strip() for part in text.split(",")):
        card = _of_uuid(cards, word, text.strip()[:4]) if by_uuid else _numbered(cards, word)
        if card is None:
            break
        if card in chosen:
            return []
        chosen.append(card)
    return chosen


def hides_all(build: TorchBuild) -> bool:
    """Whether the environment is meant to leave no card to a torch that is ``build``."""
    return any(is_meant_to_hide(os.environ.get(name)) for name in _heard(build))


def is_meant_to_hide(text: str | None) -> bool:
    """Whether a variable says that there is to be no card, as ``-1`` does; what is only mistyped does not say so."""
    if text is None:
        return False
    word = text.strip()
    return word.lower() in _NONE or (_number(word) or 0) < 0


def numbering(environment: Mapping[str, str]) -> str:
    """What numbers torch's cards: HIP's variable before CUDA's, as HIP reads them."""
    return environment.get(HIP) or environment.get(CUDA) or ""


def _heard(build: TorchBuild) -> tuple[str, ...]:
    """The variables that count for it: ROCm's torch hears CUDA's, too."""
    return (CUDA,) if build.hip is None else (CUDA, HIP, ROCR)


def _number(word: str) -> int | None:
    found = _NUMBER.match(word)
    return int(found[0]) if found else None


def _numbered(cards: Sequence[Gpu], word: str) -> Gpu | None:
    number = _number(word)
    return next((card for card in cards if card.index == number), None) if number is not None and number >= 0 else None


def _of_uuid(cards: Sequence[Gpu], word: str, prefix: str) -> Gpu | None:
    if not word.startswith(prefix):
        return None
    found = [card for card in cards if card.uuid.startswith(word)]  # CUDA takes a beginning that only one has
    if len(found) == 1:
        return found[0]
    # Older drivers name instances MIG-GPU-<uuid>/<i>/<i>, which NVML does not list so.
    return Gpu(index=-1, uuid=word, name=word, capability=_CUT_UP_SINCE) if prefix == "MIG-" and not found else None
