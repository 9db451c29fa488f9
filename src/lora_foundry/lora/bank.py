"""The adapters of a whole pack in one block of memory.

Row k of ``weights [K, P]`` is everything that member k trains, ``gradients [K, P]`` lies beside it in the same order.
A layer's parts (LoRA's ``A [K, R, C]`` and ``B [K, R, D]``) are views into all rows; PEFT's parameters of member k are
views of its slice. So one fused optimizer call a member updates all its layers, a norm over dim 1 is every member's
gradient norm, and PEFT's state dict is live. Which parts a layer has, its kind of adapter tells (:mod:`.packed`).

Smaller ranks are padded with zeros and absent targets are zeros. That is exact: where A's and B's
padding is zero so are their gradients, and Adam leaves zeros with zero gradients where they are.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lora_foundry.lora.dropout import Dropout
from lora_foundry.lora.inject import eject, handle, packed_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lora_foundry.lora.dropout import Masks
    from lora_foundry.lora.inject import Networks
    from lora_foundry.lora.packed import PackedLayer
    from lora_foundry.lora.rows import RowPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where one layer lies in a bank row: its parts one behind the other, each as large as the largest member's.

    Attributes:
        name: The layer's dotted name.
        layer: That layer.
        start: Where its first part begins.
        shapes: Its parts.
    """

    name: str
    layer: PackedLayer
    start: int
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def end(self) -> int:
        """Behind the last part."""
        return self.start + sum(math.prod(shape) for shape in self.shapes.values())

    def rank(self, member: str) -> int:
        """The member's own rank here; 0 where it has no such target."""
        return self.layer.rank(handle(member))

    def cut(self, block: Tensor) -> dict[str, Tensor]:
        """The parts as views of ``block [..., P]``, whose rows are whole."""
        return self._views(block, self.shapes)

    def own(self, row: Tensor, member: str) -> dict[str, Tensor]:
        """The member's parts without padding, as views of ``row [P]``; none where it has no such target."""
        rank = self.rank(member)
        return self._views(row, self.layer.shapes(rank)) if rank else {}

    def _views(self, block: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        views, start = {}, self.start
        for part, whole in self.shapes.items():
            views[part] = _view(block, start, whole, shapes[part])
            start += math.prod(whole)
        return views


def _view(block: Tensor, start: int, whole: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The corner of ``shape`` in what lies ``whole`` at ``start`` of each row of ``block [..., P]``.

    It is one operation: a trace (``memory/trace.py``) pays for each.
    """
    strides = [block.stride(-1)]
    for size in reversed(whole[1:]):
        strides.insert(0, strides[0] * size)
    return block.as_strided(
        (*block.shape[:-1], *shape), (*block.stride()[:-1], *strides), block.storage_offset() + start
    )


class AdapterBank:
    """Stacked matrices of ``members`` over ``base``'s packed layers.

    Args:
        base: The networks that the adapters were injected into.
        members: Adapter names; their order is the order of places.
        dtype: Dtype of weights, gradients and optimizer state (fp32, or fp64 under ``64-true``).
        device: Where they live.

    Attributes:
        alarm: Called in every layer of a forward that keeps activations; ends it by raising.
        wary: Whether it is called in forwards that keep none as well.
    """

    def __init__(
        self, base: nn.Module | Networks, members: Sequence[str], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.base = base
        self.members = tuple(members)
        self.alarm: Callable[[], None] | None = None
        self.wary = False
        self._plan: RowPlan | None = None
        self._masks: Masks | None = None
        self.spans = tuple(self._lay_out())
        self._dropout = Dropout([span.name for span in self.spans], device, dtype)
        size = self.spans[-1].end if self.spans else 0
        self.weights = torch.zeros(len(self.members), size, dtype=dtype, device=device)
        self.gradients = torch.zeros_like(self.weights)
        for span in self.spans:
            self._adopt(span)

    def place(self, member: str) -> int:
        """The row of ``member``."""
        return self.members.index(member)

    @contextmanager
    def rows(self, plan: RowPlan) -> Iterator[None]:
        """Route every forward inside by ``plan``.

        The backward pass belongs inside too: activation checkpointing runs forwards in it.
        """
        if self._plan is not None:
            msg = "a row plan is set already; plans do not nest"
            raise RuntimeError(msg)
        self._plan = plan
        self._masks = self._dropout.begin(plan.dropout) if plan.dropout else None
        try:
            yield
        finally:
            self._plan = self._masks = None

    def is_zero(self, member: str) -> bool:
        """Whether the member's update is zero, as it is until its first step."""
        row = self.weights[self.place(member)]
        return all(span.layer.is_zero(span.own(row, member)) for span in self.spans if span.rank(member))

    def unpack(self, row: Tensor, member: str) -> dict[str, Tensor]:
        """``row [P]`` as unpadded tensors by ``<layer>.<part>`` (views): LoRA's ``.A [r, C...]`` and ``.B [r, D]``."""
        return {f"{span.name}.{part}": view for span in self.spans for part, view in span.own(row, member).items()}

    def fill(self, row: Tensor, tensors: dict[str, Tensor], member: str) -> None:
        """The reverse of :meth:`unpack`: copy ``tensors`` into ``row [P]``.

        Raises:
            ValueError: When names or shapes are not those of ``member``.
        """
        places = self.unpack(row, member)
        if places.keys() != tensors.keys():
            odd = sorted(places.keys() ^ tensors.keys())
            msg = f"adapter {member!r}: got other layers than the base's targets: {', '.join(odd[:5])}"
            raise ValueError(msg)
        for name, place in places.items():
            if place.shape != tensors[name].shape:
                got, allowed = tuple(tensors[name].shape), tuple(place.shape)
                msg = f"adapter {member!r}, {name}: got shape {got}, allowed is {allowed}"
                raise ValueError(msg)
            place.copy_(tensors[name])

    def state(self, member: str) -> dict[str, Tensor]:
        """The member's unpadded weights, copied, on the CPU."""
        row = self.weights[self.place(member)]
        return {
            name: value.detach().to("cpu", copy=True).contiguous() for name, value in self.unpack(row, member).items()
        }

    def parameters(self, member: str) -> list[nn.Parameter]:
        """Unpadded per-layer views with their gradients attached, for optimizers that look at shapes."""
        place = self.place(member)
        weights = self.unpack(self.weights[place], member)
        gradients = self.unpack(self.gradients[place], member)
        views = []
        for name, weight in weights.items():
            view = nn.Parameter(weight, requires_grad=True)
            view.grad = gradients[name]
            views.append(view)
        return views

    def regrouped(self, members: Sequence[str], enter: Callable[[], None] = lambda: None) -> AdapterBank | None:
        """A bank of ``members``: those that are here keep weights and gradients; None when there are none.

        Adapters that are no longer named are taken out of the base.

        Args:
            members: Names, in the order of the new places.
            enter: Puts the adapters of new members into the base, once nothing in it is a view of this bank. When it
                raises, or there is no memory for the new bank, :meth:`take_back` undoes the rest.
        """
        staying = [name for name in self.members if name in members]
        kept = {name: self.state(name) for name in staying}
        gradients = {
            name: {key: value.clone() for key, value in self.unpack(self.gradients[self.place(name)], name).items()}
            for name in staying
        }
        self.release()
        for name in self.members:
            if name not in staying:
                eject(self.base, name)
        if not members:
            return None
        enter()
        bank = AdapterBank(self.base, members, dtype=self.weights.dtype, device=self.weights.device)
        bank.alarm = self.alarm
        for name in staying:
            bank.fill(bank.weights[bank.place(name)], kept[name], name)
            bank.fill(bank.gradients[bank.place(name)], gradients[name], name)
        return bank

    def take_back(self, others: Sequence[str]) -> None:
        """Be the base's bank again after a :meth:`regrouped` that failed; ``others`` are taken out."""
        clear(self.base, others)
        for span in self.spans:
            self._adopt(span)

    def release(self) -> None:
        """Give PEFT's parameters storage of their own again, so that the block can be freed."""
        for span in self.spans:
            span.layer.stack = None
            for name in self.members:
                if span.rank(name):
                    span.layer.unlink(handle(name))

    def _lay_out(self) -> Iterator[Span]:
        start = 0
        for name, layer in packed_layers(self.base).items():
            rank = max((layer.rank(handle(member)) for member in self.members), default=0)
            if not rank:
                layer.stack = None
                continue
            span = Span(name=name, layer=layer, start=start, shapes=layer.shapes(rank))
            start = span.end
            yield span

    def _adopt(self, span: Span) -> None:
        for place, member in enumerate(self.members):
            if span.rank(member):
                span.layer.link(handle(member), span.own(self.weights[place], member))
        leaves = {part: view.detach().requires_grad_() for part, view in span.cut(self.weights).items()}
        for part, gradient in span.cut(self.gradients).items():
            leaves[part].grad = gradient
        adapters = [handle(member) for member in self.members]
        span.layer.attach(span.name, leaves, adapters, self._plan_of_now, lambda: self._masks)

    def _plan_of_now(self) -> RowPlan | None:
        if self.alarm is not None and (self.wary or torch.is_grad_enabled()):
            self.alarm()
        return self._plan


def clear(base: nn.Module | Networks, members: Sequence[str]) -> None:
    """Take ``members`` out of ``base``, however far putting them in has come."""
    for layer in packed_layers(base).values():
        layer.stack = None
    for name in members:
        eject(base, name)


def by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What :meth:`AdapterBank.unpack` or :meth:`AdapterBank.state` gave, by layer and part."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, part = key.rpartition(".")
        layers.setdefault(name, {})[part] = value
    return layers
