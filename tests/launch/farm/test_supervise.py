"""Workers that die, hang, break and do not start, jobs that join and stop: a sweep's supervision without a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from lora_foundry.config.schema import JobConfig
from lora_foundry.wire.control import ask_to_stop
from lora_foundry.wire.journal import AskedLine, BeganLine, GainLine, InterruptedLine, JobLine, PackLine, RestartLine
from tests.launch.farm.sweep_in_memory import Sweeps
from tests.launch.jobs import job
from tests.launch.seeds import Seed
from tests.phrases import NO_GAIN, STOPPED


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _short(steps: int, **values: Any) -> JobConfig:
    return job(trainer__max_steps=steps, data__batch_size=1, **values)


def test_one_worker_trains_every_pack_and_stays_warm_between_them(sweep: Sweeps) -> None:
    done = sweep([0, 1], [2]).train()
    assert done.states() == ["FINISHED"] * 3
    assert done.sent() == [("pack-0", [0, 1]), ("pack-1", [2])]
    assert done.workers() == ["started", "left"]


def test_slots_work_side_by_side(sweep: Sweeps) -> None:
    done = sweep([0], [1], [2], [3], slots=2).train()
    assert done.states() == ["FINISHED"] * 4
    assert {line.slot for line in done.journal(BeganLine)} == {"memory-0", "memory-1"}
    assert len(done.engine.started) == 2


def test_a_jobs_failure_is_its_own(sweep: Sweeps) -> None:
    done = sweep([0, Seed.DIVERGES, 1]).train()
    assert done.states() == ["FINISHED", "FAILED", "FINISHED"]
    assert done.jobs[1].now.error == "the loss is not finite at step 2"
    assert done.workers() == ["started", "left"]


def test_what_has_an_end_keeps_it_whatever_is_claimed_later(sweep: Sweeps) -> None:
    done = sweep([0, Seed.FAILS_LATE]).train()
    assert done.states() == ["FINISHED", "FINISHED"]
    assert len([line for line in done.journal(JobLine) if line.state == "FAILED"]) == 0


def test_a_pack_that_ends_without_a_word_about_a_job_fails_that_job(sweep: Sweeps) -> None:
    done = sweep([0, Seed.ENDS_UNSAID]).train()
    assert done.states() == ["FINISHED", "FAILED"]
    assert done.jobs[1].now.error == "the worker ended the pack without a result for this job"


def test_a_pack_whose_worker_died_goes_on_from_its_checkpoints(sweep: Sweeps) -> None:
    done = sweep([0, Seed.DIES_ONCE, 1]).train()
    assert done.states() == ["FINISHED"] * 3
    assert done.sent() == [("pack-0", [0, 1, 2])] * 2
    assert [member.now.summary and member.now.summary.more["resumed"] for member in done.jobs.values()] == [True] * 3
    assert [member.restarts for member in done.jobs.values()] == [1, 1, 1]
    assert "it starts again from its last checkpoint in 1 s" in done.said
    assert "the fake worker fell over" in done.said, "the last lines of its log"
    assert done.workers() == ["started", "ended", "started", "left"]


def test_a_job_that_kills_its_workers_ends_alone_and_its_mates_finish(sweep: Sweeps) -> None:
    done = sweep([0, 1, Seed.DIES, 2]).train()
    assert done.states() == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert "after 3 restarts (hydra.launcher.max_restarts)" in str(done.jobs[2].now.error)
    assert done.sent()[:2] == [("pack-0", [0, 1, 2, 3])] * 2
    for halved in (("pack-0a", [0, 1]), ("pack-0b", [2, 3]), ("pack-0ba", [2]), ("pack-0bb", [3])):
        assert halved in done.sent()


@pytest.mark.slow
def test_a_dead_pack_waits_longer_each_time_and_others_do_not_wait_for_it(sweep: Sweeps) -> None:
    made = sweep([Seed.DIES], [0], backoff_s=8.0, max_restarts=4)
    done = made.train()
    assert done.states() == ["FAILED", "FINISHED"]
    began = [line for line in done.journal(BeganLine) if line.pack.startswith("pack-0")]
    assert len(began) == 5
    assert [line.pack for line in done.journal(BeganLine)][:3] == ["pack-0", "pack-1", "pack-0"]
    for seconds in ("8", "16", "32", "60"):
        assert f"it starts again from its last checkpoint in {seconds} s" in done.said
    assert done.clock.now - done.clock.began >= 8 + 16 + 32 + 60


def test_no_restart_is_tried_where_none_is_allowed(sweep: Sweeps) -> None:
    done = sweep([Seed.DIES], max_restarts=0).train()
    assert done.states() == ["FAILED"]
    assert len(done.sent()) == 1
    assert "restarts" not in str(done.jobs[0].now.error)


def test_a_worker_that_stands_still_is_ended_and_its_pack_goes_on(sweep: Sweeps) -> None:
    done = sweep([Seed.HANGS_ONCE, 1], stall_s=20.0).train()
    assert done.states() == ["FINISHED", "FINISHED"]
    assert "did nothing for 20 s (hydra.launcher.stall_s) and was ended" in done.said
    assert done.workers() == ["started", "stalled", "started", "left"]
    assert 20 <= done.clock.now - done.clock.began < 30


def test_a_full_disk_is_no_standstill(sweep: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    full = iter([True, False])
    monkeypatch.setattr("lora_foundry.launch.farm.composition.is_full", lambda _: next(full))
    done = sweep([Seed.HANGS_ONCE, 1], stall_s=20.0).train()
    assert "no room in " in done.said
    assert done.states() == ["FINISHED", "FINISHED"]
    assert done.clock.now - done.clock.began >= 40, "it was given its time once more"


def test_a_pack_that_breaks_is_halved_until_the_culprit_is_alone(sweep: Sweeps) -> None:
    done = sweep([0, 1, 2, Seed.BREAKS]).train()
    assert done.states() == ["FINISHED"] * 4
    assert [jobs for _, jobs in done.sent()] == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    assert done.workers() == ["started", "left"], "one worker all the while"


def test_a_worker_that_cannot_be_started_fails_its_pack_alone(sweep: Sweeps) -> None:
    done = sweep([0, 1], [2], unstartable=1).train()
    assert done.states() == ["FAILED", "FAILED", "FINISHED"]
    assert done.jobs[0].now.error == "the worker could not be started: no such program"


def test_a_worker_that_waits_for_its_machine_holds_nobody_up(sweep: Sweeps) -> None:
    made = sweep([0], [1], [2], [3], slots=2, queues=[0.0, 1000.0], stall_s=20.0)
    done = made.train()
    assert done.states() == ["FINISHED"] * 4
    assert done.clock.now - done.clock.began < 10, "whoever is there takes what waits"
    assert {line.slot for line in done.journal(BeganLine)} == {"memory-0"}


@pytest.mark.slow
def test_a_worker_whose_machine_came_late_takes_what_waits_then(sweep: Sweeps) -> None:
    made = sweep([Seed.ENDLESS], [1], [2], slots=2, queues=[0.0, 12.0], stall_s=6.0)
    made.when(lambda: made.jobs[2].ended, (made.folder / "let-end").touch)
    done = made.train()
    assert done.states() == ["FINISHED"] * 3
    assert done.clock.now - done.clock.began > 12, "and a queue is no standstill"
    assert [line.slot for line in done.journal(BeganLine)] == ["memory-0", "memory-1", "memory-1"]


def test_an_engine_that_returns_late_holds_nobody_up_and_what_it_gives_then_is_ended(sweep: Sweeps) -> None:
    returns, returned = threading.Event(), threading.Event()

    def block() -> None:
        returns.wait(60)
        returned.set()

    made = sweep([0], [1], [2], [3], slots=2, blocking=block)
    assert made.train().states() == ["FINISHED"] * 4
    assert {line.slot for line in made.journal(BeganLine)} == {"memory-0"}
    returns.set()
    assert returned.wait(60)
    _until(lambda: len(made.engine.started) == 2 and made.engine.started[1].code is not None)


def test_a_stop_does_not_wait_for_an_engine_that_returns_late(sweep: Sweeps) -> None:
    returns = threading.Event()
    made = sweep([Seed.ENDLESS], [1], slots=2, blocking=lambda: returns.wait(60))
    made.when(lambda: made.jobs[0].step > 2, made.interrupts.ask)
    assert made.train().states() == ["KILLED", "KILLED"]
    assert not returns.is_set()
    assert made.jobs[1].now.error == "interrupted before it started"
    returns.set()


def test_who_is_sent_away_from_the_queue_could_not_be_started(sweep: Sweeps) -> None:
    made = sweep([0], [1], queues=[1000.0])

    def send_away() -> None:
        made.engine.started[0].kill()

    made.when(lambda: made.clock.now - made.clock.began > 5, send_away)
    done = made.train()
    assert done.states() == ["FAILED", "FINISHED"]
    assert done.jobs[0].now.error == "the worker could not be started: the worker was ended by SIGKILL"


NO_DRIVER = "Found no NVIDIA driver on your system; install the driver"


def test_a_slot_whose_device_is_refused_trains_nothing_and_its_pack_goes_elsewhere(sweep: Sweeps) -> None:
    done = sweep([0, 1], [2], slots=2, refused={"memory-0": NO_DRIVER}).train()
    assert done.states() == ["FINISHED"] * 3
    assert done.said.count(f"memory-0 cannot train: {NO_DRIVER}") == 1
    assert len(done.engine.started) == 2, "no further worker is started there"
    assert not done.journal(RestartLine), "and no restart is spent"


def test_without_any_device_every_job_waits_for_a_resume_and_the_reason_is_told_once(sweep: Sweeps) -> None:
    done = sweep([0, 1], [2], [3], slots=2, refused={"memory-0": NO_DRIVER, "memory-1": NO_DRIVER}).train()
    assert done.states() == ["KILLED"] * 4
    assert {member.now.error for member in done.jobs.values()} == {f"no device to train on: {NO_DRIVER}"}
    assert done.said.count(NO_DRIVER) == 1
    assert "memory-1 cannot train: the same" in done.said
    assert len(done.engine.started) == 2
    assert len(done.sent()) == 2, "the others are offered to nobody"


def test_a_card_that_is_lost_on_the_way_leaves_its_pack_where_it_was(sweep: Sweeps) -> None:
    refused: dict[str, str] = {}
    made = sweep([_short(40), Seed.DIES_ONCE], refused=refused)
    made.when(lambda: made.jobs[0].step > 1, lambda: refused.update({"memory-0": "GPU is lost"}))
    done = made.train()
    assert done.states() == ["KILLED", "KILLED"]
    assert done.jobs[0].now.error == "no device to train on: GPU is lost"
    assert list((done.folder / "0" / "checkpoints").iterdir()), "a resume goes on from here"


def test_a_free_place_goes_to_the_longest_that_waits_and_a_death_takes_it_along(sweep: Sweeps) -> None:
    first = [_short(4), _short(40, seed=int(Seed.DIES_ONCE))]
    done = sweep(first, [_short(20), _short(30)], pack_size=3).train()
    assert done.states() == ["FINISHED"] * 4
    assert {line.job for line in done.journal(JobLine)} == {0, 1, 2, 3}
    began = [job for line in done.journal(BeganLine) for job in line.jobs]
    assert set(began) == {0, 1, 2, 3}


def test_who_joins_is_of_the_pack_from_then_on(sweep: Sweeps) -> None:
    done = sweep([_short(4), _short(40)], [_short(20), _short(30)], pack_size=2).train()
    assert done.states() == ["FINISHED"] * 4
    assert done.sent("join")[0] == ("pack-0", [3]), "the longest first"
    packs = [line.jobs for line in done.journal(PackLine) if line.pack == "pack-0"]
    assert packs[0] == (1, 3)
    assert "job3 joins" in done.said
    assert done.journal(RestartLine) == [], "to join is no restart"


def test_jobs_of_another_resolution_do_not_join(sweep: Sweeps) -> None:
    done = sweep([_short(4), _short(40)], [_short(20, data__resolution=32)], pack_size=2).train()
    assert done.sent("join") == []
    assert done.states() == ["FINISHED"] * 3


def test_a_pack_that_has_no_room_leaves_them_to_a_pack_of_their_own(sweep: Sweeps) -> None:
    roomless = int(Seed.HAS_NO_ROOM)
    done = sweep([_short(4), _short(40, seed=roomless)], [_short(20), _short(30)], pack_size=2).train()
    assert done.states() == ["FINISHED"] * 4
    assert len(done.sent("join")) == 1, "it is asked once"
    assert "no room for 1 more (memory is short)" in done.said


def test_what_does_not_fit_the_memory_that_is_there_now_waits(sweep: Sweeps) -> None:
    done = sweep([0, 1, 2, 3], fits=lambda configs: len(configs) < 3).train()
    assert done.states() == ["FINISHED"] * 4
    assert all(len(jobs) <= 2 for _, jobs in done.sent())
    assert "there is memory for 2 of 4 together" in done.said
    assert len({name for name, _ in done.sent()}) == len(done.sent()), "each part has a spool of its own"


def test_what_gains_nothing_is_trained_apart_and_so_is_all_that_waits(sweep: Sweeps) -> None:
    alike = [_short(5, seed=int(Seed.GAINS_NOTHING))] + [_short(5, seed=n) for n in range(3)]
    done = sweep(alike, [_short(5, seed=7), _short(5, seed=8)]).train()
    assert done.states() == ["FINISHED"] * 6
    (told,) = done.journal(GainLine)
    assert (told.members, told.chosen) == (4, 1)
    assert NO_GAIN in done.said
    sent = done.sent()
    assert all(len(jobs) == 1 for _, jobs in sent[1:]), sent
    assert len({name for name, _ in sent}) == len(sent), "each pack has a spool of its own"
    assert done.sent("join") == []
    assert done.journal(RestartLine) == [], "to be handed back is no restart"


def test_nothing_is_tried_where_the_user_has_said_how_many(sweep: Sweeps) -> None:
    done = sweep([_short(5, seed=int(Seed.GAINS_NOTHING)), _short(5)], pack_size=2).train()
    assert done.states() == ["FINISHED"] * 2
    assert done.journal(GainLine) == []
    assert done.sent() == [("pack-0", [0, 1])]


def test_one_job_is_stopped_and_the_others_go_on(sweep: Sweeps) -> None:
    made = sweep([Seed.ENDLESS, 1], [2])
    made.when(lambda: made.jobs[0].step > 2, lambda: ask_to_stop(made.folder, 0))
    done = made.train()
    assert done.states() == ["KILLED", "FINISHED", "FINISHED"]
    assert done.jobs[0].now.error == STOPPED


def test_a_waiting_job_is_stopped_before_it_starts(sweep: Sweeps) -> None:
    made = sweep([Seed.ENDLESS], [1], [2])
    made.when(lambda: made.jobs[0].step > 2, lambda: [ask_to_stop(made.folder, one) for one in (1, 0)])
    done = made.train()
    assert done.states() == ["KILLED", "KILLED", "FINISHED"]
    assert done.jobs[1].now.error == "stopped before it started"
    assert [jobs for _, jobs in done.sent()] == [[0], [2]]


def test_a_pruned_job_leaves_its_place_to_the_next_and_its_mates_do_not_notice(sweep: Sweeps) -> None:
    made = sweep([_short(40, seed=int(Seed.ENDLESS)), _short(40)], [_short(20)], pack_size=2)
    made.when(lambda: made.jobs[0].step > 2, lambda: made.supervisor.prune(0))
    done = made.train()
    assert done.states() == ["PRUNED", "FINISHED", "FINISHED"]
    assert done.jobs[0].now.error is None, "nothing went wrong"
    assert done.sent("join") == [("pack-0", [2])]
    assert [(line.job, line.to) for line in done.journal(AskedLine)] == [(0, "prune")]


def test_a_waiting_job_is_pruned_before_it_starts_and_twice_is_once(sweep: Sweeps) -> None:
    made = sweep([Seed.ENDLESS], [1])
    made.when(lambda: made.jobs[0].step > 2, lambda: [made.supervisor.prune(one) for one in (1, 1, 0, 0)])
    done = made.train()
    assert done.states() == ["PRUNED", "PRUNED"]
    assert [jobs for _, jobs in done.sent()] == [[0]]
    assert len(done.journal(AskedLine)) == 2


def test_a_pruned_job_stays_so_whatever_ends_its_worker(sweep: Sweeps) -> None:
    made = sweep([Seed.DIES_ONCE, 1])
    made.when(lambda: made.jobs[0].step > 0, lambda: made.supervisor.prune(0))
    assert made.train().states() == ["PRUNED", "FINISHED"]


def test_a_pruned_job_stays_so_although_a_stop_comes_first(sweep: Sweeps) -> None:
    made = sweep([Seed.DEAF])

    def prune_and_stop() -> None:
        made.supervisor.prune(0)
        made.interrupts.ask()

    made.when(lambda: made.jobs[0].step > 2, prune_and_stop)
    assert made.train().states() == ["PRUNED"]


def test_what_has_an_end_is_not_pruned(sweep: Sweeps) -> None:
    made = sweep([0], [Seed.ENDLESS])
    made.when(lambda: made.jobs[1].step > 2, lambda: [made.supervisor.prune(one) for one in (0, 1)])
    assert made.train().states() == ["FINISHED", "PRUNED"]


def test_a_job_stays_stopped_although_its_worker_died_of_it(sweep: Sweeps) -> None:
    made = sweep([Seed.DIES_OF_STOP_ONCE, 1])
    made.when(lambda: made.jobs[0].step > 2, lambda: ask_to_stop(made.folder, 0))
    done = made.train()
    assert done.states() == ["KILLED", "FINISHED"]
    assert done.jobs[0].now.error == STOPPED


def test_an_interrupt_stops_workers_cleanly_and_begins_nothing_more(sweep: Sweeps) -> None:
    made = sweep([0], [Seed.ENDLESS], [1])
    made.when(lambda: made.jobs[1].step > 2, made.interrupts.ask)
    done = made.train()
    assert done.states() == ["FINISHED", "KILLED", "KILLED"]
    assert done.jobs[2].now.error == "interrupted before it started"
    assert done.workers() == ["started", "left"]
    assert len(done.journal(InterruptedLine)) == 1


def test_a_stop_of_the_whole_sweep_is_an_interrupt(sweep: Sweeps) -> None:
    made = sweep([Seed.ENDLESS], [1])
    made.when(lambda: made.jobs[0].step > 2, lambda: ask_to_stop(made.folder, None))
    assert made.train().states() == ["KILLED", "KILLED"]


def test_a_worker_that_does_not_stop_is_killed_after_a_minute(sweep: Sweeps) -> None:
    made = sweep([Seed.DEAF])
    made.when(lambda: made.jobs[0].step > 2, made.interrupts.ask)
    done = made.train()
    assert done.states() == ["KILLED"]
    assert done.engine.started[0].code == -9
    assert 60 < done.clock.now - done.clock.began < 80


def test_who_insists_does_not_wait(sweep: Sweeps) -> None:
    made = sweep([Seed.DEAF])

    def insist() -> None:
        made.interrupts.ask()
        made.interrupts.insisted = True

    made.when(lambda: made.jobs[0].step > 2, insist)
    assert made.train().states() == ["KILLED"]
    assert made.clock.now - made.clock.began < 20


def test_a_dead_worker_is_not_started_again_after_an_interrupt(sweep: Sweeps) -> None:
    made = sweep([Seed.DIES_OF_STOP_ONCE, 1])
    made.when(lambda: made.jobs[0].step > 2, made.interrupts.ask)
    done = made.train()
    assert done.states()[0] == "KILLED"
    assert len(done.engine.started) == 1


@pytest.mark.parametrize("trained", [True, False])
def test_an_interrupt_before_anything_was_trained_is_said_to_be_that(sweep: Sweeps, *, trained: bool) -> None:
    made = sweep([Seed.ENDLESS])
    if trained:
        made.when(lambda: made.jobs[0].step > 2, made.interrupts.ask)
    else:
        made.interrupts.ask()
    assert ("Interrupted before anything was trained" in made.train().said) is not trained
