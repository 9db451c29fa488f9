"""How long steps take: what the pack's size is chosen by, and what later plans are made with."""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lora_foundry.config.length import rows_of
from lora_foundry.training.gain import LEAST_STEPS, Gain, trial
from lora_foundry.wire.events import GainFound, HandedBack, LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from lightning.pytorch import Trainer

    from lora_foundry.training.member import Member
    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.sink import Sink

_KEPT = 64
_SETTLED = 3  # first steps of a shape are slower: kernels are chosen, memory is fetched


class Pacing(Callback):
    """Times every step by who took it, and tries on the first ones how many members are worth training together.

    Args:
        sink: Takes ``worker`` events, state ``gain``, and ``handed_back`` with the jobs that are better trained apart.
        least_gain: Asked for the gain below which members are not worth training together; None tries nothing.

    Attributes:
        seconds: (members, rows) of a step to the seconds of the last of them.
    """

    def __init__(self, sink: Sink, least_gain: Callable[[], float | None]) -> None:
        self._sink = sink
        self._least_gain = least_gain
        self._trial: Generator[frozenset[str], float, Gain] | None = None
        self._tried: tuple[str, ...] = ()
        self._started = 0.0
        self._shape = (0, 0)
        self._found: Gain | None = None
        self.seconds: dict[tuple[int, int], deque[float]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Begin the trial."""
        self.begin(pl_module.pack)

    def begin(self, pack: Pack) -> None:
        """Try anew, with the members that are here now."""
        self._stop(pack)
        members, least = pack.active, self._least_gain()
        if least is None or len(members) < 2 or pack.rows is not None:
            return
        if min(_micro_steps_left(member) for member in members) < LEAST_STEPS:
            return
        self._tried = tuple(member.name for member in members)
        self._trial = trial(self._tried, _rows(members), least)
        self._rest(pack, next(self._trial))

    def on_train_batch_start(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Note who takes the step."""
        stepping = pl_module.pack.stepping
        self._shape = len(stepping), _rows(stepping)
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Keep how long it took; this is the first of the callbacks."""
        took, pack = time.perf_counter() - self._started, pl_module.pack
        if pack.rows is None:  # cut for want of memory: not what a plan reckons with
            self.seconds.setdefault(self._shape, deque(maxlen=_KEPT)).append(took)
        if self._trial is None:
            return
        if pack.rows is not None or tuple(member.name for member in pack.active) != self._tried:
            self._stop(pack)  # someone left
            return
        try:
            self._rest(pack, self._trial.send(took))
        except StopIteration as end:
            self._stop(pack)
            self._found = end.value

    def paces(self) -> list[tuple[int, int, float]]:
        """(members, rows, seconds of a step), median, of every shape that was seen often enough."""
        return [
            (*shape, statistics.median(list(took)[_SETTLED:]))
            for shape, took in sorted(self.seconds.items())
            if shape[0] and len(took) >= 2 * _SETTLED
        ]

    def follow(self, pack: Pack) -> None:
        """Act on what a trial has found; asked when everything else of a step is done."""
        gain, self._found = self._found, None
        if gain is None:
            return
        self._sink.emit(
            GainFound(
                members=gain.members,
                rows=gain.rows,
                chosen=gain.chosen,
                ratio=round(gain.ratio, 4),
                seconds={str(size): round(took, 6) for size, took in gain.seconds.items()},
            )
        )
        if gain.chosen == gain.members:
            return
        later = [member for member in pack.active if member.name in self._tried[gain.chosen :]]
        if not later or len(later) == len(pack.active):
            return
        try:
            pack.hand_back(later)
        except OSError as error:
            message = f"all {gain.members} go on together: no checkpoint was written ({error}); free some space"
            self._sink.emit(LogEvent(level="warning", message=message))
            return
        self._sink.emit(HandedBack(jobs=tuple(member.job for member in later)))

    def _rest(self, pack: Pack, stepping: frozenset[str]) -> None:
        pack.resting = frozenset(self._tried) - stepping

    def _stop(self, pack: Pack) -> None:
        self._trial, pack.resting = None, frozenset()


def _rows(members: Sequence[Member]) -> int:
    return rows_of(member.config for member in members)


def _micro_steps_left(member: Member) -> int:
    return (member.total_steps - member.count.step) * member.config.trainer.accumulate
