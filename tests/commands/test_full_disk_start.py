"""``multirun.yaml``, which nothing here reads: its lack is a line, and a plan writes none."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.ran import Command


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_it_is_written_beside_a_trained_sweep_and_not_for_a_plan(command: Command, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    assert command("hydra.launcher.plan_only=true", sweep_dir=there).code == 0
    assert not list(there.iterdir())
    assert command("lora.rank=2", sweep_dir=there).code == 0
    assert "lora.rank=2" in (there / "multirun.yaml").read_text()


def test_a_full_disk_at_the_end_costs_that_file_alone(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_foundry.launch.farm.sweeping.write_atomic", _full)
    ran = command("lora.rank=2")
    assert (ran.code, ran.states()) == (0, {"duotone-rank2": "FINISHED"})
    assert ran.err.splitlines() == [
        "multirun.yaml was not written (No space left on device); the jobs' own configurations are kept"
    ]


def test_a_full_disk_at_the_start_is_a_line_and_leaves_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "dump", _full)
    ran = command("lora.rank=2")
    assert ran.code == 2
    assert "cannot be written (No space left on device)" in ran.err
    assert "Traceback" not in ran.err
    assert not ran.sweep_dir.exists()
