"""What kernels allocate inside themselves, which is in no tensor.

A CPU's do while an adapter's convolution gets its weights' gradient. A trace sees operations, and a GPU has none of
this; on a CPU the profiler sees it, and in bf16 a step can peak there. The adapters' convolutions are one convolution
in as many groups as rows (``lora/kinds/lora/layers.py``). Where the channels of a group do not fill a vector (16
numbers in bf16, 8 in fp32) oneDNN takes its ``gemm`` implementation, which books

    threads * im2col + 4 bytes * (the weights' bytes) * (threads, and one more in bf16 for sums in fp32)

(oneDNN 3.12, ``src/cpu/gemm_convolution_utils.cpp``, ``init_conf``: ``key_conv_gemm_col``, ``key_conv_wei_reduction``,
``key_conv_int_dat_in_acc_dt``; the weights' size in bytes is booked as so many floats). Its threads are one where a
row's pixels a thread are 256 or more, and where there are at most two groups. Otherwise bf16 goes to
``jit_bf16:avx512_core_bf16``, which keeps the weights in fp32, and inputs and gradients twice: blocked and transposed.

A forward convolution has its input and its output once more, in the library's own order: oneDNN's blocks of channels,
and cuDNN's channels last. In a step that is little beside what the backward pass keeps; where nothing is kept, a VAE
peaks there. An H100 took 1.66 GiB to decode a picture of 512 pixels in fp32, the VAE's weights and the libraries'
workspaces included (``docs/benchmarks.md``): with this it is 1.59 that are predicted, without it 1.15. On a CPU the
process grew by 363 and 1002 MiB for pictures of 256 and 512 pixels, where tensors are 196 and 768, and 304 and 1216
are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._ops import OpOverload

_FORWARD, _BACKWARD = "aten::convolution", "aten::convolution_backward"
_PIXELS_OF_A_THREAD = 256
_VECTOR = {2: 16, 4: 8}  # numbers, by bytes of one


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """One such kernel of a step.

    Attributes:
        fixed: Bytes alive behind it in a step of no rows, beyond what stays.
        row: Bytes that each row adds to them.
        number: Bytes of one number.
        gemm: Whether groups go to oneDNN's ``gemm`` implementation.
        pixels: Of a row's output.
        columns: Bytes of one group's im2col; 0 for a kernel of one pixel.
        weights: Numbers of a group's weights.
        copies: Bytes of a row that the other implementation keeps.
    """

    fixed: int
    row: int
    number: int
    gemm: bool
    pixels: int
    columns: int
    weights: int
    copies: int

    def peak(self, rows: int, threads: int) -> int:
        """Bytes alive inside the kernel, beyond what stays."""
        return self.fixed + self.row * rows + self.scratch(rows, threads)

    def scratch(self, rows: int, threads: int) -> int:
        """Bytes that the kernel allocates for itself, in a step of ``rows`` rows."""
        if rows == 1 or not self.gemm:
            return self.copies * rows
        if rows == 2 or self.pixels >= _PIXELS_OF_A_THREAD * threads:
            threads = 1
        buffers = threads + 1 if self.number == 2 else threads
        return threads * self.columns + 4 * self.number * self.weights * rows * buffers


class Spots:
    """Finds them while a step is traced.

    Args:
        rows: Of the step.

    Attributes:
        found: In the order they ran; all that was alive is ``fixed``.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.found: list[Spot] = []

    def see(self, func: OpOverload, args: Sequence[Any], made: object, live: int) -> None:  # noqa: ARG002
        """Look at one operation and what it ``made``, behind which ``live`` bytes are alive."""
        if func.name() == _BACKWARD and args[10][1]:
            self.found.append(_spot(args, self.rows, live))


@dataclass(frozen=True, kw_only=True, slots=True)
class Alive:
    """Bytes at the height of what keeps nothing for a backward pass, beyond what stays.

    Attributes:
        tensors: Its tensors.
        inside: With what a convolution has for itself, where that is more; else the same.
    """

    tensors: int
    inside: int


class Convolutions:
    """Finds where forward convolutions take the most.

    Attributes:
        most: Bytes alive inside one, with what it has for itself.
    """

    def __init__(self) -> None:
        self.most = 0

    def see(self, func: OpOverload, args: Sequence[Any], made: Any, live: int) -> None:  # noqa: ANN401
        """Look at one operation and what it ``made``, behind which ``live`` bytes are alive."""
        if func.name() == _FORWARD:
            self.most = max(self.most, live + args[0].nbytes + made.nbytes)


def lines(few: Spots, many: Spots) -> list[Spot]:
    """The spots of one kind of step from two traces of different rows."""
    joined = []
    for one, other in zip(few.found, many.found, strict=True):
        row = (other.fixed - one.fixed) // (many.rows - few.rows)
        joined.append(replace(one, fixed=one.fixed - few.rows * row, row=row))
    return list(dict.fromkeys(joined))


def _spot(args: Sequence[Any], rows: int, live: int) -> Spot:
    """From the arguments of ``aten.convolution_backward``, whose groups are the rows."""
    grad, x, weight = args[:3]
    padding = args[5]
    number, vector = x.element_size(), _VECTOR.get(x.element_size(), 1)
    rank, channels, taps = weight.shape[0] // rows, weight.shape[1], prod(weight.shape[2:])
    pixels, filled = prod(grad.shape[2:]), -(-rank // vector) * vector
    height, width = x.shape[2:]
    weights = rank * channels * taps
    blocked = 2 * (channels * height * width + filled * pixels)
    transposed = 2 * (channels * height * (width + 2 * padding[-1]) + filled * pixels)
    return Spot(
        fixed=live,
        row=0,
        number=number,
        gemm=bool(rank % vector or channels % vector),
        pixels=pixels,
        columns=channels * taps * pixels * number if taps > 1 else 0,
        weights=weights,
        copies=4 * filled * channels * taps + blocked + transposed if number == 2 else 0,
    )
