"""What training will take, before anything runs.

The peak of a step is what stays (base, adapters, gradients, optimizer states) and what the forward pass keeps for the
backward pass. The first is arithmetic. The second is traced once for two numbers of rows and is a straight line between
and beyond them: each row brings activations of its own. Traces are kept by content, so a later look is a file read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.files import write_json
from lora_foundry.memory.attention import Attention, attention_of
from lora_foundry.memory.libraries import NOTHING, Beside
from lora_foundry.memory.scratch import Alive, Spot, lines
from lora_foundry.models.opening import open_sizes
from lora_foundry.training.optimizers import optimizer_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lora_foundry.config import JobConfig
    from lora_foundry.config.doing import Doing
    from lora_foundry.config.schema import OptimizerConfig
    from lora_foundry.models.protocol import BaseSizes

GIB = 2**30
TRACED_ROWS = (1, 2)
_FORMAT = 9  # of kept traces; part of every key
_ADAPTER_BYTES = {"64-true": 8}
_NOTHING_ALIVE = Alive(tensors=0, inside=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Bytes of a training at its peak.

    Attributes:
        weights: The frozen base.
        adapters: The members' weights.
        gradients: The members' gradients.
        optimizer: The members' optimizer states.
        copies: The members' weights in the base's dtype, where that is another.
        activations: What one forward pass keeps for its backward pass, and works with; on a CPU, what kernels do too.
        others: Networks beside the base.
        doing: What is done at the peak.
        workspaces: What a card's libraries take that counts as tensors.
        kept: What a card's allocator keeps between the blocks in use.
        context: What the program and the device's libraries take besides.
    """

    weights: int
    adapters: int
    gradients: int
    optimizer: int
    copies: int
    activations: int
    others: int = 0
    doing: Doing = "step"
    workspaces: int = 0
    kept: int = 0
    context: int = 0

    @property
    def stays(self) -> int:
        """Bytes that the members themselves keep from step to step."""
        return self.adapters + self.gradients + self.optimizer

    @property
    def tensors(self) -> int:
        """Bytes of the training's own tensors."""
        return self.weights + self.stays + self.copies + self.others + self.activations

    @property
    def allocated(self) -> int:
        """What ``torch.cuda.max_memory_allocated`` reports."""
        return self.tensors + self.workspaces

    @property
    def total(self) -> int:
        """Everything."""
        return self.allocated + self.kept + self.context


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """What steps of one kind take, for any number of members and rows.

    Attributes:
        weights: Bytes of the base.
        floats: Numbers of one adapter.
        adapter_bytes: Bytes of one number of an adapter.
        copy: Bytes that each member beyond the first adds beside its rows.
        fixed: Activation bytes of a step of no rows, with one member's copy.
        row: Activation bytes of each row.
        ops: Kernels of a step, forward and backward, whatever its rows.
        flops_fixed: Floating-point operations of a step of no rows.
        flops_row: Those of each row; what checkpointing computes again is in them.
        spots: Kernels that allocate for themselves on a CPU, where the step may peak.
        row_more: Activation bytes that a row takes beyond ``row`` where several members train.
        forward: Alive in a forward pass of one row that keeps nothing.
        guided: The same of two rows, which a picture with guidance has.
    """

    weights: int
    floats: int
    adapter_bytes: int
    copy: int
    fixed: int
    row: int
    ops: int
    flops_fixed: int
    flops_row: int
    spots: tuple[Spot, ...] = ()
    row_more: int = 0
    forward: Alive = _NOTHING_ALIVE
    guided: Alive = _NOTHING_ALIVE

    def needs(
        self,
        rows: int,
        optimizers: Sequence[OptimizerConfig],
        beside: Beside = NOTHING,
        *,
        cpu_threads: int | None = None,
    ) -> Needs:
        """A pack of ``len(optimizers)`` members whose forward takes ``rows`` rows.

        Args:
            rows: Of all members together.
            optimizers: Their settings, one a member.
            beside: What the process takes beside its tensors.
            cpu_threads: Of torch where it trains on a CPU, whose kernels allocate for themselves; null for a GPU.
        """
        one = self.floats * self.adapter_bytes
        activations = max(self.fixed + self.row_of(len(optimizers)) * rows, self.inside_kernels(rows, cpu_threads))
        return Needs(
            weights=self.weights,
            adapters=one * len(optimizers),
            gradients=one * len(optimizers),
            optimizer=int(sum(one * optimizer_choice(each.name).state_copies(each) for each in optimizers)),
            copies=self.copy * max(0, len(optimizers) - 1),  # the trace has had one
            activations=activations,
            workspaces=beside.workspaces,
            kept=int(activations * beside.kept_share),
            context=beside.context,
        )

    def row_of(self, members: int) -> int:
        """Activation bytes of each row where so many members train."""
        return self.row + (self.row_more if members > 1 else 0)

    def inside_kernels(self, rows: int, cpu_threads: int | None) -> int:
        """Bytes beyond what stays while a CPU kernel of the step has scratch memory of its own; 0 for a GPU (null)."""
        return max((spot.peak(rows, cpu_threads) for spot in self.spots), default=0) if cpu_threads and rows else 0

    def most_rows(self, budget: int, optimizers: Sequence[OptimizerConfig], beside: Beside = NOTHING) -> int:
        """Most rows of a forward that stay within ``budget`` bytes; 0 where not even one does."""
        spare = budget - self.needs(0, optimizers, beside).total
        return max(0, int(spare / (self.row_of(len(optimizers)) * (1.0 + beside.kept_share))))

    def most_members(self, budget: int, rows_each: int, optimizer: OptimizerConfig, beside: Beside = NOTHING) -> int:
        """Most members of ``rows_each`` rows that train in one forward within ``budget`` bytes."""
        alone, both, three = (self.needs(count * rows_each, [optimizer] * count, beside).total for count in (1, 2, 3))
        if budget < both:
            return int(budget >= alone)
        return 2 + (budget - both) // (three - both)


