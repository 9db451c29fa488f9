"""JSON lines from frozen types, and back: the one reader and the one writer of them.

A kind of line is a frozen dataclass. Its fields are the line's keys in their order, and their types are what a reader
asks for: a line in which one is of another type is no line of that kind, and a key that is missing counts as null. A
field of type :data:`Loose` is null instead, which costs nobody the line. Keys that no field is named after are passed
over, so a later version may add some. A loose field whose default is null is left out of the line while it is null.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from lora_foundry.wire.fields import Form, Loose

__all__ = ["Kinds", "Line", "Loose", "TimedLine", "read_new", "told_apart_by"]

_DECODER = json.JSONDecoder()


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of some kind.

    Attributes:
        tag: The name of its kind, which stands in the line.
    """

    tag: ClassVar[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedLine(Line):
    """One that says when it was written.

    Attributes:
        t: Unix seconds.
    """

    t: float = field(default_factory=time.time)


L = TypeVar("L", bound=Line)


class Kinds(Generic[L]):
    """The kinds of line that a file holds, or a pipe.

    Args:
        key: Under which a line has its tag.
        types: The kinds. Those of one tag differ in ``state``, which is a literal then.
    """

    def __init__(self, key: str, types: Iterable[type[L]]) -> None:
        self.types = tuple(types)
        self._key = key
        self._forms: dict[type[L], Form[L]] = {}
        self._types = {(one.tag, told_apart_by(one)): one for one in self.types}
        self._halved = frozenset(tag for tag, state in self._types if state is not None)

    def parsed(self, value: object) -> L | None:
        """The line that a JSON value is; null for one of no kind here, or of which something is wrong."""
        if type(value) is not dict or type(tag := value.get(self._key)) is not str:
            return None
        state = value.get("state") if tag in self._halved else None
        cls = self._types.get((tag, state)) if state is None or type(state) is str else None
        return None if cls is None else self._form(cls).read(value)

    def read(self, line: bytes | str) -> L | None:
        """The line that stands in a file; null for what is no JSON, or no such line."""
        try:
            return self.parsed(_value_of(line))
        except (ValueError, RecursionError):
            return None

    def read_all(self, lines: Iterable[bytes]) -> Iterator[L]:
        """Those of ``lines`` that are of a kind here, in their order; the others are passed over."""
        for line in lines:
            found = self.read(line)
            if found is not None:
                yield found

    def written(self, line: L) -> bytes:
        """The line for a file, with its end."""
        values = self._form(type(line)).written(line)
        first = {"t": values.pop("t")} if "t" in values else {}
        return json.dumps({**first, self._key: line.tag, **values}).encode() + b"\n"

    def _form(self, cls: type[L]) -> Form[L]:
        form = self._forms.get(cls)
        if form is None:
            form = self._forms[cls] = Form(cls)
        return form


def _value_of(line: bytes | str) -> object:
    """The JSON value of a line; one that is as it was written here takes half the time of any other."""
    text = line if isinstance(line, str) else line.decode(errors="surrogateescape")
    try:
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        return json.loads(line)
    return value if end == len(text) else json.loads(line)


def told_apart_by(cls: type[Line]) -> str | None:
    """The ``state`` that lines of ``cls`` have and others of the same tag do not; null where its tag says it all."""
    hint: Any = get_type_hints(cls).get("state")
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    return choices[0] if len(choices) == 1 else None


def read_new(path: Path, offset: int = 0) -> tuple[list[bytes], int]:
    """The whole lines of a file after byte ``offset``, and the offset behind the last of them.

    A torn last line (its writer is busy, or was killed) stays for the next read.

    Raises:
        OSError: When the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), offset + end
