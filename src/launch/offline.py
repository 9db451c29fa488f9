"""The points of a command line without launching anything: for ``python -m src.predict``."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode

from src.config.parse import ConfigError
from src.config.paths import PROJECT_ROOT, own_configs
from src.launch.check import group_options, missing_folders, problems_of
from src.launch.hydra_errors import in_a_line
from src.launch.points import Point, SweepError, all_sound, compose_points
from src.launch.sweeping import points_of
from src.launch.texts import as_texts


def compose_all(overrides: Sequence[str]) -> list[Point]:
    """Every point of the product of all swept values, last key fastest.

    Raises:
        ConfigError: With every wrong key and value, and what Hydra cannot compose.
    """
    overrides = as_texts(overrides)
    problems = missing_folders(own_configs()) + problems_of(overrides, group_options(), sweeping=True)
    if problems:
        raise ConfigError(problems)
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        if hydra is None:
            msg = "initialize_config_dir() comes first"
            raise RuntimeError(msg)
        try:
            master = hydra.compose_config("train", list(overrides), RunMode.MULTIRUN)
            batch = points_of(hydra.config_loader, master.hydra.sweeper.get("params") or {}, overrides)
            found = compose_points(hydra.config_loader, master, batch, 0)
            return all_sound(found, dict(enumerate(batch)))
        except SweepError as error:
            raise ConfigError(list(error.problems)) from error
        except HydraException as error:
            raise ConfigError([in_a_line(error)]) from error
