"""Members that come while a pack trains, and members that sit steps out: nobody's trajectory notices."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.training.callbacks.pacing import Pacing
from lora_foundry.training.checkpoint import load_newest
from lora_foundry.training.gain import LEAST_STEPS
from lora_foundry.training.pack import Pack
from lora_foundry.training.pack_step import run_step
from lora_foundry.training.requests import Arrival, Requests
from lora_foundry.wire.events import GainFound, HandedBack, Refused
from tests.phrases import MEMORY_SHORT
from tests.training.test_equality_contract import DIFFERENCES, LIMIT, PLAIN
from tests.training.world import Spec, Trained, distance, make_member, make_task, train, undisturbed

LONGER = Spec("longer", ("trainer.max_steps=14", "trainer.accumulate=2", "lora.rank=3"))


class Door:
    """Lets ``specs`` in after so many steps of the pack."""

    def __init__(self, root: Path, after: int, *specs: Spec, resume: bool = False) -> None:
        self.members = [make_member(spec, root, job=10 + n) for n, spec in enumerate(specs)]
        self._after = after
        self._resume = resume

    def __call__(self) -> list[Arrival]:
        self._after -= 1
        return [Arrival(member=member, resume=self._resume) for member in self.members] if self._after == 0 else []


def joined(root: Path, here: list[Spec], *specs: Spec, after: int = 3, **options: Any) -> tuple[Trained, Door]:
    door = Door(root, after, *specs, resume=options.pop("resume_joining", False))
    trained = train(here, root, requests=Requests(arriving=door), **options)
    return trained, door


def weights(root: Path, name: str) -> dict[str, torch.Tensor]:
    return load_newest(root / name / "checkpoints")[0].weights


_COMING = (("rank", "dropout", "batch size", "accumulation"), ("convolutions", "adafactor", "longer", "epochs"))


@pytest.mark.slow
@pytest.mark.parametrize("names", _COMING, ids=" and ".join)
def test_members_that_join_equal_their_solo_runs_and_their_mates_do_not_notice(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    others = [DIFFERENCES[name] for name in names]
    trained, _ = joined(tmp_path / "packed", [PLAIN, LONGER], *others)
    jobs = [0, 1, *range(10, 10 + len(others))]
    assert [trained.states(job) for job in jobs] == [["RUNNING", "FINISHED"]] * len(jobs)
    for spec in (PLAIN, LONGER, *others):
        solo = undisturbed(spec)
        assert distance(weights(tmp_path / "packed", spec.name), solo.weights(spec.name)) < LIMIT


@pytest.mark.slow
def test_it_joins_in_the_middle_of_its_mates_accumulation(tmp_path: Path) -> None:
    patient = Spec("patient", ("trainer.accumulate=5", "lora.rank=3", "optimizer=prodigy"))
    joined(tmp_path, [patient], PLAIN, after=3)
    solo = undisturbed(patient)
    assert distance(weights(tmp_path, "patient"), solo.weights("patient")) < LIMIT


@pytest.mark.slow
def test_it_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    steps = iter(range(1000))
    first = train([PLAIN], tmp_path, stop=lambda: next(steps) > 8)
    assert first.states(0)[-1] == "KILLED"
    assert 0 < first.parts["plain"].count.step < 8
    joined(tmp_path, [LONGER], PLAIN, after=2, resume_joining=True)
    solo = undisturbed(PLAIN)
    assert distance(weights(tmp_path, "plain"), solo.weights("plain")) < LIMIT


@pytest.mark.slow
def test_one_that_cannot_begin_fails_alone(tmp_path: Path) -> None:
    lost = Spec("lost", (f"lora.init_from={tmp_path}/nowhere.safetensors",))
    trained, _ = joined(tmp_path, [PLAIN, LONGER], lost, DIFFERENCES["rank"])
    assert [trained.states(job)[-1] for job in (0, 1, 10, 11)] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]


@pytest.mark.slow
def test_one_that_finds_no_memory_is_refused_and_nothing_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Pack._optimizer

    def scarce(self: Pack) -> Any:
        if len(self.members) > 2:
            raise MemoryError
        return made(self)

    monkeypatch.setattr(Pack, "_optimizer", scarce)
    trained, _ = joined(tmp_path, [PLAIN, LONGER], DIFFERENCES["convolutions"])
    refused = [event for event in trained.events if isinstance(event, Refused)]
    assert [event.jobs for event in refused] == [(10,)]
    assert trained.states(10) == []
    for spec in (PLAIN, LONGER):
        solo = undisturbed(spec)
        assert distance(trained.weights(spec.name), solo.weights(spec.name)) < LIMIT


@pytest.mark.slow
def test_nobody_joins_where_memory_was_short(tmp_path: Path) -> None:
    class Tight:
        """Gives way once, at the first step."""

        gave = False

        def check(self) -> None:
            if torch.is_grad_enabled() and not self.gave:
                raise MemoryError

        def give_way(self, pack: Pack, reason: str) -> None:
            del reason
            pack.rows, self.gave = 1, True

    trained, _ = joined(tmp_path, [PLAIN, LONGER], DIFFERENCES["rank"], relief=Tight())
    assert [event.reason for event in trained.events if isinstance(event, Refused)] == [MEMORY_SHORT]


FEW_LAYERS = "lora.target_modules=[to_q]"  # of many steps
FOUR = [
    Spec(f"m{n}", (f"trainer.max_steps={LEAST_STEPS + 6 + n}", f"seed={n}", f"data.batch_size={1 + n % 2}", FEW_LAYERS))
    for n in range(4)
]


def _clock(monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float]) -> None:
    """Let a step of so many members take ``cost`` seconds."""
    now = [0.0]
    members = [0]
    start, end = Pacing.on_train_batch_start, Pacing.on_train_batch_end

    def began(self: Pacing, *args: Any) -> None:
        start(self, *args)
        members[0] = self._shape[0]

    def ended(self: Pacing, *args: Any) -> None:
        now[0] += cost(members[0])
        end(self, *args)

    monkeypatch.setattr(Pacing, "on_train_batch_start", began)
    monkeypatch.setattr(Pacing, "on_train_batch_end", ended)
    monkeypatch.setattr("lora_foundry.training.callbacks.pacing.time.perf_counter", lambda: now[0])


@pytest.mark.slow
def test_a_pruned_member_leaves_with_a_checkpoint_and_its_mates_do_not_notice(tmp_path: Path) -> None:
    looks = itertools.count(1)
    asked = Requests(pruned=lambda: {0} if next(looks) > 4 else set())
    trained = train([PLAIN, LONGER], tmp_path / "packed", requests=asked)
    assert trained.states(0) == ["RUNNING", "PRUNED"]
    assert trained.states(1) == ["RUNNING", "FINISHED"]
    alone = undisturbed(LONGER)
    assert distance(trained.weights(LONGER.name), alone.weights(LONGER.name)) < LIMIT
    assert not list((tmp_path / "packed" / PLAIN.name).glob("adapter/*.safetensors")), "nothing is exported of it"
    went_on = train([PLAIN], tmp_path / "packed", resume=frozenset({PLAIN.name}))
    plain = undisturbed(PLAIN)
    assert distance(went_on.weights(PLAIN.name), plain.weights(PLAIN.name)) < LIMIT


def _gain(trained: Trained) -> GainFound:
    (told,) = (event for event in trained.events if isinstance(event, GainFound))
    return told


@pytest.mark.slow
def test_a_trial_that_finds_a_gain_changes_no_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _clock(monkeypatch, lambda members: 2.0 + members)
    trained = train(FOUR, tmp_path / "tried", requests=Requests(least_gain=lambda: 1.05))
    told = _gain(trained)
    assert (told.members, told.rows, told.chosen) == (4, 6, 4)
    assert told.seconds == {"4": 6.0, "2": 8.0}
    assert told.ratio == pytest.approx(8 / 6, abs=1e-3)
    for n, spec in enumerate(FOUR):
        assert trained.states(n)[-1] == "FINISHED"
        solo = undisturbed(spec)
        assert distance(trained.weights(spec.name), solo.weights(spec.name)) < LIMIT


@pytest.mark.slow
def test_members_that_gain_nothing_are_handed_back_and_end_as_if_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _clock(monkeypatch, lambda members: 0.5 + members if members > 1 else 1.0)
    paces: list[Any] = []
    trained = train(FOUR, tmp_path / "tried", requests=Requests(least_gain=lambda: 1.05, pace=paces.extend))
    told = _gain(trained)
    assert told.seconds == {"4": 4.5, "2": 5.0}
    assert told.chosen == 4, "halves took 5.0 s, all together 4.5 s: that is 1.11 times"
    assert trained.states(3)[-1] == "FINISHED"
    monkeypatch.undo()
    _clock(monkeypatch, float)
    paces.clear()
    trained = train(FOUR, tmp_path / "apart", requests=Requests(least_gain=lambda: 1.05, pace=paces.extend))
    assert _gain(trained).chosen == 1
    handed = [event.jobs for event in trained.events if isinstance(event, HandedBack)]
    assert handed == [(1, 2, 3)]
    assert trained.states(0) == ["RUNNING", "FINISHED"]
    assert trained.states(1) == ["RUNNING"]
    assert paces[0] == (1, 1, 1.0)
    left = train(FOUR[1:], tmp_path / "apart", resume=frozenset(spec.name for spec in FOUR[1:]))
    for spec in FOUR[1:]:
        solo = undisturbed(spec)
        assert distance(left.weights(spec.name), solo.weights(spec.name)) < LIMIT


@pytest.mark.slow
def test_no_trial_where_it_would_be_much_of_the_training(tmp_path: Path) -> None:
    trained = train([PLAIN, LONGER], tmp_path, requests=Requests(least_gain=lambda: 1.05))
    assert not [event for event in trained.events if isinstance(event, GainFound)]


@pytest.mark.slow
def test_a_trial_ends_when_someone_leaves_and_begins_anew_when_someone_joins(tmp_path: Path) -> None:
    door = Door(tmp_path, 4, FOUR[3])
    trained = train(FOUR[:3], tmp_path, requests=Requests(arriving=door, least_gain=lambda: 0.01))
    assert _gain(trained).members == 4
    assert {trained.states(job)[-1] for job in (0, 1, 2, 10)} == {"FINISHED"}


@pytest.mark.slow
def test_who_rests_takes_no_step_and_keeps_its_gradient(tmp_path: Path) -> None:
    members = [make_member(spec, tmp_path, job) for job, spec in enumerate((PLAIN, LONGER))]
    pack = Pack(make_task(), members)
    run_step(pack)
    before, gradient = pack.bank.state("longer"), pack.bank.gradients[pack.bank.place("longer")].clone()
    assert gradient.any(), "it is in the middle of an accumulation"
    pack.resting = frozenset({"longer"})
    result = run_step(pack)
    assert [member.name for member in result.stepped] == ["plain"]
    assert (members[0].count.step, members[1].count.micro) == (2, 1)
    assert all(torch.equal(before[key], value) for key, value in pack.bank.state("longer").items())
    assert torch.equal(pack.bank.gradients[pack.bank.place("longer")], gradient)
    pack.close()
