"""Joining one micro-batch of every active member into one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_foundry.lora.dropout import DropoutKey
from lora_foundry.lora.rows import RowPlan
from lora_foundry.tasks.protocol import StepRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from lora_foundry.lora.bank import AdapterBank
    from lora_foundry.tasks.protocol import Task
    from lora_foundry.training.member import Member


@dataclass(frozen=True, kw_only=True, slots=True)
class PackBatch:
    """N rows, in blocks of one member each, on the CPU.

    Attributes:
        rows: What the task made of the samples.
        plan: Whose row is whose.
        members: The block's members, in order.
    """

    rows: StepRows
    plan: RowPlan
    members: tuple[Member, ...]

    def cut(self, rows: int | None) -> list[PackBatch]:
        """The batch in parts of at most ``rows`` rows (None: whole), whose losses and gradients add up to its own.

        Members stay whole where they fit; one with more rows than that is cut itself.
        """
        if rows is None or rows >= self.plan.n_rows:
            return [self]
        parts: list[list[tuple[int, slice]]] = []
        free = 0
        for block, whole in enumerate(self.plan.slices()):
            for start in range(whole.start, whole.stop, rows):
                piece = slice(start, min(start + rows, whole.stop))
                size = piece.stop - piece.start
                if size > free:
                    parts.append([])
                    free = rows
                parts[-1].append((block, piece))
                free -= size
        return [self._part(part) for part in parts]

    def _part(self, pieces: list[tuple[int, slice]]) -> PackBatch:
        rows = slice(pieces[0][1].start, pieces[-1][1].stop)
        plan = RowPlan(
            places=tuple(self.plan.places[block] for block, _ in pieces),
            counts=tuple(piece.stop - piece.start for _, piece in pieces),
            dropout=self.plan.dropout[rows],
        )
        members = tuple(self.members[block] for block, _ in pieces)
        return PackBatch(rows=self.rows.part(rows), plan=plan, members=members)


def assemble(task: Task, members: Sequence[Member], bank: AdapterBank, *, dtype: torch.dtype) -> PackBatch:
    """Draw the next micro-batch of each member; a pure function of their counters.

    Whatever is random about a sample (its task's draws, LoRA dropout) is named by its ordinal in the member's own
    stream, so it does not depend on who else is in the pack.
    """
    ordinals = [_ordinals(member) for member in members]
    dropout = tuple(
        DropoutKey(seed=member.config.seed, ordinal=ordinal, probability=member.config.lora.dropout)
        for member, own in zip(members, ordinals, strict=True)
        for ordinal in own
    )
    plan = RowPlan(
        places=tuple(bank.place(m.name) for m in members),
        counts=tuple(m.config.data.batch_size for m in members),
        dropout=dropout if any(key.probability for key in dropout) else (),
    )
    rows = [task.rows(member, own, dtype) for member, own in zip(members, ordinals, strict=True)]
    return PackBatch(rows=StepRows.joined(rows), plan=plan, members=tuple(members))


def _ordinals(member: Member) -> range:
    first = member.count.ordinal
    return range(first, first + member.config.data.batch_size)
