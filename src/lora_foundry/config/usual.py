"""What a training on a base usually takes, where nobody says otherwise: each base's own file tells it, as ``usual``.

The other groups refer to it (``lr: ${model.usual.lr}``). So whatever a person says of a key, in whichever file and in
whichever order, takes the place of the reference, and a group that has a value of its own (Prodigy's rate) keeps it. A
job has the values where they belong, and nothing of ``usual``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

NODE = "usual"
OF_BASES: Mapping[str, str] = MappingProxyType(
    {
        "data.resolution": "resolution",
        "lora.target_modules": "target_modules",
        "optimizer.lr": "lr",
        "sample.guidance": "guidance",
    }
)
"""Key of a job to what the base's file calls it."""


def fill_in(cfg: DictConfig) -> None:
    """Put the base's values, in place, where ``cfg`` refers to them; what the base does not tell is missing then."""
    told = OmegaConf.select(cfg, f"model.{NODE}", throw_on_missing=False)
    for key, name in OF_BASES.items():
        group, _, leaf = key.partition(".")
        values = OmegaConf.select(cfg, group)
        if isinstance(values, DictConfig) and _refers(values, leaf, name):
            with read_write(values):
                values[leaf] = told[name] if isinstance(told, DictConfig) and name in told else "???"


def without(job: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """A job's values without ``usual``; what no base is asked for is a problem."""
    model = job.get("model")
    if not isinstance(model, Mapping) or NODE not in model:
        return dict(job)
    told, names = model[NODE], sorted(OF_BASES.values())
    unknown = [str(key) for key in told if key not in names] if isinstance(told, Mapping) else []
    problems += [f"model.{NODE}.{key}: no such key; allowed here: {', '.join(names)}" for key in unknown]
    if told is not None and not isinstance(told, Mapping):
        problems.append(f"model.{NODE}: got {told!r}, allowed is a group of {', '.join(names)}")
    return {**job, "model": {key: value for key, value in model.items() if key != NODE}}


def as_used(cfg: DictConfig) -> None:
    """Make of ``cfg``, in place, what a job of it has: the base's values where they belong, and no ``usual``."""
    fill_in(cfg)
    model = OmegaConf.select(cfg, "model")
    if isinstance(model, DictConfig) and NODE in model:
        with read_write(model), open_dict(model):
            del model[NODE]


def _refers(values: DictConfig, leaf: str, name: str) -> bool:
    if leaf not in values or not OmegaConf.is_interpolation(values, leaf):
        return False
    text: Any = OmegaConf.to_container(values, resolve=False)
    return bool(text[leaf] == f"${{model.{NODE}.{name}}}")
