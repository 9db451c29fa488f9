"""What a step is: one forward and one backward of the base for all members of a pack.

1. join one micro-batch of every active member; where memory is short, in several parts one after another
2. loss_m = sum over the member's rows of weight * the task's loss / the whole weight of its optimizer step
3. one backward of the sum of all loss_m; rows of one member reach no other member's matrices
4. each member whose accumulation is full: norm, clip, learning rate, its own optimizer

In fp16 each loss_m has a scale of its own between 2 and 3, which is taken off the member's gradients before 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_foundry.training.batch import PackBatch, assemble
from lora_foundry.training.loss_scale import is_hopeless, note_good, note_overflow
from lora_foundry.training.probing import reason_of
from lora_foundry.training.schedules import learning_rate
from lora_foundry.training.shortage import OutOfMemoryError, is_out_of_memory, let_go

if TYPE_CHECKING:
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack


@dataclass(kw_only=True, slots=True)
class StepResult:
    """What one step did.

    Attributes:
        stepped: Members whose optimizer step is over.
        skipped: Those of them that took none, since fp16 was too small for a gradient.
        failed: Members whose loss or gradient was not finite; they took none.
    """

    stepped: list[Member] = field(default_factory=list)
    skipped: list[Member] = field(default_factory=list)
    failed: list[Member] = field(default_factory=list)


def run_step(pack: Pack) -> StepResult:
    """One micro-step of every active member of ``pack`` that does not rest.

    Where memory runs out, the members that have not stepped yet go back to the beginning of their optimizer step,
    the pack gives way (``pack.relief``), and they try again. A member whose pack can give no further way fails.
    """
    result = StepResult()
    while left := _left(pack, result):
        try:
            _attempt(pack, left, result)
            break
        except Exception as error:
            if not is_out_of_memory(error, pack.device):
                raise
            reason = reason_of(error)
        # Behind the handler: its traceback held the activations.
        left = _left(pack, result)
        for member in left:
            _to_the_steps_beginning(pack, member)
        let_go(pack.device)
        try:
            pack.relief.give_way(pack, reason)
        except OutOfMemoryError as error:
            for member in left:
                member.fail(str(error))
                result.failed.append(member)
    return result


def _left(pack: Pack, result: StepResult) -> list[Member]:
    done = {member.name for member in (*result.stepped, *result.failed)}
    return [member for member in pack.stepping if member.name not in done]


def _to_the_steps_beginning(pack: Pack, member: Member) -> None:
    """Everything random is named by the sample's ordinal, so what is drawn again is the same."""
    member.count.ordinal -= member.count.micro * member.config.data.batch_size
    member.count.micro, member.count.loss_sum = 0, 0.0
    pack.bank.gradients[pack.bank.place(member.name)].zero_()


def _attempt(pack: Pack, members: list[Member], result: StepResult) -> None:
    batch = assemble(pack.task, members, pack.bank, dtype=pack.dtypes.adapter)
    totals = dict.fromkeys((member.name for member in members), 0.0)
    for part in batch.cut(pack.rows):
        with pack.bank.rows(part.plan):
            losses = member_losses(pack, part)
            with_scales(pack, part, losses).sum().backward()
        for member, loss in zip(part.members, losses.detach().tolist(), strict=True):
            totals[member.name] += loss
    for member in members:
        member.count.loss_sum += totals[member.name]
        member.count.micro += 1
        member.count.ordinal += member.config.data.batch_size
    _update(pack, [m for m in members if m.count.micro >= m.config.trainer.accumulate], result)


def member_losses(pack: Pack, batch: PackBatch) -> Tensor:
    """Each member's share of its optimizer step's loss, ``[K]``, differentiable."""
    per_row, weight = pack.task.losses(batch.rows.inputs), batch.rows.weight
    wholes = zip(map(pack.task.whole, batch.members), batch.plan.counts, strict=True)
    of_rows = torch.tensor([whole for whole, count in wholes for _ in range(count)], dtype=weight.dtype)
    shares = (weight / of_rows).to(pack.device, non_blocking=True)  # divided on the CPU: a card has one kernel for all
    weighted = per_row * shares
    if batch.plan.uniform:
        return weighted.view(len(batch.members), -1).sum(dim=1)
    return torch.stack([weighted[rows].sum() for rows in batch.plan.slices()])


