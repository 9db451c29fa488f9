"""Running packs, one after another, until told to end."""

from __future__ import annotations

import logging
import traceback
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch

from lora_foundry.config.allowance import memory_taken
from lora_foundry.config.collector import importing
from lora_foundry.config.length import rows_of
from lora_foundry.config.longer import read_lengths, words_of
from lora_foundry.memory.ladder import Ladder
from lora_foundry.memory.limit import set_limit, too_small
from lora_foundry.memory.paces import note_paces
from lora_foundry.memory.record import note_error
from lora_foundry.memory.watch import GIB, Watch
from lora_foundry.training.bases import Bases
from lora_foundry.training.device import DeviceError, own_device
from lora_foundry.training.job_config import read_config, write_changes
from lora_foundry.training.pack import StoppedError
from lora_foundry.training.peaks import Peaks
from lora_foundry.training.precision import computing
from lora_foundry.training.preparing import Checked, Encoders, check_jobs
from lora_foundry.training.probing import is_lost
from lora_foundry.training.requests import Arrival, Requests
from lora_foundry.training.shortage import OutOfMemoryError, is_out_of_memory
from lora_foundry.training.validation import device_name
from lora_foundry.wire.events import (
    Joining,
    LogEvent,
    NoDevice,
    PackBroken,
    PackEnded,
    PackStarted,
    StateEvent,
    TagsEvent,
)
from lora_foundry.worker.pulse import JobLogs, Pulse
from lora_foundry.worker.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from lora_foundry.config import JobConfig
    from lora_foundry.config.giving_way import Changes
    from lora_foundry.training.member import Member
    from lora_foundry.wire.commands import OwnDevice, PackCommand, PackedJob
    from lora_foundry.worker.commands import Commands

_log = logging.getLogger(__name__)


def work(commands: Commands, sweep_dir: Path) -> None:
    """Run every pack that comes; return when told to end, or to train where this process cannot."""
    bases: Bases | None = None
    with Watch() as watch:
        while (command := commands.next_pack()) is not None:
            spool = Spool(command.spool, sweep_dir)
            try:
                bases = _told(command.device, bases)
                run_pack(command, bases, spool, commands, sweep_dir, watch)
            except DeviceError as error:
                _log.error("pack %s: %s", command.pack, error)
                spool.emit(NoDevice(reason=str(error)))
                return
            finally:
                spool.close(commands.stopping)


def _told(device: OwnDevice, bases: Bases | None) -> Bases:
    """The bases of this process, on the device that it was told.

    Raises:
        DeviceError: When that cannot be used, or is another than before.
    """
    if bases is None:
        return Bases(own_device(device))
    if bases.device.type != device.kind:
        raise DeviceError(f"this worker has {bases.device.type} and was told {device.kind} later")
    return bases


def run_pack(  # what a pack is run with
    command: PackCommand, bases: Bases, spool: Spool, commands: Commands, sweep_dir: Path, watch: Watch
) -> None:
    """Train one pack; whatever goes wrong in it fails its jobs and no others."""
    _PackRun(command, bases, spool, commands, sweep_dir, watch).run()


