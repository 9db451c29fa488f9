"""What became of a job that finished: its worker tells it, the journal and the results keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lora_foundry.config.best import score
from lora_foundry.wire.fields import Loose, Rest


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Results of a finished job.

    Attributes:
        val_loss: Its validation loss; null without a validation.
        val_loss_rel: The same over the base's, by which adapters are compared.
        steps: Optimizer steps done.
        samples: Samples seen.
        seconds: Of training.
        bytes: Size of the adapter's file.
        file: The adapter, from the sweep's folder.
        diffusers_file: The one for code.
        best_step: The step whose validation loss was lowest.
        samples_per_s: Throughput over all of its steps.
        peak_mem_gib: Most that its process took.
        memory: What was done when memory ran short, and how it trained then.
        more: What else stands there; it is handed on.
    """

    val_loss: Loose[float]
    val_loss_rel: Loose[float]
    steps: Loose[int]
    samples: Loose[int]
    seconds: Loose[float]
    bytes: Loose[int]
    file: Loose[str]
    diffusers_file: Loose[str]
    best_step: Loose[int]
    samples_per_s: Loose[float]
    peak_mem_gib: Loose[float]
    memory: Loose[Mapping[str, object]]
    more: Rest

    @property
    def score(self) -> float | None:
        """What adapters are compared by (:mod:`lora_foundry.config.best`)."""
        return score(self.val_loss_rel)
