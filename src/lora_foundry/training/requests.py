"""What is asked of a pack while it trains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_foundry.training.member import Member
    from lora_foundry.wire.forks import Donor


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A member that wants in.

    Attributes:
        member: The member.
        resume: Whether it continues from its newest checkpoint.
        donor: Another one that it begins from where it has no checkpoint of its own; null begins anew.
    """

    member: Member
    resume: bool
    donor: Donor | None = None


def _nobody() -> list[Arrival]:
    """No one waits."""
    return []


def _no_trial() -> None:
    """Any gain will do."""


def _unheard(_: object) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requests:
    """What is asked of a pack while it trains; by default nothing.

    Attributes:
        stopped: Asked between steps for the numbers of the jobs that are to end; each is checkpointed and KILLED.
        pruned: The same of those that going on with is not worth it; each is checkpointed and PRUNED.
        arriving: Asked between steps for members that want in.
        least_gain: Asked when members begin, for the gain below which they are not worth training together (tried on
            their first steps: those that are better trained apart are handed back); None tries nothing.
        pace: Is told (members, rows, seconds of a step) of what was seen.
    """

    stopped: Callable[[], Collection[int]] = frozenset
    pruned: Callable[[], Collection[int]] = frozenset
    arriving: Callable[[], Sequence[Arrival]] = _nobody
    least_gain: Callable[[], float | None] = _no_trial
    pace: Callable[[list[tuple[int, int, float]]], None] = _unheard
