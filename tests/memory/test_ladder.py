"""Which rung comes next."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_foundry.config.compose import compose_job
from lora_foundry.config.giving_way import next_change
from lora_foundry.memory.ladder import Ladder
from lora_foundry.training.pack import Pack, never
from lora_foundry.training.shortage import OutOfMemoryError
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import LogEvent, MemoryEvent, TagsEvent
from tests.training.world import Spec, make_member, make_task


def nothing() -> None:
    """Memory is fine."""


def _pack(tmp_path: Path, *specs: Spec) -> tuple[Pack, Ladder, ListSink]:
    members = [make_member(spec, tmp_path, job) for job, spec in enumerate(specs)]
    sink = ListSink(tmp_path)
    ladder = Ladder(sink, {member.job: member.config for member in members}, nothing)
    return Pack(make_task(), members, never, ladder), ladder, sink


def _rungs(sink: ListSink, job: int = 0) -> list[str]:
    return [event.rung for event in sink.events if isinstance(event, MemoryEvent) and event.job == job]


@pytest.mark.slow
def test_exact_goes_down_without_changing_what_was_asked_for(tmp_path: Path) -> None:
    pack, ladder, sink = _pack(tmp_path, *(Spec(name, ("data.batch_size=4", "trainer.accumulate=2")) for name in "abc"))
    seen = []
    for _ in range(5):
        ladder.give_way(pack, "short")
        seen.append((pack.rows, pack.checkpointing))
    assert seen == [(6, False), (4, False), (2, False), (1, False), (1, True)]
    assert _rungs(sink) == ["split", "split", "micro_batch", "micro_batch", "checkpointing"]
    tags = [event.values for event in sink.events if isinstance(event, TagsEvent) and event.job == 1]
    assert tags[-1] == {
        "memory.rows_per_forward": 1,
        "memory.micro_batch": 1,
        "memory.accumulate": 8,
        "memory.gradient_checkpointing": True,
        "memory.set_aside": False,
    }
    assert pack.members[1].measures["micro_batch"] == 1
    assert "out of memory (short)" in next(e.message for e in sink.events if isinstance(e, LogEvent))


@pytest.mark.slow
def test_then_half_of_the_adapters_wait_and_the_rest_begins_at_the_top(tmp_path: Path) -> None:
    pack, ladder, sink = _pack(tmp_path, *(Spec(name, ("data.batch_size=1",)) for name in "abc"))
    pack.rows, pack.checkpointing = 1, True
    ladder.give_way(pack, "short")
    assert [member.name for member in pack.active] == ["a", "b"]
    assert [member.name for member in pack.set_aside] == ["c"]
    assert (pack.rows, pack.checkpointing) == (None, False)
    assert _rungs(sink, 2) == ["set_aside"]
    assert (tmp_path / "c" / "checkpoints").is_dir()


@pytest.mark.slow
def test_at_the_end_the_message_says_what_to_do(tmp_path: Path) -> None:
    pack, ladder, _ = _pack(tmp_path, Spec("a", ("data.batch_size=1",)))
    pack.checkpointing = True
    with pytest.raises(OutOfMemoryError, match=r"lower data.resolution .* memory.may_change=\[resolution,rank\]"):
        ladder.give_way(pack, "short")


@pytest.mark.slow
def test_what_may_change_changes_last(tmp_path: Path) -> None:
    pack, ladder, sink = _pack(tmp_path, Spec("a", ("data.batch_size=1", "memory.may_change=[rank]", "lora.alpha=2x")))
    ladder.give_way(pack, "short")
    assert not pack.changed
    ladder.give_way(pack, "short")
    assert pack.changed == {0: {"lora.rank": 2, "lora.alpha": 4.0}}
    assert _rungs(sink) == ["checkpointing", "changed"]
    assert not pack.members


@pytest.mark.slow
def test_resolution_changes_before_rank_in_steps_of_the_stride() -> None:
    config = compose_job("memory.may_change=[rank,resolution]", "data.resolution=64", "lora.rank=2")
    assert next_change(config, config) == {"data.resolution": 48}
    small = compose_job("memory.may_change=[rank,resolution]", "data.resolution=16", "lora.rank=2")
    assert next_change(small, config) == {"lora.rank": 1, "lora.alpha": 1.0}
    least = compose_job("memory.may_change=[rank,resolution]", "data.resolution=16", "lora.rank=1")
    assert next_change(least, config) is None


@pytest.mark.slow
def test_classic_goes_batch_rank_resolution_checkpointing(tmp_path: Path) -> None:
    def job(batch: int, rank: int, resolution: int) -> tuple[str, ...]:
        return (
            "memory=classic", f"data.batch_size={batch}", f"lora.rank={rank}", "lora.alpha=0.5x",
            f"data.resolution={resolution}",
        )  # fmt: skip

    asked = compose_job(*job(4, 16, 64))
    assert next_change(asked, asked) == {"data.batch_size": 2}
    assert next_change(compose_job(*job(1, 16, 64)), asked) == {"lora.rank": 8, "lora.alpha": 4.0}
    assert next_change(compose_job(*job(1, 4, 64)), asked) == {"data.resolution": 48}
    assert next_change(compose_job(*job(1, 4, 48)), asked) == {"data.resolution": 32}
    assert next_change(compose_job(*job(1, 4, 32)), asked) is None
    pack, ladder, sink = _pack(tmp_path, Spec("a", job(1, 4, 16)))
    ladder.give_way(pack, "short")
    assert pack.checkpointing
    assert _rungs(sink) == ["checkpointing"]
    with pytest.raises(OutOfMemoryError):
        ladder.give_way(pack, "short")
