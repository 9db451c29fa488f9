"""A member that does not improve ends early, where it would have whatever happened to it, and mates do not notice."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from lora_foundry.wire.events import StateEvent, TagsEvent
from lora_foundry.wire.summary import Summary
from tests.training.test_keeping import UNSTEADY, losses_of
from tests.training.world import Spec, Trained, distance, train

# Its loss is lowest after 3 steps, and 4 samples are 2 steps.
IMPATIENT = Spec("x", (*UNSTEADY, "trainer.max_steps=9", "trainer.patience=4"))
MATE = Spec("mate", ("seed=3", "trainer.max_steps=7"))


def _end(trained: Trained) -> Summary:
    end = next(e for e in trained.events if isinstance(e, StateEvent) and e.job == 0 and e.state == "FINISHED").summary
    assert end is not None
    return end


@pytest.mark.slow
def test_one_that_does_not_improve_is_finished_early_and_its_mates_do_not_notice(tmp_path: Path) -> None:
    together = train([IMPATIENT, MATE], tmp_path / "together")
    losses, end = losses_of(together), _end(together)
    lowest = min(losses, key=lambda step: losses[step])
    assert end.steps == max(losses) == lowest + 2 < 9
    assert end.best_step == lowest
    assert end.stopped_early == f"stopped early at step {end.steps} of 9: no improvement for 4 samples"
    assert [e.values for e in together.events if isinstance(e, TagsEvent) and "stopped_early" in e.values] == [
        {"stopped_early": end.stopped_early}
    ]
    assert together.parts["mate"].count.step == 7
    alone = train([MATE], tmp_path / "alone")
    assert distance(together.weights("mate"), alone.weights("mate")) < 1e-9


@pytest.mark.slow
def test_wherever_a_kill_comes_it_ends_at_the_same_step(tmp_path: Path) -> None:
    asks = count()
    whole = train([IMPATIENT], tmp_path / "whole", stop=lambda: next(asks) < 0)
    for after in range(8, next(asks), 9):
        left, root = iter(range(after)), tmp_path / str(after)
        train([IMPATIENT], root, stop=lambda left=left: next(left, None) is None)
        again = train([IMPATIENT], root, resume=frozenset(["x"]))
        assert _end(again).stopped_early == _end(whole).stopped_early, after
        assert distance(again.weights("x"), whole.weights("x")) == 0.0


@pytest.mark.slow
def test_one_that_improves_in_time_trains_its_whole_length(tmp_path: Path) -> None:
    patient = Spec("x", (*UNSTEADY, "trainer.max_steps=5", "trainer.patience=6"))
    end = _end(train([patient], tmp_path))
    assert (end.steps, end.stopped_early) == (5, None)