def together(
    curves: Sequence[Curve], configs: Sequence[JobConfig], beside: Beside = NOTHING, cpu_threads: int | None = None
) -> Needs:
    """What a pack of jobs takes whose adapters differ, all rows in one forward.

    Args:
        curves: Of each of ``configs``.
        configs: Of its members.
        beside: What the process takes beside its tensors.
        cpu_threads: See :meth:`Curve.needs`.
    """
    each = [curve.needs(0, [config.optimizer]) for curve, config in zip(curves, configs, strict=True)]
    rows = sum(config.data.batch_size for config in configs)
    own = sum(
        curve.row_of(len(configs)) * config.data.batch_size for curve, config in zip(curves, configs, strict=True)
    )
    copies = [curve.copy for curve in curves]
    activations = max(
        max(curve.fixed for curve in curves) + own, *(curve.inside_kernels(rows, cpu_threads) for curve in curves)
    )
    return Needs(
        weights=max(needs.weights for needs in each),
        adapters=sum(needs.adapters for needs in each),
        gradients=sum(needs.gradients for needs in each),
        optimizer=sum(needs.optimizer for needs in each),
        copies=sum(copies) - max(copies),
        activations=activations,
        workspaces=beside.workspaces,
        kept=int(activations * beside.kept_share),
        context=beside.context,
    )


def predict(config: JobConfig, *, members: int = 1, beside: Beside = NOTHING) -> Needs:
    """What a pack of ``members`` jobs like ``config`` takes, all rows in one forward, on a card of today.

    Raises:
        lora_foundry.models.protocol.BaseError: When the base's configs are missing.
        ValueError: When a target is not in the base.
    """
    curve = curve_of(config)
    return curve.needs(members * config.data.batch_size, [config.optimizer] * members, beside)


