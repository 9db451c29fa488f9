"""Running packs, one after another, until told to end."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import torch

from src.config.collector import importing
from src.training.bases import Bases
from src.training.pack import StoppedError
from src.training.preparing import Checked, Encoders, check_jobs
from src.worker.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from src.worker.commands import Commands, PackCommand

_log = logging.getLogger(__name__)


def work(commands: Commands, sweep_dir: Path) -> None:
    """Run every pack that comes; return when told to end."""
    bases = Bases()
    while (command := commands.next_pack()) is not None:
        spool = Spool(command.spool, sweep_dir)
        try:
            run_pack(command, bases, spool, commands, sweep_dir)
        finally:
            spool.close()


def run_pack(command: PackCommand, bases: Bases, spool: Spool, commands: Commands, sweep_dir: Path) -> None:
    """Train one pack; whatever goes wrong in it fails its jobs and no others."""
    numbers = [job.job for job in command.jobs]
    spool.emit("worker", None, state="pack_started", pack=command.pack, jobs=numbers)
    _log.info("pack %s: %s", command.pack, ", ".join(job.name for job in command.jobs))
    spool.emit("log", None, level="info", message="checking data")
    try:
        checked = check_jobs(command.jobs, bases, spool)
        if checked:
            _train(command, checked, bases, spool, commands, sweep_dir)
    except StoppedError:
        for number in (n for n in numbers if n not in spool.ended):
            spool.emit("state", number, state="KILLED", error=None, summary=None)
    except Exception as error:  # noqa: BLE001  # the last stop before the process: its jobs fail, the worker goes on
        _log.exception("pack %s", command.pack)
        for number in (n for n in numbers if n not in spool.ended):
            spool.emit("log", number, level="error", message=traceback.format_exc())
            spool.emit("state", number, state="FAILED", error=f"{type(error).__name__}: {error}", summary=None)
        bases.forget()
    spool.emit("worker", None, state="pack_ended", pack=command.pack, jobs=numbers)


def _train(
    command: PackCommand, checked: list[Checked], bases: Bases, spool: Spool, commands: Commands, sweep_dir: Path
) -> None:
    members = Encoders(spool, commands.stopping).members(checked)
    if not members:
        return
    if commands.stopping():
        raise StoppedError
    spool.emit("log", None, level="info", message="loading the base")
    base = bases.load(members[0].config)
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

    resume = {one.job.name for one in checked if one.job.resume}
    train_pack(
        base.denoiser,
        base.decoder,
        members,
        sink=spool,
        folder=sweep_dir / "packs" / command.pack,
        stop=commands.stopping,
        resume=frozenset(resume),
    )
