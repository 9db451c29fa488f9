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
from lora_foundry.lora.forward import Forward
from lora_foundry.lora.inject import eject, handle, packed_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What one forward computes with.

    Attributes:
        block: ``[M, P]``, one row a block of the plan: the bank's weights themselves where they serve as they lie.
        index: ``[M]`` place of each row; None for all places in order.
        leaves: Views of it by layer and part, in the order in which they lie.
    """

    block: Tensor
    index: Tensor | None
    leaves: dict[str, dict[str, Tensor]]

    def add_gradients(self, gradients: Tensor) -> None:
        """Add what a backward pass left in the leaves to ``gradients [K, P]``, in one piece."""
        leaves = [leaf for parts in self.leaves.values() for leaf in parts.values()]
        if all(leaf.grad is None for leaf in leaves):
            return
        made = [(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).flatten(1) for leaf in leaves]
        self.forget()
        whole = torch.cat(made, dim=1)
        if self.index is None:
            gradients.add_(whole)
        else:
            gradients.index_add_(0, self.index, whole.to(gradients.dtype))

    def forget(self) -> None:
        """Let the leaves have no gradients."""
        for parts in self.leaves.values():
            for leaf in parts.values():
                leaf.grad = None


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
        self._forward: Forward | None = None
        self._whole: _Work | None = None
        self.spans = tuple(self._lay_out())
        self._dropout = Dropout([span.name for span in self.spans], device)
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
        if self._forward is not None:
            msg = "a row plan is set already; plans do not nest"
            raise RuntimeError(msg)
        work = self._work(plan)
        self._forward = Forward(
            plan=plan,
            parts=work.leaves,
            masks=self._dropout.begin(plan.dropout) if plan.dropout else None,
            dtype=self.weights.dtype,
            device=self.weights.device,
        )
        try:
            yield
            work.add_gradients(self.gradients)
        finally:
            self._forward = None
            work.forget()

    def _work(self, plan: RowPlan) -> _Work:
        """The weights of ``plan``'s blocks in the base's dtype: picked and cast once for all layers."""
        index = None if plan.covers(len(self.members)) else plan.block_index(self.weights.device)
        if index is None and self._whole is not None:
            if self._whole.block is not self.weights:
                self._whole.block.copy_(self.weights)
            return self._whole
        picked = self.weights if index is None else self.weights.index_select(0, index)
        block = picked.to(self.spans[0].layer.get_base_layer().weight.dtype) if self.spans else picked
        leaves = {
            span.name: {part: view.detach().requires_grad_() for part, view in span.cut(block).items()}
            for span in self.spans
        }
        work = _Work(block=block, index=index, leaves=leaves)
        if index is None:
            self._whole = work
        return work

    def is_zero(self, member: str) -> bool:
        """Whether the member's update is zero, as it is until its first step."""
        row = self.weights[self.place(member)].cpu()  # one copy, so that a card is not waited for in every layer
        return all(span.layer.is_zero(span.own(row, member)) for span in self.spans if span.rank(member))

    def unpack(self, row: Tensor, member: str) -> dict[str, Tensor]:
        """``row [P]`` as unpadded tensors by ``<layer>.<part>`` (views): LoRA's ``.A [r, C...]`` and ``.B [r, D]``."""
        return {f"{span.name}.{part}": view for span in self.spans for part, view in span.own(row, member).items()}

    def fill(self, row: Tensor, tensors: dict[str, Tensor], member: str) -> None:
        """The reverse of :meth:`unpack`: copy ``tensors`` into ``row [P]``.

        Raises:
            ValueError: When names or shapes are not those of ``member``.
        """
        copied = row.detach().to("cpu", copy=True)
        places = self.unpack(copied, member)
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
        row.copy_(copied)

    def copied(self, row: Tensor, member: str) -> dict[str, Tensor]:
        """As :meth:`unpack`, copied to the CPU: all of ``row [P]`` at once."""
        held = row.detach().to("cpu")
        return {
            name: view.clone(memory_format=torch.contiguous_format) for name, view in self.unpack(held, member).items()
        }

    def state(self, member: str) -> dict[str, Tensor]:
        """The member's unpadded weights, copied, on the CPU."""
        return self.copied(self.weights[self.place(member)], member)

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
        gradients = {name: self.copied(self.gradients[self.place(name)], name) for name in staying}
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
        span.layer.attach(span.name, [handle(member) for member in self.members], self._now)

    def _now(self) -> Forward | None:
        if self.alarm is not None and (self.wary or torch.is_grad_enabled()):
            self.alarm()
        return self._forward


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
