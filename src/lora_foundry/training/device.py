"""The one device that this process trains on: its launcher says which, and no other is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lora_foundry.config.mending import unusable
from lora_foundry.training.probing import compute, is_short, reason_of

if TYPE_CHECKING:
    from lora_foundry.config.schema import TrainerConfig
    from lora_foundry.wire.commands import OwnDevice


class DeviceError(RuntimeError):
    """The device that was told is not there, or cannot compute; the message says why and what to do."""


def own_device(told: OwnDevice) -> torch.device:
    """The device that this process was told, once it has computed something.

    Raises:
        DeviceError: With torch's own reason where it cannot be used.
        RuntimeError: When others have all of its memory just now, in whatever words.
    """
    if told.kind == "cpu":
        return torch.device("cpu")
    device, begun = torch.device("cuda", 0), False
    try:
        torch.cuda.init()
        begun = True
        compute(device)
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:  # asserts how it is built
        if is_short(error, device if begun else None):  # what cannot be begun can be asked nothing
            raise
        raise DeviceError(unusable(reason_of(error))) from error
    return device


def refuse_other(asked: TrainerConfig, device: torch.device) -> None:
    """Refuse a job that wants another kind of device than this process has.

    Raises:
        ValueError: With both.
    """
    if asked.accelerator != "auto" and (asked.accelerator == "cpu") != (device.type == "cpu"):
        msg = f"trainer.accelerator: got {asked.accelerator}, but this worker was given {device.type}"
        raise ValueError(msg)
