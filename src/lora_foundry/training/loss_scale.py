"""A loss scale for each member whose base computes in fp16, moved as ``torch.amp.GradScaler`` moves its own.

fp16 has nothing between 0 and 6e-8, where many gradients of activations lie. So a member's loss is multiplied by its
scale before the backward pass, and its row of the bank divided by it before anybody looks at it. Where a gradient grew
too large for fp16 that step is not taken and the scale is halved; after 2,000 steps without that it is doubled
(Micikevicius et al. 2018, Mixed Precision Training, section 3.2). Scales are powers of two, so they round nothing, and
as rows of a batch do not meet, a mate's scale is nothing to anybody else.

A step that is not taken counts as a step all the same, as with everybody who uses a GradScaler: its samples are seen,
the schedule goes on, and a training ends after as many steps as were asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_foundry.training.member import Counters

INITIAL = 65536.0
_GROWTH, _BACKOFF, _INTERVAL = 2.0, 0.5, 2000
_LEAST = 1.0  # gradients that are too large without any scale are none that fp16 could hold


def note_good(count: Counters) -> None:
    """A step was taken: after enough of them a larger scale is tried."""
    count.good_steps += 1
    if count.good_steps == _INTERVAL:
        count.loss_scale, count.good_steps = count.loss_scale * _GROWTH, 0


def note_overflow(count: Counters) -> None:
    """A step was not taken, since something in it was too large: the next has half the scale."""
    count.loss_scale, count.good_steps = count.loss_scale * _BACKOFF, 0
    count.skipped += 1


def is_hopeless(count: Counters, total_steps: int) -> bool:
    """Whether another overflow is no accident: there is no scale to halve, or no step was taken and none is left."""
    return count.loss_scale <= _LEAST or count.skipped + 1 >= total_steps
