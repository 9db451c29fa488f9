"""Validation while members train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lora_foundry.config.besides import is_scored
from lora_foundry.training.sink import stage
from lora_foundry.training.validation import Score, Validator
from lora_foundry.wire.events import JudgedEvent, LogEvent, MetricsEvent, TagsEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import Trainer

    from lora_foundry.training.member import Member
    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.sink import Sink


class Validation(Callback):
    """Scores members as ``validation.every`` says, whenever one is exported, and at the end.

    Attributes:
        scores: Each member's last score and the step it was taken at.
    """

    def __init__(self, pack: Pack, sink: Sink) -> None:
        self._pack = pack
        self._validator = Validator(pack)
        self._sink = sink
        self.scores: dict[str, tuple[int, Score]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Score members that begin."""
        members = pl_module.pack.active
        if _beginning(members):
            self._sink.emit(LogEvent(level="info", message="scoring the base"))
        self.begin(members)

    def begin(self, members: Sequence[Member]) -> None:
        """Score those at step 0, where curves begin at the base's own loss, and those that a stop kept from it."""
        self.score(_beginning(members))

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Score the members that are due."""
        due = [member for member in pl_module.result.stepped if _due(member)]
        if due:
            stage(self._sink, "scoring", due)
        self.score(due)

    def score_beside(self, member: Member) -> Score:
        """The score of the weights that ``member`` has for the moment; nothing is noted or told of it."""
        with self._pack.peaks.during("validation"):
            return self._validator.score([member])[member.name]

    def check(self, member: Member) -> float | None:
        """See :meth:`lora_foundry.training.validation.Validator.check`."""
        with self._pack.peaks.during("validation"):
            return self._validator.check(member)

    def score(self, members: Sequence[Member]) -> None:
        """Score ``members`` now, note the best, and emit."""
        if not members:
            return
        with self._pack.peaks.during("validation"):
            scores = self._validator.score(members)
        for member in members:
            score = scores[member.name]
            self.scores[member.name] = (member.count.step, score)
            if member.count.step and score.loss < member.count.best_loss:
                member.count.best_loss, member.count.best_step = score.loss, member.count.step
            self._end_early(member)
            self._sink.emit(
                MetricsEvent(job=member.job, step=member.count.step, samples=member.samples, values=score.metrics())
            )
            self._sink.emit(JudgedEvent(job=member.job, by_item=score.by_item))

    def _end_early(self, member: Member) -> None:
        """Let a member that is scored on the way be done, where it did not improve for as long as it may."""
        patience = member.config.trainer.patience
        if patience is None or member.done or member.unimproved < patience:
            return
        member.count.early = True
        text = str(member.stopped_early)
        self._sink.emit(LogEvent(job=member.job, level="info", message=f"{member.name} {text}"))
        self._sink.emit(TagsEvent(job=member.job, values={"stopped_early": text}))


def _beginning(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.untold and (member.count.step == 0 or _due(member))]


def _due(member: Member) -> bool:
    return member.done or is_scored(member.config, member.count.step, member.total_steps)
