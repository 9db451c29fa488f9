"""Where a step's time goes, and what the adapters' convolutions cost in groups and dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from bench.device.building import build, words
from bench.device.stage import Stage
from bench.device.timing import median, step, timed

_PROFILED, _TOP = 2, 10
_CASES = ((1, 1, "attention"), (8, 1, "attention"), (1, 4, "attention"), (4, 1, "all"))
_LAUNCHES, _COPIES, _WAITS = ("LaunchKernel",), ("cudaMemcpyAsync",), ("Synchronize",)  # in names of CUDA's calls
_SHAPES = ((320, 64), (640, 32), (1280, 16))  # channels and side of SD 1.5's levels at 512 px
_ROWS = ((1, 4), (8, 1), (8, 4))
_RANK = 8


def profiled(stage: Stage) -> None:
    """The most expensive kernels, and the share of a step in which the host keeps the card waiting."""
    summary = stage.table(
        "Host and card",
        "jobs x batch",
        "targets",
        "ms a step",
        "card ms",
        "host's share",
        "launches",
        "copies",
        "waits",
    )
    for count, batch, targets in _CASES[:1] if stage.small else _CASES:
        asked = [f"data.batch_size={batch}", f"lora.target_modules={targets}"]
        _, pack = build(words(stage.folder, *asked, small=stage.small), count, stage.device)
        step_s = median(timed(lambda pack=pack: step(pack), stage.sync, 0.0 if stage.small else 1.0))  # type: ignore[misc]
        kinds = [ProfilerActivity.CPU] + ([] if stage.small else [ProfilerActivity.CUDA])
        with profile(activities=kinds) as found:
            for _ in range(_PROFILED):
                step(pack)
            stage.sync()
        events = [event for event in found.key_averages() if stage.small or event.device_type != DeviceType.CPU]
        busy_ms = sum(_own_us(stage, event) for event in events) / 1e3 / _PROFILED
        calls = [str(_calls(list(found.key_averages()), *names)) for names in (_LAUNCHES, _COPIES, _WAITS)]
        shape = f"{count} x {batch}"
        waits = "" if stage.small else f"{max(0.0, 1 - busy_ms / (step_s * 1e3)) * 100:.0f} %"
        stage.row(summary, shape, targets, f"{step_s * 1e3:.1f}", f"{busy_ms:.1f}", waits, *calls)
        _kernels(stage, f"Kernels of {shape} on {targets}, a step", events)
        pack.close()
        stage.free()


def convolutions(stage: Stage) -> None:
    """The packed layer's A as one convolution in groups, against one dense convolution with all members' filters."""
    columns = ("channels", "side", "jobs x batch", "in groups, ms", "dense, ms", "dense / groups")
    table = stage.table("Forward and backward of an adapter's 3x3 convolution, rank 8", *columns)
    dtype = torch.float32 if stage.small else torch.bfloat16
    for channels, side in ((32, 16),) if stage.small else _SHAPES:
        for members, batch in _ROWS[:2] if stage.small else _ROWS:
            shape = (members * batch, channels, side, side)
            pictures = torch.randn(shape, device=stage.device, dtype=dtype, requires_grad=True)
            filters = torch.randn(members, _RANK, channels, 3, 3, device=stage.device, dtype=dtype, requires_grad=True)
            calls = _grouped(pictures, filters, batch), _dense(pictures, filters, batch)
            grouped, dense = (median(timed(call, stage.sync, 0.05)) * 1e3 for call in calls)
            figures = f"{grouped:.2f}", f"{dense:.2f}", f"{dense / grouped:.2f}"
            stage.row(table, str(channels), str(side), f"{members} x {batch}", *figures)


def _grouped(pictures: torch.Tensor, filters: torch.Tensor, batch: int) -> Callable[[], None]:
    rows, channels, *side = pictures.shape
    place = torch.arange(len(filters), device=pictures.device).repeat_interleave(batch)

    def call() -> None:
        mine = filters.index_select(0, place).flatten(0, 1)
        functional.conv2d(pictures.reshape(1, rows * channels, *side), mine, padding=1, groups=rows).sum().backward()  # type: ignore[no-untyped-call]

    return call


def _dense(pictures: torch.Tensor, filters: torch.Tensor, batch: int) -> Callable[[], None]:
    rows, _, *side = pictures.shape
    place = torch.arange(len(filters), device=pictures.device).repeat_interleave(batch)
    row = torch.arange(rows, device=pictures.device)

    def call() -> None:
        every = functional.conv2d(pictures, filters.flatten(0, 1), padding=1)
        every.view(rows, len(filters), _RANK, *side)[row, place].sum().backward()  # type: ignore[no-untyped-call]

    return call


def _kernels(stage: Stage, title: str, events: list[Any]) -> None:
    table = stage.table(title, "kernel", "ms", "calls")
    for event in sorted(events, key=lambda event: -_own_us(stage, event))[:_TOP]:
        own = _own_us(stage, event) / 1e3 / _PROFILED
        stage.row(table, event.key[:70], f"{own:.2f}", f"{event.count / _PROFILED:g}")


def _calls(events: list[Any], *names: str) -> int:
    found = (event for event in events if event.key.startswith("cu") and any(name in event.key for name in names))
    return sum(event.count for event in found) // _PROFILED


# An operator of the host is given the time of its kernels too: on a card only the kernels themselves are summed.
def _own_us(stage: Stage, event: Any) -> float:  # noqa: ANN401  # torch's FunctionEventAvg
    return float(event.self_cpu_time_total if stage.small else event.self_device_time_total)
