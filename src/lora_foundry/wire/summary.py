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
        val_loss: The last adapter's validation loss; null without a validation.
        val_loss_rel: The same over the base's.
        steps: Optimizer steps done.
        samples: Samples seen.
        seconds: Of training.
        bytes: Size of the adapter's file.
        file: The adapter, from the sweep's folder.
        diffusers_file: The one for code.
        best_step: Steps of the best of its adapters that were kept.
        best_val_loss: That adapter's validation loss.
        best_val_loss_rel: The same over the base's, by which jobs are compared.
        best_file: That adapter, from the sweep's folder.
        samples_per_s: Throughput over all of its steps.
        peak_mem_gib: Most that its process took.
        memory: What was done when memory ran short, and how it trained then.
        stopped_early: What is said of one that did not train its whole length; null of others.
        averaged: Of how many of its last adapters a mean was exported.
        average_val_loss_rel: The mean's validation loss over the base's.
        average_file: The mean, from the sweep's folder.
        val_drift: The last adapter's drift (``val/drift``); null where it was not measured.
        best_val_drift: That of the best adapter.
        val_loss_rel_check: The best adapter's validation loss over the base's on images that it was not chosen by.
        gpu_seconds: The job's share, by rows, of the device's time in steps that it took part in.
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
    best_val_loss: Loose[float] = None
    best_val_loss_rel: Loose[float] = None
    best_file: Loose[str] = None
    stopped_early: Loose[str] = None
    averaged: Loose[int] = None
    average_val_loss_rel: Loose[float] = None
    average_file: Loose[str] = None
    val_drift: Loose[float] = None
    best_val_drift: Loose[float] = None
    val_loss_rel_check: Loose[float] = None
    gpu_seconds: Loose[float] = None
    more: Rest

    @property
    def score(self) -> float | None:
        """What adapters are compared by (:mod:`lora_foundry.config.best`)."""
        return score(self.compared)

    @property
    def compared(self) -> float | None:
        """What the job is compared by: of its best adapter, or of the last one where no best is told of."""
        return self.val_loss_rel if self.best_val_loss_rel is None else self.best_val_loss_rel

    @property
    def loss(self) -> float | None:
        """The same, not over the base's."""
        return self.val_loss if self.best_val_loss_rel is None else self.best_val_loss

    @property
    def drift(self) -> float | None:
        """The drift of the same adapter."""
        return self.val_drift if self.best_val_loss_rel is None else self.best_val_drift

    @property
    def size_mib(self) -> float | None:
        """Of the adapter's file, MiB."""
        return None if self.bytes is None else self.bytes / 2**20

    @property
    def file_to_keep(self) -> str | None:
        """The file whose loss :attr:`compared` is."""
        return self.file if self.best_file is None else self.best_file

    @property
    def better_before(self) -> bool:
        """Whether the best adapter is one of an earlier step."""
        return self.best_file is not None and self.best_step != self.steps
