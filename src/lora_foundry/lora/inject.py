"""Putting adapters into a base through PEFT. The only file that knows PEFT's custom-module route."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from peft import PeftConfig, inject_adapter_in_model
from torch import nn

from lora_foundry.config.components import full_name, named_layers, split_name
from lora_foundry.config.streams import stream_key
from lora_foundry.lora.kinds import kind_choice
from lora_foundry.lora.packed import PackedLayer

Networks: TypeAlias = Mapping[str, nn.Module]
"""A base's networks by name, as :mod:`lora_foundry.config.components` calls their layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSpec:
    """What one member's adapter is.

    Attributes:
        kind: Of :mod:`lora_foundry.lora.kinds`, by name.
        rank: LoRA rank.
        alpha: Scale numerator.
        dropout: Kept for the record; the packed layers draw it themselves.
        targets: Full dotted names of the targeted modules.
        use_rslora: alpha/sqrt(rank) instead of alpha/rank.
        init: ``kaiming`` or ``gaussian``.
        seed: Root of the initialisation's randomness.
    """

    kind: str
    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    use_rslora: bool
    init: str
    seed: int


def handle(name: str) -> str:
    """The name that PEFT knows an adapter by: it allows no dot (lr0.001) and no ``lora_`` in one."""
    return f"member-{name.encode().hex()}"


def networks_of(base: nn.Module | Networks) -> Networks:
    """A base's networks by name; a single one may stand for itself."""
    return {"": base} if isinstance(base, nn.Module) else base


def inject(base: nn.Module | Networks, name: str, spec: AdapterSpec) -> None:
    """Add the adapter ``name`` to ``base``; PEFT replaces each target by a packed layer.

    The initialisation is PEFT's, drawn from a stream of (seed, "init", module name), so it does not
    depend on what was injected before.

    Raises:
        ValueError: When a target is not in the base, is no linear layer or convolution, or has groups.
    """
    wanted = dict.fromkeys(spec.targets)
    networks = networks_of(base)
    modules = {n: m for n, m in named_layers(networks) if not n.endswith(".base_layer")}
    missing = [target for target in wanted if target not in modules]
    if missing:
        msg = f"adapter {name!r}: got targets that the base lacks: {', '.join(missing[:5])}"
        raise ValueError(msg)
    for target in wanted:
        module = modules[target]
        inner = module.get_base_layer() if isinstance(module, PackedLayer) else module
        if not isinstance(inner, (nn.Linear, nn.Conv2d)) or getattr(inner, "groups", 1) != 1:
            msg = (
                f"adapter {name!r}: {target} is a {type(inner).__name__}, allowed are nn.Linear and ungrouped nn.Conv2d"
            )
            raise ValueError(msg)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Several adapters in one base are the point here, and PEFT warns of them.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute.*")
        kind = kind_choice(spec.kind)
        init: bool | str = False
        for component, network in networks.items():
            places = [split_name(networks, target) for target in wanted]
            own = tuple(inner for where, inner in places if where == component)
            if own:
                config = kind.peft(replace(spec, targets=own))
                init, config.init_lora_weights = config.init_lora_weights, False  # drawn below, from their own streams
                targets = {inner: modules[full_name(networks, component, inner)] for inner in own}
                _add(network, handle(name), config, targets)
                config.init_lora_weights = init
        for module_name, layer in packed_layers(base).items():
            layer.set_adapter(handle(name))
            if layer.rank(handle(name)):
                # torch.manual_seed would seed every GPU as well, which takes a millisecond for each of 133 layers.
                torch.default_generator.manual_seed(stream_key(spec.seed, "init", module_name))
                # On the CPU in fp32 whatever the base is, so that every device and precision starts alike.
                layer.draw(handle(name), init)


def _add(network: nn.Module, adapter: str, config: PeftConfig, targets: Mapping[str, nn.Module]) -> None:
    """Give every target the adapter: through PEFT where a layer is to be replaced, else through the layer itself.

    PEFT looks at every module of the network once for each adapter, tens of times as long as the layers take.
    """
    plain = [target for target, module in targets.items() if not isinstance(module, PackedLayer)]
    if plain:
        config.target_modules = set(plain)
        inject_adapter_in_model(config, network, adapter_name=adapter)
    for module in targets.values():
        if isinstance(module, PackedLayer):
            module.enter(adapter, config)
    config.target_modules = set(targets)
    network.peft_config[adapter] = config  # type: ignore[index,operator]  # PEFT's own attribute


def eject(base: nn.Module | Networks, name: str) -> None:
    """Take the adapter ``name`` out of every layer that has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted.*")
        for layer in packed_layers(base).values():
            if layer.rank(handle(name)):
                layer.delete_adapter(handle(name))
    for network in networks_of(base).values():
        getattr(network, "peft_config", {}).pop(handle(name), None)


def packed_layers(base: nn.Module | Networks) -> dict[str, PackedLayer]:
    """Every packed layer of ``base`` by its dotted name, sorted, so that nothing depends on injection order."""
    found = {n: m for n, m in named_layers(networks_of(base)) if isinstance(m, PackedLayer)}
    return dict(sorted(found.items()))
