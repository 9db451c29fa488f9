"""The space of a search, from Hydra's override grammar, and a trial's values as words of a command line.

``4,8,16`` and ``choice(4,8,16)`` list values, ``range(start,stop,step)`` is Hydra's own (``stop`` is not in it),
``interval(low,high)`` is any number from low to high; ``tag(log,interval(...))`` searches its logarithm, and
``int(...)``, ``tag(int,...)`` or a key that takes whole numbers make it one of them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lora_foundry.config.errors import SweepError
from lora_foundry.config.hints import hint_of
from lora_foundry.config.parse import nearest
from lora_foundry.launch.points.hydra_keys import is_hydra
from lora_foundry.launch.points.spread import values_of

_DIGITS = 4
"""Significant digits of a number from an interval: no adapter tells more apart, and names and tables stay short."""
_MOST = 10_000  # combinations that are gone through to see whether one is left
Value = CategoricalChoiceType
"""What a study holds of a key: a number, a text, a truth value or null."""
Values = Mapping[str, Any]
"""Key to value of one trial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """One key that is searched.

    Attributes:
        key: As on the command line.
        distribution: Optuna's.
        texts: Value to what stands behind ``key=``, where values are listed.
        condition: Another key and the values of it with which this one is searched; null is always.
    """

    key: str
    distribution: BaseDistribution
    texts: Mapping[Value, str] | None = None
    condition: tuple[str, tuple[Value, ...]] | None = None

    @property
    def is_list(self) -> bool:
        """Whether its values are listed, in no order."""
        return self.texts is not None

    @property
    def values(self) -> tuple[Value, ...] | None:
        """All of them, in order; null for an interval of floats."""
        one = self.distribution
        if isinstance(one, CategoricalDistribution):
            return tuple(one.choices)
        if isinstance(one, IntDistribution):
            return tuple(range(one.low, one.high + 1, one.step))
        if isinstance(one, FloatDistribution) and one.step is not None:
            count = round((one.high - one.low) / one.step) + 1
            return tuple(rounded(one.low + place * one.step) for place in range(count))
        return None

    def ends(self) -> tuple[Value, ...]:
        """Values that stand for all where the rules of the configuration are asked: all listed, else both ends."""
        one = self.distribution
        if isinstance(one, IntDistribution | FloatDistribution):
            return (one.low, one.high)
        return self.values or ()

    def word(self, value: Any) -> str:  # noqa: ANN401  # a Value
        """``key=value`` for Hydra's grammar."""
        return f"{self.key}={self.texts[value] if self.texts is not None else _written(value)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """All that is searched.

    Attributes:
        dimensions: In the order given.
        fixed: Words that every trial has.
    """

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """As Optuna asks for them."""
        return {one.key: one.distribution for one in self.dimensions}

    def active(self, values: Values) -> dict[str, Any]:
        """What of a trial's values is used: of a key with a condition only where that holds."""
        return {one.key: values[one.key] for one in self.dimensions if one.key in values and _holds(one, values)}

    def words(self, values: Values) -> list[str]:
        """The override list of a trial."""
        used = self.active(values)
        return [*self.fixed, *(one.word(used[one.key]) for one in self.dimensions if one.key in used)]

    def id_of(self, values: Values) -> str:
        """The same for trials that train the same adapter."""
        return json.dumps(self.active(values), sort_keys=True)

    def ids(self) -> frozenset[str] | None:
        """Of all combinations; null where they are not known, or too many to be gone through."""
        if not self.combinations_are_known:
            return None
        rows = list(itertools.islice(self.combinations(), _MOST + 1))
        return None if len(rows) > _MOST else frozenset(map(self.id_of, rows))

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Every one, the last key fastest; none where an interval has too many."""
        columns = [one.values for one in self.dimensions]
        if None in columns:
            return
        for row in itertools.product(*(column for column in columns if column is not None)):
            yield dict(zip((one.key for one in self.dimensions), row, strict=True))

    @property
    def combinations_are_known(self) -> bool:
        """Whether there are only so many."""
        return all(one.values is not None for one in self.dimensions)

    def probes(self) -> list[dict[str, Value]]:
        """Few trials in which each end of each dimension is once: what the rules refuse shows in them."""
        ends = [one.ends() for one in self.dimensions]
        return [
            {one.key: listed[place % len(listed)] for one, listed in zip(self.dimensions, ends, strict=True)}
            for place in range(max(map(len, ends)))
        ]

    def of_words(self, given: Mapping[str, object], where: str) -> dict[str, Value]:
        """The values of a mapping that names keys of the space.

        Args:
            given: Key to value, as YAML reads it.
            where: What is told of a wrong one first.

        Raises:
            SweepError: For a key that is not searched, or a value outside the space.
        """
        known = {one.key: one for one in self.dimensions}
        problems = [
            f"{where}: {key} is not searched{nearest(key, [*known])}; searched are {', '.join(known)}"
            for key in given
            if key not in known
        ]
        values: dict[str, Value] = {}
        for key, value in given.items():
            if key in known and (found := _value_of(known[key], value)) is not None:
                values[key] = found[0]
            elif key in known:
                problems.append(f"{where}: {key}: got {value!r}, which is not in {shown(known[key])}")
        if problems:
            raise SweepError(problems)
        return values


def space_of(overrides: Sequence[Override], conditions: Mapping[str, str]) -> Space:
    """The space that a command line spans.

    Args:
        overrides: Parsed words; of a key that is given twice the last one counts.
        conditions: Key to ``other=value`` or ``other=value,value``.

    Raises:
        SweepError: With a line for each that cannot be searched.
    """
    last = {override.get_key_element(): override for override in overrides}
    dimensions: dict[str, Dimension] = {}
    fixed: list[str] = []
    problems: list[str] = []
    for key, override in last.items():
        if not override.is_sweep_override():
            fixed += values_of(override)
            continue
        try:
            dimensions[key] = _dimension(key, override)
        except SweepError as error:
            problems += error.problems
    found, wrong = _conditions(dimensions, conditions)
    problems += wrong
    if not dimensions and not problems:
        problems.append(
            "a search needs something to search: lora.rank=choice(4,8,16), or optimizer.lr=tag(log,interval(1e-5,1e-2))"
        )
    if problems:
        raise SweepError(problems)
    return Space(dimensions=tuple(found), fixed=tuple(word for word in fixed if not is_hydra(word)))


def shown(one: Dimension) -> str:
    """A dimension as it could be typed."""
    made = one.distribution
    if isinstance(made, IntDistribution | FloatDistribution):
        if made.step not in (None, 1):
            return f"{one.key} from {made.low} to {made.high} by {made.step}"
        return f"{one.key} from {made.low} to {made.high}{', by its logarithm' if made.log else ''}"
    return f"{one.key}={','.join((one.texts or {}).values())}"


def rounded(value: float) -> float:
    """``value`` with as many digits as are searched."""
    return float(f"{value:.{_DIGITS}g}")


def _dimension(key: str, override: Override) -> Dimension:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return _of_interval(key, override, sweep)
    if isinstance(sweep, RangeSweep):
        return _of_range(override, key, sweep)
    texts = [word.partition("=")[2] for word in values_of(override)]
    if not texts:
        raise SweepError([f"{key}: no value left to search (a glob without a match)"])
    return _of_list(key, texts)


def _of_interval(key: str, override: Override, sweep: IntervalSweep) -> Dimension:
    low, high = sweep.start, sweep.end
    word, log = override.input_line, "log" in sweep.tags
    kinds = _kinds(key)
    if low is None or high is None or not kinds.intersection((int, float)):
        raise SweepError([f"{word}: an interval is of numbers, and {key} takes none; list values: {key}=choice(...)"])
    if not low < high:
        raise SweepError(
            [f"{word}: got an interval from {low:g} to {high:g}, allowed is from a number to a larger one"]
        )
    if log and low <= 0:
        raise SweepError([f"{word}: got a logarithm from {low:g}, allowed is from a number above 0"])
    whole = float not in kinds or "int" in sweep.tags or (isinstance(low, int) and isinstance(high, int))
    if not whole:
        return Dimension(key=key, distribution=FloatDistribution(float(low), float(high), log=log))
    if low != int(low) or high != int(high):
        raise SweepError([f"{word}: got {low:g} to {high:g}, but {key} takes whole numbers"])
    return Dimension(key=key, distribution=IntDistribution(int(low), int(high), log=log))


def _of_range(override: Override, key: str, sweep: RangeSweep) -> Dimension:
    """Hydra's: ``stop`` is not in it, and a step may lead down."""
    step = abs(sweep.step)
    listed = sorted(sweep.range()) if step else []
    if not listed:
        raise SweepError([f"{override.input_line}: no value left to search, the range is empty"])
    if "log" in sweep.tags:
        raise SweepError([f"{key}: a range has equal steps; for a logarithm give tag(log,interval(low,high))"])
    if all(isinstance(one, int) for one in listed):
        return Dimension(key=key, distribution=IntDistribution(int(listed[0]), int(listed[-1]), step=int(step)))
    low = float(listed[0])
    return Dimension(
        key=key, distribution=FloatDistribution(low, rounded(low + (len(listed) - 1) * step), step=float(step))
    )


