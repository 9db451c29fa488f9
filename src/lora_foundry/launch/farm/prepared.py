"""What a sweep left, looked at before it goes on: without the jobs that cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_foundry.config.errors import SweepError
from lora_foundry.config.precision import CHOSEN, emulated, kept
from lora_foundry.config.schema import Precision
from lora_foundry.launch.points.preflight import Asked, Looks, full_disk, unready
from lora_foundry.launch.points.writable import recorded_problems
from lora_foundry.launch.records.resume import Resumed, has_checkpoint
from lora_foundry.launch.records.unchanged import few, refusals
from lora_foundry.tracking.records import JobRecord


def ready(resumed: Resumed, looks: Looks) -> Resumed:
    """The same without the jobs whose data, base or adapter file is not there any more.

    Raises:
        SweepError: When none is left, or their runs or files cannot be written.
    """
    if not resumed.jobs:
        return resumed
    problems = recorded_problems(resumed.sweep_dir, resumed.jobs[0].config.tracking)
    problems += full_disk(resumed.sweep_dir, [job.config for job in resumed.jobs], looks)
    if problems:
        raise SweepError([f"resume: {line}" for line in problems])
    jobs = {job.index: Asked(config=job.config, begun=has_checkpoint(job.dir)) for job in resumed.jobs}
    found = unready(jobs, looks, resumed.cwd)
    reasons = {job.name: "; ".join(found[job.index]) for job in resumed.jobs if job.index in found}
    told = (*resumed.refused, *refusals(reasons, resumed.sweep.command))
    if len(found) == len(resumed.jobs):
        raise SweepError((*told, *resumed.damaged))
    packs = [(name, tuple(number for number in jobs if number not in found)) for name, jobs in resumed.packs]
    return replace(
        resumed,
        jobs=tuple(job for job in resumed.jobs if job.index not in found),
        packs=tuple((name, jobs) for name, jobs in packs if jobs),
        refused=told,
    )


def kept_precisions(jobs: Sequence[JobRecord], here: Precision) -> list[str]:
    """What is said of jobs that go on in the precision in which they began, where it is not what suits the devices.

    Args:
        jobs: With their stored configurations.
        here: What ``trainer.precision=auto`` is on the devices that there are.
    """
    lines: dict[str, list[str]] = {}
    for job in jobs:
        trainer = job.config.trainer
        named = "trainer.precision" in job.overrides or trainer.precision not in CHOSEN
        other = not named and trainer.precision != here and trainer.accelerator != "cpu"
        line = emulated(trainer.precision, here) or (kept(trainer.precision, here) if other else None)
        if line is not None:
            lines.setdefault(line, []).append(job.name)
    return [f"{few(names)}: {line}" for line, names in lines.items()]
