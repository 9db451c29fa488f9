"""A worker that speaks the launcher's protocol and trains nothing: what is left of a sweep is the launcher's cost.

Every job tells what a real one of a few steps would: states, tags, progress, three rows of metrics and one small file.
Imports little, so that it takes no core from what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

STEPS = 30
_TAGS = {"base_hash": "0" * 64, "data_hash": "0" * 64, "precision": "32-true", "device": "cpu", "total_steps": STEPS}


def main() -> None:
    """Run packs until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep-dir", type=Path, required=True)
    sweep_dir = parser.parse_args().sweep_dir
    for line in sys.stdin:
        command = json.loads(line)
        if command["cmd"] in ("pack", "join"):  # its packs end at once: what would join comes as the next
            with Path(command["spool"]).open("ab") as spool:
                run(command, sweep_dir, spool)
        elif command["cmd"] in ("exit", "stop"):
            return


def run(command: dict[str, Any], sweep_dir: Path, spool: BinaryIO) -> None:
    """Tell of a pack what a real worker would."""

    def say(kind: str, job: int | None, **values: object) -> None:
        spool.write(json.dumps({"t": time.time(), "kind": kind, "job": job, **values}).encode() + b"\n")
        spool.flush()
        if kind in ("state", "worker"):
            os.fsync(spool.fileno())

    numbers = [job["job"] for job in command["jobs"]]
    say("worker", None, state="pack_started", pack=command["pack"], jobs=numbers)
    for job in command["jobs"]:
        for kind, values in story(job, sweep_dir):
            say(kind, job["job"], **values)
    say("worker", None, state="pack_ended", pack=command["pack"], jobs=numbers)


def story(job: dict[str, Any], sweep_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and values of a job's events."""
    yield "state", {"state": "RUNNING", "error": None, "summary": None}
    yield "tags", {"values": _TAGS}
    for step in (STEPS // 3, 2 * STEPS // 3, STEPS):
        names = ("loss", "grad_norm", "lr", "epoch")
        values = {f"train/{name}": 1 / step for name in names} | {"perf/samples_per_s": 9.0, "val/loss": 1 / step}
        yield "metrics", {"step": step, "samples": step, "values": values}
        yield "progress", {"step": step, "total": STEPS, "samples": step, "loss": 1 / step, "samples_per_s": 9.0}
    file = Path(job["dir"]) / "adapter" / f"{job['name']}.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\0" * 1024)
    shown = str(file.relative_to(sweep_dir))
    yield "artifact", {"path": shown, "folder": "adapter"}
    summary: dict[str, Any] = {
        "val_loss": 1 / STEPS,
        "val_loss_rel": 0.9,
        "steps": STEPS,
        "samples": STEPS,
        "seconds": 0.01,
    }
    summary |= {"bytes": 1024, "file": shown, "best_step": STEPS, "samples_per_s": 9.0, "peak_mem_gib": 0.1}
    yield "state", {"state": "FINISHED", "error": None, "summary": summary}


if __name__ == "__main__":
    main()
