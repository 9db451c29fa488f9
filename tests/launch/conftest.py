"""Sweeps without processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lora_foundry.config.schema import JobConfig
from tests.launch.farm.sweep_in_memory import SweepInMemory, Sweeps
from tests.launch.jobs import job
from tests.launch.memory_engine import Clock


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    """``sweep([0, Seed.DIES], [1])`` is two packs, of jobs with these seeds."""
    clock = Clock()
    clock.stand_in(monkeypatch, "lora_foundry.launch.farm")

    def make(*packs: Sequence[int | JobConfig], **settings: Any) -> SweepInMemory:
        configs = [[one if isinstance(one, JobConfig) else job(seed=int(one)) for one in pack] for pack in packs]
        return SweepInMemory(tmp_path / "sweep", clock, *configs, **settings)

    return make
