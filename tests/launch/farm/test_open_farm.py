"""A farm that takes jobs while it runs: what waits, joins, is pruned, stays warm and ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.again import find_again
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.outcome import INTERRUPTED, OK, OUTCOME
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.machines.sharing import Sharing
from lora_foundry.launch.records.reading import read_results
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.records.resume import find_unfinished
from lora_foundry.wire.control import ask_to_stop
from lora_foundry.wire.journal import BeganLine, EndedLine, LauncherLine, PackLine, SweepLine
from lora_foundry.wire.outcomes import JobOutcome
from tests.launch.farm.farm_in_memory import FarmInMemory, Farms
from tests.launch.jobs import job
from tests.launch.memory_engine import Clock
from tests.launch.seeds import Seed
from tests.launch.start_fake_worker import COMMAND


def _job(seed: int = 0, steps: int = 5) -> JobConfig:
    return job(seed=int(seed), trainer__max_steps=steps, data__batch_size=1, tracking__enabled=False)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_four_batches_have_one_worker_one_journal_and_one_end(farm: Farms, capsys: pytest.CaptureFixture[str]) -> None:
    made = farm()
    for seed in range(4):
        made.offer(_job(seed))
        made.farm.drain()
        assert made.states() == ["FINISHED"] * (seed + 1)
    assert made.workers() == ["started"], "warm for what may come"
    assert not (made.folder / "results.json").exists()
    made.farm.close()
    made.farm.train()
    assert made.workers() == ["started", "left"]
    assert [len(made.journal(kind)) for kind in (LauncherLine, SweepLine, BeganLine, EndedLine)] == [1, 4, 4, 1]
    assert [result.state for result in made.farm.results] == ["FINISHED"] * 4
    names = {result.name for result in made.farm.results}
    assert names == {f"duotone-rank8-seed{seed}" for seed in range(4)}, "each as in a grid"
    assert OUTCOME.exit_code == OK
    told = capsys.readouterr().out
    assert told.count("Picture:") == 1
    assert "Sweep of 1 job" in told
    assert told.count("1 more job") == 3


def test_what_is_offered_while_others_train_takes_a_free_place(farm: Farms) -> None:
    made = farm(pack_size=2)
    made.offer(_job(0, 4), _job(1, 40))

    def more(outcome: JobOutcome) -> None:
        if outcome.job == 0:
            made.offer(_job(2, 20))
            made.farm.close()

    made.listening = more
    made.farm.train()
    assert made.states() == ["FINISHED"] * 3
    assert made.sent("join") == [("pack-0", [2])]


@pytest.mark.slow
def test_a_search_prunes_by_what_is_measured_and_losers_leave_their_places(farm: Farms) -> None:
    made = farm(pack_size=2)
    made.offer(_job(Seed.ENDLESS, 40), _job(1, 40))

    def judge(number: int, samples: int) -> None:
        if number == 0 and samples == 3:
            made.farm.prune(0)
            made.offer(_job(2, 10))
            made.farm.close()

    made.measuring = judge
    results = made.farm.train()
    assert [one.state for one in results] == ["PRUNED", "FINISHED", "FINISHED"]
    assert made.ended[0].job == 0
    assert len(made.told[0]) < 6, "it ended after the step under way"
    assert made.sent("join") == [("pack-0", [2])]
    assert OUTCOME.exit_code == OK, "a pruned job is no failure"
    rows = json.loads((made.folder / "results.json").read_text())
    assert [row["state"] for row in rows] == ["PRUNED", "FINISHED", "FINISHED"]


def test_jobs_that_were_offered_one_by_one_train_together_once_a_slot_is_free(farm: Farms) -> None:
    made = farm()
    made.offer(_job(0))

    def more(outcome: JobOutcome) -> None:
        if outcome.job == 0:
            for seed in (1, 2, 3):
                made.offer(_job(seed))
            made.farm.close()

    made.listening = more
    made.farm.train()
    assert made.states() == ["FINISHED"] * 4
    assert [jobs for _, jobs in made.sent()] == [[0], [1, 2, 3]]
    names = [line.pack for line in made.journal(PackLine)]
    assert len(names) == len(set(names)), "each pack has a spool of its own"


def test_what_was_found_out_of_sizes_goes_for_later_offers_too(farm: Farms) -> None:
    made = farm()
    made.offer(*(_job(seed) for seed in (Seed.GAINS_NOTHING, 1, 2, 3)))
    made.farm.drain()
    made.offer(*(_job(seed) for seed in (4, 5, 6)))
    made.farm.close()
    made.farm.train()
    assert made.states() == ["FINISHED"] * 7
    assert [len(jobs) for _, jobs in made.sent()] == [4, 1, 1, 1, 1, 1, 1]


def test_another_thread_offers_and_closes_while_the_farm_waits(farm: Farms) -> None:
    made = farm()
    made.offer(_job(0))

    def search() -> None:
        _until(lambda: [one.job for one in made.ended] == [0])
        made.offer(_job(1))
        _until(lambda: len(made.ended) == 2)
        made.farm.close()

    thread = threading.Thread(target=search)
    thread.start()
    made.clock.watch = lambda: time.sleep(0.0005)
    made.farm.train()
    thread.join()
    assert made.states() == ["FINISHED", "FINISHED"]
    assert made.workers() == ["started", "left"]


def test_a_closed_farm_takes_nothing_more(farm: Farms) -> None:
    made = farm()
    made.offer(_job(0))
    made.farm.close()
    with pytest.raises(RuntimeError, match="takes nothing more"):
        made.offer(_job(1))
    made.farm.train()
    assert made.farm.train() == [], "it has ended"


def test_a_farm_without_an_offer_makes_nothing(farm: Farms) -> None:
    made = farm()
    made.farm.close()
    assert made.farm.train() == []
    assert not made.folder.exists()


def test_an_interrupt_between_two_batches_ends_the_sweep(farm: Farms) -> None:
    made = farm()
    made.offer(_job(0))
    made.farm.drain()
    ask_to_stop(made.folder, None)
    _until(lambda: made.farm.interrupted)
    made.farm.close()
    made.farm.train()
    assert OUTCOME.exit_code == INTERRUPTED
    assert made.workers() == ["started", "left"]
    assert [line.exit_code for line in made.journal(EndedLine)] == [INTERRUPTED]


def test_an_interrupted_batch_ends_at_once_and_nothing_comes_after_it(farm: Farms) -> None:
    made = farm()
    made.offer(_job(Seed.ENDLESS))
    made.when(lambda: len(made.told.get(0, ())) > 2, made.farm.stop)
    made.farm.drain()
    assert made.states() == ["KILLED"]
    assert made.workers() == ["started", "left"]
    with pytest.raises(RuntimeError):
        made.offer(_job(1))
    made.farm.train()
    assert OUTCOME.exit_code == INTERRUPTED


def test_a_worker_that_died_between_two_batches_is_started_again(farm: Farms) -> None:
    made = farm()
    made.offer(_job(0))
    made.farm.drain()
    made.engine.started[0].kill()
    made.offer(_job(1))
    made.farm.drain()
    assert made.states() == ["FINISHED", "FINISHED"]
    assert len(made.engine.started) == 2
    made.farm.close()
    made.farm.train()


def test_an_idle_worker_gives_its_device_to_another_sweep_that_waits_and_to_none_that_does_not(
    farm: Farms, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = threading.Event()
    monkeypatch.setattr(Sharing, "wanted", lambda *_: wanted.is_set())
    made = farm()
    made.offer(_job(0))
    made.farm.drain()
    time.sleep(0.5)  # a look at it
    made.clock.sleep(1000.0)
    time.sleep(0.5)
    assert made.workers() == ["started"], "nobody waits"
    wanted.set()
    _until(lambda: made.workers() == ["started", "left"])
    made.offer(_job(1))
    made.farm.drain()
    assert made.states() == ["FINISHED", "FINISHED"], "and it comes back"
    made.farm.close()
    made.farm.train()


def test_what_was_offered_goes_on_without_the_search_whose_launcher_was_killed(
    farm: Farms, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = farm(pack_size=1)
    made.offer(_job(0), _job(1))
    made.offer(_job(2))

    class KilledError(Exception):
        pass

    def fall(_: JobOutcome) -> None:
        raise KilledError

    made.listening = fall
    monkeypatch.setattr(Farm, "_leave", lambda _: None)  # nobody is there to do more
    with pytest.raises(KilledError):
        made.farm.train()
    monkeypatch.undo()
    made.engine.started[0].kill()
    left = find_unfinished(made.folder, failed=False)
    assert left.left_out == ()
    assert [one.index for one in left.jobs] == [1, 2]
    made.clock.stand_in(monkeypatch, "lora_foundry.launch.farm")
    monkeypatch.setattr("lora_foundry.launch.farm.ground.engine_of", lambda _: made.engine)
    again = Farm.going_on(left, made.settings, Outside(finish=lambda *_: None))
    assert [one.state for one in again.train()] == ["FINISHED"] * 2
    assert [one.state for one in read_results(made.folder)] == ["FINISHED"] * 3


def test_a_page_that_cannot_be_written_is_told_and_is_no_fault_of_the_sweep(
    farm: Farms, capsys: pytest.CaptureFixture[str]
) -> None:
    made = farm()
    made.offer(_job())

    def fall(_: Path) -> Path:
        raise ZeroDivisionError("a fault of the page's own\nin two lines")

    made.reporting = fall
    made.farm.close()
    assert [one.state for one in made.farm.train()] == ["FINISHED"]
    assert OUTCOME.exit_code == OK
    said = " ".join(capsys.readouterr().out.split())
    assert "report.html was not written (ZeroDivisionError: a fault of the page's own);" in said
    assert f"report {made.folder} tries again" in said
    assert "Report:" not in said


@pytest.mark.parametrize("wanted", [True, False])
def test_a_sweep_ends_with_its_page_unless_nobody_wants_one(
    farm: Farms, capsys: pytest.CaptureFixture[str], *, wanted: bool
) -> None:
    made = farm(report=wanted)
    made.offer(_job())
    there: list[bool] = []

    def page(folder: Path) -> Path:
        there.append((folder / "results.json").exists())
        return folder / "page.html"

    made.reporting = page
    made.farm.close()
    made.farm.train()
    assert there == [True] * wanted, "with what the sweep ended with"
    assert (f"Report:   {made.folder / 'page.html'}" in capsys.readouterr().out) is wanted


@pytest.mark.slow
def test_a_search_prunes_jobs_of_real_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OUTCOME, "exit_code", OK)
    settings = Settings(worker_command=COMMAND, share=True, slots=1, pack_size=2)
    made = FarmInMemory(tmp_path / "sweep", Clock(), None, {}, settings)
    made.offer(_job(Seed.ENDLESS, 40), _job(1, 40))

    def judge(number: int, samples: int) -> None:
        if number == 0 and samples == 3:
            made.farm.prune(0)
            made.offer(_job(2, 10))
            made.farm.close()

    made.measuring = judge
    results = made.farm.train()
    assert [one.state for one in results] == ["PRUNED", "FINISHED", "FINISHED"]
    assert made.workers() == ["started", "left"]
    assert (made.folder / "0" / "checkpoints").is_dir(), "it can be gone on with"


def test_a_pruned_point_is_not_trained_again_by_the_same_command(farm: Farms) -> None:
    made = farm()
    configs = [_job(Seed.ENDLESS), _job(1)]
    made.offer(*configs)
    made.measuring = lambda number, _: made.farm.prune(0) if number == 0 else None
    made.farm.close()
    made.farm.train()
    assert made.states() == ["PRUNED", "FINISHED"]
    sweeps = [(made.folder, read_sweep(made.folder))]
    points = made.points(*configs, _job(2))
    whole = find_again(points[:2], sweeps, None, "the command")
    assert whole.left(points[:2]) == []
    some = [points[0], points[2]]
    other = find_again(some, sweeps, None, "the command")
    assert other.left(some) == [points[2]]
    assert [other.finished[points[0].index].state] == ["PRUNED"]
    assert "skipped: pruned, same config and data" in other.notes[0]
