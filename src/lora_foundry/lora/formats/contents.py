"""What is in an adapter's file, told from its header: modules, shapes, ranks, kinds. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_foundry.config.tensorfile import TensorFileError, read_tensor_header
from lora_foundry.lora.formats.adapter import AdapterFileError, listing, shape_faults
from lora_foundry.lora.formats.keys import Sorted, sort_keys
from lora_foundry.lora.formats.peft_config import CONFIG_FILE, config_beside, config_problems, configs_in

Module = tuple[str, str]
"""Component and dotted name."""
_IN_FOLDERS = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One tensor of a module: its key in the file, and its shape."""

    key: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """An adapter's file, its tensors not read.

    Attributes:
        path: The file.
        modules: The parts of each module, by name (``down``, ``up``, ``alpha``, ``dora_scale``).
        configs: PEFT's configuration of each component, where there is one.
        embeddings: Keys of embeddings that lie in the file as well; they are no part of the adapter.
        is_kohya: Whether the keys are kohya's.
    """

    path: Path
    modules: Mapping[Module, Mapping[str, Part]]
    configs: Mapping[str, Mapping[str, Any]]
    embeddings: tuple[str, ...]
    is_kohya: bool

    def rank(self, module: Module) -> int:
        """A module's rank."""
        return self.modules[module]["down"].shape[0]

    def ranks(self) -> list[int]:
        """The ranks that there are, smallest first."""
        return sorted({self.rank(module) for module in self.modules})

    def update_shape(self, module: Module) -> tuple[int, ...]:
        """Shape of the weight that a module's update is added to."""
        parts = self.modules[module]
        return (parts["up"].shape[0], *parts["down"].shape[1:])


def find_file(path: Path) -> Path:
    """The adapter's file: ``path`` itself, or the one in a folder that PEFT or diffusers saved.

    Raises:
        FileNotFoundError: When there is nothing.
        AdapterFileError: When it is no safetensors file, or the folder holds none.
    """
    if path.is_dir():
        found = next((path / name for name in _IN_FOLDERS if (path / name).is_file()), None)
        if found is None:
            there = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
            raise AdapterFileError(f"{path}: got a folder with {there}; allowed is one with {' or '.join(_IN_FOLDERS)}")
        return found
    if path.suffix != ".safetensors":
        raise AdapterFileError(
            f"{path}: got a {path.suffix or 'nameless'} file, allowed is .safetensors only (a pickle can run code "
            "when it is opened); convert it with a tool you trust"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such adapter file")
    return path


def read_contents(path: Path, module_names: Collection[str] | None = None) -> Contents:
    """Read the header of ``path`` and say what is in the file.

    Args:
        path: A ``.safetensors`` file in kohya's or diffusers' names, or a folder that PEFT or diffusers saved.
        module_names: Dotted names of the live UNet's modules, to resolve kohya's underscores and to refuse
            modules it does not have; None takes the grammar of diffusers' names alone.

    Raises:
        FileNotFoundError: When there is no such file.
        AdapterFileError: With everything that is wrong with the file at once.
    """
    file = find_file(path)
    try:
        header = read_tensor_header(file)
    except TensorFileError as error:
        raise AdapterFileError(f"{error} (not an intact safetensors file)") from error
    shapes = header.shapes()
    found = sort_keys(file, shapes, module_names)
    configs: dict[str, dict[str, Any]] = configs_in(file, header.metadata)
    if file.name == _IN_FOLDERS[0] and (file.parent / CONFIG_FILE).exists():
        configs = {"unet": config_beside(file.parent), **configs}
    elif path.is_dir() and file.name == _IN_FOLDERS[0]:
        raise AdapterFileError(f"{path / CONFIG_FILE}: missing; alpha stands there, copy it as well")
    modules = _modules(found, shapes)
    problems = [*found.problems, *(line for config in configs.values() for line in config_problems(config))]
    problems += [f"{c}.{name}: {line}" for (c, name), parts in modules.items() for line in _faults(parts)]
    if not modules and not problems:
        problems.append("there is no LoRA module in it")
    if problems:
        raise AdapterFileError(listing(f"{file}: the file does not fit", problems))
    return Contents(path=file, modules=modules, configs=configs, embeddings=found.embeddings, is_kohya=found.is_kohya)


def _modules(found: Sorted, shapes: Mapping[str, tuple[int, ...]]) -> dict[Module, dict[str, Part]]:
    modules: dict[Module, dict[str, Part]] = {}
    for key, place in found.places.items():
        modules.setdefault((place.component, place.module), {})[place.part] = Part(key=key, shape=shapes[key])
    return modules


def _faults(parts: Mapping[str, Part]) -> list[str]:
    missing = [half for half in ("down", "up") if half not in parts]
    if missing:
        return [f"has {', '.join(sorted(parts))} but no {' and no '.join(missing)}"]
    if "alpha" in parts and math.prod(parts["alpha"].shape) != 1:
        return [f"alpha has {math.prod(parts['alpha'].shape)} values, allowed is one"]
    down, up = parts["down"].shape, parts["up"].shape
    magnitudes = parts.get("dora_scale")
    shape = None if magnitudes is None else magnitudes.shape
    if shape is not None and math.prod(shape) == up[0] and "lora_magnitude_vector" in magnitudes.key:  # type: ignore[union-attr]
        shape = (up[0], *([1] * (len(down) - 1)))  # PEFT keeps them in other shapes
    return shape_faults(down, up, shape)
