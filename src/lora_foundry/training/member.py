"""A job while it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lora_foundry.training.loss_scale import INITIAL

if TYPE_CHECKING:
    from pathlib import Path

    from lora_foundry.config import JobConfig
    from lora_foundry.data.cache import TensorCache
    from lora_foundry.data.inventory import Inventory
    from lora_foundry.data.order import SampleOrder


@dataclass(frozen=True, slots=True)
class Kept:
    """An exported adapter that is among its member's best.

    Attributes:
        step: Optimizer steps it was trained for.
        loss: Its validation loss.
        relative: The same over the base's own.
        files: Where it lies, from the job's ``adapter`` folder; the first is for people's programs, the last
            is its card.
        averaged: Of how many adapters it is the mean; null for one that was trained.
        drift: As scored with it; null where none was.
    """

    step: int
    loss: float
    relative: float
    files: tuple[str, ...]
    averaged: int | None = None
    drift: float | None = None


@dataclass(kw_only=True, slots=True)
class Counters:
    """Everything of a member that moves besides its tensors; a checkpoint holds these and no generator states.

    Attributes:
        step: Optimizer steps taken, those that fp16 overflowed in with them.
        micro: Micro-batches in the accumulation under way.
        ordinal: Samples drawn so far; the next sample's ordinal.
        loss_sum: Loss of the accumulation under way.
        seconds: Time in training, over all resumes.
        device_seconds: Its share of them, by the rows that it had beside its mates'.
        best_loss: Lowest validation loss of the adapter so far; the base's own, before its first step, is none.
        best_step: The step of ``best_loss``.
        early: Whether its patience is at an end (``trainer.patience``).
        kept: Its best adapters that were exported, best first.
        told: The last step whose end was told of: scored, drawn and exported where that was due.
        loss_scale: What the loss is multiplied by where the base computes in fp16; of no meaning elsewhere.
        good_steps: Steps since ``loss_scale`` changed.
        skipped: Steps in which a gradient was too large for fp16, so that the adapter stayed as it was.
    """

    step: int = 0
    micro: int = 0
    ordinal: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    device_seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    early: bool = False
    kept: list[Kept] = field(default_factory=list)
    told: int = -1
    loss_scale: float = INITIAL
    good_steps: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, told: dict[str, Any]) -> Counters:
        """As a checkpoint has them."""
        kept = [Kept(**{**one, "files": tuple(one["files"])}) for one in told.get("kept", ())]
        return cls(**{**told, "kept": kept})


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where an adapter came from.

    Attributes:
        base_hash: Content hash of the base.
        data_hash: Content hash of the data set and its transform.
        started_at: Start of the training, unix seconds.
        inventory: The data set file by file; None where nobody asks later what changed.
    """

    base_hash: str
    data_hash: str
    started_at: float
    inventory: Inventory | None = None


@dataclass(kw_only=True, slots=True)
class Member:
    """One adapter in training.

    Attributes:
        job: Number in the sweep.
        name: Adapter's name, and its name in the bank.
        folder: The job's folder, where its files go.
        config: The job's configuration.
        material: What it learns from, as its task made it.
        provenance: What exported files say of where it came from.
        order: Which sample comes next.
        total_steps: Optimizer steps of the whole training.
        cache: Where the base's own validation losses are kept; None computes them in each pack.
        count: What moves.
        state: ``active`` until it is done or failed.
        error: Why it failed.
        loss: Loss of the last step that was taken: the sum over its samples divided by the effective batch.
        grad_norm: Gradient norm of the last step before clipping.
        rate: Learning rate of the last step, as the optimizer took it: where it scales rates, the scaled one.
        scale: What the optimizer multiplied the schedule's rate by (Prodigy's d); None where it takes it as it is.
        waits_from: The step that its patience is counted from at the earliest: where one that trains longer went on.
        saved: Those of its best adapters that its newest checkpoint names.
        measures: What was done for it against a shortage of memory, as tagged; empty as a rule.
    """

    job: int
    name: str
    folder: Path
    config: JobConfig
    material: Any
    provenance: Provenance
    order: SampleOrder
    total_steps: int
    cache: TensorCache | None = None
    count: Counters = field(default_factory=Counters)
    state: Literal["active", "failed"] = "active"
    error: str | None = None
    loss: float = math.nan
    grad_norm: float = math.nan
    rate: float = 0.0
    scale: float | None = None
    waits_from: int = 0
    saved: tuple[Kept, ...] = ()
    measures: dict[str, object] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether all optimizer steps were taken, or its patience is at an end."""
        return self.count.early or self.count.step >= self.total_steps

    @property
    def active(self) -> bool:
        """Whether it takes part in the next step."""
        return self.state == "active" and not self.done

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        return self.provenance.base_hash

    @property
    def effective_batch(self) -> int:
        """Samples of one optimizer step."""
        return self.config.data.batch_size * self.config.trainer.accumulate

    @property
    def samples(self) -> int:
        """Samples seen by the optimizer steps taken."""
        return self.count.step * self.effective_batch

    @property
    def unimproved(self) -> int:
        """Samples seen since its validation loss was lowest, or since it went on."""
        return (self.count.step - max(self.count.best_step, self.waits_from)) * self.effective_batch

    @property
    def stopped_early(self) -> str | None:
        """What is said of one whose patience came to an end; None of others."""
        if not self.count.early:
            return None
        where = f"step {self.count.step} of {self.total_steps}"
        return f"stopped early at {where}: no improvement for {self.unimproved} samples"

    @property
    def untold(self) -> bool:
        """Whether the end of its last step is yet to be told of: it is at its beginning, or a stop came in between."""
        return self.count.micro == 0 and self.count.told != self.count.step

    def fail(self, reason: str) -> None:
        """Stop alone; the weights stay as the last good step left them."""
        self.state, self.error = "failed", reason
