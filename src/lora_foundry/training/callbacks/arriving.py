"""Members that begin: with the pack, and in the middle of it where a place became free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lora_foundry.config.files import remove_torn
from lora_foundry.config.stored import StoredError
from lora_foundry.lora.formats.adapter import AdapterError
from lora_foundry.training.checkpoint import CheckpointError, load_newest, restore
from lora_foundry.training.continuing import start_from
from lora_foundry.training.forking import fork
from lora_foundry.training.keeping import settle
from lora_foundry.training.made_with import note_start
from lora_foundry.training.probing import reason_of
from lora_foundry.training.shortage import is_out_of_memory, let_go
from lora_foundry.training.sink import warn
from lora_foundry.wire.events import Forked, LogEvent, Refused, StateEvent, TagsEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning.pytorch import Trainer

    from lora_foundry.training.callbacks.departing import Departures
    from lora_foundry.training.callbacks.exporting import Exports
    from lora_foundry.training.callbacks.metrics import Metrics
    from lora_foundry.training.callbacks.pacing import Pacing
    from lora_foundry.training.callbacks.showing import Shows
    from lora_foundry.training.callbacks.validating import Validation
    from lora_foundry.training.member import Member
    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.requests import Arrival
    from lora_foundry.training.sink import Sink
    from lora_foundry.wire.forks import Donor


@dataclass(frozen=True, kw_only=True, slots=True)
class Others:
    """The callbacks that a member who begins is made known to."""

    metrics: Metrics
    validation: Validation
    shows: Shows
    exports: Exports
    departures: Departures
    pacing: Pacing


class Arrivals(Callback):
    """Lets members begin; what goes wrong with one is its own end.

    Args:
        sink: Takes states, and ``worker`` events, state ``refused``, for jobs that the pack has no room for.
        arriving: Asked after every step for those that want in.
        others: Who else has to know.
    """

    def __init__(self, sink: Sink, arriving: Callable[[], Sequence[Arrival]], others: Others) -> None:
        self._sink = sink
        self._arriving = arriving
        self._others = others

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Take in who waits; a pack that is over takes nobody in, its successor does."""
        pack = pl_module.pack
        self._others.pacing.follow(pack)
        if pack.active and not pack.stop() and (arrivals := self._arriving()):
            self._take_in(pack, arrivals)

    def begin(self, pack: Pack, arrivals: Sequence[Arrival]) -> None:
        """Load what they continue from and say that they run; those that cannot are FAILED, their mates go on.

        Forks come after those that they may be of, which have lower numbers.
        """
        for arrival in sorted(arrivals, key=lambda one: (one.donor is not None, one.member.job)):
            member = arrival.member
            remove_torn(member.folder)
            self._prepare(pack, arrival)
            if member.state == "active":
                self._sink.emit(StateEvent(job=member.job, state="RUNNING"))
            if member.done and member.state == "active":  # resumed after its last step: only its files are made again
                self._others.validation.score([member])
                self._others.shows.begin([member])
                self._others.exports.end_steps(pack, [member])
        self._others.departures.depart(pack)

    def _take_in(self, pack: Pack, arrivals: Sequence[Arrival]) -> None:
        members = [arrival.member for arrival in arrivals]
        if pack.rows is not None or pack.set_aside or pack.changed:
            self._refuse(members, "memory is short")
            return
        try:
            pack.join(members)
        except Exception as error:
            if not is_out_of_memory(error, pack.device):
                raise
            reason = reason_of(error)
        else:
            self.begin(pack, arrivals)
            begun = [member for member in members if member.active]
            for other in (self._others.metrics, self._others.validation, self._others.shows):
                other.begin(begun)
            self._others.exports.begin(pack, begun)
            self._others.pacing.begin(pack)
            return
        let_go(pack.device)
        self._refuse(members, reason)

    def _refuse(self, members: Sequence[Member], reason: str) -> None:
        self._sink.emit(Refused(jobs=tuple(member.job for member in members), reason=reason))

    def _prepare(self, pack: Pack, arrival: Arrival) -> None:
        member = arrival.member
        try:
            if arrival.resume:
                part, path, complaints = load_newest(member.folder / "checkpoints")
                for complaint in complaints:
                    self._sink.emit(LogEvent(job=member.job, level="warning", message=f"passed over: {complaint}"))
                restore(pack, member, part)
                self._sink.emit(
                    LogEvent(job=member.job, level="info", message=f"{member.name} continues from {path.name}")
                )
            elif arrival.donor is not None:
                self._fork(pack, member, arrival.donor)
            elif member.config.lora.init_from is not None:
                for line in start_from(pack, member):
                    warn(self._sink, member.job, "init-from-rank", line)
        except (CheckpointError, StoredError, AdapterError, OSError) as error:
            member.fail(str(error))
            return
        try:
            settle(member)
            note_start(member, self._sink.root)
        except OSError as error:
            message = f"{member.name}: what it trains with was not recorded ({error})"
            self._sink.emit(LogEvent(job=member.job, level="warning", message=message))

    def _fork(self, pack: Pack, member: Member, donor: Donor) -> None:
        lineage = fork(pack, member, donor)
        self._sink.emit(Forked(job=member.job, lineage=lineage))
        self._sink.emit(LogEvent(job=member.job, level="info", message=f"{member.name} {lineage.words}"))
        values: dict[str, object] = {
            "forked_from": lineage.name,
            "forked_from_job": lineage.of,
            "forked_at_samples": lineage.samples,
        }
        self._sink.emit(TagsEvent(job=member.job, values=values))
