"""The adapters of a whole pack in one block of memory.

Row k of ``weights [K, P]`` is everything that member k trains, ``gradients [K, P]`` lies beside it in the same order.
A layer's parts (LoRA's ``A [K, R, C]`` and ``B [K, R, D]``) are views into all rows; PEFT's parameters of member k are
views of its slice. So one fused optimizer call a member updates all its layers, a norm over dim 1 is every member's
gradient norm, and PEFT's state dict is live. Which parts a layer has, its kind of adapter tells (:mod:`.packed`).

Smaller ranks are padded with zeros and absent targets are zeros. That is exact: where A's and B's
padding is zero so are their gradients, and Adam leaves zeros with zero gradients where they are.

A row is a **place**. A member keeps its own while others leave theirs and come into free ones: of a bank that has room,
nothing moves but the row of who comes, in one copy. What has no room needs another bank, into which rows are moved.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lora_foundry.lora.dropout import Dropout
from lora_foundry.lora.forward import Forward
from lora_foundry.lora.gradients import Parts, Sums
from lora_foundry.lora.inject import eject, handle, packed_layers
from lora_foundry.lora.layout import has_room, lay_out, length, relaid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lora_foundry.lora.inject import Networks
    from lora_foundry.lora.rows import RowPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What forwards of one plan compute with.

    Attributes:
        places: Of the plan's M blocks.
        pieces: Rows of ``block`` and the places that they stand for, as few slices as can be.
        block: ``[M, P]`` in the base's dtype.
        leaves: Views of it by layer and part, in the order in which they lie.
        gradients: The same of the bank's gradients where the bank serves itself, since its places lie evenly apart and
            need no cast. None where ``block`` is a copy.
    """

    places: tuple[int, ...]
    pieces: tuple[tuple[slice, slice], ...]
    block: Tensor
    leaves: Parts
    gradients: tuple[Tensor, Parts] | None

    def refresh(self, weights: Tensor) -> None:
        """Take over ``weights [K, P]`` as they are now: picked and cast in one copy a piece."""
        for rows, places in self.pieces if self.gradients is None else ():
            self.block[rows].copy_(weights[places])

    def forget(self) -> None:
        """Let the leaves have no gradients."""
        for parts in self.leaves.values():
            for leaf in parts.values():
                leaf.grad = None


