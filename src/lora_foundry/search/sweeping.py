"""A whole search as Hydra asks for it: looked at first, then trained, then told in a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from lora_foundry.config.errors import SweepError
from lora_foundry.config.logged import OF_STEPS, OF_THE_END, of_validation, unknown
from lora_foundry.config.search import SearchOptions
from lora_foundry.launch.farm.launching import Launching, report
from lora_foundry.launch.farm.outcome import FAILED, OUTCOME, WRONG_INPUT
from lora_foundry.launch.farm.sweeping import keep, launching_of, leave_home
from lora_foundry.launch.points.spread import parsed
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.records.search import is_search, write_search
from lora_foundry.launch.screen.planboard import say
from lora_foundry.search.found import what_decides
from lora_foundry.search.samplers import sampler_choice
from lora_foundry.search.search import Budget, Search
from lora_foundry.search.space import Space, space_of
from lora_foundry.search.study import Where, opened
from lora_foundry.search.unrepeated import Unrepeated
from lora_foundry.search.warm import learned

if TYPE_CHECKING:
    from optuna import Study

    from lora_foundry.launch.farm.farm import Farm
    from lora_foundry.launch.points.point import Point

_HOUR_S = 3600.0


def search(
    loader: ConfigLoader,
    config: DictConfig,
    launcher: Launcher,
    options: Mapping[str, object],
    arguments: Sequence[str],
) -> None:
    """Look at everything, then search; what is wrong is shown, and nothing is created then.

    Args:
        loader: Hydra's.
        config: The sweep's own composed configuration.
        launcher: Where trials go.
        options: ``hydra.sweeper``.
        arguments: The command line's overrides; they come after ``params``.
    """
    leave_home(config)
    try:
        launching, asked = launching_of(launcher), SearchOptions.of(options)
        asked.check()
        space = space_of(parsed(loader, asked.params, arguments), asked.conditions)
        _refuse(space, asked, launching)
        if is_search(launching.folder):
            _go_on(launching, space, asked)
        elif launching.settings.plan_only:
            launching.train([space.words(one) for one in space.probes()], 0)
        else:
            _begin(launching, space, asked)
            keep(config)
    except SweepError as error:
        report(error)
        OUTCOME.worsen(WRONG_INPUT)


def _sampler(space: Space, asked: SearchOptions) -> Unrepeated:
    return Unrepeated(sampler_choice(str(asked.sampler)).build(space, asked.seed), space)


def _refuse(space: Space, asked: SearchOptions, launching: Launching) -> None:
    """What cannot be searched so, before anything is composed."""
    sampler, several = sampler_choice(str(asked.sampler)), len(asked.objective) > 1
    problems = sampler.unsuited(space)
    if several and not sampler.several:
        problems.append(f"hydra.sweeper.sampler: {asked.sampler} takes one objective; choose tpe or nsga2 for several")
    if asked.constraints and not sampler.constrained:
        problems.append(f"hydra.sweeper.constraints: {asked.sampler} would not mind them; choose tpe or nsga2")
    if asked.constraints and asked.warm_start is not None:
        problems.append("hydra.sweeper.warm_start: of its jobs nobody knows what constraints are about; leave one out")
    if several and launching.settings.pruner != "none":
        problems.append(
            "hydra.launcher.pruner: with several objectives no trial can be said to be worse; leave it none"
        )
    if launching.settings.skip_finished:
        problems.append("hydra.launcher.skip_finished: a search goes on with src.resume; leave it false")
    for place, given in enumerate(asked.enqueue):
        try:
            space.of_words(given, f"hydra.sweeper.enqueue[{place}]")
        except SweepError as error:
            problems += error.problems
    if problems:
        raise SweepError(problems)


def _begin(launching: Launching, space: Space, asked: SearchOptions) -> None:
    words = [space.words(one) for one in space.probes()]
    launching.check(words, 0)
    probes = [launching.point(one, place) for place, one in enumerate(words)]
    _refuse_unlogged(asked, probes, launching)
    known = learned(asked.warm_start, space, probes[0].config, asked.objective)
    running = Search(space, asked, sweep=launching.sweep_id(), points=launching.point)
    farm = launching.opened(running)
    most, budget = _budgeted(farm, asked, probes)
    where = Where(storage=asked.storage, folder=launching.folder, name=asked.study or launching.sweep_id())
    launching.folder.mkdir(parents=True, exist_ok=True)
    with opened(where, space, asked, _sampler(space, asked)) as study:
        if not study.get_trials(deepcopy=False):
            study.add_trials(known)
            for given in asked.enqueue:
                study.enqueue_trial(space.of_words(given, "hydra.sweeper.enqueue"))
        write_search(launching.folder, sys.argv[1:])
        running.begin(study, farm, launching.settings, budget, most=most)
        running.fill()
        if farm.jobs:
            farm.train()
            _tell_what_decides(study)
            _tell_kept_to(study, asked)
        elif running.is_exhausted():
            say(["Nothing is left to try: every combination of the space has a trial in this study."])
        else:
            sys.stderr.write("no trial of the search could begin\n")
            OUTCOME.worsen(FAILED)


def _go_on(launching: Launching, space: Space, asked: SearchOptions) -> None:
    """What an earlier process left: told trials stay, those under way go on, and more are asked for."""
    sweep = read_sweep(launching.folder)
    running = Search(space, asked, sweep=sweep.id, points=launching.point)
    farm = launching.reopened(running)
    words = [space.words(one) for one in space.probes()]
    probes = [launching.point(one, place) for place, one in enumerate(words)]
    most, budget = _budgeted(farm, asked, probes)
    where = Where(storage=asked.storage, folder=launching.folder, name=asked.study or sweep.id)
    with opened(where, space, asked, _sampler(space, asked)) as study:
        running.begin(study, farm, launching.settings, budget, most=most)
        farm.recall()
        running.fill()
        farm.train()
        _tell_what_decides(study)
        _tell_kept_to(study, asked)


def _tell_what_decides(study: Study) -> None:
    line = what_decides(study)
    if line is not None:
        say([line])


def _tell_kept_to(study: Study, asked: SearchOptions) -> None:
    """The best of the trials that keep to all bounds: what stands below the table is the best of all."""
    if not asked.constraints:
        return
    best, within = study.best_trials, " and ".join(asked.constraints)
    told = [
        f"{' '.join(f'{key}={value}' for key, value in one.params.items())} "
        f"({', '.join(f'{value:.4g}' for value in one.values)})"
        for one in best
    ]
    say([f"Within {within}: {'; '.join(told)}" if told else f"No trial that finished keeps to {within}."])


def _refuse_unlogged(asked: SearchOptions, probes: Sequence[Point], launching: Launching) -> None:
    metrics = of_validation(probes[0].config.validation)
    allowed = (*metrics, *OF_STEPS, *OF_THE_END)
    problems = [line for name in asked.objective for line in unknown("hydra.sweeper.objective", name, allowed)]
    bounded = [bound.metric for bound in asked.bounds]
    problems += [line for name in bounded for line in unknown("hydra.sweeper.constraints", name, allowed)]
    watched = launching.settings.prune_on
    problems += [] if watched is None else unknown("hydra.launcher.prune_on", watched, metrics)
    if problems:
        raise SweepError(problems)


def _budgeted(farm: Farm, asked: SearchOptions, probes: Sequence[Point]) -> tuple[int, Budget]:
    """How many trials at a time, and what all may spend.

    Raises:
        SweepError: When not even one trial can end in time, or within the samples.
    """
    most = asked.n_jobs or farm.prospects.places(probes[0].config)
    largest = max(farm.prospects.samples_of(one.config) or 0 for one in probes)
    if asked.samples is not None and largest > asked.samples:
        raise SweepError(
            [
                f"hydra.sweeper.samples: got {asked.samples}, but one trial sees {largest}; allow more, or "
                "shorten trials (trainer.max_steps)"
            ]
        )
    first = min(most, asked.n_trials or most)
    foreseen = _foreseen_s(farm, probes, first)
    limit = None if asked.hours is None else asked.hours * _HOUR_S
    while limit is not None and foreseen > limit:
        if most == 1:
            raise SweepError(
                [
                    f"hydra.sweeper.hours: got {asked.hours:g} ({limit:.0f} s), but one trial takes about "
                    f"{foreseen:.0f} s; allow more time, or shorten trials (trainer.max_steps)"
                ]
            )
        most //= 2
        foreseen = _foreseen_s(farm, probes, most)
    ends = None if limit is None else time.monotonic() + limit
    return most, Budget(trials=asked.n_trials, samples=asked.samples, ends=ends, largest=largest, foreseen_s=foreseen)


def _foreseen_s(farm: Farm, probes: Sequence[Point], count: int) -> float:
    """Seconds that so many trials would take together."""
    return farm.prospects.foreseen_s([replace(probes[place % len(probes)], index=place) for place in range(count)])
