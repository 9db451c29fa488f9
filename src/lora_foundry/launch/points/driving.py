"""Hydra's parts, called one after the other for a command line that was looked at before.

``hydra.main`` prints tracebacks for wrong input, ends with 1 for it, and gives launchers and sweepers that do nothing
here their way; so its steps are taken here. What cannot be composed is a
:class:`~lora_foundry.config.errors.SweepError`.
"""

from __future__ import annotations

import argparse
import string
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import NoReturn

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import Container, DictConfig, OmegaConf

from lora_foundry.config import usual
from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.launch.points.argv import CommandLine
from lora_foundry.launch.points.check import folders_of, group_options, without_m
from lora_foundry.launch.points.composing import Composer
from lora_foundry.launch.points.folds import folds_of
from lora_foundry.launch.points.hydra_errors import composing
from lora_foundry.launch.points.hydra_keys import composed_problems, is_hydra
from lora_foundry.launch.points.stacking import lost_in_stacks

OmegaConf.register_new_resolver("command", command_line, replace=True)
_RUN_DIR, _SWEEP_DIR = "hydra.run.dir", "hydra.sweep.dir"
_RUN_DIR_DEFAULT = "${hydra.sweep.dir}"


@dataclass
class SweepContext(HydraContext):
    """Hydra's, with what is done when the sweeper launches nothing more.

    Attributes:
        at_end: Takes it.
    """

    at_end: ExitStack = field(default_factory=ExitStack)


def drive(line: CommandLine) -> None:
    """Show what ``line`` asks for, or train it.

    Raises:
        SweepError: With what cannot be composed, or would do nothing here; nothing was made then.
    """
    version.setbase("1.3")
    with _hydra(line) as hydra:
        if line.info:
            with composing():
                _show(hydra, line)
        else:
            _sweep(hydra, line)


@contextmanager
def _hydra(line: CommandLine) -> Iterator[Hydra]:
    with composing():
        path = create_config_search_path(line.config_path())
        for folder in line.config_dirs():
            anchor = SearchPathQuery(provider="schema")
            path.prepend(provider="command-line", path=f"file://{folder.absolute()}", anchor=anchor)
        hydra = Hydra.create_main_hydra2(task_name="train", config_search_path=path)
    try:
        yield hydra
    finally:
        GlobalHydra.instance().clear()


def _sweep(hydra: Hydra, line: CommandLine) -> None:
    with composing():
        config = _composed(hydra, line)
        if folds := folds_of(config, line.overrides):
            line = replace(line, flags={**line.flags, "--multirun": ()}, overrides=(*line.overrides, folds))
            config = _composed(hydra, line)
        _refuse_what_is_lost(hydra, line, config)
        context = SweepContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
        sweeper = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=_no_task)
        words = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    with context.at_end:
        sweeper.sweep(arguments=list(words))  # type: ignore[arg-type]  # a list of texts


def _refuse_what_is_lost(hydra: Hydra, line: CommandLine, config: DictConfig) -> None:
    parsed = _parsed(line)
    repository: IConfigRepository = hydra.config_loader.repository  # type: ignore[attr-defined]  # of Hydra's one loader
    problems = [
        *composed_problems(config),
        *lost_in_stacks(parsed, config, lambda words: _compose(hydra, line, words), repository),
    ]
    if problems:
        raise SweepError(problems)


def _parsed(line: CommandLine) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(line.overrides))


def _no_task(_: DictConfig) -> NoReturn:
    """What Hydra calls a job's function: jobs train in worker processes, which read their stored configuration."""
    msg = "the launcher calls no function"
    raise RuntimeError(msg)


def _composed(hydra: Hydra, line: CommandLine) -> DictConfig:
    """The sweep's own configuration; what is swept is left out of it.

    Raises:
        SweepError: When values are listed that nothing says are to be swept.
    """
    config = _compose(hydra, line, [*line.overrides, *(["hydra.mode=MULTIRUN"] if line.sweep else [])])
    if config.hydra.mode != RunMode.MULTIRUN:
        if problems := [without_m(override) for override in _parsed(line) if override.is_sweep_override()]:
            raise SweepError(problems)
        config = _where_a_run_goes(hydra, line, config)
    elif any(word.startswith(f"{_RUN_DIR}=") for word in line.overrides):
        raise SweepError([f"{_RUN_DIR}: is where a run without -m goes; write {_SWEEP_DIR}=... for a sweep"])
    return config


