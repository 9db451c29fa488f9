"""Adapter files along the way and at the end, and which of them is best."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lora_foundry.lora.formats.adapter import AdapterError
from lora_foundry.lora.formats.copying import copy_adapter
from lora_foundry.lora.formats.names import unread_by_kohya
from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.training.averaging import in_place_of, mean_of, steps_averaged, weights_of
from lora_foundry.training.export import ROUNDING_TOLD, Exported, Outputs, export, live_outputs
from lora_foundry.training.keeping import ADAPTER, BEST, MARK, is_among_best, is_last, keep, put_by, tidy
from lora_foundry.training.made_with import note_end
from lora_foundry.training.probing import reason_of
from lora_foundry.training.shortage import is_out_of_memory
from lora_foundry.training.sink import stage, warn
from lora_foundry.wire.events import ArtifactEvent, JudgedEvent, LogEvent, MetricsEvent, TagsEvent
from lora_foundry.wire.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning.pytorch import Trainer

    from lora_foundry.training.callbacks.validating import Validation
    from lora_foundry.training.member import Member
    from lora_foundry.training.module import PackModule
    from lora_foundry.training.pack import Pack
    from lora_foundry.training.sink import Sink

STEPS = "steps"
"""Folder, beside the last adapter, of those that ``trainer.save_every`` asks for."""
CHECK = "val/loss_rel_check"
"""Metric of the best adapter at the end, on images that it was not chosen by (``validation.check_images``)."""
AVERAGE = "average"
"""Folder of the mean that ``trainer.average`` asks for."""
_SHOWN = 4  # layers that a warning names


class Exports(Callback):
    """Exports a member every ``trainer.save_every`` of its steps, at its best, and at its end, also where it failed.

    Attributes:
        summaries: What the end of each finished member is reported with.
    """

    def __init__(self, sink: Sink, validation: Validation) -> None:
        self._sink = sink
        self._validation = validation
        self.summaries: dict[str, Summary] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: PackModule, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401, ARG002
        """Export members that are due."""
        pack, failed = pl_module.pack, pl_module.result.failed
        self.end_steps(pack, pl_module.result.stepped)
        with pack.peaks.during("exporting") if failed else nullcontext():
            for member in failed:
                self._last_good(pack, member)

    def on_train_start(self, trainer: Trainer, pl_module: PackModule) -> None:  # type: ignore[override]  # noqa: ARG002
        """Export members that were stopped before it."""
        self.begin(pl_module.pack, pl_module.pack.active)

    def begin(self, pack: Pack, members: Sequence[Member]) -> None:
        """Export those of ``members`` that are due and were stopped before it, and those whose last is overwritten."""
        self.end_steps(pack, [member for member in members if member.untold])
        for member in members:
            if any(is_last(one) and one.step == member.count.step for one in member.count.kept):
                self._put_by(pack, member)

    def end_steps(self, pack: Pack, members: Sequence[Member]) -> None:
        """Export what is due; this is the last that a step's end is told with."""
        due = [member for member in members if member.done or _on_the_way(member) or self._is_among_best(member)]
        if due:
            stage(self._sink, "exporting", due)
            with pack.peaks.during("exporting"):
                self._export_all(pack, due)
        for member in members:
            member.count.told = member.count.step

    def _export_all(self, pack: Pack, due: Sequence[Member]) -> None:
        live = live_outputs(pack, due)
        for member in due:
            if _on_the_way(member):
                self._along_the_way(pack, member, STEPS, live[member.name])
            elif not member.done:
                self._along_the_way(pack, member, BEST, live[member.name])
            if member.done:
                self._finish(pack, member, live[member.name])

    def _finish(self, pack: Pack, member: Member, live: Outputs) -> None:
        """Write the final files and the summary; without them the member is FAILED, its mates go on."""
        folder = member.folder / ADAPTER
        try:
            files = self._export(pack, member, folder, member.name, live)
            self._keep(member, files)
            note_end(member)
        except (AdapterError, OSError) as error:
            member.fail(f"the adapter was not exported: {error}")
            return
        for path in (files.file, files.for_code, files.card):
            place = Path(ADAPTER) / path.parent.relative_to(folder)
            self._sink.emit(ArtifactEvent(job=member.job, path=self._relative(path), folder=place.as_posix()))
        self._tell_unread(pack, member)
        mean = self._average(pack, member)
        self._copy(member, files)
        self.summaries[member.name] = self._summary(pack, member, files, {**mean, **self._check(pack, member)})

    def _check(self, pack: Pack, member: Member) -> dict[str, object]:
        """Score the best adapter, as its file has it, on what it was not chosen by; what the summary tells of it."""
        best = next(iter(member.count.kept), None)
        if best is None or not member.config.validation.check_images:
            return {}
        try:
            adapter = read_adapter(member.folder / ADAPTER / best.files[0])
            with in_place_of(pack, member, weights_of(pack, member, [adapter])):
                found = self._validation.check(member)
        except (AdapterError, OSError) as error:
            warn(self._sink, member.job, "check", f"{member.name}: its best adapter was not checked: {error}")
            return {}
        if found is None:
            return {}
        values = {CHECK: found}
        self._sink.emit(
            MetricsEvent(job=member.job, step=member.count.step, samples=member.samples, values=dict(values))
        )
        return {"val_loss_rel_check": found}

    def _average(self, pack: Pack, member: Member) -> dict[str, object]:
        """Export the mean of the last adapters where that is asked for; what the summary tells of it."""
        steps = steps_averaged(member)
        if not steps:
            return {}
        folder, number = member.folder / ADAPTER, len(steps) + 1
        earlier = [folder / STEPS / f"{_stem(member, step)}.safetensors" for step in steps]
        try:
            with in_place_of(pack, member, mean_of(pack, member, earlier)):
                found = self._validation.score_beside(member)
                files = self._export(pack, member, folder / AVERAGE, f"{_stem(member)}-average", None)
            keep(member, found, (files.file, files.for_code, files.card), averaged=number)
            self._tell_best(member)
        except (AdapterError, OSError) as error:
            warn(self._sink, member.job, "average", f"{member.name}: its last adapters were not averaged: {error}")
            return {}
        path, values = self._relative(files.file), {"val/loss_average": found.loss}
        values["val/loss_rel_average"] = found.relative
        best = next(iter(member.count.kept), None)
        if best is not None and (best.step, best.averaged) == (member.count.step, number):
            # Image by image, too; what was told last stays the last.
            for one in (found, self._validation.scores[member.name][1]):
                self._sink.emit(JudgedEvent(job=member.job, by_item=one.by_item))
        self._sink.emit(ArtifactEvent(job=member.job, path=path, folder=f"{ADAPTER}/{AVERAGE}"))
        self._sink.emit(
            MetricsEvent(job=member.job, step=member.count.step, samples=member.samples, values=dict(values))
        )
        return {"averaged": number, "average_val_loss_rel": found.relative, "average_file": path}

    def _last_good(self, pack: Pack, member: Member) -> None:
        """Export what a failed member has learned up to its last good step, and say in its error where that is."""
        step = member.count.step
        if step == 0:
            return
        folder = member.folder / ADAPTER / STEPS
        try:
            live = live_outputs(pack, [member])[member.name]
            if not live.finite:
                member.error = f"{member.error}; its weights of step {step} give nothing finite either"
                return
            files = self._export(pack, member, folder, _stem(member), live)
        except Exception as error:
            if not (isinstance(error, (AdapterError, OSError)) or is_out_of_memory(error, pack.device)):
                raise
            why = reason_of(error).rstrip(" :")  # the first line may announce a list
            member.error = f"{member.error}; its weights of step {step} were not exported: {why}"
            return
        path = self._relative(files.file)
        self._sink.emit(ArtifactEvent(job=member.job, path=path, folder=f"{ADAPTER}/{STEPS}"))
        member.error = f"{member.error}; its last good weights, of step {step}, are in {path}"

    def _tell_unread(self, pack: Pack, member: Member) -> None:
        """Not every tool reads every layer; whoever shares the file should know."""
        unread = unread_by_kohya(pack.base.target_names(member.config.lora.target_modules))
        if unread:
            few = ", ".join(unread[:_SHOWN]) + (f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else "")
            message = (
                f"{member.name}: kohya's own tools leave {few} out of it; AUTOMATIC1111, Forge, ComfyUI and diffusers "
                "read all. lora.target_modules=all-blocks adapts what every tool reads"
            )
            warn(self._sink, member.job, "kohya", message)

    def _copy(self, member: Member, files: Exported) -> None:
        """Where somebody wants a copy, they get the best under the adapter's name; it is finished without one."""
        where = member.config.export.copy_to
        if where is None:
            return
        folder, own = Path(where).absolute(), f"{member.name}.safetensors"
        file, card, what = files.file, files.card, member.name
        if member.count.kept:
            best = member.count.kept[0]
            file, *_, card = (member.folder / ADAPTER / name for name in best.files)
            what += "" if best.step == member.count.step else f" of step {best.step}, its best,"
            what += "" if best.averaged is None else f", the mean of its last {best.averaged},"
        try:
            copy = copy_adapter(file, card, folder, member.name)
        except OSError as error:
            text = f"{member.name}: not copied to {folder} ({error.strerror or error}); it is in {file}"
            warn(self._sink, member.job, "copy", text)
            return
        if copy.name != own:
            text = f"{folder / own} is another adapter's; the copy of {member.name} is called {copy.name}"
            warn(self._sink, member.job, "copy", text)
        self._sink.emit(LogEvent(job=member.job, level="info", message=f"{what} copied to {copy}"))

    def _along_the_way(self, pack: Pack, member: Member, place: str, live: Outputs) -> None:
        """One of several files: when it cannot be written the training goes on and the user is told."""
        try:
            files = self._export(pack, member, member.folder / ADAPTER / place, _stem(member), live)
            self._keep(member, files)
        except (AdapterError, OSError) as error:
            message = f"{member.name}: no adapter was exported at step {member.count.step}: {error}"
            self._sink.emit(LogEvent(job=member.job, level="warning", message=message))
            return
        if place == STEPS:  # the best so far may not be so for long: they go to the run when the member leaves
            self._sink.emit(ArtifactEvent(job=member.job, path=self._relative(files.file), folder=f"{ADAPTER}/{STEPS}"))

    def _put_by(self, pack: Pack, member: Member) -> None:
        """It trains longer, and the last adapter of before is one of its best: that is exported a second time."""
        try:
            files = export(pack, member, member.folder / ADAPTER / BEST, _stem(member))
            put_by(member, (files.file, files.for_code, files.card))
            self._tell_best(member)
        except (AdapterError, OSError) as error:
            message = f"{member.name}: its adapter of step {member.count.step} is not kept: {error}"
            self._sink.emit(LogEvent(job=member.job, level="warning", message=message))

    def _export(  # what is written of whom, where, against what
        self, pack: Pack, member: Member, folder: Path, stem: str, live: Outputs | None
    ) -> Exported:
        files = export(pack, member, folder, stem, live)
        if files.rounding > ROUNDING_TOLD:
            message = f"{stem}: rounding to fp16 moves the base's outputs by {files.rounding:.1e} (relative)"
            self._sink.emit(LogEvent(job=member.job, level="warning", message=message))
        return files

    def leave(self, member: Member) -> None:
        """What is best of one that leaves the pack for good goes to its run, whatever its end; the rest is removed."""
        kept, folder = member.count.kept, member.folder / ADAPTER
        for name in (MARK, *(one.files[0] for one in kept if one.files[0].startswith(f"{BEST}/"))) if kept else ():
            place = (Path(ADAPTER) / name).parent.as_posix()
            self._sink.emit(ArtifactEvent(job=member.job, path=self._relative(folder / name), folder=place))
        if member.done:
            tidy(member)

    def _is_among_best(self, member: Member) -> bool:
        step, found = self._validation.scores.get(member.name, (None, None))
        return step == member.count.step and found is not None and is_among_best(member, found)

    def _keep(self, member: Member, files: Exported) -> None:
        """What was exported may be one of the best; which is the best so far is on the run."""
        keep(member, self._validation.scores[member.name][1], (files.file, files.for_code, files.card))
        self._tell_best(member)

    def _tell_best(self, member: Member) -> None:
        if member.count.kept and member.count.kept[0].step == member.count.step:
            best = member.count.kept[0]
            file = self._relative(member.folder / ADAPTER / best.files[0])
            told = {"best_step": best.step, "best_val_loss_rel": best.relative, "best_file": file}
            self._sink.emit(TagsEvent(job=member.job, values=told))

    def _summary(self, pack: Pack, member: Member, files: Exported, mean: Mapping[str, Any]) -> Summary:
        _, score = self._validation.scores[member.name]
        seconds = member.count.seconds
        best = member.count.kept[0] if member.count.kept else None
        return Summary(
            val_loss=score.loss,
            val_loss_rel=score.relative,
            steps=member.count.step,
            samples=member.samples,
            seconds=seconds,
            bytes=files.size,
            file=self._relative(files.file),
            diffusers_file=self._relative(files.for_code),
            best_step=None if best is None else best.step,
            best_val_loss=None if best is None else best.loss,
            best_val_loss_rel=None if best is None else best.relative,
            best_file=None if best is None else self._relative(member.folder / ADAPTER / best.files[0]),
            samples_per_s=member.samples / seconds if seconds else None,
            peak_mem_gib=pack.peaks.highest_gib,
            memory=dict(member.measures),
            stopped_early=member.stopped_early,
            val_drift=score.drift,
            best_val_drift=None if best is None else best.drift,
            gpu_seconds=member.count.device_seconds,
            **mean,
            more=score.others(),
        )

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._sink.root))


def _stem(member: Member, step: int | None = None) -> str:
    return f"{member.name}-step{member.count.step if step is None else step:06d}"


def _on_the_way(member: Member) -> bool:
    step, every = member.count.step, member.config.trainer.save_every
    return bool(step and every is not None and step % every == 0)
