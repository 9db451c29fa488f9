"""Searches without processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch.memory_engine import Clock, MemoryEngine
from tests.search.searches import Searches


@pytest.fixture
def searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searches:
    """A place for one search."""
    clock = Clock()
    clock.stand_in(monkeypatch, "lora_foundry.launch.farm")
    engine = MemoryEngine(clock)
    monkeypatch.setattr("lora_foundry.launch.farm.ground.engine_of", lambda _: engine)
    return Searches(tmp_path / "sweep", clock, engine)
