"""Which layers of a base get an adapter."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lora_foundry.config.components import named_layers
from lora_foundry.config.schema import PRESETS

if TYPE_CHECKING:
    from torch import nn

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")


def target_layers(networks: Mapping[str, nn.Module]) -> dict[str, str]:
    """Every layer of a base's networks that an adapter can target, in their order.

    Returns:
        Dotted name (:mod:`lora_foundry.config.components`) to ``linear``, ``conv1x1`` or ``conv``.
    """
    from torch import nn  # tokens and hashes are served without torch

    layers: dict[str, str] = {}
    for name, layer in named_layers(networks):
        if isinstance(layer, nn.Linear):
            layers[name] = "linear"
        elif isinstance(layer, nn.Conv2d):
            layers[name] = "conv1x1" if layer.kernel_size == (1, 1) else "conv"
    return layers


def kinds_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """What :func:`target_layers` says of the layers, told from the shapes of their weights alone."""
    return {
        name: "linear" if len(shape) == 2 else "conv1x1" if shape[2:] == (1, 1) else "conv"
        for name, shape in shapes.items()
    }


def presets_of(layers: Mapping[str, str]) -> dict[str, list[str]]:
    """What each preset stands for on a base; it may lack all layers of one, which is left out then.

    Args:
        layers: From :func:`target_layers`.
    """
    found = {}
    for preset in PRESETS:
        with suppress(ValueError):
            found[preset] = resolve_targets(layers, preset)
    return found


def resolve_targets(layers: Mapping[str, str], target_modules: str | Sequence[str]) -> list[str]:
    """The layers that a preset or a list of endings stands for.

    ``attention`` is what the LoRA paper adapts (Hu et al. 2021, section 4.2) with the output projection;
    ``attention-mlp`` adds the feed-forward layers; ``all-linear`` adds the projections into and out of each
    transformer (1x1 convolutions in Stable Diffusion 1) and the time embeddings. ``all-blocks`` is every layer of the
    down, mid and up blocks, convolutions included: all that every reader of adapter files reads (docs/formats.md).
    ``all`` is every linear layer and convolution.

    Args:
        layers: From :func:`target_layers`.
        target_modules: A preset's name, or endings such as ``to_q`` and ``ff.net.0.proj``, matched at dots.

    Returns:
        Sorted dotted names.

    Raises:
        ValueError: When an ending, or the whole preset, matches nothing; all such endings at once.
    """
    if isinstance(target_modules, str):
        return _preset(layers, target_modules)
    found: set[str] = set()
    problems: list[str] = []
    for ending in target_modules:
        names = [name for name in layers if _ends(name, (ending,))]
        found.update(names)
        if not names:
            problems.append(_no_match(layers, ending))
    if not target_modules:
        problems.append("lora.target_modules: got an empty list, allowed is at least one ending")
    if problems:
        raise ValueError("\n".join(problems))
    return sorted(found)


def _preset(layers: Mapping[str, str], preset: str) -> list[str]:
    chosen: dict[str, Callable[[str, str], bool]] = {
        "attention": lambda name, _: _ends(name, ATTENTION),
        "attention-mlp": lambda name, _: _ends(name, ATTENTION + FEED_FORWARD),
        "all-linear": lambda name, kind: kind == "linear" or (kind == "conv1x1" and _ends(name, PROJECTIONS)),
        "all-blocks": lambda name, _: name.startswith(BLOCKS),
        "all": lambda _name, _kind: True,
    }
    if preset not in chosen:
        allowed = ", ".join(PRESETS)
        msg = f"lora.target_modules: got {preset!r}, allowed is one of {allowed}, or a list of endings"
        raise ValueError(msg)
    names = sorted(name for name, kind in layers.items() if chosen[preset](name, kind))
    if not names:
        msg = f"lora.target_modules: the preset {preset!r} matches no layer of this base; give a list of endings"
        raise ValueError(msg)
    return names


def _ends(name: str, endings: Sequence[str]) -> bool:
    return any(name == ending or name.endswith("." + ending) for ending in endings)


def _no_match(layers: Mapping[str, str], ending: str) -> str:
    known = _endings(layers)
    near = difflib.get_close_matches(ending, known, n=3, cutoff=0.5)
    near += [full for full in known if ending and f".{ending}." in f".{full}." and full not in near][: 3 - len(near)]
    hint = f"; near ones: {', '.join(near)}" if near else f"; for example {', '.join(known[:4])}"
    return (
        f"lora.target_modules: got the ending {ending!r}, which no linear layer or convolution of this base has; "
        f"allowed is an ending of a layer's dotted name{hint}"
    )


def _endings(layers: Mapping[str, str]) -> list[str]:
    """Endings a person would write: a name's last parts, back to the first that is no number."""
    endings: set[str] = set()
    for name in layers:
        parts = name.split(".")
        for depth in range(1, min(4, len(parts)) + 1):
            if not parts[-depth].isdigit():
                endings.add(".".join(parts[-depth:]))
    return sorted(endings, key=lambda ending: (ending.count("."), ending))