def with_scales(pack: Pack, batch: PackBatch, losses: Tensor) -> Tensor:
    """``losses [K]`` as the backward pass has them: each times its member's scale where the base computes in fp16."""
    if not pack.dtypes.scaled:
        return losses
    return losses * _like(losses, [member.count.loss_scale for member in batch.members])


def _unscale(pack: Pack, full: list[Member]) -> None:
    """Take the scales off the gradients of ``full``, in one operation over ``[K, P]``; the others keep theirs."""
    if not (pack.dtypes.scaled and full):
        return
    shares = [1.0] * len(pack.bank.gradients)
    for member in full:
        shares[pack.bank.place(member.name)] = 1.0 / member.count.loss_scale
    pack.bank.gradients.mul_(_like(pack.bank.gradients, shares)[:, None])


def _like(tensor: Tensor, numbers: list[float]) -> Tensor:
    """``numbers`` beside ``tensor``, in its dtype; nobody waits for the copy."""
    return torch.tensor(numbers, dtype=tensor.dtype).to(tensor.device, non_blocking=True)


def _update(pack: Pack, full: list[Member], result: StepResult) -> None:
    """Clip and step ``full``; each is done with, counters and all, before anything else may fail."""
    _unscale(pack, full)
    gradients = pack.bank.gradients
    norms = [torch.linalg.vector_norm(gradients[pack.bank.place(member.name)]) for member in full]
    rates: dict[str, float] = {}
    for member, norm in zip(full, torch.stack(norms).tolist() if norms else [], strict=True):
        place, loss = pack.bank.place(member.name), member.count.loss_sum
        finite = math.isfinite(loss) and math.isfinite(norm)
        if not finite and pack.dtypes.scaled and not is_hopeless(member.count, member.total_steps):
            _skip(pack, member, result)
            continue
        member.loss, member.grad_norm = loss, norm
        if not finite:
            _end_step(pack, member)
            member.count.ordinal -= member.effective_batch  # the samples that led to no step
            member.fail(_not_finite(member))
            result.failed.append(member)
            continue
        limit = member.config.trainer.max_grad_norm
        if limit is not None and norm > limit:
            gradients[place].mul_(limit / norm)
        config = member.config
        rates[member.name] = learning_rate(
            config.optimizer, config.scheduler, step=member.count.step, total=member.total_steps
        )
    for names in pack.optimizer.steps(rates):
        for member in full:
            if member.name in names:
                member.scale = pack.optimizer.scale(member.name)
                member.rate = rates[member.name] * (1.0 if member.scale is None else member.scale)
                _end_step(pack, member)
                member.count.step += 1
                if pack.dtypes.scaled:
                    note_good(member.count)
                result.stepped.append(member)


def _skip(pack: Pack, member: Member, result: StepResult) -> None:
    """The step ends as any does, and the adapter and its optimizer stay as they are."""
    _end_step(pack, member)
    member.count.step += 1
    note_overflow(member.count)
    result.stepped.append(member)
    result.skipped.append(member)


def _not_finite(member: Member) -> str:
    """What is wrong with the step that was not taken, and what can be done."""
    rate, limit = member.config.optimizer.lr, member.config.trainer.max_grad_norm
    what = f"the loss is {member.loss:g} and its gradient norm {member.grad_norm:g} at step {member.count.step + 1}"
    if member.config.trainer.precision == "16-mixed":
        advice = (
            f"fp16 cannot hold that, at a loss scale of {member.count.loss_scale:g} after {member.count.skipped} steps "
            f"that were not taken for it; lower optimizer.lr (now {rate:g}) or take trainer.precision=32-true"
        )
    elif member.count.step == 0:
        advice = "no update was made before, so look at trainer.precision, the base and lora.init_from"
    elif limit is None:
        advice = f"lower optimizer.lr (now {rate:g}) or set trainer.max_grad_norm (now null), for instance to 1"
    else:
        advice = f"lower optimizer.lr (now {rate:g}) or trainer.max_grad_norm (now {limit:g})"
    return f"{what}, allowed are finite numbers; {advice}"


def _end_step(pack: Pack, member: Member) -> None:
    member.count.micro, member.count.loss_sum = 0, 0.0
    pack.bank.gradients[pack.bank.place(member.name)].zero_()
