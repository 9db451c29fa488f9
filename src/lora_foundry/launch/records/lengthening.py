"""Training a job for longer than it was asked for (``resume=<job folder> trainer.max_steps=800``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from lora_foundry.config.length import known_steps
from lora_foundry.config.longer import Length, words_of
from lora_foundry.config.rules import broken_rules
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.records.stored_jobs import steps_taken
from lora_foundry.tracking.records import JobRecord

Rate = Callable[[JobConfig, int, int], float]
"""The learning rate of a job: after so many optimizer steps, of so many in all."""


def new_length(job: JobRecord, asked: Mapping[str, float | None]) -> Length:
    """The length that a job is to have.

    Args:
        job: With its configuration so far.
        asked: What is to be another, by key; where only steps are, they decide instead of epochs.
    """
    steps, epochs = asked.get("trainer.max_steps"), asked.get("trainer.epochs")
    if "trainer.max_steps" not in asked:
        steps = job.config.trainer.max_steps
    return Length(max_steps=None if steps is None else int(steps), epochs=epochs, after=steps_taken(job.dir))


def length_problems(job: JobRecord, length: Length) -> list[str]:
    """A line for each reason why a job cannot train so long; it has its configuration so far."""
    before, config = job.config.trainer, length.of(job.config)
    problems = broken_rules({each.name: getattr(config, each.name) for each in dataclasses.fields(config)})
    steps = known_steps(config.trainer)
    if steps is not None and steps <= length.after:
        problems.append(
            f"trainer.max_steps={steps}: {job.name} has taken {length.after} optimizer steps already; allowed is more"
        )
    if length.epochs is not None and before.epochs is not None and length.epochs < before.epochs:
        problems.append(
            f"trainer.epochs={length.epochs:g}: {job.name} is to train for {before.epochs:g}; allowed is not less"
        )
    return problems


def told_length(before: JobConfig, job: JobRecord, length: Length, rate: Rate | None) -> list[str]:
    """What is said of a job that trains longer: how long, and what its learning rate does.

    Args:
        before: Its configuration so far.
        job: With the new one.
        length: From now on.
        rate: Tells the learning rate; None leaves that out.
    """
    was_to = Length(max_steps=before.trainer.max_steps, epochs=before.trainer.epochs, after=0)
    told = f"{job.name} trains longer: {words_of([was_to, length])}"
    old, new, after = known_steps(before.trainer), known_steps(job.config.trainer), length.after
    if rate is None or old is None or new is None or not after:
        return [told]
    was, comes = rate(before, after - 1, old), rate(job.config, after, new)
    if all(rate(before, step, old) == rate(job.config, step, new) for step in range(after)):
        return [told, f"its learning rate, {comes:g}, goes on as in a job of {new} steps from the beginning"]
    return [
        told,
        f"scheduler.name={before.scheduler.name}: its learning rate was {was:.3g} at step {after} of {old} and goes on "
        f"with {comes:.3g}, where the schedule over {new} steps has it; the result is not that of {new} steps at once",
    ]
