"""The optimizers of all members of a pack behind one step.

Which there are is in :mod:`lora_foundry.training.optimizers`, a file each. Members whose choice treats each number
by itself (AdamW) share one optimizer of torch's: a group a member, whose only parameter is the member's row of the
bank, so one fused call updates all its layers with its own rate, betas, decay and step count. Other algorithms look at
shapes, so they get the member's unpadded per-layer views, an optimizer a member.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_foundry.training.optimizers import OptimizerChoice, optimizer_choice
from lora_foundry.training.shortage import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

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
        self._bank = bank
        self._own: dict[str, _OwnOptimizer] = {}
        self._packed: list[_Packed] = []
        for member, config in configs.items():
            self.add(member, config)

    def add(self, member: str, config: OptimizerConfig) -> None:
        """Take in one more, whose optimizer begins; the others' stay as they are.

        Raises:
            RuntimeError: When there is too little memory for its state; nothing has changed then.
        """
        choice = optimizer_choice(config.name)
        if not choice.packed:
            self._own[member] = _OwnOptimizer(self._bank, member, choice, config)
            return
        for packed in self._packed:
            if packed.choice is choice:
                packed.add(member, config)
                return
        self._packed.append(_Packed(self._bank, choice, member, config))

    def forget(self, members: Collection[str]) -> None:
        """Let go of the optimizers of those of ``members`` that have one here; the others' stay as they are."""
        for member in members:
            self._own.pop(member, None)
            for packed in self._packed:
                packed.forget(member)
        self._packed = [packed for packed in self._packed if packed.members]

    def take_over(self, before: PackOptimizer, moved: Callable[[Tensor], Tensor]) -> None:
        """Go on with the states of those that are in ``before``, over another bank.

        Args:
            before: What stepped them until now; it steps nobody any more, unless this one is given up.
            moved: Lays out what lies as a row of its bank as one of this bank, as a copy.
        """
        for member, own in self._own.items():
            if member in before._own:
                own.take_over(before._own[member])
        for packed in self._packed:
            for old in before._packed:
                packed.take_over(old, moved)

    def step(self, rates: Mapping[str, float]) -> None:
        """One optimizer step of the members named in ``rates``, at those learning rates."""
        for _ in self.steps(rates):
            pass

    def steps(self, rates: Mapping[str, float]) -> Iterator[set[str]]:
        """As :meth:`step`, yielding the members of each call of an optimizer as soon as it is through.

        A call that runs out of memory leaves its members as they were. Packed ones need no memory.
        """
        for name in sorted(rates.keys() & self._own.keys()):
            self._own[name].step(rates[name])
            yield {name}
        for packed in self._packed:
            due = {name: lr for name, lr in rates.items() if name in packed.members}
            if due:
                packed.step(due)
                yield set(due)

    def scale(self, member: str) -> float | None:
        """What the member's last step multiplied its rate by (Prodigy's d); None where it takes it as it is."""
        return self._own[member].scale if member in self._own else None

    def state(self, member: str) -> OptimizerState:
        """A copy of the member's state, on the CPU."""
        return self._of(member).state(member)

    def load(self, member: str, state: OptimizerState) -> None:
        """Set the member's state to one that :meth:`state` returned."""
        self._of(member).load(member, state)

    def copy(self, source: str, target: str) -> None:
        """Give ``target`` the state of ``source``, where it lies; both are as before where that cannot be.

        Raises:
            ValueError: When they have other optimizers.
        """
        one, other = self._of(source), self._of(target)
        if isinstance(one, _Packed) and one is other:
            one.copy(source, target)
        elif isinstance(one, _OwnOptimizer) and isinstance(other, _OwnOptimizer) and one.is_like(other):
            other.copy(one)
        else:
            msg = f"{target!r} cannot take over from {source!r}: another optimizer"
            raise ValueError(msg)

    def _of(self, member: str) -> _Packed | _OwnOptimizer:
        if member in self._own:
            return self._own[member]
        for packed in self._packed:
            if member in packed.members:
                return packed
        msg = f"no member {member!r} in this pack"
        raise KeyError(msg)


