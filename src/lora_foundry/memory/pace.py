"""How long a step will take, before any was measured.

    seconds = per_op_s * (kernels of the step + a few of each member)
            + FLOPs / flops_per_s
            + (the base read by both passes + each member's share of the bank, read and written) / bytes_per_s

Kernels and FLOPs are the trace's (:class:`lora_foundry.memory.predict.Curve`), straight lines in rows. An estimate,
good to a factor and not to a percent, until a step of the kind was measured on the device: a measurement replaces it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.files import write_json
from lora_foundry.config.surroundings import threads_asked

if TYPE_CHECKING:
    from lora_foundry.config.schema import Precision
    from lora_foundry.memory.predict import Curve

_OPS_OF_MEMBER = 24  # draws, loss, norm and clipping; counted in steps of 1 to 4 members
# Times a member's numbers are read or written: accumulated (3), their norm (1), clipped (2), AdamW (7), zeroed (1).
_PASSES = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """What a device does of its own accord.

    Attributes:
        per_op_s: Seconds that a kernel takes however small its work: Python, dispatch, autograd, launch.
        flops_per_s: Floating-point operations a second in blocks as a base has them, pointwise work included.
        bytes_per_s: Bytes a second that a pass over large tensors reads and writes.
    """

    per_op_s: float
    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class _Card:
    """TFLOP/s of dense tensor cores in 16 bits and of fp32, TB/s of memory, as NVIDIA's data sheets say.

    Cards without bf16 have two for 16 bits: fp16's, and fp32's for the emulation.
    """

    bf16: float
    fp32: float
    memory: float
    fp16: float | None = None


_CARDS = {
    "H200": _Card(989, 67, 4.8),
    "H100": _Card(989, 67, 3.35),
    "A100": _Card(312, 19.5, 1.55),
    "L40S": _Card(362, 91, 0.86),
    "L4": _Card(121, 30, 0.3),
    "A10": _Card(125, 31, 0.6),
    "V100": _Card(15.7, 15.7, 0.9, fp16=125),
    "T4": _Card(8.1, 8.1, 0.32, fp16=65),
    "4090": _Card(165, 82, 1.0),
    "3090": _Card(71, 35, 0.94),
}
_UNKNOWN_CARD = _Card(60, 10, 0.3)
_USED = 0.3  # of a card's peak, in training at the sizes of Stable Diffusion
# Steps of one row in bf16, adapters on attention, take 0.18 s for Stable Diffusion 1.5 at 512 px on cards as unlike as
# an H100 and an L40S, and 0.61 s for SDXL at 1024 px: 2,950 and 10,700 kernels, which the device waits for.
_CARD_PER_OP_S = 50e-6


def seconds_of_step(curve: Curve, rows: int, members: int, rate: Rate) -> float:
    """Estimated seconds of a step of ``members`` adapters that takes ``rows`` rows in one forward pass.

    Args:
        curve: Of the kind of step.
        rows: Of all members together.
        members: How many train in it; each steps its optimizer.
        rate: Of the device that it runs on.
    """
    ops = curve.ops + _OPS_OF_MEMBER * members
    flops = curve.flops_fixed + curve.flops_row * rows
    moved = 2 * curve.weights + _PASSES * curve.floats * curve.adapter_bytes * members
    return ops * rate.per_op_s + flops / rate.flops_per_s + moved / rate.bytes_per_s


def rate_of(device_name: str, cache: Path, *, precision: Precision = "32-true", threads: int | None = None) -> Rate:
    """What ``device_name`` does in ``precision``; a CPU is measured once (under a second) and remembered.

    A GPU's is taken from a table, on the low side: whoever plans must not open a CUDA context for it.

    Args:
        device_name: ``cpu``, or a card's name as its driver says it.
        cache: ``data.cache_dir``; a CPU's rate is kept beside the traces in its ``memory`` folder.
        precision: Lightning's name.
        threads: That the training has; null is what torch takes by itself.
    """
    if device_name != "cpu":
        return _rate_of_card(device_name, precision)
    path = _path(cache, precision, threads)
    try:
        return Rate(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        from lora_foundry.memory.calibration import measure_cpu  # a kept rate is served without torch

        rate = measure_cpu(precision, threads)
        write_json(path, dataclasses.asdict(rate))
        return rate


def _rate_of_card(name: str, precision: Precision) -> Rate:
    words = name.upper().replace("-", " ").split()
    card = next((card for part, card in _CARDS.items() if part in words), _UNKNOWN_CARD)
    others = {"64-true": card.fp32 / 32, "32-true": card.fp32, "16-mixed": card.fp16 or card.bf16}
    peak = others.get(precision, card.bf16)
    return Rate(per_op_s=_CARD_PER_OP_S, flops_per_s=_USED * peak * 1e12, bytes_per_s=0.6 * card.memory * 1e12)


def _path(cache: Path, precision: Precision, threads: int | None) -> Path:
    """Named by what decides a CPU's rate; a cache folder may be shared by machines."""
    decides = [
        _processor(),
        os.cpu_count(),
        threads or threads_asked(os.environ.get("OMP_NUM_THREADS")) or "torch's own",
        precision,
        version("torch"),
    ]
    name = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
    return cache / "memory" / f"rate-{name[:24]}.json"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        return f"{platform.machine()} {platform.processor()}"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
