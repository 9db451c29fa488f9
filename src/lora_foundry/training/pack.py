"""The members that train together, and what they share."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from lora_foundry.lora.bank import AdapterBank, clear
from lora_foundry.lora.inject import AdapterSpec, inject
from lora_foundry.training.checkpoint import save_member
from lora_foundry.training.pack_optimizer import PackOptimizer
from lora_foundry.training.peaks import Peaks
from lora_foundry.training.precision import DTYPES
from lora_foundry.training.shortage import NoRelief, asked_in_every_layer, in_fewer_rows, is_out_of_memory

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
        with nullcontext() if unless else asked_in_every_layer(self.relief.check):
            yield

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

    def leave(self, leaving: Sequence[Member], *, short: bool = False) -> None:
        """Take ``leaving`` out of base, bank and optimizer; the others go on with their own state untouched.

        Their places stay, for members that join. A free place costs no time, since a step computes with the rows of
        who is there, but its weights and gradients take memory, and what pads smaller ranks takes time, too. So those
        who stay move into a bank of their own where that is at most half as large: all moves together then copy less
        than the first bank held. Where memory is short they move at once.

        Args:
            leaving: Members of this pack.
            short: Whether they leave for want of memory.
        """
        if not leaving:
            return
        names = [member.name for member in leaving]
        self.members = [member for member in self.members if member.name not in names]
        self.optimizer.forget(names)
        self.bank.leave(names)
        if short:
            self._lay_out_over_cpu()
        elif self.bank.is_sparse:
            self._shrink()

    def _shrink(self) -> None:
        bank = self.bank
        try:
            self._lay_out(self.members)
        except Exception as error:
            if not is_out_of_memory(error, self.device):
                raise
            bank.take_back(())  # all is well in the larger one, too

    def _lay_out_over_cpu(self) -> None:
        """Move into a bank of those who are here, beside which the device never holds the old one."""
        states = {member.name: self.optimizer.state(member.name) for member in self.members}
        del self.optimizer  # its parameters are views of the bank
        self.bank.put_aside()
        self.bank = self.bank.relaid([member.name for member in self.members])
        self.optimizer = self._optimizer()
        for name, state in states.items():
            self.optimizer.load(name, state)

    def _lay_out(self, members: Sequence[Member]) -> None:
        """Move into a bank of ``members``; where that fails, bank and optimizer are the old ones."""
        before = self.members, self.bank, self.optimizer
        try:
            self.members, self.bank = list(members), self.bank.relaid([member.name for member in members])
            self.optimizer = self._optimizer()
            self.optimizer.take_over(before[2], lambda row: self.bank.moved(row, before[1]))
        except Exception:
            self.members, self.bank, self.optimizer = before
            raise

    def join(self, joining: Sequence[Member]) -> None:
        """Take ``joining`` in between two steps; those that are here go on with their own state untouched.

        Free places that are large enough are taken, and nothing else moves. Else all move into another bank.

        Raises:
            RuntimeError: When there is too little memory for them; the pack is as it was then.
        """
        names = [member.name for member in joining]
        try:
            for member in joining:
                inject(self.base.components, member.name, adapter_spec(member, self.base))
            if self.bank.admits(names):
                self._take_places(joining)
            else:
                self._lay_out([*self.members, *joining])
        except Exception:
            self.optimizer.forget(names)
            self.bank.take_back(names)
            raise

    def _take_places(self, joining: Sequence[Member]) -> None:
        for member in joining:
            self.bank.enter(member.name)
            self.optimizer.add(member.name, member.config.optimizer)
        # In the order of places, in which a step needs no copy of their rows.
        self.members = sorted([*self.members, *joining], key=lambda member: self.bank.place(member.name))

    def set_members_aside(self, members: Sequence[Member]) -> None:
        """Take ``members`` out for later, as they are at the end of their last optimizer step.

        Raises:
            OSError: When their state cannot be written.
        """
        self._hand_back(members, short=True)
        self.set_aside.extend(members)

    def hand_back(self, members: Sequence[Member]) -> None:
        """Take ``members`` out for another pack, as they are at the end of their last optimizer step.

        Raises:
            OSError: When their state cannot be written.
        """
        self._hand_back(members, short=False)

    def _hand_back(self, members: Sequence[Member], *, short: bool) -> None:
        for member in members:
            save_member(self, member, member.folder / "checkpoints")
        self.leave(members, short=short)

    def give_up(self, member: Member, changes: Changes) -> None:
        """Take ``member`` out: it starts anew with ``changes``."""
        self.changed[member.job] = changes
        self.leave([member], short=True)

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
