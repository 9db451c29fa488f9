"""A sweep whose every job exceeds its memory limit ends with what was asked for: real workers, real limits."""

from __future__ import annotations

import sys
from pathlib import Path

from lora_foundry.launch.records.journal import read_journal
from lora_foundry.training.checkpoint import load_newest
from lora_foundry.wire.events import TagsEvent, read_events
from lora_foundry.wire.journal import MemoryLine
from tests import nursery
from tests.commands.ran import Command
from tests.phrases import NOT_STARTED
from tests.root import PROJECT_ROOT
from tests.training.world import distance

ASKED = (
    "lora.rank=4,8",
    "data.batch_size=12",
    "hydra.launcher.pack_size=1",  # so that no job gets by with the pack split
    "trainer.precision=64-true",
    "trainer.max_steps=2",
    "lora.target_modules=[to_q]",
    "scheduler.warmup_steps=0",
    "validation.max_images=1",
    "sample=none",
    "tracking=none",
)


def _sweep(folder: Path, cache: Path, *words: str) -> Path:
    where = (f"hydra.sweep.dir={folder}", f"data.cache_dir={cache}")
    done = nursery.run(
        [sys.executable, "-m", "src.train", *ASKED, *words, *where, "-m"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def _measured_gib(sweep: Path) -> list[float]:
    """What each job took at its peak, as its run is tagged."""
    events = [event for spool in sorted((sweep / "spool").glob("*.jsonl")) for event in read_events(spool)[0]]
    tags = [event.values for event in events if isinstance(event, TagsEvent)]
    return [values["memory.measured_gib"] for values in tags if "memory.measured_gib" in values]


def test_equals_the_unlimited_sweep(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    free = _sweep(tmp_path / "free", cache)
    taken = _measured_gib(free)
    assert len(taken) == 2
    # Twelve rows of 64-bit numbers keep some 0.4 GiB, so that neither job fits as it was asked for. Under a limit the
    # heap is trimmed before anything gives way: a tenth of a GiB of what was taken was none that was needed.
    limited = _sweep(tmp_path / "limited", cache, f"memory.limit_gib={min(taken) - 0.2:.3f}")
    rungs = [(line.job, line.rung) for line in read_journal(limited) if isinstance(line, MemoryLine)]
    assert {(0, "micro_batch"), (1, "micro_batch")} <= set(rungs)
    for job in ("0", "1"):
        asked, eased = (load_newest(sweep / job / "checkpoints")[0].weights for sweep in (free, limited))
        assert distance(eased, asked) < 1e-9


def test_a_sweep_that_fits_nowhere_is_refused_with_what_would_fit(command: Command, tmp_path: Path) -> None:
    asked = ("lora.rank=4", "lora.target_modules=[to_q]", "memory.limit_gib=0.3", f"data.cache_dir={tmp_path}/cache")
    for words in ((), ("hydra.launcher.plan_only=true",)):
        ran = command(*asked, *words, "-m")
        assert ran.code == 2
        assert f"{NOT_STARTED}:" in ran.err
        assert "job 0: tiny-sd at 64 px, rank 4, 32-true, takes 0." in ran.err
        assert "may take 0.30 GiB (memory.limit_gib). What would fit:\n      memory.limit_gib=" in ran.err
        assert not ran.sweep_dir.exists()
