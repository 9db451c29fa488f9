"""One training step without weights and without arithmetic: its tensors' bytes, and what it would compute.

So are a forward pass that keeps nothing, and the networks that encode and decode (:mod:`.trace_pictures`).

The base is built from its configs; it, the adapters, the batch and every activation are tensors of torch's meta
device, which have shapes and no content. The step is the very code that trains (the bank, the packed layers, the loss,
the backward pass), so what that code keeps alive is what is counted. ``FakeTensorMode`` says the same in four times the
time.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from lora_foundry.lora.dropout import DropoutKey
from lora_foundry.lora.inject import inject
from lora_foundry.lora.rows import RowPlan
from lora_foundry.memory.recall import RECALL
from lora_foundry.memory.scratch import Alive, Convolutions, Spots
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.work import Work
from lora_foundry.tasks.denoising.task import Denoising, blank_inputs
from lora_foundry.tasks.protocol import StepRows
from lora_foundry.training.batch import PackBatch
from lora_foundry.training.member import Member, Provenance
from lora_foundry.training.pack import Pack, adapter_spec
from lora_foundry.training.pack_step import member_losses
from lora_foundry.training.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from lora_foundry.config import JobConfig
    from lora_foundry.memory.attention import Attention
    from lora_foundry.models.protocol import Base, BaseSizes

META = torch.device("meta")
GRAIN = 512  # bytes that CUDA's caching allocator rounds every allocation to


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """What steps of one kind were found to take.

    Attributes:
        weights: Bytes of the base.
        floats: Numbers that the adapter has.
        copies: Bytes that a second member adds beside its rows: its copies in the base's dtype, and gradients in it.
        row_more: Bytes that a row takes beyond a row of one member alone: convolutions pick each row's filters.
        steps: Rows of a step to what it took.
        forwards: Rows of a forward pass without gradients to what was alive in it: of one row, and of two.
    """

    weights: int
    floats: int
    copies: int
    row_more: int
    steps: dict[int, TracedStep]
    forwards: dict[int, Alive]


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedStep:
    """One forward and backward pass.

    Attributes:
        peak: Most bytes alive in it beyond base, adapter, gradient and optimizer.
        ops: Kernels that it runs.
        flops: Floating-point operations of its matrix products, convolutions and attention.
        spots: Kernels that allocate for themselves on a CPU.
    """

    peak: int
    ops: int
    flops: int
    spots: Spots


def trace_step(
    sizes: BaseSizes, config: JobConfig, rows: Sequence[int], attention: Attention = "fused", *, packed: bool = True
) -> Traced:
    """Trace a step of ``config``'s adapter, once for each number of ``rows``.

    Args:
        sizes: Of the base.
        config: The adapter's.
        rows: Of the steps.
        attention: What computes it. Fused kernels keep what the CPU's does: queries, keys, values, the result and a
            number for each query.
        packed: Whether to find out what further members add, which takes as long again; else it is told as nothing.

    Raises:
        ValueError: When a layer that ``lora.target_modules`` names is not in the base.
    """
    collecting = gc.isenabled()
    gc.disable()  # tens of thousands of small objects, none of them garbage
    try:
        alone = _steps(sizes, config, attention, [[count] for count in sorted({*rows, 1, 2})])
        if not packed:
            return replace(alone, steps={count: alone.steps[count] for count in rows})
        joined = _steps(sizes, config, attention, [[1, 1], [2, 2]])
        row = alone.steps[2].peak - alone.steps[1].peak
        packed_row = (joined.steps[4].peak - joined.steps[2].peak) // 2
        fixed = alone.steps[1].peak - row  # of no rows, with one member's copies: the same in a pack
        return replace(
            alone,
            copies=max(0, joined.steps[2].peak - 2 * packed_row - fixed),
            row_more=max(0, packed_row - row),
            steps={count: alone.steps[count] for count in rows},
        )
    finally:
        if collecting:
            gc.enable()


def _steps(sizes: BaseSizes, config: JobConfig, attention: Attention, batches: Sequence[Sequence[int]]) -> Traced:
    """Steps of members like ``config``, ``batch[k]`` rows of member k; what a member adds is not known here."""
    denoiser = sizes.build(DTYPES[config.trainer.precision].base)
    denoiser.set_gradient_checkpointing(enabled=config.trainer.gradient_checkpointing)
    members = [placeholder(config, number) for number in range(len(batches[0]))]
    for member in members:
        inject(denoiser.components, member.name, adapter_spec(member, denoiser))
    for network in denoiser.components.values():
        network.to(META)  # from memory that was never touched
    with META, attention_by(attention):
        pack = Pack(Denoising(denoiser), members, injected=True)
        held = _tensors(denoiser)
        stays = [*held, *_adapters(pack)]
        steps = {sum(batch): _step(pack, sizes, batch, stays) for batch in batches}
        alone = len(members) == 1
        forwards = {rows: _forward(pack, sizes, rows, stays) for rows in (1, 2)} if alone else {}
    weights = sum(_rounded(tensor.nbytes) for tensor in held)
    floats = pack.bank.weights.shape[1]
    return Traced(weights=weights, floats=floats, copies=0, row_more=0, steps=steps, forwards=forwards)


@contextmanager
def attention_by(attention: Attention) -> Iterator[None]:
    """What computes attention of tensors without a device, for which torch itself takes what keeps the scores.

    A mode of torch's would not do: the backward pass, where checkpointing runs a forward pass again, has none.
    """
    before = functional.scaled_dot_product_attention
    if attention == "fused":
        functional.scaled_dot_product_attention = _fused_attention  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = before


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    *,
    scale: float | None = None,
) -> Tensor:
    """Keeps what a card's fused kernels keep: queries, keys, values, the result and a number for each query."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    result: Tensor = fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return result


