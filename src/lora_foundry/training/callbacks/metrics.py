"""Training metrics and progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from lora_foundry.wire.events import MetricsEvent, ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import Trainer

    from lora_foundry.training.member import Member
    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.peaks import Peaks
    from lora_foundry.training.sink import Sink

_PROGRESS_S = 0.25


class Metrics(Callback):
    """Emits each member's metrics every ``trainer.log_every`` of its own steps, and progress for the terminal."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._losses: dict[str, list[float]] = {}
        self._since: dict[str, tuple[float, int]] = {}
        self._shown: dict[str, float] = {}
        self._rate: dict[str, float] = {}
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Start the clocks: rates are over the time in steps, which validation and drawing are no part of."""
        self.begin(pl_module.pack.members)

    def begin(self, members: Sequence[Member]) -> None:
        """Take in members that train from here on."""
        self._since |= {member.name: (member.count.seconds, member.count.ordinal) for member in members}

    def on_train_batch_start(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Note when the step begins."""
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Emit what is due."""
        now = time.monotonic()
        there = [member for member in pl_module.pack.members if member.name not in pl_module.pack.resting]
        rows = sum(member.config.data.batch_size for member in there)
        for member in there:
            member.count.seconds += now - self._started
            member.count.device_seconds += (now - self._started) * member.config.data.batch_size / rows
        for member in pl_module.result.stepped:
            if member not in pl_module.result.skipped:
                self._losses.setdefault(member.name, []).append(member.loss)
            if member.count.step % member.config.trainer.log_every == 0 or member.done:
                self._log(pl_module.pack, member)
            if member.done or now - self._shown.get(member.name, 0.0) >= _PROGRESS_S:
                self._show(member, now, pl_module.pack.peaks)

    def _log(self, pack: Pack, member: Member) -> None:
        self._rate[member.name] = self._rate_since(member)
        self._since[member.name] = (member.count.seconds, member.count.ordinal)
        row = pack.bank.weights[pack.bank.place(member.name)]
        values = {
            "train/lr": member.rate,
            "train/epoch": member.count.ordinal / pack.task.samples(member),
            "perf/samples_per_s": self._rate[member.name],
            "perf/peak_mem_gib": pack.peaks.highest_gib,
            "adapter/norm": float(torch.linalg.vector_norm(row)),
        }
        if losses := self._losses.pop(member.name, []):  # none where fp16 overflowed in every step since
            values |= {"train/loss": sum(losses) / len(losses), "train/grad_norm": member.grad_norm}
        if member.scale is not None:
            values["train/d"] = member.scale
        if pack.dtypes.scaled:
            values |= {"train/loss_scale": member.count.loss_scale, "train/skipped_steps": member.count.skipped}
        self._sink.emit(MetricsEvent(job=member.job, step=member.count.step, samples=member.samples, values=values))

    def _rate_since(self, member: Member) -> float:
        seconds, ordinal = self._since[member.name]
        return (member.count.ordinal - ordinal) / max(member.count.seconds - seconds, 1e-9)

    def _show(self, member: Member, now: float, peaks: Peaks) -> None:
        rate = self._rate.get(member.name) or self._rate_since(member)
        self._shown[member.name] = now
        self._sink.emit(
            ProgressEvent(
                job=member.job,
                step=member.count.step,
                total=member.total_steps,
                samples=member.samples,
                loss=member.loss,
                samples_per_s=rate,
                memory_gib=round(peaks.highest_gib, 3),
            )
        )
