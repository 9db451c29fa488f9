"""Files chosen from groups of one's own (``sweep=[rank,seeds]``, ``experiment=mine``): where what they say is lost.

Hydra lays files over one another, and of two that say different things of one key one wins without a word. Where that
is no layer's purpose, of what is swept and of what is chosen, it is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import GroupDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from lora_foundry.config.keys import is_group
from lora_foundry.launch.points.hydra_keys import is_hydra

Compose = Callable[[list[str]], DictConfig]


def lost_in_stacks(
    parsed: Sequence[Override], config: DictConfig, compose: Compose, repository: IConfigRepository
) -> list[str]:
    """A line for each thing that one of several chosen files says and that another's word comes before.

    Args:
        parsed: The command line's overrides, which are meant to come before all.
        config: What they composed.
        compose: Composes a few words alone.
        repository: Knows the groups, and reads configs.
    """
    return [*_swept_twice(parsed, compose, repository), *_chosen_twice(parsed, config, repository)]


def _swept_twice(parsed: Sequence[Override], compose: Compose, repository: IConfigRepository) -> list[str]:
    """Keys that several files of one list sweep differently, where the command line says nothing of them."""
    said = {override.key_or_group for override in parsed}
    problems = []
    for override in parsed:
        names = override.value()
        if not isinstance(names, list) or not _may_say_anything(override.key_or_group, repository):
            continue
        values: dict[str, dict[str, list[str]]] = {}
        for name in names:
            params = compose([f"{override.get_key_element()}={name}"]).hydra.sweeper.get("params") or {}
            for key, value in params.items():
                values.setdefault(str(key), {}).setdefault(str(value), []).append(str(name))
        problems += [
            f"{override.input_line}: {key} is {' and '.join(f'{v} in {n[0]}' for v, n in found.items())}; "
            f"give {key}=... beside it, which then holds for all"
            for key, found in values.items()
            if len(found) > 1 and key not in said
        ]
    return problems


def _chosen_twice(parsed: Sequence[Override], config: DictConfig, repository: IConfigRepository) -> list[str]:
    """Choices in chosen files (``- override /model: sd15``) that another file's choice of that group came before."""
    said = {override.key_or_group for override in parsed}
    given = [(override.key_or_group, override.value()) for override in parsed]  # of a list Hydra keeps no choice
    choices: Mapping[str, object] = config.hydra.runtime.choices
    return [
        f"{path}: override /{group}: {wanted} is passed over, since {choices[group]} is chosen elsewhere; "
        f"write {group}={wanted} on the command line, or leave it out"
        for path in dict.fromkeys([*_chosen(choices.items(), repository), *_chosen(given, repository)])
        for group, wanted in _overridden(repository, path)
        if group in choices and choices[group] != wanted and group not in said
    ]


def _chosen(choices: Iterable[tuple[str, object]], repository: IConfigRepository) -> Iterator[str]:
    """Paths of the chosen files that may say anything."""
    for group, chosen in choices:
        if _may_say_anything(group, repository):
            names = chosen if isinstance(chosen, Sequence) and not isinstance(chosen, str) else [chosen]
            yield from (f"{group}/{name}" for name in names if name is not None)


def _may_say_anything(group: str, repository: IConfigRepository) -> bool:
    return not is_hydra(group) and not is_group(group) and repository.group_exists(group)


def _overridden(repository: IConfigRepository, path: str) -> Iterator[tuple[str, object]]:
    loaded = repository.load_config(path)
    for default in (loaded.defaults_list if loaded is not None else None) or ():
        if isinstance(default, GroupDefault) and default.override and default.group:
            yield default.group.lstrip("/"), default.value
