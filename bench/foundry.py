"""Running this project's own command, with everything it writes below a folder of the bench."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.example import Training, run_timed


def run_sweep(
    folder: Path, training: Training, *, seeds: Sequence[int], extra: Sequence[str] = (), fresh: bool = True
) -> tuple[float, Path]:
    """Train one job a seed as one sweep.

    Args:
        folder: Cache, runs and tracking go below it.
        training: What is trained; its own seed is not used.
        seeds: One job each.
        extra: More overrides.
        fresh: Begin with an empty cache of latents and text states.

    Returns:
        Wall seconds and the sweep's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep = folder / "sweep"
    shutil.rmtree(sweep, ignore_errors=True)
    if fresh:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    overrides = [
        f"seed={','.join(str(seed) for seed in seeds)}",
        f"lora.rank={training.rank}",
        "lora.target_modules=attention",
        f"data.batch_size={training.batch}",
        f"data.cache_dir={folder / 'cache'}",
        "data.caption_dropout=0",
        f"trainer.max_steps={training.steps}",
        "validation.every=null",
        "sample=none",
        f"tracking.root={folder / 'mlruns'}",
        f"hydra.sweep.dir={sweep}",
        *extra,
    ]
    return run_timed([sys.executable, "-m", "src.train", *overrides, "-m"], folder=folder), sweep
