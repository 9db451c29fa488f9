"""A sweep's folder as launcher and worker leave it, for tests of what is told of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from lora_foundry.config.errors import FORMAT
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.record import StoredJob, StoredSweep, write_sweep
from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.events import EVENTS, Event, ImageEvent, JudgedEvent, MetricsEvent
from lora_foundry.wire.journal import BeganLine, JobLine, JudgedLine
from lora_foundry.wire.states import State
from tests.wire.summaries import summary

COMMAND = "python -m src.train lora.rank=4,8 optimizer.lr=0.001,0.004 -m"


class Folder:
    """``Folder(path, [{"lora.rank": "4"}, ...])``: jobs by their overrides, of which a test tells what became.

    Args:
        path: The sweep's folder.
        points: Of each job what the command line set.
        command: The command line.
    """

    def __init__(self, path: Path, points: Sequence[Mapping[str, str]], *, command: str = COMMAND) -> None:
        self.path = path
        (path / "spool").mkdir(parents=True)
        self.names = [f"n{number}" for number in range(len(points))]
        jobs = [
            StoredJob(job=n, name=self.names[n], dir=str(n), rank=4, overrides=dict(point), pack="pack-0", warnings={})
            for n, point in enumerate(points)
        ]
        told = {"id": "20260101-000000-abcdef", "command": command, "created": time.time(), "cwd": str(path)}
        write_sweep(path, StoredSweep(format=FORMAT, config_dir=None, jobs=tuple(jobs), **told))  # type: ignore[arg-type]

    def spool(self, *events: Event) -> None:
        """What a worker tells."""
        with (self.path / "spool" / "pack-0.jsonl").open("ab") as file:
            file.writelines(EVENTS.written(event) for event in events)

    def curve(self, job: int, *values: float, name: str = "val/loss_rel") -> None:
        """A metric at 0, 8, 16, ... samples."""
        for place, value in enumerate(values):
            told = {name: value}
            self.spool(MetricsEvent(t=float(place), job=job, step=4 * place, samples=8 * place, values=told))

    def ended(
        self, job: int, losses: Sequence[float] = (), state: State = "FINISHED", error: str | None = None
    ) -> None:
        """How it ended; a finished one with the losses of its images over the base's."""
        with Journal(self.path) as journal:
            journal.write(BeganLine(t=1.0, pack="pack-0", slot="cpu", jobs=(job,)))
            told = None
            if losses:
                items = tuple(f"{place}.png" for place in range(len(losses)))
                base = (1.0,) * len(losses)
                by = ByItem(step=9, samples=36, rows="r", items=items, relative=tuple(losses), base=base)
                journal.write(JudgedLine(t=1.5, job=job, by_item=by))
                self.spool(JudgedEvent(t=1.5, job=job, by_item=by))
                told = summary(
                    val_loss=by.mean / 2, val_loss_rel=by.mean, best_step=9, steps=9, seconds=12.0, bytes=764258,
                    file=f"{job}/adapter/n{job}.safetensors", peak_mem_gib=0.8,
                )  # fmt: skip
            journal.write(JobLine(t=2.0, job=job, state=state, error=error, summary=told))

    def picture(self, job: int, prompt: str, *, scale: float = 1.0, seed: int = 0, side: int = 48) -> Path:
        """A drawing of step 9."""
        path = self.path / str(job) / "samples" / f"{len(list(self.path.rglob('*.png')))}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (40 * job % 256, 90, int(200 * scale) % 256)).save(path)
        where = {"key": "samples/x", "path": str(path.relative_to(self.path))}
        self.spool(ImageEvent(t=1.0, job=job, step=9, samples=36, prompt=prompt, seed=seed, scale=scale, **where))
        return path
