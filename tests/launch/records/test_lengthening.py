"""What a job that trains longer is told, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.records.lengthening import length_problems, new_length, told_length
from lora_foundry.tracking.records import JobRecord
from lora_foundry.wiring.rate import rate
from tests.launch.jobs import job


def _record(folder: Path, config: JobConfig, taken: int = 400) -> JobRecord:
    (folder / "checkpoints").mkdir(exist_ok=True)
    for step in (taken // 2, taken):
        (folder / "checkpoints" / f"step-{step:08d}.safetensors").touch()
    return JobRecord(index=0, name="flat", dir=folder, config=config, overrides={}, pack="pack-0")


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (
            {"trainer.max_steps": 400},
            "trainer.max_steps=400: flat has taken 400 optimizer steps already; allowed is more",
        ),
        ({"trainer.max_steps": None}, "trainer.max_steps=null and trainer.epochs=null"),
        ({"trainer.epochs": 3.0}, "trainer.epochs=3: flat is to train for 4; allowed is not less"),
        ({"trainer.max_steps": 800}, None),
        ({"trainer.epochs": 8.0}, None),
    ],
)
def test_a_length_that_is_there_already_is_refused(
    asked: dict[str, float | None], line: str | None, tmp_path: Path
) -> None:
    record = _record(tmp_path, job(trainer__epochs=4.0))
    told = length_problems(record, new_length(record, asked))
    assert line in told[0] if line else not told, told


def test_steps_decide_where_only_they_are_asked_for(tmp_path: Path) -> None:
    record = _record(tmp_path, job(trainer__epochs=4.0))
    length = new_length(record, {"trainer.max_steps": 800})
    assert (length.max_steps, length.epochs, length.after) == (800, None, 400)
    length = new_length(record, {"trainer.epochs": 8.0})
    assert (length.max_steps, length.epochs) == (400, 8.0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            {"scheduler__name": "constant"},
            "its learning rate, 0.002, goes on as in a job of 800 steps from the beginning",
        ),
        # Half a cosine to a tenth: 0.0002 at its end, and in its middle (1 + 0.1) / 2 of the peak, a little more since
        # the ten steps of the warm-up are no part of it.
        (
            {"scheduler__name": "cosine", "scheduler__min_lr_ratio": 0.1},
            "scheduler.name=cosine: its learning rate was 0.0002 at step 400 of 400 and goes on with 0.00112, where",
        ),
        # Of a short job the warm-up is a tenth: 4 steps of 40 and 8 of 80.
        (
            {"trainer__max_steps": 40, "scheduler__name": "constant"},
            "scheduler.name=constant: its learning rate was 0.002",
        ),
    ],
)
def test_the_rate_that_comes_is_told(words: dict[str, object], told: str, tmp_path: Path) -> None:
    before = job(optimizer__lr=2e-3, **words)
    steps = before.trainer.max_steps
    assert steps is not None
    record = _record(tmp_path, before, steps)
    length = new_length(record, {"trainer.max_steps": 2 * steps})
    lines = told_length(before, replace(record, config=length.of(before)), length, rate)
    assert lines[0] == f"flat trains longer: {steps} steps, then {2 * steps} steps from step {steps} on"
    assert lines[1].startswith(told), lines[1]
