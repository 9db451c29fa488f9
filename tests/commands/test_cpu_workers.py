"""A small base on the CPU: several workers where the user does not say how many, and as many when it goes on."""

from __future__ import annotations

import pytest

from lora_foundry.commands import resume
from lora_foundry.launch.records.journal import read_journal
from lora_foundry.wire.journal import BeganLine
from tests.commands.ran import Command, Ran
from tests.launch.seeds import Seed, seeds

SEVEN = seeds(0, 1, 2, 3, 4, 5, Seed.DIVERGES)  # the last fails


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_foundry.launch.machines.workers.cores", lambda: 2)
    monkeypatch.setattr("lora_foundry.launch.machines.workers.memory_left", lambda: 20 * 2**30)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def _slots(ran: Ran) -> list[str]:
    return [line.slot for line in read_journal(ran.sweep_dir) if isinstance(line, BeganLine)]


def test_eight_jobs_have_two_workers_and_so_has_one_of_them_that_goes_on(command: Command) -> None:
    ran = command(f"{SEVEN},6", "-m")
    assert sorted(_slots(ran)) == ["cpu-0", "cpu-1"]
    assert "2 slots" in ran.out
    assert resume.main([str(ran.sweep_dir)], failed=True) == 1, "it fails again"
    assert _slots(ran)[2:] == ["cpu-0"], "one of two: the threads that it has decide how its numbers are rounded"


def test_a_job_goes_on_where_the_configuration_of_another_is_gone(command: Command) -> None:
    ran = command(f"{SEVEN},6", "-m")
    (ran.sweep_dir / "0" / ".hydra" / "config.yaml").unlink()
    assert resume.main([str(ran.sweep_dir / "6")], failed=True) == 1, "it was tried, and fails again"
    assert _slots(ran)[2:] == ["cpu-0"]


def test_fewer_jobs_have_one(command: Command) -> None:
    assert set(_slots(command(SEVEN, "-m"))) == {"cpu"}


def test_one_at_a_time_is_one_at_a_time(command: Command) -> None:
    assert _slots(command(f"{SEVEN},6", "-m", "hydra.launcher.pack_size=1")) == ["cpu"] * 8


def test_the_plan_shows_both(command: Command) -> None:
    ran = command(f"{SEVEN},6", "-m", "hydra.launcher.plan_only=true", "trainer.max_steps=20")
    assert "cpu-0" in ran.out
    assert "cpu-1" in ran.out
