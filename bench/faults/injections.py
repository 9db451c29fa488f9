"""What is done to a sweep from outside."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from bench.faults.sweeps import RealSweep, until
from lora_foundry.wire.journal import BeganLine


def kill_worker(sweep: RealSweep, draw: random.Random, *, within_s: float = 2.5) -> int | None:
    """SIGKILL a worker at a random moment between its start and a little before its end.

    Returns:
        The step that the sweep had reached, or None when it ended before the blow.
    """
    before = len(sweep.journal(BeganLine))
    until(lambda: sweep.workers() or sweep.ended(), "a worker")
    if draw.random() < 0.8:  # a start takes longer than the training of a test, and is less interesting
        wait_for_training(sweep, begun=before)
    pause(sweep, draw.uniform(0.0, within_s))
    pids = sweep.workers()
    if sweep.ended() or not pids:
        return None
    step = sweep.step()
    os.kill(draw.choice(pids), signal.SIGKILL)
    until(lambda: sweep.ended() or len(sweep.journal(BeganLine)) > before, "the pack to begin again")
    return step


def wait_for_training(sweep: RealSweep, *, begun: int = 1) -> None:
    """Until the latest pack takes steps."""

    def training() -> bool:
        starts = sweep.journal(BeganLine)
        return len(starts) >= max(1, begun) and sweep.step(since=starts[-1].t) > 0

    until(lambda: training() or sweep.ended(), "steps")


def pause(sweep: RealSweep, seconds: float) -> None:
    """Let a training sweep go on for a while; ends early with it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not sweep.ended():
        time.sleep(0.02)


def kill_launcher(sweep: RealSweep) -> None:
    """SIGKILL the launcher; its workers are orphans then."""
    sweep.running().kill()
    sweep.running().wait()


def freeze_worker(sweep: RealSweep) -> int:
    """SIGSTOP the worker: it lives and does nothing, not even its signs of life."""
    pid = sweep.workers()[-1]
    os.kill(pid, signal.SIGSTOP)
    return pid


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else can write to the SQLite database inside the block."""
    with closing(sqlite3.connect(database, timeout=60.0, isolation_level=None)) as holder:
        holder.execute("begin exclusive")
        yield
        holder.execute("rollback")


def spoil_newest_checkpoints(sweep: RealSweep, draw: random.Random) -> list[str]:
    """Damage the newest checkpoint of every job that has two: cut it off, flip a bit, or empty it.

    Returns:
        Names of the files.
    """
    spoilt = []
    for folder in sorted(sweep.folder.glob("*/checkpoints")):
        parts = sorted(folder.glob("step-*.safetensors"))
        if len(parts) > 1:
            spoil(parts[-1], draw)
            spoilt.append(parts[-1].name)
    return spoilt


def spoil(path: Path, draw: random.Random) -> None:
    """Cut the file off, flip a bit of it, or empty it."""
    content = bytearray(path.read_bytes())
    how = draw.choice(("cut", "flip", "empty"))
    if how == "flip":
        content[draw.randrange(len(content) // 2, len(content))] ^= 1
    path.write_bytes(content[: len(content) // 2] if how == "cut" else b"" if how == "empty" else content)


def spoil_cache(cache: Path, draw: random.Random, *, entries: int = 6) -> None:
    """Damage entries of a cache of latents and text states."""
    for path in draw.sample(sorted(cache.rglob("*.safetensors")), entries):
        spoil(path, draw)


def change_data(folder: Path) -> Path:
    """Write another caption for an image, as someone who tidies up would; returns what to put back."""
    table = next(folder.glob("metadata.*"))
    kept = table.with_name("kept")
    shutil.copy2(table, kept)
    table.write_text(table.read_text().rstrip("\n") + " again\n")
    return kept


@cache
def can_mount() -> bool:
    """Whether this process may make small disks: root may, but for one in a container without CAP_SYS_ADMIN."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with small_disk(Path(name) / "disk", 64):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[None]:
    """``folder`` on a disk of its own of ``kib`` KiB (a tmpfs, which takes the right to mount)."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=True)  # noqa: S607
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """The folder's disk is full to the last byte inside the block."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    try:
        yield
    finally:
        ballast.unlink()
