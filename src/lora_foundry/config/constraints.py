"""Limits of single fields, written in their annotations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable


@runtime_checkable
class Constraint(Protocol):
    """A limit on one value."""

    def holds(self, value: object) -> bool:
        """Whether ``value`` lies within the limit."""

    def allowed(self) -> str:
        """The limit in words, as it stands in an error."""


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        msg = f"a numeric constraint was put on {value!r}"
        raise TypeError(msg)
    return value  # not float(value): that rounds a large seed, and overflows


def _shown(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """``value >= low``."""

    low: float

    def holds(self, value: object) -> bool:
        return _number(value) >= self.low

    def allowed(self) -> str:
        return f"at least {_shown(self.low)}"


@dataclass(frozen=True, slots=True)
class MoreThan:
    """``value > low``."""

    low: float

    def holds(self, value: object) -> bool:
        return _number(value) > self.low

    def allowed(self) -> str:
        return f"more than {_shown(self.low)}"


@dataclass(frozen=True, slots=True)
class Between:
    """``low <= value <= high``."""

    low: float
    high: float

    def holds(self, value: object) -> bool:
        return self.low <= _number(value) <= self.high

    def allowed(self) -> str:
        return f"from {_shown(self.low)} to {_shown(self.high)}"


@dataclass(frozen=True, slots=True)
class Untried:
    """No limit on what is allowed: it names what would be, had anybody tried it."""

    name: str

    def holds(self, value: object) -> bool:  # noqa: ARG002  # what it names is no choice
        return True

    def allowed(self) -> str:
        return f"and not {self.name}, which nobody has tried yet"


@dataclass(frozen=True, slots=True)
class IsPath:
    """No limit: the text is a path, and ``~`` at its beginning somebody's home folder."""


@dataclass(frozen=True, slots=True)
class NonEmpty:
    """A text with something in it."""

    def holds(self, value: object) -> bool:
        return bool(str(value).strip())

    def allowed(self) -> str:
        return "not empty"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text of certain characters only."""

    regex: str
    words: str

    def holds(self, value: object) -> bool:
        return re.fullmatch(self.regex, str(value)) is not None

    def allowed(self) -> str:
        return self.words


PathText = Annotated[str, NonEmpty(), IsPath()]
