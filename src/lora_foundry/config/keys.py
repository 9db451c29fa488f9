"""What the schema says of a key: whether it takes a list, which words it allows."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lora_foundry.config.hints import group_classes, hint_of


def is_group(key: str) -> bool:
    """Whether ``key`` holds other keys (``lora``, ``trainer``)."""
    return bool(group_classes(hint_of(key)))


def takes_list(key: str) -> bool:
    """Whether a list may be the value of ``key`` (``lora.target_modules``)."""
    return any(get_origin(option) is tuple for option in _options(hint_of(key)))


def choices_of(key: str) -> list[str]:
    """Words that ``key`` allows, where it allows no others; empty for keys that take any text or number."""
    words: list[str] = []
    for option in _options(hint_of(key)):
        if get_origin(option) is Literal:
            words += [str(word) for word in get_args(option)]
        elif option is bool:
            words += ["true", "false"]
        elif option is not type(None):
            return []
    return words


def _options(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(one for option in get_args(hint) for one in _options(option))
    return (hint,)
