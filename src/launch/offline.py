"""The points of a command line without launching anything: for ``python -m src.predict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from src.config.parse import ConfigError, parse
from src.config.paths import PROJECT_ROOT
from src.config.schema import JobConfig
from src.launch.check import group_options, problems_of
from src.launch.points import SweepError
from src.launch.sweeping import points_of


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflinePoint:
    """One job of a command line: the words that make it, and its configuration."""

    words: tuple[str, ...]
    config: JobConfig


def compose_all(overrides: Sequence[str]) -> list[OfflinePoint]:
    """Every point of the product of all swept values, last key fastest.

    Raises:
        ConfigError: With every wrong key and value.
        hydra.errors.HydraException: When a word cannot be read.
    """
    problems = problems_of(overrides, group_options(), sweeping=True)
    if problems:
        raise ConfigError(problems)
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        try:
            batch = points_of(GlobalHydra.instance().config_loader(), {}, overrides)
        except SweepError as error:
            raise ConfigError([str(error)]) from error
        points = []
        for words in batch:
            try:
                points.append(OfflinePoint(words=tuple(words), config=parse(compose("train", overrides=words))))
            except ConfigError as error:
                problems.extend(f"{' '.join(words)}: {problem}" for problem in error.problems)
    if problems:
        raise ConfigError(problems)
    return points
