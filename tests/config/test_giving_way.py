"""Where the ladder ends: the plan reckons with what the worker comes to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config.compose import compose_job
from lora_foundry.config.giving_way import changed, last_rung, next_change
from lora_foundry.memory.ladder import Ladder
from lora_foundry.training.pack import Pack, never
from lora_foundry.training.shortage import OutOfMemoryError
from lora_foundry.training.sink import ListSink
from tests.training.world import Spec, make_member, make_task

CASES = {
    "nothing": (),
    "resolution": ("memory.may_change=[resolution]",),
    "rank": ("memory.may_change=[rank]", "lora.alpha=2x", "lora.rank=6"),
    "both": ("memory.may_change=[resolution,rank]",),
    "classic": ("memory=classic",),
    "classic from a low rank": ("memory=classic", "lora.rank=2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("resolution", [96, 512])
def test_the_plans_last_rung_is_where_the_workers_ladder_ends(name: str, resolution: int, tmp_path: Path) -> None:
    """The worker's own ladder, taken down rung by rung, as jobs that a shortage changes start anew."""
    words = (f"data.resolution={resolution}", "data.batch_size=5", *CASES[name])
    spec = Spec("a", words)
    asked = now = spec.config()
    ended = False
    while not ended:
        member = make_member(spec, tmp_path)
        member.config = now
        ladder = Ladder(ListSink(tmp_path), {0: asked}, lambda: None)
        pack = Pack(make_task(), [member], never, ladder)
        try:
            while not pack.changed:
                ladder.give_way(pack, "short")
        except OutOfMemoryError:
            ended = True
            rows, checkpointing = min(pack.rows or now.data.batch_size, now.data.batch_size), pack.checkpointing
        now = changed(now, pack.changed.get(0, {}))
    end = last_rung(asked)
    assert (end.data.resolution, end.lora.rank) == (now.data.resolution, now.lora.rank)
    assert end.lora.alpha == pytest.approx(now.lora.alpha)
    assert (end.data.batch_size, end.trainer.gradient_checkpointing) == (rows, checkpointing) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "resolution", "rank"),
    [
        (("memory.may_change=[resolution]",), 16, 8),  # 512 px by three quarters, in steps of 16
        (("memory=classic",), 288, 4),  # the last of 512, 384, 288 that is at least half
        (("memory=classic", "lora.rank=2"), 288, 2),
    ],
)
def test_the_end_by_hand(words: tuple[str, ...], resolution: int, rank: int) -> None:
    end = last_rung(compose_job("data.resolution=512", *words))
    assert (end.data.resolution, end.lora.rank) == (resolution, rank)


@pytest.mark.slow
def test_alpha_keeps_its_ratio() -> None:
    config = compose_job("memory.may_change=[rank]", "lora.rank=16", "lora.alpha=0.5x")
    end = last_rung(config)
    assert (end.lora.rank, end.lora.alpha) == (1, 0.5)


@pytest.mark.slow
def test_what_is_not_named_stays() -> None:
    config = compose_job("data.resolution=512")
    assert next_change(config, config) is None
    end = last_rung(config)
    assert replace(end, data=config.data, trainer=config.trainer) == config
