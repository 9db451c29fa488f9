"""The schema's annotations, with the choices that are files as the words that they are."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from lora_foundry.config.choices import FAMILIES, Choice, Choices, OptionsOf
from lora_foundry.config.families import ByFamily, family_choice
from lora_foundry.config.schema import JobConfig


def hints_of(cls: type) -> dict[str, Any]:
    """A class's annotations with their limits, by field; a choice is a ``Literal`` of the files that there are."""
    return _hints(cls)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return {name: _with_choices(hint) for name, hint in get_type_hints(cls, include_extras=True).items()}


def _with_choices(hint: Any) -> Any:  # noqa: ANN401  # an annotation
    origin, inner = get_origin(hint), get_args(hint)
    for mark in inner[1:] if origin is Annotated else ():
        if isinstance(mark, Choices):
            return Literal[mark.names()]
    if origin is tuple:
        return types.GenericAlias(tuple, (_with_choices(inner[0]), ...))
    if origin in (Union, types.UnionType):
        return Union[tuple(_with_choices(option) for option in inner)]  # noqa: UP007  # of as many as there are
    return hint


@functools.cache
def chosen_among(hint: Any) -> Choices | None:  # noqa: ANN401  # an annotation
    """Whose options a field holds; None for every other field."""
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark.choices for mark in marks if isinstance(mark, OptionsOf)), None)


def known_keys(cls: type = JobConfig, prefix: str = "") -> list[str]:
    """Every dotted key of the schema, groups (``lora``) and each choice's options included."""
    keys: list[str] = []
    for name, hint in hints_of(cls).items():
        keys.append(prefix + name)
        for inner in _classes_in(hint):
            keys.extend(known_keys(inner, f"{prefix}{name}."))
    return list(dict.fromkeys(keys))


def hint_of(key: str) -> Any:  # noqa: ANN401  # an annotation
    """The annotation of a dotted key of the schema, a group's class included; None where there is no such key."""
    hint: Any = JobConfig
    for part in key.split("."):
        found = (hints_of(cls).get(part) for cls in _classes_in(hint))
        hint = next((inner for inner in found if inner is not None), None)
    return hint


def choices_with(key: str) -> list[str]:
    """Names of the choices that have the option ``key`` (``optimizer.options.d_coef``); empty where it is no option."""
    group, _, leaf = key.rpartition(".")
    choices = chosen_among(hint_of(group)) if group else None
    if choices is None:
        return []
    return [name for name in choices.names() if leaf in hints_of(choices.load(name, Choice).options)]


@functools.cache
def group_classes(hint: Any) -> dict[str, type]:  # noqa: ANN401
    """Classes of a group with this annotation, by family where that decides, else by an empty name; else none."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return {"": hint}
    marks = get_args(hint) if get_origin(hint) is Annotated else ()
    for mark in marks[1:]:
        if isinstance(mark, ByFamily):
            return {name: family_choice(name).groups.get(mark.group, marks[0]) for name in FAMILIES.names()}
    return {}


def families_with(key: str) -> list[str]:
    """Families that have the key of a group (``objective.snr_gamma``)."""
    group, _, leaf = key.rpartition(".")
    return [name for name, cls in group_classes(hint_of(group)).items() if name and leaf in hints_of(cls)]


def _classes_in(hint: Any) -> Iterator[type]:  # noqa: ANN401
    """The classes whose fields stand below a key with this annotation: several where a choice decides."""
    choices = chosen_among(hint)
    if choices is not None:
        yield from (choices.load(name, Choice).options for name in choices.names())
    else:
        yield from dict.fromkeys(group_classes(hint).values())
