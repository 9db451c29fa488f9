"""Checkpoints of a pack, and a clean stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lora_foundry.training.checkpoint import save_member, write_manifest
from lora_foundry.training.keeping import tidy
from lora_foundry.training.sink import stage
from lora_foundry.wire.events import LogEvent

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import Trainer

    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.sink import Sink


class Checkpoints(Callback):
    """Takes a consistent cut of the pack: by steps, by seconds and at each member's end."""

    def __init__(self, sink: Sink, folder: Path) -> None:
        self._sink = sink
        self._folder = folder
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Save when it is due; what a stop leaves is saved after the fit."""
        pack, stepped = pl_module.pack, pl_module.result.stepped
        if pack.members and (
            any(not member.active for member in pack.members)
            or any(_by_steps(m.count.step, m.config.trainer.checkpoint_every) for m in stepped)
            or time.monotonic() - self._last >= min(m.config.trainer.checkpoint_s for m in pack.members)
        ):
            self.save(pack)

    def save(self, pack: Pack) -> None:
        """Write every member's part, then the manifest of those that were written.

        A disk that is full does not end a training: the last good checkpoint stays and the user is told.
        """
        self._last = time.monotonic()
        stage(self._sink, "saving a checkpoint of", pack.members)
        if not self._sink.keeps_up():  # a checkpoint must not be ahead of what was told, or a kill would leave it out
            self._complain("no checkpoint was written (no room for what there is to tell)")
            return
        with pack.peaks.during("saving"):
            self._write(pack)

    def _write(self, pack: Pack) -> None:
        files: dict[str, Path] = {}
        try:
            for member in pack.members:
                try:
                    files[member.name] = save_member(pack, member, member.folder / "checkpoints")
                except OSError as error:
                    self._complain(f"{member.name}: no checkpoint was written ({error})")
                else:  # two are there now: this one, and the one before
                    tidy(member, spared=member.saved)
                    member.saved = tuple(member.count.kept)
            write_manifest(self._folder, files, root=self._sink.root)
        except OSError as error:
            self._complain(f"no manifest was written ({error})")

    def _complain(self, what: str) -> None:
        self._sink.emit(LogEvent(level="warning", message=f"{what}; the training goes on, free some space"))


def _by_steps(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
