"""What a member learns to denoise, and what is drawn with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.config.schema_denoising import DenoisingObjective
    from lora_foundry.data.encoding import EncodedData
    from lora_foundry.tasks.protocol import Trainee


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Captions as the base is told them: what is drawn, or what drift is measured on.

    Attributes:
        texts: The prompts.
        conditioning: Their text states by name, ``[len(texts), ...]``.
        empty: Those of the empty prompt, ``[1, ...]``.
    """

    texts: tuple[str, ...]
    conditioning: dict[str, Tensor]
    empty: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """A job's pictures.

    Attributes:
        train: Cached latents and text states of the training images.
        validation: The same of the held-out images.
        prompts: What is drawn; None draws nothing.
        unrelated: What drift is measured on; None measures none.
    """

    train: EncodedData
    validation: EncodedData
    prompts: Prompts | None = None
    unrelated: Prompts | None = None


def material_of(member: Trainee) -> Material:
    """The member's pictures."""
    material: Material = member.material
    return material


def objective_of(member: Trainee) -> DenoisingObjective:
    """The member's own of what only such bases have."""
    return cast("DenoisingObjective", member.config.objective)
