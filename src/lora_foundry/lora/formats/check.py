"""Reading a written file back: an adapter counts as exported only after this."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lora_foundry.lora.formats.adapter import Adapter, ExportError, LoraWeights, listing
from lora_foundry.lora.formats.container import FILE_DTYPES, hash_problem
from lora_foundry.lora.formats.contents import read_contents
from lora_foundry.lora.formats.diffusers_file import folded
from lora_foundry.lora.formats.kohya import for_readers
from lora_foundry.lora.formats.read import load_adapter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from torch import Tensor


def check_written(path: Path, adapter: Adapter, module_names: Collection[str] | None = None) -> Adapter:
    """Compare the file at ``path`` with ``adapter``: every key, shape, alpha and value within the file's rounding.

    Args:
        path: What was written.
        adapter: What it was written from.
        module_names: As :func:`lora_foundry.lora.formats.contents.read_contents` has them.

    Returns:
        What is in the file.

    Raises:
        ExportError: Listing all that differs.
        AdapterFileError: When the file cannot be read at all.
    """
    contents = read_contents(path, module_names)
    in_file = load_adapter(contents)
    found = {(component, name): weights for component, name, weights in in_file.modules()}
    written = for_readers(adapter) if contents.is_kohya else folded(adapter)
    wanted = {(component, name): weights for component, name, weights in written.modules()}
    problems = [f"{c}.{n}: missing from the file" for c, n in wanted if (c, n) not in found]
    for (component, name), weights in found.items():
        if (component, name) not in wanted:
            problems.append(f"{component}.{name}: in the file but not in the adapter")
        else:
            faults = _differences(weights, wanted[component, name])
            problems.extend(f"{component}.{name}: {fault}" for fault in faults)
    wrong_hash = hash_problem(path)
    if wrong_hash:
        problems.append(wrong_hash)
    if problems:
        raise ExportError(
            listing(f"{path}: the file differs from the adapter; it does not count as exported", problems)
        )
    return in_file


def _differences(found: LoraWeights, expected: LoraWeights) -> Iterator[str]:
    for part in ("down", "up", "dora_scale"):
        fault = _tensor_difference(getattr(found, part), getattr(expected, part))
        if fault:
            yield f"{part} {fault}"
    exact = torch.tensor(expected.alpha, dtype=torch.float32)
    if torch.tensor(found.alpha, dtype=torch.float32) != exact:
        yield f"alpha is {found.alpha}, should be {expected.alpha}"


def _tensor_difference(found: Tensor | None, expected: Tensor | None) -> str | None:
    if found is None or expected is None:
        return None if found is expected else f"is {'missing' if found is None else 'there but should not be'}"
    if found.shape != expected.shape:
        return f"has shape {tuple(found.shape)}, should be {tuple(expected.shape)}"
    if found.dtype not in FILE_DTYPES:
        return f"has dtype {found.dtype}, should be one of {', '.join(str(d) for d in FILE_DTYPES)}"
    rounded = expected.detach().cpu().to(found.dtype)
    if torch.equal(found, rounded):
        return None
    wrong = int((found != rounded).sum())
    worst = float((found.float() - rounded.float()).abs().max())
    return f"differs in {wrong} of {found.numel()} values, by up to {worst:.3g}"
