"""What ``trainer.precision=auto`` stands for: the quickest precision that a device computes by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lora_foundry.config.schema import JobConfig, Precision

AUTO: Precision = "auto"
# In the order of what they ask of a device, the least first.
CHOSEN: tuple[Precision, ...] = ("32-true", "16-mixed", "bf16-mixed")
_BF16_SINCE = 8  # compute capability 8.0, Ampere: below it torch converts to fp32 and back around every product
# AMD's with bf16 in their matrix units: MI100, MI200, MI300, MI350, RDNA 3 and 4. RDNA 2 (gfx103) has none.
_BF16_ROCM = ("gfx908", "gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")


def of_cuda(capability: tuple[int, ...] | None) -> Precision:
    """What suits a card of NVIDIA's; of one that does not tell what it can, what all can.

    ``torch.cuda.is_bf16_supported()`` is not asked: it says True of a T4 (7.5), which emulates bf16.

    Args:
        capability: Its compute capability, such as (8, 9).
    """
    return "bf16-mixed" if capability is not None and capability[0] >= _BF16_SINCE else "16-mixed"


def of_rocm(architecture: str) -> Precision:
    """What suits a card of AMD's, by torch's ``gcnArchName`` (``gfx90a:sramecc+:xnack-``)."""
    return "bf16-mixed" if architecture.startswith(_BF16_ROCM) else "16-mixed"


def of_all(devices: Iterable[Precision]) -> Precision:
    """What suits every one of them: a pack may go to any."""
    return min(devices, key=CHOSEN.index)


def with_precision(config: JobConfig, here: Precision) -> JobConfig:
    """``config`` with a precision to compute in: its own, or ``here`` where it leaves that to the device."""
    if config.trainer.precision != AUTO:
        return config
    precision: Precision = "32-true" if config.trainer.accelerator == "cpu" else here
    return replace(config, trainer=replace(config.trainer, precision=precision))


def possible(config: JobConfig) -> list[JobConfig]:
    """What ``config`` may become, on whatever device; itself alone where it names its precision."""
    return list(dict.fromkeys(with_precision(config, precision) for precision in CHOSEN))


def emulated(asked: Precision, here: Precision) -> str | None:
    """Why a job in ``asked`` is slow on a device that ``here`` suits; null where it is not."""
    if not (asked.startswith("bf16") and here == "16-mixed"):
        return None
    why = "not every card here computes bf16 by itself, and emulating it is slow"
    return f"trainer.precision={asked}: {why}; auto is {here} here"


def chosen(here: Precision) -> str:
    """What is said where jobs leave it to the device."""
    why = {
        "32-true": "which suits a CPU",
        "16-mixed": "since not every card here computes bf16 by itself",
        "bf16-mixed": "which every card here computes by itself",
    }
    return f"trainer.precision=auto is {here} here, {why[here]}"


def kept(began: Precision, here: Precision) -> str:
    """What is said of a job that goes on where ``auto`` would be another."""
    return f"goes on in {began}, in which it began; trainer.precision=auto is {here} here"
