"""Members that are done, or failed, leave the pack; the rest go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from src.training.callbacks.exporting import Exports
    from src.training.module import PackModule
    from src.training.pack import Pack
    from src.training.sink import Sink


class Departures(Callback):
    """Tells how each member ended and takes it out of the pack."""

    def __init__(self, sink: Sink, exports: Exports) -> None:
        self._sink = sink
        self._exports = exports

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Say that the first step comes: this is the last of the callbacks."""
        self._sink.emit("log", None, level="info", message="training")

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Let those go that are not active any more."""
        self.depart(pl_module.pack)

    def depart(self, pack: Pack) -> None:
        """Report the members that are done or failed and take them out."""
        leaving = [member for member in pack.members if not member.active]
        if not leaving:
            return
        for member in leaving:
            if member.state == "failed":
                self._sink.emit("state", member.job, state="FAILED", error=member.error, summary=None)
            else:
                summary = self._exports.summaries[member.name]
                self._sink.emit("state", member.job, state="FINISHED", error=None, summary=summary)
        pack.leave(leaving)
