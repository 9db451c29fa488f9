"""What a configuration has to know of a family of bases, without the libraries that read one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from lora_foundry.config.choices import FAMILIES, Choice


class FamilyChoice(Choice):
    """What the bases of a family are (``model.family``).

    Attributes:
        task: What is learned on them: a folder in :mod:`lora_foundry.tasks`. None: they can be sized, not trained.
        noise: The kind of noise process that they undo, as samplers know it; None where they take no noise away.
        groups: Groups of a job's configuration with keys of the family's own, each with the class that has them: it
            adds fields to the class of that group in the schema.
    """

    task: ClassVar[str | None]
    noise: ClassVar[str | None]
    groups: ClassVar[Mapping[str, type]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ByFamily:
    """Marks a group whose class the family may have extended."""

    group: str


def family_choice(name: str) -> FamilyChoice:
    """The family of that name."""
    return FAMILIES.load(name, FamilyChoice)


def trained_families() -> tuple[str, ...]:
    """Those that something can be learned on; the others are known by their sizes alone."""
    return tuple(name for name in FAMILIES.names() if family_choice(name).task is not None)
