"""A validation that means something.

The rows that the task has fixed are the same for every run whatever its rank, batch, seed or device, so that two
numbers differ by what the adapters learned and by nothing else. Divided by the base's own on the same rows a number is
below 1 where the adapter is better than none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_foundry.config.logged import DRIFT
from lora_foundry.config.schema_results import LOSS
from lora_foundry.data.cache import device_name, key_of
from lora_foundry.tasks.metrics import MetricChoice, metric_choice
from lora_foundry.training.drift import Drift
from lora_foundry.training.forwards import measure
from lora_foundry.wire.by_item import ByItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_foundry.config.schema_results import ValidationConfig
    from lora_foundry.tasks.protocol import FixedRows, Judged
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack

_LOG = logging.getLogger(__name__)
_DIGITS = 10  # of a loss of one item, as told
Metrics = dict[str, MetricChoice]
"""The M metrics of a member, by name, in the order of ``validation.metrics``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One metric of a member on the fixed rows.

    Attributes:
        value: Over all rows.
        relative: ``value`` divided by the base's own.
        by_group: Over each group of rows that the task tells apart, such as bands of noise levels.
    """

    value: float
    relative: float
    by_group: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What was measured of a member.

    Attributes:
        measures: By the metrics' names (``validation.metrics``).
        by_item: Its losses item by item.
        drift: How far it moved what the base predicts elsewhere (:mod:`lora_foundry.training.drift`); None where that
            was not asked for.
    """

    measures: dict[str, Measure]
    by_item: ByItem
    drift: float | None = None

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self.measures[LOSS].value

    @property
    def relative(self) -> float:
        """The mean loss over the base's own: what adapters are compared by."""
        return self.measures[LOSS].relative

    def metrics(self) -> dict[str, float]:
        """As logged."""
        named: dict[str, float] = {}
        for name, one in self.measures.items():
            named |= {f"val/{name}": one.value, f"val/{name}_rel": one.relative}
            named |= {f"val/{name}_{group}": value for group, value in one.by_group.items()}
        return named if self.drift is None else named | {DRIFT: self.drift}

    def others(self) -> dict[str, float]:
        """What the end of a member is reported with beside its loss."""
        rest = {name: one for name, one in self.measures.items() if name != LOSS}
        return {f"val_{name}": one.value for name, one in rest.items()} | {
            f"val_{name}_rel": one.relative for name, one in rest.items()
        }


class Validator:
    """Scores members of one pack; the base itself is measured once a set of rows."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._rows: dict[tuple[int, ValidationConfig], FixedRows] = {}
        self._digests: dict[tuple[int, ValidationConfig], str] = {}
        self._data: dict[int, object] = {}  # held, or a later member's data might get the id of one that has left
        self._base: dict[tuple[int, ValidationConfig], Tensor] = {}
        self._drift = Drift(pack)

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
                self._base[key] = self._of_base(rows, self._digests[key], group[0])
            trained = [member for member in group if not self._pack.bank.is_zero(member.name)]
            metrics = _metrics_of(group[0])
            found = self._measure(rows, trained, metrics) if trained else ()
            values = dict(zip((m.name for m in trained), found, strict=True))
            drifts = self._drift.of(group)
            for member in group:  # an adapter that is still zero gives the base's own outputs
                own, base = values.get(member.name, self._base[key]), self._base[key]
                place = list(metrics).index(LOSS)
                scores[member.name] = Score(
                    measures=_measures(rows, metrics, own, base),
                    by_item=_by_item(rows, self._digests[key], member, own[place], base[place]),
                    drift=drifts.get(member.name),
                )
        return scores

    def check(self, member: Member) -> float | None:
        """The loss of the weights that ``member`` has, over the base's, on images and noise that nothing was chosen by.

        None where none are asked for, or none are left.
        """
        rows = self._pack.task.check_rows(member, self._pack.dtypes.adapter)
        if rows is None:
            return None
        only = {LOSS: metric_choice(LOSS)}
        base, own = (self._measure(rows, of, only)[0, 0].mean() for of in ((), (member,)))
        return float(own / base)

    def _fixed_rows(self, key: tuple[int, ValidationConfig], member: Member) -> FixedRows:
        if key not in self._rows:
            rows = self._rows[key] = self._pack.task.fixed_rows(member, self._pack.dtypes.adapter)
            self._digests[key] = rows.digest()
        return self._rows[key]

    def _of_base(self, rows: FixedRows, digest: str, member: Member) -> Tensor:
        """``[M, V]``: the base's own numbers on ``rows``, from the cache where another pack has computed them.

        Its losses alone are kept: no key tells how another metric is computed.
        """
        metrics = _metrics_of(member)
        if member.cache is None or tuple(metrics) != (LOSS,):
            return self._measure(rows, [], metrics)[0]
        pack = self._pack
        key = key_of(
            {
                "kind": "base losses",
                "base": member.provenance.base_hash,
                "rows": digest,
                **pack.task.decides(),
                **pack.dtypes.decides(pack.device),
                "device": device_name(pack.device),
                "torch": torch.__version__,
            }
        )
        kept = member.cache.get(key)
        if kept is not None:
            return kept["losses"][None]
        losses = self._measure(rows, [], metrics)[0]
        if bool(losses.isfinite().all()):
            try:
                member.cache.put(key, {"losses": losses[0]})
            except OSError as error:  # nothing is lost but time: the next pack computes them again
                _LOG.warning("the base's validation losses were not kept: %s", error)
        return losses

    def _measure(self, rows: FixedRows, members: Sequence[Member], metrics: Metrics) -> Tensor:
        """``[K, M, V]`` of the members, or ``[1, M, V]`` of the base where ``members`` is empty."""

        def taken(judged: Judged, _: slice) -> Tensor:
            return torch.stack([metric.of_rows(judged).to(judged.losses.dtype) for metric in metrics.values()])

        return measure(self._pack, rows, members, taken)


def _metrics_of(member: Member) -> Metrics:
    return {name: metric_choice(name) for name in member.config.validation.metrics}


def _measures(rows: FixedRows, metrics: Metrics, values: Tensor, base: Tensor) -> dict[str, Measure]:
    """Of ``[M, V]`` numbers and the base's own."""
    return {
        name: Measure(
            value=float(metric.over(own)),
            relative=float(metric.over(own) / metric.over(bases)),
            by_group={group: float(metric.over(own[inside])) for group, inside in rows.groups.items()},
        )
        for (name, metric), own, bases in zip(metrics.items(), values, base, strict=True)
    }


def _by_item(rows: FixedRows, digest: str, member: Member, losses: Tensor, base: Tensor) -> ByItem:
    """Of losses ``[V]`` and the base's own.

    An item counts by its rows, so that the mean over items is that over rows: where all items have as many rows, its
    number is its rows' mean loss over the base's mean of all.
    """
    of_rows = rows.items or tuple(str(row) for row in range(len(rows)))
    places = {item: place for place, item in enumerate(dict.fromkeys(of_rows))}
    index = torch.tensor([places[item] for item in of_rows])

    def told(values: Tensor) -> tuple[float, ...]:
        sums = torch.zeros(len(places), dtype=values.dtype).index_add_(0, index, values)
        return tuple(float(f"{value:.{_DIGITS - 1}e}") for value in (sums * (len(places) / base.sum())).tolist())

    return ByItem(
        step=member.count.step,
        samples=member.samples,
        rows=digest,
        items=tuple(places),
        relative=told(losses),
        base=told(base),
        called=rows.called,
    )
