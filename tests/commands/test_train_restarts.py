"""Workers that die, hang and break: what is started again, what is split, and what is given up."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TypeVar

from lora_foundry.launch.records.journal import read_journal
from lora_foundry.launch.records.ledger import sweep_at
from lora_foundry.wire.control import ask_to_stop
from lora_foundry.wire.journal import BeganLine, JobLine, JournalLine, WorkerLine
from tests.commands.ran import Command, Ran
from tests.launch.seeds import Seed, seeds

QUICK = "hydra.launcher.backoff_s=0.05"


def packs_sent(ran: Ran) -> list[tuple[str, list[int]]]:
    """Names and jobs of the packs in the order in which workers got them."""
    return [(c["pack"], [job["job"] for job in c["jobs"]]) for c in ran.commands() if c["cmd"] == "pack"]


J = TypeVar("J", bound=JournalLine)


def told(ran: Ran, kind: type[J]) -> list[J]:
    return [line for line in read_journal(ran.sweep_dir) if isinstance(line, kind)]


def test_a_pack_whose_worker_died_goes_on_from_its_checkpoints(command: Command) -> None:
    ran = command(seeds(0, Seed.DIES_ONCE, 1), "-m", QUICK)
    assert ran.code == 0, ran.out
    assert set(ran.states().values()) == {"FINISHED"}
    assert packs_sent(ran) == [("pack-0", [0, 1, 2])] * 2
    assert [row["summary"]["resumed"] for row in ran.results().values()] == [True] * 3
    assert "it starts again from its last checkpoint in 0.05 s" in ran.out
    assert [line.state for line in told(ran, WorkerLine)] == ["started", "ended", "started", "left"]


def test_the_ledger_counts_deaths_and_keeps_the_steps_of_those_that_were_stopped(
    command: Command, tmp_path: Path
) -> None:
    asking = _ask_when_running(tmp_path / "sweep", 0)
    ran = command(seeds(Seed.ENDLESS, Seed.DIES_ONCE, 1), "-m", QUICK)
    asking.join()
    sweep = sweep_at(ran.sweep_dir)
    assert sweep is not None
    assert [job.restarts for job in sweep.jobs][1:] == [1, 1]
    assert sweep.jobs[0].state == "KILLED"
    assert sweep.jobs[0].step is not None


def test_a_worker_that_stands_still_is_ended_and_its_pack_goes_on(command: Command) -> None:
    ran = command(seeds(Seed.HANGS_ONCE, 1), "-m", QUICK, "hydra.launcher.stall_s=3")
    assert ran.code == 0, ran.out
    assert "did nothing for 3 s" in ran.out
    assert [line.state for line in told(ran, WorkerLine)] == ["started", "stalled", "started", "left"]


def test_a_pack_that_breaks_is_halved_until_the_culprit_is_alone(command: Command) -> None:
    ran = command(seeds(0, 1, 2, Seed.BREAKS), "-m", QUICK)
    assert ran.code == 0, ran.out
    assert set(ran.states().values()) == {"FINISHED"}
    assert [jobs for _, jobs in packs_sent(ran)] == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    assert len(told(ran, WorkerLine)) == 2, "one worker all the while"


def test_slots_work_side_by_side(command: Command) -> None:
    ran = command("seed=0,1,2,3", "-m", "hydra.launcher.pack_size=1", "hydra.launcher.slots=2")
    assert ran.code == 0, ran.out
    assert len({c["pid"] for c in ran.commands() if c["cmd"] == "pack"}) == 2
    assert {line.slot for line in told(ran, BeganLine)} == {"cpu-0", "cpu-1"}
    assert (ran.sweep_dir / "worker-cpu-1.log").exists()


def _ask_when_running(sweep_dir: Path, *jobs: int | None) -> threading.Thread:
    def ask() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(isinstance(line, JobLine) and line.state == "RUNNING" for line in read_journal(sweep_dir)):
                for job in jobs:
                    ask_to_stop(sweep_dir, job)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_one_job_is_stopped_and_the_others_go_on(command: Command, tmp_path: Path) -> None:
    asking = _ask_when_running(tmp_path / "sweep", 0)
    ran = command(seeds(Seed.ENDLESS, 1), "-m")
    asking.join()
    assert list(ran.states().values()) == ["KILLED", "FINISHED"]
    assert ran.code == 1


def test_a_sweep_is_stopped_like_ctrl_c(command: Command, tmp_path: Path) -> None:
    asking = _ask_when_running(tmp_path / "sweep", None)
    ran = command(seeds(Seed.ENDLESS, 1), "-m", "hydra.launcher.pack_size=1")
    asking.join()
    assert ran.code == 130
    assert list(ran.states().values()) == ["KILLED", "KILLED"]


def test_wrong_settings_are_refused_all_at_once(command: Command) -> None:
    ran = command("seed=1", "hydra.launcher.engine=ray", "hydra.launcher.slots=0", "hydra.launcher.reserve=1.5")
    assert ran.code == 2
    assert "hydra.launcher.engine: got 'ray', allowed is one of local" in ran.err
    assert "hydra.launcher.slots: got 0, allowed is at least 1" in ran.err
    assert "hydra.launcher.reserve: got 1.5" in ran.err