def curve_of(config: JobConfig, attention: Attention | None = None, *, alone: bool = False) -> Curve:
    """The curve of ``config``'s kind of step, from the cache or traced now (seconds).

    Args:
        config: One of its jobs.
        attention: What computes it where the job trains; null is what a card of today has.
        alone: Whether one member is all that is asked about, which takes half as long; further ones add nothing then.

    Raises:
        lora_foundry.models.protocol.BaseError: When the base's configs are missing.
        ValueError: When a target is not in the base.
    """
    sizes = open_sizes(config.model)
    attention = attention or attention_of(config.trainer.precision, card=True)
    whole, own = (_path(config, sizes, attention, alone=one) for one in (False, True))
    for path in (whole, own) if alone else (whole,):
        known = _read(path)
        if known is not None:
            return known
    from lora_foundry.memory.trace import trace_step  # a kept trace is served without torch

    traced = trace_step(sizes, config, TRACED_ROWS, attention, packed=not alone)
    fixed, row = _line({rows: step.peak for rows, step in traced.steps.items()})
    flops_fixed, flops_row = _line({rows: step.flops for rows, step in traced.steps.items()})
    curve = Curve(
        weights=traced.weights,
        floats=traced.floats,
        adapter_bytes=_ADAPTER_BYTES.get(config.trainer.precision, 4),
        copy=traced.copies,
        row_more=traced.row_more,
        fixed=fixed,
        row=row,
        ops=traced.steps[TRACED_ROWS[-1]].ops,  # a single row spares some, and no row adds any
        flops_fixed=flops_fixed,
        flops_row=flops_row,
        spots=tuple(lines(*(traced.steps[rows].spots for rows in TRACED_ROWS))),
        forward=traced.forwards[1],
        guided=traced.forwards[2],
    )
    write_json(own if alone else whole, dataclasses.asdict(curve))
    return curve


def _line(values: Mapping[int, int]) -> tuple[int, int]:
    """The straight line through two traces: its value at no rows, and what each row adds."""
    (few, low), (many, high) = sorted(values.items())
    slope = (high - low) // (many - few)
    return low - few * slope, slope


def is_known(config: JobConfig, attention: Attention | None = None) -> bool:
    """Whether :func:`curve_of` answers at once."""
    return _read(_path(config, open_sizes(config.model), attention)) is not None


def _path(config: JobConfig, sizes: BaseSizes, attention: Attention | None = None, *, alone: bool = False) -> Path:
    """Where the trace is kept: named by everything that decides it."""
    decides = {
        "base": sizes.fingerprint,
        "kind": config.lora.kind,
        "targets": config.lora.target_modules,
        "rank": config.lora.rank,
        "plain": config.lora.alpha == config.lora.rank and not config.lora.use_rslora,
        "dropout": config.lora.dropout > 0,
        "resolution": config.data.resolution,
        "precision": config.trainer.precision,
        "attention": attention or attention_of(config.trainer.precision, card=True),
        "checkpointing": config.trainer.gradient_checkpointing,
    }
    return kept_at(config, decides | ({"members": 1} if alone else {}))


def kept_at(config: JobConfig, decides: Mapping[str, object]) -> Path:
    """Where a trace is kept that ``decides`` alone decide, of this form of trace and these versions of libraries."""
    whole = {
        **decides,
        "format": _FORMAT,
        "versions": [version(name) for name in ("torch", "diffusers", "peft", "transformers")],
    }
    name = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    return Path(config.data.cache_dir) / "memory" / f"{name[:32]}.json"


def _read(path: Path) -> Curve | None:
    try:
        values = json.loads(path.read_text())
        spots = tuple(Spot(**spot) for spot in values["spots"])
        alive = {name: Alive(**values[name]) for name in ("forward", "guided")}
        return Curve(**values | {"spots": spots, **alive})
    except (OSError, ValueError, TypeError, KeyError):
        return None
