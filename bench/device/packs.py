"""One job, K jobs as K processes, and K jobs as one pack: images a second, adapters an hour, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from bench.device.building import build, words
from bench.device.processes import Processes
from bench.device.stage import GIB, Stage
from bench.device.timing import Measured, is_full, median, step, timed
from lora_foundry.config.compose import compose_job
from lora_foundry.memory.libraries import on_card
from lora_foundry.memory.predict import curve_of
from lora_foundry.training.precision import computing, exact

_LIMIT = 0.02  # of the prediction's error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Extent:
    """How much is measured: numbers of jobs, batch sizes, seconds of a case, seconds kept for what comes behind."""

    jobs: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float
    reserve_s: float


_FULL = _Extent(jobs=(1, 2, 4, 8), batches=(1, 2, 4), seconds=2.0, reserve_s=230.0)
_SMALL = _Extent(jobs=(1, 2), batches=(1,), seconds=0.0, reserve_s=0.0)
_IEEE, _TUNED = "fp32 without TF32", "cudnn.benchmark"
_VARIANTS = (
    ("a pack of 16", 16, 1, ()),
    ("all blocks, the default", 4, 1, ("lora.target_modules=all-blocks",)),
    ("checkpointing", 4, 4, ("trainer.gradient_checkpointing=true",)),
    ("all layers", 1, 4, ("lora.target_modules=all",)),
    ("all layers", 8, 1, ("lora.target_modules=all",)),
    ("dropout", 8, 4, ("lora.dropout=0.1",)),
    ("fp32", 1, 4, ("trainer.precision=32-true",)),
    (_IEEE, 1, 4, ("trainer.precision=32-true",)),
    ("fp16", 1, 4, ("trainer.precision=16-mixed",)),
    ("fp16", 8, 1, ("trainer.precision=16-mixed",)),
    ("deterministic", 1, 4, ("trainer.deterministic=true",)),
    ("deterministic", 8, 1, ("trainer.deterministic=true",)),
    ("deterministic fp32", 1, 4, ("trainer.precision=32-true", "trainer.deterministic=true")),
    (_TUNED, 1, 1, ()),
    ("Prodigy", 1, 1, ("optimizer=prodigy", "optimizer.lr=1.0")),
    ("SDXL's size, 1024 px", 1, 1, ("model=sdxl", "data.resolution=1024")),
)
_SMALL_VARIANTS = ("a pack of 16", "fp16", "deterministic")
_VARIANT_S = 25.0  # of one, its trace included


def packs(stage: Stage) -> None:
    """The table of K and b; what comes behind it keeps its time."""
    extent, rows = (_SMALL if stage.small else _FULL), _Rows(stage)
    with Processes(max(extent.jobs), stage.device.type) as processes:
        for batch in extent.batches:
            asked = words(stage.folder, f"data.batch_size={batch}", small=stage.small)
            alone, solo = together(stage, asked, 1, extent.seconds)
            rows.begin(batch, solo)
            rows.add("one job", solo, alone)
            for count in extent.jobs[1:]:
                if stage.seconds_left() < extent.reserve_s:
                    stage.note("packs", f"batch {batch}, {count} jobs: no time left")
                    continue
                stage.free()
                rows.add(f"{count} processes", processes.measure(asked, count, batch, extent.seconds), alone * count)
                predicted, packed = together(stage, asked, count, extent.seconds)
                rows.add(f"a pack of {count}", packed, predicted)
    rows.judge()


class _Rows:
    """The table's rows, each beside one job of the same batch."""

    def __init__(self, stage: Stage) -> None:
        columns = ("batch", "jobs", "images/s", "over one job", "ms a step", "GiB of tensors", "predicted", "off by")
        base = "the embedded base" if stage.small else "Stable Diffusion 1.5's size, 512 px"
        self._stage = stage
        self._table = stage.table(f"Jobs, processes and packs on {base}", *columns, "GiB held", "adapters an hour")
        self._batch, self._errors = 0, list[float]()
        self._solo: Measured | None = None

    def begin(self, batch: int, solo: Measured | None) -> None:
        """Rows of another batch size follow."""
        self._batch, self._solo = batch, solo

    def add(self, named: str, one: Measured | None, predicted: int) -> None:
        """A row; null is a case that does not fit."""
        images, *figures = _figures(one, predicted)
        over = f"{one.images_per_s / self._solo.images_per_s:.2f}x" if one and self._solo else ""
        tail = (_gib(one.held), f"{one.adapters_an_hour(self._batch):.0f}") if one else ("", "")
        self._stage.row(self._table, str(self._batch), named, images, over, *figures, *tail)
        self._errors += _error(predicted, one)

    def judge(self) -> None:
        """The prediction against its limit, where tensors were counted."""
        if self._errors:
            worst = max(self._errors, key=abs)
            what = "predicted against allocated tensors, worst of the table"
            holds = abs(worst) <= _LIMIT
            self._stage.claim(what, f"{worst * 100:+.1f} %", f"within {_LIMIT * 100:g} %", holds=holds)


