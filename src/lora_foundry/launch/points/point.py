"""The points of a sweep: composed by Hydra, then checked, every one, before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lora_foundry.config import usual
from lora_foundry.config.errors import SweepError
from lora_foundry.config.parse import ConfigError, parse
from lora_foundry.config.precision import AUTO, chosen, emulated, with_precision
from lora_foundry.config.rules import warnings_about
from lora_foundry.config.schema import JobConfig, Precision
from lora_foundry.config.warned import Warned
from lora_foundry.launch.points.composing import Composer, PassedOverError
from lora_foundry.launch.points.experiments import said_in_files
from lora_foundry.launch.points.hydra_errors import COMPOSING, in_a_line
from lora_foundry.tracking.environment import settled
from lora_foundry.wire.forks import Fork

Overrides = Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One composed and checked point.

    Attributes:
        index: The job's number in its sweep.
        words: Its override list, as Hydra gave it.
        config: The checked configuration.
        values: What Hydra composed, interpolations resolved, without the ``hydra`` node and what is not a job's own
            (:mod:`lora_foundry.config.usual`).
        hydra_cfg: The whole of it, for the job's ``.hydra/hydra.yaml``.
        dir: The job's folder.
        warnings: What the user is warned of before it trains.
        notes: What the user is told of it first.
        fork: What it begins from; null begins anew.
    """

    index: int
    words: tuple[str, ...]
    config: JobConfig
    values: dict[str, Any]
    hydra_cfg: DictConfig
    dir: Path
    warnings: tuple[Warned, ...] = ()
    notes: tuple[str, ...] = ()
    fork: Fork | None = None

    @property
    def cfg(self) -> DictConfig:
        """:attr:`values` as Hydra's callers expect them."""
        return OmegaConf.create(self.values)

    def overrides(self) -> dict[str, str]:
        """Key to value of the overrides, ``hydra.*`` left out."""
        return split_words(self.words)

    def in_files(self) -> dict[str, str]:
        """The same of what the experiment's file sets that they name, or the named sweep's."""
        return said_in_files(self.hydra_cfg, self.overrides())


def on_device(points: Sequence[Point], here: Precision) -> list[Point]:
    """``points`` with the precision that they will be computed in, and with what is said of it.

    Args:
        points: Checked points.
        here: What ``trainer.precision=auto`` is on the devices that there are.
    """
    return [_on_device(point, here) for point in points]


def _on_device(point: Point, here: Precision) -> Point:
    config, asked = with_precision(point.config, here), point.config.trainer.precision
    if asked != AUTO:
        slow = emulated(asked, here)
        more = () if slow is None else (Warned(topic="precision", text=slow),)
        return replace(point, warnings=(*point.warnings, *more))
    precision = config.trainer.precision
    values = {**point.values, "trainer": {**point.values["trainer"], "precision": precision}}
    return replace(point, config=config, values=values, notes=(*point.notes, chosen(precision)))


def split_words(words: Overrides) -> dict[str, str]:
    """``["lora.rank=4", "+x=1"]`` as ``{"lora.rank": "4", "x": "1"}``; ``hydra.*`` left out."""
    pairs = (word.lstrip("+~").partition("=") for word in words)
    return {key: value for key, _, value in pairs if key.replace("/", ".").split(".")[0] != "hydra"}


def compose_points(
    loader: ConfigLoader, master: DictConfig, batch: Sequence[Overrides], first: int, composer: Composer | None = None
) -> dict[int, Point | SweepError]:
    """Compose and check each override list; a broken point yields its error, and none is raised."""
    found: dict[int, Point | SweepError] = {}
    composer = composer or Composer(loader, master)
    for index, words in enumerate(batch, start=first):
        try:
            composed = composer.compose(words)
            folder, values = _resolved(composed, master, index)
        except PassedOverError as error:
            found[index] = SweepError([_passed_over(error, batch)])
        except COMPOSING as error:
            found[index] = SweepError([in_a_line(error)])
        else:
            found[index] = _checked(composed, folder, values, words, index)
    return found


def _passed_over(error: PassedOverError, batch: Sequence[Overrides]) -> str:
    """The same for all points that have the same to say to Hydra, so that it is said once."""
    listed: dict[str, list[str]] = {}
    for word in dict.fromkeys(word for words in batch for word in words):
        key, _, value = word.partition("=")
        if any(own.startswith(f"{key}=") for own in error.words):
            listed.setdefault(key, []).append(value)
    given = " ".join(f"{key}={','.join(values)}" for key, values in listed.items())
    both = " ".join(f"{key}=[{','.join(values)}]" for key, values in listed.items() if len(values) > 1)
    instead = f"write {both} to have all of it in one sweep, or start" if both else "start"
    return (
        f"{given}: what is said there of {', '.join(error.keys)} holds for a whole sweep, not for one of its points; "
        f"{instead} a command for each"
    )


