"""What CPU kernels allocate inside themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_foundry.config.compose import compose_job
from lora_foundry.memory.predict import curve_of
from lora_foundry.memory.scratch import Convolutions, Spot, Spots, lines
from tests.config.chosen import optimizer

BACKWARD = torch.ops.aten.convolution_backward.default


def _arguments(rows: int, channels: int, rank: int, side: int, dtype: torch.dtype) -> list[object]:
    """Of the backward pass of an adapter's 3 x 3 convolution: gradient, input, weight and what it is told."""
    x = torch.ones(1, rows * channels, side, side, dtype=dtype)
    weight = torch.ones(rows * rank, channels, 3, 3, dtype=dtype)
    grad = torch.ones(1, rows * rank, side, side, dtype=dtype)
    return [grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], rows, [True, True, False]]


def _spot(rows: int, channels: int, rank: int, side: int, dtype: torch.dtype) -> Spot:
    spots = Spots(rows)
    spots.see(BACKWARD, _arguments(rows, channels, rank, side, dtype), None, live=0)
    return spots.found[0]


# Bytes that torch's profiler saw the kernel allocate for itself at 1, 2, 4 and 8 threads (torch 2.13, oneDNN 3.12,
# AVX-512 without AMX; which implementation oneDNN takes depends on the processor, so it is not measured here again).
MEASURED = {
    (4, 128, 8, 32, torch.bfloat16): (2949504, 2949504, 2949504, 21528960),  # 128 pixels a thread at 8
    (8, 192, 8, 16, torch.bfloat16): (2654592, 4424064, 7963008, 15040896),
    (3, 384, 8, 4, torch.bfloat16): (1438080, 2212224, 3760512, 6857088),
    (5, 128, 4, 8, torch.bfloat16): (516480, 848256, 1511808, 2838912),
    (4, 64, 4, 64, torch.bfloat16): (4866432, 4866432, 4866432, 4866432),
    (2, 128, 4, 16, torch.bfloat16): (737664, 737664, 737664, 737664),  # two groups
    (4, 128, 4, 32, torch.float32): (5013760, 5013760, 5013760, 40108288),
    (5, 128, 4, 8, torch.float32): (663808, 1327360, 2654464, 5308672),
    (4, 128, 16, 16, torch.bfloat16): (926084, 926084, 926084, 946564),  # a rank that fills a vector
}


@pytest.mark.parametrize(("shape", "measured"), MEASURED.items())
def test_it_is_what_the_kernel_was_seen_to_take(
    shape: tuple[int, int, int, int, torch.dtype], measured: tuple[int, ...]
) -> None:
    spot = _spot(*shape)
    for threads, size in zip((1, 2, 4, 8), measured, strict=True):
        assert spot.scratch(shape[0], threads) == pytest.approx(size, rel=0.04 if shape[2] == 16 else 0.001)


def test_two_traces_make_a_line_of_what_is_alive_behind_the_kernel() -> None:
    few, many = Spots(1), Spots(2)
    few.see(BACKWARD, _arguments(1, 64, 8, 16, torch.bfloat16), None, live=1000)
    many.see(BACKWARD, _arguments(2, 64, 8, 16, torch.bfloat16), None, live=1700)
    (spot,) = lines(few, many)
    assert (spot.fixed, spot.row) == (300, 700)
    weights, columns = 8 * 64 * 9, 64 * 9 * 16 * 16 * 2
    assert spot.peak(5, 1) == 300 + 5 * 700 + columns + 4 * 2 * weights * 5 * 2
    assert spot.peak(5, 3) == 300 + 5 * 700 + 3 * columns + 4 * 2 * weights * 5 * 4


def test_only_gradients_of_weights_are_looked_at() -> None:
    spots, arguments = Spots(4), _arguments(4, 64, 8, 16, torch.bfloat16)
    spots.see(BACKWARD, [*arguments[:10], [True, False, False]], None, live=0)
    spots.see(torch.ops.aten.convolution.default, arguments[1:], None, live=0)
    assert not spots.found


def test_a_forward_convolution_has_its_input_and_its_output_once_more() -> None:
    forward, inside = torch.ops.aten.convolution.default, Convolutions()
    small, large = torch.ones(1, 2, 4, 4), torch.ones(1, 8, 4, 4)
    inside.see(forward, [small], large, live=1000)
    assert inside.most == 1000 + small.nbytes + large.nbytes
    inside.see(forward, [small], small, live=1000)
    inside.see(torch.ops.aten.relu.default, [large], large, live=1300)
    inside.see(BACKWARD, [large], large, live=1300)
    assert inside.most == 1000 + small.nbytes + large.nbytes, "the most of such, and of nothing else"


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [("data.batch_size=8", "trainer.gradient_checkpointing=true"), ("data.batch_size=4",)],
)
def test_a_step_in_bf16_peaks_there_on_a_cpu_and_not_on_a_gpu(overrides: tuple[str, ...], tmp_path: Path) -> None:
    words = ("lora.rank=8", "lora.target_modules=all", "trainer.precision=bf16-mixed", *overrides)
    config = compose_job(f"data.cache_dir={tmp_path}", *words)
    curve, rows = curve_of(config), config.data.batch_size
    gpu, one, two = (curve.needs(rows, [optimizer("adamw")], cpu_threads=n).activations for n in (None, 1, 2))
    assert gpu == curve.fixed + rows * curve.row
    assert gpu < one < two
    assert curve_of(config) == curve  # read back