def variants(stage: Stage) -> None:
    """What else people set, as long as there is time."""
    columns = ("what", "jobs x batch", "images/s", "ms a step", "GiB of tensors", "predicted", "off by")
    table = stage.table("Other settings", *columns)
    for what, count, batch, overrides in _VARIANTS:
        if stage.small and what not in _SMALL_VARIANTS:
            continue
        if stage.seconds_left() < _VARIANT_S:
            stage.note("other settings", f"{what}: no time left")
            continue
        if stage.small:
            count, batch = min(count, 2), 1  # a CPU takes fp16 slowly  # noqa: PLW2901
        asked = words(stage.folder, f"data.batch_size={batch}", *overrides, small=stage.small)
        seconds, around = (_SMALL if stage.small else _FULL).seconds, _SWITCHED.get(what, nullcontext)
        predicted, one = together(stage, asked, count, seconds, around)
        stage.row(table, what, f"{count} x {batch}", *_figures(one, predicted))


@contextmanager
def _tuned() -> Iterator[None]:
    """Convolutions are tried before one is chosen, for a while."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


_SWITCHED: dict[str, Callable[[], AbstractContextManager[None]]] = {_IEEE: exact, _TUNED: _tuned}


def together(
    stage: Stage,
    asked: list[str],
    count: int,
    seconds: float,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[int, Measured | None]:
    """Predicted bytes of tensors, and what a pack of ``count`` took; None where the card has too little memory.

    Torch's switches are those of a training, and then what ``around`` says.
    """
    config = compose_job(*asked)
    rows = count * config.data.batch_size
    predicted = curve_of(config).needs(rows, [config.optimizer] * count, on_card()).allocated
    stage.free()
    if not stage.small:
        torch.cuda.reset_peak_memory_stats(stage.device)
    try:
        with computing(config.trainer, stage.device), around():
            _, pack = build(asked, count, stage.device)
            step_s = median(timed(lambda: step(pack), stage.sync, seconds))
            pack.close()
    except Exception as error:
        if not is_full(error):
            raise
        return predicted, None
    return predicted, Measured(
        step_s=step_s,
        images_per_s=rows / step_s,
        tensors=None if stage.small else torch.cuda.max_memory_allocated(stage.device),
        held=None if stage.small else torch.cuda.max_memory_reserved(stage.device),
    )


def _figures(one: Measured | None, predicted: int) -> tuple[str, str, str, str, str]:
    """Images a second, ms a step, GiB, predicted GiB, the prediction's error."""
    if one is None:
        return "out of memory", "", "", _gib(predicted), ""
    off = "".join(f"{error * 100:+.1f} %" for error in _error(predicted, one))
    return f"{one.images_per_s:.2f}", f"{one.step_s * 1e3:.0f}", _gib(one.tensors), _gib(predicted), off


def _error(predicted: int, one: Measured | None) -> list[float]:
    """The prediction's relative error, where there is something to hold it against."""
    return [predicted / one.tensors - 1] if one is not None and one.tensors else []


def _gib(size: int | None) -> str:
    return "" if size is None else f"{size / GIB:.2f}"