class _Packed:
    """Members of one choice behind one optimizer over rows of the bank; its state is there from the beginning."""

    def __init__(self, bank: AdapterBank, choice: OptimizerChoice, member: str, config: OptimizerConfig) -> None:
        self.choice = choice
        self._bank = bank
        row = self._row(member)
        self._optimizer = choice.build([row], config)
        self._rows = {member: row}
        self._groups = {member: self._optimizer.param_groups[0]}

    def add(self, member: str, config: OptimizerConfig) -> None:
        row = self._row(member)
        built = self.choice.build([row], config)
        self._optimizer.add_param_group(built.param_groups[0])
        self._optimizer.state.update(built.state)
        self._rows[member] = row
        self._groups[member] = self._optimizer.param_groups[-1]

    def forget(self, member: str) -> None:
        if member in self._rows:
            self._optimizer.state.pop(self._rows.pop(member))
            del self._groups[member]
            self._optimizer.param_groups[:] = self._groups.values()

    def take_over(self, before: _Packed, moved: Callable[[Tensor], Tensor]) -> None:
        for member in self._rows.keys() & before._rows.keys():
            old = before._rows[member]
            for key, value in self._optimizer.state[self._rows[member]].items():
                held = before._optimizer.state[old][key]
                value.copy_(moved(held) if held.shape == old.shape else held)

    def copy(self, source: str, target: str) -> None:
        held = self._optimizer.state[self._rows[source]]
        for key, value in self._optimizer.state[self._rows[target]].items():
            value.copy_(held[key])

    def _row(self, member: str) -> nn.Parameter:
        return nn.Parameter(self._bank.weights[self._bank.place(member)], requires_grad=True)

    @property
    def members(self) -> Collection[str]:
        return self._rows

    def step(self, rates: Mapping[str, float]) -> None:
        for name, row in self._rows.items():
            # torch passes over parameters without a gradient, so members that still accumulate are untouched.
            row.grad = self._bank.gradients[self._bank.place(name)] if name in rates else None
            self._groups[name]["lr"] = rates.get(name, 0.0)
        self._optimizer.step()

    def state(self, member: str) -> OptimizerState:
        row = self._rows[member]
        held = self._optimizer.state[row]
        moments = [key for key, value in held.items() if value.shape == row.shape]
        tensors = {
            f"{moment}.{name}": value
            for moment in moments
            for name, value in self._bank.copied(held[moment], member).items()
        }
        return OptimizerState(tensors=tensors, numbers={k: float(v) for k, v in held.items() if k not in moments})

    def load(self, member: str, state: OptimizerState) -> None:
        held = self._optimizer.state[self._rows[member]]
        for key, value in held.items():
            if key in state.numbers:
                value.fill_(state.numbers[key])
            else:
                prefix = f"{key}."
                part = {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
                self._bank.fill(value, part, member)


class _OwnOptimizer:
    """A library's optimizer over one member's unpadded views."""

    def __init__(self, bank: AdapterBank, member: str, choice: OptimizerChoice, config: OptimizerConfig) -> None:
        self._views = bank.parameters(member)
        self._choice = choice
        self._optimizer = choice.build(self._views, config)
        self.scale: float | None = None

    def take_over(self, before: _OwnOptimizer) -> None:
        self._optimizer.load_state_dict(before._optimizer.state_dict())  # the same tensors: they do not depend on rows
        self.scale = before.scale

    def is_like(self, other: _OwnOptimizer) -> bool:
        return self._choice is other._choice

    def copy(self, source: _OwnOptimizer) -> None:
        self._optimizer.load_state_dict(deepcopy(source._optimizer.state_dict()))  # else both had the same tensors
        self.scale = source.scale

    def step(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
            self.scale = self._choice.scale(group)
        before = [view.detach().clone() for view in self._views], deepcopy(self._optimizer.state_dict())
        try:
            self._optimizer.step()
        except Exception as error:
            if is_out_of_memory(error, self._views[0].device):  # some layers may have been updated, and others not
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
                    tensors[f"{index}.{key}"] = value.detach()
                else:
                    numbers[f"{index}.{key}"] = value
        return OptimizerState(tensors=_copied(tensors), numbers=numbers)

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


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU; those of a dtype and device leave it in one piece, since a card is waited for at each."""
    made: dict[str, Tensor] = {}
    for kind in {(one.dtype, one.device) for one in tensors.values()}:
        names = [name for name, one in tensors.items() if (one.dtype, one.device) == kind]
        whole = torch.cat([tensors[name].reshape(-1) for name in names]).to("cpu")
        parts = whole.split([tensors[name].numel() for name in names])
        made |= {name: part.clone().view(tensors[name].shape) for name, part in zip(names, parts, strict=True)}
    return {name: made[name] for name in tensors}
