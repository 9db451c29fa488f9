"""Members that are done, failed, stopped or pruned leave the pack; the rest go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lora_foundry.training.checkpoint import save_member
from lora_foundry.wire.events import LogEvent, StateEvent

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lora_foundry.training.callbacks.exporting import Exports
    from lora_foundry.training.member import Member
    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.requests import Requests
    from lora_foundry.training.sink import Sink


class Departures(Callback):
    """Tells how each member ended and takes it out of the pack."""

    def __init__(self, sink: Sink, exports: Exports, requests: Requests) -> None:
        """Take in where ends are told, what the members' files were, and what is asked of the pack."""
        self._sink = sink
        self._exports = exports
        self._requests = requests

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Say that the first step comes: this is the last of the callbacks."""
        self._sink.emit(LogEvent(level="info", message="training"))

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Let those go that are not active any more."""
        self.depart(pl_module.pack)

    def depart(self, pack: Pack) -> None:
        """Report the members that are done, failed, stopped or pruned, and take them out."""
        pruned = self._requests.pruned()
        asked = {*self._requests.stopped(), *pruned}
        leaving = [member for member in pack.members if not member.active or member.job in asked]
        for member in leaving:
            self._exports.leave(member)
            if member.state == "failed":
                self._sink.emit(StateEvent(job=member.job, state="FAILED", error=member.error))
            elif member.done:
                summary = self._exports.summaries[member.name]
                self._sink.emit(StateEvent(job=member.job, state="FINISHED", summary=summary))
            else:
                self._keep(pack, member)
                if member.job in pruned:
                    self._sink.emit(StateEvent(job=member.job, state="PRUNED"))
                else:
                    self._sink.emit(StateEvent(job=member.job, state="KILLED", error="stopped on request"))
        pack.leave(leaving)

    def _keep(self, pack: Pack, member: Member) -> None:
        """It can be continued from where it is; nothing more is drawn, scored or exported of it."""
        try:
            save_member(pack, member, member.folder / "checkpoints")
        except OSError as error:
            message = f"{member.name}: no checkpoint was written ({error}); an earlier one stays"
            self._sink.emit(LogEvent(job=member.job, level="warning", message=message))
