"""How many workers the CPU gets where the user did not say.

A large base keeps all cores busy with one operation after another, and a second worker would hold a second copy of
it. A small one does not: a quarter of a step of 8 rows on the embedded base is the same for any number of rows, and two
cores take it 1.6 times as fast as one. They also wait for each other at every operation: whatever else runs on the
machine for a moment stalls both. Workers of fewer threads share the jobs instead (docs/benchmarks.md has both).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from lora_foundry.config.allowance import cores, memory_left
from lora_foundry.config.launcher import Settings
from lora_foundry.config.paths import locate
from lora_foundry.config.schema import JobConfig, ModelConfig
from lora_foundry.config.surroundings import threads_asked
from lora_foundry.launch.machines.engine import Engine

_SMALL_BASE = 256 * 2**20  # bytes of its files
_JOBS_EACH = 4  # fewer than that do not pay for another start
_MEMORY_EACH = 2 * 2**30  # a worker with everything imported takes 0.7 GiB with the embedded base and 8 adapters


def with_slots(settings: Settings, engine: Engine, configs: Sequence[JobConfig], jobs: int | None = None) -> Settings:
    """``settings`` with the number of workers a device decided: one, except for small bases on the CPU.

    It depends on the number of all jobs of a sweep, on cores and free memory, and on nothing that was timed: a sweep
    that is resumed on the same machine decides alike, unless its memory is taken by others now.

    Args:
        settings: What the launcher's configuration says; a number there is kept.
        engine: Knows the devices.
        configs: Of the jobs that are to train.
        jobs: How many the sweep has in all; null where these are all.

    Raises:
        SweepError: When the devices that were asked for are not there.
    """
    if settings.slots is not None:
        return settings
    one = replace(settings, slots=1)
    several = min(_threads(), (jobs or len(configs)) // _JOBS_EACH, _in_memory(settings))
    limited = any(config.memory.limit_gib is not None for config in configs)  # a limit is of one worker
    if several < 2 or settings.pack_size is not None or limited:
        return one
    if not all(_is_small(model) for model in {config.model for config in configs}):
        return one
    slots = engine.slots(configs[0].trainer.accelerator, 1)
    return replace(settings, slots=several) if [slot.device for slot in slots] == ["cpu"] else one


def _is_small(model: ModelConfig) -> bool:
    """Whether the base's files are here and small."""
    place = locate(model.path)
    files = [place] if place.is_file() else [*place.rglob("*.safetensors")]
    return bool(files) and sum(file.stat().st_size for file in files) < _SMALL_BASE


def _threads() -> int:
    return min(cores(), threads_asked(os.environ.get("OMP_NUM_THREADS")) or cores())


def _in_memory(settings: Settings) -> int:
    room = memory_left()
    return 1 if room is None else int(room * (1.0 - settings.reserve) // _MEMORY_EACH)
