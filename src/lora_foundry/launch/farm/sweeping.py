"""A whole sweep as Hydra asks for it: every point is checked, all are launched, and what that is worth to Hydra."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, read_write

from lora_foundry.config.errors import SweepError
from lora_foundry.config.files import write_atomic
from lora_foundry.config.paths import expand_home
from lora_foundry.config.search import SearchOptions
from lora_foundry.launch.farm.launching import Launching, report
from lora_foundry.launch.farm.outcome import FAILED, OUTCOME, WRONG_INPUT
from lora_foundry.launch.points.folds import is_refitted, refit
from lora_foundry.launch.points.spread import points_of


def sweep(
    loader: ConfigLoader,
    config: DictConfig,
    launcher: Launcher,
    options: Mapping[str, object],
    arguments: Sequence[str],
) -> list[list[JobReturn]]:
    """Check every point and launch them all; what is wrong is shown, and nothing is created then.

    Args:
        loader: Hydra's.
        config: The sweep's own composed configuration.
        launcher: Where the points go.
        options: ``hydra.sweeper``.
        arguments: The command line's overrides; they come after ``params``.
    """
    leave_home(config)
    try:
        asked = SearchOptions.of(options)
        asked.check_grid()
        batch = points_of(loader, asked.params, arguments)
        launching = launching_of(launcher)
        again = is_refitted(config) and not launching.settings.plan_only
        launching.check([*batch, refit(batch[0])] if again else batch, 0)
    except SweepError as error:
        report(error)
        OUTCOME.worsen(WRONG_INPUT)
        return []
    returned = launching.train(batch, 0, last=not again)
    if again:
        returned += launching.refit(batch)
    if any(job.status is not JobStatus.COMPLETED for job in returned):
        OUTCOME.worsen(FAILED)
    if launching.begun:
        keep(config)
    return [returned]


def leave_home(config: DictConfig) -> None:
    """``~`` in the sweep's folder is a home folder; interpolations in it stay."""
    sweep_node: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    with read_write(config):
        config.hydra.sweep.dir = expand_home(str(sweep_node["dir"]))


def launching_of(launcher: Launcher) -> Launching:
    """What this project's launcher delegates to.

    Raises:
        SweepError: For another launcher, which starts no workers.
    """
    launching = getattr(launcher, "launching", None)
    if not isinstance(launching, Launching):
        raise SweepError(
            [f"hydra/launcher: got {type(launcher).__name__}, allowed is pack: another trains nothing here"]
        )
    return launching


def keep(config: DictConfig) -> None:
    """Write ``multirun.yaml``, as Hydra's own sweeper does; nothing here reads it, so that its lack is no failure."""
    path = Path(str(config.hydra.sweep.dir)) / "multirun.yaml"
    try:
        write_atomic(path, OmegaConf.to_yaml(config))
    except OSError as error:
        sys.stderr.write(f"multirun.yaml was not written ({error.strerror}); the jobs' own configurations are kept\n")
