"""Beginning with the weights of an adapter's file (``lora.init_from``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lora_foundry.config.components import split_name
from lora_foundry.config.given import is_given, words_of
from lora_foundry.config.paths import locate
from lora_foundry.lora.bank import by_layer
from lora_foundry.lora.formats.adapter import AdapterError, AdapterFileError
from lora_foundry.lora.formats.read import load_adapter
from lora_foundry.lora.formats.values import value_problems
from lora_foundry.lora.init_from import Wanted, look_at
from lora_foundry.lora.kinds import kind_choice
from lora_foundry.models.targets import kinds_of, presets_of, resolve_targets
from lora_foundry.training.job_config import read_changes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lora_foundry.config.schema import LoraConfig
    from lora_foundry.lora.formats.adapter import Adapter
    from lora_foundry.models.protocol import BaseFiles
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack


class StartError(AdapterError):
    """An adapter that a job cannot go on from; the message lists every reason."""


def check_start(lora: LoraConfig, folder: Path, files: BaseFiles) -> list[str]:
    """Read the file that a job begins with, if any, before its base is loaded.

    Args:
        lora: The job's adapter.
        folder: The job's folder.
        files: Its base.

    Returns:
        A line for whatever of the file will not be used.

    Raises:
        StartError: With every reason why the job cannot go on from it.
    """
    if lora.init_from is None:
        return []
    return _read(lora, folder, files.layers())[1]


def start_from(pack: Pack, member: Member) -> list[str]:
    """Set the member's weights to those of its file, at the job's own alpha and rank.

    Returns:
        A line for what was lost where the rank became smaller.

    Raises:
        StartError: With every reason why the job cannot go on from it.
    """
    lora = member.config.lora
    adapter, _ = _read(lora, member.folder, _shapes(pack))
    row = pack.bank.weights[pack.bank.place(member.name)]
    kind, fresh = kind_choice(lora.kind), by_layer(pack.bank.unpack(row, member.name))
    begun = {name: kind.begun(weights, fresh[name], lora) for name, weights in adapter.unet.items()}
    tensors = {f"{name}.{part}": value for name, one in begun.items() for part, value in one.parts.items()}
    lost, whole = sum(one.lost for one in begun.values()), sum(one.whole for one in begun.values())
    try:
        pack.bank.fill(row, tensors, member.name)
    except ValueError as error:
        msg = f"lora.init_from={lora.init_from} does not fit this base: {error}"
        raise StartError(msg) from error
    if not lost:
        return []
    apart = math.sqrt(lost / whole)
    return [
        f"lora.init_from={lora.init_from}: brought down to lora.rank={lora.rank}, it begins {apart:.1%} away from the "
        "file's update (in norm)"
    ]


def _read(lora: LoraConfig, folder: Path, layers: Mapping[str, tuple[int, ...]]) -> tuple[Adapter, list[str]]:
    path = locate(str(lora.init_from))
    outlook = look_at(path, _wanted(lora, folder, layers))
    if outlook.contents is None or outlook.problems:
        raise StartError("\n".join(outlook.problems))
    try:
        adapter = load_adapter(outlook.contents)
    except (AdapterFileError, OSError) as error:
        msg = f"lora.init_from: {error}"
        raise StartError(msg) from error
    wrong = value_problems(adapter)
    if wrong:
        raise StartError("\n".join(f"lora.init_from={path}: {line}" for line in wrong))
    return adapter, list(outlook.warnings)


def _wanted(lora: LoraConfig, folder: Path, layers: Mapping[str, tuple[int, ...]]) -> Wanted:
    kinds = kinds_of(layers)
    given = is_given("lora.rank", lora.rank, words_of(folder)) or "lora.rank" in read_changes(folder)
    targets = resolve_targets(kinds, lora.target_modules)
    return Wanted(rank=lora.rank, rank_is_given=given, layers=layers, targets=targets, presets=presets_of(kinds))


def _shapes(pack: Pack) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of the base's layers, whatever was put in since."""
    shapes = {}
    networks = pack.base.components
    for name in pack.base.layers:
        component, inner = split_name(networks, name)
        module: Any = networks[component].get_submodule(inner)
        shapes[name] = tuple(getattr(module, "base_layer", module).weight.shape)
    return shapes
