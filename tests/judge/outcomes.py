"""Outcomes of sweeps for tests of what is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.states import State
from tests.wire.summaries import summary


def outcome(
    job: int,
    losses: Sequence[float] | float | None,
    *,
    name: str = "",
    rows: str = "r",
    overrides: Mapping[str, str] | None = None,
    state: State = "FINISHED",
) -> JobOutcome:
    """A job with the losses of its images over the base's; a number is their mean, of which no more is known."""
    told = None
    if isinstance(losses, Sequence):
        items, values = tuple(f"{place}.png" for place in range(len(losses))), tuple(losses)
        told = ByItem(step=9, samples=36, rows=rows, items=items, relative=values, base=(1.0,) * len(values))
    score = told.mean if told is not None else losses
    return JobOutcome(
        job=job,
        name=name or f"n{job}",
        dir=Path(str(job)),
        state=state,
        overrides=overrides or {},
        rank=4,
        summary=summary(val_loss_rel=score, file=f"{job}/adapter/n{job}.safetensors"),
        error=None,
        by_item=told,
    )