class _PackRun:
    def __init__(  # what a pack is run with
        self, command: PackCommand, bases: Bases, spool: Spool, commands: Commands, sweep_dir: Path, watch: Watch
    ) -> None:
        self._command = command
        self._bases = bases
        self._spool = spool
        self._commands = commands
        self._folder = sweep_dir / "packs" / command.pack
        self._watch = watch
        self._jobs = list(command.jobs)  # with those that joined
        self._least_gain = command.least_gain
        self._asked: dict[int, JobConfig] = {}
        self._encoders = Encoders(spool, bases.device, commands.stopping, watch.check)
        self._logs = JobLogs()

    def run(self) -> None:
        """Train the pack's jobs, those that join it, and those again that a shortage of memory changed."""
        command, spool = self._command, self._spool
        numbers = tuple(job.job for job in command.jobs)
        spool.emit(PackStarted(pack=command.pack, jobs=numbers))
        with Pulse(spool, self._commands), self._logs, self._commands.under_way(command.pack):
            self._logs.add(job.dir for job in command.jobs)
            _log.info("pack %s: %s", command.pack, ", ".join(job.name for job in command.jobs))
            self._run()
        numbers = tuple(job.job for job in self._jobs)
        spool.emit(PackEnded(pack=command.pack, jobs=numbers))

    def _run(self) -> None:
        command, spool = self._command, self._spool
        spool.emit(LogEvent(level="info", message="checking data"))
        try:
            jobs = list(command.jobs)
            while jobs and (checked := self._check(jobs)):
                with computing(checked[0].config.trainer, self._bases.device):
                    changed = self._train(checked)
                jobs = [replace(job, resume=False) for job in self._jobs if job.job in changed]
                for job in jobs:
                    write_changes(job.dir, changed[job.job])
        except StoppedError:
            for number in self._left():
                spool.emit(StateEvent(job=number, state="KILLED"))
        except Exception as error:  # the last stop before the process: its jobs fail, the worker goes on
            _log.exception("pack %s", command.pack)
            if not isinstance(error, OutOfMemoryError) and is_lost(error, self._bases.device):
                raise  # the next pack would meet the same: the process is replaced
            left = self._left()
            what = f"{type(error).__name__}: {error}"
            if len(left) > 1:  # whose fault it was shows when they train apart
                spool.emit(PackBroken(pack=command.pack, error=what))
            for number in left if len(left) == 1 else ():
                spool.emit(LogEvent(job=number, level="error", message=traceback.format_exc()))
                spool.emit(StateEvent(job=number, state="FAILED", error=what))
            self._bases.forget()

    def _left(self) -> list[int]:
        return [job.job for job in self._jobs if job.job not in self._spool.ended]

    def _check(self, jobs: list[PackedJob]) -> list[Checked]:
        checked = check_jobs(jobs, self._bases, self._spool, _too_small)
        self._asked |= {one.job.job: read_config(one.job.dir, as_asked=True) for one in checked}
        return checked

    def _members(self, checked: list[Checked]) -> list[Member]:
        """The members of sound jobs, their runs tagged."""
        members = self._encoders.members(checked)
        for member in members:
            values: dict[str, object] = {
                "base_hash": member.provenance.base_hash,
                "data_hash": member.provenance.data_hash,
                "precision": member.config.trainer.precision,
                "device": device_name(self._bases.device),
                "total_steps": member.total_steps,
                "pack": self._command.pack,
            }
            if lengths := read_lengths(member.folder):  # parameters of a run cannot change
                values["trained_longer"] = words_of(lengths)
            self._spool.emit(TagsEvent(job=member.job, values=values))
        return members

    def _first_members(self, checked: list[Checked]) -> list[Member]:
        """The members that a pack begins with; an earlier pack's base makes room where encoding runs out of memory."""
        try:
            return self._members(checked)
        except Exception as error:
            if not self._bases.loaded or not is_out_of_memory(error, self._bases.device):
                raise
        self._spool.emit(LogEvent(level="info", message="out of memory for encoding: letting the base go until then"))
        self._bases.forget()
        return self._members(checked)

    def _arriving(self) -> list[Arrival]:
        """Members of the jobs that are to join."""
        arrivals: list[Arrival] = []
        for command in self._commands.joining():
            self._spool.emit(Joining(jobs=tuple(job.job for job in command.jobs)))
            self._least_gain = command.least_gain
            self._logs.add(job.dir for job in command.jobs)
            here = {job.job for job in command.jobs}
            self._spool.ended -= here  # it may have been given back before
            self._jobs = [*(job for job in self._jobs if job.job not in here), *command.jobs]
            told = {job.job: job for job in command.jobs}
            arrivals += [
                Arrival(member=member, resume=told[member.job].resume, donor=told[member.job].donor)
                for member in self._members(self._check(list(command.jobs)))
            ]
        return arrivals

    def _train(self, checked: list[Checked]) -> dict[int, Changes]:
        """What has to be trained anew, and with which changes."""
        spool, commands = self._spool, self._commands
        device = self._bases.device
        set_limit(checked[0].config.memory.limit_gib, device, self._watch, self._command.device.memory)
        members = self._first_members(checked)
        if not members:
            return {}
        if commands.stopping():
            raise StoppedError
        if not self._bases.has(members[0].config):
            spool.emit(LogEvent(level="info", message="loading the base"))
        task = self._bases.load(members[0].config)
        with importing():
            from lora_foundry.training.fit import train_pack  # Lightning, while nobody waits

        peaks, config, before = Peaks(device), members[0].config, len(self._jobs)
        changed = train_pack(
            task,
            members,
            sink=spool,
            folder=self._folder,
            stop=commands.stopping,
            resume=frozenset(one.job.name for one in checked if one.job.resume),
            donors={one.job.name: one.job.donor for one in checked if one.job.donor is not None},
            relief=Ladder(spool, self._asked, self._watch.check),
            peaks=peaks,
            requests=Requests(
                stopped=commands.stopped,
                pruned=commands.pruned,
                arriving=self._arriving,
                least_gain=lambda: self._least_gain,
                pace=lambda paces: note_paces(config, device_name(device), torch.get_num_threads(), paces),
            ),
        )
        if len(self._jobs) == before:  # of a pack that others joined, no prediction was made
            self._tell_memory(members, peaks)
        return changed

    def _tell_memory(self, members: list[Member], peaks: Peaks) -> None:
        """Tag what the pack's steps took, and note what the prediction of a step was off by."""
        measured = peaks.of("step")
        if measured is None or any(member.measures for member in members):
            return  # nothing is known of its steps, or they were cut on the way, which no prediction was made for
        rows = rows_of(member.config for member in members)
        self._spool.emit(LogEvent(level="info", message="noting what memory was taken"))
        configs, device = [member.config for member in members], self._bases.device
        on_cpu = device.type == "cpu"
        try:
            predicted = note_error(
                configs,
                rows,
                measured=measured,
                beside=peaks.beside,
                device=device_name(device),
                cpu_threads=torch.get_num_threads() if on_cpu else None,
                capability=None if on_cpu or torch.version.hip else torch.cuda.get_device_capability(device),
            )
        except OSError as error:
            _log.warning("what the prediction was off by was not kept: %s", error)
            predicted = None
        values = {"memory.measured_gib": round(measured / GIB, 3)}
        if predicted is not None:
            values["memory.predicted_gib"] = round(predicted / GIB, 3)
        for member in members:
            self._spool.emit(TagsEvent(job=member.job, values=values))


@cache
def _program_bytes() -> int:
    """What the process takes with everything imported and no base loaded: measured at the first question."""
    from lora_foundry.training import fit  # noqa: F401  # Lightning is of the program's own memory

    return memory_taken()


def _too_small(limit_gib: float | None, weights: int, device: torch.device) -> str | None:
    return None if limit_gib is None else too_small(limit_gib, weights, device, _program_bytes())