def all_sound(found: Mapping[int, Point | SweepError], words: Mapping[int, Overrides]) -> list[Point]:
    """The points, when none is broken and all fit into one sweep.

    Raises:
        SweepError: With the problems of every broken point, each said once with the points that have it.
    """
    points, problems = sound_ones(found, words)
    if problems:
        raise SweepError(problems)
    return points


def _equals_told(points: Sequence[Point]) -> list[Point]:
    """The points, each warned of those that train the same adapter."""
    alike: dict[JobConfig, list[int]] = {}
    for point in points:
        alike.setdefault(replace(point.config, name=None), []).append(point.index)
    told = []
    for point in points:
        others = alike[replace(point.config, name=None)]
        text = f"points {', '.join(map(str, others))} are equal and train equal adapters; leave all but one out"
        more = (Warned(topic="equal-points", text=text),) if len(others) > 1 else ()
        told.append(replace(point, warnings=(*point.warnings, *more)))
    return told


def sound_ones(
    found: Mapping[int, Point | SweepError], words: Mapping[int, Overrides]
) -> tuple[list[Point], list[str]]:
    """The points that are sound, and a line for each problem of the others, and of all together."""
    errors = {index: one.problems for index, one in found.items() if isinstance(one, SweepError)}
    points = [one for one in found.values() if isinstance(one, Point)]
    return _equals_told(points), said_once(errors, words) + _together(points)


def said_once(problems: Mapping[int, Sequence[str]], words: Mapping[int, Overrides]) -> list[str]:
    """Each problem once, with the points that have it and what is theirs alone; without them where all have it.

    Args:
        problems: Point's number to its problems.
        words: Every point's number to what makes it.
    """
    where: dict[str, list[int]] = {}
    for index, lines in problems.items():
        for line in dict.fromkeys(lines):
            where.setdefault(line, []).append(index)
    shared = set.intersection(*(set(one) for one in words.values())) if words else set()
    telling = {index: [word for word in one if word not in shared] for index, one in words.items()}
    return [
        line if len(indices) == len(words) else f"{_few(indices, telling)}: {line}" for line, indices in where.items()
    ]


def _few(indices: Sequence[int], words: Mapping[int, Overrides]) -> str:
    shown = [f"point {index} ({' '.join(words[index])})" for index in indices[:3]]
    more = f" and {len(indices) - 3} more" if len(indices) > 3 else ""
    return f"{', '.join(shown)}{more}"


def _together(points: Sequence[Point]) -> list[str]:
    problems = []
    if len({point.config.tracking for point in points}) > 1:
        problems.append("tracking.* differs among the points, but one sweep is recorded in one place; do not sweep it")
    by_dir: dict[Path, list[int]] = {}
    for point in points:
        by_dir.setdefault(point.dir, []).append(point.index)
    for folder, indices in by_dir.items():
        if len(indices) > 1:
            numbers = ", ".join(map(str, indices))
            problems.append(
                f"hydra.sweep.subdir gives points {numbers} one folder, {folder}; allowed is a folder a job, "
                "such as hydra.sweep.subdir=${hydra.job.num}"
            )
    return problems


def _resolved(composed: DictConfig, master: DictConfig, index: int) -> tuple[Path, dict[str, Any]]:
    """The job's folder, and its values without the ``hydra`` node."""
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.job.id = str(index)
        composed.hydra.job.num = index
        # Each composed config has a cache of its own for ${now:} and ${sweep_id:}; the sweep has one folder.
        composed.hydra.sweep.dir = str(master.hydra.sweep.dir)
    before = HydraConfig.instance().cfg
    try:
        OmegaConf.set_readonly(composed.hydra, True)  # noqa: FBT003  # OmegaConf's own signature
        HydraConfig.instance().cfg = composed  # type: ignore[assignment]  # a HydraConf by its content; set_config() would copy it, for each of a thousand points
        folder = Path(str(composed.hydra.sweep.dir), str(composed.hydra.sweep.subdir)).absolute()
        with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
            composed.hydra.runtime.output_dir = str(folder)
        usual.fill_in(composed)
        raw: dict[str, Any] = {
            str(key): OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for key, node in composed.items_ex(resolve=True)
            if key != "hydra"
        }
    finally:
        HydraConfig.instance().cfg = before
    return folder, raw


def _checked(
    composed: DictConfig, folder: Path, values: dict[str, Any], words: Overrides, index: int
) -> Point | SweepError:
    recording = settled(values.get("tracking"), split_words(words), os.environ)
    values["tracking"] = recording.values
    try:
        config = parse(values)
    except ConfigError as error:
        return SweepError(error.problems)
    return Point(
        index=index,
        words=tuple(words),
        config=config,
        values=usual.without(values, []),
        hydra_cfg=_only_hydra(composed),
        dir=folder,
        warnings=(*warnings_about(config), *recording.warnings),
        notes=recording.notes,
    )


def _only_hydra(cfg: DictConfig) -> DictConfig:
    """What Hydra itself stores as ``hydra.yaml``."""
    with read_write(cfg), open_dict(cfg):
        for key in [key for key in cfg if key != "hydra"]:
            del cfg[key]
    return cfg
