"""Sweeps without processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.outcome import OK, OUTCOME
from tests.launch.farm.farm_in_memory import FarmInMemory, Farms
from tests.launch.farm.sweep_in_memory import SweepInMemory, Sweeps
from tests.launch.jobs import job
from tests.launch.memory_engine import Clock, MemoryEngine


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    """``sweep([0, Seed.DIES], [1])`` is two packs, of jobs with these seeds."""
    clock = Clock()
    clock.stand_in(monkeypatch, "lora_foundry.launch.farm")

    def make(*packs: Sequence[int | JobConfig], **settings: Any) -> SweepInMemory:
        configs = [[one if isinstance(one, JobConfig) else job(seed=int(one)) for one in pack] for pack in packs]
        return SweepInMemory(tmp_path / "sweep", clock, *configs, **settings)

    return make


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farms:
    """``farm(slots=2)`` is open, and nothing was offered to it yet."""
    clock = Clock()
    clock.stand_in(monkeypatch, "lora_foundry.launch.farm")
    monkeypatch.setattr(OUTCOME, "exit_code", OK)

    def make(*, slots: int = 1, **settings: Any) -> FarmInMemory:
        configs: dict[Path, JobConfig] = {}
        engine = MemoryEngine(clock, slots=slots, configs=configs)
        monkeypatch.setattr("lora_foundry.launch.farm.ground.engine_of", lambda _: engine)
        return FarmInMemory(tmp_path / "sweep", clock, engine, configs, Settings(**{"share": True, **settings}))

    return make
