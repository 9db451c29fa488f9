"""What members make of their prompts while they train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lora_foundry.config.besides import is_drawn
from lora_foundry.config.files import write_all
from lora_foundry.training.shortage import give_back
from lora_foundry.training.sink import stage
from lora_foundry.wire.events import ImageEvent, LogEvent, MetricsEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import Trainer

    from lora_foundry.tasks.protocol import Shown
    from lora_foundry.training.member import Member
    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.sink import Sink


class Shows(Callback):
    """Shows a member's work at the start, as ``sample.every`` says, and at its end."""

    def __init__(self, pack: Pack, sink: Sink) -> None:
        self._pack = pack
        self._task = pack.task
        self._showing = pack.task.showing(pack)
        self._sink = sink

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Draw members that begin."""
        members = pl_module.pack.active
        if any(self._task.shows(member) for member in _beginning(members)):
            self._sink.emit(LogEvent(level="info", message="drawing the first pictures"))
        self.begin(members)

    def begin(self, members: Sequence[Member]) -> None:
        """Draw those of ``members`` that are at step 0, or were stopped before it."""
        self.draw(_beginning(members))

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Draw members that are due."""
        due = [member for member in pl_module.result.stepped if _due(member)]
        drawing = [member for member in due if self._task.shows(member)]
        if drawing:
            stage(self._sink, "drawing pictures of", drawing)
        self.draw(due)

    def draw(self, members: Sequence[Member]) -> None:
        """Draw ``members`` now, store the pictures in their folders, and emit."""
        drawing = [member for member in members if self._task.shows(member)]
        if not drawing:
            return
        with self._pack.peaks.during("drawing"):
            made = self._showing.show(drawing)
        give_back(self._pack.device)  # what the decoder took
        measured = self._showing.measured()
        for name, shown in made.items():
            member = next(m for m in drawing if m.name == name)
            try:
                self._store(member, shown)
            except OSError as error:
                message = f"{member.name}: pictures of step {member.count.step} were not stored ({error})"
                self._sink.emit(LogEvent(job=member.job, level="warning", message=message))
            if name in measured:
                step, values = member.count.step, measured[name]
                self._sink.emit(MetricsEvent(job=member.job, step=step, samples=member.samples, values=dict(values)))

    def _store(self, member: Member, shown: Sequence[Shown]) -> None:
        folder = member.folder / "samples" / f"step-{member.count.step:08d}"
        write_all(folder, {one.file: one.content for one in shown})
        for one in shown:
            self._sink.emit(
                ImageEvent(
                    job=member.job,
                    step=member.count.step,
                    samples=member.samples,
                    key=f"samples/{one.key}",
                    prompt=one.prompt,
                    seed=one.seed,
                    scale=one.scale,
                    path=str((folder / one.file).relative_to(self._sink.root)),
                )
            )


def _beginning(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.untold and (member.count.step == 0 or _due(member))]


def _due(member: Member) -> bool:
    return member.done or is_drawn(member.config, member.count.step, member.total_steps)
