"""A solo training in a process of its own, for :mod:`bench.device.processes`.

It reads JSON lines: ``{"build": [overrides]}`` makes a training, ``{"train": seconds}`` runs it, ``{"drop": true}``
lets it go; the end of its standard input ends it.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import torch

from bench.device.building import build
from bench.device.timing import is_full, step, timed
from lora_foundry.training.pack import Pack


class Child:
    """One process's training."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._card = device.type == "cuda"
        self._pack: Pack | None = None

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        """Do what ``task`` says; ``{"full": why}`` where the card has too little memory."""
        try:
            if "build" in task:
                _, self._pack = build(task["build"], 1, self._device)
                return {"built": True}
            return self._train(float(task["train"])) if "train" in task else self._drop()
        except Exception as error:
            if not is_full(error):
                raise
            return {"full": str(error)}

    def _train(self, seconds: float) -> dict[str, Any]:
        pack = self._pack
        if pack is None:
            msg = "train: got no training to run; build one first"
            raise RuntimeError(msg)
        if self._card:
            torch.cuda.reset_peak_memory_stats(self._device)
        taken = timed(lambda: step(pack), self._sync, seconds)
        return {
            "steps": len(taken),
            "seconds": sum(taken),
            "tensors": torch.cuda.max_memory_allocated(self._device) if self._card else None,
            "held": torch.cuda.max_memory_reserved(self._device) if self._card else None,
        }

    def _drop(self) -> dict[str, Any]:
        self._pack = None
        gc.collect()
        if self._card:
            torch.cuda.empty_cache()
        return {"dropped": True}

    def _sync(self) -> None:
        if self._card:
            torch.cuda.synchronize(self._device)


def main() -> None:
    """Answer until standard input ends."""
    child = Child(torch.device(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(child.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
