"""The members that train together, and what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.lora.bank import AdapterBank
from src.lora.inject import AdapterSpec, inject
from src.training.optimizers import PackOptimizer
from src.training.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from src.models.protocol import Denoiser
    from src.training.member import Member


class StoppedError(Exception):
    """Someone asked the training to end; not a fault."""


def never() -> bool:
    """Nobody asks this training to stop."""
    return False


class Pack:
    """N >= 1 members on one frozen base, in one process, on one device.

    Args:
        denoiser: The base; adapters are injected into its module.
        members: Their trainer.precision, resolution and checkpointing must agree (the plan sees to it).
        stop: Whether to end; asked between two forwards of the base.

    Attributes:
        bank: The adapters of the members that are still here.
        optimizer: Their optimizers.
    """

    def __init__(self, denoiser: Denoiser, members: Sequence[Member], stop: Callable[[], bool] = never) -> None:
        if not members:
            msg = "a pack needs at least one member"
            raise ValueError(msg)
        self.denoiser = denoiser
        self.stop = stop
        self.members = list(members)
        self.dtypes = DTYPES[members[0].config.trainer.precision]
        self.device = denoiser.device
        for member in members:
            inject(denoiser.module, member.name, adapter_spec(member, denoiser))
        names = [member.name for member in members]
        self.bank = AdapterBank(denoiser.module, names, dtype=self.dtypes.adapter, device=self.device)
        self.optimizer = self._optimizer()

    @property
    def active(self) -> list[Member]:
        """The members that take part in the next step."""
        return [member for member in self.members if member.active]

    def end_if_stopped(self) -> None:
        """Between two forwards of validation and drawing, which may take long.

        Raises:
            StoppedError: When a stop was asked for.
        """
        if self.stop():
            raise StoppedError

    def leave(self, leaving: Sequence[Member]) -> None:
        """Take ``leaving`` out of base, bank and optimizer; the others go on with their own state untouched."""
        if not leaving:
            return
        names = {member.name for member in leaving}
        staying = [member for member in self.members if member.name not in names]
        states = {member.name: self.optimizer.state(member.name) for member in staying}
        bank = self.bank.without(sorted(names))
        self.members = staying
        if bank is None:
            return
        self.bank = bank
        self.optimizer = self._optimizer()
        for name, state in states.items():
            self.optimizer.load(name, state)

    def close(self) -> None:
        """Take every adapter out, so that the base can serve the next pack."""
        self.leave(list(self.members))

    def _optimizer(self) -> PackOptimizer:
        return PackOptimizer(self.bank, {member.name: member.config.optimizer for member in self.members})


def adapter_spec(member: Member, denoiser: Denoiser) -> AdapterSpec:
    """What PEFT is told of ``member``'s adapter on this base."""
    lora = member.config.lora
    return AdapterSpec(
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        targets=tuple(denoiser.target_names(lora.target_modules)),
        use_rslora=lora.use_rslora,
        init=lora.init,
        seed=member.config.seed,
    )
