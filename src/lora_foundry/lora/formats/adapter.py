"""The neutral form of an image adapter: what every file format is written from and read into."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_LINEAR, _CONV = 2, 4
_SHOWN = 20


class AdapterError(ValueError):
    """An adapter, in memory or in a file, that does not hold together; the message lists every fault."""


class AdapterFileError(AdapterError):
    """A file that is no adapter this project can read."""


class ExportError(AdapterError):
    """An adapter that cannot be written, or whose file differs from it."""


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """The update ``alpha / r * up @ down`` of one module (Hu et al. 2021, LoRA).

    Attributes:
        down: ``[r, in]`` of a linear layer, ``[r, in, kh, kw]`` of a convolution.
        up: ``[out, r]`` of a linear layer, ``[out, r, 1, 1]`` of a convolution.
        alpha: Scale numerator as readers know it: rsLoRA is already folded in (:func:`effective_alpha`).
        dora_scale: ``[out, 1]`` or ``[out, 1, 1, 1]``, the magnitude of DoRA (Liu et al. 2024); None for plain LoRA.
    """

    down: Tensor
    up: Tensor
    alpha: float
    dora_scale: Tensor | None = None

    @property
    def rank(self) -> int:
        """Inner dimension of the update."""
        return int(self.down.shape[0])

    @property
    def scale(self) -> float:
        """``alpha / r``."""
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True)
class Adapter:
    """Updates by component and dotted module name, as diffusers and transformers name them.

    Text encoder names always begin with ``text_model.`` here: names taken from a ``CLIPTextModel`` of
    transformers 5.6 or later lack it and are brought into line.

    Raises:
        AdapterError: Listing every module whose shapes or alpha do not fit together.
    """

    unet: Mapping[str, LoraWeights] = field(default_factory=dict)
    text_encoder: Mapping[str, LoraWeights] = field(default_factory=dict)
    text_encoder_2: Mapping[str, LoraWeights] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Normalise the text encoders' names and check all shapes."""
        problems: list[str] = []
        for component in COMPONENTS[1:]:
            renamed: dict[str, LoraWeights] = {}
            for name, weights in getattr(self, component).items():
                canonical = canonical_text_name(name)
                if canonical in renamed:
                    problems.append(f"{component}.{canonical}: given twice, with and without text_model")
                renamed[canonical] = weights
            object.__setattr__(self, component, renamed)
        problems.extend(f"{c}.{name}: {fault}" for c, name, weights in self.modules() for fault in faults(weights))
        if problems:
            raise AdapterError(listing("The adapter does not hold together", problems))

    def modules(self) -> Iterator[tuple[str, str, LoraWeights]]:
        """``(component, module name, weights)`` of every adapted module."""
        for component in COMPONENTS:
            for name, weights in getattr(self, component).items():
                yield component, name, weights


def effective_alpha(alpha: float, rank: int, *, use_rslora: bool) -> float:
    """The alpha to write: readers scale by alpha/rank, rsLoRA by alpha/sqrt(rank) (Kalajdzievski 2023)."""
    return alpha * math.sqrt(rank) if use_rslora else alpha


def canonical_text_name(name: str) -> str:
    """``encoder.layers.0...`` of a flattened CLIPTextModel becomes ``text_model.encoder.layers.0...``."""
    return f"text_model.{name}" if name.startswith(("encoder.", "embeddings.", "final_layer_norm")) else name


def faults(weights: LoraWeights) -> list[str]:
    """What does not fit in one module's update; empty when it is sound."""
    magnitudes = None if weights.dora_scale is None else tuple(weights.dora_scale.shape)
    found = shape_faults(tuple(weights.down.shape), tuple(weights.up.shape), magnitudes)
    if not math.isfinite(weights.alpha):
        found.append(f"alpha is {weights.alpha}, allowed is a finite number")
    return found


def shape_faults(down: tuple[int, ...], up: tuple[int, ...], magnitudes: tuple[int, ...] | None = None) -> list[str]:
    """What does not fit in the shapes of one module's update."""
    found: list[str] = []
    if len(down) not in (_LINEAR, _CONV) or len(up) != len(down):
        found.append(
            f"down {down} and up {up}, allowed are [r, in] and [out, r], or [r, in, kh, kw] and [out, r, 1, 1]"
        )
    elif 0 in down or up[1:] != (down[0], *([1] * (len(down) - 2))):
        found.append(f"down {down} and up {up} do not share a rank of at least 1")
    if magnitudes is not None and magnitudes != (up[:1] + (1,) * (len(down) - 1)):
        allowed = up[:1] + (1,) * (len(down) - 1)
        found.append(f"dora_scale {magnitudes}, allowed is one magnitude an output, {allowed}")
    return found


def listing(headline: str, lines: list[str]) -> str:
    """``headline`` with the first of ``lines`` below it, and how many were left out."""
    shown = "\n".join(f"  - {line}" for line in lines[:_SHOWN])
    more = f"\n  - and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"{headline} ({len(lines)}):\n{shown}{more}"
