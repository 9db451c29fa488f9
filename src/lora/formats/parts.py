"""From a file's loose tensors to checked modules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from src.lora.formats.adapter import COMPONENTS, Adapter, AdapterFileError, LoraWeights, faults, listing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


def assemble(path: Path, parts: Mapping[tuple[str, str], Mapping[str, Tensor]], problems: list[str]) -> Adapter:
    """Join the parts of each ``(component, module name)``; a missing alpha means a scale of 1.

    Raises:
        AdapterFileError: Listing ``problems`` and every module that is incomplete or does not fit together.
    """
    found: dict[str, dict[str, LoraWeights]] = {component: {} for component in COMPONENTS}
    for (component, name), part in parts.items():
        missing = [half for half in ("down", "up") if half not in part]
        if missing:
            problems.append(f"{component}.{name}: has {', '.join(sorted(part))} but no {' and no '.join(missing)}")
            continue
        alpha = part.get("alpha")
        if alpha is not None and alpha.numel() != 1:
            problems.append(f"{component}.{name}: alpha has {alpha.numel()} values, allowed is one")
            continue
        down, up = part["down"], part["up"]
        rank = float(down.shape[0]) if down.ndim else math.nan
        weights = LoraWeights(down, up, rank if alpha is None else float(alpha), part.get("dora_scale"))
        problems.extend(f"{component}.{name}: {fault}" for fault in faults(weights))
        found[component][name] = weights
    if not parts and not problems:
        problems.append("there is no LoRA module in it")
    if problems:
        raise AdapterFileError(listing(f"{path}: the file does not fit", problems))
    return Adapter(**found)
