"""One process on the card: trains untrained weights of a base's real size for a while and tells how it went.

Started by ``bench.gpu``, which starts several of them at once to measure K processes. It says that it is ready, waits
for a line, trains, says what it measured as JSON, and stays until its standard input ends, so that the memory of all
is there at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers.models.unets.unet_2d_condition  # noqa: F401  # of the program's memory, not of the training's
import torch

from src.config.compose import compose_job
from src.data.encoding import EncodedData
from src.data.order import SampleOrder
from src.memory.peak import Peak
from src.models.opening import open_sizes
from src.training.member import Member, Provenance
from src.training.pack import Pack
from src.training.pack_step import run_step
from src.training.precision import DTYPES
from src.training.shortage import is_out_of_memory

if TYPE_CHECKING:
    from src.config import JobConfig
    from src.models.protocol import BaseSizes

IMAGES, WARM_UP, LEAST_STEPS = 16, 3, 3
FOR_EVER = 1_000_000


class FullError(Exception):
    """The card has no memory left."""


def main() -> None:
    """Read a task from the first line, build, train, tell."""
    task = json.loads(sys.stdin.readline())
    device = torch.device("cuda" if torch.cuda.is_available() and not task["small"] else "cpu")
    context = _context(device)
    peak = Peak(device)
    try:
        step = build(compose_job(*task["overrides"]), task["members"], device)
        for _ in range(WARM_UP):
            step()
        _say({"ready": True})
        if sys.stdin.readline():
            found = train(step, task["seconds"], device)
            highest, before = peak.read()
            _say({**found, "peak": highest - before, "held": _held(device, highest - before), "context": context})
    except FullError as error:
        _say({"full": str(error)})
    sys.stdin.read()


def build(config: JobConfig, members: int, device: torch.device) -> Callable[[], None]:
    """A call that takes one step of a pack: draws, forward, backward, clipping, AdamW."""
    sizes = open_sizes(config.model)
    try:
        denoiser = sizes.build(DTYPES[config.trainer.precision].base)
        for tensor in (*denoiser.module.parameters(), *denoiser.module.buffers()):
            torch.nn.init.normal_(tensor, std=0.02)
        denoiser.module.to(device)
        denoiser.set_gradient_checkpointing(enabled=config.trainer.gradient_checkpointing)
        data = random_data(config, sizes, denoiser.latent_channels)
        pack = Pack(denoiser, [member_of(config, number, data) for number in range(members)])
    except Exception as error:
        if is_out_of_memory(error):
            raise FullError(str(error)) from error
        raise

    def step() -> None:
        failed = run_step(pack).failed
        if failed:
            raise FullError(str(failed[0].error))

    return step


def random_data(config: JobConfig, sizes: BaseSizes, channels: int) -> EncodedData:
    """Encoded images of the right shapes; their values do not change how long a step takes."""
    side = config.data.resolution // sizes.pixels_per_cell
    draw = torch.Generator().manual_seed(0)
    variants = config.data.crop_variants * (2 if config.data.flip else 1)
    return EncodedData(
        latents=torch.randn(IMAGES, variants, channels, side, side, generator=draw),
        captions={
            name: torch.randn(states.shape, generator=draw)
            for name, states in sizes.conditioning(IMAGES + 1, torch.float32).items()
        },
        caption_index=torch.arange(IMAGES),
        records=(),
    )


def member_of(config: JobConfig, number: int, data: EncodedData) -> Member:
    """A member that trains for ever and writes nothing."""
    return Member(
        job=number,
        name=f"member{number}",
        folder=Path(),
        config=config,
        train=data,
        validation=data,
        prompts=None,
        provenance=Provenance(base_hash="", data_hash="", started_at=0.0),
        order=SampleOrder.of(config.data, seed=number, n_images=IMAGES),
        total_steps=FOR_EVER,
    )


def train(step: Callable[[], None], seconds: float, device: torch.device) -> dict[str, Any]:
    """Take steps for ``seconds``, and at least :data:`LEAST_STEPS`."""
    _finish(device)
    start, steps = time.perf_counter(), 0
    while steps < LEAST_STEPS or time.perf_counter() - start < seconds:
        step()
        steps += 1
    _finish(device)
    return {"steps": steps, "seconds": time.perf_counter() - start}


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _context(device: torch.device) -> int:
    """Bytes of the card that are taken before any tensor, by this process and those that start beside it."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _held(device: torch.device, peak: int) -> int:
    """Bytes that the allocator keeps from others."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else peak


def _say(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
