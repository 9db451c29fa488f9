"""A job's folder as the launcher writes it, without a sweep around it."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.root import PROJECT_ROOT


def store(folder: Path, *overrides: str) -> Path:
    """Write the composed configuration where a worker reads it."""
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=["trainer.accelerator=cpu", "trainer.precision=32-true", *overrides])
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return folder
