"""The adapters of a whole pack in one block of memory.

Row k of ``weights [K, P]`` is everything that member k trains, ``gradients [K, P]`` lies beside it in the
same order. A layer's ``A [K, R, C]`` and ``B [K, R, D]`` are views into all rows; PEFT's parameters of
member k are views of its slice (B transposed, as PEFT keeps it). So one fused optimizer call a member
updates all its layers, a norm over dim 1 is every member's gradient norm, and PEFT's state dict is live.

Smaller ranks are padded with zeros and absent targets are zeros. That is exact: where A's and B's
padding is zero so are their gradients, and Adam leaves zeros with zero gradients where they are.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lora_foundry.lora.inject import eject, handle, packed_layers
from lora_foundry.lora.layers import PackedConv2d, PackedLinear, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lora_foundry.lora.rows import RowPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where one layer lies in a bank row: ``A`` of ``down_shape`` at ``start``, ``B`` of ``up_shape`` behind it."""

    name: str
    layer: PackedLinear | PackedConv2d
    start: int
    down_shape: tuple[int, ...]
    up_shape: tuple[int, int]

    @property
    def middle(self) -> int:
        """Where B begins."""
        return self.start + torch.Size(self.down_shape).numel()

    @property
    def end(self) -> int:
        """Behind B."""
        return self.middle + torch.Size(self.up_shape).numel()

    def rank(self, member: str) -> int:
        """The member's own rank here; 0 where it has no such target."""
        return int(self.layer.r.get(handle(member), 0))

    def cut(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """A and B as views of ``block [..., P]``, whose rows are whole."""
        return _view(block, self.start, self.down_shape), _view(block, self.middle, self.up_shape)


def _view(block: Tensor, start: int, shape: tuple[int, ...]) -> Tensor:
    """``block[..., start : start + n]`` in ``shape``, by one operation: a trace (``memory/trace.py``) pays for each."""
    strides = [block.stride(-1)]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return block.as_strided(
        (*block.shape[:-1], *shape), (*block.stride()[:-1], *strides), block.storage_offset() + start
    )


class AdapterBank:
    """Stacked matrices of ``members`` over ``base``'s packed layers.

    Args:
        base: The module the adapters were injected into.
        members: Adapter names; their order is the order of places.
        dtype: Dtype of weights, gradients and optimizer state (fp32, or fp64 under ``64-true``).
        device: Where they live.

    Attributes:
        alarm: Called in every layer of a forward that keeps activations; ends it by raising.
        wary: Whether it is called in forwards that keep none as well.
    """

    def __init__(self, base: nn.Module, members: Sequence[str], *, dtype: torch.dtype, device: torch.device) -> None:
        self.base = base
        self.members = tuple(members)
        self.alarm: Callable[[], None] | None = None
        self.wary = False
        self._plan: RowPlan | None = None
        self.spans = tuple(self._lay_out())
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
        try:
            yield
        finally:
            self._plan = None

    def is_zero(self, member: str) -> bool:
        """Whether the member's update is zero, as it is until its first step: B is."""
        row = self.weights[self.place(member)]
        return not any(value.any() for key, value in self.unpack(row, member).items() if key.endswith(".B"))

    def unpack(self, row: Tensor, member: str) -> dict[str, Tensor]:
        """``row [P]`` as unpadded tensors by ``<layer>.A`` ``[r, C...]`` and ``<layer>.B`` ``[r, D]`` (views)."""
        tensors: dict[str, Tensor] = {}
        for span in self.spans:
            rank = span.rank(member)
            if rank:
                down, up = span.cut(row)
                tensors[f"{span.name}.A"], tensors[f"{span.name}.B"] = down[:rank], up[:rank]
        return tensors

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
                    for holder in (span.layer.lora_A[handle(name)], span.layer.lora_B[handle(name)]):
                        holder.weight.data = holder.weight.data.clone(memory_format=torch.contiguous_format)

    def _lay_out(self) -> Iterator[Span]:
        start = 0
        for name, layer in packed_layers(self.base).items():
            ranks = [layer.r[handle(m)] for m in self.members if handle(m) in layer.lora_A]
            if not ranks:
                layer.stack = None
                continue
            rank = max(ranks)
            inner = layer.get_base_layer()
            kernel = tuple(inner.kernel_size) if isinstance(layer, PackedConv2d) else ()
            span = Span(
                name=name,
                layer=layer,
                start=start,
                down_shape=(rank, layer.in_features, *kernel),
                up_shape=(rank, layer.out_features),
            )
            start = span.end
            yield span

    def _adopt(self, span: Span) -> None:
        down, up = span.cut(self.weights)
        # An absent target is zeros, so its scale is of no consequence; 1 keeps `unit` true for the rest.
        scaling = [float(span.layer.scaling.get(handle(member), 1.0)) for member in self.members]
        for place, member in enumerate(self.members):
            rank = span.rank(member)
            if rank:
                self._link(span, member, down[place, :rank], up[place, :rank])
        grad_down, grad_up = span.cut(self.gradients)
        leaf_down, leaf_up = down.detach().requires_grad_(), up.detach().requires_grad_()
        leaf_down.grad, leaf_up.grad = grad_down, grad_up
        span.layer.stack = Stack(
            name=span.name,
            down=leaf_down,
            up=leaf_up,
            scaling=torch.tensor(scaling, dtype=self.weights.dtype, device=self.weights.device),
            unit=all(scale == 1.0 for scale in scaling),
            plan=self._plan_of_now,
        )

    def _plan_of_now(self) -> RowPlan | None:
        if self.alarm is not None and (self.wary or torch.is_grad_enabled()):
            self.alarm()
        return self._plan

    @staticmethod
    def _link(span: Span, member: str, down: Tensor, up: Tensor) -> None:
        """Copy PEFT's initial values in, then let its parameters be views of the bank."""
        held_down, held_up = span.layer.lora_A[handle(member)].weight, span.layer.lora_B[handle(member)].weight
        target_up = up.transpose(0, 1) if held_up.dim() == 2 else up.transpose(0, 1)[..., None, None]
        with torch.no_grad():
            down.copy_(held_down.to(down.dtype))
            target_up.copy_(held_up.to(up.dtype))
        for held in (held_down, held_up):
            held.requires_grad_(False)  # noqa: FBT003  # the stacked leaves are trained, not the views
        held_down.data, held_up.data = down, target_up


def clear(base: nn.Module, members: Sequence[str]) -> None:
    """Take ``members`` out of ``base``, however far putting them in has come."""
    for layer in packed_layers(base).values():
        layer.stack = None
    for name in members:
        eject(base, name)