def _where_a_run_goes(hydra: Hydra, line: CommandLine, config: DictConfig) -> DictConfig:
    """A run without ``-m`` is a sweep of one job, so the sweep's folder is the run's, where one was given."""
    wanted = str(OmegaConf.to_container(config.hydra.run, resolve=False)["dir"])  # type: ignore[index,call-overload]
    given = [key for key in (_RUN_DIR, _SWEEP_DIR) if any(word.startswith(f"{key}=") for word in line.overrides)]
    if len(given) > 1:
        raise SweepError([f"{' and '.join(given)}: both say where the run goes; give one of them"])
    if wanted == _RUN_DIR_DEFAULT or given == [_SWEEP_DIR]:
        return config
    quoted = wanted.replace("'", "\\'")
    return _compose(hydra, line, [*line.overrides, f"{_SWEEP_DIR}='{quoted}'"])


def _compose(hydra: Hydra, line: CommandLine, words: list[str]) -> DictConfig:
    return hydra.compose_config(
        config_name=line.config_name(), overrides=words, run_mode=RunMode.MULTIRUN, with_log_configuration=True
    )


def _show(hydra: Hydra, line: CommandLine) -> None:
    name, words = line.config_name(), list(line.overrides)
    options = argparse.Namespace(overrides=words, resolve="--resolve" in line.flags)
    kind = line.value("--cfg")
    if "--help" in line.flags:
        _show_help(hydra, line, options)
    elif "--hydra-help" in line.flags:
        hydra.hydra_help(name, get_args_parser(), argparse.Namespace(overrides=[]))
    elif kind is not None:
        _show_config(hydra, line, kind)
    else:
        mode = RunMode.MULTIRUN if line.sweep else RunMode.RUN
        hydra.show_info(line.value("--info") or "all", config_name=name, overrides=words, run_mode=mode)


def _show_help(hydra: Hydra, line: CommandLine, options: argparse.Namespace) -> None:
    """The help's template; of what Hydra would fill in for it, only what the project's own names is looked up."""
    config = _compose(hydra, line, list(line.overrides))
    HydraConfig.instance().set_config(config)
    template = string.Template(config.hydra.help.template)
    if set(template.get_identifiers()) - {"APP_CONFIG_GROUPS"}:
        hydra.app_help(line.config_name(), get_args_parser(), options)
        return
    groups = group_options(folders_of(line)).items()
    listed = [f"{group}: {', '.join(names)}\n" for group, names in sorted(groups) if not is_hydra(group)]
    print(template.substitute(APP_CONFIG_GROUPS="".join(listed)))


def _show_config(hydra: Hydra, line: CommandLine, kind: str) -> None:
    """The configuration as YAML: of Hydra, or of each job, a document for each."""
    master = hydra.compose_config(line.config_name(), list(line.overrides), RunMode.MULTIRUN)
    params = master.hydra.sweeper.get("params") or {}
    searched = master.hydra.sweeper.get("sampler") is not None  # its points are not known before it runs
    swept = params or any(override.is_sweep_override() for override in _parsed(line))
    if kind == "hydra" or searched or not swept:
        _print_config(hydra, line, kind, master)
        return
    from lora_foundry.launch.points.spread import points_of  # imports what trains, which most never see here

    batch = points_of(hydra.config_loader, params, line.overrides)
    composer = Composer(hydra.config_loader, master)
    for place, words in enumerate(batch):
        print(*["---"] * (place > 0), f"# {' '.join(words)}", sep="\n")
        _print_config(hydra, line, kind, composer.compose(words))


def _print_config(hydra: Hydra, line: CommandLine, kind: str, config: DictConfig) -> None:
    HydraConfig.instance().set_config(config)
    OmegaConf.set_readonly(config.hydra, None)
    usual.as_used(config)
    shown: object = hydra.get_sanitized_cfg(config, kind)
    package = line.value("--package")
    if package not in (None, "_global_"):
        shown = OmegaConf.select(config, package)
        if shown is None:
            raise SweepError([f"--package: got {package}, which is no part of the configuration"])
        print(f"# @package {package}")
    if isinstance(shown, Container):
        if "--resolve" in line.flags:
            OmegaConf.resolve(shown)
        print(OmegaConf.to_yaml(shown), end="")
    else:
        print(shown)
