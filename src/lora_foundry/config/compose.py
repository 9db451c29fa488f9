"""Compose a job without Hydra's command line: for tests, benches and notebooks."""

from __future__ import annotations

from hydra import compose, initialize_config_dir

from lora_foundry.config.parse import parse
from lora_foundry.config.paths import SHIPPED
from lora_foundry.config.precision import with_precision
from lora_foundry.config.schema import JobConfig


def compose_job(*overrides: str, config_name: str = "train") -> JobConfig:
    """The job that ``python -m src.train <overrides>`` would train on a CPU.

    Raises:
        ConfigError: When the composed values are wrong.
        hydra.errors.HydraException: When a group or key does not exist.
    """
    with initialize_config_dir(str(SHIPPED / "conf"), version_base="1.3"):
        return with_precision(parse(compose(config_name, overrides=list(overrides))), "32-true")
