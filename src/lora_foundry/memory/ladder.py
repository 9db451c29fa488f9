"""What gives way when memory runs out, and in which order.

``exact`` keeps what was asked for. The loss of an optimizer step is a sum over its samples, and all randomness is
named by the sample, so it makes no difference in how many forwards the samples are taken:

1. fewer adapters a forward, down to one
2. smaller micro-batches with more accumulation, down to one row
3. gradient checkpointing
4. half of the adapters are set aside and trained afterwards
5. what ``memory.may_change`` names: resolution, then rank with alpha

``classic`` is the ladder that people climb down by hand: half the batch, half the rank with alpha, a smaller
resolution, gradient checkpointing. It changes what is trained, so a job that it changes starts anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lora_foundry.config.called import command_line
from lora_foundry.config.giving_way import next_change
from lora_foundry.config.length import rows_of
from lora_foundry.training.shortage import OutOfMemoryError
from lora_foundry.wire.events import LogEvent, MemoryEvent, TagsEvent

Rung = Callable[["Pack"], "tuple[str, str] | None"]
"""Makes a pack need less and says how (a name, and words for the user), or does nothing and returns None."""

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lora_foundry.config import JobConfig
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.sink import Sink


class Ladder:
    """Implements :class:`lora_foundry.training.shortage.Relief`: one rung down each time it is called.

    Args:
        sink: Is told of every rung, once a member.
        asked: Number of a job to its configuration as it was asked for, before any change.
        check: Asked in every layer; raises where the host is about to run short.
    """

    def __init__(self, sink: Sink, asked: Mapping[int, JobConfig], check: Callable[[], None]) -> None:
        self._sink = sink
        self._asked = asked
        self.check = check

    def give_way(self, pack: Pack, reason: str) -> None:
        """Take the next rung; what it was goes to the sink and onto the members.

        Raises:
            OutOfMemoryError: At the end of the ladder.
        """
        config = pack.active[0].config
        classic = config.memory.mode == "classic"
        rungs: tuple[Rung, ...] = (self._change, _checkpoint)
        if not classic:
            rungs = (_fewer_members, _fewer_rows, _checkpoint, _set_aside, self._change)
        for rung in rungs:
            members = pack.active
            done = rung(pack)
            if done is not None:
                self._tell(pack, members, done, reason)
                return
        raise OutOfMemoryError(_end_of_the_ladder(config, reason))

    def _change(self, pack: Pack) -> tuple[str, str] | None:
        said = []
        for member in pack.active:
            changes = next_change(member.config, self._asked[member.job])
            if changes is not None:
                said.append(f"{member.name} starts anew with {', '.join(f'{k}={v}' for k, v in changes.items())}")
                pack.give_up(member, changes)
        return ("changed", "; ".join(said)) if said else None

    def _tell(self, pack: Pack, members: Sequence[Member], done: tuple[str, str], reason: str) -> None:
        rung, words = done
        self._sink.emit(LogEvent(level="warning", message=f"out of memory ({reason}): {words}"))
        for member in members:
            values = _measures(pack, member)
            member.measures = values
            step = member.count.step
            self._sink.emit(MemoryEvent(job=member.job, rung=rung, step=step, reason=reason, values=values))
            self._sink.emit(
                TagsEvent(job=member.job, values={f"memory.{name}": value for name, value in values.items()})
            )


def _fewer_members(pack: Pack) -> tuple[str, str] | None:
    rows = _rows(pack)
    largest = max(member.config.data.batch_size for member in pack.active)
    if rows <= largest:
        return None
    pack.rows = max(largest, math.ceil(rows / 2))
    return "split", f"the pack now takes {pack.rows} rows a forward instead of {rows}; results stay the same"


def _fewer_rows(pack: Pack) -> tuple[str, str] | None:
    rows = _rows(pack)
    if rows == 1:
        return None
    pack.rows = math.ceil(rows / 2)
    return (
        "micro_batch",
        f"micro-batches are now of {pack.rows} instead of {rows}, with more accumulation; results stay",
    )


def _checkpoint(pack: Pack) -> tuple[str, str] | None:
    if pack.checkpointing:
        return None
    pack.checkpointing = True
    return "checkpointing", "activations are now computed again in the backward pass; results stay, steps take longer"


def _set_aside(pack: Pack) -> tuple[str, str] | None:
    members = pack.active
    if len(members) == 1:
        return None
    later = members[(len(members) + 1) // 2 :]
    pack.set_members_aside(later)
    pack.rows, pack.checkpointing = None, pack.active[0].config.trainer.gradient_checkpointing
    return "set_aside", f"{', '.join(member.name for member in later)} will train afterwards, from where they are"


def _rows(pack: Pack) -> int:
    total = rows_of(member.config for member in pack.active)
    return min(pack.rows or total, total)


def _measures(pack: Pack, member: Member) -> dict[str, object]:
    """How ``member`` trains now, as its run is tagged."""
    if member.job in pack.changed:
        return dict(pack.changed[member.job])
    batch = member.config.data.batch_size
    micro = min(batch, pack.rows or batch)
    return {
        "rows_per_forward": _rows(pack) if pack.active else batch,
        "micro_batch": micro,
        "accumulate": member.config.trainer.accumulate * math.ceil(batch / micro),
        "gradient_checkpointing": pack.checkpointing,
        "set_aside": any(member is later for later in pack.set_aside),
    }


def _end_of_the_ladder(config: JobConfig, reason: str) -> str:
    free = [key for key in ("resolution", "rank") if key not in config.memory.may_change]
    allow = f", or allow it: memory.may_change=[{','.join(free)}]" if free and config.memory.mode == "exact" else ""
    return (
        f"out of memory with one row a forward and gradient checkpointing ({reason}); lower data.resolution (now "
        f"{config.data.resolution}) or lora.rank (now {config.lora.rank}){allow}; "
        f"{command_line('predict')} shows what fits"
    )
