"""Hydra's own keys and groups (``hydra.*``, ``hydra/*``): which work here, and why others do not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from lora_foundry.config.called import command_line
from lora_foundry.config.launcher import Settings
from lora_foundry.config.parse import nearest
from lora_foundry.config.paths import expand_home
from lora_foundry.config.search import PbtOptions, SearchOptions

OURS = {"launcher": ("pack",), "sweeper": ("tolerant", "optuna", "pbt")}
_PACKAGE = "hydra_plugins.foundry."
_WHY = {
    "launcher": "jobs train in worker processes, which this launcher alone starts; another would train nothing",
    "sweeper": "it checks every point before anything starts, and hands all of them to one sweep; how many train "
    "together is hydra.launcher.pack_size",
}
_OPEN = ("hydra.hydra_logging", "hydra.job_logging", "hydra.sweeper.pbt.mutate")  # any key may stand below
_GROUPS = ("callbacks", "env", "help", "hydra_help", "hydra_logging", "job_logging", "launcher", "output", "sweeper")
_SET_HERE = "is set for each job; it cannot be given"
_WITHOUT_EFFECT: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("hydra.job.chdir", (None, False), "jobs train in the folder that the command is given in; leave it false"),
    ("hydra.output_subdir", (".hydra",), "resuming looks for a job's configuration in .hydra; leave it so"),
    ("hydra.job.env_set", ({},), f"workers have the command's environment: NAME=value {command_line('train')} ..."),
    ("hydra.job.env_copy", ([],), "workers have the whole of the command's environment; leave it out"),
    ("hydra.callbacks", (None, {}), "jobs train in worker processes, which call none; leave it out"),
)
_NOT_OF_A_SWEEP = ("mode", "overrides", "runtime", "help", "hydra_help")  # what was given, and what is shown
_OF_A_JOB = ("job.config", "job.config_name", "job.id", "job.num", "job.override_dirname", "sweep.subdir")
_NOT_GIVEN = {
    "hydra.job.config_name": _SET_HERE,
    "hydra.job.id": _SET_HERE,
    "hydra.job.num": _SET_HERE,
    "hydra.job.override_dirname": _SET_HERE,
    "hydra.overrides": _SET_HERE,
    "hydra.runtime": _SET_HERE,
    "hydra.sweeper.params": "stands in the file of a named sweep; on the command line write lora.rank=4,8 -m",
}


def hydra_keys() -> list[str]:
    """Every dotted key of Hydra's configuration, those of this launcher and sweeper among them."""
    ours = [f"hydra.launcher.{field.name}" for field in dataclasses.fields(Settings)]
    ours += [f"hydra.sweeper.{field.name}" for field in dataclasses.fields(SearchOptions)]
    ours += [f"hydra.sweeper.pbt.{field.name}" for field in dataclasses.fields(PbtOptions)]
    return ["hydra", *_keys(HydraConf, "hydra."), *ours]


def is_hydra(key: str) -> bool:
    """Whether ``key`` is about Hydra and not about a job; a whole override will do as well."""
    return re.match(r"[+~]*hydra($|[./=])", key) is not None


def hydra_problem(override: Override, own: Mapping[str, Sequence[str]]) -> str | None:
    """Why an override of Hydra's cannot work; None when it can.

    Args:
        override: One of those that :func:`is_hydra` says yes to.
        own: Groups and options of the folders of configs, for launchers of one's own.
    """
    key, group = override.key_or_group, override.key_or_group.partition("/")[2]
    if override.is_sweep_override():
        return f"{override.input_line}: is of the whole sweep, so it takes one value"
    if key == "hydra":
        return f"{override.input_line}: hydra holds keys, such as hydra.launcher.pack_size=4; give one of them"
    if override.type is OverrideType.DEL:
        return f"~{key}: every key of Hydra's is needed; give another value instead"
    if group:
        return _group_problem(group, override.value(), own)
    problems = [_key_problem(leaf, value) for leaf, value in _leaves(key, override.value())]
    if override.type is OverrideType.ADD and not key.startswith(_OPEN):
        problems.append(f"+{key}: the key exists already; write it without the +")
    return next((problem for problem in problems if problem), None)


def composed_problems(config: DictConfig) -> list[str]:
    """A line for each thing that a sweep's composed configuration says to Hydra and that would do nothing here.

    Args:
        config: The sweep's own, wherever its values come from: files, or the command line.
    """
    problems = []
    for group, options in OURS.items():
        node = config.hydra[group]
        target = str(node.get("_target_")) if isinstance(node, DictConfig) else "null"
        if not target.startswith(_PACKAGE):
            chosen = config.hydra.runtime.choices.get(f"hydra/{group}", target)
            problems.append(f"hydra/{group}: got {chosen} ({target}), allowed is {_either(options)}: {_WHY[group]}")
        elif group == "launcher":
            keys = [f"hydra.launcher.{key}" for key in node if key != "_target_"]
            problems += [line for key in keys if (line := _key_problem(key, None))]
    for key, without, why in _WITHOUT_EFFECT:
        value = OmegaConf.select(config, key)
        if value not in without:
            problems.append(f"{key}: got {value}, but {why}")
    return problems


def settings_of(config: DictConfig) -> dict[str, str]:
    """Dotted key to what a composed configuration says to Hydra, as far as it holds for a whole sweep."""
    hydra: Any = OmegaConf.to_container(config.hydra, resolve=False, throw_on_missing=False)
    return {
        f"hydra.{key}.{name}" if name else f"hydra.{key}": repr(expand_home(value) if name == "dir" else value)
        for key, node in hydra.items()
        if key not in _NOT_OF_A_SWEEP
        for name, value in (node.items() if isinstance(node, dict) else [("", node)])
        if f"{key}.{name}" not in _OF_A_JOB
    }


def _keys(cls: type, prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(cls).items():
        if not name.startswith("default"):
            yield prefix + name
            if dataclasses.is_dataclass(hint) and isinstance(hint, type):
                yield from _keys(hint, f"{prefix}{name}.")


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # whatever the grammar reads
    if isinstance(value, dict) and value and not key.startswith(_OPEN):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def _key_problem(key: str, value: object) -> str | None:
    for leaf, without, why in _WITHOUT_EFFECT:
        if _is_below(key, leaf):
            return None if key == leaf and value in without else f"{key}: {why}"
    for leaf, why in _NOT_GIVEN.items():
        if _is_below(key, leaf):
            return f"{key}: {why}"
    if key == "hydra.mode":
        return f"{key}: got {value}, allowed is RUN or MULTIRUN, which -m is short for"
    keys = hydra_keys()
    if not any(_is_below(key, name) for name in _OPEN) and key not in keys:
        return f"{key}: no such key{nearest(key, keys)}"
    return None


def _is_below(key: str, top: str) -> bool:
    return key == top or key.startswith(f"{top}.")


def _either(names: Sequence[str]) -> str:
    return " or ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def _group_problem(group: str, value: object, own: Mapping[str, Sequence[str]]) -> str | None:
    if group not in _GROUPS:
        return f"hydra/{group}: no such group{nearest(f'hydra/{group}', [f'hydra/{name}' for name in _GROUPS])}"
    if group == "callbacks":
        return _key_problem("hydra.callbacks", value)
    if group in OURS and value not in OURS[group] and value not in own.get(f"hydra/{group}", ()):
        return f"hydra/{group}: got {value}, allowed is {_either(OURS[group])}: {_WHY[group]}"
    return None
