"""Reading what lies on disk: it may be missing, cut, of another program, or edited by hand.

A reader says what shape it needs and gets one line where a file has another, so nothing behind it has to ask again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

Shape = Callable[[object], bool]
"""Whether a value is of the kind that was written."""


class StoredError(ValueError):
    """A file that cannot be read as what it was written as; one line, the path first."""


def read_text(path: Path) -> str:
    """The text of a stored file.

    Raises:
        StoredError: When there is none, or it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoredError(f"{path} is missing") from None
    except OSError as error:
        raise StoredError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise StoredError(f"{path} is no text (byte {error.start} is not UTF-8)") from error
    if not text.strip("\0 \t\r\n"):
        raise StoredError(f"{path} is empty")
    return text


def read_json(path: Path) -> Any:  # noqa: ANN401
    """The value in a stored JSON file.

    Raises:
        StoredError: When there is none that can be read.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise StoredError(f"{path} is no JSON ({error})") from error


def has(value: object, fields: Mapping[str, Shape]) -> bool:
    """Whether ``value`` is a mapping whose ``fields`` are as they should be; a missing one counts as null."""
    return isinstance(value, dict) and all(shape(value.get(name)) for name, shape in fields.items())


def is_text(value: object) -> TypeGuard[str]:
    """A text."""
    return isinstance(value, str)


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_mapping(value: object) -> TypeGuard[dict[Any, Any]]:
    """A mapping, whatever is in it."""
    return isinstance(value, dict)


def or_null(shape: Shape) -> Shape:
    """Null, or that."""
    return lambda value: value is None or shape(value)


def list_of(shape: Shape) -> Shape:
    """A list of such."""
    return lambda value: isinstance(value, list) and all(map(shape, value))


def mapping_to(shape: Shape) -> Shape:
    """A mapping from texts to such."""
    return lambda value: isinstance(value, dict) and all(map(shape, value.values()))
