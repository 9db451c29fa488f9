"""How many members train together: a rule of thumb until a pack's first steps have told, then what they told.

What was told is journalled, so a resumed sweep decides as the first one did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lora_foundry.config.kinds import shared_text
from lora_foundry.config.length import rows_of
from lora_foundry.config.schema import JobConfig
from lora_foundry.wire.events import GainFound
from lora_foundry.wire.journal import GainLine

MOST_MEMBERS = 8
MOST_ROWS = 16
GROWS_FROM = 1.25  # a doubling that gained so much is worth another


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Most members of a pack, and most samples of one step of it; null for no bound of this kind."""

    members: int
    rows: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    members: int
    chosen: int
    ratio: float


class Sizes:
    """Limits by what is trained.

    Args:
        pack_size: What the user said; null leaves it to the rule and the trials.
        least_gain: The gain below which more members are not worth it; null tries nothing.
        gains: What was told in this sweep before.
    """

    def __init__(self, pack_size: int | None, least_gain: float | None, gains: Iterable[GainLine] = ()) -> None:
        self._pack_size = pack_size
        self._least_gain = least_gain if pack_size is None else None
        self._told: dict[str, _Told] = {}
        for line in gains:
            self._keep(line)

    def most(self, configs: Sequence[JobConfig]) -> Limit:
        """The limit of a pack of jobs like ``configs``."""
        if self._pack_size is not None:
            return Limit(members=self._pack_size, rows=None)
        told = self._told.get(key_of(configs))
        if told is None:
            return Limit(members=MOST_MEMBERS, rows=MOST_ROWS)
        grows = told.chosen == told.members and told.ratio >= GROWS_FROM
        return Limit(members=told.chosen * 2 if grows else told.chosen, rows=None)

    def trial(self, configs: Sequence[JobConfig]) -> float | None:
        """The gain that a pack of ``configs`` has to show on its first steps; null where it is known already.

        Packs that are to repeat themselves are not tried: what a clock says is another thing every time.
        """
        if configs[0].trainer.deterministic:
            return None
        told = self._told.get(key_of(configs))
        known = told is not None and len(configs) <= told.members
        return None if known or len(configs) < 2 else self._least_gain

    def learn(self, pack: str, configs: Sequence[JobConfig], told: GainFound) -> GainLine:
        """Take in what the worker of ``pack`` found; returns what to journal of it."""
        line = GainLine(
            pack=pack,
            key=key_of(configs),
            members=told.members,
            rows=told.rows,
            chosen=told.chosen,
            ratio=told.ratio,
            seconds=told.seconds,
        )
        self._keep(line)
        return line

    def _keep(self, line: GainLine) -> None:
        self._told[line.key] = _Told(members=line.members, chosen=line.chosen, ratio=line.ratio)


def key_of(configs: Sequence[JobConfig]) -> str:
    """What a gain depends on: the base and its input, and the rows that a member brings, in powers of two."""
    rows = rows_of(configs) / len(configs)
    digest = hashlib.sha256(shared_text(configs[0]).encode()).hexdigest()[:16]
    return f"{digest}-{2 ** max(0, round(rows) - 1).bit_length()}"


def in_words(told: GainFound) -> str:
    """What a trial found, for people."""
    members, chosen = told.members, told.chosen
    seconds = {int(size): float(took) for size, took in told.seconds.items()}
    if chosen < members:
        all_ms, apart_ms = seconds[members] * 1e3, seconds[chosen] * 1e3
        return (
            f"{members} together are no faster than {chosen} at a time ({all_ms:.0f} ms against {apart_ms:.0f} ms for "
            f"a step of all): packing more does not pay here"
        )
    return f"{members} together take a step {told.ratio:.2f} times as fast as in halves"
