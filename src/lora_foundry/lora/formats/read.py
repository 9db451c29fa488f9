"""Reading an adapter file of any image format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.lora.formats.adapter import COMPONENTS, Adapter, AdapterFileError, LoraWeights, faults, listing
from lora_foundry.lora.formats.container import open_tensors
from lora_foundry.lora.formats.contents import Contents, Module, read_contents
from lora_foundry.lora.formats.peft_config import alpha_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor


def read_adapter(path: Path, module_names: Collection[str] | None = None) -> Adapter:
    """Read ``path`` as it is: dtypes are kept, a missing alpha means scale 1.

    Args:
        path: A ``.safetensors`` file in kohya's or diffusers' names, or a folder that PEFT or diffusers saved.
        module_names: As :func:`lora_foundry.lora.formats.contents.read_contents` has them.

    Raises:
        FileNotFoundError: When there is no such file.
        AdapterFileError: With everything that is wrong with the file at once.
    """
    return load_adapter(read_contents(path, module_names))


def load_adapter(contents: Contents) -> Adapter:
    """Read the tensors of a file whose header was read.

    Raises:
        AdapterFileError: When it cannot be read, or an alpha is not finite.
    """
    found: dict[str, dict[str, LoraWeights]] = {component: {} for component in COMPONENTS}
    problems: list[str] = []
    with open_tensors(contents.path) as tensors:
        for module, parts in contents.modules.items():
            component, name = module
            weights = _weights(contents, module, {part: tensors(one.key) for part, one in parts.items()})
            problems.extend(f"{component}.{name}: {fault}" for fault in faults(weights))
            found[component][name] = weights
    if problems:
        raise AdapterFileError(listing(f"{contents.path}: the file does not fit", problems))
    return Adapter(**found)


def _weights(contents: Contents, module: Module, parts: Mapping[str, Tensor]) -> LoraWeights:
    component, name = module
    down, magnitudes = parts["down"], parts.get("dora_scale")
    rank, config = int(down.shape[0]), contents.configs.get(component)
    if "alpha" in parts:
        alpha = float(parts["alpha"])
    else:
        alpha = float(rank) if config is None else alpha_of(config, name, rank)
    if magnitudes is not None:
        magnitudes = magnitudes.reshape(-1, *([1] * (down.ndim - 1)))
    return LoraWeights(down, parts["up"], alpha, magnitudes)
