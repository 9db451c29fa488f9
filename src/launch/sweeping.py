"""The points of a sweep from its words, and what their launch is worth to Hydra."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, read_write

from src.config.files import write_atomic
from src.config.paths import expand_home
from src.launch.check import group_options, problems_of
from src.launch.hydra_errors import COMPOSING, in_a_line
from src.launch.hydra_keys import is_hydra
from src.launch.launching import Launching, report
from src.launch.outcome import FAILED, OUTCOME, WRONG_INPUT
from src.launch.points import SweepError
from src.launch.texts import as_texts


def sweep(
    loader: ConfigLoader, config: DictConfig, launcher: Launcher, params: Mapping[str, str], arguments: Sequence[str]
) -> list[list[JobReturn]]:
    """Check every point and launch them all; what is wrong is shown, and nothing is created then.

    Args:
        loader: Hydra's.
        config: The sweep's own composed configuration.
        launcher: Where the points go.
        params: ``hydra.sweeper.params``.
        arguments: The command line's overrides; they come after ``params``.
    """
    _leave_home(config)
    try:
        batch = points_of(loader, params, arguments)
        launching = _launching_of(launcher)
        launching.check(batch, 0)
    except SweepError as error:
        report(error)
        OUTCOME.worsen(WRONG_INPUT)
        return []
    returned = list(launcher.launch(batch, initial_job_idx=0))
    if any(job.status is not JobStatus.COMPLETED for job in returned):
        OUTCOME.worsen(FAILED)
    if launching.begun:
        _keep(config)
    return [returned]


def _leave_home(config: DictConfig) -> None:
    """``~`` in the sweep's folder is a home folder; interpolations in it stay."""
    sweep_node: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    with read_write(config):
        config.hydra.sweep.dir = expand_home(str(sweep_node["dir"]))


def _launching_of(launcher: Launcher) -> Launching:
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


def _keep(config: DictConfig) -> None:
    """Write ``multirun.yaml``, as Hydra's own sweeper does; nothing here reads it, so that its lack is no failure."""
    path = Path(str(config.hydra.sweep.dir)) / "multirun.yaml"
    try:
        write_atomic(path, OmegaConf.to_yaml(config))
    except OSError as error:
        sys.stderr.write(f"multirun.yaml was not written ({error.strerror}); the jobs' own configurations are kept\n")


def points_of(loader: ConfigLoader, params: Mapping[str, str], arguments: Sequence[str]) -> list[list[str]]:
    """The product of all swept values, last key fastest; a key given twice counts where it came first.

    Raises:
        SweepError: For wrong keys of ``params``, intervals, and sweeps without a point.
    """
    words = as_texts([f"{key}={value}" for key, value in params.items()])
    there = {key: loader.get_group_options(key, ObjectType.CONFIG) for key in params if "." not in key}
    groups = {**group_options(), **{key: options for key, options in there.items() if options}}
    wrong = [f"{key}: stands below hydra: in the file, not in params" for key in params if is_hydra(key)]
    wrong += problems_of([word for word in words if not is_hydra(word)], groups, sweeping=True)
    if wrong:
        raise SweepError([f"hydra.sweeper.params: {line}" for line in wrong])
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*words, *arguments])
    values: dict[str, list[str]] = {}
    for override in parsed:
        values[override.get_key_element()] = _values(override)
    empty = [key for key, listed in values.items() if not listed]
    if empty:
        raise SweepError([f"{key}: no value left to sweep (an empty range or a glob without a match)" for key in empty])
    return [list(point) for point in itertools.product(*values.values())]


def _values(override: Override) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        value = override.get_value_element_as_str()
        return [key if override.is_delete() and not value else f"{key}={value}"]
    if not override.is_discrete_sweep():
        raise SweepError(
            [f"{override.input_line}: an interval is for a search; list values, or use range(start,stop,step)"]
        )
    try:
        return as_texts([f"{key}={value}" for value in override.sweep_string_iterator()])  # choice() takes quotes away
    except COMPOSING as error:  # range(0,3,0) is a ValueError
        raise SweepError([f"{override.input_line}: {in_a_line(error)}"]) from error