class AdapterBank:
    """Stacked matrices of ``members`` over ``base``'s packed layers.

    Args:
        base: The networks that the adapters were injected into.
        members: Adapter names, in the order of places.
        dtype: Dtype of weights, gradients and optimizer state (fp32, or fp64 under ``64-true``).
        device: Where they live.
        before: A bank of which some are members: their rows are moved here. Only :meth:`take_back` makes it the base's
            bank again.

    Attributes:
        places: Who is in each place; None in a free one, whose row and gradient are zeros.
        spans: How a row is laid out.
        alarm: Called in every layer of a forward that keeps activations; ends it by raising.
    """

    def __init__(
        self,
        base: nn.Module | Networks,
        members: Sequence[str],
        *,
        dtype: torch.dtype,
        device: torch.device,
        before: AdapterBank | None = None,
    ) -> None:
        self.base = base
        self.device = device
        self.places: tuple[str | None, ...] = tuple(members)
        self.alarm: Callable[[], None] | None = None if before is None else before.alarm
        self._forward: Forward | None = None
        self._held: _Work | None = None
        self.spans = lay_out(base, members)
        self._dropout = Dropout([span.name for span in self.spans], device)
        self.weights = torch.zeros(len(members), length(self.spans), dtype=dtype, device=device)
        self.gradients = torch.zeros_like(self.weights)
        staying = () if before is None else before.members
        for place, member in enumerate(members):
            if before is not None and member in staying:
                self._move(before, member)
            else:
                self._take_values(place, member)
        self._link(self.members)
        self._attach()

    @property
    def members(self) -> tuple[str, ...]:
        """Who is here, in the order of places."""
        return tuple(member for member in self.places if member is not None)

    def place(self, member: str) -> int:
        """The row of ``member``."""
        return self.places.index(member)

    @property
    def is_sparse(self) -> bool:
        """Whether those who are here would take at most half of it in a bank of their own."""
        return 2 * len(self.members) * length(lay_out(self.base, self.members)) <= self.weights.numel()

    def admits(self, members: Sequence[str]) -> bool:
        """Whether adapters that are in the base, and not here, find a place each that is large enough for them."""
        free = self.places.count(None)
        return len(members) <= free and has_room(self.spans, lay_out(self.base, members))

    def enter(self, member: str) -> None:
        """Give a free place to an adapter that :meth:`admits` let in; its weights come in one copy.

        Where there is no memory for it, :meth:`take_back` undoes the rest.
        """
        place = self.places.index(None)
        self._seat(place, member)
        self._take_values(place, member)
        self._link([member])
        self._attach()

    def leave(self, members: Sequence[str]) -> None:
        """Take ``members`` out of bank and base: nothing of them is left, and nothing of the others is touched."""
        for member in members:
            eject(self.base, member)
            self._free(member)
        self._attach()

    @contextmanager
    def rows(self, plan: RowPlan) -> Iterator[None]:
        """Route every forward inside by ``plan``.

        The backward pass belongs inside too: activation checkpointing runs forwards in it.
        """
        if self._forward is not None:
            msg = "a row plan is set already; plans do not nest"
            raise RuntimeError(msg)
        work = self._work(plan)
        sums = self._sums(work)
        self._forward = Forward(
            plan=plan,
            parts=work.leaves,
            sums=sums,
            masks=self._dropout.begin(plan.dropout) if plan.dropout else None,
            dtype=self.weights.dtype,
            device=self.weights.device,
        )
        try:
            yield
            self._add_up(work, sums)
        except BaseException:
            sums.undo()
            raise
        finally:
            self._forward = None
            work.forget()

    def _work(self, plan: RowPlan) -> _Work:
        """The weights of ``plan``'s blocks in the base's dtype: picked and cast once for all layers.

        The last plan's are kept, since most steps are of the same members.
        """
        if self._held is None or self._held.places != plan.places:
            self._held = None  # its memory may serve the next
            self._held = self._made(plan.places)
        self._held.refresh(self.weights)
        return self._held

    def _made(self, places: tuple[int, ...]) -> _Work:
        pieces = tuple(_slices(places))
        dtype = self.spans[0].layer.get_base_layer().weight.dtype if self.spans else self.weights.dtype
        is_copy = len(pieces) > 1 or dtype != self.weights.dtype
        if is_copy:
            block = self.weights.new_empty(len(places), self.weights.shape[1], dtype=dtype)
        else:
            block = self.weights[pieces[0][1]]
        leaves = {
            name: {part: view.detach().requires_grad_() for part, view in parts.items()}
            for name, parts in self._cut(block).items()
        }
        own = self.gradients[pieces[0][1]]
        gradients = None if is_copy else (own, self._cut(own))
        return _Work(places=places, pieces=pieces, block=block, leaves=leaves, gradients=gradients)

    def _cut(self, block: Tensor) -> Parts:
        return {span.name: span.cut(block) for span in self.spans}

    def _sums(self, work: _Work) -> Sums:
        """What a backward pass adds to: the gradients themselves, or a block in the base's dtype."""
        own = work.gradients
        if own is not None:
            return Sums(lambda: own, begun=True)

        def give() -> tuple[Tensor, Parts]:
            block = torch.empty_like(work.block)
            return block, self._cut(block)

        return Sums(give, begun=False)

    def _add_up(self, work: _Work, sums: Sums) -> None:
        """Add what a backward pass left in leaves to the sums, and those to the gradients, in one piece."""
        for layer, parts in work.leaves.items():
            for part, leaf in parts.items():
                if leaf.grad is not None:
                    sums.add(layer, part, leaf.grad)
                    leaf.grad = None
        block = sums.whole()
        if block is not None:
            for rows, places in work.pieces:
                self.gradients[places].add_(block[rows])

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
        # Assembled aside, so that it comes in one copy whatever the layers are.
        whole = torch.zeros(len(row), dtype=row.dtype, device=row.device if row.is_meta else "cpu")
        places = self.unpack(whole, member)
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
        row.copy_(whole)

    def copy(self, source: str, target: str) -> None:
        """Give ``target`` the weights and gradients of ``source``, from place to place, in one copy each.

        Raises:
            ValueError: When they target other layers, or have other ranks.
        """
        others = [span.name for span in self.spans if span.rank(source) != span.rank(target)]
        if others:
            msg = f"{target!r} cannot take over from {source!r}: other ranks or layers ({', '.join(others[:5])})"
            raise ValueError(msg)
        one, other = self.place(source), self.place(target)
        self.weights[other].copy_(self.weights[one])
        self.gradients[other].copy_(self.gradients[one])

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

    def relaid(self, members: Sequence[str]) -> AdapterBank:
        """A bank of ``members``, of whom those that are here keep weights and gradients; this one stays as it is.

        Where there is no memory for it, :meth:`take_back` undoes the rest.
        """
        return AdapterBank(self.base, members, dtype=self.weights.dtype, device=self.device, before=self)

    def moved(self, row: Tensor, before: AdapterBank) -> Tensor:
        """What lies as a row of ``before`` does, as a row of this bank lies: a copy ``[P]`` where ``row`` is."""
        return relaid(row, before.spans, self.spans)

    def put_aside(self) -> None:
        """Wait on the CPU, so that the device has room for the bank that :meth:`relaid` makes of this."""
        self._held = None
        self.weights, self.gradients = self.weights.to("cpu"), self.gradients.to("cpu")
        self._link(self.members)

    def take_back(self, others: Sequence[str]) -> None:
        """Be the base's bank again after a :meth:`relaid` or :meth:`enter` that failed; ``others`` are taken out."""
        clear(self.base, others)
        for member in set(others) & set(self.members):
            self._free(member)
        self._link(self.members)
        self._attach()

    def _seat(self, place: int, member: str | None) -> None:
        self.places = (*self.places[:place], member, *self.places[place + 1 :])

    def _free(self, member: str) -> None:
        place = self.place(member)
        self.weights[place].zero_()
        self.gradients[place].zero_()
        self._seat(place, None)

    def _move(self, before: AdapterBank, member: str) -> None:
        old, new = before.place(member), self.place(member)
        self.weights[new].copy_(self.moved(before.weights[old], before))
        self.gradients[new].copy_(self.moved(before.gradients[old], before))

    @torch.no_grad()
    def _take_values(self, place: int, member: str) -> None:
        values = {
            f"{span.name}.{part}": value
            for span in self.spans
            if span.rank(member)
            for part, value in span.layer.values(handle(member)).items()
        }
        self.fill(self.weights[place], values, member)

    def _link(self, members: Sequence[str]) -> None:
        for member in members:
            row = self.weights[self.place(member)]
            for span in self.spans:
                if span.rank(member):
                    span.layer.link(handle(member), span.own(row, member))

    def _attach(self) -> None:
        """Let layers compute with the bank where somebody targets them, and be the base where nobody does any more."""
        adapters = [None if member is None else handle(member) for member in self.places]
        used = {span.name for span in self.spans if any(map(span.rank, self.members))}
        for name, layer in packed_layers(self.base).items():
            if name in used:
                layer.attach(name, adapters, self._now)
            else:
                layer.stack = None

    def _now(self) -> Forward | None:
        if self.alarm is not None and torch.is_grad_enabled():
            self.alarm()
        return self._forward


def _slices(places: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """``places`` as slices with the rows that they become: as many at once as lie evenly apart."""
    first = 0
    while first < len(places):
        last, step = first + 1, 1
        if last < len(places) and places[last] > places[first]:
            step = places[last] - places[first]
            while last < len(places) and places[last] - places[last - 1] == step:
                last += 1
        yield slice(first, last), slice(places[first], places[last - 1] + 1, step)
        first = last


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
