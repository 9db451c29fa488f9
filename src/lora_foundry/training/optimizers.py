"""The optimizers of all members of a pack behind one step.

Members with AdamW share one ``torch.optim.AdamW``: a group a member, whose only parameter is the member's
row of the bank, so one fused call updates all its layers with its own rate, betas, decay and step count.
Other algorithms look at shapes, so they get the member's unpadded per-layer views, an optimizer a member.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_foundry.training.shortage import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lora_foundry.config.schema import OptimizerConfig
    from lora_foundry.lora.bank import AdapterBank


@dataclass(kw_only=True, slots=True)
class OptimizerState:
    """One member's optimizer, independent of the pack it is in: tensors by name, and plain numbers."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


class PackOptimizer:
    """Steps any of the members, each by its own settings.

    Args:
        bank: Weights and gradients.
        configs: Settings by member name.
    """

    def __init__(self, bank: AdapterBank, configs: Mapping[str, OptimizerConfig]) -> None:
        packed = {name: config for name, config in configs.items() if config.name == "adamw"}
        self._packed = _PackedAdamW(bank, packed) if packed else None
        self._own = {name: _OwnOptimizer(bank, name, c) for name, c in configs.items() if name not in packed}

    def step(self, rates: Mapping[str, float]) -> None:
        """One optimizer step of the members named in ``rates``, at those learning rates."""
        for _ in self.steps(rates):
            pass

    def steps(self, rates: Mapping[str, float]) -> Iterator[set[str]]:
        """As :meth:`step`, yielding the members of each call of an optimizer as soon as it is through.

        A call that runs out of memory leaves its members as they were. Those of AdamW need no memory.
        """
        for name in sorted(rates.keys() & self._own.keys()):
            self._own[name].step(rates[name])
            yield {name}
        packed = {name: lr for name, lr in rates.items() if name not in self._own}
        if self._packed is not None and packed:
            self._packed.step(packed)
            yield set(packed)

    def scale(self, member: str) -> float | None:
        """What the member's last step multiplied its rate by (Prodigy's d); None where it takes it as it is."""
        return self._own[member].scale if member in self._own else None

    def state(self, member: str) -> OptimizerState:
        """A copy of the member's state, on the CPU."""
        return self._of(member).state(member)

    def load(self, member: str, state: OptimizerState) -> None:
        """Set the member's state to one that :meth:`state` returned."""
        self._of(member).load(member, state)

    def _of(self, member: str) -> _PackedAdamW | _OwnOptimizer:
        if member in self._own:
            return self._own[member]
        if self._packed is None:
            msg = f"no member {member!r} in this pack"
            raise KeyError(msg)
        return self._packed


class _PackedAdamW:
    """AdamW (Loshchilov & Hutter 2019) over rows of the bank; its state is allocated up front."""

    def __init__(self, bank: AdapterBank, configs: Mapping[str, OptimizerConfig]) -> None:
        self._bank = bank
        self._rows = {name: nn.Parameter(bank.weights[bank.place(name)], requires_grad=True) for name in configs}
        groups = [
            {"params": [self._rows[name]], "betas": c.betas, "eps": c.eps, "weight_decay": c.weight_decay}
            for name, c in configs.items()
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)
        self._groups = dict(zip(configs, self._optimizer.param_groups, strict=True))
        for row in self._rows.values():
            self._optimizer.state[row] = {
                "step": torch.zeros((), dtype=torch.float32, device=row.device),
                "exp_avg": torch.zeros_like(row),
                "exp_avg_sq": torch.zeros_like(row),
            }

    def step(self, rates: Mapping[str, float]) -> None:
        for name, row in self._rows.items():
            # torch passes over parameters without a gradient, so members that still accumulate are untouched.
            row.grad = self._bank.gradients[self._bank.place(name)] if name in rates else None
            self._groups[name]["lr"] = rates.get(name, 0.0)
        self._optimizer.step()

    def state(self, member: str) -> OptimizerState:
        held = self._optimizer.state[self._rows[member]]
        tensors = {
            f"{moment}.{name}": value.detach().to("cpu", copy=True).contiguous()
            for moment in ("exp_avg", "exp_avg_sq")
            for name, value in self._bank.unpack(held[moment], member).items()
        }
        return OptimizerState(tensors=tensors, numbers={"step": float(held["step"])})

    def load(self, member: str, state: OptimizerState) -> None:
        held = self._optimizer.state[self._rows[member]]
        for moment in ("exp_avg", "exp_avg_sq"):
            prefix = f"{moment}."
            part = {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
            self._bank.fill(held[moment], part, member)
        held["step"].fill_(state.numbers["step"])


class _OwnOptimizer:
    """A library's optimizer over one member's unpadded views."""

    def __init__(self, bank: AdapterBank, member: str, config: OptimizerConfig) -> None:
        self._views = bank.parameters(member)
        self._optimizer = _build(self._views, config)
        self._scales = config.name == "prodigy"  # Adafactor has a "d" too, which is another thing
        self.scale: float | None = None

    def step(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
            if self._scales:
                self.scale = group["d"]  # as it is before the step, which raises it for the next one
        before = [view.detach().clone() for view in self._views], deepcopy(self._optimizer.state_dict())
        try:
            self._optimizer.step()
        except Exception as error:
            if is_out_of_memory(error):  # some layers may have been updated, and others not
                self._undo(*before)
            raise

    @torch.no_grad()
    def _undo(self, weights: list[Tensor], state: dict[str, Any]) -> None:
        for view, weight in zip(self._views, weights, strict=True):
            view.copy_(weight)
        self._optimizer.load_state_dict(state)

    def state(self, member: str) -> OptimizerState:  # noqa: ARG002  # the packed optimizer needs the name
        held = self._optimizer.state_dict()
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {
            "groups": [{k: v for k, v in g.items() if k != "params"} for g in held["param_groups"]]
        }
        for index, entry in held["state"].items():
            for key, value in entry.items():
                if isinstance(value, Tensor):
                    tensors[f"{index}.{key}"] = value.detach().to("cpu", copy=True).contiguous()
                else:
                    numbers[f"{index}.{key}"] = value
        return OptimizerState(tensors=tensors, numbers=numbers)

    def load(self, member: str, state: OptimizerState) -> None:  # noqa: ARG002
        entries: dict[int, dict[str, Any]] = {}
        for name, value in {**state.tensors, **{k: v for k, v in state.numbers.items() if k != "groups"}}.items():
            index, key = name.split(".", 1)
            entries.setdefault(int(index), {})[key] = value
        held = self._optimizer.state_dict()
        groups = [
            {**group, **saved} for group, saved in zip(held["param_groups"], state.numbers["groups"], strict=True)
        ]
        self._optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _build(views: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    if config.name == "adafactor":
        return torch.optim.Adafactor(views, lr=config.lr, eps=(None, config.eps), weight_decay=config.weight_decay)
    from prodigyopt import Prodigy  # only who asks for it pays its import

    return Prodigy(views, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
