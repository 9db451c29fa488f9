"""Trains a pack in this process: freely, then where allocations really fail, once a share of what it took freely.

Prints what happened as JSON, a line a share.

The limit is one of the kernel's on the process's address space, so that torch's own allocator is what fails. It has
to be a process of its own: one cannot be sure to raise such a limit again, and it counts threads and imports too.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from lora_foundry.memory.ladder import Ladder
from lora_foundry.training.pack import Pack
from lora_foundry.training.peaks import Peaks
from lora_foundry.training.shortage import let_go
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import MemoryEvent
from tests.training.world import DTYPES, Spec, Trained, distance, make_denoiser, train

STEPS = "trainer.max_steps=3"
# A forward of all 288 rows keeps about 300 MiB; adapters and states of 64-bit numbers are far smaller.
SPECS = [
    Spec("a", (STEPS, "data.batch_size=96", "lora.dropout=0.1"), n_images=96),
    Spec("b", (STEPS, "data.batch_size=160", "lora.rank=8", "seed=3"), n_images=160),
    Spec("c", (STEPS, "data.batch_size=32", "trainer.accumulate=2", "seed=4"), n_images=64),
]


class Reasons(Ladder):
    """The ladder, which remembers what sent it down."""

    def give_way(self, pack: Pack, reason: str) -> None:
        """One rung."""
        reasons.append(reason)
        super().give_way(pack, reason)


def address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def eased(share: float, folder: Path, grown: int, asked: Trained) -> dict[str, Any]:
    """What happens with ``share`` of the bytes that the free training took."""
    reasons.clear()
    sink = ListSink(folder)
    relief = Reasons(sink, {job: spec.config() for job, spec in enumerate(SPECS)}, lambda: None)
    denoiser = make_denoiser(DTYPES["64-true"].base)
    let_go(torch.device("cpu"))
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + int(share * grown), resource.RLIM_INFINITY))
    trained = train(SPECS, folder, relief=relief, denoiser=denoiser)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {
        "grown": grown,
        "reasons": list(reasons),
        "rungs": [event.rung for event in sink.events if isinstance(event, MemoryEvent) and event.job == 1],
        "states": [trained.states(job)[-1] for job in range(len(SPECS))],
        "apart": max(distance(trained.weights(spec.name), asked.weights(spec.name)) for spec in SPECS),
    }


reasons: list[str] = []
torch.set_num_threads(1)
root, shares = Path(sys.argv[1]), [float(word) for word in sys.argv[2:]]
train(SPECS[2:], root / "warm-up")
let_go(torch.device("cpu"))
peaks = Peaks(torch.device("cpu"))
whole = train(SPECS, root / "asked", peaks=peaks)
taken = (peaks.of("step") or 0) - peaks.beside
for share in shares:
    print(json.dumps(eased(share, root / f"{share}", taken, whole)))
