"""A member that begins where another is: nothing of the other is missing, and nobody notices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.training.checkpoint import load_newest
from lora_foundry.training.requests import Arrival, Requests
from lora_foundry.wire.events import Forked, StateEvent, TagsEvent
from lora_foundry.wire.forks import Donor
from tests.training.world import Spec, Trained, distance, make_member, train, undisturbed

pytestmark = pytest.mark.slow
DONOR = Spec("donor", ("lora.dropout=0.2", "trainer.accumulate=2"))
MATE = Spec("mate", ("seed=3", "lora.rank=3"))
LOSER = Spec("loser", ("seed=4",))


def spec(name: str, *overrides: str, of: Spec = DONOR) -> Spec:
    return Spec(name, (*of.overrides, *overrides))


class Forks:
    """Lets a fork of job 0 take the place of job 2 after so many steps of the pack."""

    def __init__(self, root: Path, fork: Spec, after: int = 5, donor: str = "donor", here: int = 0) -> None:
        self._arrival = Arrival(
            member=make_member(fork, root, job=9),
            resume=False,
            donor=Donor(job=here, name=donor, dir=root / donor),
        )
        self._steps = 0
        self._after = after

    def pruned(self) -> set[int]:
        self._steps += 1
        return {2} if self._steps >= self._after else set()

    def __call__(self) -> list[Arrival]:
        return [self._arrival] if self._steps == self._after else []


def forked(root: Path, fork: Spec, pack: tuple[Spec, ...] = (DONOR, MATE, LOSER), **options: Any) -> Trained:
    forks = Forks(root, fork, **options)
    return train([*pack], root, requests=Requests(arriving=forks, pruned=forks.pruned))


def whole(root: Path, name: str) -> dict[str, torch.Tensor]:
    """Weights and optimizer at the end."""
    part = load_newest(root / name / "checkpoints")[0]
    return {**part.weights, **part.optimizer.tensors}


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy", "adafactor"])
def test_a_fork_with_nothing_changed_ends_as_its_donor_to_the_bit_and_its_mates_do_not_notice(
    optimizer: str, tmp_path: Path
) -> None:
    donor = spec("donor", f"optimizer={optimizer}")
    trained = forked(tmp_path, spec("fork", f"optimizer={optimizer}"), (donor, MATE, LOSER))
    assert [trained.states(job)[-1] for job in (0, 1, 2, 9)] == ["FINISHED", "FINISHED", "PRUNED", "FINISHED"]
    one, other = whole(tmp_path, "donor"), whole(tmp_path, "fork")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    for each in (donor, MATE):
        assert distance(trained.weights(each.name), undisturbed(each).weights(each.name)) < 1e-9


def test_it_takes_over_in_the_middle_of_an_accumulation_and_is_told_where(tmp_path: Path) -> None:
    trained = forked(tmp_path, spec("fork"), after=5)  # two micro-batches a step: the fifth is the first of step 3
    (told,) = [event for event in trained.events if isinstance(event, Forked)]
    assert (told.job, told.lineage.of, told.lineage.name) == (9, 0, "donor")
    assert (told.lineage.step, told.lineage.samples) == (2, 8)
    tags = [event.values for event in trained.events if isinstance(event, TagsEvent) and event.job == 9]
    assert {"forked_from": "donor", "forked_from_job": 0, "forked_at_samples": 8} in tags
    assert distance(whole(tmp_path, "fork"), whole(tmp_path, "donor")) == 0


def test_with_another_rate_it_is_another_adapter_and_its_donor_the_same(tmp_path: Path) -> None:
    trained = forked(tmp_path, spec("fork", "optimizer.lr=1e-3", "lora.dropout=0.1"))
    assert distance(trained.weights("donor"), undisturbed(DONOR).weights("donor")) < 1e-9
    assert distance(whole(tmp_path, "fork"), whole(tmp_path, "donor")) > 1e-3
    count = load_newest(tmp_path / "fork" / "checkpoints")[0].count
    assert (count.step, count.ordinal) == (8, 32)


def test_where_its_donor_is_not_in_the_pack_it_comes_from_the_newest_checkpoint(tmp_path: Path) -> None:
    steps = iter(range(1000))
    first = train([DONOR], tmp_path, stop=lambda: next(steps) > 9)
    at = first.parts["donor"].count.step
    assert 0 < at < 8
    trained = forked(tmp_path, spec("fork"), (MATE, MATE_TOO, LOSER), here=77)
    (told,) = [event for event in trained.events if isinstance(event, Forked)]
    assert told.lineage.step == at
    donor = undisturbed(DONOR)
    assert distance(load_newest(tmp_path / "fork" / "checkpoints")[0].weights, donor.weights("donor")) < 1e-9


MATE_TOO = Spec("mate-too", ("seed=5",))


@pytest.mark.parametrize(
    ("fork", "why"),
    [
        (spec("fork", "lora.rank=2"), "other ranks or layers"),
        (spec("fork", "optimizer=prodigy"), "another optimizer"),
    ],
)
def test_what_cannot_take_over_fails_alone(fork: Spec, why: str, tmp_path: Path) -> None:
    trained = forked(tmp_path, fork)
    assert [trained.states(job)[-1] for job in (0, 1, 9)] == ["FINISHED", "FINISHED", "FAILED"]
    (error,) = [event.error for event in trained.events if isinstance(event, StateEvent) and event.error]
    assert why in error


def test_without_a_checkpoint_of_its_donor_it_fails_alone(tmp_path: Path) -> None:
    trained = forked(tmp_path, spec("fork"), here=77, donor="nowhere")
    assert trained.states(9) == ["FAILED"]
    assert trained.states(0)[-1] == "FINISHED"


def test_what_its_donor_kept_as_its_best_stays_the_donors(tmp_path: Path) -> None:
    judged = ("validation.every=1", "trainer.keep_best=1")
    forked(tmp_path, spec("fork", *judged), (spec("donor", *judged), MATE, LOSER))
    count = load_newest(tmp_path / "fork" / "checkpoints")[0].count
    assert math.isfinite(count.best_loss)
    assert count.best_step > 2, "of those after the fork"
    assert all((tmp_path / "fork" / "adapter" / name).is_file() for one in count.kept for name in one.files)
