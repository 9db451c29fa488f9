"""What a step could take if its kernels were launched at once: forward and backward of one batch as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.device.building import build, words
from bench.device.stage import Stage
from bench.device.timing import median, timed
from lora_foundry.training.batch import assemble
from lora_foundry.training.pack import Pack

_CASES = ((1, 1), (4, 1), (8, 1), (1, 4))
_WARM_UP = 3


def graphs(stage: Stage) -> None:
    """A bound, not a way to train: the batch, its members and its memory are those that were captured."""
    if stage.small:
        stage.note("graphs", "a CPU has none")
        return
    table = stage.table("Forward and backward, and the same replayed", "jobs x batch", "ms", "replayed, ms", "over")
    for count, batch in _CASES:
        _, pack = build(words(stage.folder, f"data.batch_size={batch}", small=False), count, stage.device)
        call = _forward_and_backward(pack)
        eager = median(timed(call, stage.sync, 1.0)) * 1e3
        replayed = median(timed(_captured(call).replay, stage.sync, 1.0)) * 1e3
        stage.row(table, f"{count} x {batch}", f"{eager:.1f}", f"{replayed:.1f}", f"{eager / replayed:.2f}x")
        pack.close()
        stage.free()


def _forward_and_backward(pack: Pack) -> Callable[[], None]:
    kind, device = pack.dtypes.base, pack.device
    batch = assemble(pack.task, pack.members, pack.bank, dtype=pack.dtypes.adapter)
    inputs = batch.rows.inputs
    states = inputs["encoder_hidden_states"].to(device, kind)
    noise, timesteps = inputs["noise"].to(device, kind), inputs["timesteps"].to(device)

    def call() -> None:
        with pack.bank.rows(batch.plan):
            out = pack.base.components["unet"](noise, timesteps, encoder_hidden_states=states, return_dict=False)[0]
            out.float().square().mean().backward()

    return call


def _captured(call: Callable[[], None]) -> torch.cuda.CUDAGraph:
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph
