"""The points of a command line without launching anything: for ``python -m src.predict`` and ``src.doctor``."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.parse import ConfigError
from lora_foundry.config.paths import SHIPPED, own_configs
from lora_foundry.launch.points.check import group_options, missing_folders, problems_of
from lora_foundry.launch.points.hydra_errors import composing
from lora_foundry.launch.points.point import Point, all_sound, compose_points
from lora_foundry.launch.points.spread import points_of
from lora_foundry.launch.points.stacking import lost_in_stacks
from lora_foundry.launch.points.texts import as_texts


def compose_all(overrides: Sequence[str]) -> list[Point]:
    """Every point of the product of all swept values, last key fastest.

    Raises:
        ConfigError: With every wrong key and value, and what Hydra cannot compose.
    """
    return compose_with_settings(overrides)[0]


def compose_with_settings(overrides: Sequence[str]) -> tuple[list[Point], Settings]:
    """As :func:`compose_all`, with the launcher's settings.

    Raises:
        ConfigError: With every wrong key and value, and what Hydra cannot compose.
    """
    overrides = as_texts(overrides)
    problems = missing_folders(own_configs()) + problems_of(overrides, group_options(), sweeping=True)
    if problems:
        raise ConfigError(problems)
    with initialize_config_dir(str(SHIPPED / "conf"), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        if hydra is None:
            msg = "initialize_config_dir() comes first"
            raise RuntimeError(msg)
        try:
            master, batch = _composed(hydra, list(overrides))
            settings = _settings(master)
            found = compose_points(hydra.config_loader, master, batch, 0)
            return all_sound(found, dict(enumerate(batch))), settings
        except SweepError as error:
            raise ConfigError(list(error.problems)) from error


def _settings(master: DictConfig) -> Settings:
    with composing():
        node = master.hydra.launcher
        options = OmegaConf.to_container(node, throw_on_missing=True) if isinstance(node, DictConfig) else None
    if not isinstance(options, dict):
        raise SweepError([f"hydra.launcher: got {node!r}, allowed are its options, such as hydra.launcher.pack_size=4"])
    settings = Settings.of({str(key): value for key, value in options.items()})
    settings.check()
    return settings


def _composed(hydra: Hydra, words: list[str]) -> tuple[DictConfig, list[list[str]]]:
    """What all points share, and the words of each."""
    with composing():
        master = hydra.compose_config("train", words, RunMode.MULTIRUN)
        repository: IConfigRepository = hydra.config_loader.repository  # type: ignore[attr-defined]  # of Hydra's one loader
        parsed = OverridesParser.create().parse_overrides(words)
        problems = lost_in_stacks(
            parsed, master, lambda other: hydra.compose_config("train", other, RunMode.MULTIRUN), repository
        )
        if master.hydra.sweeper.get("sampler") is not None:
            problems = ["a search has no list of points; ask without it, with the values that are of interest"]
        if problems:
            raise SweepError(problems)
        return master, points_of(hydra.config_loader, master.hydra.sweeper.get("params") or {}, words)
