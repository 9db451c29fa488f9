"""Checkpoints of a pack, and a clean stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from src.training.checkpoint import save_member, write_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import Trainer

    from src.training.module import PackModule
    from src.training.sink import Sink


class Checkpoints(Callback):
    """Takes a consistent cut of the pack: by steps, by seconds, at each member's end and at a stop."""

    def __init__(self, sink: Sink, folder: Path) -> None:
        self._sink = sink
        self._folder = folder
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Save when it is due."""
        pack, stepped = pl_module.pack, pl_module.result.stepped
        if (
            pl_module.result.failed
            or pl_module.stopping()
            or any(m.done for m in stepped)
            or any(_by_steps(m.count.step, m.config.trainer.checkpoint_every) for m in stepped)
            or (
                pack.members
                and time.monotonic() - self._last >= min(m.config.trainer.checkpoint_s for m in pack.members)
            )
        ):
            self.save(pl_module)

    def save(self, module: PackModule) -> None:
        """Write every member's part, then the manifest.

        A disk that is full does not end a training: the last good checkpoint stays and the user is told.
        """
        pack = module.pack
        try:
            files = {m.name: save_member(pack, m, m.folder / "checkpoints") for m in pack.members}
            tick = max(member.count.ordinal for member in pack.members)
            write_manifest(self._folder, tick=tick, files=files)
        except OSError as error:
            message = f"no checkpoint was written ({error}); the training goes on, free some space"
            self._sink.emit("log", None, level="warning", message=message)
        self._last = time.monotonic()


def _by_steps(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
