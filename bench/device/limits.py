"""The memory ladder under limits, and what drawing takes beside training."""

from __future__ import annotations

import json
import time
from typing import Any

import torch

from bench import PROJECT_ROOT
from bench.device.building import build, words
from bench.device.stage import GIB, Stage
from lora_foundry.memory.ladder import Ladder
from lora_foundry.memory.limit import set_limit
from lora_foundry.memory.watch import Watch
from lora_foundry.training.pack import Pack
from lora_foundry.training.pack_step import run_step
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import MemoryEvent

_MEMBERS = _BATCH = 4
_LIMITS_GIB = (8.0, 4.5, 3.0, 2.4)
_PICTURES = (1, 2, 4, 8)  # one or two are what drawing decodes at once


def ladder(stage: Stage) -> None:
    """Two steps of a pack that does not fit within four limits."""
    columns = ("limit, GiB", "rungs taken", "members that stepped", "GiB held", "s of two steps")
    table = stage.table(f"A pack of {_MEMBERS} of batch {_BATCH} under a limit", *columns)
    for limit in (None,) if stage.small else (None, *_LIMITS_GIB):
        _, pack = build(words(stage.folder, f"data.batch_size={_BATCH}", small=stage.small), _MEMBERS, stage.device)
        stage.free()
        watch, sink = Watch(), ListSink(stage.folder)
        pack.relief = Ladder(sink, {member.job: member.config for member in pack.members}, watch.check)
        set_limit(limit, stage.device, watch)
        try:
            cells = _climb(stage, pack, sink)
        finally:
            set_limit(None, stage.device, watch)
        stage.row(table, "none" if limit is None else f"{limit:g}", *cells)
        pack.close()
        stage.free()


def _climb(stage: Stage, pack: Pack, sink: ListSink) -> tuple[str, str, str, str]:
    if not stage.small:
        torch.cuda.reset_peak_memory_stats(stage.device)
    start = time.perf_counter()
    run_step(pack)
    stepped = [member.name for member in run_step(pack).stepped]
    stage.sync()
    taken = time.perf_counter() - start
    rungs = dict.fromkeys(event.rung for event in sink.events if isinstance(event, MemoryEvent))
    held = "" if stage.small else f"{torch.cuda.max_memory_reserved(stage.device) / GIB:.2f}"
    return ", ".join(rungs) or "none", f"{len(stepped)} of {_MEMBERS}", held, f"{taken:.2f}"


def decoding(stage: Stage) -> None:
    """The peak of decoding pictures in fp32, the base's denoiser not counted."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    table = stage.table("Decoding pictures in fp32", "pictures", "px", "GiB at the peak", "s")
    root = PROJECT_ROOT / "assets" / ("tiny-sd" if stage.small else "sd15-config")
    config: dict[str, Any] = json.loads((root / "vae" / "config.json").read_text())
    vae: Any = AutoencoderKL.from_config(config)  # type: ignore[no-untyped-call]
    vae = vae.to(stage.device).eval()
    side = 16 if stage.small else 64
    for count in _PICTURES[:1] if stage.small else _PICTURES:
        latents = torch.randn(count, config["latent_channels"], side, side, device=stage.device)
        if not stage.small:
            torch.cuda.reset_peak_memory_stats(stage.device)
        start = time.perf_counter()
        with torch.no_grad():
            pictures = vae.decode(latents).sample
        stage.sync()
        taken = time.perf_counter() - start
        peak = "" if stage.small else f"{torch.cuda.max_memory_allocated(stage.device) / GIB:.2f}"
        stage.row(table, str(count), str(pictures.shape[-1]), peak, f"{taken:.2f}")
