"""Where packs train, as the supervisor sees it."""

from __future__ import annotations

from dataclasses import dataclass

from lora_foundry.launch.farm.waiting import Task
from lora_foundry.launch.machines.engine import Slot, Worker
from lora_foundry.launch.machines.starting import Start
from lora_foundry.launch.screen.live import Screen


@dataclass(kw_only=True, slots=True)
class Station:
    """A slot, its worker while it has one, and what that does.

    Attributes:
        slot: The slot.
        worker: Warm between packs.
        start: A worker that the engine was asked for and has not given yet.
        idle_since: Since when its worker has had nothing to do (monotonic seconds).
        fresh: Whether the worker has not had a pack yet.
        task: What it works on.
        work: The last count of work that it told.
        moved_at: When something of it moved last (monotonic seconds).
        broken: Why the pack under way cannot go on as a whole.
        trained: Jobs of the pack that the worker has let in.
        refused: Why its workers do not train on the slot's device: no further one is started.
    """

    slot: Slot
    worker: Worker | None = None
    start: Start | None = None
    idle_since: float | None = None
    fresh: bool = False
    task: Task | None = None
    work: object = None
    moved_at: float = 0.0
    broken: str | None = None
    trained: frozenset[int] = frozenset()
    refused: str | None = None

    def say_last_words(self, screen: Screen, words: str) -> None:
        """The end of its dead worker's log."""
        if self.worker is not None:
            screen.last_words(words, self.worker.log)
