"""Running packs, one after another, until told to end."""

from __future__ import annotations

import logging
import traceback
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from src.config.collector import importing
from src.memory.ladder import Ladder
from src.memory.limit import set_limit, too_small
from src.memory.peak import Peak
from src.memory.record import note_error
from src.memory.watch import GIB, Watch, taken_bytes
from src.training.bases import Bases, device_of
from src.training.pack import StoppedError
from src.training.preparing import Checked, Encoders, check_jobs, read_config, write_changes
from src.training.shortage import is_out_of_memory
from src.worker.pulse import Pulse, job_logs
from src.worker.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from src.training.member import Member
    from src.worker.commands import Commands, PackCommand

_log = logging.getLogger(__name__)


def work(commands: Commands, sweep_dir: Path) -> None:
    """Run every pack that comes; return when told to end."""
    bases = Bases()
    with Watch() as watch:
        while (command := commands.next_pack()) is not None:
            spool = Spool(command.spool, sweep_dir)
            try:
                run_pack(command, bases, spool, commands, sweep_dir, watch)
            finally:
                spool.close()


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

    def run(self) -> None:
        """Train the pack's jobs, and those again that a shortage of memory changed."""
        command, spool = self._command, self._spool
        numbers = [job.job for job in command.jobs]
        spool.emit("worker", None, state="pack_started", pack=command.pack, jobs=numbers)
        with Pulse(spool, self._commands), job_logs([job.folder for job in command.jobs]):
            _log.info("pack %s: %s", command.pack, ", ".join(job.name for job in command.jobs))
            self._run(numbers)
        spool.emit("worker", None, state="pack_ended", pack=command.pack, jobs=numbers)

    def _run(self, numbers: list[int]) -> None:
        command, spool = self._command, self._spool
        spool.emit("log", None, level="info", message="checking data")
        try:
            jobs = list(command.jobs)
            while jobs and (checked := check_jobs(jobs, self._bases, spool, _too_small)):
                changed = self._train(checked)
                jobs = [replace(job, resume=False) for job in jobs if job.job in changed]
                for job in jobs:
                    write_changes(job.folder, changed[job.job])
        except StoppedError:
            for number in (n for n in numbers if n not in spool.ended):
                spool.emit("state", number, state="KILLED", error=None, summary=None)
        except Exception as error:  # the last stop before the process: its jobs fail, the worker goes on
            _log.exception("pack %s", command.pack)
            if is_device_lost(error):
                raise  # the next pack would meet the same: the process is replaced
            left = [number for number in numbers if number not in spool.ended]
            what = f"{type(error).__name__}: {error}"
            if len(left) > 1:  # whose fault it was shows when they train apart
                spool.emit("worker", None, state="pack_broken", pack=command.pack, error=what)
            for number in left if len(left) == 1 else ():
                spool.emit("log", number, level="error", message=traceback.format_exc())
                spool.emit("state", number, state="FAILED", error=what, summary=None)
            self._bases.forget()

    def _train(self, checked: list[Checked]) -> dict[int, dict[str, Any]]:
        """What has to be trained anew, and with which changes."""
        spool, commands = self._spool, self._commands
        limit, device = checked[0].config.memory.limit_gib, device_of(checked[0].config)
        set_limit(limit, device, self._watch)
        members = Encoders(spool, commands.stopping).members(checked)
        if not members:
            return {}
        if commands.stopping():
            raise StoppedError
        spool.emit("log", None, level="info", message="loading the base")
        base = self._bases.load(members[0].config)
        for member in members:
            config = member.config
            tags = {
                "base_hash": member.provenance.base_hash,
                "data_hash": member.provenance.data_hash,
                "precision": config.trainer.precision,
                "device": torch.cuda.get_device_name() if base.denoiser.device.type == "cuda" else "cpu",
                "total_steps": member.total_steps,
            }
            spool.emit("tags", member.job, values=tags)
        with importing():
            from src.training.fit import train_pack  # noqa: PLC0415  # Lightning, while nobody waits for a message

        asked = {one.job.job: read_config(one.job.folder, as_asked=True) for one in checked}
        peak = Peak(device)
        changed = train_pack(
            base.denoiser,
            base.decoder,
            members,
            sink=spool,
            folder=self._folder,
            stop=commands.stopping,
            resume=frozenset(one.job.name for one in checked if one.job.resume),
            relief=Ladder(spool, asked, self._watch.check),
            stopped=commands.stopped,
        )
        self._tell_memory(members, peak)
        return changed

    def _tell_memory(self, members: list[Member], peak: Peak) -> None:
        """Tag what the pack took, and note what a prediction was off by."""
        if not peak.known or any(member.measures for member in members):
            return  # nothing is known of this pack alone, or it was cut on the way, which no prediction was made for
        rows = sum(member.config.data.batch_size for member in members)
        measured, beside = peak.read()
        configs = [member.config for member in members]
        try:
            predicted = note_error(configs, rows, measured=measured, beside=beside, device=peak.device_name)
        except OSError as error:
            _log.warning("what the prediction was off by was not kept: %s", error)
            predicted = None
        values = {"memory.measured_gib": round(measured / GIB, 3)}
        if predicted is not None:
            values["memory.predicted_gib"] = round(predicted / GIB, 3)
        for member in members:
            self._spool.emit("tags", member.job, values=values)


def is_device_lost(error: BaseException) -> bool:
    """Whether this process can use its GPU no more: a CUDA error sticks to the context that met it."""
    if is_out_of_memory(error):
        return False
    return type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and "CUDA error" in str(error)
    )


@cache
def _program_bytes() -> int:
    """What the process takes with everything imported and no base loaded: measured at the first question."""
    from src.training import fit  # noqa: F401, PLC0415  # Lightning is of the program's own memory

    return taken_bytes()


def _too_small(limit_gib: float | None, weights: int, device: torch.device) -> str | None:
    return None if limit_gib is None else too_small(limit_gib, weights, device, _program_bytes())
