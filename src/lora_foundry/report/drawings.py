"""Which pictures a sweep drew, read from its spool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_foundry.wire.events import ImageEvent, read_events


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """One picture.

    Attributes:
        job: Number of the job that drew it.
        step: Optimizer steps the job had taken.
        prompt: What was asked for.
        seed: Seed of the starting noise.
        scale: Scale of the adapter; 0 is the base.
        path: The file.
    """

    job: int
    step: int
    prompt: str
    seed: int
    scale: float
    path: Path


def read_drawings(sweep_dir: Path) -> list[Drawing]:
    """The pictures of each job's last drawing, in the order in which they were drawn.

    A resumed job draws some steps twice; the later file stands, as it does on disk.
    """
    drawn: dict[tuple[int, int, str, int, float], Drawing] = {}
    for spool in sorted((sweep_dir / "spool").glob("*.jsonl")):
        for event in read_events(spool)[0]:
            if isinstance(event, ImageEvent):
                drawing = Drawing(
                    job=event.job,
                    step=event.step,
                    prompt=event.prompt,
                    seed=event.seed,
                    scale=float(event.scale),
                    path=sweep_dir / event.path,
                )
                drawn[drawing.job, drawing.step, drawing.prompt, drawing.seed, drawing.scale] = drawing
    last: dict[int, int] = {}
    for drawing in drawn.values():
        last[drawing.job] = max(drawing.step, last.get(drawing.job, 0))
    return [drawing for drawing in drawn.values() if drawing.step == last[drawing.job]]
