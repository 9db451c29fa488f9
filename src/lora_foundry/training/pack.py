"""The members that train together, and what they share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lora_foundry.lora.bank import AdapterBank, clear
from lora_foundry.lora.inject import AdapterSpec, inject
from lora_foundry.training.checkpoint import save_member
from lora_foundry.training.pack_optimizer import PackOptimizer
from lora_foundry.training.peaks import Peaks
from lora_foundry.training.precision import DTYPES
from lora_foundry.training.shortage import NoRelief, in_fewer_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lora_foundry.config.giving_way import Changes
    from lora_foundry.models.protocol import Base
    from lora_foundry.tasks.protocol import Task
    from lora_foundry.training.member import Member
    from lora_foundry.training.shortage import Relief

T = TypeVar("T")


class StoppedError(Exception):
    """Someone asked the training to end; not a fault."""


def never() -> bool:
    """Nobody asks this training to stop."""
    return False


class Pack:
    """N >= 1 members on one frozen base, in one process, on one device.

    Args:
        task: What is learned; adapters are injected into its base's module.
        members: Their trainer.precision, resolution and checkpointing must agree (the plan sees to it).
        stop: Whether to end; asked between two forwards of the base.
        relief: What the pack turns to when memory runs out.
        peaks: What it takes is noted here; None keeps a record of the pack's own.
        injected: Whether the adapters are in the base already.

    Attributes:
        bank: The adapters of the members that are still here.
        optimizer: Their optimizers.
        rows: Most rows of one training forward; None takes all of a step.
        resting: Names of members that sit out the next steps.
        set_aside: Members that left for want of memory, to be trained on their own afterwards.
        changed: What has to be trained anew with other settings: job number to changes by key (``lora.rank``).
    """

    def __init__(
        self,
        task: Task,
        members: Sequence[Member],
        stop: Callable[[], bool] = never,
        relief: Relief | None = None,
        peaks: Peaks | None = None,
        *,
        injected: bool = False,
    ) -> None:
        if not members:
            msg = "a pack needs at least one member"
            raise ValueError(msg)
        self.task = task
        self.base: Base = task.base
        self.stop = stop
        self.relief: Relief = relief or NoRelief()
        self.rows: int | None = None
        self.members = list(members)
        self.resting: frozenset[str] = frozenset()
        self.set_aside: list[Member] = []
        self.changed: dict[int, Changes] = {}
        self._checkpointing = members[0].config.trainer.gradient_checkpointing
        self.dtypes = DTYPES[members[0].config.trainer.precision]
        self.device = self.base.device
        self.peaks = peaks or Peaks(self.device)
        names = [member.name for member in members]
        try:
            for member in () if injected else members:
                inject(self.base.components, member.name, adapter_spec(member, self.base))
            self.bank = AdapterBank(self.base.components, names, dtype=self.dtypes.adapter, device=self.device)
            self.bank.alarm = self.relief.check
            self.optimizer = self._optimizer()
        except Exception:
            clear(self.base.components, names)
            raise

    @property
    def active(self) -> list[Member]:
        """The members that have steps to take."""
        return [member for member in self.members if member.active]

    @property
    def stepping(self) -> list[Member]:
        """The members that take part in the next step."""
        return [member for member in self.active if member.name not in self.resting]

    @property
    def checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return self._checkpointing

    @checkpointing.setter
    def checkpointing(self, enabled: bool) -> None:
        self.base.set_gradient_checkpointing(enabled=enabled)
        self._checkpointing = enabled

    @contextmanager
    def wary(self, *, unless: bool) -> Iterator[None]:
        """Let a shortage of memory end forwards without gradients too, ``unless`` they can get no smaller."""
        self.bank.wary = not unless
        try:
            yield
        finally:
            self.bank.wary = False

    def end_if_stopped(self) -> None:
        """Between two forwards of validation and drawing, which may take long.

        Raises:
            StoppedError: When a stop was asked for.
        """
        if self.stop():
            raise StoppedError

    def in_fewer_rows(self, call: Callable[[int], T], rows: int) -> tuple[T, int]:
        """See :func:`lora_foundry.training.shortage.in_fewer_rows`."""
        return in_fewer_rows(call, rows, self.device)

    def leave(self, leaving: Sequence[Member]) -> None:
        """Take ``leaving`` out of base, bank and optimizer; the others go on with their own state untouched."""
        if not leaving:
            return
        names = {member.name for member in leaving}
        self.members = [member for member in self.members if member.name not in names]
        states = {member.name: self.optimizer.state(member.name) for member in self.members}
        bank = self.bank.regrouped([member.name for member in self.members])
        if bank is None:
            return
        self.bank = bank
        self.optimizer = self._optimizer()
        for name, state in states.items():
            self.optimizer.load(name, state)

    def join(self, joining: Sequence[Member]) -> None:
        """Take ``joining`` in between two steps; those that are here go on with their own state untouched.

        Raises:
            RuntimeError: When there is too little memory for them; the pack is as it was then.
        """
        here, bank, optimizer = self.members, self.bank, self.optimizer
        names = [member.name for member in joining]
        states = {member.name: optimizer.state(member.name) for member in here}

        def enter() -> None:
            for member in joining:
                inject(self.base.components, member.name, adapter_spec(member, self.base))

        try:
            made = bank.regrouped([*(member.name for member in here), *names], enter)
            if made is None:
                return
            self.members, self.bank = [*here, *joining], made
            self.optimizer = self._optimizer()
            for name, state in states.items():
                self.optimizer.load(name, state)
        except Exception:
            self.members, self.bank, self.optimizer = here, bank, optimizer
            bank.take_back(names)
            raise

    def set_members_aside(self, members: Sequence[Member]) -> None:
        """Take ``members`` out for later, as they are at the end of their last optimizer step.

        Raises:
            OSError: When their state cannot be written.
        """
        self.hand_back(members)
        self.set_aside.extend(members)

    def hand_back(self, members: Sequence[Member]) -> None:
        """Take ``members`` out for another pack, as they are at the end of their last optimizer step.

        Raises:
            OSError: When their state cannot be written.
        """
        for member in members:
            save_member(self, member, member.folder / "checkpoints")
        self.leave(members)

    def give_up(self, member: Member, changes: Changes) -> None:
        """Take ``member`` out: it starts anew with ``changes``."""
        self.changed[member.job] = changes
        self.leave([member])

    def close(self) -> None:
        """Take every adapter out, so that the base can serve the next pack."""
        self.leave(list(self.members))

    def _optimizer(self) -> PackOptimizer:
        return PackOptimizer(self.bank, {member.name: member.config.optimizer for member in self.members})


def adapter_spec(member: Member, base: Base) -> AdapterSpec:
    """What PEFT is told of ``member``'s adapter on this base."""
    lora = member.config.lora
    return AdapterSpec(
        kind=lora.kind,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        targets=tuple(base.target_names(lora.target_modules)),
        use_rslora=lora.use_rslora,
        init=lora.init,
        seed=member.config.seed,
    )
