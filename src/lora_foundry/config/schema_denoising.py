"""The part of the schema that bases have which take noise away from pictures (:mod:`lora_foundry.config.schema`)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from lora_foundry.config.constraints import Between, MoreThan, NonEmpty
from lora_foundry.config.schema import ModelConfig, ObjectiveConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoisingModel(ModelConfig):
    """The frozen base.

    Attributes:
        version: ``ss_base_model_version`` written to exported files (``sd_v1``).
        prediction_type: What the base predicts; ``auto`` reads it from the base's scheduler.
    """

    version: Annotated[str, NonEmpty()]
    prediction_type: Literal["auto", "epsilon", "v_prediction"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoisingObjective(ObjectiveConfig):
    """The training loss.

    Attributes:
        snr_gamma: Min-SNR weighting's gamma (Hang et al. 2023); null for plain MSE.
        noise_offset: Weight of a per-channel constant added to the noise; 0 for none.
    """

    snr_gamma: Annotated[float, MoreThan(0.0)] | None
    noise_offset: Annotated[float, Between(0.0, 1.0)]


DENOISING = MappingProxyType({"model": DenoisingModel, "objective": DenoisingObjective})
"""What a family of such bases names as its ``groups``."""
