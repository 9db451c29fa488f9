"""Ablations of the family: real packs of real members, one with all questions and one without each group of eight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lora_foundry.data.order import SampleOrder
from lora_foundry.training.bases import Bases
from lora_foundry.training.fit import train_pack
from lora_foundry.training.member import Member, Provenance
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import JudgedEvent
from tests.tasks.numbers.training import CPU, WIDTH, composed, there

GROUPS, EACH, HELD_OUT = 8, 24, 192
NOISE = 0.6  # of an answer, whose own size is about two


def ablated(
    root: Path, seed: int, *, swapped: int | None = None, seeds: int = 1, steps: int = 300
) -> NDArray[np.float64]:
    """Losses ``[S, 1 + K, n]`` of the held-out questions, the member with all of them first.

    Args:
        root: Where the pack may write.
        seed: Of the questions and of the first seed of training.
        swapped: The group in which each question has the answer of another one; None has none.
        seeds: S.
        steps: Of the training.
    """
    with there():
        # Imported where the family's folders are found.
        from lora_foundry.tasks.regression.preparing import Numbers  # type: ignore[import-not-found]

        asked, answers, held_out = _questions(seed, swapped)
        config = composed(
            *(f"trainer.max_steps={steps}", "trainer.precision=32-true", "validation.every=null"),
            *("lora.rank=8", "optimizer.lr=0.01", "data.batch_size=16"),
        )
        members = []
        for own in range(seed * 100, seed * 100 + seeds):
            for group in (None, *range(GROUPS)):
                gone = range(0) if group is None else range(group * EACH, (group + 1) * EACH)
                kept = [place for place in range(GROUPS * EACH) if place not in gone]
                number = len(members)
                members.append(
                    Member(
                        job=number,
                        name=f"m{number}",
                        folder=root / f"m{number}",
                        config=replace(config, seed=own),
                        material=Numbers(train=(asked[kept], answers[kept]), held_out=held_out),
                        provenance=Provenance(base_hash="b" * 64, data_hash=f"{group}", started_at=1.0),
                        order=SampleOrder(seed=own, n_images=len(kept), gaps=gone),
                        total_steps=steps,
                    )
                )
        sink, threads = ListSink(root), torch.get_num_threads()
        torch.set_num_threads(1)  # of numbers this small two would wait for each other most of the time
        try:
            train_pack(Bases(CPU).load(config), members, sink=sink, folder=root / "pack")
        finally:
            torch.set_num_threads(threads)
    last = {event.job: event.by_item.relative for event in sink.events if isinstance(event, JudgedEvent)}
    return np.array([last[member.job] for member in members]).reshape(seeds, 1 + GROUPS, -1)


def _questions(seed: int, swapped: int | None) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    map_ = normal(WIDTH, 3)
    asked, held_out = normal(GROUPS * EACH, WIDTH), normal(HELD_OUT, WIDTH)
    answers, known = asked @ map_ + NOISE * normal(GROUPS * EACH, 3), held_out @ map_ + NOISE * normal(HELD_OUT, 3)
    if swapped is not None:
        places = list(range(swapped * EACH, (swapped + 1) * EACH))
        answers[places] = answers[[*places[1:], places[0]]]
    return asked, answers, (held_out, known)