def run_once(pack: Pack, batch: PackBatch) -> None:
    """The forward and the backward pass of ``batch``: where a step's memory peaks."""
    with pack.bank.rows(batch.plan):
        member_losses(pack, batch).sum().backward()


def run_forward(pack: Pack, sizes: BaseSizes, rows: int) -> None:
    """A forward pass of the first member that keeps nothing, as members are scored and draw."""
    batch = zeros(pack, sizes, [rows])
    with torch.no_grad(), pack.bank.rows(RowPlan(places=(0,), counts=(rows,))):
        pack.task.judged(batch.rows.inputs)


def zeros(pack: Pack, sizes: BaseSizes, rows: Sequence[int]) -> PackBatch:
    """A batch of the right shapes, ``rows[k]`` rows of member k, with nothing in it."""
    config, count, dtype = pack.members[0].config, sum(rows), pack.dtypes.adapter
    task = cast("Denoising", pack.task)
    inputs = blank_inputs(task.denoiser, sizes, count, resolution=config.data.resolution, dtype=dtype)
    keys = [
        DropoutKey(seed=0, ordinal=n, probability=member.config.lora.dropout)
        for member, own in zip(pack.members, rows, strict=True)
        for n in range(own)
    ]
    return PackBatch(
        rows=StepRows(inputs=inputs, weight=torch.ones(count, dtype=dtype)),
        plan=RowPlan(
            places=tuple(range(len(rows))),
            counts=tuple(rows),
            dropout=tuple(keys) if any(key.probability for key in keys) else (),
        ),
        members=tuple(pack.members),
    )


def placeholder(config: JobConfig, number: int = 0) -> Member:
    """A member that trains nothing: it has a configuration and no data."""
    nothing = cast("Any", None)
    return Member(
        job=number,
        name=f"traced{number}",
        folder=Path(),
        config=config,
        material=nothing,
        provenance=Provenance(base_hash="", data_hash="", started_at=0.0),
        order=nothing,
        total_steps=1,
    )


def _step(pack: Pack, sizes: BaseSizes, rows: Sequence[int], held: Sequence[Tensor]) -> TracedStep:
    work, spots = Work(), Spots(sum(rows))
    tally = Tally(grain=GRAIN, work=work, inside=spots, recall=RECALL)
    tally.add(held)
    start = tally.mark()
    with tally:
        run_once(pack, zeros(pack, sizes, rows))
    return TracedStep(peak=tally.peak - start, ops=work.ops, flops=work.flops, spots=spots)


def _forward(pack: Pack, sizes: BaseSizes, rows: int, held: Sequence[Tensor]) -> Alive:
    inside = Convolutions()
    tally = Tally(grain=GRAIN, inside=inside, recall=RECALL)
    tally.add(held)
    start = tally.mark()
    with tally:
        run_forward(pack, sizes, rows)
    return Alive(tensors=tally.peak - start, inside=max(tally.peak - start, inside.most))


def _tensors(base: Base) -> list[Tensor]:
    """The base's own tensors; PEFT's parameters are views of the bank by now."""
    networks = base.components.values()
    named = [one for network in networks for one in (*network.named_parameters(), *network.named_buffers())]
    return [tensor for name, tensor in named if ".lora_" not in name]


def _adapters(pack: Pack) -> list[Tensor]:
    return [pack.bank.weights, pack.bank.gradients]


def _rounded(size: int) -> int:
    return -(-size // GRAIN) * GRAIN
