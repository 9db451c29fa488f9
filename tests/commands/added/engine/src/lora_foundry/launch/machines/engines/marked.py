"""Processes of this machine, each with a mark in the sweep's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.engines import EngineChoice
from lora_foundry.launch.machines.engines.local import LocalEngine, LocalWorker

if TYPE_CHECKING:
    from lora_foundry.config.launcher import Settings


class _MarkedEngine(LocalEngine):
    def start(self, slot: Slot, sweep_dir: Path, cwd: Path, inherit: Sequence[int] = ()) -> LocalWorker:
        worker = super().start(slot, sweep_dir, cwd, inherit)
        (sweep_dir / f"marked-{slot.name}.txt").write_text(str(worker.pid))
        return worker


class _Marked(EngineChoice):
    def build(self, settings: Settings) -> _MarkedEngine:
        return _MarkedEngine(settings)


CHOICE = _Marked()
