"""The Lightning module: thin around a pack's step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule

from lora_foundry.training.pack_step import StepResult, run_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_foundry.training.pack import Pack


class PackModule(LightningModule):
    """Trains a :class:`~lora_foundry.training.pack.Pack`; every member has its own optimizer, so Lightning steps none.

    The base is no submodule: Lightning moves what it knows back to the CPU when a fit ends, and the base
    stays where it is for the next pack.

    Args:
        pack: The members and their base.
    """

    def __init__(self, pack: Pack) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.pack = pack
        self.result = StepResult()

    def training_step(self, batch: int) -> None:  # noqa: ARG002  # a tick: the step draws its own samples
        """One micro-step of every active member."""
        # Lightning fetches one tick ahead, so a last one may come when nobody is left to train.
        self.result = StepResult()
        if self.running:
            with self.pack.peaks.during("step"):
                self.result = run_step(self.pack)

    def configure_optimizers(self) -> None:
        """None: the pack owns its optimizers."""

    def train_dataloader(self) -> Ticks:
        """Ticks for as long as the pack runs."""
        return Ticks(self)

    @property
    def running(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self.pack.active) and not self.pack.stop()


class Ticks:
    """Counts up while the pack runs; the data of a step is drawn in the step."""

    def __init__(self, module: PackModule) -> None:
        self._module = module

    def __iter__(self) -> Iterator[int]:
        tick = 0
        while self._module.running:
            yield tick
            tick += 1
