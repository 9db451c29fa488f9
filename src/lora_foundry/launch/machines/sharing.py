"""The devices of one machine, shared by its sweeps: each trains on a device when it is its turn there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.turns import VARIABLE, Turn, is_wanted, make_locks_dir

_EVERY_S = 0.25  # between two looks at a device that is another's


class Sharing:
    """What a sweep has of its machine's devices.

    A device is taken when there is something to train on it and given back when nothing is left for it, so a sweep
    that waits begins on the first device that is free and does not wait for all.

    Args:
        sweep_dir: The sweep's folder.
        look: Tells the slots anew, with the memory that is free once a device was got.
        tell: Is called when what is waited for changed, with a line for each thing, and with none when it is over.
        share: Whether to take no turns: every device is there at once.
    """

    def __init__(
        self,
        sweep_dir: Path,
        look: Callable[[], Sequence[Slot]],
        tell: Callable[[Sequence[str]], None],
        *,
        share: bool = False,
    ) -> None:
        self._sweep_dir = sweep_dir
        self._look = look
        self._tell = tell
        self._share = share
        self._turns: dict[str, Turn] = {}
        self._fresh: dict[str, Slot] = {}
        self._users: dict[str, set[str]] = {}
        self._asked_at: dict[str, float] = {}
        self._looked_at: dict[str, float] = {}
        self._wanted: dict[str, bool] = {}
        self._waiting: dict[str, tuple[str, str]] = {}  # lock to device and why
        self._told: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether another sweep has a device that this one could train on."""
        return bool(self._waiting)

    def take(self, slot: Slot) -> Slot | None:
        """The slot with the memory that is free now, or null while its device is another sweep's; never waits."""
        lock = slot.lock
        if lock is None or self._share:
            return slot
        turn = self._turns.setdefault(lock, Turn(lock, self._sweep_dir))
        if turn.descriptor is None and not self._ask(lock, turn, slot):
            return None
        self._users.setdefault(lock, set()).add(slot.name)
        return self._fresh.get(slot.name, slot)

    def wanted(self, slot: Slot) -> bool:
        """Whether another sweep waits for the slot's device, which this one has."""
        lock = slot.lock or ""
        now = time.monotonic()
        if lock in self._turns and now - self._looked_at.get(lock, -_EVERY_S) >= _EVERY_S:
            self._looked_at[lock] = now
            self._wanted[lock] = is_wanted(lock)
        return lock in self._turns and self._wanted.get(lock, False)

    def known(self, slots: Sequence[Slot]) -> list[Slot]:
        """``slots`` with the memory that was free when each was got last."""
        return [self._fresh.get(slot.name, slot) for slot in slots]

    def descriptors(self, slot: Slot) -> tuple[int, ...]:
        """Open files that a worker on ``slot`` keeps open, so that its device stays taken while it lives."""
        turn = self._turns.get(slot.lock or "")
        return () if turn is None or turn.descriptor is None else (turn.descriptor,)

    def give_back(self, slot: Slot) -> None:
        """Nothing is left for ``slot``, and its worker has gone: its device is the next sweep's."""
        lock = slot.lock or ""
        users = self._users.get(lock, set())
        users.discard(slot.name)
        if not users and (turn := self._turns.pop(lock, None)) is not None:
            self._waiting.pop(lock, None)
            turn.leave()

    def say(self) -> None:
        """Tell what is waited for, where that changed."""
        devices: dict[str, list[str]] = {}
        for device, why in self._waiting.values():
            devices.setdefault(why, []).append(device)
        lines = tuple(f"{', '.join(names)} {why}" for why, names in devices.items())
        if lines != self._told:
            self._told = lines
            self._tell(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give everything back."""
        for turn in self._turns.values():
            turn.leave()
        self._turns.clear()

    def _ask(self, lock: str, turn: Turn, slot: Slot) -> bool:
        now = time.monotonic()
        if now - self._asked_at.get(lock, -_EVERY_S) < _EVERY_S:
            return False
        self._asked_at[lock] = now
        try:
            got = turn.ask()
        except OSError as error:
            self._waiting[lock] = slot.device, f"cannot be taken: {_no_locks(error)}"
            return False
        if got:
            self._waiting.pop(lock, None)
            self._fresh |= {one.name: one for one in self._slots_now() if one.lock == lock}
        elif (why := _why(turn)) is not None:
            self._waiting[lock] = slot.device, why
        return got

    def _slots_now(self) -> Sequence[Slot]:
        try:
            return self._look()
        except SweepError:
            return ()  # the driver does not answer: the worker will say why


def _why(turn: Turn) -> str | None:
    """Why the device is not there; null where another sweep looked at the same moment, or it is free just now."""
    if turn.holder is not None:
        why = f"is {turn.holder.about()}"
    elif turn.place > 1:
        why = "is promised to a sweep that waited longer"
    else:
        return None
    place = f"place {turn.place} in the queue"
    return f"{why}; waiting, {place} (Ctrl-C leaves it; hydra.launcher.share=true would train beside the other)"


def check_locks(*, share: bool) -> None:
    """Make sure that turns can be taken.

    Raises:
        SweepError: When the folder of locks cannot be written.
    """
    if share:
        return
    try:
        make_locks_dir()
    except OSError as error:
        raise SweepError([_no_locks(error)]) from error


def _no_locks(error: OSError) -> str:
    return (
        f"the folder of locks by which sweeps take turns cannot be used ({error}); give another by the "
        f"environment variable {VARIABLE}, or train without turns: hydra.launcher.share=true"
    )