def _of_list(key: str, texts: Sequence[str]) -> Dimension:
    values = {_read(text): text for text in dict.fromkeys(texts)}
    return Dimension(key=key, distribution=CategoricalDistribution(tuple(values)), texts=values)


def _read(text: str) -> Value:
    """A listed value as a study shows it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def _kinds(key: str) -> set[Any]:
    """The types that a key takes."""
    kinds: set[Any] = set()
    waiting = [hint_of(key)]
    while waiting:
        hint = waiting.pop()
        if get_origin(hint) is Annotated:
            waiting.append(get_args(hint)[0])
        elif isinstance(hint, type) or get_origin(hint) is None:
            kinds.add(hint)
        elif get_origin(hint) is not tuple:
            waiting += get_args(hint)
    return kinds


def _conditions(
    dimensions: Mapping[str, Dimension], conditions: Mapping[str, str]
) -> tuple[list[Dimension], list[str]]:
    """The dimensions with their conditions, and a line for each that cannot be."""
    found = dict(dimensions)
    problems = []
    for key, text in conditions.items():
        where = f"hydra.sweeper.conditions: {key}: got {text!r}"
        other, _, listed = text.partition("=")
        if key not in dimensions or other not in dimensions or other == key:
            problems.append(f"{where}, allowed is another searched key and its values, for a key that is searched")
            continue
        values = [_value_of(dimensions[other], part.strip()) for part in listed.split(",")]
        if None in values:
            problems.append(f"{where}, which is not in {shown(dimensions[other])}")
            continue
        one = dimensions[key]
        found[key] = Dimension(
            key=key,
            distribution=one.distribution,
            texts=one.texts,
            condition=(other, tuple(value[0] for value in values if value is not None)),
        )
    chained = [key for key, one in found.items() if one.condition and found[one.condition[0]].condition]
    problems += [f"hydra.sweeper.conditions: {key}: depends on a key that has a condition itself" for key in chained]
    return list(found.values()), problems


def _holds(one: Dimension, values: Values) -> bool:
    return one.condition is None or values.get(one.condition[0]) in one.condition[1]


def _value_of(one: Dimension, value: object) -> tuple[Value] | None:
    """What the study holds of ``value``, in a tuple since it may be null; None where it is outside the space."""
    if one.texts is not None:
        text = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
        found = [known for known, told in one.texts.items() if text in (told, str(known)) or known == value]
        return (found[0],) if found else None
    try:
        number: float = float(str(value))
    except ValueError:
        return None
    if isinstance(one.distribution, IntDistribution):
        if number != int(number) or not one.distribution._contains(int(number)):  # Optuna has no other
            return None
        return (int(number),)
    return (number,) if one.distribution._contains(number) else None


def _written(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.{_DIGITS}g}"
