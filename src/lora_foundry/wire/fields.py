"""What a field of a line may be in JSON, found from its type, and how it is taken from there.

A reader asks every line of a long file for every field, so the question is put once a type and answered by tables.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from collections.abc import Mapping as AnyMapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_LOOSE = "loose"
Loose = Annotated[T | None, _LOOSE]
"""A ``T``; null where the line has none, or something else in its place."""

_REST = "rest"
Rest = Annotated[Mapping[str, object], _REST]
"""Keys that no other field is named after, as they stand there: what other versions tell is handed on."""

_WRONG: Any = object()
_LARGEST = sys.float_info.max
_PLAIN: Mapping[object, tuple[type, ...]] = {
    **{bool: (bool,), int: (int,), float: (int, float), str: (str,), Path: (str,), NoneType: (NoneType,)},
    object: (dict, list, str, int, float, bool, NoneType),
}


class _Field(NamedTuple):
    """How a field is read.

    Attributes:
        name: Its name, the key of the line.
        types: Types that its value may have in JSON.
        take: Makes of such a value, unless it is null, what the field holds; null for one that holds the same.
        loose: Whether something else is null.
    """

    name: str
    types: frozenset[type]
    take: Callable[[Any], Any] | None
    loose: bool


class Form(Generic[T]):
    """Reads values of one frozen dataclass.

    Args:
        cls: The dataclass.
    """

    def __init__(self, cls: type[T]) -> None:
        hints = get_type_hints(cls, include_extras=True)
        every = dataclasses.fields(cls)  # type: ignore[arg-type]  # a dataclass, as the argument says
        fields = [each for each in every if _REST not in get_args(hints[each.name])[1:]]
        self._cls = cls
        self._rest = next((each.name for each in every if each not in fields), None)
        self._names = frozenset(each.name for each in fields)
        self._fields = tuple(_field(each.name, hints[each.name]) for each in fields)
        loose = {name for name, _, _, is_loose in self._fields if is_loose}
        self._left_out = frozenset(each.name for each in fields if each.name in loose and each.default is None)

    def read(self, value: Mapping[str, Any]) -> T | None:
        """What a JSON object says; null where a field is not as it should be."""
        found = {}
        for name, types, take, loose in self._fields:
            entry = value.get(name)
            if type(entry) not in types:
                if not loose:
                    return None
                entry = None
            elif take is not None and entry is not None:
                entry = take(entry)
                if entry is _WRONG:
                    if not loose:
                        return None
                    entry = None
            found[name] = entry
        if self._rest is not None:
            found[self._rest] = {name: entry for name, entry in value.items() if name not in self._names}
        return self._cls(**found)

    def written(self, value: T) -> dict[str, Any]:
        """The JSON object that says it."""
        entries = ((name, getattr(value, name)) for name, *_ in self._fields)
        own = {name: _plain(entry) for name, entry in entries if entry is not None or name not in self._left_out}
        return own if self._rest is None else own | _plain(getattr(value, self._rest))


def _plain(value: Any) -> Any:  # noqa: ANN401
    """As JSON has it, which has no word for nan and infinities: they become null."""
    if isinstance(value, float):
        return value if -_LARGEST <= value <= _LARGEST else None
    if isinstance(value, AnyMapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        kind: type[Any] = type(value)
        return Form(kind).written(value)
    return value


def _field(name: str, hint: Any) -> _Field:  # noqa: ANN401
    loose = get_origin(hint) is Annotated and _LOOSE in get_args(hint)[1:]
    types, take = _taken(get_args(hint)[0] if loose else hint)
    return _Field(name=name, types=types, take=take, loose=loose)


def _taken(hint: Any) -> tuple[frozenset[type], Callable[[Any], Any] | None]:  # noqa: ANN401
    """Types in JSON of what is annotated so, and what is made of a value of them.

    Raises:
        TypeError: For a type that no line is made of.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        parts = [_taken(one) for one in arguments]
        return frozenset().union(*(types for types, _ in parts)), next((take for _, take in parts if take), None)
    if origin is Literal:
        return frozenset([str]), lambda value: value if value in arguments else _WRONG
    if origin is tuple:
        return frozenset([list]), _each(*_taken(arguments[0]))
    if origin is AnyMapping:
        types, take = _taken(arguments[1])
        return frozenset([dict]), None if arguments[1] is object else _each_entry(types, take)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        form: Form[Any] = Form(hint)
        return frozenset([dict]), lambda value: _WRONG if (found := form.read(value)) is None else found
    if hint in _PLAIN:
        own = {float: lambda value: value if -_LARGEST <= value <= _LARGEST else _WRONG, Path: Path}
        return frozenset(_PLAIN[hint]), own.get(hint)
    msg = (
        f"got a field of type {hint}, which no line is made of; see src/lora_foundry/wire/fields.py for those that are"
    )
    raise TypeError(msg)


def _each(types: frozenset[type], take: Callable[[Any], Any] | None) -> Callable[[list[Any]], Any]:
    def taken(values: list[Any]) -> Any:  # noqa: ANN401
        if not types.issuperset(map(type, values)):
            return _WRONG
        made = tuple(values) if take is None else tuple(map(take, values))
        return _WRONG if take is not None and _WRONG in made else made

    return taken


def _each_entry(types: frozenset[type], take: Callable[[Any], Any] | None) -> Callable[[dict[str, Any]], Any]:
    each = _each(types, take)
    return lambda entries: _WRONG if each(list(entries.values())) is _WRONG else entries
