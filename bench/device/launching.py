"""Two workers on the card, through the command that people type."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

from bench import PROJECT_ROOT
from bench.device.stage import Stage
from lora_foundry.wire.outcomes import read_outcomes

_NEEDED = ("lightning", "hydra", "rich", "psutil")
_TIMEOUT_S = 120.0


def launcher(stage: Stage) -> None:
    """A sweep of two jobs on two workers that share the device."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        stage.note("launcher", f"not measured: {', '.join(missing)} not installed")
        return
    table = stage.table("Two workers through the launcher", "job", "state", "validation loss of the base's", "slot")
    sweep = stage.folder / "sweep"
    command = [
        *(sys.executable, "-m", "src.train", "lora.rank=4,8", "-m"),
        *("tracking=none", "sample=none", "validation.every=null"),
        f"trainer.max_steps={4 if stage.small else 30}",
        "scheduler.warmup_steps=1",
        f"trainer.accelerator={'cpu' if stage.small else 'gpu'}",
        *("hydra.launcher.slots=2", "hydra.launcher.share=true"),
        f"data.cache_dir={stage.folder / 'cache'}",
        f"hydra.sweep.dir={sweep}",
    ]
    start = time.perf_counter()
    ended = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if ended.returncode:
        msg = f"the sweep ended with {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-600:]}"
        raise RuntimeError(msg)
    slots = _slots((sweep / "journal.jsonl").read_text())
    for job in read_outcomes(sweep):
        loss = "" if job.score is None else f"{job.score:.3f}"
        stage.row(table, job.name, job.state, loss, slots.get(job.job, ""))
    stage.row(table, "both", f"exit code {ended.returncode}", "", f"{time.perf_counter() - start:.1f} s")


def _slots(journal: str) -> dict[int, str]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in journal.splitlines()]
    return {job: line["slot"] for line in lines if line.get("event") == "began" for job in line["jobs"]}
