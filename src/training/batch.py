"""Joining one micro-batch of every active member into one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.config.streams import stream_key
from src.lora.rows import DropoutKey, RowPlan
from src.objectives.noise import noise_offset, sample_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from src.lora.bank import AdapterBank
    from src.objectives.process import NoiseProcess
    from src.training.member import Member


@dataclass(frozen=True, kw_only=True, slots=True)
class PackBatch:
    """N rows, in blocks of one member each, on the CPU.

    Attributes:
        latents: Clean latents ``[N, C, h, w]``.
        noise: Like ``latents``.
        levels: Noise level of each row, ``[N]``.
        conditioning: Text states by name, each ``[N, ...]``.
        plan: Whose row is whose.
        members: The block's members, in order.
    """

    latents: Tensor
    noise: Tensor
    levels: Tensor
    conditioning: dict[str, Tensor]
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
        return PackBatch(
            latents=self.latents[rows],
            noise=self.noise[rows],
            levels=self.levels[rows],
            conditioning={name: states[rows] for name, states in self.conditioning.items()},
            plan=plan,
            members=tuple(self.members[block] for block, _ in pieces),
        )


def assemble(members: Sequence[Member], bank: AdapterBank, process: NoiseProcess, *, dtype: torch.dtype) -> PackBatch:
    """Draw the next micro-batch of each member; a pure function of their counters.

    Whatever is random about a sample (image, flip, crop, dropped caption, noise, its level, LoRA dropout) is
    named by its ordinal in the member's own stream, so it does not depend on who else is in the pack.
    """
    latents: list[Tensor] = []
    noise: list[Tensor] = []
    levels: list[float] = []
    captions: dict[str, list[Tensor]] = {}
    dropout: list[DropoutKey] = []
    for member in members:
        images, variants, texts = [], [], []
        seed, p = member.config.seed, member.config.lora.dropout
        for ordinal in _ordinals(member):
            draw = member.order.draw(ordinal)
            images.append(draw.image)
            variants.append(draw.variant)
            texts.append(-1 if draw.drop_caption else int(member.train.caption_index[draw.image]))
            levels.append(process.level(stream_key(seed, "timestep", ordinal)))
            noise.append(_noise(member, ordinal, dtype))
            dropout.append(DropoutKey(seed=seed, ordinal=ordinal, probability=p))
        latents.append(member.train.latents[images, variants].to(dtype))
        for name, states in member.train.captions.items():
            captions.setdefault(name, []).append(states[texts].to(dtype))
    plan = RowPlan(
        places=tuple(bank.place(m.name) for m in members),
        counts=tuple(m.config.data.batch_size for m in members),
        dropout=tuple(dropout) if any(key.probability for key in dropout) else (),
    )
    return PackBatch(
        latents=torch.cat(latents),
        noise=torch.stack(noise),
        levels=torch.tensor(levels),
        conditioning={name: torch.cat(parts) for name, parts in captions.items()},
        plan=plan,
        members=tuple(members),
    )


def _ordinals(member: Member) -> range:
    first = member.count.ordinal
    return range(first, first + member.config.data.batch_size)


def _noise(member: Member, ordinal: int, dtype: torch.dtype) -> Tensor:
    shape = member.train.latents.shape[2:]
    seed, weight = member.config.seed, member.config.objective.noise_offset
    noise = sample_noise(shape, stream_key(seed, "noise", ordinal), dtype)
    if weight:
        channel = sample_noise(shape[:1], stream_key(seed, "noise_offset", ordinal), dtype)
        noise = noise_offset(noise, channel, weight)
    return noise
