"""How much an adapter changes what it should not: its predictions against the base's where nothing was to be learned.

Over the rows ``v`` of captions that have nothing to do with the data, at the levels of noise of a validation, with the
same noise for every job,

    val/drift = sum_v |e_adapter(v) - e_base(v)|^2 / sum_v |e_base(v)|^2,

0 of an adapter that changes nothing there and 1 of one that moves the predictions by as much as they are large. The
distance is the one that Ruiz et al. 2023 (DreamBooth, arXiv:2208.12242, eq. 2) hold small in training by pictures that
the base drew itself; here it is between predictions, as Gandikota et al. 2023 (arXiv:2303.07345, eq. 5) have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_foundry.training.forwards import measure, repeated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lora_foundry.config.schema_results import ValidationConfig
    from lora_foundry.tasks.protocol import FixedRows, Judged
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack


@dataclass(frozen=True, kw_only=True, slots=True)
class _Base:
    """What the base predicts on the V rows.

    Attributes:
        rows: The rows.
        prediction: ``[V, D]``, flat, in the adapters' type.
        size: The mean of its squares.
    """

    rows: FixedRows
    prediction: Tensor
    size: float


class Drift:
    """Measures members of one pack; the base's own predictions are made once a set of rows."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._base: dict[ValidationConfig, _Base | None] = {}

    def of(self, members: Sequence[Member]) -> dict[str, float]:
        """The drift of ``members``, of equal ``validation``, by name; nothing where none is asked for."""
        base = self._base_of(members[0])
        if base is None:
            return {}
        found = {member.name: 0.0 for member in members}
        trained = [member for member in members if not self._pack.bank.is_zero(member.name)]
        if trained:
            moved = measure(self._pack, base.rows, trained, lambda judged, part: _moved(judged, base.prediction[part]))
            found |= {member.name: float(own.mean()) / base.size for member, own in zip(trained, moved, strict=True)}
        return found

    def _base_of(self, member: Member) -> _Base | None:
        key = member.config.validation
        if key not in self._base:
            self._base[key] = self._measured(member)
        return self._base[key]

    def _measured(self, member: Member) -> _Base | None:
        dtype = self._pack.dtypes.adapter
        rows = self._pack.task.drift_rows(member, self._pack, dtype)
        if rows is None:
            return None
        flat = measure(self._pack, rows, (), lambda judged, _: judged.prediction.flatten(1).T)[0].T
        return _Base(rows=rows, prediction=flat.to(dtype), size=float(flat.square().mean()))


def _moved(judged: Judged, base: Tensor) -> Tensor:
    """``[1, N]``: mean squared distances of the N rows' predictions from those of the base, ``[rows, D]``."""
    own = judged.prediction.flatten(1)
    return (own - repeated(base, len(own) // len(base)).to(own)).square().mean(1)[None]
