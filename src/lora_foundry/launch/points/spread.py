"""The points of a sweep from its words: the product of all that is swept."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.points.check import group_options, problems_of
from lora_foundry.launch.points.hydra_errors import COMPOSING, in_a_line
from lora_foundry.launch.points.hydra_keys import is_hydra
from lora_foundry.launch.points.texts import as_texts


def points_of(loader: ConfigLoader, params: Mapping[str, object], arguments: Sequence[str]) -> list[list[str]]:
    """The product of all swept values, last key fastest; a key given twice counts where it came first.

    Raises:
        SweepError: For wrong keys of ``params``, intervals, and sweeps without a point.
    """
    values: dict[str, list[str]] = {}
    for override in parsed(loader, params, arguments):
        values[override.get_key_element()] = values_of(override)
    empty = [key for key, listed in values.items() if not listed]
    if empty:
        raise SweepError([f"{key}: no value left to sweep (an empty range or a glob without a match)" for key in empty])
    return [list(point) for point in itertools.product(*values.values())]


def parsed(loader: ConfigLoader, params: Mapping[str, object], arguments: Sequence[str]) -> list[Override]:
    """What a sweeper's own parameters and the command line say, in that order.

    Raises:
        SweepError: For wrong keys of ``params``.
    """
    words = as_texts([f"{key}={value}" for key, value in params.items()])
    there = {key: loader.get_group_options(key, ObjectType.CONFIG) for key in params if "." not in key}
    groups = {**group_options(), **{key: options for key, options in there.items() if options}}
    wrong = [f"{key}: stands below hydra: in the file, not in params" for key in params if is_hydra(key)]
    wrong += problems_of([word for word in words if not is_hydra(word)], groups, sweeping=True)
    if wrong:
        raise SweepError([f"hydra.sweeper.params: {line}" for line in wrong])
    return OverridesParser.create(config_loader=loader).parse_overrides([*words, *arguments])


def declared(loader: ConfigLoader, params: Mapping[str, object], arguments: Sequence[str]) -> tuple[str, ...] | None:
    """Keys that a sweep says it varies, in the order of :func:`points_of`; null where it says nothing.

    Args:
        loader: Hydra's.
        params: What its sweeper was given: values in sweep syntax, or a space of the sweeper's own.
        arguments: The command line's overrides.
    """
    parser = OverridesParser.create(config_loader=loader)
    varied: dict[str, bool] = {}
    for key, value in params.items():
        if not isinstance(value, str | int | float | None):
            varied[key] = True  # a space
            continue
        try:
            (override,) = parser.parse_overrides(as_texts([f"{key}={value}"]))
        except OverrideParseException:  # one in the sweeper's own words
            varied[key] = True
        else:
            varied[_plain_key(override)] = _varies(override)
    for override in parser.parse_overrides(list(arguments)):
        varied[_plain_key(override)] = _varies(override)
    return tuple(key for key, varies in varied.items() if varies and not is_hydra(key)) or None


def _plain_key(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _varies(override: Override) -> bool:
    if not override.is_sweep_override():
        return False
    return not override.is_discrete_sweep() or len(set(values_of(override))) > 1


def values_of(override: Override) -> list[str]:
    """``key=value`` for each value; of a word without a sweep the word.

    Raises:
        SweepError: For an interval, which has no list of values, and a range that is none.
    """
    key = override.get_key_element()
    if not override.is_sweep_override():
        value = override.get_value_element_as_str()
        return [key if override.is_delete() and not value else f"{key}={value}"]
    if not override.is_discrete_sweep():
        raise SweepError(
            [f"{override.input_line}: an interval is for a search; list values, or use range(start,stop,step)"]
        )
    try:
        return as_texts([f"{key}={value}" for value in override.sweep_string_iterator()])  # choice() takes quotes away
    except COMPOSING as error:  # range(0,3,0) is a ValueError
        raise SweepError([f"{override.input_line}: {in_a_line(error)}"]) from error
