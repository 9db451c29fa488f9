"""``val/loss_rel_check``: the best adapter, on images and noise that it was not chosen by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora_foundry.judge.verdict import verdict_of
from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.lora.rows import RowPlan
from lora_foundry.training.averaging import in_place_of, weights_of
from lora_foundry.training.pack import Pack
from lora_foundry.training.validation import Validator
from lora_foundry.wire.events import MetricsEvent, StateEvent
from tests.judge.outcomes import outcome
from tests.training.world import Spec, make_member, make_task, train

OPTIONS = ("validation.max_images=1", "validation.check_images=5", "validation.timesteps=2")


@pytest.mark.slow
def test_it_is_about_the_images_that_are_left_with_other_noise(tmp_path: Path) -> None:
    member = make_member(Spec("a", OPTIONS), tmp_path)
    task = make_task()
    judged, check = task.fixed_rows(member, torch.float64), task.check_rows(member, torch.float64)
    assert check is not None
    assert len(set(check.items)) == 2
    assert not {*judged.items} & {*check.items}
    every = make_member(Spec("a", (*OPTIONS, "validation.max_images=3")), tmp_path)
    same = dict(zip(task.fixed_rows(every, torch.float64).items[2::2], range(2, 6, 2), strict=True))
    for name, row in same.items():
        noise = task.fixed_rows(every, torch.float64).inputs["noise"][row]
        assert not torch.equal(check.inputs["noise"][check.items.index(name)], noise)
    assert task.check_rows(every, torch.float64) is None, "no image is left"


@pytest.mark.slow
def test_a_finished_job_tells_the_check_of_the_file_to_keep(tmp_path: Path) -> None:
    words = (*OPTIONS, "validation.every=2", "optimizer.lr=300", "scheduler.name=constant")
    events = train([Spec("a", words)], tmp_path).events
    (ended,) = [event for event in events if isinstance(event, StateEvent) and event.state == "FINISHED"]
    summary = ended.summary
    assert summary is not None
    assert summary.best_step != summary.steps, "a rate at which the last is not the best"
    told = [event.values for event in events if isinstance(event, MetricsEvent)]
    assert [values["val/loss_rel_check"] for values in told if "val/loss_rel_check" in values] == [
        summary.val_loss_rel_check
    ]
    pack = Pack(make_task(), [make_member(Spec("a", words), tmp_path)])
    adapter = read_adapter(tmp_path / str(summary.best_file))
    with in_place_of(pack, pack.members[0], weights_of(pack, pack.members[0], [adapter])), torch.no_grad():
        rows = pack.task.check_rows(pack.members[0], torch.float64)
        assert rows is not None
        base = pack.task.losses(rows.inputs).mean()
        with pack.bank.rows(RowPlan(places=(0,), counts=(len(rows),))):
            own = pack.task.losses(rows.inputs).mean()
        assert Validator(pack).check(pack.members[0]) == pytest.approx(float(own / base), rel=1e-9)
    assert summary.val_loss_rel_check == pytest.approx(float(own / base), rel=1e-9)


def test_it_stands_beside_the_verdict() -> None:
    best, other = outcome(0, [0.2, 0.3, 0.25]), outcome(1, [0.4, 0.6, 0.5])
    assert best.summary is not None
    checked = replace(best, summary=replace(best.summary, val_loss_rel_check=0.3456))
    told, plain = verdict_of([checked, other]), verdict_of([best, other])
    assert told is not None
    assert plain is not None
    assert told.sentence == f"{plain.sentence}; on images that it was not chosen by: 0.346 of the base's loss"
