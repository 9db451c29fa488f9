"""The training loop of both stages: it can be killed at any step and goes on from its checkpoint."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

LOG_EVERY_STEPS = 50
CLIP_NORM = 1.0
FALL_SHARE = 0.4
"""Share of the training at whose end the learning rate reaches zero."""

Weights = dict[str, Tensor]


class Trainee(Protocol):
    """What the loop trains."""

    modules: nn.ModuleDict
    """Every module with weights to train."""

    def loss(self, step: int) -> Tensor:
        """Return the loss of a step; everything random in it depends on `step` alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long to train, and at what learning rate.

    Attributes:
        learning_rate: Peak learning rate, reached after the warm-up.
        warmup_steps: Steps of linear warm-up.
        minutes: Training minutes over which the rate falls to zero; time between a kill and a resume is not counted.
        steps: Steps over which the rate falls to zero, instead of minutes; then a repeat is bitwise the same.
        save_every_minutes: How much work a kill may cost.
        ema_decay: Decay of the moving average of the weights, per step.
    """

    learning_rate: float
    warmup_steps: int = 200
    minutes: float | None = None
    steps: int | None = None
    save_every_minutes: float = 3.0
    ema_decay: float = 0.999

    def progress(self, step: int, seconds: float) -> float:
        """Return the finished share of the training, 1 or more when it is over."""
        if self.steps is not None:
            return step / self.steps
        if self.minutes is None:
            raise ValueError("a schedule needs minutes or steps; give one of them")
        return seconds / (60.0 * self.minutes)

    def rate(self, step: int, progress: float) -> float:
        """Return the learning rate: linear warm-up, a plateau, a straight fall to zero.

        Haegele et al. (2024), https://arxiv.org/abs/2405.18392. A cosine spends the last third of a short training at
        rates too low to learn subjects by heart.
        """
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        fall = min(1.0, (1.0 - min(progress, 1.0)) / FALL_SHARE)
        return self.learning_rate * warm * fall


@dataclass(kw_only=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: Steps done.
        seconds: Seconds spent training.
        loss: Mean loss of the latest window of steps.
    """

    step: int = 0
    seconds: float = 0.0
    loss: float = math.nan


class Training:
    """Weights, their moving average, the optimizer and the counters of one stage.

    Args:
        trainee: What is trained.
        schedule: How long and at what rate.
        checkpoint: File to resume from, and to write to.
        log: Called with each line of the log.
    """

    def __init__(self, trainee: Trainee, schedule: Schedule, checkpoint: Path, log: Callable[[str], None]) -> None:
        self.trainee = trainee
        self.schedule = schedule
        self.checkpoint = checkpoint
        self.log = log
        self.progress = Progress()
        parameters = list(trainee.modules.parameters())
        self.optimizer = torch.optim.AdamW(
            parameters, lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.average: Weights = {name: value.detach().clone() for name, value in trainee.modules.named_parameters()}
        if checkpoint.is_file():
            self._resume()

    @property
    def done(self) -> bool:
        """Whether the schedule is over."""
        return self.schedule.progress(self.progress.step, self.progress.seconds) >= 1.0

    def run(self, on_save: Callable[["Training"], None] | None = None, stop_after: int | None = None) -> Progress:
        """Train until the schedule is over.

        Args:
            on_save: Called after each checkpoint, for intermediate exports.
            stop_after: Stop at this step and save, as a kill would at a checkpoint.

        Returns:
            The counters at the end.
        """
        saved_at = self.progress.seconds
        window: list[float] = []
        while not self.done and (stop_after is None or self.progress.step < stop_after):
            started = time.monotonic()
            window.append(self._step())
            self.progress.step += 1
            self.progress.seconds += time.monotonic() - started
            if self.progress.step % LOG_EVERY_STEPS == 0:
                self._report(window)
                window = []
            if self.progress.seconds - saved_at > 60.0 * self.schedule.save_every_minutes:
                saved_at = self.progress.seconds
                self.save()
                if on_save is not None:
                    on_save(self)
        self.save()
        return self.progress

    def averaged(self) -> dict[str, Weights]:
        """Return the averaged weights, a state dict for each module."""
        states: dict[str, Weights] = {}
        for name, module in self.trainee.modules.items():
            states[name] = {
                key: self.average.get(f"{name}.{key}", value).detach().clone()
                for key, value in module.state_dict().items()
            }
        return states

    def save(self) -> None:
        """Write the checkpoint: to a temporary file, synced, then renamed."""
        state = {
            "modules": self.trainee.modules.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
        }
        save_atomically(state, self.checkpoint)

    def _step(self) -> float:
        share = self.schedule.progress(self.progress.step, self.progress.seconds)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.progress.step, share)
        loss = self.trainee.loss(self.progress.step)
        loss.backward()
        parameters = list(self.trainee.modules.parameters())
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self.schedule.ema_decay, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(list(self.average.values()), [value.detach() for value in parameters], 1.0 - decay)
        return float(loss.detach())

    def _report(self, window: list[float]) -> None:
        self.progress.loss = sum(window) / len(window)
        rate = self.optimizer.param_groups[0]["lr"]
        minutes = self.progress.seconds / 60.0
        stage = self.checkpoint.stem
        self.log(f"{stage} step {self.progress.step} minutes {minutes:.1f} loss {self.progress.loss:.4f} lr {rate:.2e}")

    def _resume(self) -> None:
        state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        self.trainee.modules.load_state_dict(state["modules"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        self.log(f"{self.checkpoint.stem} resumed at step {self.progress.step}")


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Save with `torch.save` so that a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def indices(step: int, batch: int, count: int, seed: int) -> list[int]:
    """Return which samples a step sees: every epoch is a permutation of its own, drawn from the seed.

    Args:
        step: Number of the step, from 0.
        batch: Samples a step.
        count: Samples in all.
        seed: Seed of the order.
    """
    first = step * batch
    chosen: list[int] = []
    for epoch in range(first // count, (first + batch - 1) // count + 1):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        low = max(first - epoch * count, 0)
        chosen.extend(order[low : first + batch - epoch * count])
    return chosen
