"""A validation loss that means something.

The rows that the task has fixed are the same for every run whatever its rank, batch, seed or device, so that two
numbers differ by what the adapters learned and by nothing else. Divided by the base's own loss on the same rows it is
below 1 where the adapter is better than none.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_foundry.data.cache import device_name, key_of
from lora_foundry.lora.rows import RowPlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from lora_foundry.config.schema_results import ValidationConfig
    from lora_foundry.tasks.protocol import FixedRows
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A member's losses on the fixed rows.

    Attributes:
        loss: Mean over all rows.
        relative: ``loss`` divided by the base's own.
        by_band: The mean over each group of rows that the task tells apart, such as bands of noise levels.
    """

    loss: float
    relative: float
    by_band: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """As logged."""
        named = {f"val/loss_{band}": value for band, value in self.by_band.items()}
        return {"val/loss": self.loss, "val/loss_rel": self.relative, **named}


class Validator:
    """Scores members of one pack; the base's own loss is computed once a set of rows."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._rows: dict[tuple[int, ValidationConfig], FixedRows] = {}
        self._data: dict[int, object] = {}  # held, or a later member's data might get the id of one that has left
        self._base: dict[tuple[int, ValidationConfig], Tensor] = {}

    def score(self, members: Sequence[Member]) -> dict[str, Score]:
        """The scores of ``members`` by name; members with the same rows are scored in the same forwards."""
        groups: dict[tuple[int, ValidationConfig], list[Member]] = {}
        for member in members:
            held_out = self._pack.task.held_out(member)
            self._data[id(held_out)] = held_out
            groups.setdefault((id(held_out), member.config.validation), []).append(member)
        scores: dict[str, Score] = {}
        for key, group in groups.items():
            rows = self._fixed_rows(key, group[0])
            if key not in self._base:
                self._base[key] = self._base_losses(rows, group[0])
            trained = [member for member in group if not self._pack.bank.is_zero(member.name)]
            losses = dict(zip((m.name for m in trained), self._losses(rows, trained), strict=True)) if trained else {}
            for member in group:  # an adapter that is still zero gives the base's own outputs
                scores[member.name] = _score(rows, losses.get(member.name, self._base[key]), self._base[key])
        return scores

    def _fixed_rows(self, key: tuple[int, ValidationConfig], member: Member) -> FixedRows:
        if key not in self._rows:
            self._rows[key] = self._pack.task.fixed_rows(member, self._pack.dtypes.adapter)
        return self._rows[key]

    def _base_losses(self, rows: FixedRows, member: Member) -> Tensor:
        """The base's losses on ``rows``, from the cache where another pack has computed them."""
        if member.cache is None:
            return self._losses(rows, [])[0]
        pack = self._pack
        key = key_of(
            {
                "kind": "base losses",
                "base": member.provenance.base_hash,
                "rows": rows.digest(),
                **pack.task.decides(),
                "dtypes": [str(pack.dtypes.base), str(pack.dtypes.adapter)],
                "device": device_name(pack.device),
                "torch": torch.__version__,
            }
        )
        kept = member.cache.get(key)
        if kept is not None:
            return kept["losses"]
        losses = self._losses(rows, [])[0]
        if bool(losses.isfinite().all()):
            try:
                member.cache.put(key, {"losses": losses})
            except OSError as error:  # nothing is lost but time: the next pack computes them again
                _LOG.warning("the base's validation losses were not kept: %s", error)
        return losses

    def _losses(self, rows: FixedRows, members: Sequence[Member]) -> Tensor:
        """``[K, V]`` losses of the members, or ``[1, V]`` of the base where ``members`` is empty."""

        def with_most(most: int) -> Tensor:
            groups = [members[first : first + most] for first in range(0, len(members), most)] or [members]
            with self._pack.wary(unless=most == 1):
                return torch.cat([self._together(rows, group, most) for group in groups])

        losses, rows.per_forward = self._pack.in_fewer_rows(with_most, rows.per_forward)
        return losses

    @torch.no_grad()
    def _together(self, rows: FixedRows, members: Sequence[Member], most: int) -> Tensor:
        copies = max(1, len(members))
        chunk = most // copies
        parts = [
            self._chunk(rows, slice(first, first + chunk), members).view(copies, -1)
            for first in range(0, len(rows), chunk)
        ]
        return torch.cat(parts, dim=1).double().cpu()

    def _chunk(self, rows: FixedRows, part: slice, members: Sequence[Member]) -> Tensor:
        pack, copies = self._pack, max(1, len(members))
        pack.end_if_stopped()
        inputs = {name: _repeated(values[part], copies) for name, values in rows.inputs.items()}
        around: AbstractContextManager[None] = nullcontext()
        if members:
            places = tuple(pack.bank.place(member.name) for member in members)
            count = len(next(iter(inputs.values()))) // copies
            around = pack.bank.rows(RowPlan(places=places, counts=(count,) * copies))
        with around:
            return pack.task.losses(inputs)


def _repeated(values: Tensor, copies: int) -> Tensor:
    return values.repeat(copies, *[1] * (values.ndim - 1))


def _score(rows: FixedRows, losses: Tensor, base: Tensor) -> Score:
    by_band = {name: float(losses[inside].mean()) for name, inside in rows.groups.items()}
    return Score(loss=float(losses.mean()), relative=float(losses.mean() / base.mean()), by_band=by_band)
