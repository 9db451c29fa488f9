"""Texts on the command line: what Hydra's grammar refuses or reads as a number, put in quotes for it.

A path or a caption may hold any letter (``data.path=/home/müller``, ``~/photos``, ``it's``, ``a=b``), and the grammar
knows few outside quotes. A value that it cannot read is a text; whether a text may stand there, the schema says.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from lora_foundry.config.hints import hint_of
from lora_foundry.config.quoting import quoted

_WORD = re.compile(r"(\+{0,2})([^=~+]+)=(.*)", re.DOTALL)
_OF_TEXTS = re.compile(r"(choice|shuffle|sort|tag|extend_list)\((.*)\)", re.DOTALL)
_OPENS, _CLOSES = "([{", ")]}"


def as_texts(words: Sequence[str]) -> list[str]:
    """``key=value`` words that Hydra reads as they were meant; words that are no such thing stay as they are."""
    return [_spelt(word) for word in words]


def _spelt(word: str) -> str:
    found = _WORD.fullmatch(word)
    if found is None:
        return word
    plus, key, value = found.groups()
    hint = hint_of(key)
    text_only = is_text(hint)
    if not text_only and (_read(value) or (hint is not None and "(" in value)):
        return word  # rnge(4,8): Hydra names the functions that there are
    if value.startswith("[") and not value.endswith("]") and "tuple" in str(hint):
        return word  # a list without its end; where no list may stand it is a name, such as [2024] photos
    meant = f"{plus}{key}={_listed(value, text_only=text_only)}"
    return meant if _read(meant.partition("=")[2]) else f"{plus}{key}={quoted(value)}"


def _listed(value: str, *, text_only: bool) -> str:
    """Values of a sweep, or a single one."""
    parts = list(_split(value))
    if any(not part.strip() for part in parts):
        return value if _read(value) else quoted(value)  # "a cat, " is no list
    return ",".join(_element(part, text_only=text_only) for part in parts)


def _element(part: str, *, text_only: bool) -> str:
    text = part.strip(" \t")
    read, inside = _read(text), text[1:-1]
    if text[0] + text[-1] == "[]" and inside.strip() and (text_only or not read):
        return f"[{_listed(inside, text_only=text_only)}]"
    if read:
        number = text_only and isinstance(read[0], (bool, int, float)) and str(read[0]) != text  # 1e5, 1_000, true
        return quoted(text) if number else part
    if text[0] + text[-1] == "{}":
        pairs = (pair.partition(":") for pair in _split(inside))
        return f"{{{','.join(f'{key}:{_element(value, text_only=False)}' for key, _, value in pairs)}}}"
    function = _OF_TEXTS.fullmatch(text)
    return f"{function[1]}({_listed(function[2], text_only=text_only)})" if function else quoted(text)


def _read(value: str) -> tuple[Any] | None:
    """What Hydra's grammar makes of a value; None where it refuses it."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"key={value}"])
        return (parsed.value(),)
    except HydraException:
        return None


def _split(text: str) -> Iterator[str]:
    """Parts between commas, those inside brackets and quotes aside."""
    start = place = depth = 0
    while place < len(text):
        letter = text[place]
        if letter in "'\"" and not text[start:place].strip(" \t[{("):
            place = _closing(text, place)
        elif letter in _OPENS:
            depth += 1
        elif letter in _CLOSES:
            depth -= 1
        elif letter == "," and depth <= 0:
            yield text[start:place]
            start = place + 1
        place += 1
    yield text[start:]


def _closing(text: str, place: int) -> int:
    """Where the quotes that open at ``place`` close; ``place`` itself where they do not: an apostrophe."""
    end = re.compile(rf"(?<!\\)(?:\\\\)*{text[place]}").search(text, place + 1)
    return place if end is None else end.end() - 1


@functools.cache
def is_text(hint: Any) -> bool:  # noqa: ANN401  # an annotation
    """Whether a field holds texts and nothing else; null aside."""
    if hint is None:
        return False
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Annotated, tuple):
        return is_text(inner[0])
    if origin in (Union, types.UnionType):
        return all(option is type(None) or is_text(option) for option in inner)
    if origin is Literal:
        return all(isinstance(choice, str) for choice in inner)
    return hint is str
